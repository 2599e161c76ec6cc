//! Variables that may not change: those that an installation under way began with, and those by which its record knows a VM.

use ansible_module::{Failure, FailureKind};
use pve_module::record::{Identity, Record};
use serde_json::Value;

use crate::context::Context;

/// Refuse variables that an installation under way cannot follow, and an identity that would part the VM from its record.
pub fn unchanged(
    context: &Context<'_>,
    object: &str,
    record: &Record,
    identity: &Identity,
) -> Result<(), Failure> {
    let settings = context.settings();
    let refuse = |why: String, hint: String| {
        let msg = format!("{object}: {why}; nothing was done to it");
        Err(Failure::new(FailureKind::Refused, msg)
            .object(object)
            .hint(hint))
    };
    let drives = settings.drives();
    if record.host == context.options.host
        && record.phase.unfinished()
        && let Some(begun) = record.drives.as_ref().filter(|begun| **begun != drives)
    {
        return refuse(
            format!(
                "its installation began with the disk, the installer and the seed in {begun}, and the variables say {drives}"
            ),
            format!(
                "leave nixos_vm_boot_disk, nixos_vm_installer_drive and nixos_vm_seed_drive as they were until it is installed, or destroy \
                 it first: {}",
                crate::refusals::destroy_command(&context.options.host)
            ),
        );
    }
    let config = settings.config();
    let text = |key: &str| config.get(key).and_then(Value::as_str);
    let wanted = Identity::of(text("smbios1"), text("vmgenid"));
    for (must, wanted, now) in [
        (
            "nixos_vm_config.smbios1: uuid must be",
            &wanted.uuid,
            &identity.uuid,
        ),
        (
            "nixos_vm_config.vmgenid: must be",
            &wanted.generation,
            &identity.generation,
        ),
    ] {
        if let (Some(wanted), Some(now)) = (wanted, now)
            && wanted != now
        {
            return refuse(
                format!("{must} {now} (got {wanted}), by which its record knows it"),
                "leave it out, or give it the value that the VM has".into(),
            );
        }
    }
    Ok(())
}
