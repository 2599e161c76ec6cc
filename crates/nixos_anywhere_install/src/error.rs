//! Why the module refuses or gives up a task, beside the mistakes that `preflight` finds in its options.

use std::io;
use std::path::{Path, PathBuf};

use ansible_module::{Failure, FailureKind};
use deadline::Expired;
use guest_ssh::{Error as SshError, JumpProblem};

const CHECK_NIX: &str = "check nix --version: 2.20 or newer is required";

/// A failure of the module's own, or of SSH.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    // The options.
    #[error("flake: {0}")]
    InvalidFlake(String),
    #[error("{option}: {error}")]
    InvalidPublicKey {
        option: String,
        error: guest_ssh::KeyError,
    },
    #[error("{option}: {problem}")]
    InvalidJumpHost {
        option: &'static str,
        problem: String,
    },
    #[error("store_paths: {}: {error}", path.display())]
    StorePath { path: PathBuf, error: io::Error },
    #[error("state verified needs installed_host_keys")]
    NoInstalledHostKeys,

    // Files on the controller.
    #[error("cannot make a private temporary directory: {0}")]
    TemporaryDirectory(io::Error),
    #[error("cannot prepare {what}: {error}")]
    Workspace { what: String, error: io::Error },
    #[error("cannot write the log {}: {error}", path.display())]
    Log { path: PathBuf, error: io::Error },
    #[error("another task is at work here: it writes {}", path.display())]
    LogInUse { path: PathBuf },

    // Programs on the controller.
    #[error("the program {} was not found", program.display())]
    ToolMissing {
        program: PathBuf,
        /// The option that names it.
        option: Option<&'static str>,
        /// Where it was looked for.
        directories: Vec<PathBuf>,
    },
    #[error("cannot start {what}: {error}")]
    CannotStart { what: String, error: io::Error },
    #[error("{what} {end}{phase}: {last}")]
    ToolFailed {
        what: String,
        /// How it ended.
        end: String,
        phase: InPhase,
        /// Its last line.
        last: String,
        status: Option<u16>,
        /// Its last lines.
        output: String,
        hint: &'static str,
        /// It evaluates only.
        evaluates: bool,
    },
    #[error("{what} {end}{phase}, because the connection was lost: {reason}")]
    ConnectionLost {
        what: String,
        end: String,
        phase: InPhase,
        reason: String,
        output: String,
    },
    /// The module ended it, since it had no chance any more.
    #[error("{what} was ended{phase}: {reason}")]
    Stopped {
        what: String,
        phase: InPhase,
        kind: FailureKind,
        reason: String,
        output: String,
        hint: Option<&'static str>,
    },
    #[error("{what} was ended{phase}: {expired}")]
    TimedOut {
        what: String,
        phase: InPhase,
        expired: Expired,
        output: String,
    },
    #[error("{what} named {named} store paths instead of {expected}")]
    StorePathCount {
        what: String,
        named: usize,
        expected: usize,
        output: String,
    },
    #[error("{what} printed no store path")]
    NoStorePath { what: String, output: String },
    #[error("{0} was not built")]
    NotBuilt(String),

    // The machine.
    #[error(transparent)]
    Ssh(#[from] SshError),
    #[error("{host} runs {id} ({name}), not a NixOS installer; nothing was done to it")]
    NotAnInstaller {
        host: String,
        id: String,
        name: String,
    },
    #[error(
        "{host} does not run an installer, and without the phase kexec its disks would be formatted under the running system; \
         nothing was done to it"
    )]
    FormatsRunningSystem { host: String },
    #[error(
        "after a kexec nothing is mounted at /mnt on {host}, to which the phase install would install; nothing was done to it"
    )]
    NothingMountedAfterKexec { host: String },
    #[error(
        "nothing is mounted at /mnt on {address}, to which the phase install would install; nothing was done to it"
    )]
    NothingMounted { address: String, host: String },
    #[error(
        "extra_files: the installer on {address} does not know the {owners}; nothing was done to it"
    )]
    UnknownOwners { address: String, owners: String },
    #[error("another installation runs on {address} (processes {pids}); nothing was done to it")]
    InstallationRuns {
        address: String,
        host: String,
        pids: String,
    },
    #[error("{user} cannot become root on {address}: {reason}; nothing was done to it")]
    CannotBecomeRoot {
        user: String,
        address: String,
        reason: String,
    },
    #[error(
        "nixos-anywhere reported success, but {address} has no installed system under /mnt ({reason})"
    )]
    NotInstalled { address: String, reason: String },
    #[error("{found} was installed instead of {built}")]
    WrongSystem { found: String, built: String },
    #[error("{address} runs, but units failed on it: {}", units.join(", "))]
    FailedUnits {
        address: String,
        host: String,
        units: Vec<String>,
    },
}

/// The phase of nixos-anywhere's in which something happened, if there was one.
#[derive(Debug, Clone)]
pub(crate) struct InPhase(pub(crate) Option<String>);

impl std::fmt::Display for InPhase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(phase) => write!(f, " in the phase \"{phase}\""),
            None => Ok(()),
        }
    }
}

impl Error {
    /// The same failure of a program that only evaluates.
    pub(crate) fn of_evaluation(self) -> Self {
        match self {
            Self::ToolFailed {
                what,
                end,
                phase,
                last,
                status,
                output,
                hint,
                ..
            } => Self::ToolFailed {
                what,
                end,
                phase,
                last,
                status,
                output,
                hint,
                evaluates: true,
            },
            other => other,
        }
    }

    fn kind(&self) -> FailureKind {
        match self {
            Self::InvalidFlake(_)
            | Self::InvalidPublicKey { .. }
            | Self::InvalidJumpHost { .. }
            | Self::StorePath { .. }
            | Self::NoInstalledHostKeys
            | Self::UnknownOwners { .. } => FailureKind::InvalidOption,
            Self::TemporaryDirectory(_) | Self::Workspace { .. } | Self::Log { .. } => {
                FailureKind::File
            }
            Self::LogInUse { .. } | Self::InstallationRuns { .. } => FailureKind::Busy,
            Self::ToolMissing { .. } | Self::CannotStart { .. } => FailureKind::ToolMissing,
            Self::ToolFailed {
                evaluates: true, ..
            }
            | Self::NoStorePath { .. } => FailureKind::Evaluation,
            Self::ToolFailed { .. } => FailureKind::ToolFailed,
            Self::ConnectionLost { .. } => FailureKind::ConnectionLost,
            Self::Stopped { kind, .. } => *kind,
            Self::TimedOut { .. } => FailureKind::Timeout,
            Self::StorePathCount { .. } | Self::NotBuilt(_) => FailureKind::Build,
            Self::Ssh(error) => ssh_kind(error),
            Self::NotAnInstaller { .. }
            | Self::FormatsRunningSystem { .. }
            | Self::NothingMountedAfterKexec { .. }
            | Self::NothingMounted { .. } => FailureKind::Refused,
            Self::CannotBecomeRoot { .. } => FailureKind::PermissionDenied,
            Self::NotInstalled { .. } => FailureKind::NotInstalled,
            Self::WrongSystem { .. } => FailureKind::WrongSystem,
            Self::FailedUnits { .. } => FailureKind::FailedUnits,
        }
    }

    fn object(&self) -> Option<String> {
        match self {
            Self::Log { path, .. } | Self::LogInUse { path } => Some(path.display().to_string()),
            Self::NotAnInstaller { host, .. }
            | Self::FormatsRunningSystem { host }
            | Self::NothingMountedAfterKexec { host }
            | Self::NothingMounted { host, .. }
            | Self::InstallationRuns { host, .. }
            | Self::FailedUnits { host, .. } => Some(host.clone()),
            Self::UnknownOwners { .. } => Some("extra_files".into()),
            Self::ToolMissing { option, .. } => option.map(str::to_owned),
            _ => None,
        }
    }

    /// The last lines of the program, or where it was looked for.
    fn detail(&self) -> Option<String> {
        match self {
            Self::ToolMissing { directories, .. } => {
                let directories: Vec<String> = directories
                    .iter()
                    .map(|directory| directory.display().to_string())
                    .collect();
                Some(format!("looked in {}", directories.join(":")))
            }
            Self::ToolFailed { output, .. }
            | Self::ConnectionLost { output, .. }
            | Self::Stopped { output, .. }
            | Self::TimedOut { output, .. }
            | Self::StorePathCount { output, .. }
            | Self::NoStorePath { output, .. } => Some(output.clone()),
            _ => None,
        }
    }

    /// What to do next.
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::LogInUse { .. } => {
                "nothing was done; wait until that task has ended, and run this again"
            }
            Self::ToolMissing { program, .. } => install(program),
            Self::ToolFailed { hint, .. } => hint,
            Self::ConnectionLost { .. } => "look at the machine's console and at the network",
            Self::Stopped { hint, .. } => return hint.map(str::to_owned),
            Self::TimedOut { .. } => "raise timeout if the installation needs longer",
            Self::StorePathCount { .. } | Self::NoStorePath { .. } => CHECK_NIX,
            Self::Ssh(error) => return ssh_hint(error).map(str::to_owned),
            Self::NotAnInstaller { .. } => {
                "boot the installer, or set allow_kexec to destroy what is there"
            }
            Self::FormatsRunningSystem { .. } => "add kexec to phases",
            Self::NothingMountedAfterKexec { .. } => "add disko to phases",
            Self::NothingMounted { .. } => {
                "add disko to phases, with disko_mode: mount to keep what is on the disks"
            }
            Self::UnknownOwners { .. } => {
                "give the owner in numbers, as UID:GID, that it has on the installed system"
            }
            Self::InstallationRuns { .. } => {
                "wait until it has ended; if it hangs, restart the machine from its installer"
            }
            Self::CannotBecomeRoot { .. } => {
                "let that user run sudo without a password, or log in as root"
            }
            Self::FailedUnits { units, .. } => {
                let first = units.first()?;
                return Some(format!("on the machine: journalctl -b -u {first}"));
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }

    fn status(&self) -> Option<u16> {
        match self {
            Self::ToolFailed { status, .. } => *status,
            _ => None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            object: error.object(),
            status: error.status(),
            detail: error.detail(),
            hint: error.hint(),
            ..Self::new(error.kind(), error.to_string())
        }
    }
}

/// An SSH error as the module's failure.
pub fn ssh_failure(error: SshError) -> Failure {
    Error::Ssh(error).into()
}

fn ssh_kind(error: &SshError) -> FailureKind {
    match error {
        SshError::Name { .. } | SshError::Refused { .. } | SshError::Unreachable { .. } => {
            FailureKind::Unreachable
        }
        SshError::NoAnswer { .. } | SshError::Expired(_) | SshError::GaveUp { .. } => {
            FailureKind::Timeout
        }
        SshError::Banner { .. } | SshError::Handshake { .. } => FailureKind::UnexpectedAnswer,
        SshError::NoKnownKey { .. } | SshError::WrongKey { .. } => FailureKind::HostKey,
        SshError::Login { .. } => FailureKind::Authentication,
        SshError::Identity { .. } | SshError::Agent { .. } => FailureKind::PrivateKey,
        SshError::Exec { .. } => FailureKind::ConnectionLost,
        SshError::Jump(error) => jump_kind(error.problem),
    }
}

/// The kind of a problem at a jump host.
pub(crate) fn jump_kind(problem: JumpProblem) -> FailureKind {
    match problem {
        JumpProblem::Program => FailureKind::ToolMissing,
        JumpProblem::Unreachable | JumpProblem::Beyond | JumpProblem::Failed => {
            FailureKind::Unreachable
        }
        JumpProblem::Silent => FailureKind::Timeout,
        JumpProblem::HostKey | JumpProblem::AnotherHostKey => FailureKind::HostKey,
        JumpProblem::Login => FailureKind::Authentication,
        JumpProblem::Forwarding => FailureKind::PermissionDenied,
    }
}

/// What to do about a problem at a jump host.
pub(crate) fn jump_hint(problem: JumpProblem) -> Option<&'static str> {
    Some(match problem {
        JumpProblem::Program => "install the OpenSSH client on the controller",
        JumpProblem::HostKey => {
            "give its public host key as jump_host_keys, or log in to it once with ssh and compare the fingerprint that it shows"
        }
        JumpProblem::AnotherHostKey => {
            "either this is another host, or its keys were made anew: compare them on the jump host itself \
             (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), and correct jump_host_keys or your known_hosts"
        }
        JumpProblem::Login => {
            "check the user in jump_host, and give a key as jump_host_private_key_file, in ~/.ssh/config or by an SSH agent"
        }
        JumpProblem::Forwarding => {
            "the SSH server of the jump host must allow it: AllowTcpForwarding, PermitOpen and DisableForwarding in its sshd_config, and \
             restrict in its authorized_keys"
        }
        JumpProblem::Unreachable | JumpProblem::Silent | JumpProblem::Failed => {
            "try it with ssh in a terminal, as the user that runs Ansible"
        }
        JumpProblem::Beyond => return None,
    })
}

fn ssh_hint(error: &SshError) -> Option<&'static str> {
    match error {
        SshError::WrongKey { .. } => Some(
            "either this is another machine, or its keys were made anew: compare the offered \
             fingerprint with the machine's own (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub)",
        ),
        SshError::NoKnownKey { .. } => Some("give host_keys, installed_host_keys or both"),
        SshError::Login { .. } => {
            Some("check user and private_key_file, and that the machine knows the public key")
        }
        SshError::Jump(error) => jump_hint(error.problem),
        SshError::GaveUp { .. } => {
            Some("look at the machine's console; raise timeout if it is slow")
        }
        _ => None,
    }
}

/// How a missing program comes onto the controller.
fn install(program: &Path) -> &'static str {
    match program.file_name().and_then(|name| name.to_str()) {
        Some("nixos-anywhere") => {
            "install it on the controller (nix profile install \
             github:nix-community/nixos-anywhere), or set nixos_anywhere, nixos_anywhere_flake or tools_path"
        }
        Some("nix") => "install Nix on the controller (https://nixos.org), or set tools_path",
        _ => "install it on the controller",
    }
}
