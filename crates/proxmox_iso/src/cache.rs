//! Downloads kept on the controller, when that is asked for.

use std::path::{Path, PathBuf};

use ansible_module::Failure;
use deadline::Deadline;
use futures_util::StreamExt;
use pve_client::volid::normalise_upload_name;
use pve_client::{ByteStream, sha256_bytes};
use pve_module::paths;
use tokio::io::AsyncWriteExt;

use crate::address::Address;
use crate::checksum::{Digest, Hasher};
use crate::compression::Compression;
use crate::error::Error;
use crate::fetch::{Facts, Fetch, Hashing};
use crate::local::{self, hash};
use crate::source::{Source, mismatch};
use crate::transfer_progress::TransferProgress;

/// A source that was downloaded.
pub struct Cached {
    /// Where it is.
    pub path: PathBuf,
    /// Its checksums.
    pub digests: Vec<Digest>,
    /// What its server said of it.
    pub facts: Facts,
}

/// The source as a file below `dir`: one that is there and has the checksum wanted, else downloaded.
/// A file appears under its name only when it is whole. A compressed one is kept as it is.
///
/// # Errors
/// Kind `checksum_mismatch` when the download is not what it must be, `file` and `download`
/// otherwise.
pub async fn file(
    dir: &Path,
    source: &Source,
    progress: &TransferProgress,
    deadline: &Deadline,
) -> Result<Cached, Failure> {
    let Some((url, with)) = source.request() else {
        return Err(Error::NothingToDownload.into());
    };
    // What has the same name elsewhere is another file, and the same file has one place whoever asks.
    let identity = source.url().map(Address::identity).unwrap_or_default();
    let folder = dir.join(&sha256_bytes(identity.as_bytes())[..16]);
    let path = folder.join(normalise_upload_name(&source.name));
    let also = source.checksum.as_ref().map(|digest| digest.algorithm);
    if let Some(wanted) = &source.checksum
        && path.is_file()
    {
        let digests = hash(&path, Hasher::new(also)).await?;
        if digests.contains(wanted) {
            return Ok(Cached {
                path,
                digests,
                facts: Facts::default(),
            });
        }
    }
    paths::make_private_dir(&folder).map_err(|error| Error::unwritable(&path, error))?;
    progress.step("download");
    let download = Fetch::new()?.download(url, with, deadline).await?;
    let facts = download.facts;
    let known = facts.size.or(source.size);
    let partial = Partial(folder.join(format!(".{}.part", std::process::id())));
    let (stream, hashing) = Hashing::of(download.stream, Hasher::new(also));
    let shown = source.shown();
    let size = deadline
        .run(
            format!("the download of {shown}"),
            keep(stream, &partial.0, &path, &shown, progress, known),
        )
        .await??;
    if let Some(expected) = known.filter(|known| *known != size) {
        let error = Error::DownloadSize {
            shown,
            size,
            expected,
        };
        return Err(error.into());
    }
    let digests = hashing.digests();
    // That of a compressed image may be meant, which shows once it is unpacked.
    let packed = Compression::of_bytes(&local::head(&partial.0)?).is_some();
    if let Some(wanted) = &source.checksum
        && !packed
        && !digests.contains(wanted)
    {
        let got = digests
            .iter()
            .find(|digest| digest.algorithm == wanted.algorithm);
        return Err(mismatch(source, wanted, got));
    }
    std::fs::rename(&partial.0, &path).map_err(|error| Error::unwritable(&path, error))?;
    Ok(Cached {
        path,
        digests,
        facts,
    })
}

/// Write what arrives into the file `partial`, which is to become `path`. Returns its size in bytes.
async fn keep(
    mut stream: ByteStream,
    partial: &Path,
    path: &Path,
    shown: &str,
    progress: &TransferProgress,
    known: Option<u64>,
) -> Result<u64, Error> {
    let mut told = progress.bytes("download");
    let mut file = tokio::fs::File::create(partial)
        .await
        .map_err(|error| Error::unwritable(path, error))?;
    let mut size = 0;
    while let Some(bytes) = stream.next().await {
        let bytes = bytes.map_err(|error| Error::interrupted(shown, error))?;
        size += bytes.len() as u64;
        file.write_all(&bytes)
            .await
            .map_err(|error| Error::unwritable(path, error))?;
        told(size, known);
    }
    file.flush()
        .await
        .map_err(|error| Error::unwritable(path, error))?;
    Ok(size)
}

/// Removed unless it was renamed.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
