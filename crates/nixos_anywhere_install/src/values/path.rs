//! Paths on the controller.

use std::path::{Path, PathBuf};

/// `path` from the directory that `ansible-playbook` runs in, which is that of the module too.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
