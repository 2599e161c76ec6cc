//! The module's options. Their doc comments are its documentation.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::files::content::Content;

/// Everything a task may say.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Options {
    /// Host name or address of the machine, without user, port or scheme. It must not be an alias
    /// that only C(~/.ssh/config) knows. O(state=built) needs none.
    pub host: Option<String>,
    /// The machine's SSH port.
    #[serde(default = "defaults::port")]
    pub port: u16,
    /// The user to log in as. The installer lets another user than V(root) install only if it has
    /// C(sudo) without a password.
    #[serde(default = "defaults::user")]
    pub user: String,
    /// The private key to log in with, without a passphrase. Without it, the SSH agent at
    /// C(SSH_AUTH_SOCK) is asked.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub private_key_file: Option<PathBuf>,
    /// The installer's public host keys (C(ssh-ed25519 AAAA...)). A machine that shows none of
    /// O(host_keys) and O(installed_host_keys) is refused before anything is sent to it.
    #[serde(default)]
    pub host_keys: Vec<String>,
    /// The installed system's public host keys.
    #[serde(default)]
    pub installed_host_keys: Vec<String>,
    /// The user to log in as on the installed system. Default is O(user).
    pub installed_user: Option<String>,
    /// The private key to log in with on the installed system. Default is O(private_key_file).
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub installed_private_key_file: Option<PathBuf>,
    /// The jump host that the machine is reached through, V(USER@HOST:PORT) as C(ProxyJump) of OpenSSH takes it; user and port may be left out. An IPv6 address is in
    /// brackets, several jump hosts with commas between, the first one first. Everything goes through it: looking, installing, copying,
    /// waiting. C(ssh) of the controller connects to it, so that a host may be an alias of C(~/.ssh/config). The key that logs in to the
    /// machine is not offered to a jump host, and no agent is forwarded.
    pub jump_host: Option<String>,
    /// The public host keys of the jump hosts, as lines of C(known_hosts) (C(bastion ssh-ed25519 AAAA...)). With one jump host, C(HOST) may be
    /// left out. Without this option, the C(known_hosts) of the user that runs Ansible has to know them. A jump host that shows another key is
    /// refused before anything is sent to it.
    #[serde(default)]
    pub jump_host_keys: Vec<String>,
    /// The private key to log in to the jump hosts with, without a passphrase. Without it, C(ssh) takes what it takes in a terminal: an agent,
    /// C(~/.ssh/config), the default keys.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub jump_host_private_key_file: Option<PathBuf>,
    /// What to do, or to look at.
    #[serde(default)]
    pub state: State,
    /// With O(state=probed), wait until the machine is this.
    #[serde(default)]
    pub expect: Expect,
    /// The configuration to install, C(URI#NAME). NAME stands for C(nixosConfigurations.NAME); it may
    /// contain dots, and quotes around it are left out. A relative path counts from the directory
    /// that C(ansible-playbook) runs in.
    pub flake: Option<String>,
    /// Inputs of O(flake) that are taken from elsewhere for this build, by their names: flake references, as C(--override-input) of
    /// Nix takes them. Requires a build on the controller.
    #[serde(default)]
    pub override_inputs: BTreeMap<String, String>,
    /// Install these store paths, built elsewhere or by O(state=built), instead of a flake.
    pub store_paths: Option<StorePaths>,
    /// A directory in which C(nix) and C(nixos-anywhere) are looked for first.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub tools_path: Option<PathBuf>,
    /// The nixos-anywhere to run: a name to look up, or a path. When it is V(nixos-anywhere) and
    /// not found, Nix runs the one of O(nixos_anywhere_flake).
    #[serde(default = "defaults::nixos_anywhere")]
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub nixos_anywhere: PathBuf,
    /// A flake that has nixos-anywhere, for C(nix run), where it is not installed. The default is the
    /// revision whose behaviour this module is written for. Empty: nixos-anywhere has to be installed.
    #[serde(default = "defaults::nixos_anywhere_flake")]
    pub nixos_anywhere_flake: String,
    /// The phases of nixos-anywhere to run. V(install) without V(disko) needs a file system mounted at
    /// C(/mnt) on the installer; it is left mounted unless V(install) runs. V(reboot) is not among the defaults, because a machine
    /// whose ISO is still attached may boot the installer again.
    #[serde(default = "defaults::phases")]
    pub phases: Vec<Phase>,
    /// Where the configuration is built.
    #[serde(default)]
    pub build_on: BuildOn,
    /// Which of disko's scripts to run. V(mount) keeps what is on the disks.
    #[serde(default)]
    pub disko_mode: DiskoMode,
    /// Whether disko's script brings the tools that it needs along. Without, the installer must
    /// have them, and less is copied to it.
    #[serde(default = "defaults::yes")]
    pub disko_deps: bool,
    /// A directory whose content is copied to the root of the installed system. Its files belong
    /// to root there; modes are kept. Symbolic links are copied as links and never followed. A
    /// relative path counts from the directory that C(ansible-playbook) runs in.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub extra_files_dir: Option<PathBuf>,
    /// Single files for the installed system, over those of O(extra_files_dir). A path below a
    /// directory that is a symbolic link in O(extra_files_dir) is refused.
    #[serde(default)]
    pub extra_files: Vec<ExtraFile>,
    /// Files that disko needs to encrypt disks, put on the installer just before it runs.
    #[serde(default)]
    pub disk_encryption_keys: Vec<DiskKey>,
    /// Give the installed system the host keys of the installer.
    #[serde(default)]
    pub copy_host_keys: bool,
    /// Write the machine's hardware configuration to a local file before building. The flake is
    /// then built by nixos-anywhere, not before it.
    pub generate_hardware_config: Option<HardwareConfig>,
    /// The kexec installer to use with O(allow_kexec): a path or URL.
    pub kexec: Option<String>,
    /// Boot the kexec installer even if the machine runs an installer already, for example one that lacks a driver. The kexec
    /// installer must keep the machine's host keys, as the default one does. Requires V(kexec) among the O(phases).
    #[serde(default)]
    pub force_kexec: bool,
    /// More flags for C(kexec).
    pub kexec_extra_flags: Option<String>,
    /// The SSH port of the machine after a kexec.
    #[serde(default = "defaults::port")]
    pub post_kexec_port: u16,
    /// How every C(ssh) that nixos-anywhere starts speaks, as C(ssh_config) names it: V(AddressFamily), V(BindAddress),
    /// V(BindInterface), V(Ciphers), V(Compression), V(ConnectTimeout), V(ConnectionAttempts), V(HostKeyAlgorithms), V(IPQoS),
    /// V(KexAlgorithms), V(MACs) or V(PubkeyAcceptedAlgorithms). A list of algorithms is joined with commas. This module's own
    /// logins go without them. V(ProxyJump) is another name of O(jump_host), and holds for everything.
    #[serde(default)]
    pub ssh_options: BTreeMap<String, Value>,
    /// Settings for every C(nix) command, by their names in C(nix.conf). A list becomes words separated
    /// by blanks, a boolean becomes V(true) or V(false). They are appended to the environment variable C(NIX_CONFIG),
    /// which other users cannot read. Secrets in them (access tokens, passwords in URLs) are masked in all output except O(log_path).
    /// Some are passed as C(--option) instead, which process lists show: values that a line of C(nix.conf) cannot hold (with a
    /// C(#), for example), and, if O(generate_hardware_config) has the backend V(nixos-facter), all of them for nixos-anywhere. Such a
    /// setting is refused if it has a secret.
    #[serde(default)]
    pub nix_options: BTreeMap<String, Value>,
    /// Settings of the SSH store that the system is copied to, such as V(compress). Booleans and
    /// lists are written as in O(nix_options).
    #[serde(default)]
    pub ssh_store_settings: BTreeMap<String, Value>,
    /// Whether the machine fetches what it can from binary caches itself, instead of getting all
    /// from the controller.
    #[serde(default = "defaults::yes")]
    pub substitute_on_destination: bool,
    /// Whether the binary caches of the configuration are used for its installation already.
    #[serde(default = "defaults::yes")]
    pub use_machine_substituters: bool,
    /// Have nixos-anywhere write the output of builders to its log too.
    #[serde(default)]
    pub print_build_logs: bool,
    /// Have Nix say where in the configuration an error of evaluation comes from.
    #[serde(default)]
    pub show_trace: bool,
    /// Have nixos-anywhere write each of its commands to the log. No key is among them, since keys
    /// are handed over as files.
    #[serde(default)]
    pub debug: bool,
    /// Install even over an installed NixOS, B(which destroys it). V(kexec) must be among the
    /// O(phases) then.
    #[serde(default)]
    pub force: bool,
    /// Install on a machine that runs another Linux, by booting an installer over it,
    /// B(which destroys it). The installer must keep the machine's host keys, as the default one
    /// does.
    #[serde(default)]
    pub allow_kexec: bool,
    /// With O(state=verified), the store path that the machine must run.
    pub closure: Option<String>,
    /// With O(state=verified), units that failed on the machine are an error instead of a warning.
    #[serde(default)]
    pub fail_on_failed_units: bool,
    /// A file for the whole output of C(nix) and C(nixos-anywhere). It is made anew, with mode
    /// 0600, and keeps at most 64 MiB of output. A task that is given the same file while another one writes it fails and does nothing.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub log_path: Option<PathBuf>,
    /// A file that gets JSON lines while it happens, each with its C(time), C(event) and C(host): a
    /// V(phase) begins (C(phase)) and ends (V(phase_ended), C(seconds)); a program is V(running),
    /// every two seconds (C(phase), C(seconds), C(step)); Nix does something else (V(step), C(step)); the
    /// machine is waited for (V(waiting), C(reason)).
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub progress_path: Option<PathBuf>,
    /// How long the whole task may take, in seconds.
    #[serde(default = "defaults::timeout")]
    pub timeout: u64,
}

impl Options {
    /// The machine's name or address; empty where none is needed.
    pub fn host(&self) -> &str {
        self.host.as_deref().unwrap_or_default()
    }
}

/// What to do, or to look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The machine is reachable, and said what it is. Changes nothing.
    Probed,
    /// The configuration is built on the controller, and all programs that its installation needs
    /// are there. All options of an installation that are given are checked, with the files that they
    /// name. No machine is asked; what the result has as C(store_paths) may be installed later
    /// with O(store_paths). Changes nothing but the Nix store.
    Built,
    /// The configuration is installed. A machine that is installed already is left alone.
    #[default]
    Installed,
    /// The installed system runs. Changes nothing.
    Verified,
}

/// What to wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    /// A NixOS installer.
    Installer,
    /// NixOS that is not an installer.
    Installed,
    /// Whatever answers with a known host key.
    #[default]
    Any,
}

/// A phase of nixos-anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Boot an installer over a system that is none; nothing on an installer.
    Kexec,
    /// Partition and mount the disks.
    Disko,
    /// Copy the system and install it.
    Install,
    /// Unmount and reboot.
    Reboot,
}

impl Phase {
    /// The name that nixos-anywhere knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Kexec => "kexec",
            Phase::Disko => "disko",
            Phase::Install => "install",
            Phase::Reboot => "reboot",
        }
    }
}

/// Where a configuration is built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BuildOn {
    /// On the controller, before the machine is touched.
    #[default]
    Local,
    /// On the machine itself, by nixos-anywhere.
    Remote,
    /// Where nixos-anywhere finds it possible.
    Auto,
}

impl BuildOn {
    /// The word for `--build-on`.
    pub fn name(self) -> &'static str {
        match self {
            BuildOn::Local => "local",
            BuildOn::Remote => "remote",
            BuildOn::Auto => "auto",
        }
    }
}

/// Which of disko's scripts to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DiskoMode {
    /// Wipe, partition, format and mount.
    #[default]
    Disko,
    /// Partition and format what is not yet, and mount.
    Format,
    /// Mount only.
    Mount,
}

impl DiskoMode {
    /// The word for `--disko-mode`; the script's attribute is this with `Script` after it.
    pub fn name(self) -> &'static str {
        match self {
            DiskoMode::Disko => "disko",
            DiskoMode::Format => "format",
            DiskoMode::Mount => "mount",
        }
    }
}

/// A system that is built already.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct StorePaths {
    /// The disko script: C(system.build.diskoScript).
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub disko: PathBuf,
    /// The system: C(system.build.toplevel).
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub system: PathBuf,
}

/// A file for the installed system.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct ExtraFile {
    /// Its absolute path there.
    pub path: String,
    /// A local file to copy. A relative path counts from the directory that C(ansible-playbook)
    /// runs in.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub src: Option<PathBuf>,
    /// Its content. A dict or list becomes JSON, as M(ansible.builtin.copy) writes it.
    pub content: Option<Content>,
    /// Its mode, in octal and quoted.
    #[serde(default = "defaults::mode")]
    pub mode: String,
    /// Its owner, C(USER), C(UID:GID)... as C(chown) takes it; best in numbers, since the
    /// installer does not know the users of the installed system.
    pub owner: Option<String>,
}

/// A key for disk encryption.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct DiskKey {
    /// Where disko expects it on the installer.
    pub remote: String,
    /// The local file, or a pipe. A relative path counts from the directory that
    /// C(ansible-playbook) runs in.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub local: PathBuf,
}

/// How and where to write the hardware configuration.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct HardwareConfig {
    /// The program that makes it.
    pub backend: HardwareBackend,
    /// The local file to write.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub path: PathBuf,
}

/// A program that describes a machine's hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum HardwareBackend {
    /// C(nixos-generate-config).
    #[serde(rename = "nixos-generate-config")]
    GenerateConfig,
    /// C(nixos-facter).
    #[serde(rename = "nixos-facter")]
    Facter,
}

impl HardwareBackend {
    /// The word for `--generate-hardware-config`.
    pub fn name(self) -> &'static str {
        match self {
            HardwareBackend::GenerateConfig => "nixos-generate-config",
            HardwareBackend::Facter => "nixos-facter",
        }
    }
}

mod defaults {
    use std::path::PathBuf;

    use super::Phase;

    pub fn port() -> u16 {
        22
    }

    pub fn user() -> String {
        "root".into()
    }

    pub fn nixos_anywhere() -> PathBuf {
        "nixos-anywhere".into()
    }

    pub fn nixos_anywhere_flake() -> String {
        "github:nix-community/nixos-anywhere/91fc9b70fc295258c366cce8627efb6f185fd9fb".into()
    }

    pub fn yes() -> bool {
        true
    }

    pub fn phases() -> Vec<Phase> {
        vec![Phase::Kexec, Phase::Disko, Phase::Install]
    }

    pub fn mode() -> String {
        "0600".into()
    }

    pub fn timeout() -> u64 {
        3600
    }
}

/// For tests: the options of an installation of `/infra#web1`, with more of them or others.
#[cfg(test)]
pub(crate) fn from_json(more: serde_json::Value) -> Options {
    let mut options = serde_json::json!({"host": "192.0.2.11", "flake": "/infra#web1"});
    for (key, value) in more.as_object().unwrap() {
        options[key] = value.clone();
    }
    serde_json::from_value(options).unwrap()
}
