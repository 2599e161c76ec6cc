//! Whether a finished machine is installed anew. Pure, like [`crate::decide`].
//!
//! The user confirms it with a word that counts once, so that no second run of the play installs it again:
//!
//! - `HOST`, for a machine that was never installed anew;
//! - `HOST:ID`, with the beginning of the ID of the present installation, for any;
//! - `HOST:VOLUME` besides, if the boot disk has another volume than the one that was installed, since it was moved.
//!
//! Every disk but the boot disk is detached before the installer boots, and attached again after the installation.

use ansible_module::{Failure, FailureKind};
use pve_module::record::{Phase, Record};

use crate::facts::{Decision, Facts, Recorded, Vm};
use crate::refusals::{not_as_left, refusal, same_disk};
use crate::vm_layout::volume;

/// How many digits of an installation's ID name it.
const DIGITS: usize = 8;

/// The word that confirms that this machine is installed anew.
pub fn confirmation(facts: &Facts, record: &Record) -> Option<String> {
    let by_id = |word: &&String| {
        let id = after_host(facts, word).and_then(|rest| rest.strip_prefix(':'));
        id.is_some_and(|id| id.len() >= DIGITS && record.installation.starts_with(id))
    };
    let first = record.reinstall.is_none();
    let by_name = facts
        .confirmed
        .iter()
        .find(|word| first && **word == facts.host);
    by_name
        .or_else(|| facts.confirmed.iter().find(by_id))
        .cloned()
}

/// Whether a word is for this host.
pub fn names(facts: &Facts) -> bool {
    let mut words = facts.confirmed.iter();
    words.any(|word| {
        after_host(facts, word).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    })
}

/// What follows the host's name in a word.
fn after_host<'a>(facts: &Facts, word: &'a str) -> Option<&'a str> {
    word.strip_prefix(facts.host.as_str())
}

/// What to say of words for this host that confirm nothing, since they have counted already.
pub fn used(facts: &Facts, record: &Record) -> Option<String> {
    let host = &facts.host;
    (names(facts) && record.phase == Phase::Done && confirmation(facts, record).is_none()).then(|| {
        format!(
            "nixos_vm_confirm_reinstall: {host} is not installed anew, since its present installation is the one that was confirmed; to \
             install it once more, set it to {}",
            word_of(facts, record)
        )
    })
}

/// The word that confirms the reinstallation of the machine as it is.
fn word_of(facts: &Facts, record: &Record) -> String {
    let id = record.installation.get(..DIGITS).unwrap_or_default();
    format!("{}:{id}", facts.host)
}

/// Decide for a finished machine.
///
/// # Errors
/// Kinds `protected`, `refused`, `not_as_left`: what would not be safe.
pub fn decide(facts: &Facts, vm: &Vm, record: &Record) -> Result<Decision, Failure> {
    unprotected(vm)?;
    if vm.lost {
        let why = "its notes have lost the record of its installation, so it is not installed anew";
        return Err(refusal(vm, FailureKind::NotAsLeft, why).hint(
            "run the play without nixos_vm_confirm_reinstall first, which writes the record again",
        ));
    }
    if matches!(vm.record, Recorded::RolledBack(_)) {
        let why = "was rolled back to a snapshot or restored from a backup, so its boot disk is not what the role left";
        return Err(refusal(vm, FailureKind::NotAsLeft, why)
            .hint("destroy it and make it anew, or install it by hand"));
    }
    if !vm.beside.devices.is_empty() {
        let why = format!(
            "has {}, through which the installation could write to a disk that Proxmox VE does not know",
            vm.beside.devices.join(", ")
        );
        return Err(refusal(vm, FailureKind::Refused, &why)
            .hint("remove these options for the reinstallation, and set them again afterwards"));
    }
    let cannot_come_back =
        |(_, value): &&(String, String)| !is_own(value, vm.vmid) || value.contains(';');
    if let Some((key, value)) = vm.beside.disks.iter().find(cannot_come_back) {
        let why = format!(
            "its disk {key} ({value}) is not a volume of this VM on a storage, so Proxmox VE would not keep it to be attached again"
        );
        return Err(refusal(vm, FailureKind::Refused, &why)
            .hint("detach it by hand for the reinstallation"));
    }
    on_its_drive(vm, record)?;
    let moved = record.disk.is_some() && record.disk != vm.layout.disk;
    let confirmed = vm.layout.disk.as_ref().is_some_and(|disk| {
        let word = format!("{}:{disk}", facts.host);
        facts.confirmed.contains(&word)
    });
    match &vm.layout.disk {
        None => Err(not_as_left(facts, vm, "has no boot disk")),
        Some(disk) if moved && !confirmed => {
            let made = record.disk.as_deref().unwrap_or_default();
            let why = format!("its boot disk is {disk}, and {made} was installed");
            Err(refusal(vm, FailureKind::NotAsLeft, &why).hint(format!(
                "if that is the same disk, which was moved: nixos_vm_confirm_reinstall: [{}, {}:{disk}]",
                confirmation(facts, record).unwrap_or_default(),
                facts.host
            )))
        }
        Some(_) => Ok(Decision::Reinstall(record.clone())),
    }
}

/// Refuse a VM that Proxmox VE protects.
///
/// # Errors
/// Kind `protected`.
pub fn unprotected(vm: &Vm) -> Result<(), Failure> {
    if !vm.beside.protected {
        return Ok(());
    }
    let why = "is protected in Proxmox VE, so it is not installed anew";
    Err(refusal(vm, FailureKind::Protected, why).hint(format!(
        "remove the protection first: qm set {} --protection 0",
        vm.vmid
    )))
}

/// Whether the volume of a drive is this VM's, by its name (PVE::Storage::parse_volname): Proxmox VE keeps no other as an unused one.
fn is_own(value: &str, vmid: u32) -> bool {
    let Some((_, path)) = volume(value).split_once(':') else {
        return false;
    };
    let name = path.rsplit('/').next().unwrap_or_default();
    name.starts_with(&format!("vm-{vmid}-")) || path.starts_with(&format!("{vmid}/"))
}

/// Refuse variables that name another drive than the one that was installed: what is on that one is somebody's data.
fn on_its_drive(vm: &Vm, record: &Record) -> Result<(), Failure> {
    let now = &vm.layout.disk_key;
    let drives = record.drives.as_deref().unwrap_or(now);
    let made = drives.split('/').next().unwrap_or_default();
    let mut others = vm.beside.disks.iter().map(|(_, value)| volume(value));
    let still_there = vm.layout.disk != record.disk
        && record
            .disk
            .as_deref()
            .is_some_and(|made| others.any(|other| other == made));
    if made == now && !still_there {
        return Ok(());
    }
    let disk = record.disk.as_deref().unwrap_or_default();
    let why =
        format!("the variables name {now} as its boot disk, and {made} ({disk}) was installed");
    Err(refusal(vm, FailureKind::Refused, &why).hint(format!("set nixos_vm_boot_disk: {made}")))
}

/// Go on with what was confirmed. Nothing was written to the boot disk yet.
///
/// # Errors
/// Kind `not_as_left`.
pub fn go_on(facts: &Facts, vm: &Vm, record: &Record) -> Result<Decision, Failure> {
    if vm.lost {
        let why = "its notes have lost the record of its reinstallation, and what this controller kept of it may be old";
        return Err(not_as_left(facts, vm, why));
    }
    unprotected(vm)?;
    same_disk(facts, vm, record)?;
    let detached = record
        .reinstall
        .iter()
        .flat_map(|reinstall| &reinstall.detached);
    let known: Vec<&String> = detached.map(|(key, _)| key).collect();
    if let Some((key, value)) = vm
        .beside
        .disks
        .iter()
        .find(|(key, _)| !known.contains(&key))
    {
        return Err(attached(vm, key, value));
    }
    Ok(Decision::Reinstall(record.clone()))
}

/// Refuse a machine that has another disk than its boot disk.
///
/// # Errors
/// Kind `not_as_left`.
pub fn alone(facts: &Facts) -> Result<(), Failure> {
    let Some(vm) = &facts.vm else {
        return Ok(());
    };
    if let Some((key, value)) = vm.beside.disks.first() {
        return Err(attached(vm, key, value));
    }
    match vm.beside.devices.first() {
        Some(device) => Err(not_as_left(
            facts,
            vm,
            &format!("{device} was set while it is being installed anew"),
        )),
        None => Ok(()),
    }
}

fn attached(vm: &Vm, key: &str, value: &str) -> Failure {
    let why = format!(
        "its disk {key} ({value}) was attached while it is being installed anew, and the installation could write to it"
    );
    refusal(vm, FailureKind::NotAsLeft, &why).hint(format!(
        "detach it, which keeps its volume (qm set {} --delete {key}), and run the play again; it may be attached once the machine is finished",
        vm.vmid
    ))
}

/// The refusal of a machine that answers as the installed system does before its reinstallation ended.
pub fn installed_too_early(facts: &Facts, vm: &Vm) -> Failure {
    let why = "an installed system answers although its reinstallation has not ended, so somebody started what is on its boot disk";
    refusal(vm, FailureKind::NotAsLeft, why).hint(format!(
        "look at it; if its boot disk is not to be kept, stop it (qm stop {}) and run the play again; otherwise attach its disks by hand \
         (they are its unused ones), remove the record from its notes and set nixos_vm_adopt: true for {}",
        vm.vmid, facts.host
    ))
}
