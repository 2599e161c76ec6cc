//! Hardware that PVE takes and that QEMU refuses or a guest ruins: drives the machine does not have, disks of other VMs.

use ansible_module::{Failure, FailureKind};

use crate::config::cpu::Cpu;
use crate::config::{drive, machine};
use crate::context::Context;
use crate::plan::Plan;
use crate::state::State;

/// Refuse to attach a disk whose name says that it is another VM's, which may be running with it. `own` is the VMID if it is
/// known already, `from` the VM that is changed or cloned.
///
/// # Errors
/// Kind `refused`.
pub fn refuse_disks_of_others(
    plan: &Plan,
    own: Option<u32>,
    from: Option<&State>,
    object: &str,
) -> Result<(), Failure> {
    let new = |key: &str| from.is_none_or(|vm| !vm.config.contains_key(key));
    let taken = plan.set.iter().filter(|(key, _)| new(key));
    let mut taken = taken.filter_map(|(key, text)| Some((key, text, drive::owner(key, text)?)));
    let Some((key, text, owner)) = taken.find(|(.., owner)| Some(*owner) != own) else {
        return Ok(());
    };
    let msg = format!("{key}: {text} is a disk of VM {owner}, not of {object}");
    Err(Failure::new(FailureKind::Refused, msg).object(object).hint(
        "two VMs ruin a disk that they share; hand it over with qm disk move ... --target-vmid, begin with a copy of it \
         (import_from), or set force: true",
    ))
}

/// Refuse IDE drives that the machine does not have, and warn about firmware that forgets its settings.
///
/// # Errors
/// Kind `refused`.
pub fn check(
    context: &Context<'_>,
    plan: &Plan,
    vm: Option<&State>,
    object: &str,
) -> Result<(), Failure> {
    let have = vm.map(|vm| &vm.config);
    let value = |key: &str| {
        let before = have.and_then(|have| have.get(key));
        let before = before.filter(|_| !plan.delete.contains(key));
        plan.set.get(key).or(before).map(String::as_str)
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
            return Err(
                Failure::new(FailureKind::Refused, format!("{object}: {key}: {why}"))
                    .object(object),
            );
        }
    }
    if ["cpu", "arch", "kvm"].into_iter().any(changes)
        && let Some(cpu) = value("cpu").and_then(Cpu::parse)
        && let Some(why) = cpu.refusal(value("arch"), value("kvm"))
    {
        return Err(
            Failure::new(FailureKind::Refused, format!("{object}: cpu: {why}")).object(object),
        );
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
