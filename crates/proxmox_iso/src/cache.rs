//! Downloads kept on the controller, when that is asked for.

use std::io;
use std::path::{Path, PathBuf};

use ansible_module::Failure;
use deadline::Deadline;
use futures_util::StreamExt;
use pve_client::volid::normalise_upload_name;
use pve_client::{sha256_bytes, sha256_file};
use pve_module::{failure, paths};
use tokio::io::AsyncWriteExt;

use crate::fetch::{Fetch, Hashing};
use crate::source::Source;
use crate::tell::Tell;

/// The source as a file below `dir`, with its SHA-256: one that is there and has the checksum
/// wanted, else downloaded. A file appears under its name only when it is whole.
///
/// # Errors
/// Kind `checksum_mismatch` when the download is not what it must be, `file` and `download`
/// otherwise.
pub async fn file(
    dir: &Path,
    source: &Source,
    tell: &Tell,
    deadline: &Deadline,
) -> Result<(PathBuf, String), Failure> {
    let Some((url, with)) = source.request() else {
        return Err(Failure::new(
            "invalid_option",
            "there is nothing to download",
        ));
    };
    // What has the same name elsewhere is another file.
    let folder = dir.join(&sha256_bytes(url.as_bytes())[..16]);
    let path = folder.join(normalise_upload_name(&source.name));
    if let Some(wanted) = &source.sha256
        && path.is_file()
        && sha256_file(&path).await.map_err(failure)?.sha256 == *wanted
    {
        return Ok((path, wanted.clone()));
    }
    let unwritable = |e: io::Error| {
        Failure::new("file", format!("cannot write {}: {e}", path.display()))
            .object(path.display().to_string())
    };
    paths::make_private_dir(&folder).map_err(unwritable)?;
    tell.step("download");
    let download = Fetch::new()?.download(url, with, deadline).await?;
    let known = download.size.or(source.size);
    let mut told = tell.bytes("download");
    let partial = Partial(folder.join(format!(".{}.part", std::process::id())));
    let (mut stream, hashing) = Hashing::of(download.stream);
    let mut file = tokio::fs::File::create(&partial.0)
        .await
        .map_err(unwritable)?;
    let shown = source.shown();
    let copy = async {
        let mut size = 0;
        while let Some(bytes) = stream.next().await {
            let bytes = bytes.map_err(|e| {
                Failure::new("download", format!("cannot read {shown}: {e}")).object(shown.clone())
            })?;
            size += bytes.len() as u64;
            file.write_all(&bytes).await.map_err(unwritable)?;
            told(size, known);
        }
        file.flush().await.map_err(unwritable)?;
        Ok::<u64, Failure>(size)
    };
    let size = deadline
        .run(format!("the download of {shown}"), copy)
        .await??;
    if let Some(told) = known.filter(|told| *told != size) {
        return Err(Failure::new(
            "download",
            format!("{shown} gave {size} bytes instead of {told}"),
        ));
    }
    let sha256 = hashing.sha256();
    if source
        .sha256
        .as_ref()
        .is_some_and(|wanted| *wanted != sha256)
    {
        return Err(crate::apply::not_what_was_said(
            &shown,
            &format!("it is {sha256}"),
        ));
    }
    std::fs::rename(&partial.0, &path).map_err(unwritable)?;
    Ok((path, sha256))
}

/// Removed unless it was renamed.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
