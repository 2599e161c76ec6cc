//! Local files: their first bytes, and their checksums.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::checksum::{Digest, Hasher};
use crate::content::HEAD;
use crate::error::Error;
use crate::unpack::Packed;

/// The bytes that tell what a file is.
///
/// # Errors
/// When it cannot be read.
pub fn head(path: &Path) -> Result<Vec<u8>, Error> {
    let mut head = Vec::new();
    File::open(path)
        .and_then(|file| file.take(HEAD as u64).read_to_end(&mut head))
        .map_err(|error| Error::unreadable(path, error))?;
    Ok(head)
}

/// The size of a file.
///
/// # Errors
/// When it cannot be read.
pub fn size(path: &Path) -> Result<u64, Error> {
    let meta = std::fs::metadata(path).map_err(|error| Error::unreadable(path, error))?;
    Ok(meta.len())
}

/// Ends the reading thread when the caller no longer waits for it.
struct Cancel(Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The checksums of a file, read once on a thread of its own.
///
/// # Errors
/// When it cannot be read.
pub async fn hash(path: &Path, mut hasher: Hasher) -> Result<Vec<Digest>, Error> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let _cancel = Cancel(cancelled.clone());
    let owned = path.to_path_buf();
    let work = move || {
        let mut file = File::open(owned)?;
        let mut buffer = vec![0; 256 * 1024];
        while !cancelled.load(Ordering::Relaxed) {
            match file.read(&mut buffer)? {
                0 => return Ok(hasher.digests()),
                read => hasher.update(&buffer[..read]),
            }
        }
        Err(std::io::Error::other("cancelled"))
    };
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(std::io::Error::other(e)))
        .map_err(|error| Error::unreadable(path, error))
}

/// The bytes of a compressed file.
///
/// # Errors
/// When it cannot be read.
pub fn packed(path: &Path) -> Result<Packed, Error> {
    File::open(path)
        .map(Packed::of)
        .map_err(|error| Error::unreadable(path, error))
}
