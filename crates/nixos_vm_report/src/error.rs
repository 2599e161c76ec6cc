//! The module's own failure.

use std::io;
use std::path::PathBuf;

use ansible_module::{Failure, FailureKind};

/// The report cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("path: {} cannot be written: {error}", path.display())]
pub struct Error {
    pub path: PathBuf,
    pub error: io::Error,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(FailureKind::File, error.to_string())
            .object(error.path.display().to_string())
            .hint("choose another nixos_vm_plan_path")
    }
}
