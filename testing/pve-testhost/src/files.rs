//! Files of the data directory, which hold secrets.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

use crate::random::random_hex;

/// Replace a file's content at once, readable by its owner only.
pub fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", random_hex(4)));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(content)?;
    std::fs::rename(temporary, path)
}

/// What changes when a file is written anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    modified: SystemTime,
    /// Files that are written within one tick of the kernel's clock (up to 10 ms) have the same time.
    inode: u64,
    size: u64,
}

/// The version of a file; none when there is no such file.
pub fn version(path: &Path) -> Option<Version> {
    let data = std::fs::metadata(path).ok()?;
    Some(Version {
        modified: data.modified().ok()?,
        inode: data.ino(),
        size: data.len(),
    })
}
