//! Why a step is not taken, or does not go on: the variables, the other hosts of the play, and what the step finds.

use ansible_module::FailureKind;
use pve_module::record::Phase;
use serde_json::{Map, Value, json};

use super::destroy_command;

/// A step that is not taken, or was given up. `object` is the machine as messages name it, `host` its inventory host.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    // The variables.
    #[error("{}", .0.join("; "))]
    InvalidOptions(Vec<String>),
    #[error("run: is required; give what the step 'decide' returned in this play")]
    NoRun,
    #[error("{host}: nothing was done; correct these first:\n- {}", mistakes.join("\n- "))]
    Preflight {
        host: String,
        mistakes: Vec<String>,
        /// Commands for a node's shell that grant missing privileges.
        commands: Vec<String>,
    },
    #[error(
        "{object}: its system runs and does not answer, and it would have to be stopped for what its variables say; it was not stopped, since \
         it may be in use"
    )]
    InUse { object: String, vmid: u32 },
    #[error(
        "VM {vmid} ({name}): is not the template that this controller made of the disk image; nothing was done to it"
    )]
    NotOurTemplate { vmid: u32, name: String },
    #[error(
        "nixos_vm_disk_image_template: the storage of the boot disk has no linked clones; the template (VM {vmid}) was \
         removed again"
    )]
    NoLinkedClones { vmid: u32 },
    #[error("nixos_vm_vmid: {object} does not have the name {wanted}; nothing was done to it")]
    NameDiffers { object: String, wanted: String },
    #[error(
        "{object}: its installation began with the disk, the installer and the seed in {begun}, and the variables say {drives}; nothing \
         was done to it"
    )]
    DrivesChanged {
        object: String,
        host: String,
        begun: String,
        drives: String,
    },
    #[error(
        "{object}: {must} {now} (got {wanted}), by which its record knows it; nothing was done to it"
    )]
    IdentityChanged {
        object: String,
        /// The variable, and what must be so.
        must: &'static str,
        now: String,
        wanted: String,
    },
    #[error(
        "{disk}: NixOS is installed onto it, and it is described as a volume that exists or is imported; whatever is on it would be \
         overwritten"
    )]
    DiskExists {
        /// The drive, such as `scsi0`.
        disk: String,
    },

    // The play.
    #[error("{}", clashes.join("; "))]
    Claimed { host: String, clashes: Vec<String> },
    #[error("{object}: {what}, but {}; nothing was done to it", stands(*phase))]
    OutOfTurn {
        object: String,
        /// What was to happen, as `it was to be installed`.
        what: &'static str,
        /// How far it is. None if it does not exist.
        phase: Option<Phase>,
    },
    #[error("{object}: a system was to be deployed to it, but {}; nothing was done to it", stands(*phase))]
    NotFinished {
        object: String,
        host: String,
        phase: Option<Phase>,
    },
    /// The build beside the play. `msg` and `hint` are its own.
    #[error("{msg}")]
    BuildFailed {
        object: String,
        msg: String,
        hint: Option<String>,
    },

    // Where the machine is.
    #[error(
        "{object}: does not exist, but host {host} has a machine already: VM {vmid}, whose name is {now}"
    )]
    ElsewhereNamed {
        object: String,
        host: String,
        vmid: u32,
        now: String,
    },
    #[error(
        "{object}: is not visible, but this controller made it as VM {vmid}, and Proxmox VE says that a VM with that number exists"
    )]
    Hidden {
        object: String,
        vmid: u32,
        /// The directory of what the controller keeps of it.
        kept: String,
    },
    #[error("{object}: does not exist")]
    NoVm { object: String },
    #[error(
        "VM {vmid}: appeared while it was being made, and is not the one that was asked for; nothing was done to it"
    )]
    AnotherVm { vmid: u32 },
    #[error("VM {vmid}: has no SMBIOS UUID, so it cannot be distinguished from a clone")]
    NoUuid { vmid: u32 },
    #[error(
        "{address} port {port}: answers although {object} does not run, so the address belongs to another machine"
    )]
    Occupied {
        address: String,
        port: u16,
        object: String,
    },
    #[error(
        "{object}: the installer of this installation is not at its address: {answer}; nothing was done to it"
    )]
    NoInstaller {
        object: String,
        /// Who answers.
        answer: String,
    },

    // The reinstallation.
    #[error("VM {vmid}: its notes have no room for the record of a reinstallation; shorten them")]
    NotesFull { vmid: u32 },
    #[error("{object}: is installed, but {why}, so not all of its disks can be attached again")]
    DisksNotAttached { object: String, why: String },
    #[error("{object}: its SSH host key, which the new system is to have, cannot be read: {why}")]
    HostKeyUnreadable {
        object: String,
        host: String,
        why: String,
    },
    #[error(
        "{object}: its SSH host key, which the new system is to have, cannot be read: another controller began to install it anew, and \
         has the key"
    )]
    HostKeyElsewhere { object: String },

    // A boot.
    #[error("{object}: its {system} does not come up: {why}")]
    BootFailed {
        object: String,
        vmid: u32,
        /// What booted, as `installer`.
        system: &'static str,
        why: Standstill,
    },

    // The installed system.
    #[error("{object}: is installed, and its host key is not known here")]
    HostKeyUnknown { object: String },
    #[error("{object}: is stopped; only a running machine can be deployed to")]
    Stopped { object: String },
    #[error("{object}: was rolled back to the snapshot {snapshot} and runs its old system: {why}")]
    RolledBack {
        object: String,
        snapshot: String,
        why: String,
    },

    // Its end.
    #[error("{host}: would be destroyed with all of its data; nothing was done")]
    Unconfirmed { host: String },
    #[error(
        "{object}: does not exist; the machine of {host} is VM {vmid}, whose name is {now}; nothing was done"
    )]
    OtherName {
        object: String,
        host: String,
        vmid: u32,
        now: String,
    },
    #[error("{object}: this role did not make it; nothing was done to it")]
    NotMade { object: String },
    #[error("{object}: it is a clone or a restored backup of VM {vmid}; nothing was done to it")]
    Copy { object: String, vmid: u32 },
    #[error(
        "{object}: it is the machine of the inventory host {owner}, not of {host}; nothing was done to it"
    )]
    OtherHost {
        object: String,
        owner: String,
        host: String,
    },
    #[error("{object}: is protected in Proxmox VE; nothing was done to it")]
    Protected { object: String },
}

/// Why a machine that was started will not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Standstill {
    #[error("its kernel panicked")]
    Panicked,
    #[error("the VM is stopped")]
    Stopped,
    /// With QEMU's word for it.
    #[error("QEMU has paused the VM ({0})")]
    Paused(String),
}

impl Standstill {
    fn hint(&self, vmid: u32) -> String {
        match self {
            Self::Stopped => "run the play again: it starts the VM, and goes on from there".into(),
            // A play waits for a VM that runs, and does not restart it.
            Self::Panicked | Self::Paused(_) => format!(
                "correct what keeps it from booting, stop the VM (qm stop {vmid}), and run the play again"
            ),
        }
    }
}

impl StepError {
    /// Refuse a host with these mistakes in its variables.
    pub fn preflight(host: &str, mistakes: Vec<String>) -> Self {
        Self::Preflight {
            host: host.to_owned(),
            mistakes,
            commands: Vec::new(),
        }
    }

    pub(super) fn kind(&self) -> FailureKind {
        match self {
            Self::InvalidOptions(_) | Self::NoRun => FailureKind::InvalidOption,
            Self::Preflight { .. } => FailureKind::Preflight,
            Self::NotOurTemplate { .. } => FailureKind::NotOurs,
            Self::NoLinkedClones { .. } => FailureKind::StorageUnusable,
            Self::NameDiffers { .. } => FailureKind::NameDiffers,
            Self::DrivesChanged { .. }
            | Self::IdentityChanged { .. }
            | Self::DiskExists { .. }
            | Self::NotesFull { .. }
            | Self::InUse { .. }
            | Self::Stopped { .. } => FailureKind::Refused,
            Self::Claimed { .. } => FailureKind::Claimed,
            Self::OutOfTurn { .. } | Self::NotFinished { .. } => FailureKind::OutOfTurn,
            Self::BuildFailed { .. } => FailureKind::Build,
            Self::Hidden { .. } => FailureKind::Hidden,
            Self::NoVm { .. } => FailureKind::NotFound,
            Self::ElsewhereNamed { .. }
            | Self::AnotherVm { .. }
            | Self::NoUuid { .. }
            | Self::OtherName { .. }
            | Self::NotMade { .. }
            | Self::Copy { .. }
            | Self::OtherHost { .. } => FailureKind::NotOurs,
            Self::Occupied { .. } => FailureKind::Occupied,
            Self::NoInstaller { .. } | Self::DisksNotAttached { .. } => FailureKind::NotAsLeft,
            Self::HostKeyUnreadable { .. }
            | Self::HostKeyElsewhere { .. }
            | Self::HostKeyUnknown { .. } => FailureKind::HostKey,
            Self::BootFailed { .. } => FailureKind::BootFailed,
            Self::RolledBack { .. } => FailureKind::RolledBack,
            Self::Unconfirmed { .. } => FailureKind::Unconfirmed,
            Self::Protected { .. } => FailureKind::Protected,
        }
    }

    pub(super) fn object(&self) -> Option<String> {
        match self {
            Self::InvalidOptions(_) | Self::NoRun | Self::NoVm { .. } | Self::NotesFull { .. } => {
                None
            }
            Self::Preflight { host, .. }
            | Self::Claimed { host, .. }
            | Self::Unconfirmed { host } => Some(host.clone()),
            Self::DiskExists { disk } => Some(disk.clone()),
            Self::AnotherVm { vmid }
            | Self::NoUuid { vmid }
            | Self::NotOurTemplate { vmid, .. }
            | Self::NoLinkedClones { vmid } => Some(format!("VM {vmid}")),
            Self::Occupied { address, .. } => Some(address.clone()),
            Self::NameDiffers { object, .. }
            | Self::InUse { object, .. }
            | Self::DrivesChanged { object, .. }
            | Self::IdentityChanged { object, .. }
            | Self::OutOfTurn { object, .. }
            | Self::NotFinished { object, .. }
            | Self::BuildFailed { object, .. }
            | Self::ElsewhereNamed { object, .. }
            | Self::Hidden { object, .. }
            | Self::NoInstaller { object, .. }
            | Self::DisksNotAttached { object, .. }
            | Self::BootFailed { object, .. }
            | Self::HostKeyUnreadable { object, .. }
            | Self::HostKeyElsewhere { object }
            | Self::HostKeyUnknown { object }
            | Self::Stopped { object }
            | Self::RolledBack { object, .. }
            | Self::OtherName { object, .. }
            | Self::NotMade { object }
            | Self::Copy { object, .. }
            | Self::OtherHost { object, .. }
            | Self::Protected { object } => Some(object.clone()),
        }
    }

    /// What to do next.
    pub(super) fn hint(&self) -> Option<String> {
        Some(match self {
            Self::InvalidOptions(_)
            | Self::NoRun
            | Self::Preflight { .. }
            | Self::NoVm { .. }
            | Self::NotesFull { .. }
            | Self::RolledBack { .. } => return None,
            Self::InUse { vmid, .. } => format!(
                "look at it; if it is not in use, shut it down (qm shutdown {vmid}) and run the play again; if it is, manage it as it is: \
                 nixos_vm_adopt: true, after removing the record from its notes"
            ),
            Self::NotOurTemplate { .. } => "rename that VM, or remove it".into(),
            Self::NoLinkedClones { .. } => {
                "put the boot disk on a storage of another kind, such as LVM-thin, ZFS or a directory, or leave \
                 nixos_vm_disk_image_template out"
                    .into()
            }
            Self::NameDiffers { .. } => "correct nixos_vm_vmid or nixos_vm_name".into(),
            Self::DrivesChanged { host, .. } => format!(
                "leave nixos_vm_boot_disk, nixos_vm_installer_drive and nixos_vm_seed_drive as they were until it is installed, or destroy \
                 it first: {}",
                destroy_command(host)
            ),
            Self::IdentityChanged { .. } => {
                "leave it out, or give it the value that the VM has".into()
            }
            Self::DiskExists { .. } => {
                "describe a new disk, STORAGE:GIB or a dict with storage and size".into()
            }
            Self::Claimed { host, .. } => {
                format!("give each host its own; nothing was done to {host}")
            }
            Self::OutOfTurn { .. } => "run the play without --tags: it does what is missing".into(),
            Self::NotFinished { host, .. } => format!(
                "finish it first: ansible-playbook provision.yml -i INVENTORY --limit {host}"
            ),
            Self::BuildFailed { hint, .. } => return hint.clone(),
            Self::ElsewhereNamed { vmid, now, .. } => format!(
                "set nixos_vm_name: {now} to go on with it, nixos_vm_vmid: {vmid} to rename it, or destroy it first under that name"
            ),
            Self::Hidden { kept, .. } => format!(
                "give the user, and its token, VM.Audit on the path where their other rights are, such as /vms; if that guest is another \
                 machine, remove {kept}"
            ),
            Self::AnotherVm { .. } | Self::NoInstaller { .. } => {
                "run the play again: it decides by what it finds".into()
            }
            Self::NoUuid { vmid } => {
                format!("give it one: qm set {vmid} --smbios1 uuid=$(uuidgen)")
            }
            Self::Occupied { .. } => {
                "correct nixos_vm_ip (and ansible_host), or stop that machine".into()
            }
            Self::DisksNotAttached { .. } => {
                "attach the disk by hand where it was (qm set), and run the play again".into()
            }
            Self::BootFailed { vmid, why, .. } => why.hint(*vmid),
            Self::HostKeyUnreadable { host, .. } => format!(
                "start {host}, or set nixos_vm_reinstall_host_key: new to give the new system another one"
            ),
            Self::HostKeyElsewhere { .. } => {
                "go on from that controller, or set nixos_vm_reinstall_host_key: new".into()
            }
            Self::HostKeyUnknown { .. } => {
                "go on from the controller that installed it, or read the key at its console (cat \
                 /etc/ssh/ssh_host_ed25519_key.pub) and give it as nixos_vm_ssh_host_key.public"
                    .into()
            }
            Self::Stopped { .. } => "start it, or leave nixos_vm_deploy out for it".into(),
            Self::Unconfirmed { host } => format!(
                "repeat the inventory host's name to confirm: -e nixos_vm_confirm_destroy={host}"
            ),
            Self::OtherName { vmid, now, .. } => {
                format!("set nixos_vm_name: {now}, or nixos_vm_vmid: {vmid}")
            }
            Self::NotMade { .. } | Self::Copy { .. } => {
                "remove it by hand, or adopt it first (nixos_vm_adopt: true)".into()
            }
            Self::OtherHost { owner, .. } => format!(
                "destroy it as that host: -e nixos_vm_confirm_destroy={owner} --limit {owner}"
            ),
            Self::Protected { .. } => {
                "remove the protection first: qm set VMID --protection 0, and protection in nixos_vm_config or nixos_vm_vm_options".into()
            }
        })
    }

    /// What is returned beside.
    pub(super) fn values(&self) -> Map<String, Value> {
        let values = match self {
            Self::Preflight {
                mistakes, commands, ..
            } if !commands.is_empty() => {
                json!({"mistakes": mistakes, "commands": commands})
            }
            Self::InvalidOptions(mistakes) | Self::Preflight { mistakes, .. } => {
                json!({"mistakes": mistakes})
            }
            Self::BuildFailed { .. } => json!({"changed": false}),
            Self::RolledBack { snapshot, .. } => json!({"changed": true, "snapshot": snapshot}),
            _ => Value::Null,
        };
        values.as_object().cloned().unwrap_or_default()
    }
}

/// How far a machine is.
fn stands(phase: Option<Phase>) -> String {
    match phase {
        Some(phase) => format!("its phase is '{phase}'"),
        None => "it does not exist yet".into(),
    }
}
