//! Where things are kept on the controller.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// `$XDG_CACHE_HOME/nixos-proxmox`, else `~/.cache/nixos-proxmox`.
///
/// # Errors
/// When neither variable is set.
pub fn cache_dir() -> io::Result<PathBuf> {
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|base| base.join("nixos-proxmox"))
        .ok_or_else(|| io::Error::other("neither HOME nor XDG_CACHE_HOME is set"))
}

/// Where locks are: `$XDG_RUNTIME_DIR/nixos-proxmox/locks` if that directory exists, else below [`cache_dir`].
///
/// # Errors
/// As [`cache_dir`].
pub fn lock_dir() -> io::Result<PathBuf> {
    match absolute("XDG_RUNTIME_DIR").filter(|dir| dir.is_dir()) {
        Some(dir) => Ok(dir.join("nixos-proxmox/locks")),
        None => Ok(cache_dir()?.join("locks")),
    }
}

/// Make a directory and its parents, the new ones with mode 0700.
///
/// # Errors
/// The system's.
pub fn make_private_dir(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
}

/// A file name made of `text`: what is not a letter, digit, `.`, `_` or `-` becomes `_`.
pub fn file_name(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
                c
            } else {
                '_'
            }
        })
        .collect()
}

fn absolute(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}
