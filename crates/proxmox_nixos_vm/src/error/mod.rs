//! Why the module refuses or gives up a task. Failures of the API come from `pve_module`.

mod hint;

use std::fmt::Display;
use std::time::Duration;

use ansible_module::{Failure, FailureKind};
use pve_module::Seen;
use pve_module::record::Phase;

use crate::state::State;

/// A failure of the module's own. `object` is the VM as messages name it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    // The options.
    #[error("{}", .0.join("; "))]
    InvalidOptions(Vec<String>),
    #[error("{object} cannot be made as described: {}", problems.join("; "))]
    Refused {
        object: String,
        problems: Vec<String>,
    },
    #[error("{object}: {key}: {problem}")]
    HardwareRefused {
        object: String,
        key: String,
        problem: String,
    },
    #[error("{key}: {value} is a disk of VM {owner}, not of {object}")]
    DiskOfAnother {
        object: String,
        key: String,
        value: String,
        owner: u32,
    },
    #[error(
        "tags: the cluster does not let {caller} set or remove {} at {object} (tags that it may: {})", tags.join(", "),
        or_none(allowed)
    )]
    TagsNotAllowed {
        object: String,
        caller: String,
        tags: Vec<String>,
        allowed: Vec<String>,
    },
    #[error(
        "PVE lets only {root}, logged in with a password, change {keys} of {object} so; this is {caller}"
    )]
    RootOnly {
        root: &'static str,
        keys: String,
        object: String,
        caller: String,
        /// A PCI or USB device, which may be mapped instead.
        has_mapping: bool,
    },

    // Which VM is meant.
    #[error("{object} does not exist{consequence}")]
    NotFound {
        object: String,
        consequence: &'static str,
        hint: &'static str,
    },
    #[error("{} VMs have the name {name}: {}", vms.len(), vms.join(", "))]
    AmbiguousName {
        name: String,
        /// `VMID on NODE` each.
        vms: Vec<String>,
    },
    #[error("VM {vmid} on {node} has the name {actual} and not {name}{}", also(name, other.as_deref()))]
    NameDiffers {
        vmid: u32,
        node: String,
        actual: String,
        name: String,
        /// The VM of that name, `VMID on NODE`.
        other: Option<String>,
    },
    #[error("the name {name} belongs to VM {other}, not to {vmid}")]
    NameTaken {
        name: String,
        /// `VMID on NODE`.
        other: String,
        vmid: u32,
    },
    #[error("VM {vmid} ({name}) on {node} is a template")]
    Template {
        vmid: u32,
        name: String,
        node: String,
    },
    #[error(
        "{object}: this controller made it as {name}, and it still exists, but {caller} cannot see it"
    )]
    Invisible {
        object: String,
        vmid: u32,
        name: String,
        caller: String,
    },
    #[error("{object} appeared meanwhile, made by somebody else; nothing was done to it")]
    Appeared { object: String },
    #[error(
        "{object} was made and removed again {attempts} times, because other tasks made it too"
    )]
    MadeByOthersToo { object: String, attempts: u32 },
    #[error("{name}: another task made {} with this name while this task made VM {vmid} on {node}", others.join(", "))]
    TwoOfThisName {
        name: String,
        /// `VM VMID on NODE` each.
        others: Vec<String>,
        vmid: u32,
        node: String,
    },

    // Tags and records.
    #[error(
        "{object} on {node} is not touched: {problem}; its tags are: {}",
        or_none(tags)
    )]
    Tags {
        object: String,
        node: String,
        problem: String,
        tags: Vec<String>,
    },
    #[error("{object} does not exist, so it has not the tag {tags} that only_if_tagged demands")]
    MissingWithTag { object: String, tags: String },
    #[error("{object} does not exist any more")]
    Gone { object: String },
    #[error("{object}: its notes have a record by now; nothing was done to it")]
    Recorded { object: String },
    #[error("{object}: {problem}; nothing more was done to it")]
    Record {
        object: String,
        problem: RecordProblem,
    },

    // The node and what it has.
    #[error("no node is online, so there is none to create the VM on")]
    NoNodeOnline,
    #[error("no online node has what the VM needs: {}", .0.join("; "))]
    NoNodeFits(Vec<String>),
    #[error("node: {node} is offline (online: {})", online.join(", "))]
    NodeOffline { node: String, online: Vec<String> },
    #[error("nodes: all of them are offline ({})", .0.join(", "))]
    NodesOffline(Vec<String>),
    /// `option` is `node` or `nodes`.
    #[error("{option}: {node} does not exist (online: {})", online.join(", "))]
    NoSuchNode {
        option: &'static str,
        node: String,
        online: Vec<String>,
    },
    #[error("no VMID from {min} to {max} is free")]
    NoVmid { min: u32, max: u32 },
    #[error(
        "storage {storage} does not exist on node {node} (available: {})",
        or_none(available)
    )]
    NoStorage {
        storage: String,
        node: String,
        available: Vec<String>,
    },
    #[error("storage {storage} is {status} on node {node}")]
    StorageDown {
        storage: String,
        node: String,
        /// `disabled` or `not active`.
        status: &'static str,
    },
    #[error("storage {storage} on node {node} may not hold {content}, only {allowed}")]
    StorageContent {
        storage: String,
        node: String,
        content: String,
        allowed: String,
    },
    #[error("ISO {iso} does not exist on node {node}")]
    NoIso { iso: String, node: String },
    #[error("net: bridge {missing} does not exist on node {node} (available: {})", available.join(", "))]
    NoBridge {
        missing: String,
        node: String,
        available: Vec<String>,
    },
    #[error("cpu: {0}")]
    Cpu(String),
    #[error("the list of {what} is not as PVE writes it: {error}")]
    UnexpectedList {
        what: &'static str,
        error: serde_json::Error,
    },

    // What is done to it.
    #[error("{count} VMs have the name {name} of the template")]
    AmbiguousTemplate { name: String, count: usize },
    #[error("{object} on {node} is not a template")]
    NotATemplate { object: String, node: String },
    #[error("the template {object} does not exist")]
    NoTemplate { object: String },
    #[error(
        "{object} on {node} is incomplete: it has the lock '{lock}', but no task of PVE works on it"
    )]
    CutOff {
        object: String,
        node: String,
        vmid: u32,
        lock: String,
    },
    #[error("{object} cannot be migrated from {from} to {to}: {}", problems.join("; "))]
    CannotMigrate {
        object: String,
        from: String,
        to: String,
        problems: Vec<String>,
    },
    #[error("{object} has disks on other storages again and again after they were moved")]
    DisksMovedBack { object: String },
    #[error("{object} did not shut down within {} s: {pve}", grace.as_secs())]
    NoShutdown {
        object: String,
        grace: Duration,
        /// PVE's words.
        pve: String,
    },
    #[error("{object} on {node} is running, so it cannot become a template")]
    RunningTemplate { object: String, node: String },
    #[error("{object} on {node} is protected and is not removed")]
    Protected { object: String, node: String },
    #[error("{object} on {node} is running and is not removed")]
    RunningNotRemoved { object: String, node: String },
    #[error(
        "ha: {object} is being installed for the inventory host {host} (phase '{phase}'), and HA would start or stop it; nothing was done to it"
    )]
    Installing {
        object: String,
        host: String,
        phase: Phase,
    },

    // Its address.
    #[error("{object} has no NIC {nic}, so it has no address to wait for")]
    NoNic { object: String, nic: &'static str },
    #[error("{object} has no guest agent configured, so nothing tells its address")]
    NoAgent { object: String },
    #[error("{object} is {status}, so its guest agent tells no address")]
    NotRunning { object: String, status: String },
}

/// How the record of a VM differs from what it must be.
#[derive(Debug, thiserror::Error)]
pub enum RecordProblem {
    #[error("its notes no longer have the record of this installation")]
    Gone,
    #[error("it was rolled back to a snapshot or restored from a backup during this run")]
    RolledBack,
    #[error("its record is that of another VM")]
    OtherVm,
    #[error("its record is that of another installation")]
    OtherInstallation,
    #[error("another run of the play has taken it over")]
    TakenOver,
    #[error("its phase is {0} by now")]
    Phase(Phase),
}

impl Error {
    pub fn cut_off(node: &str, vmid: u32, lock: &str) -> Self {
        Self::CutOff {
            object: format!("VM {vmid}"),
            node: node.to_owned(),
            vmid,
            lock: lock.to_owned(),
        }
    }

    pub fn not_running(vm: &State) -> Self {
        Self::NotRunning {
            object: vm.object(),
            status: vm.status.clone(),
        }
    }

    fn kind(&self) -> FailureKind {
        match self {
            Self::InvalidOptions(_) => FailureKind::InvalidOption,
            Self::Refused { .. } | Self::HardwareRefused { .. } | Self::DiskOfAnother { .. } => {
                FailureKind::Refused
            }
            Self::RootOnly { .. } => FailureKind::RootOnly,
            Self::NotFound { .. } => FailureKind::NotFound,
            Self::AmbiguousName { .. }
            | Self::TwoOfThisName { .. }
            | Self::AmbiguousTemplate { .. } => FailureKind::Ambiguous,
            Self::NameDiffers { .. } => FailureKind::NameDiffers,
            Self::NameTaken { .. } => FailureKind::NameTaken,
            Self::Template { .. } => FailureKind::Template,
            Self::Invisible { .. } | Self::TagsNotAllowed { .. } => FailureKind::PermissionDenied,
            Self::Appeared { .. } => FailureKind::Exists,
            Self::MadeByOthersToo { .. } | Self::DisksMovedBack { .. } => FailureKind::Conflict,
            Self::Record {
                problem: RecordProblem::TakenOver,
                ..
            } => FailureKind::TakenOver,
            Self::Tags { .. }
            | Self::MissingWithTag { .. }
            | Self::Gone { .. }
            | Self::Recorded { .. }
            | Self::Record { .. } => FailureKind::Guarded,
            Self::NoNodeOnline | Self::NoNodeFits(_) | Self::NoSuchNode { .. } => {
                FailureKind::NoNode
            }
            Self::NodeOffline { .. } | Self::NodesOffline(_) => FailureKind::NodeOffline,
            Self::NoVmid { .. } => FailureKind::NoVmid,
            Self::NoStorage { .. } => FailureKind::NoStorage,
            Self::StorageDown { .. } | Self::StorageContent { .. } => FailureKind::StorageUnusable,
            Self::NoIso { .. } => FailureKind::NoIso,
            Self::NoBridge { .. } => FailureKind::NoBridge,
            Self::Cpu(_) => FailureKind::InvalidParameter,
            Self::UnexpectedList { .. } => FailureKind::UnexpectedAnswer,
            Self::NotATemplate { .. } | Self::NoTemplate { .. } => FailureKind::NoTemplate,
            Self::CutOff { .. } => FailureKind::CutOff,
            Self::CannotMigrate { .. } => FailureKind::CannotMigrate,
            Self::NoShutdown { .. } => FailureKind::Timeout,
            Self::RunningTemplate { .. } | Self::RunningNotRemoved { .. } => FailureKind::Running,
            Self::Protected { .. } => FailureKind::Protected,
            Self::Installing { .. } => FailureKind::Installing,
            Self::NoNic { .. } | Self::NoAgent { .. } | Self::NotRunning { .. } => {
                FailureKind::NoAddress
            }
        }
    }

    fn object(&self) -> Option<String> {
        match self {
            Self::InvalidOptions(_)
            | Self::NoNodeOnline
            | Self::NoNodeFits(_)
            | Self::NodesOffline(_)
            | Self::NoVmid { .. }
            | Self::UnexpectedList { .. }
            | Self::DisksMovedBack { .. } => None,
            Self::NameDiffers { vmid, .. } | Self::Template { vmid, .. } => Some(vmid.to_string()),
            Self::Cpu(_) => Some("cpu".into()),
            Self::RootOnly { keys: object, .. }
            | Self::AmbiguousName { name: object, .. }
            | Self::NameTaken { name: object, .. }
            | Self::TwoOfThisName { name: object, .. }
            | Self::AmbiguousTemplate { name: object, .. }
            | Self::TagsNotAllowed { object, .. }
            | Self::NodeOffline { node: object, .. }
            | Self::NoSuchNode { node: object, .. }
            | Self::NoStorage {
                storage: object, ..
            }
            | Self::StorageDown {
                storage: object, ..
            }
            | Self::StorageContent {
                storage: object, ..
            }
            | Self::NoIso { iso: object, .. }
            | Self::NoBridge {
                missing: object, ..
            }
            | Self::Refused { object, .. }
            | Self::HardwareRefused { object, .. }
            | Self::DiskOfAnother { object, .. }
            | Self::NotFound { object, .. }
            | Self::Invisible { object, .. }
            | Self::Appeared { object }
            | Self::MadeByOthersToo { object, .. }
            | Self::Tags { object, .. }
            | Self::MissingWithTag { object, .. }
            | Self::Gone { object }
            | Self::Recorded { object }
            | Self::Record { object, .. }
            | Self::NotATemplate { object, .. }
            | Self::NoTemplate { object }
            | Self::CutOff { object, .. }
            | Self::CannotMigrate { object, .. }
            | Self::NoShutdown { object, .. }
            | Self::RunningTemplate { object, .. }
            | Self::Protected { object, .. }
            | Self::RunningNotRemoved { object, .. }
            | Self::Installing { object, .. }
            | Self::NoNic { object, .. }
            | Self::NoAgent { object }
            | Self::NotRunning { object, .. } => Some(object.clone()),
        }
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

/// `VMID on NODE`.
pub fn location(seen: &Seen) -> String {
    format!("{} on {}", seen.vm.vmid, seen.node)
}

fn also(name: &impl Display, other: Option<&str>) -> String {
    other
        .map(|other| format!("; {name} is VM {other}"))
        .unwrap_or_default()
}

fn or_none(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}
