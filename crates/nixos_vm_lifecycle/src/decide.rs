//! What to do next with a machine. Pure: facts in, a decision or a refusal out.
//!
//! This is what protects a machine from being wiped. The invariant: the role writes only to a disk that this installation created and
//! that has never booted an installed system. Three kinds of facts support this. None of them is enough alone:
//!
//! - the **record** (`pve_module::record`) says that the VM is this installation's, and how far that had come;
//! - the **layout** says that what the VM boots is as this installation left it;
//! - the **answer** says which system has the machine's address, by a host key that only this installation handed out.

use pve_module::record::{Phase, Record};

use crate::error::{Error, Refusal, StepError, Why};
use crate::facts::{Answer, Decision, Elsewhere, Facts, First, Recorded, Seed, Vm};
use crate::reinstall;
use crate::vm_layout::same_disk;

/// Decide.
///
/// # Errors
/// Kind `refused`, `not_ours`, `not_as_left`, `hidden` or `busy`: what was found, and the ways to go on.
pub fn decide(facts: &Facts) -> Result<Decision, Error> {
    match &facts.vm {
        None => Ok(decide_without_vm(facts)?),
        Some(vm) => Ok(decide_with_vm(facts, vm)?),
    }
}

fn decide_with_vm(facts: &Facts, vm: &Vm) -> Result<Decision, Refusal> {
    let refuse = |why| Err(Refusal::new(facts, vm, why));
    if vm.template {
        return refuse(Why::Template);
    }
    if vm.unreadable && !facts.adopt {
        return refuse(Why::RecordUnreadable);
    }
    let record = match &vm.record {
        Recorded::Ours(record) => record,
        Recorded::RolledBack(record) if !record.phase.unfinished() => record,
        Recorded::RolledBack(record) if record.host == facts.host => {
            return refuse(Why::RolledBack(record.phase));
        }
        Recorded::RolledBack(_) | Recorded::Copied(_) | Recorded::None if facts.adopt => {
            return adopt(facts, vm);
        }
        Recorded::Copied(record) => {
            return refuse(Why::Copied {
                vmid: record.vmid,
                host: record.host.clone(),
            });
        }
        Recorded::RolledBack(record) => return refuse(other_host(facts, record)),
        Recorded::None => return refuse(Why::NoRecord),
    };
    if record.host != facts.host {
        if facts.adopt && !record.phase.unfinished() {
            return adopt(facts, vm);
        }
        return refuse(other_host(facts, record));
    }
    // A copy is kept after the notes are written, never before.
    if let Some(kept) = vm.kept
        && record.phase < Phase::Installed
        && matches!(kept, Phase::Installed | Phase::Done)
    {
        let noted = record.phase;
        return refuse(Why::OldNotes { noted, kept });
    }
    if record.phase.unfinished() && record.image.is_some() != facts.by_image {
        return refuse(Why::OtherMethod);
    }
    let is_reinstalled = matches!(record.phase, Phase::Reinstalling | Phase::Installing)
        && record.reinstall.is_some();
    if facts.adopt && is_reinstalled {
        return refuse(Why::AdoptSet);
    }
    if record.phase == Phase::Done {
        let with_installer = vm.layout.first == First::Installer;
        if vm.lost || with_installer || !vm.beside.detached.is_empty() {
            no_disks_aside(facts, vm)?;
        }
        if with_installer && (vm.lost || vm.installing) {
            return refuse(Why::WithInstaller);
        }
    }
    match record.phase {
        Phase::Done if facts.by_image && reinstall::confirmation(facts, record).is_some() => {
            refuse(Why::ReinstallByImage)
        }
        Phase::Done if reinstall::confirmation(facts, record).is_some() => {
            reinstall::decide(facts, vm, record)
        }
        Phase::Adopted if reinstall::names(facts) => refuse(Why::Adopted),
        Phase::Done | Phase::Adopted => Ok(Decision::Converge(record.clone())),
        Phase::Reinstalling => reinstall::go_on(facts, vm, record),
        Phase::Creating | Phase::Provisioning => decide_before_install(facts, vm, record),
        Phase::Installing => decide_while_installing(facts, vm, record),
        Phase::Installed => decide_installed(facts, vm, record),
    }
}

/// Manage it as it is.
fn adopt(facts: &Facts, vm: &Vm) -> Result<Decision, Refusal> {
    no_disks_aside(facts, vm)?;
    Ok(Decision::Adopt)
}

/// Refuse a machine that lacks disks which the variables describe, and has unused volumes: these may be the disks, detached for a
/// reinstallation that its notes do not mention any more. Converging it would make empty ones in their place.
fn no_disks_aside(facts: &Facts, vm: &Vm) -> Result<(), Refusal> {
    let beside = &vm.beside;
    // Those that a reinstallation of this controller detached need not be described.
    if beside.detached.is_empty() && (beside.absent.is_empty() || beside.unused.is_empty()) {
        return Ok(());
    }
    let why = Why::DisksAside {
        absent: beside.absent.clone(),
        unused: beside.unused.clone(),
    };
    Err(Refusal::new(facts, vm, why))
}

fn other_host(facts: &Facts, record: &Record) -> Why {
    Why::OtherHost {
        owner: record.host.clone(),
        host: facts.host.clone(),
        unfinished: record.phase.unfinished(),
    }
}

fn decide_without_vm(facts: &Facts) -> Result<Decision, StepError> {
    let object = facts.name.clone();
    match &facts.elsewhere {
        None => Ok(Decision::Create),
        Some(Elsewhere::Named { vmid, name }) => Err(StepError::ElsewhereNamed {
            object,
            host: facts.host.clone(),
            vmid: *vmid,
            now: name.clone(),
        }),
        Some(Elsewhere::Hidden { vmid, kept }) => Err(StepError::Hidden {
            object,
            vmid: *vmid,
            kept: kept.clone(),
        }),
    }
}

/// Before anything was written to the disk. It comes first in the boot order, so that whatever is on it would have been booted.
fn decide_before_install(facts: &Facts, vm: &Vm, record: &Record) -> Result<Decision, Refusal> {
    let refuse = |why| Err(Refusal::new(facts, vm, why));
    same_disk(facts, vm, record)?;
    same_drives(facts, vm, record)?;
    still_attached(facts, vm)?;
    if record.image.is_some() {
        return decide_by_image(facts, vm, record);
    }
    // The installer writes to no disk. So this is somebody who installs by hand, or the system that was installed so.
    if let Some(bytes) = vm.written.filter(|bytes| vm.running && *bytes > 0) {
        return refuse(Why::Written(bytes));
    }
    match &facts.answer {
        Answer::NotAsked if vm.running => Ok(Decision::Ask),
        Answer::NotAsked | Answer::Silent(_) | Answer::Installer => {
            Ok(Decision::Install(record.clone()))
        }
        Answer::Installed => refuse(Why::InstalledAlready),
        Answer::Foreign(what) => refuse(Why::Foreign(what.clone())),
    }
}

/// The disk is a copy of an image, and the machine was perhaps booted from it. Nothing is ever written to the disk from outside.
fn decide_by_image(facts: &Facts, vm: &Vm, record: &Record) -> Result<Decision, Refusal> {
    match &facts.answer {
        Answer::NotAsked if vm.running => Ok(Decision::Ask),
        // Somebody has finished it by hand.
        Answer::Silent(_) if vm.layout.seed == Seed::None => {
            Err(Refusal::new(facts, vm, Why::SeedDetached))
        }
        Answer::Installed => Ok(Decision::Finalize(record.clone())),
        Answer::NotAsked | Answer::Silent(_) | Answer::Installer => {
            Ok(Decision::Install(record.clone()))
        }
        Answer::Foreign(what) => Err(Refusal::new(facts, vm, Why::Foreign(what.clone()))),
    }
}

/// The disk may be half written, or wholly: the end of an installation may not have been recorded.
fn decide_while_installing(facts: &Facts, vm: &Vm, record: &Record) -> Result<Decision, Refusal> {
    let refuse = |why| Err(Refusal::new(facts, vm, why));
    if facts.busy {
        return refuse(Why::Busy);
    }
    if facts.ended {
        return decide_installed(facts, vm, record);
    }
    match &facts.answer {
        Answer::NotAsked if vm.running => return Ok(Decision::Ask),
        Answer::NotAsked | Answer::Installer => {}
        Answer::Silent(why) => return refuse(Why::Silent(why.clone())),
        // The old system of a machine that is installed anew may have the same key.
        Answer::Installed if record.reinstall.is_some() => {
            return refuse(Why::InstalledTooEarly);
        }
        Answer::Installed => return decide_installed(facts, vm, record),
        Answer::Foreign(what) => return refuse(Why::Foreign(what.clone())),
    }
    same_disk(facts, vm, record)?;
    same_drives(facts, vm, record)?;
    if record.reinstall.is_some() {
        reinstall::unprotected(facts, vm)?;
        reinstall::alone(facts)?;
    }
    if vm.layout.installer.is_none() {
        return refuse(Why::InstallerDetached);
    }
    if vm.layout.seed == Seed::None {
        return refuse(Why::SeedDetached);
    }
    if vm.layout.first != First::Installer {
        return refuse(Why::MayHaveBooted);
    }
    Ok(Decision::Install(record.clone()))
}

/// What the controller kept of a machine may be old: another controller may have finished it before its notes lost the record. The two
/// drives are detached then.
fn still_attached(facts: &Facts, vm: &Vm) -> Result<(), Refusal> {
    let attached =
        (vm.layout.installer.is_some() || facts.by_image) && vm.layout.seed == Seed::Ours;
    if !vm.lost || attached {
        return Ok(());
    }
    Err(Refusal::new(facts, vm, Why::LostAndDetached))
}

/// The installation ended.
fn decide_installed(facts: &Facts, vm: &Vm, record: &Record) -> Result<Decision, Refusal> {
    same_disk(facts, vm, record)?;
    match &facts.answer {
        Answer::NotAsked if vm.running => Ok(Decision::Ask),
        Answer::Foreign(what) => Err(Refusal::new(facts, vm, Why::Foreign(what.clone()))),
        _ => Ok(Decision::Finalize(record.clone())),
    }
}

/// Whether what is in the two drives is what this installation put there.
fn same_drives(facts: &Facts, vm: &Vm, record: &Record) -> Result<(), Refusal> {
    let refuse = |why| Err(Refusal::new(facts, vm, why));
    if let Seed::Other(what) = &vm.layout.seed {
        return refuse(Why::OtherSeed(what.clone()));
    }
    if let (Some(now), Some(attached)) = (&vm.layout.installer, &record.installer)
        && now != attached
    {
        return refuse(Why::OtherInstaller {
            now: now.clone(),
            attached: attached.clone(),
        });
    }
    if let First::Other(what) = &vm.layout.first {
        return refuse(Why::OtherBootOrder(what.clone()));
    }
    Ok(())
}
