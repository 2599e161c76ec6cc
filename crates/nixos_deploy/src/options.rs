//! The options of `nixos_deploy`. Their doc comments are the module's documentation.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The options of the module.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Options {
    /// Host name or address of the machine, without user, port or scheme. It must not be an alias that only C(~/.ssh/config) knows.
    pub host: String,

    /// The machine's SSH port.
    #[serde(default = "defaults::port")]
    pub port: u16,

    /// The user to log in as. Another user than V(root) needs C(sudo) without a password, and must be one of the machine's
    /// C(nix.settings.trusted-users).
    #[serde(default = "defaults::user")]
    pub user: String,

    /// The private key to log in with, without a passphrase. Without it, the SSH agent at C(SSH_AUTH_SOCK) is asked.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub private_key_file: Option<PathBuf>,

    /// The machine's public host keys (C(ssh-ed25519 AAAA...)). A machine that shows none of them is refused before anything is sent to
    /// it.
    #[schemars(length(min = 1))]
    pub host_keys: Vec<String>,

    /// The jump host that the machine is reached through, V(USER@HOST:PORT) as in M(nixos_anywhere_install). The copy, the activation and
    /// its confirmation go through it.
    pub jump_host: Option<String>,

    /// The public host keys of the jump hosts, as in M(nixos_anywhere_install). Without them, the C(known_hosts) of the user that runs Ansible
    /// has to know the jump hosts.
    #[serde(default)]
    pub jump_host_keys: Vec<String>,

    /// The private key to log in to the jump hosts with, as in M(nixos_anywhere_install).
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub jump_host_private_key_file: Option<PathBuf>,

    /// The configuration to deploy, C(URI#NAME). NAME stands for C(nixosConfigurations.NAME). It is built on the controller. A relative
    /// path counts from the directory that C(ansible-playbook) runs in.
    pub flake: Option<String>,

    /// Inputs of O(flake) that are taken from elsewhere for this build, as in M(nixos_anywhere_install).
    #[serde(default)]
    pub override_inputs: BTreeMap<String, String>,

    /// Deploy this system, which is in the controller's store, instead of a flake.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub store_path: Option<PathBuf>,

    /// Deploy a system that the machine has already: the number of a generation, or V(previous) for the newest one before the present one.
    pub generation: Option<String>,

    /// What to do with the system.
    #[serde(default)]
    pub action: Action,

    /// Whether to restart the machine.
    #[serde(default)]
    pub reboot: Reboot,

    /// How long the machine may take to answer after its restart, in seconds.
    #[serde(default = "defaults::reboot_timeout")]
    pub reboot_timeout: u64,

    /// How long the activation may take on the machine, in seconds. After that the old system is put back.
    #[serde(default = "defaults::activation_timeout")]
    pub activation_timeout: u64,

    /// How long the machine waits, in seconds, for the controller to log in again once the new system is activated. After that the old
    /// system is put back.
    #[serde(default = "defaults::confirm_timeout")]
    pub confirm_timeout: u64,

    /// A directory in which C(nix) is looked for first.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub tools_path: Option<PathBuf>,

    /// Settings for every C(nix) command, by their names in C(nix.conf), as in M(nixos_anywhere_install).
    #[serde(default)]
    pub nix_options: BTreeMap<String, Value>,

    /// Have Nix say where in the configuration an error of evaluation comes from.
    #[serde(default)]
    pub show_trace: bool,

    /// Whether the machine fetches what it can from binary caches itself, instead of getting all from the controller.
    #[serde(default = "defaults::yes")]
    pub substitute_on_destination: bool,

    /// A file for the whole output of C(nix). It is made anew, with mode 0600.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub log_path: Option<PathBuf>,

    /// A file that gets JSON lines while it happens, as in M(nixos_anywhere_install).
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub progress_path: Option<PathBuf>,

    /// How long the whole task may take, in seconds.
    #[serde(default = "defaults::timeout")]
    pub timeout: u64,
}

/// What to do with the system, by the names of C(nixos-rebuild).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Activate it, and boot it from now on.
    #[default]
    Switch,
    /// Boot it from now on. What runs is not changed.
    Boot,
    /// Activate it. The next boot starts the old one.
    Test,
    /// Report what the activation would do. Nothing is changed, except that the system is copied to the machine.
    DryActivate,
}

/// Whether to restart the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reboot {
    /// Report RV(reboot_required) only.
    #[default]
    Never,
    /// If the kernel, its modules or the initrd of the running system are not those that the next boot would start; with
    /// O(action=boot), also if that is another system.
    IfNeeded,
}

mod defaults {
    pub fn port() -> u16 {
        22
    }

    pub fn user() -> String {
        "root".into()
    }

    pub fn activation_timeout() -> u64 {
        600
    }

    pub fn reboot_timeout() -> u64 {
        600
    }

    pub fn confirm_timeout() -> u64 {
        120
    }

    pub fn yes() -> bool {
        true
    }

    pub fn timeout() -> u64 {
        3600
    }
}
