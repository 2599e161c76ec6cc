//! What the module and other crates call.

use ansible_module::{Failure, Outcome, Task};
use pve_module::Session;
use serde::Serialize;
use tokio::sync::OnceCell;

use crate::compression::Compression;
use crate::error::Error;
use crate::options::{Options, State};
use crate::present::Present;
use crate::record::{self, RecordFile};
use crate::source::{Origin, Source};
use crate::transfer_progress::TransferProgress;
use crate::{absent, local, state};

/// Make the ISO present or absent, as the options say.
///
/// # Errors
/// When it cannot be done, or must not be.
pub async fn run(options: Options, task: Task) -> Result<Outcome, Failure> {
    let session = Session::open(
        &options.connection,
        options.timeout,
        options.progress_path.as_deref(),
        task,
    )?;
    let context = session.context();
    let found = match options.state {
        State::Present => Source::resolve(&context, &options).await?,
        State::Absent => None,
    };
    let storage = state::usable_storage(
        &context,
        &options.node,
        &options.storage,
        options.content.into(),
    )
    .await?;
    let Some(source) = found else {
        return absent::absent(&context, &options, &storage).await;
    };
    let volid = options.volid(&options.volume_name(&source.name)?);
    let key = record::key(&options, &storage, &volid);
    let record = RecordFile::new(&key).map_err(Error::Records)?;
    let present = Present {
        progress: TransferProgress::new(context.progress.clone(), volid.to_string()),
        context,
        options: &options,
        storage,
        source,
        volid,
        key,
        record,
        measured: OnceCell::new(),
    };
    present.converge().await
}

/// What the options name, without anything being written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resolved {
    /// The ISO's name on the storage.
    pub name: String,
    /// The volume identifier that it has, or will have.
    pub volid: String,
    /// Its checksum, as the option `checksum` takes it, where it was given or published.
    pub checksum: Option<String>,
    /// Its size in bytes, where it is known; of a compressed source it is not.
    pub size: Option<u64>,
}

/// Find out what the source is called and what is known of it: releases, files of checksums and
/// addresses are asked, nothing is transferred, and the storage is not looked at.
///
/// # Errors
/// When there is no source, or it or its checksum is not found.
pub async fn resolve(options: &Options, task: &Task) -> Result<Resolved, Failure> {
    let session = Session::open(&options.connection, options.timeout, None, task.clone())?;
    let context = session.context();
    let source = Source::resolve(&context, options)
        .await?
        .ok_or(Error::SourceRequired)?;
    let name = options.volume_name(&source.name)?;
    let packed = options.content_check
        && match &source.origin {
            Origin::File(path) => Compression::of_bytes(&local::head(path)?).is_some(),
            Origin::Url { .. } => source.compression().is_some(),
        };
    let size = match (packed, source.size) {
        (true, _) => None,
        (false, Some(size)) => Some(size),
        // Who is silent now may answer when it is transferred.
        (false, None) => source
            .ask(&context, options)
            .await
            .ok()
            .and_then(|facts| facts.size),
    };
    Ok(Resolved {
        volid: options.volid(&name).to_string(),
        name,
        checksum: source.checksum.map(|digest| digest.to_string()),
        size,
    })
}
