//! Refusals of a VM: what was found, that nothing was done, and the ways to go on.

use ansible_module::FailureKind;
use pve_module::record::Phase;

use super::destroy_command;
use crate::facts::{Facts, Recorded, Vm};

/// A VM that nothing is done to.
#[derive(Debug, thiserror::Error)]
#[error("{object}: {why}; nothing was done to it")]
pub struct Refusal {
    /// `VM 101 (web1)`.
    object: String,
    vmid: u32,
    /// The inventory host that it was to be the machine of.
    host: String,
    /// Whether it was being installed anew, so that its other disks are detached.
    reinstalled: bool,
    why: Why,
}

/// What was found. Disks, drives and seeds are volumes as Proxmox VE names them.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    // Whose it is.
    #[error("it is a template, which never runs")]
    Template,
    #[error("this role did not make it: its notes have no record of an installation")]
    NoRecord,
    #[error(
        "its notes have the record of VM {vmid} (host {host}), so it is a clone or a restored backup of that machine"
    )]
    Copied { vmid: u32, host: String },
    #[error("it is the machine of the inventory host {owner}, not of {host}")]
    OtherHost {
        owner: String,
        host: String,
        /// Whether its installation has not ended.
        unfinished: bool,
    },

    // Before the installation.
    #[error(
        "it was rolled back to a snapshot or restored from a backup while its phase was '{0}', so its disk is not what this \
         installation left"
    )]
    RolledBack(Phase),
    #[error("its boot disk is {now}, and this installation made {made}")]
    OtherDisk { now: String, made: String },
    #[error("{0} is in the drive of its seed ISO")]
    OtherSeed(String),
    #[error("{now} is in the drive of its installer, and this installation attached {attached}")]
    OtherInstaller { now: String, attached: String },
    #[error("its boot order is '{0}', which this installation did not set")]
    OtherBootOrder(String),
    #[error(
        "its notes lost the record of the installation, and its installer or its seed is detached"
    )]
    LostAndDetached,
    #[error(
        "{0} bytes were written to its boot disk since it was started, although nothing was installed yet"
    )]
    Written(u64),
    #[error(
        "the system at its address has the host key of the installed system, although nothing was installed yet"
    )]
    InstalledAlready,
    #[error(
        "its address belongs to a system with a host key that is not this installation's ({0})"
    )]
    Foreign(String),

    #[error("it was begun with another nixos_vm_method than its variables say now")]
    OtherMethod,

    // While it is being installed.
    #[error("another run on this controller is installing it right now")]
    Busy,
    #[error(
        "an installation was under way, and its installer does not answer ({0}), so it is not known what runs"
    )]
    Silent(String),
    #[error("its installer ISO was detached")]
    InstallerDetached,
    #[error("its seed ISO was detached")]
    SeedDetached,
    #[error(
        "its boot order does not begin with the installer, so it may have booted from its disk"
    )]
    MayHaveBooted,

    // A finished machine that was to be installed anew.
    #[error("nixos_vm_method: image makes new machines only, so it is not installed anew")]
    ReinstallByImage,
    #[error("the role did not install it, so it is not installed anew")]
    Adopted,
    #[error("is protected in Proxmox VE, so it is not installed anew")]
    Protected,
    #[error("its notes have lost the record of its installation, so it is not installed anew")]
    Lost,
    #[error(
        "was rolled back to a snapshot or restored from a backup, so its boot disk is not what the role left"
    )]
    RolledBackSince,
    #[error("has {}, through which the installation could write to a disk that Proxmox VE does not know", .0.join(", "))]
    Devices(Vec<String>),
    #[error(
        "its disk {key} ({value}) is not a volume of this VM on a storage, so Proxmox VE would not keep it to be attached again"
    )]
    NotKept { key: String, value: String },
    #[error("the variables name {now} as its boot disk, and {made} ({disk}) was installed")]
    OtherDrive {
        now: String,
        made: String,
        disk: String,
    },
    #[error("has no boot disk")]
    NoBootDisk,
    #[error("its boot disk is {disk}, and {made} was installed")]
    Moved {
        disk: String,
        made: String,
        /// The word that confirms the reinstallation.
        confirmed: String,
    },

    #[error(
        "its variables say nixos_vm_adopt, by which nothing is installed onto it, and it is being installed anew"
    )]
    AdoptSet,
    #[error("its disk {0} is in the drive of its installer or its seed")]
    InTheWay(String),
    #[error("a change of its disk {0} waits until it is stopped")]
    Pending(String),
    #[error(
        "its boot disk {now} is another volume than the installed one ({disk}), which is {key} now"
    )]
    OnOtherDrive {
        now: String,
        key: String,
        disk: String,
    },

    // Without the record of a reinstallation.
    #[error("it has unused volumes ({}), which may be disks that it lacks ({})", unused.join(", "), lacking(absent))]
    DisksAside {
        absent: Vec<String>,
        unused: Vec<String>,
    },
    #[error("its notes have several records of an installation, or one that cannot be read")]
    RecordUnreadable,
    #[error(
        "its boot order begins with an installer, and the record of that installation is missing from its notes, so it may be half \
         installed"
    )]
    WithInstaller,

    // While it is being installed anew.
    #[error(
        "its notes say that its phase is '{noted}', and this controller knows that installation in the phase '{kept}', so the notes are \
         old"
    )]
    OldNotes { noted: Phase, kept: Phase },
    /// The word that goes on with it.
    #[error("it is being installed anew, which this controller did not begin")]
    BegunElsewhere(String),
    #[error(
        "its notes have lost the record of its reinstallation, and what this controller kept of it may be old"
    )]
    ReinstallationLost,
    #[error(
        "its disk {key} ({value}) was attached while it is being installed anew, and the installation could write to it"
    )]
    Attached { key: String, value: String },
    #[error("{0} was set while it is being installed anew")]
    DeviceSet(String),
    #[error(
        "an installed system answers although its reinstallation has not ended, so somebody started what is on its boot disk"
    )]
    InstalledTooEarly,
}

impl Refusal {
    /// Refuse the VM.
    pub fn new(facts: &Facts, vm: &Vm, why: Why) -> Self {
        Self {
            object: vm.object.clone(),
            vmid: vm.vmid,
            host: facts.host.clone(),
            reinstalled: is_reinstalled(vm),
            why,
        }
    }

    pub(super) fn kind(&self) -> FailureKind {
        match &self.why {
            Why::Template
            | Why::Adopted
            | Why::Devices(_)
            | Why::NotKept { .. }
            | Why::OtherDrive { .. }
            | Why::OnOtherDrive { .. }
            | Why::AdoptSet
            | Why::OtherMethod
            | Why::ReinstallByImage
            | Why::InTheWay(_) => FailureKind::Refused,
            Why::NoRecord | Why::Copied { .. } | Why::OtherHost { .. } => FailureKind::NotOurs,
            Why::Busy => FailureKind::Busy,
            Why::Protected => FailureKind::Protected,
            Why::RolledBack(_)
            | Why::OtherDisk { .. }
            | Why::OtherSeed(_)
            | Why::OtherInstaller { .. }
            | Why::OtherBootOrder(_)
            | Why::LostAndDetached
            | Why::Written(_)
            | Why::InstalledAlready
            | Why::Foreign(_)
            | Why::Silent(_)
            | Why::InstallerDetached
            | Why::SeedDetached
            | Why::MayHaveBooted
            | Why::Lost
            | Why::RolledBackSince
            | Why::NoBootDisk
            | Why::Moved { .. }
            | Why::ReinstallationLost
            | Why::Pending(_)
            | Why::DisksAside { .. }
            | Why::RecordUnreadable
            | Why::WithInstaller
            | Why::OldNotes { .. }
            | Why::BegunElsewhere(_)
            | Why::Attached { .. }
            | Why::DeviceSet(_)
            | Why::InstalledTooEarly => FailureKind::NotAsLeft,
        }
    }

    pub(super) fn object(&self) -> &str {
        &self.object
    }

    /// What to do next. A table, however long.
    pub(super) fn hint(&self) -> String {
        let (host, vmid) = (&self.host, self.vmid);
        match &self.why {
            Why::Template => "give the machine another name, or remove the template".into(),
            Why::NoRecord | Why::Copied { .. } => format!(
                "choose another nixos_vm_name, or set nixos_vm_adopt: true for {host} to manage the VM as it is (nothing is installed onto \
                 it)"
            ),
            Why::OtherHost { owner, unfinished: true, .. } => format!(
                "give {host} a nixos_vm_name of its own; if the host was renamed, finish the installation, or destroy the machine, under \
                 the name {owner} first"
            ),
            Why::OtherHost { unfinished: false, .. } => format!(
                "give {host} a nixos_vm_name of its own; if the host was renamed, set nixos_vm_adopt: true for {host} once"
            ),
            Why::Busy => "wait until that run has ended, then run the play again".into(),
            Why::Silent(_) => format!(
                "look at its console; if nothing on it is to be kept, stop it (qm stop {vmid}) and run the play again; {}",
                self.ways_out()
            ),
            Why::OtherMethod if self.reinstalled => {
                format!("set nixos_vm_method: installer for {host} until it is finished")
            }
            Why::OtherMethod => format!(
                "set nixos_vm_method back for {host} until it is finished; to begin again with the other one, destroy it: {}",
                destroy_command(host)
            ),
            Why::ReinstallByImage => format!(
                "set nixos_vm_method: installer to install it anew by nixos-anywhere, or destroy it and make it anew: {}",
                destroy_command(host)
            ),
            Why::Adopted => "leave nixos_vm_confirm_reinstall out for it".into(),
            Why::Protected => {
                format!("remove the protection first: qm set {vmid} --protection 0")
            }
            Why::Lost => {
                "run the play without nixos_vm_confirm_reinstall first, which writes the record again".into()
            }
            Why::RolledBackSince => {
                "install it by hand, or destroy it and make it anew, which deletes its other disks, too".into()
            }
            Why::AdoptSet => format!(
                "leave nixos_vm_adopt out to have {host} installed; to keep what is on it instead, attach its other disks by hand (they \
                 are its unused ones), remove the record from its notes, and run the play again"
            ),
            Why::InTheWay(_) => {
                "name free drives: nixos_vm_installer_drive, nixos_vm_seed_drive".into()
            }
            Why::Pending(_) => format!("shut it down (qm shutdown {vmid}), and run the play again"),
            Why::OnOtherDrive { now, .. } => format!(
                "put the volumes where they were; or install it by hand, since what is on {now} is not known to be the system"
            ),
            Why::DisksAside { .. } => {
                "attach them where they belong, and run the play again; if they are other volumes, leave the new disks out of the inventory \
                 for one run"
                    .into()
            }
            Why::RecordUnreadable => {
                "keep the right one, or remove all of them and run the play on the controller that made the machine, which writes its own \
                 record back"
                    .into()
            }
            Why::WithInstaller => format!(
                "if another controller is reinstalling it, run the play there; if earlier notes were restored, restore the latest ones; if \
                 its disk has a complete system, set the boot order (qm set {vmid} --boot order=DISK). Then run the play again"
            ),
            Why::OldNotes { .. } => format!(
                "if {host} is finished, remove the record (the last line of its notes) and run the play again: the controller writes its \
                 own record back"
            ),
            Why::BegunElsewhere(word) => format!(
                "run the play on the controller that began it; if that is gone, and everything on the boot disk is to be lost: \
                 nixos_vm_confirm_reinstall: {word}"
            ),
            Why::Devices(_) => {
                "remove these options for the reinstallation, and set them again afterwards".into()
            }
            Why::NotKept { .. } => "detach it by hand for the reinstallation".into(),
            Why::OtherDrive { made, .. } => format!("set nixos_vm_boot_disk: {made}"),
            Why::Moved { disk, confirmed, .. } => format!(
                "if that is the same disk, which was moved: nixos_vm_confirm_reinstall: [{confirmed}, {host}:{disk}]"
            ),
            Why::Attached { key, .. } => format!(
                "detach it, which keeps its volume (qm set {vmid} --delete {key}), and run the play again; it may be attached once the \
                 machine is finished"
            ),
            Why::InstalledTooEarly => format!(
                "look at it; if its boot disk is not to be kept, stop it (qm stop {vmid}) and run the play again; otherwise attach its \
                 disks by hand (they are its unused ones), remove the record from its notes and set nixos_vm_adopt: true for {host}"
            ),
            Why::RolledBack(_)
            | Why::OtherDisk { .. }
            | Why::OtherSeed(_)
            | Why::OtherInstaller { .. }
            | Why::OtherBootOrder(_)
            | Why::LostAndDetached
            | Why::Written(_)
            | Why::InstalledAlready
            | Why::Foreign(_)
            | Why::InstallerDetached
            | Why::SeedDetached
            | Why::MayHaveBooted
            | Why::NoBootDisk
            | Why::ReinstallationLost
            | Why::DeviceSet(_) => self.ways_out(),
        }
    }

    /// How to go on with a machine that is not as its installation left it.
    fn ways_out(&self) -> String {
        let host = &self.host;
        if self.reinstalled {
            return format!(
                "put it back as it was left and run the play again; or attach its other disks by hand (they are its unused ones), finish \
                 it by hand and set nixos_vm_adopt: true for {host} after removing the record from its notes; destroying it would delete \
                 these disks, too"
            );
        }
        format!(
            "to keep what is on it, finish by hand and set nixos_vm_adopt: true for {host} after removing the record from its notes; to \
             begin again, destroy it: {}",
            destroy_command(host)
        )
    }
}

/// Whether it was being installed anew, so that its other disks are detached.
fn is_reinstalled(vm: &Vm) -> bool {
    match &vm.record {
        Recorded::Ours(record) | Recorded::RolledBack(record) => {
            record.phase.unfinished() && record.reinstall.is_some()
        }
        Recorded::None | Recorded::Copied(_) => false,
    }
}

fn lacking(absent: &[String]) -> String {
    match absent {
        [] => "detached for a reinstallation".to_owned(),
        keys => keys.join(", "),
    }
}
