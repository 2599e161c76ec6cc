//! Variables that may not change: those that an installation under way began with, and those by which its record knows a VM.

use pve_module::record::{Identity, Phase, Record};
use serde_json::Value;

use crate::context::Context;
use crate::error::StepError;

/// Refuse variables that an installation under way cannot follow, and an identity that would part the VM from its record.
pub fn unchanged(
    context: &Context<'_>,
    object: &str,
    record: &Record,
    identity: &Identity,
) -> Result<(), StepError> {
    let settings = context.settings();
    let drives = settings.drives();
    if record.host == context.options.host
        && record.phase.unfinished()
        && let Some(begun) = record.drives.as_ref().filter(|begun| **begun != drives)
    {
        return Err(StepError::DrivesChanged {
            object: object.to_owned(),
            host: context.options.host.clone(),
            begun: begun.clone(),
            drives,
        });
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
            && record.phase != Phase::Creating
        {
            return Err(StepError::IdentityChanged {
                object: object.to_owned(),
                must,
                now: now.clone(),
                wanted: wanted.clone(),
            });
        }
    }
    Ok(())
}
