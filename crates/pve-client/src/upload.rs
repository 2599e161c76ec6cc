//! Uploading a file to a storage, streamed in constant memory.
//!
//! pveproxy parses the multipart body by hand, and it is written the way that parser wants it:
//! the scalar fields go into the query (which frees them from its field order), the only part is
//! `filename`, its header block is sent in one piece (a split one ends up inside the stored
//! file), and the length is known beforehand. The checksum has to be sent before the data, so it
//! is either known or computed by reading the file first; the server compares it with what
//! arrived, which makes a second hash here pointless.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use deadline::{Deadline, backoff};
use futures_util::stream::{self, Stream, StreamExt};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use rustix::buffer::spare_capacity;
use rustix::io::retry_on_intr;
use serde_json::Value;

use crate::client::{RETRIES, not_sent};
use crate::params::{Params, encode};
use crate::volid::{is_iso_name, normalise_upload_name};
use crate::{Client, Error, Upid, sha256_bytes};

/// Bytes read from a file at a time.
const CHUNK: usize = 128 * 1024;
/// Chunks that wait between the reading thread and the network.
const QUEUE: usize = 4;
/// How long nothing may come from the source before a byte is sent all the same.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// How often progress is told.
const TICK: Duration = Duration::from_millis(500);

/// Something to upload.
#[derive(Debug, Clone)]
pub struct Upload {
    content: &'static str,
    name: String,
    /// Algorithm, as PVE names it, and hex digits.
    checksum: Option<(&'static str, String)>,
    source: Source,
}

/// Bytes on their way from somewhere else.
pub type ByteStream = stream::BoxStream<'static, std::io::Result<Bytes>>;

#[derive(Clone)]
enum Source {
    Bytes(Bytes),
    File(PathBuf),
    /// Can be taken once.
    Stream(u64, Arc<Mutex<Option<ByteStream>>>),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::File(path) => path.fmt(f),
            Self::Stream(size, _) => write!(f, "a stream of {size} bytes"),
        }
    }
}

impl Upload {
    /// A file as ISO content under `name`, which is [normalised](normalise_upload_name) as PVE
    /// does it. `sha256` (hex) is what PVE compares with what arrives.
    pub fn iso_file(name: &str, path: &Path, sha256: &str) -> Self {
        Self {
            content: "iso",
            name: normalise_upload_name(name),
            checksum: Some(("sha256", sha256.to_string())),
            source: Source::File(path.to_path_buf()),
        }
    }

    /// Bytes as ISO content under `name`.
    pub fn iso_bytes(name: &str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let sha256 = sha256_bytes(&bytes);
        Self {
            content: "iso",
            name: normalise_upload_name(name),
            checksum: Some(("sha256", sha256)),
            source: Source::Bytes(bytes),
        }
    }

    /// Exactly `size` bytes of a stream as ISO content under `name`. Without `sha256` PVE compares
    /// nothing; the size in its list is then all that tells whether they arrived.
    pub fn iso_stream(name: &str, size: u64, sha256: Option<&str>, stream: ByteStream) -> Self {
        Self {
            content: "iso",
            name: normalise_upload_name(name),
            checksum: sha256.map(|hex| ("sha256", hex.to_string())),
            source: Source::Stream(size, Arc::new(Mutex::new(Some(stream)))),
        }
    }

    /// Have PVE compare this checksum instead: `sha256`, `sha384` or `sha512`, and hex digits.
    #[must_use]
    pub fn checksum(mut self, algorithm: &'static str, hex: &str) -> Self {
        self.checksum = Some((algorithm, hex.to_string()));
        self
    }

    /// Whether it can (still) be sent from its first byte on: a stream only once.
    pub fn is_whole(&self) -> bool {
        match &self.source {
            Source::Stream(_, stream) => stream
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_some(),
            Source::Bytes(_) | Source::File(_) => true,
        }
    }

    /// The name the file gets on the storage.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Client {
    /// Send a file to a storage of a node. Returns the task that copies it into place: the file
    /// is there, and its checksum compared, only when that [task](Client::task) ended well.
    /// `on_progress` is told the bytes sent so far and the whole size, twice a second.
    ///
    /// An upload that was cut short did nothing: it is sent again from its first byte, to the next
    /// host if there are several, as often as there are hosts.
    ///
    /// # Errors
    /// Besides those of [`Client::post`]: [`Error::Settings`] for a name that PVE does not take,
    /// [`Error::File`] when the file cannot be read or changes its size meanwhile,
    /// [`Error::Source`] when a stream fails or has another length than was said.
    pub async fn upload(
        &self,
        node: &str,
        storage: &str,
        upload: &Upload,
        deadline: &Deadline,
        mut on_progress: impl FnMut(u64, u64),
    ) -> Result<Upid, Error> {
        if !is_iso_name(&upload.name) {
            return Err(Error::Settings(format!(
                "'{}' is not a name for an ISO: it must end in .iso or .img",
                upload.name
            )));
        }
        let path = format!("/nodes/{}/storage/{}/upload", encode(node), encode(storage));
        let (mut attempt, mut cut) = (0, 0);
        loop {
            // One cheap call first: it finds a host that answers, gets the ticket, and finds out that
            // credentials or certificate are wrong before a large body is on its way.
            self.get("/version", &[], deadline).await?;
            let error = match self
                .upload_once(&path, upload, deadline, &mut on_progress)
                .await
            {
                Ok(upid) => return Ok(upid),
                Err(error) => error,
            };
            let lost = match &error {
                Error::Unreachable { .. } => true,
                Error::Interrupted {
                    may_have_happened, ..
                } => {
                    cut += 1;
                    // Where it arrived whole, only what is on the storage tells what came of it.
                    !may_have_happened && cut <= self.hosts()
                }
                _ => false,
            };
            // What is asked next, here or by the caller, is asked of a host that may answer.
            if matches!(error, Error::Unreachable { .. } | Error::Interrupted { .. }) {
                self.next_host();
            }
            attempt += 1;
            if !(lost && upload.is_whole())
                || attempt > RETRIES * self.hosts()
                || !deadline
                    .sleep(backoff(attempt, Duration::from_secs(4)))
                    .await
            {
                return Err(error);
            }
        }
    }

    async fn upload_once(
        &self,
        path: &str,
        upload: &Upload,
        deadline: &Deadline,
        on_progress: &mut impl FnMut(u64, u64),
    ) -> Result<Upid, Error> {
        let action = format!("POST {path} ({})", upload.name);
        let boundary = boundary()?;
        let head = Bytes::from(format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"{}\"\r\nContent-Type: application/octet-stream\r\n\r\n",
            upload.name
        ));
        let tail = Bytes::from(format!("\r\n--{boundary}--\r\n"));
        let sent = Arc::new(AtomicU64::new(0));
        let (size, data) = open(&upload.source, sent.clone())?;
        let length = head.len() as u64 + size + tail.len() as u64;
        let body = stream::once(async { Ok(head) })
            .chain(steady(data, KEEP_ALIVE))
            .chain(stream::once(async { Ok(tail) }));
        // The connection takes it by itself, even when this task is no longer looked at.
        let limit = *deadline;
        let body = body.map(move |chunk| match limit.expired() {
            true => Err(ReadFailed(
                std::io::ErrorKind::TimedOut,
                "the time was over".into(),
            )),
            false => chunk,
        });
        let mut query = Params::new().with("content", upload.content);
        if let Some((algorithm, hex)) = &upload.checksum {
            query
                .set("checksum-algorithm", *algorithm)
                .set("checksum", hex);
        }
        let query = query.to_form();
        let request = self
            .fresh_http()?
            .post(self.url(path, &query))
            .headers(self.auth(deadline).await?)
            .header(
                CONTENT_TYPE,
                format!("multipart/form-data; boundary={boundary}"),
            )
            .header(CONTENT_LENGTH, length)
            .body(reqwest::Body::wrap_stream(body));

        let answer = async {
            let response = request
                .send()
                .await
                .map_err(|e| self.upload_failure(&action, e, upload, &sent, size))?;
            self.read::<Value>(response, &action, true).await
        };
        if deadline.expired() {
            return Err(not_sent(&action, deadline));
        }
        let data = self
            .watch(answer, &action, &sent, size, deadline, on_progress)
            .await?;
        let text = data.as_str().unwrap_or_default();
        text.parse()
            .map_err(|_| Error::unexpected(action, format!("no task identifier but {data}")))
    }

    /// Await the answer, telling progress, until the deadline or until nothing moves any more.
    async fn watch<T>(
        &self,
        answer: impl Future<Output = Result<T, Error>>,
        action: &str,
        sent: &AtomicU64,
        size: u64,
        deadline: &Deadline,
        on_progress: &mut impl FnMut(u64, u64),
    ) -> Result<T, Error> {
        let mut answer = std::pin::pin!(deadline.guard(action, answer));
        let since = Instant::now();
        let (mut last, mut moved) = (0, Instant::now());
        loop {
            let tick = deadline.shorter(TICK);
            if let Ok(Ok(result)) = tick.run(action, &mut answer).await {
                on_progress(sent.load(Ordering::Relaxed), size);
                return result;
            }
            let now = sent.load(Ordering::Relaxed);
            on_progress(now, size);
            if now != last {
                (last, moved) = (now, Instant::now());
            }
            let may_have_happened = now == size;
            if deadline.expired() {
                let what = format!("{action}: {now} of {size} bytes were sent");
                return Err(Error::Expired {
                    expired: deadline.expired_error(what, since.elapsed()),
                    last: None,
                    may_have_happened,
                });
            }
            if moved.elapsed() > self.request_timeout() {
                return Err(Error::Interrupted {
                    action: action.to_string(),
                    detail: format!(
                        "nothing moved for {} s ({now} of {size} bytes were sent)",
                        self.request_timeout().as_secs()
                    ),
                    may_have_happened,
                });
            }
        }
    }

    /// A failure below HTTP during an upload. An upload that was cut short changed nothing.
    fn upload_failure(
        &self,
        action: &str,
        error: reqwest::Error,
        upload: &Upload,
        sent: &AtomicU64,
        size: u64,
    ) -> Error {
        let now = sent.load(Ordering::Relaxed);
        match (&upload.source, file_error(&error)) {
            (Source::File(path), Some(source)) => {
                return Error::File {
                    path: path.clone(),
                    source,
                };
            }
            (Source::Stream(..), Some(source)) => {
                return Error::Source {
                    action: action.to_string(),
                    detail: format!("{source} ({now} of {size} bytes were sent)"),
                };
            }
            _ => {}
        }
        match self.transport(action, error, now == size) {
            Error::Interrupted {
                action,
                detail,
                may_have_happened,
            } => Error::Interrupted {
                action,
                detail: format!("{detail} ({now} of {size} bytes were sent)"),
                may_have_happened,
            },
            other => other,
        }
    }
}

/// An error of the file behind the body, rather than of the network.
fn file_error(error: &reqwest::Error) -> Option<std::io::Error> {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(failed) = inner.downcast_ref::<ReadFailed>() {
            return Some(std::io::Error::new(failed.0, failed.1.clone()));
        }
        source = inner.source();
    }
    None
}

/// Marks an error as the file's on its way through the HTTP library.
#[derive(Debug, thiserror::Error)]
#[error("{1}")]
struct ReadFailed(std::io::ErrorKind, String);

type Chunk = Result<Bytes, ReadFailed>;

/// The size of the source and a stream of exactly that many bytes; counts them in `sent` as they
/// are taken by the network.
fn open(
    source: &Source,
    sent: Arc<AtomicU64>,
) -> Result<(u64, stream::BoxStream<'static, Chunk>), Error> {
    let count = move |chunk: Chunk| {
        if let Ok(bytes) = &chunk {
            sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        chunk
    };
    match source {
        Source::Bytes(bytes) => {
            let bytes = bytes.clone();
            Ok((
                bytes.len() as u64,
                stream::once(async { Ok(bytes) }).map(count).boxed(),
            ))
        }
        Source::File(path) => {
            let failed = |source| Error::File {
                path: path.clone(),
                source,
            };
            let file = File::open(path).map_err(failed)?;
            let meta = file.metadata().map_err(failed)?;
            if !meta.is_file() {
                return Err(failed(std::io::Error::other("it is not a regular file")));
            }
            Ok((meta.len(), chunks(file, meta.len())?.map(count).boxed()))
        }
        Source::Stream(size, stream) => {
            let taken = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            let stream = taken
                .ok_or_else(|| Error::Settings("a stream can be uploaded once".to_string()))?;
            Ok((*size, exactly(*size, stream).map(count).boxed()))
        }
    }
}

/// The chunks of `stream`, which are an error when they are not `size` bytes together.
fn exactly(size: u64, stream: ByteStream) -> impl Stream<Item = Chunk> + Send {
    stream::unfold((Some(stream), size), move |(stream, left)| async move {
        let mut stream = stream?;
        let odd = |what: String| Err(ReadFailed(std::io::ErrorKind::UnexpectedEof, what));
        match stream.next().await {
            Some(Ok(bytes)) => match left.checked_sub(bytes.len() as u64) {
                Some(left) => Some((Ok(bytes), (Some(stream), left))),
                None => Some((odd(format!("it gave more than {size} bytes")), (None, 0))),
            },
            Some(Err(error)) => Some((Err(ReadFailed(error.kind(), error.to_string())), (None, 0))),
            None if left > 0 => Some((
                odd(format!("it ended {left} bytes before its {size}")),
                (None, 0),
            )),
            None => None,
        }
    })
}

/// The same bytes, with something held back to be sent byte by byte while nothing else comes:
/// pveproxy drops an upload without a word when nothing arrives for 5 s, and a disk that spins
/// up or a slow source may take longer.
fn steady<S: Stream<Item = Chunk> + Send>(
    source: S,
    pause: Duration,
) -> impl Stream<Item = Chunk> + Send {
    let state = (Box::pin(source.fuse()), Bytes::new());
    stream::unfold(state, move |(mut source, mut held)| async move {
        loop {
            let next = match tokio::time::timeout(pause, source.next()).await {
                // The last byte is not needed to keep the connection: without it the file would be whole.
                Err(_) if held.len() < 2 => source.next().await,
                Err(_) => return Some((Ok(held.split_to(1)), (source, held))),
                Ok(next) => next,
            };
            match next {
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) if held.is_empty() => held = bytes,
                Some(Ok(bytes)) => {
                    let ready = std::mem::replace(&mut held, bytes);
                    return Some((Ok(ready), (source, held)));
                }
                Some(Err(error)) => return Some((Err(error), (source, Bytes::new()))),
                None if held.is_empty() => return None,
                None => {
                    let last = std::mem::take(&mut held);
                    return Some((Ok(last), (source, held)));
                }
            }
        }
    })
}

/// Read `size` bytes of `file` on a thread, which ends when the stream is dropped.
fn chunks(file: File, size: u64) -> Result<impl Stream<Item = Chunk> + Send + use<>, Error> {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Chunk>(QUEUE);
    let read = move || {
        let mut left = size;
        while left > 0 {
            let want = CHUNK.min(usize::try_from(left).unwrap_or(CHUNK));
            // Not `vec![0; want]`: what is read needs no zeros first.
            let mut buffer = Vec::with_capacity(want);
            let read = retry_on_intr(|| rustix::io::read(&file, spare_capacity(&mut buffer)));
            let chunk = match read {
                Ok(0) => Err(ReadFailed(
                    std::io::ErrorKind::UnexpectedEof,
                    "it became shorter while it was uploaded".into(),
                )),
                Ok(_) => {
                    // A file that has grown may have filled more room than was asked for.
                    buffer.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                    left -= buffer.len() as u64;
                    Ok(Bytes::from(buffer))
                }
                Err(error) => Err(ReadFailed(error.kind(), error.to_string())),
            };
            let failed = chunk.is_err();
            if sender.blocking_send(chunk).is_err() || failed {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("upload".into())
        .spawn(read)
        .map_err(|e| Error::Settings(format!("cannot start a thread: {e}")))?;
    Ok(stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    }))
}

/// A boundary that no file contains but by a chance of 1 in 2^128. pveproxy wants it unquoted.
fn boundary() -> Result<String, Error> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|e| Error::Settings(format!("no random numbers: {e}")))?;
    Ok(format!("nixos-proxmox-{}", hex::encode(random)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn collect(stream: impl Stream<Item = Chunk>) -> Result<Vec<Bytes>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let all: Vec<_> = stream.collect().await;
            all.into_iter()
                .map(|chunk| chunk.map_err(|e| e.to_string()))
                .collect()
        })
    }

    proptest! {
        /// However the source splits them, the same bytes come out.
        #[test]
        fn splits_do_not_matter(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..600), 0..20)) {
            let whole: Vec<u8> = pieces.concat();
            let source = stream::iter(pieces.into_iter().map(|p| Ok(Bytes::from(p)))).boxed();
            let sent = collect(steady(exactly(whole.len() as u64, source), KEEP_ALIVE)).unwrap();
            prop_assert_eq!(sent.concat(), whole);
        }

        /// A source of another length than announced is an error, never a shorter or longer file.
        #[test]
        fn another_length_is_an_error(size in 0u64..2000, off in 1u64..500, longer: bool) {
            let given = if longer { size + off } else { size.saturating_sub(off) };
            prop_assume!(given != size);
            let source = stream::iter([Ok(Bytes::from(vec![0; given as usize]))]).boxed();
            prop_assert!(collect(steady(exactly(size, source), KEEP_ALIVE)).is_err());
        }
    }

    #[test]
    fn a_source_that_stalls_is_bridged_by_single_bytes() {
        let pause = Duration::from_millis(20);
        let source = stream::unfold(0, move |n| async move {
            if n == 1 {
                tokio::time::sleep(pause * 10).await;
            }
            (n < 2).then(|| (Ok(Bytes::from_static(b"0123456789")), n + 1))
        });
        let sent = collect(steady(source, pause)).unwrap();
        assert_eq!(sent.concat(), b"01234567890123456789");
        assert!(sent.len() > 3 && sent[0].len() == 1, "{sent:?}");
    }
}
