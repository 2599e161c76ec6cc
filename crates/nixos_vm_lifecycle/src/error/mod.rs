//! Why the module refuses a machine or gives up a step. Failures of the API, of SSH and of Nix come from the modules that are called.

mod local;
mod refusal;
mod step;

pub use local::LocalError;
pub use refusal::{Refusal, Why};
pub use step::{Standstill, StepError};

use ansible_module::{Failure, FailureKind};
use serde_json::{Map, Value};

/// A failure of the module's own.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What a VM is left alone for.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Files, keys and programs of the controller.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The order of the steps, their options, and what they find.
    #[error(transparent)]
    Step(#[from] StepError),
    /// A VMID that was to confirm the destruction of a host: `error` says why it does not.
    #[error("{error}")]
    ConfirmedByNumber { host: String, error: Box<Error> },
}

impl Error {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Refused(error) => error.kind(),
            Self::Local(error) => error.kind(),
            Self::Step(error) => error.kind(),
            Self::ConfirmedByNumber { error, .. } => error.kind(),
        }
    }

    fn object(&self) -> Option<String> {
        match self {
            Self::Refused(error) => Some(error.object().to_owned()),
            Self::Local(error) => error.object(),
            Self::Step(error) => error.object(),
            Self::ConfirmedByNumber { error, .. } => error.object(),
        }
    }

    /// What to do next.
    fn hint(&self) -> Option<String> {
        match self {
            Self::Refused(error) => Some(error.hint()),
            Self::Local(error) => error.hint(),
            Self::Step(error) => error.hint(),
            Self::ConfirmedByNumber { host, .. } => Some(format!(
                "confirm with the names of the inventory hosts, or add --limit; nothing was done to {host}"
            )),
        }
    }

    /// What is returned beside.
    fn values(&self) -> Map<String, Value> {
        match self {
            Self::Step(error) => error.values(),
            _ => Map::new(),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            object: error.object(),
            hint: error.hint(),
            values: error.values(),
            ..Self::new(error.kind(), error.to_string())
        }
    }
}

impl From<Refusal> for Failure {
    fn from(error: Refusal) -> Self {
        Error::from(error).into()
    }
}

impl From<LocalError> for Failure {
    fn from(error: LocalError) -> Self {
        Error::from(error).into()
    }
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Self {
        Error::from(error).into()
    }
}

/// What the user types to destroy a machine.
fn destroy_command(host: &str) -> String {
    format!(
        "ansible-playbook playbooks/destroy.yml -i INVENTORY --limit {host} -e nixos_vm_confirm_destroy={host}"
    )
}
