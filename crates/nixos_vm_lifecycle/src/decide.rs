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

use crate::options::Step;
use crate::reinstall;

/// All that is known of a machine before a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The inventory host.
    pub host: String,
    /// What the machine is called in messages, before there is a VM.
    pub name: String,
    /// Whether the user asked to manage a VM that is not this host's.
    pub adopt: bool,
    /// The words of `nixos_vm_confirm_reinstall`.
    pub confirmed: Vec<String>,
    /// The VM that the inventory means; none if there is no such VM.
    pub vm: Option<Vm>,
    /// Where the controller's own record says that the machine is, when there is no VM of that name.
    pub elsewhere: Option<Elsewhere>,
    /// Whether the controller knows that nixos-anywhere ended well in this installation.
    pub ended: bool,
    /// Whether another run on this controller is installing it right now.
    pub busy: bool,
    /// What answers at the machine's address.
    pub answer: Answer,
}

/// The VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    /// `VM 101 (web1)`.
    pub object: String,
    /// Its number.
    pub vmid: u32,
    /// Whether its record was not in its notes, but kept by this controller.
    pub lost: bool,
    /// How many bytes were written to the boot disk since the VM was started, if that is known.
    pub written: Option<u64>,
    /// Whether it runs.
    pub running: bool,
    /// Whether it is a template.
    pub template: bool,
    /// Its record, and what that is worth.
    pub record: Recorded,
    /// What it boots.
    pub layout: Layout,
    /// What else it has that an installation could write to.
    pub beside: Beside,
}

/// What a VM has beside its boot disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// Its other disks, with their options, by their keys.
    pub disks: Vec<(String, String)>,
    /// Options by which it may have disks that Proxmox VE does not know: devices of the node, and arguments for QEMU.
    pub devices: Vec<String>,
    /// Whether Proxmox VE protects it.
    pub protected: bool,
}

/// The record of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// There is none.
    None,
    /// It is another VM's: this one is a clone, or was restored under another number.
    Copied(Record),
    /// It is this VM's, which was rolled back to a snapshot or restored since.
    RolledBack(Record),
    /// It is this VM's.
    Ours(Record),
}

/// What a VM boots, compared with what the record says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The volume of the boot disk.
    pub disk: Option<String>,
    /// What is in the installer's drive.
    pub installer: Option<String>,
    /// What is in the seed's drive.
    pub seed: Seed,
    /// What the boot order begins with.
    pub first: First,
}

/// What is in the seed's drive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Seed {
    /// Nothing.
    #[default]
    None,
    /// A seed that was made for this VM.
    Ours,
    /// Something else.
    Other(String),
}

/// What a boot order begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum First {
    /// The boot disk.
    #[default]
    Disk,
    /// The installer's drive.
    Installer,
    /// Something else, or nothing.
    Other(String),
}

/// Which system has the machine's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nobody asked.
    NotAsked,
    /// Nothing answers as SSH does, and why.
    Silent(String),
    /// The installer, with the host key of this installation.
    Installer,
    /// The installed system, with the host key that this installation put there.
    Installed,
    /// Another system.
    Foreign(String),
}

/// A machine that the controller knows under another name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// It is this VM.
    Named {
        /// Its number.
        vmid: u32,
        /// Its name now.
        name: String,
    },
    /// A VM with that number exists, and the caller may not see it.
    Hidden {
        /// Its number.
        vmid: u32,
        /// The directory of what the controller keeps of it.
        kept: String,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Ask first what answers at the address.
    Ask,
    /// Make the VM and install it.
    Create,
    /// Go on with the installation from its beginning; the record is `found`.
    Install(Record),
    /// Prepare a finished machine for being installed anew; the record is `found`, that of the finished machine or of the reinstallation.
    Reinstall(Record),
    /// The installation ended: detach, start and verify.
    Finalize(Record),
    /// The machine is finished: converge it.
    Converge(Record),
    /// Manage a VM that somebody else made.
    Adopt,
}

impl Decision {
    /// The steps that are due. Converging is due only if something differs, which is not decided here.
    pub fn due(&self) -> Vec<Step> {
        match self {
            Self::Create | Self::Install(_) | Self::Reinstall(_) => Step::SIX.to_vec(),
            Self::Finalize(_) => vec![Step::Finalize],
            Self::Adopt => vec![Step::Provision],
            Self::Ask | Self::Converge(_) => Vec::new(),
        }
    }

    /// The record that the decision goes by.
    pub fn record(&self) -> Option<&Record> {
        match self {
            Self::Install(record)
            | Self::Reinstall(record)
            | Self::Finalize(record)
            | Self::Converge(record) => Some(record),
            Self::Ask | Self::Create | Self::Adopt => None,
        }
    }
}

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
        reinstall::alone(facts, vm)?;
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

pub(crate) fn same_disk(facts: &Facts, vm: &Vm, record: &Record) -> Result<(), Failure> {
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

pub(crate) fn refusal(vm: &Vm, kind: FailureKind, why: &str) -> Failure {
    let msg = format!("{}: {why}; nothing was done to it", vm.object);
    Failure::new(kind, msg).object(&vm.object)
}

pub(crate) fn not_as_left(facts: &Facts, vm: &Vm, why: &str) -> Failure {
    refusal(vm, FailureKind::NotAsLeft, why).hint(ways_out(facts))
}

fn foreign(facts: &Facts, vm: &Vm, what: &str) -> Failure {
    let why = format!(
        "its address belongs to a system with a host key that is not this installation's ({what})"
    );
    not_as_left(facts, vm, &why)
}

fn other_host(vm: &Vm, record: &Record, facts: &Facts) -> Failure {
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

fn adopt_hint(facts: &Facts) -> String {
    format!(
        "choose another nixos_vm_name, or set nixos_vm_adopt: true for {} to manage the VM as it is (nothing is installed onto it)",
        facts.host
    )
}

fn ways_out(facts: &Facts) -> String {
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
