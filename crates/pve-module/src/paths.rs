//! Where things are kept on the controller.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

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
    if let Some(dir) = absolute("XDG_RUNTIME_DIR").filter(|dir| dir.is_dir()) {
        return Ok(dir.join("nixos-proxmox/locks"));
    }
    if let Ok(dir) = cache_dir().map(|dir| dir.join("locks"))
        && make_private_dir(&dir).is_ok()
    {
        return Ok(dir);
    }
    temporary_lock_dir()
}

/// Where neither a runtime directory nor the home can be written: a directory of this user's own among the temporary files. One that
/// belongs to somebody else is not used.
fn temporary_lock_dir() -> io::Result<PathBuf> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let user = rustix::process::geteuid().as_raw();
    let base = std::env::temp_dir().join(format!("nixos-proxmox-{user}"));
    make_private_dir(&base)?;
    let meta = std::fs::symlink_metadata(&base)?;
    if !meta.is_dir() || meta.uid() != user || meta.permissions().mode() & 0o077 != 0 {
        return Err(io::Error::other(format!(
            "{} is not a private directory of this user",
            base.display()
        )));
    }
    Ok(base.join("locks"))
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

/// A file name made of `text`: what is not a letter, digit, `.`, `_` or `-` becomes `_`. Of one that a file system would
/// refuse as too long the end is a checksum.
pub fn file_name(text: &str) -> String {
    let (start, sum) = match text.char_indices().nth(LONGEST) {
        Some((end, _)) => (
            &text[..end],
            format!("_{}", &hex::encode(Sha256::digest(text))[..32]),
        ),
        None => (text, String::new()),
    };
    start
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
                c
            } else {
                '_'
            }
        })
        .chain(sum.chars())
        .collect()
}

/// The characters of a text that a file name has.
const LONGEST: usize = 150;

fn absolute(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_of_any_text_and_told_apart() {
        assert_eq!(file_name("vmid pve1:8006/ü"), "vmid_pve1_8006__");
        let long = |end: &str| file_name(&("ü/".repeat(500) + end));
        assert_ne!(long("a"), long("b"));
        assert_eq!(long("a").len(), LONGEST + 33);
    }
}
