//! What to do next with a machine. Pure: facts in, a decision or a refusal out.
//!
//! This is what protects a machine from being wiped. The invariant: the role writes only to a disk that this installation created and
//! that has never booted an installed system. Three kinds of facts support this. None of them is enough alone:
//!
//! - the **record** (`pve_module::record`) says that the VM is this installation's, and how far that had come;
//! - the **layout** says that what the VM boots is as this installation left it;
//! - the **answer** says which system has the machine's address, by a host key that only this installation handed out.

use ansible_module::{Failure, FailureKind};
use pve_module::record::{Phase, Record};

use crate::facts::{Answer, Decision, Elsewhere, Facts, First, Recorded, Seed, Vm};
use crate::refusals::{adopt_hint, foreign, not_as_left, other_host, refusal, same_disk, ways_out};
use crate::reinstall;

/// Decide.
///
/// # Errors
/// Kind `refused`, `not_ours`, `not_as_left`, `hidden` or `busy`: what was found, and the ways to go on.
pub fn decide(facts: &Facts) -> Result<Decision, Failure> {
    let Some(vm) = &facts.vm else {
        return decide_without_vm(facts);
    };
    if vm.template {
        return Err(refusal(
            vm,
            FailureKind::Refused,
            "it is a template, which never runs",
        )
        .hint("give the machine another name, or remove the template"));
    }
    let record = match &vm.record {
        Recorded::Ours(record) => record,
        Recorded::RolledBack(record) if !record.phase.unfinished() => record,
        Recorded::RolledBack(record) if record.host == facts.host => {
            let why = format!(
                "it was rolled back to a snapshot or restored from a backup while its phase was '{}', so its disk is not \
                 what this installation left",
                record.phase
            );
            return Err(refusal(vm, FailureKind::NotAsLeft, &why).hint(ways_out(facts)));
        }
        Recorded::RolledBack(_) | Recorded::Copied(_) | Recorded::None if facts.adopt => {
            return Ok(Decision::Adopt);
        }
        Recorded::Copied(record) => {
            let why = format!(
                "its notes have the record of VM {} (host {}), so it is a clone or a restored backup of that machine",
                record.vmid, record.host
            );
            return Err(refusal(vm, FailureKind::NotOurs, &why).hint(adopt_hint(facts)));
        }
        Recorded::RolledBack(record) => return Err(other_host(vm, record, facts)),
        Recorded::None => {
            return Err(refusal(
                vm,
                FailureKind::NotOurs,
                "this role did not make it: its notes have no record of an installation",
            )
            .hint(adopt_hint(facts)));
        }
    };
    if record.host != facts.host {
        if facts.adopt && !record.phase.unfinished() {
            return Ok(Decision::Adopt);
        }
        return Err(other_host(vm, record, facts));
    }
    match record.phase {
        Phase::Done if reinstall::confirmation(facts, record).is_some() => {
            reinstall::decide(facts, vm, record)
        }
        Phase::Adopted if reinstall::names(facts) => {
            let why = "the role did not install it, so it is not installed anew";
            Err(refusal(vm, FailureKind::Refused, why)
                .hint("leave nixos_vm_confirm_reinstall out for it"))
        }
        Phase::Done | Phase::Adopted => Ok(Decision::Converge(record.clone())),
        Phase::Reinstalling => reinstall::go_on(facts, vm, record),
        Phase::Creating | Phase::Provisioning => decide_before_install(facts, vm, record),
        Phase::Installing => decide_while_installing(facts, vm, record),
        Phase::Installed => decide_installed(facts, vm, record),
    }
}

fn decide_without_vm(facts: &Facts) -> Result<Decision, Failure> {
    let name = &facts.name;
    match &facts.elsewhere {
        None => Ok(Decision::Create),
        Some(Elsewhere::Named { vmid, name: now }) => Err(Failure::new(
            FailureKind::NotOurs,
            format!(
                "{name}: does not exist, but host {} has a machine already: VM {vmid}, whose name is {now}",
                facts.host
            ),
        )
        .object(name)
        .hint(format!(
            "set nixos_vm_name: {now} to go on with it, nixos_vm_vmid: {vmid} to rename it, or destroy it first under that name"
        ))),
        Some(Elsewhere::Hidden { vmid, kept }) => Err(Failure::new(
            FailureKind::Hidden,
            format!(
                "{name}: is not visible, but this controller made it as VM {vmid}, and Proxmox VE says that a VM with that number exists"
            ),
        )
        .object(name)
        .hint(format!(
            "give the user, and its token, VM.Audit on the path where their other rights are, such as /vms; if that guest is another \
             machine, remove {kept}"
        ))),
    }
}

/// Before anything was written to the disk. It comes first in the boot order, so that whatever is on it would have been booted.
fn decide_before_install(facts: &Facts, vm: &Vm, record: &Record) -> Result<Decision, Failure> {
    same_disk(facts, vm, record)?;
    same_drives(facts, vm, record)?;
    still_attached(facts, vm)?;
    // The installer writes to no disk. So this is somebody who installs by hand, or the system that was installed so.
    if let Some(bytes) = vm.written.filter(|bytes| vm.running && *bytes > 0) {
        let why = format!(
            "{bytes} bytes were written to its boot disk since it was started, although nothing was installed yet"
        );
        return Err(not_as_left(facts, vm, &why));
    }
    match &facts.answer {
        Answer::NotAsked if vm.running => Ok(Decision::Ask),
        Answer::NotAsked | Answer::Silent(_) | Answer::Installer => {
            Ok(Decision::Install(record.clone()))
        }
        Answer::Installed => Err(not_as_left(
            facts,
            vm,
            "the system at its address has the host key of the installed system, although nothing was installed yet",
        )),
        Answer::Foreign(what) => Err(foreign(facts, vm, what)),
    }
}

/// The disk may be half written, or wholly: the end of an installation may not have been recorded.
fn decide_while_installing(facts: &Facts, vm: &Vm, record: &Record) -> Result<Decision, Failure> {
    if facts.busy {
        let why = "another run on this controller is installing it right now";
        return Err(refusal(vm, FailureKind::Busy, why)
            .hint("wait until that run has ended, then run the play again"));
    }
    if facts.ended {
        return decide_installed(facts, vm, record);
    }
    match &facts.answer {
        Answer::NotAsked if vm.running => return Ok(Decision::Ask),
        Answer::NotAsked | Answer::Installer => {}
        Answer::Silent(why) => {
            let why = format!(
                "an installation was under way, and its installer does not answer ({why}), so it is not known what runs"
            );
            return Err(refusal(vm, FailureKind::NotAsLeft, &why).hint(format!(
                "look at its console; if nothing on it is to be kept, stop it (qm stop {}) and run the play again; {}",
                vm.vmid,
                ways_out(facts)
            )));
        }
        // The old system of a machine that is installed anew may have the same key.
        Answer::Installed if record.reinstall.is_some() => {
            return Err(reinstall::installed_too_early(facts, vm));
        }
        Answer::Installed => return decide_installed(facts, vm, record),
        Answer::Foreign(what) => return Err(foreign(facts, vm, what)),
    }
    same_disk(facts, vm, record)?;
    same_drives(facts, vm, record)?;
    if record.reinstall.is_some() {
        reinstall::unprotected(vm)?;
        reinstall::alone(facts)?;
    }
    if vm.layout.installer.is_none() {
        return Err(not_as_left(facts, vm, "its installer ISO was detached"));
    }
    if vm.layout.seed == Seed::None {
        return Err(not_as_left(facts, vm, "its seed ISO was detached"));
    }
    if vm.layout.first != First::Installer {
        return Err(not_as_left(
            facts,
            vm,
            "its boot order does not begin with the installer, so it may have booted from its disk",
        ));
    }
    Ok(Decision::Install(record.clone()))
}

/// What the controller kept of a machine may be old: another controller may have finished it before its notes lost the record. The two
/// drives are detached then.
fn still_attached(facts: &Facts, vm: &Vm) -> Result<(), Failure> {
    let attached = vm.layout.installer.is_some() && vm.layout.seed == Seed::Ours;
    if !vm.lost || attached {
        return Ok(());
    }
    let why =
        "its notes lost the record of the installation, and its installer or its seed is detached";
    Err(not_as_left(facts, vm, why))
}

/// The installation ended.
fn decide_installed(facts: &Facts, vm: &Vm, record: &Record) -> Result<Decision, Failure> {
    same_disk(facts, vm, record)?;
    match &facts.answer {
        Answer::NotAsked if vm.running => Ok(Decision::Ask),
        Answer::Foreign(what) => Err(foreign(facts, vm, what)),
        _ => Ok(Decision::Finalize(record.clone())),
    }
}

/// Whether what is in the two drives is what this installation put there.
fn same_drives(facts: &Facts, vm: &Vm, record: &Record) -> Result<(), Failure> {
    if let Seed::Other(what) = &vm.layout.seed {
        let why = format!("{what} is in the drive of its seed ISO");
        return Err(not_as_left(facts, vm, &why));
    }
    if let (Some(now), Some(attached)) = (&vm.layout.installer, &record.installer)
        && now != attached
    {
        let why = format!(
            "{now} is in the drive of its installer, and this installation attached {attached}"
        );
        return Err(not_as_left(facts, vm, &why));
    }
    if let First::Other(what) = &vm.layout.first {
        let why = format!("its boot order is '{what}', which this installation did not set");
        return Err(not_as_left(facts, vm, &why));
    }
    Ok(())
}
