//! Why the module refuses or gives up a task. Failures of the API come from `pve_module`.

use std::time::Duration;

use ansible_module::{Failure, FailureKind};
use pve_module::record::Phase;

/// A failure of the module's own. `object` is the VM as messages name it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}", .0.join("; "))]
    InvalidOptions(Vec<String>),

    #[error("{object} does not exist")]
    VmNotFound { object: String },
    #[error("name: several VMs have the name {name}: {}", list(vmids))]
    AmbiguousName { name: String, vmids: Vec<u32> },
    #[error("name: VM {vmid} has the name {actual} (got '{name}')")]
    NameDiffers {
        vmid: u32,
        actual: String,
        name: String,
    },
    #[error("vmid: VM {vmid} does not exist, and '{name}' is another VM's name")]
    NameOfAnotherVm { vmid: u32, name: String },

    #[error("{object} is a template, and templates have no snapshots")]
    Template { object: String },
    #[error(
        "snapname: {object} has no snapshot '{name}' ({})",
        available(snapshots)
    )]
    SnapshotNotFound {
        object: String,
        name: String,
        /// The names of those that the VM has.
        snapshots: Vec<String>,
    },
    #[error("{object}: the snapshot {name} is incomplete (snapstate '{snapstate}')")]
    Incomplete {
        object: String,
        vmid: u32,
        node: String,
        name: String,
        snapstate: String,
    },
    #[error("{object}: Proxmox VE cannot make snapshots of all of its disks ({})", disks.join(", "))]
    DisksUnsupported {
        object: String,
        vmid: u32,
        /// `KEY: VOLUME` each.
        disks: Vec<String>,
    },
    #[error(
        "{object}: its installation for the inventory host {host} is not finished (phase '{phase}'); nothing was done to it"
    )]
    Installing {
        object: String,
        host: String,
        phase: Phase,
    },

    #[error(
        "{object}: it is another VM by now, or its smbios1 was changed; nothing more was done to it"
    )]
    AnotherVm { object: String },
    /// No task holds the lock of a hibernated VM, and `qm unlock` would give up the saved memory.
    #[error("{object}: it is hibernated (lock 'suspended')")]
    Hibernated { object: String },
    #[error("{object}: it is locked by '{lock}' (waited {:.0} s)", waited.as_secs_f64())]
    Locked {
        object: String,
        vmid: u32,
        node: String,
        lock: String,
        waited: Duration,
    },
    #[error("{object}: other tasks changed its snapshots each time this task was about to")]
    Overtaken { object: String },
}

impl Error {
    fn kind(&self) -> FailureKind {
        match self {
            Self::InvalidOptions(_) => FailureKind::InvalidOption,
            Self::VmNotFound { .. } | Self::SnapshotNotFound { .. } => FailureKind::NotFound,
            Self::AmbiguousName { .. } => FailureKind::Ambiguous,
            Self::NameDiffers { .. } | Self::NameOfAnotherVm { .. } => FailureKind::NameDiffers,
            Self::Template { .. } => FailureKind::Template,
            Self::Incomplete { .. } => FailureKind::CutOff,
            Self::DisksUnsupported { .. } => FailureKind::Unsupported,
            Self::Installing { .. } => FailureKind::Installing,
            Self::AnotherVm { .. } => FailureKind::Guarded,
            Self::Hibernated { .. } | Self::Locked { .. } => FailureKind::Locked,
            Self::Overtaken { .. } => FailureKind::Conflict,
        }
    }

    fn object(&self) -> Option<String> {
        match self {
            Self::InvalidOptions(_) => None,
            Self::AmbiguousName { name, .. } => Some(name.clone()),
            Self::NameDiffers { vmid, .. } | Self::NameOfAnotherVm { vmid, .. } => {
                Some(format!("VM {vmid}"))
            }
            Self::VmNotFound { object }
            | Self::Template { object }
            | Self::SnapshotNotFound { object, .. }
            | Self::Incomplete { object, .. }
            | Self::DisksUnsupported { object, .. }
            | Self::Installing { object, .. }
            | Self::AnotherVm { object }
            | Self::Hibernated { object }
            | Self::Locked { object, .. }
            | Self::Overtaken { object } => Some(object.clone()),
        }
    }

    /// What to do next.
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::InvalidOptions(_) | Self::Template { .. } | Self::SnapshotNotFound { .. } => {
                return None;
            }
            Self::VmNotFound { .. } => {
                "check vmid or name, and that the API user has VM.Audit on it".into()
            }
            Self::AmbiguousName { .. } => "set vmid to the one that is meant".into(),
            Self::NameDiffers { .. } | Self::NameOfAnotherVm { .. } => {
                "correct vmid or name, or leave one of them out".into()
            }
            Self::Incomplete { vmid, node, .. } => format!(
                "wait for its task, if one is running (pvesh get /cluster/tasks). Otherwise delete it: qm unlock {vmid} on node \
                 {node} if the VM is locked, then state: absent with force: true"
            ),
            Self::DisksUnsupported { vmid, .. } => format!(
                "each disk must be on a storage with snapshots (such as ZFS, LVM-thin or Ceph RBD) or, on a directory, NFS or CIFS \
                 storage, have the format qcow2. To move one: qm disk move {vmid} DISK STORAGE --format qcow2"
            ),
            Self::Installing { .. } => {
                "finish the installation first: run provision.yml for that host; to work on the VM anyway, set \
                 allow_during_installation: true"
                    .into()
            }
            Self::AnotherVm { .. } => "look at the VM, then run the task again".into(),
            Self::Hibernated { .. } => {
                "start the VM, which resumes it, and shut it down if it is to be stopped; then run the task again".into()
            }
            Self::Locked { vmid, node, .. } => format!(
                "wait for the task that holds the lock (pvesh get /cluster/tasks), or raise timeout. If no such task runs, it was \
                 cut off and left its lock: qm unlock {vmid} on node {node} removes it"
            ),
            Self::Overtaken { .. } => "let one task at a time work on the VM's snapshots".into(),
        };
        Some(hint)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            object: error.object(),
            hint: error.hint(),
            ..Self::new(error.kind(), error.to_string())
        }
    }
}

fn list(vmids: &[u32]) -> String {
    let vmids: Vec<String> = vmids.iter().map(u32::to_string).collect();
    vmids.join(", ")
}

fn available(snapshots: &[String]) -> String {
    match snapshots {
        [] => "it has no snapshots".to_owned(),
        names => format!("available: {}", names.join(", ")),
    }
}
