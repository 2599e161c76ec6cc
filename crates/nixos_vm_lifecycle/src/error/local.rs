//! What fails on the controller: files, keys and programs.

use std::io;
use std::path::PathBuf;

use ansible_module::FailureKind;

use crate::options::KeyType;

/// Something on the controller that cannot be read, written or run.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    // Files.
    #[error("{}: cannot {doing} it: {error}", path.display())]
    State {
        /// What was to be done with it, in the infinitive: `make`, `read`, `lock`.
        doing: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    #[error("{}: cannot be written: {error}", path.display())]
    KnownHosts { path: PathBuf, error: io::Error },
    #[error("nixos_vm_system_facts_file: cannot write {}: {error}", path.display())]
    FactsFile { path: PathBuf, error: io::Error },
    #[error("cannot make a temporary directory: {0}")]
    TemporaryDirectory(io::Error),
    #[error("cannot compare this host with the play's others: {0}")]
    Claims(io::Error),
    #[error("nixos_vm_installer_iso: file {} does not exist on the controller", path.display())]
    NoInstallerIso {
        /// As the variable has it.
        given: String,
        path: PathBuf,
    },

    // Keys. `origin` is the variable or the file that a key comes from.
    #[error("cannot hold a private key in memory: {0}")]
    KeyInMemory(io::Error),
    #[error("{}", .0.join("; "))]
    HostKeys(Vec<String>),
    #[error("{origin}: is not a private key that OpenSSH can use")]
    UnusableKey { origin: String },
    #[error("{origin}: a key of the type {kind} cannot be a host key here")]
    UnsupportedKey { origin: String, kind: String },
    #[error("{origin}: is a key of the type {}, and its name says {}", found.name(), expected.name())]
    OtherKeyType {
        origin: String,
        found: KeyType,
        expected: KeyType,
    },

    // Programs.
    #[error("ssh-keygen: cannot {what}: {error}")]
    NoKeygen { what: String, error: io::Error },
    #[error("ssh-keygen: cannot {what}: {said}")]
    Keygen { what: String, said: String },
    #[error("ansible-vault: cannot encrypt the host key: {0}")]
    NoVault(io::Error),
    #[error("ansible-vault: cannot encrypt the host key: {said}")]
    Vault {
        /// Its last line.
        said: String,
    },
    #[error("nixos_vm_installer_flake: {flake} was not built: {why}")]
    InstallerNotBuilt { flake: String, why: String },
    #[error("nixos_vm_disk_image: {given} is not a file on the controller (looked for {})", path.display())]
    NoDiskImage { given: String, path: PathBuf },
    #[error(
        "nixos_vm_disk_image: {} is the image of a disk of {image} bytes, and {disk_key} is to have {disk}",
        path.display()
    )]
    DiskImageTooLarge {
        path: PathBuf,
        image: u64,
        disk_key: String,
        disk: u64,
    },
    #[error("nixos_vm_disk_image_flake: is required to build the disk image")]
    NoDiskImageFlake,
    #[error("nixos_vm_disk_image_flake: {attribute} was not built: {why}")]
    DiskImageNotBuilt { attribute: String, why: String },
}

impl LocalError {
    pub(super) fn kind(&self) -> FailureKind {
        match self {
            Self::State { .. }
            | Self::KnownHosts { .. }
            | Self::FactsFile { .. }
            | Self::TemporaryDirectory(_)
            | Self::Claims(_)
            | Self::NoInstallerIso { .. }
            | Self::NoDiskImage { .. }
            | Self::KeyInMemory(_) => FailureKind::File,
            Self::DiskImageTooLarge { .. } | Self::NoDiskImageFlake => FailureKind::InvalidOption,
            Self::HostKeys(_)
            | Self::UnusableKey { .. }
            | Self::UnsupportedKey { .. }
            | Self::OtherKeyType { .. } => FailureKind::PrivateKey,
            Self::NoKeygen { .. } | Self::NoVault(_) => FailureKind::ToolMissing,
            Self::Keygen { .. } | Self::Vault { .. } => FailureKind::ToolFailed,
            Self::InstallerNotBuilt { .. } | Self::DiskImageNotBuilt { .. } => FailureKind::Build,
        }
    }

    pub(super) fn object(&self) -> Option<String> {
        match self {
            Self::State { path, .. }
            | Self::KnownHosts { path, .. }
            | Self::FactsFile { path, .. } => Some(path.display().to_string()),
            Self::NoInstallerIso { given, .. } | Self::NoDiskImage { given, .. } => {
                Some(given.clone())
            }
            Self::DiskImageTooLarge { path, .. } => Some(path.display().to_string()),
            Self::DiskImageNotBuilt { attribute, .. } => Some(attribute.clone()),
            Self::UnusableKey { origin }
            | Self::UnsupportedKey { origin, .. }
            | Self::OtherKeyType { origin, .. } => Some(origin.clone()),
            Self::InstallerNotBuilt { flake, .. } => Some(flake.clone()),
            Self::TemporaryDirectory(_)
            | Self::Claims(_)
            | Self::KeyInMemory(_)
            | Self::HostKeys(_)
            | Self::NoDiskImageFlake
            | Self::NoKeygen { .. }
            | Self::Keygen { .. }
            | Self::NoVault(_)
            | Self::Vault { .. } => None,
        }
    }

    /// What to do next.
    pub(super) fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::State { .. } => "nixos_vm_state_root must be a directory that you may write to",
            Self::KnownHosts { .. } => "nixos_vm_known_hosts must be a file that you may write to",
            Self::Claims(_) => "make XDG_RUNTIME_DIR or ~/.cache a directory that you may write to",
            Self::NoInstallerIso { .. } => {
                "have it built (nixos_vm_installer_source: build) or downloaded (url or release)"
            }
            Self::NoDiskImage { .. } => {
                "give its path, have it built (nixos_vm_disk_image_source: build), or downloaded (url)"
            }
            Self::DiskImageTooLarge { .. } => {
                "describe a larger disk; nixos_vm_disk_size is in GiB"
            }
            Self::NoDiskImageFlake => {
                "write URI#NAME there, or in nixos_vm_flake, for example github:me/infra#fleet"
            }
            Self::DiskImageNotBuilt { .. } => {
                "the NixOS configuration needs an image of that variant (nixos_vm_disk_image_variant), as `nixos-rebuild build-image` \
                 lists them; without Nix on the controller give an image with nixos_vm_disk_image_source: path or url"
            }
            Self::UnusableKey { .. } | Self::UnsupportedKey { .. } | Self::OtherKeyType { .. } => {
                "give a private key in OpenSSH's format without a passphrase (ssh-keygen -t ed25519 -N '')"
            }
            Self::NoKeygen { .. } => "install OpenSSH's client on the controller",
            Self::NoVault(_) => "add the directory of ansible-playbook to PATH",
            Self::Vault { .. } => "check nixos_vm_host_keys_vault_password_file",
            Self::InstallerNotBuilt { .. } => {
                "without Nix on the controller give an image with nixos_vm_installer_source: path, url or release; for another \
                 architecture name a machine that builds it in nixos_vm_installer_builders"
            }
            Self::FactsFile { .. }
            | Self::TemporaryDirectory(_)
            | Self::KeyInMemory(_)
            | Self::HostKeys(_)
            | Self::Keygen { .. } => return None,
        };
        Some(hint.to_owned())
    }

    /// The text with what to do next, as one of several mistakes.
    pub fn mistake(&self) -> String {
        match self.hint() {
            Some(hint) => format!("{self}; {hint}"),
            None => self.to_string(),
        }
    }
}
