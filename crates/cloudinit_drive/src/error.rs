//! Why the module refuses or gives up a task. Failures of the API come from `pve_module`.

use std::path::PathBuf;

use ansible_module::{Failure, FailureKind};

use crate::options::Kind;

/// A failure of the module's own.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("drive: must be ide0 to ide3, sata0 to sata5 or scsi0 to scsi30 (got {0:?})")]
    InvalidDrive(String),
    #[error("drive: VM {vmid} is an aarch64 machine, which has no IDE (got {drive})")]
    NoIde { vmid: u32, drive: String },
    #[error("drive: VM {vmid} has no free SCSI drive")]
    NoFreeDrive { vmid: u32 },
    #[error("storage: is required with state=present")]
    StorageRequired,

    /// An option of the other kind of drive.
    #[error("{option} does not go with kind={}; it is an option of kind={}", word(*kind), word(other(*kind)))]
    OtherKind { option: &'static str, kind: Kind },
    #[error("parameters are mutually exclusive: network_config|ipconfig")]
    NetworkTwice,
    #[error("{option}: needs ipconfig, which says for which NIC")]
    NeedsIpconfig { option: &'static str },
    #[error("ipconfig: must be ipconfig0 to ipconfig31 (got {0:?})")]
    InvalidIpconfig(String),
    #[error("{key} is for {nic}, which VM {vmid} does not have")]
    NoSuchNic { key: String, nic: String, vmid: u32 },
    #[error("{nic} of VM {vmid} has no MAC address: {value}")]
    NoMac {
        nic: String,
        vmid: u32,
        /// The NIC in the VM's configuration.
        value: String,
    },
    #[error("nameservers: {0:?} is not an IP address")]
    InvalidNameserver(String),

    #[error("{option}: holds a private key; give the public one")]
    PrivateKey { option: &'static str },
    #[error("{option}: {what} {number} {problem}", what = if *option == "sshkeys" { "line" } else { "key" })]
    InvalidKey {
        option: &'static str,
        /// Counted from 1.
        number: usize,
        problem: String,
    },
    #[error("{option} needs either private or private_file")]
    NoPrivateHostKey { option: String },
    #[error("{option} takes public or public_file, not both")]
    TwoPublicHostKeys { option: String },
    #[error("{option}: {} holds the public key of another key than {}", public.display(), private.display())]
    OtherPublicHostKey {
        option: String,
        private: PathBuf,
        public: PathBuf,
    },
    #[error("cannot read {} for {option}: {source}", path.display())]
    Unreadable {
        option: String,
        path: PathBuf,
        source: std::io::Error,
    },
    /// What the seed cannot be made of.
    #[error(transparent)]
    Seed(#[from] nocloud_seed::Error),

    /// It does not show the value.
    #[error("cipassword: {0}")]
    InvalidPassword(&'static str),
    #[error("cannot hash the password: {0}")]
    Hash(String),

    #[error("VM {vmid} does not exist")]
    VmNotFound { vmid: u32 },
    #[error("storage {storage} cannot be used for {content} on node {node}")]
    StorageUnusable {
        storage: String,
        node: String,
        /// What it would have to hold, in words.
        content: &'static str,
        /// The storages that can be used for it.
        usable: Vec<String>,
    },
    #[error("{drive} of VM {vmid} is not a cloud-init drive, it holds {value}")]
    InUse {
        vmid: u32,
        drive: String,
        value: String,
    },
    #[error("VM {vmid} is protected, so Proxmox VE does not remove its drive {drive}")]
    Protected { vmid: u32, drive: String },
    #[error(
        "VM {vmid}: cicustom has a {what} of its own ({part}={file}), so Proxmox VE does not use {unused}"
    )]
    Custom {
        vmid: u32,
        /// `user` or `network`, and what it replaces.
        part: &'static str,
        what: &'static str,
        file: String,
        /// The options that PVE ignores.
        unused: String,
    },
}

impl Error {
    fn kind(&self) -> FailureKind {
        match self {
            Self::NoMac { .. } => FailureKind::UnexpectedAnswer,
            Self::Unreadable { .. } => FailureKind::File,
            Self::Hash(_) => FailureKind::Internal,
            Self::VmNotFound { .. } => FailureKind::NotFound,
            Self::StorageUnusable { .. } => FailureKind::StorageUnusable,
            Self::InUse { .. } => FailureKind::InUse,
            Self::Protected { .. } => FailureKind::Protected,
            Self::Custom { .. } => FailureKind::Refused,
            _ => FailureKind::InvalidOption,
        }
    }

    fn object(&self) -> Option<String> {
        match self {
            Self::NoIde { vmid, .. } | Self::NoFreeDrive { vmid } => {
                Some(format!("VM {vmid} drive"))
            }
            Self::VmNotFound { vmid } | Self::Protected { vmid, .. } => Some(format!("VM {vmid}")),
            Self::InUse { vmid, drive, .. } => Some(format!("VM {vmid} {drive}")),
            Self::Custom { vmid, .. } => Some(format!("VM {vmid} cicustom")),
            Self::StorageUnusable { storage, .. } => Some(storage.clone()),
            Self::Unreadable { path, .. } | Self::OtherPublicHostKey { private: path, .. } => {
                Some(path.display().to_string())
            }
            _ => None,
        }
    }

    /// What to do next.
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoIde { .. } => "set drive: scsi1, or leave it out".into(),
            Self::OtherKind {
                option: "sshkeys", ..
            } => "give ssh_authorized_keys, which goes with both kinds".into(),
            Self::NeedsIpconfig { .. } => {
                "give ipconfig, for example {ipconfig0: 'ip=dhcp'}, or put it into network_config".into()
            }
            Self::NoSuchNic { nic, .. } => {
                format!("give the VM a NIC {nic}, or name the NIC that it has")
            }
            Self::OtherPublicHostKey { private, .. } => format!(
                "restore the file that is wrong, or write the public key anew: ssh-keygen -y -f {0} > {0}.pub",
                private.display()
            ),
            Self::VmNotFound { .. } => {
                "create it first (proxmox_nixos_vm), or check vmid and that the API user has VM.Audit on it".into()
            }
            Self::StorageUnusable {
                node,
                content,
                usable,
                ..
            } => {
                let usable = match usable.as_slice() {
                    [] => format!("no storage that node {node} can use now allows {content}"),
                    some => format!(
                        "storages for {content} that node {node} can use now: {}",
                        some.join(", ")
                    ),
                };
                format!(
                    "{usable}; a storage is missing from that list if it is disabled, not active, does not allow {content} \
                     (Datacenter, Storage, Content), or if the API user lacks Datastore.Audit on it"
                )
            }
            Self::InUse { .. } => {
                "choose another drive, or remove this one first (proxmox_nixos_vm with remove_disks)".into()
            }
            Self::Protected { .. } => "set protection: false first (proxmox_nixos_vm)".into(),
            Self::Custom { unused, .. } => format!(
                "remove cicustom (config in proxmox_nixos_vm; state: absent here removes it too), or leave {unused} out"
            ),
            _ => return None,
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

/// A kind as the option takes it.
fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Nocloud => "nocloud",
        Kind::Native => "native",
    }
}

fn other(kind: Kind) -> Kind {
    match kind {
        Kind::Nocloud => Kind::Native,
        Kind::Native => Kind::Nocloud,
    }
}
