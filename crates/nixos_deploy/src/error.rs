//! Why the module refuses or gives up a task. Failures of SSH and of Nix come from `nixos_anywhere_install`.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ansible_module::{Failure, FailureKind};
use guest_ssh::Kind;

use crate::UNIT;

/// A failure of the module's own. `host` is the machine as the option names it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    // The options.
    /// They cannot be given to Nix, which is a mistake of this module.
    #[error(transparent)]
    Options(#[from] serde_json::Error),
    #[error("store_path: {}: {error}", path.display())]
    StorePath { path: PathBuf, error: io::Error },
    #[error("{}: is not a store path", .0.display())]
    NotInStore(PathBuf),
    #[error("{system}: is not a NixOS system (it has no {program})")]
    NotASystem {
        system: String,
        /// What each system has.
        program: &'static str,
    },
    #[error("generation: must be a number or previous (got '{0}')")]
    InvalidGeneration(String),
    #[error(
        "generation: {wanted} does not exist on the machine (available: {})",
        numbers(available)
    )]
    GenerationNotFound { wanted: String, available: Vec<u32> },

    // Before the activation: nothing was changed.
    #[error("{host}: is not an installed NixOS (found {kind}: {name}); nothing was changed")]
    NotInstalled {
        host: String,
        kind: Kind,
        /// Its own name for itself.
        name: String,
    },
    #[error("{address}: {problem}")]
    UnexpectedAnswer {
        address: String,
        problem: String,
        /// What it said instead.
        output: String,
    },
    #[error(
        "{host}: only {} s of timeout are left, fewer than confirm_timeout ({needed}); nothing was activated",
        left.as_secs()
    )]
    NotEnoughTime {
        host: String,
        left: Duration,
        /// Seconds.
        needed: u64,
    },
    /// Another deployment did not end while it was waited for.
    #[error("{host}: is locked by another deployment ({UNIT})")]
    Deploying { host: String },
    /// Another deployment began a moment before.
    #[error("{host}: is locked by another deployment ({UNIT})")]
    Overtaken { host: String },
    #[error("{host}: the activation could not be started ({said}); nothing was changed")]
    NotStarted { host: String, said: String },
    #[error("{host}: is locked by another switch-to-configuration; nothing was changed")]
    Switching { host: String },
    #[error("{host}: dry-activate: {said}")]
    DryActivation {
        host: String,
        said: String,
        output: String,
    },

    // The activation. `output` is what it printed.
    #[error("{host}: the new system was undone and the old one runs again: {why}")]
    Undone {
        host: String,
        why: String,
        output: String,
    },
    #[error(
        "{host}: the boot loader could not be written for the new system{}",
        match old {
            true => "; the old one is booted as before",
            false => ", nor for the old one again: look at the space in /boot before you restart it",
        }
    )]
    Uncommitted {
        host: String,
        /// Whether it is written for the old system.
        old: bool,
        output: String,
    },
    #[error("{host}: the new system failed, and the old one could not be activated again: {why}")]
    Stuck {
        host: String,
        why: String,
        output: String,
    },
    /// It may still run.
    #[error(
        "{host}: the activation ended without a result (the machine restarted, or {UNIT} was stopped)"
    )]
    NoResult { host: String, output: String },
    #[error(
        "{host}: timed out after {} s while waiting for the activation; last attempt: {reason}",
        waited.as_secs()
    )]
    ActivationTimedOut {
        host: String,
        waited: Duration,
        reason: String,
    },
    #[error("{host}: after the activation it runs {runs} and boots {boots} instead of {system}")]
    NotActive {
        host: String,
        runs: String,
        boots: String,
        system: String,
    },

    // The restart.
    #[error("{host}: systemctl reboot: {said}")]
    NotRestarted { host: String, said: String },
    #[error("{host}: after the restart it runs {runs} instead of {system}")]
    RestartedIntoAnother {
        host: String,
        runs: String,
        system: String,
    },
    #[error(
        "{host}: did not answer within {} s after its restart; last attempt: {reason}",
        waited.as_secs()
    )]
    RestartTimedOut {
        host: String,
        waited: Duration,
        reason: String,
    },
}

impl Error {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Options(_) => FailureKind::Internal,
            Self::StorePath { .. }
            | Self::NotInStore(_)
            | Self::NotASystem { .. }
            | Self::InvalidGeneration(_) => FailureKind::InvalidOption,
            Self::GenerationNotFound { .. } => FailureKind::NotFound,
            Self::NotInstalled { .. } => FailureKind::Refused,
            Self::UnexpectedAnswer { .. } => FailureKind::UnexpectedAnswer,
            Self::NotEnoughTime { .. }
            | Self::ActivationTimedOut { .. }
            | Self::RestartTimedOut { .. } => FailureKind::Timeout,
            Self::Deploying { .. } | Self::Overtaken { .. } | Self::Switching { .. } => {
                FailureKind::Busy
            }
            Self::NotStarted { .. }
            | Self::DryActivation { .. }
            | Self::Uncommitted { .. }
            | Self::Stuck { .. }
            | Self::NotRestarted { .. } => FailureKind::Activation,
            Self::Undone { .. } => FailureKind::RolledBack,
            Self::NoResult { .. } => FailureKind::NotAsLeft,
            Self::NotActive { .. } | Self::RestartedIntoAnother { .. } => FailureKind::WrongSystem,
        }
    }

    fn object(&self) -> Option<String> {
        match self {
            Self::Options(_)
            | Self::StorePath { .. }
            | Self::NotInStore(_)
            | Self::NotASystem { .. }
            | Self::InvalidGeneration(_)
            | Self::GenerationNotFound { .. }
            | Self::UnexpectedAnswer { .. } => None,
            Self::NotInstalled { host, .. }
            | Self::NotEnoughTime { host, .. }
            | Self::Deploying { host }
            | Self::Overtaken { host }
            | Self::NotStarted { host, .. }
            | Self::Switching { host }
            | Self::DryActivation { host, .. }
            | Self::Undone { host, .. }
            | Self::Uncommitted { host, .. }
            | Self::Stuck { host, .. }
            | Self::NoResult { host, .. }
            | Self::ActivationTimedOut { host, .. }
            | Self::NotActive { host, .. }
            | Self::NotRestarted { host, .. }
            | Self::RestartedIntoAnother { host, .. }
            | Self::RestartTimedOut { host, .. } => Some(host.clone()),
        }
    }

    /// What the machine printed.
    fn detail(&self) -> Option<String> {
        match self {
            Self::UnexpectedAnswer { output, .. } | Self::DryActivation { output, .. } => {
                Some(output.clone())
            }
            Self::Undone { output, .. }
            | Self::Uncommitted { output, .. }
            | Self::Stuck { output, .. }
            | Self::NoResult { output, .. } => Some(output.clone()).filter(|text| !text.is_empty()),
            _ => None,
        }
    }

    /// Whether something on the machine was changed, or may have been.
    fn changed(&self) -> bool {
        matches!(
            self,
            Self::Undone { .. }
                | Self::Uncommitted { .. }
                | Self::Stuck { .. }
                | Self::NoResult { .. }
                | Self::ActivationTimedOut { .. }
                | Self::NotActive { .. }
                | Self::NotRestarted { .. }
                | Self::RestartedIntoAnother { .. }
                | Self::RestartTimedOut { .. }
        )
    }

    /// What to do next.
    fn hint(&self) -> Option<&'static str> {
        let hint = match self {
            Self::NotInstalled { kind, .. } => match kind {
                Kind::Installer => "install it first (nixos_anywhere_install)",
                Kind::Installed | Kind::Other => "check 'host'",
            },
            Self::NotEnoughTime { .. } => {
                "run the task again (the system is built and copied now), or raise timeout"
            }
            Self::Deploying { .. } => {
                "wait until it has ended, or look at: systemctl status nixos-deploy"
            }
            Self::Overtaken { .. } | Self::NotStarted { .. } => "run the task again",
            Self::Switching { .. } => "run the task again when it has ended",
            Self::Stuck { .. } => {
                "look at its console and at its boot menu, where the old system is"
            }
            Self::NoResult { .. } => "run the task again: it begins with what the machine runs now",
            Self::ActivationTimedOut { .. } => {
                "the machine puts the old system back by itself unless this task could log in; look at its console, and restart it if \
                 it does not come back: it boots the old system"
            }
            Self::NotRestarted { .. } => {
                "restart the machine by hand; the new system is the one that it boots"
            }
            Self::RestartedIntoAnother { .. } => "look at its console and at its boot menu",
            Self::RestartTimedOut { .. } => {
                "look at its console; its boot menu has the older generations, and a snapshot of the VM brings back its disks"
            }
            _ => return None,
        };
        Some(hint)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let failure = Self {
            object: error.object(),
            detail: error.detail(),
            hint: error.hint().map(str::to_owned),
            ..Self::new(error.kind(), error.to_string())
        };
        match error.changed() {
            true => failure.with("changed", true),
            false => failure,
        }
    }
}

fn numbers(generations: &[u32]) -> String {
    let numbers: Vec<String> = generations.iter().map(u32::to_string).collect();
    numbers.join(", ")
}
