//! The bytes of an upload, from wherever they come.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use rustix::buffer::spare_capacity;
use rustix::io::retry_on_intr;

use crate::Error;

/// Bytes read from a file at a time.
const CHUNK: usize = 128 * 1024;
/// Chunks that wait between the reading thread and the network.
const QUEUE: usize = 4;

/// Bytes on their way from somewhere else.
pub type ByteStream = stream::BoxStream<'static, std::io::Result<Bytes>>;

#[derive(Clone)]
pub(super) enum Source {
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

/// An error of the file behind the body, rather than of the network.
pub(super) fn file_error(error: &reqwest::Error) -> Option<std::io::Error> {
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
pub(super) struct ReadFailed(pub(super) std::io::ErrorKind, pub(super) String);

pub(super) type Chunk = Result<Bytes, ReadFailed>;

/// The size of the source and a stream of exactly that many bytes; counts them in `sent` as they
/// are taken by the network.
pub(super) fn open(
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
pub(super) fn exactly(size: u64, stream: ByteStream) -> impl Stream<Item = Chunk> + Send {
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
pub(super) fn steady<S: Stream<Item = Chunk> + Send>(
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
