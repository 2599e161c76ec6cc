//! Hardware that PVE takes and that QEMU refuses or a guest ruins: drives the machine does not have, disks of other VMs.

use crate::config::cpu::Cpu;
use crate::config::{drive, machine};
use crate::context::Context;
use crate::error::Error;
use crate::plan::Plan;
use crate::state::State;

/// Refuse to attach a disk whose name says that it is another VM's, which may be running with it. `own` is the VMID if it is
/// known already, `from` the VM that is changed or cloned.
///
/// # Errors
/// [`Error::DiskOfAnother`].
pub fn refuse_disks_of_others(
    plan: &Plan,
    own: Option<u32>,
    from: Option<&State>,
    object: &str,
) -> Result<(), Error> {
    let new = |key: &str| from.is_none_or(|vm| !vm.config.contains_key(key));
    let taken = plan.set.iter().filter(|(key, _)| new(key));
    let mut taken = taken.filter_map(|(key, text)| Some((key, text, drive::owner(key, text)?)));
    let Some((key, text, owner)) = taken.find(|(.., owner)| Some(*owner) != own) else {
        return Ok(());
    };
    Err(Error::DiskOfAnother {
        object: object.to_owned(),
        key: key.clone(),
        value: text.clone(),
        owner,
    })
}

/// Refuse IDE drives that the machine does not have, and warn about firmware that forgets its settings.
///
/// # Errors
/// [`Error::HardwareRefused`].
pub fn check(
    context: &Context<'_>,
    plan: &Plan,
    vm: Option<&State>,
    object: &str,
) -> Result<(), Error> {
    let have = vm.map(|vm| &vm.config);
    let value = |key: &str| {
        let before = have.and_then(|have| have.get(key));
        let before = before.filter(|_| !plan.delete.contains(key));
        plan.set.get(key).or(before).map(String::as_str)
    };
    let refused = |key: &str, problem: &str| Error::HardwareRefused {
        object: object.to_owned(),
        key: key.to_owned(),
        problem: problem.to_owned(),
    };
    let kept = have.into_iter().flat_map(|have| have.keys());
    let drives = plan
        .set
        .keys()
        .chain(kept)
        .filter(|key| !plan.delete.contains(*key));
    let changes = |key: &str| plan.set.contains_key(key);
    for key in drives.filter(|key| changes(key) || changes("machine") || changes("arch")) {
        if let Some(why) = machine::refusal(key, value("machine"), value("arch")) {
            return Err(refused(key, why));
        }
    }
    if ["cpu", "arch", "kvm"].into_iter().any(changes)
        && let Some(cpu) = value("cpu").and_then(Cpu::parse)
        && let Some(why) = cpu.refusal(value("arch"), value("kvm"))
    {
        return Err(refused("cpu", &why));
    }
    let forgets = value("bios") == Some("ovmf") && value("efidisk0").is_none();
    if forgets && (vm.is_none() || changes("bios") || plan.delete.contains("efidisk0")) {
        context.task.warn(format!(
            "{} has the firmware ovmf and no efidisk0: it forgets its boot entries with every stop; set for example \
             efidisk0: {{storage: STORAGE, efitype: 4m}}",
            object
        ));
    }
    Ok(())
}
