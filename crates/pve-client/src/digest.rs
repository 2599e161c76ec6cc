//! SHA-256 of files of any size in constant memory. By ring, which TLS brings along: its assembly is
//! several times as fast as portable code where the processor has no SHA instructions.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ring::digest::{Context, SHA256, digest};

use crate::Error;

/// Size and SHA-256 of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDigest {
    /// Bytes.
    pub size: u64,
    /// 64 lower-case hex digits.
    pub sha256: String,
}

/// Ends the reading thread when the caller no longer waits for it.
struct Cancel(Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Size and SHA-256 of the file at `path`, read once on a thread of its own.
///
/// # Errors
/// [`Error::File`] when it cannot be read.
pub async fn sha256_file(path: &Path) -> Result<FileDigest, Error> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let _cancel = Cancel(cancelled.clone());
    let path: PathBuf = path.to_path_buf();
    let failed = |path: &Path, source| Error::File {
        path: path.to_path_buf(),
        source,
    };
    let owned = path.clone();
    tokio::task::spawn_blocking(move || hash(&owned, &cancelled))
        .await
        .map_err(|e| failed(&path, std::io::Error::other(e)))?
        .map_err(|e| failed(&path, e))
}

fn hash(path: &Path, cancelled: &AtomicBool) -> std::io::Result<FileDigest> {
    let mut file = File::open(path)?;
    let mut hasher = Context::new(&SHA256);
    let mut buffer = vec![0; 256 * 1024];
    let mut size = 0;
    while !cancelled.load(Ordering::Relaxed) {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(FileDigest {
                size,
                sha256: hex::encode(hasher.finish()),
            });
        }
        hasher.update(&buffer[..read]);
        size += read as u64;
    }
    Err(std::io::Error::other("cancelled"))
}

/// SHA-256 of `data` as 64 lower-case hex digits.
pub fn sha256_bytes(data: &[u8]) -> String {
    hex::encode(digest(&SHA256, data))
}
