//! The values of variables that are not plain ones.

use std::path::PathBuf;

use ansible_module::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How a new machine gets its system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// It boots an installer ISO, and nixos-anywhere installs O(settings.flake).
    #[default]
    Installer,
    /// Its boot disk is a copy of a disk image that has the system, with cloud-init: see O(settings.disk_image). The controller need not
    /// reach the machine before it runs that system.
    Image,
}

/// Where the disk image comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DiskImageSource {
    /// A file on the controller.
    #[default]
    Path,
    /// An address, which the node downloads.
    Url,
    /// Nix on the controller builds it from a NixOS configuration.
    Build,
}

/// Where the installer ISO comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InstallerSource {
    /// A file on the controller.
    #[default]
    Path,
    /// An address, which the node downloads.
    Url,
    /// Nix on the controller builds it.
    Build,
    /// A file of a release on GitHub, through the controller and straight onto the storage.
    Release,
}

/// What an installed machine shall be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Power {
    /// It runs.
    #[default]
    Started,
    /// It is shut down.
    Stopped,
}

/// When a finished machine is restarted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Never: changes that need it are reported as pending.
    #[default]
    Never,
    /// When Proxmox VE holds changes back until then.
    IfNeeded,
}

/// What becomes of the cloud-init drive after the installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cloudinit {
    /// It is removed, with all that Proxmox VE keeps for it. The default with O(settings.method=installer).
    Remove,
    /// The system keeps a drive with its addresses and O(settings.authorized_keys), and without private keys. The default with
    /// O(settings.method=image), where it is a seed ISO; otherwise it is a drive of Proxmox VE's own kind.
    Keep,
}

/// How the NixOS configuration gets the facts of the inventory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SystemFacts {
    /// It does not: the flake alone says what is installed.
    #[default]
    None,
    /// The flake is built through another one, in O(settings.state_dir), which passes them to a configuration that has
    /// C(nixosModules.guest). Any other configuration is built as it is. Requires O(settings.build_on=local). Nix does not apply the
    /// C(nixConfig) of a flake that is built so.
    Wrapper,
    /// They are written to O(settings.system_facts_file), which the flake reads.
    File,
}

/// An SSH host key of the installed system.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub struct SshHostKey {
    /// The private key in OpenSSH's format, without a passphrase.
    pub private: Option<Secret>,
    /// The public key. Needed only to finish an installation whose record does not have it.
    pub public: Option<String>,
}

/// What becomes of the SSH host key of a machine that is installed anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReinstallHostKey {
    /// The new system gets it, unless O(settings.ssh_host_key) or O(settings.host_keys_dir) has another: it is read from the running machine.
    #[default]
    Keep,
    /// The new system gets a new one.
    New,
}

/// A kind of SSH host key.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum KeyType {
    /// Ed25519.
    Ed25519,
    /// RSA with 4096 bits.
    Rsa,
    /// ECDSA on the curve P-256.
    Ecdsa,
}

impl KeyType {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ed25519, Self::Rsa, Self::Ecdsa];

    /// The name that `ssh-keygen -t` and the names of host key files have.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::Rsa => "rsa",
            Self::Ecdsa => "ecdsa",
        }
    }
}

/// A file for the installed system.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct ExtraFile {
    /// Absolute path in the new system.
    pub path: String,
    /// Its content, which is a secret. A dict or list is written as JSON.
    #[schemars(extend("x-ansible" = {"no_log": true}))]
    pub content: Option<Value>,
    /// A file on the controller to copy.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub src: Option<PathBuf>,
    /// Its mode, in octal and quoted.
    pub mode: Option<String>,
    /// Its owner there, best in numbers. Default is root.
    pub owner: Option<String>,
}

/// A key for disk encryption.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
pub struct DiskKey {
    /// Where disko expects it on the installer.
    pub remote: String,
    /// The file on the controller.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub local: PathBuf,
}
