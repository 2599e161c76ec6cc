//! Whether a finished machine is installed anew. Pure, like [`crate::decide`].
//!
//! The user confirms it with a word that counts once, so that no second run of the play installs it again:
//!
//! - `HOST`, for a machine that was never installed anew, on the controller that installed it;
//! - `HOST:ID`, with the beginning of the ID of the present installation, for any;
//! - `HOST:VOLUME` besides, if the boot disk has another volume than the one that was installed, since it was moved;
//! - `HOST:ID:continue` on a controller that goes on with what another one began.
//!
//! Every disk but the boot disk is detached before the installer boots, and attached again after the installation.

use pve_module::record::{Phase, Record, Reinstall};

use crate::error::{Refusal, Why};
use crate::facts::{Decision, Facts, Recorded, Vm};
use crate::vm_layout::{same_disk, volume};

/// How many digits of an installation's ID name it.
const DIGITS: usize = 8;

/// The word that confirms that this machine is installed anew.
pub fn confirmation(facts: &Facts, record: &Record) -> Option<String> {
    // Words that stayed where they were given, when the notes of then are written back.
    let counted = facts.vm.iter().flat_map(|vm| &vm.counted);
    let counted: Vec<&String> = counted.collect();
    let mut words = facts
        .confirmed
        .iter()
        .filter(|word| !counted.contains(word));
    let by_id = |word: &&String| {
        let id = after_host(facts, word).and_then(|rest| rest.strip_prefix(':'));
        id.is_some_and(|id| id.len() >= DIGITS && record.installation.starts_with(id))
    };
    // Only who installed it knows that it was not installed anew since, by the same word.
    let kept = facts.vm.as_ref().and_then(|vm| vm.kept);
    let first = record.reinstall.is_none() && kept == Some(Phase::Done);
    let by_name = |word: &&String| first && **word == facts.host;
    let found = words.clone().find(by_name);
    found.or_else(|| words.find(by_id)).cloned()
}

/// The record of a finished machine that a controller kept, for a VM whose notes lost theirs. Another controller may have installed it
/// anew since: the bare name of the host confirms nothing any more.
pub fn counted(mut record: Record) -> Record {
    if record.phase == Phase::Done && record.reinstall.is_none() {
        record.reinstall = Some(Reinstall {
            confirmed: record.host.clone(),
            detached: Vec::new(),
        });
    }
    record
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
    if !names(facts) || record.phase != Phase::Done || confirmation(facts, record).is_some() {
        return None;
    }
    let why = match record.reinstall {
        Some(_) => "its present installation is the one that was confirmed",
        None => {
            "its name does not say which installation is meant, and this controller did not install it"
        }
    };
    Some(format!(
        "nixos_vm_confirm_reinstall: {host} is not installed anew, since {why}; to install it anew, set it to {}",
        word_of(facts, record)
    ))
}

/// The word by which another controller goes on with a reinstallation. As `HOST:ID` alone it would confirm one more, once it is finished.
pub fn word_to_continue(facts: &Facts, record: &Record) -> String {
    format!("{}:continue", word_of(facts, record))
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
pub fn decide(facts: &Facts, vm: &Vm, record: &Record) -> Result<Decision, Refusal> {
    let refuse = |why| Err(Refusal::new(facts, vm, why));
    unprotected(facts, vm)?;
    if vm.lost {
        return refuse(Why::Lost);
    }
    if facts.adopt {
        return refuse(Why::AdoptSet);
    }
    if matches!(vm.record, Recorded::RolledBack(_)) {
        return refuse(Why::RolledBackSince);
    }
    if !vm.beside.devices.is_empty() {
        return refuse(Why::Devices(vm.beside.devices.clone()));
    }
    let cannot_come_back =
        |(_, value): &&(String, String)| !is_own(value, vm.vmid) || value.contains(';');
    if let Some((key, value)) = vm.beside.disks.iter().find(cannot_come_back) {
        let (key, value) = (key.clone(), value.clone());
        return refuse(Why::NotKept { key, value });
    }
    if let Some(key) = vm.beside.in_the_way.first() {
        return refuse(Why::InTheWay(key.clone()));
    }
    nothing_pending(facts, vm)?;
    on_its_drive(facts, vm, record)?;
    let moved = record.disk.is_some() && record.disk != vm.layout.disk;
    let confirmed = vm.layout.disk.as_ref().is_some_and(|disk| {
        let word = format!("{}:{disk}", facts.host);
        facts.confirmed.contains(&word)
    });
    match &vm.layout.disk {
        None => refuse(Why::NoBootDisk),
        Some(disk) if moved && !confirmed => refuse(Why::Moved {
            disk: disk.clone(),
            made: record.disk.clone().unwrap_or_default(),
            confirmed: confirmation(facts, record).unwrap_or_default(),
        }),
        Some(_) => Ok(Decision::Reinstall(record.clone())),
    }
}

/// Refuse a VM that Proxmox VE protects.
///
/// # Errors
/// Kind `protected`.
pub fn unprotected(facts: &Facts, vm: &Vm) -> Result<(), Refusal> {
    match vm.beside.protected {
        true => Err(Refusal::new(facts, vm, Why::Protected)),
        false => Ok(()),
    }
}

/// Whether the volume of a drive is this VM's, by its name (PVE::Storage::parse_volname): Proxmox VE keeps no other as an unused one.
pub fn is_own(value: &str, vmid: u32) -> bool {
    let Some((_, path)) = volume(value).split_once(':') else {
        return false;
    };
    let name = path.rsplit('/').next().unwrap_or_default();
    name.starts_with(&format!("vm-{vmid}-")) || path.starts_with(&format!("{vmid}/"))
}

/// Refuse variables that name another drive than the one that was installed: what is on that one is somebody's data.
fn on_its_drive(facts: &Facts, vm: &Vm, record: &Record) -> Result<(), Refusal> {
    let now = &vm.layout.disk_key;
    let drives = record.drives.as_deref().unwrap_or(now);
    let made = drives.split('/').next().unwrap_or_default();
    let disk = record.disk.clone().unwrap_or_default();
    let at = |(key, value): &(String, String)| (volume(value) == disk).then(|| key.clone());
    let elsewhere = vm.beside.disks.iter().find_map(at);
    let why = match elsewhere.filter(|_| vm.layout.disk != record.disk) {
        _ if made != now => Why::OtherDrive {
            now: now.clone(),
            made: made.to_owned(),
            disk,
        },
        Some(key) => Why::OnOtherDrive {
            now: now.clone(),
            key,
            disk,
        },
        None => return Ok(()),
    };
    Err(Refusal::new(facts, vm, why))
}

/// Go on with what was confirmed. Nothing was written to the boot disk yet.
///
/// # Errors
/// Kind `not_as_left`.
pub fn go_on(facts: &Facts, vm: &Vm, record: &Record) -> Result<Decision, Refusal> {
    let refuse = |why| Err(Refusal::new(facts, vm, why));
    if vm.lost {
        return refuse(Why::ReinstallationLost);
    }
    match vm.kept {
        Some(Phase::Reinstalling) => {}
        // The notes are those of an earlier moment.
        Some(kept) => {
            let noted = record.phase;
            return refuse(Why::OldNotes { noted, kept });
        }
        None if facts.confirmed.contains(&word_to_continue(facts, record)) => {}
        None => return refuse(Why::BegunElsewhere(word_to_continue(facts, record))),
    }
    unprotected(facts, vm)?;
    nothing_pending(facts, vm)?;
    same_disk(facts, vm, record)?;
    let detached = record
        .reinstall
        .iter()
        .flat_map(|reinstall| &reinstall.detached);
    let known: Vec<(&str, &str)> = detached
        .map(|(key, value)| (key.as_str(), volume(value)))
        .collect();
    if let Some((key, value)) = vm
        .beside
        .disks
        .iter()
        .find(|(key, value)| !known.contains(&(key.as_str(), volume(value))))
    {
        return Err(attached(facts, vm, key, value));
    }
    Ok(Decision::Reinstall(record.clone()))
}

/// Refuse changes of disks that wait until the VM is stopped.
fn nothing_pending(facts: &Facts, vm: &Vm) -> Result<(), Refusal> {
    match vm.beside.pending.first() {
        Some(key) => Err(Refusal::new(facts, vm, Why::Pending(key.clone()))),
        None => Ok(()),
    }
}

/// Refuse a machine that has another disk than its boot disk.
///
/// # Errors
/// Kind `not_as_left`.
pub fn alone(facts: &Facts) -> Result<(), Refusal> {
    let Some(vm) = &facts.vm else {
        return Ok(());
    };
    if let Some((key, value)) = vm.beside.disks.first() {
        return Err(attached(facts, vm, key, value));
    }
    nothing_pending(facts, vm)?;
    match vm.beside.devices.first() {
        Some(device) => Err(Refusal::new(facts, vm, Why::DeviceSet(device.clone()))),
        None => Ok(()),
    }
}

fn attached(facts: &Facts, vm: &Vm, key: &str, value: &str) -> Refusal {
    let (key, value) = (key.to_owned(), value.to_owned());
    Refusal::new(facts, vm, Why::Attached { key, value })
}
