//! What is known of a machine, and what can be decided of it.

use pve_module::record::{Phase, Record};

use crate::options::Step;

/// All that is known of a machine before a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The inventory host.
    pub host: String,
    /// What the machine is called in messages, before there is a VM.
    pub name: String,
    /// Whether the user asked to manage a VM that is not this host's.
    pub adopt: bool,
    /// Whether the variables say that a new machine gets its system from a disk image.
    pub by_image: bool,
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
    /// Whether its notes have several records, or one that cannot be read.
    pub unreadable: bool,
    /// Whether this controller began to install it, in another installation than the one that its record names, and knows of no end.
    pub installing: bool,
    /// How far the installation that its record names had come when this controller last worked on it, if it ever did.
    pub kept: Option<Phase>,
    /// The words by which this controller installed it anew, in other installations than the one that its record names.
    pub counted: Vec<String>,
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
    /// Other disks with changes that wait until the VM is stopped: until then QEMU has what it had.
    pub pending: Vec<String>,
    /// Other disks in the drives of the installer or the seed.
    pub in_the_way: Vec<String>,
    /// Unused volumes of which this controller knows that a reinstallation detached them.
    pub detached: Vec<String>,
    /// Disks that the variables describe and that it lacks.
    pub absent: Vec<String>,
    /// Its unused volumes.
    pub unused: Vec<String>,
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
    /// The drive that the variables name as the boot disk.
    pub disk_key: String,
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
    /// The steps that are due; `by_image` says that a new machine gets its system from a disk image. Converging is due only if something
    /// differs, which is not decided here.
    pub fn due(&self, by_image: bool) -> Vec<Step> {
        let mut six = Step::SIX.to_vec();
        match self {
            Self::Create if by_image => {
                six.retain(|step| *step != Step::Install);
                six
            }
            // Its disk has the image.
            Self::Install(record) if record.image.is_some() && record.phase != Phase::Creating => {
                vec![Step::Provision, Step::Boot, Step::Finalize]
            }
            Self::Install(record) if record.image.is_some() => {
                six.retain(|step| *step != Step::Install);
                six
            }
            Self::Create | Self::Install(_) | Self::Reinstall(_) => six,
            Self::Finalize(_) => vec![Step::Finalize],
            Self::Adopt => vec![Step::Provision],
            Self::Ask | Self::Converge(_) => Vec::new(),
        }
    }

    /// Whether a system is to be installed.
    pub fn installs(&self) -> bool {
        matches!(self, Self::Create | Self::Install(_) | Self::Reinstall(_))
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
