//! Refusals: what was found, that nothing was done, and the ways to go on.

use ansible_module::{Failure, FailureKind};
use pve_module::record::Record;

use crate::facts::{Facts, Vm};

/// Refuse a machine whose boot disk is another one than its record names.
///
/// # Errors
/// Kind `not_as_left`.
pub fn same_disk(facts: &Facts, vm: &Vm, record: &Record) -> Result<(), Failure> {
    match (&record.disk, &vm.layout.disk) {
        // A run that ended before it recorded the disk: the VM was never started.
        (None, _) => Ok(()),
        (Some(made), Some(now)) if made == now => Ok(()),
        (Some(made), now) => {
            let now = now.as_deref().unwrap_or("no disk");
            let why = format!("its boot disk is {now}, and this installation made {made}");
            Err(not_as_left(facts, vm, &why))
        }
    }
}

pub fn refusal(vm: &Vm, kind: FailureKind, why: &str) -> Failure {
    let msg = format!("{}: {why}; nothing was done to it", vm.object);
    Failure::new(kind, msg).object(&vm.object)
}

pub fn not_as_left(facts: &Facts, vm: &Vm, why: &str) -> Failure {
    refusal(vm, FailureKind::NotAsLeft, why).hint(ways_out(facts))
}

pub fn foreign(facts: &Facts, vm: &Vm, what: &str) -> Failure {
    let why = format!(
        "its address belongs to a system with a host key that is not this installation's ({what})"
    );
    not_as_left(facts, vm, &why)
}

pub fn other_host(vm: &Vm, record: &Record, facts: &Facts) -> Failure {
    let why = format!(
        "it is the machine of the inventory host {}, not of {}",
        record.host, facts.host
    );
    refusal(vm, FailureKind::NotOurs, &why).hint(match record.phase.unfinished() {
        true => format!(
            "give {0} a nixos_vm_name of its own; if the host was renamed, finish the installation, or destroy the machine, under the name \
             {1} first",
            facts.host, record.host
        ),
        false => format!(
            "give {0} a nixos_vm_name of its own; if the host was renamed, set nixos_vm_adopt: true for {0} once",
            facts.host
        ),
    })
}

pub fn adopt_hint(facts: &Facts) -> String {
    format!(
        "choose another nixos_vm_name, or set nixos_vm_adopt: true for {} to manage the VM as it is (nothing is installed onto it)",
        facts.host
    )
}

pub fn ways_out(facts: &Facts) -> String {
    format!(
        "to keep what is on it, finish by hand and set nixos_vm_adopt: true for {host} after removing the record from its notes; to begin \
         again, destroy it: {}",
        destroy_command(&facts.host),
        host = facts.host
    )
}

/// What the user types to destroy a machine.
pub fn destroy_command(host: &str) -> String {
    format!(
        "ansible-playbook playbooks/destroy.yml -i INVENTORY --limit {host} -e nixos_vm_confirm_destroy={host}"
    )
}

/// The refusal of a host with these mistakes.
pub fn refused(host: &str, mistakes: Vec<String>) -> Failure {
    let msg = format!(
        "{host}: nothing was done; correct these first:\n- {}",
        mistakes.join("\n- ")
    );
    Failure::new(FailureKind::Preflight, msg)
        .object(host)
        .with("mistakes", mistakes)
}
