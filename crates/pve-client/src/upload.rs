//! Uploading a file to a storage, streamed in constant memory.
//!
//! pveproxy parses the multipart body by hand, and it is written the way that parser wants it:
//! the scalar fields go into the query (which frees them from its field order), the only part is
//! `filename`, its header block is sent in one piece (a split one ends up inside the stored
//! file), and the length is known beforehand. The checksum has to be sent before the data, so it
//! is either known or computed by reading the file first; the server compares it with what
//! arrived, which makes a second hash here pointless.

mod body;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use deadline::{Deadline, backoff};
use futures_util::stream::{self, StreamExt};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use serde_json::Value;

use crate::client::{RETRIES, not_sent};
use crate::params::{Params, encode};
use crate::volid::{Content, normalise_upload_name};
use crate::{Client, Error, Upid, sha256_bytes};

pub use body::ByteStream;
use body::{ReadFailed, Source, file_error, open, steady};

/// How long nothing may come from the source before a byte is sent all the same.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// How often progress is told.
const TICK: Duration = Duration::from_millis(500);

/// Something to upload.
#[derive(Debug, Clone)]
pub struct Upload {
    content: Content,
    name: String,
    /// Algorithm, as PVE names it, and hex digits.
    checksum: Option<(&'static str, String)>,
    source: Source,
}

impl Upload {
    /// A file as ISO content under `name`, which is [normalised](normalise_upload_name) as PVE
    /// does it. `sha256` (hex) is what PVE compares with what arrives.
    pub fn iso_file(name: &str, path: &Path, sha256: &str) -> Self {
        Self {
            content: Content::Iso,
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
            content: Content::Iso,
            name: normalise_upload_name(name),
            checksum: Some(("sha256", sha256)),
            source: Source::Bytes(bytes),
        }
    }

    /// Exactly `size` bytes of a stream as ISO content under `name`. Without `sha256` PVE compares
    /// nothing; the size in its list is then all that tells whether they arrived.
    pub fn iso_stream(name: &str, size: u64, sha256: Option<&str>, stream: ByteStream) -> Self {
        Self {
            content: Content::Iso,
            name: normalise_upload_name(name),
            checksum: sha256.map(|hex| ("sha256", hex.to_string())),
            source: Source::Stream(size, Arc::new(Mutex::new(Some(stream)))),
        }
    }

    /// Send it as another content type than ISO.
    #[must_use]
    pub fn content(mut self, content: Content) -> Self {
        self.content = content;
        self
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
        if !upload.content.takes(&upload.name) {
            return Err(Error::Settings(format!(
                "'{}' is not a name for content of the type {}: it must end in .{}",
                upload.name,
                upload.content.name(),
                upload.content.endings().join(" or .")
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
        let mut query = Params::new().with("content", upload.content.name());
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

/// A boundary that no file contains but by a chance of 1 in 2^128. pveproxy wants it unquoted.
fn boundary() -> Result<String, Error> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|e| Error::Settings(format!("no random numbers: {e}")))?;
    Ok(format!("nixos-proxmox-{}", hex::encode(random)))
}

#[cfg(test)]
mod tests;
