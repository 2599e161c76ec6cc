//! Unpacking compressed images as they pass, in memory that does not depend on their size.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use pve_client::ByteStream;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use tokio::sync::mpsc;

use crate::checksum::{Algorithm, Digest, Hasher};
use crate::compression::Compression;
use crate::content::{self, Kind};
use crate::error::Error;
use crate::wanted::Wanted;

/// Bytes that are passed on at a time.
const CHUNK: usize = 128 * 1024;
/// Chunks that wait between two steps.
const QUEUE: usize = 4;
/// What unpacking may take for its window: `xz -9` and `zstd --long=27` need less.
const MEMORY: u64 = 192 << 20;

/// Zstandard frames one after another; those to be skipped are.
struct Frames {
    packed: BufReader<Packed>,
    decoder: FrameDecoder,
    /// Within a frame.
    within: bool,
}

impl Frames {
    /// Begin the next frame. `false` at the end.
    fn next(&mut self) -> io::Result<bool> {
        while !self.packed.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.packed) {
                Ok(()) => {
                    self.within = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let mut skipped = self.packed.by_ref().take(u64::from(length));
                    if io::copy(&mut skipped, &mut io::sink())? < u64::from(length) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl Read for Frames {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.within {
                while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                    self.decoder
                        .decode_blocks(&mut self.packed, BlockDecodingStrategy::UptoBlocks(1))
                        .map_err(io::Error::other)?;
                }
                let read = self.decoder.read(buffer)?;
                if read > 0 || buffer.is_empty() {
                    return Ok(read);
                }
                let told = self.decoder.get_checksum_from_data();
                if told.is_some() && told != self.decoder.get_calculated_checksum() {
                    return Err(io::Error::other("its own checksum does not fit"));
                }
                self.within = false;
            }
            if !self.next()? {
                return Ok(0);
            }
        }
    }
}

/// The bytes of a compressed file, from wherever they come, hashed as they pass.
pub struct Packed {
    source: Box<dyn Read + Send>,
    hasher: Arc<Mutex<Hasher>>,
    /// Why the source could not be read: decoders wrap that in words of their own.
    failed: Arc<Mutex<Option<String>>>,
}

impl Packed {
    /// Of a file or something like it.
    pub fn of(source: impl Read + Send + 'static) -> Self {
        Self {
            source: Box::new(source),
            hasher: Arc::new(Mutex::new(Hasher::of(&[]))),
            failed: Arc::default(),
        }
    }

    /// Of a stream, which the current runtime reads.
    pub fn of_stream(mut stream: ByteStream) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            while let Some(bytes) = stream.next().await {
                if sender.send(bytes).await.is_err() {
                    return;
                }
            }
        });
        Self::of(Received {
            receiver,
            bytes: Bytes::new(),
        })
    }
}

impl Read for Packed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer).inspect_err(|error| {
            *lock(&self.failed) = Some(error.to_string());
        })?;
        let mut hasher = self.hasher.lock().unwrap_or_else(PoisonError::into_inner);
        hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// A stream, read by a thread that may wait.
struct Received {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    bytes: Bytes,
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.bytes.is_empty() {
            match self.receiver.blocking_recv() {
                Some(bytes) => self.bytes = bytes?,
                None => return Ok(0),
            }
        }
        let count = self.bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.bytes.split_to(count));
        Ok(count)
    }
}

/// What is in a compressed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// Unpacked bytes.
    pub size: u64,
    /// Checksums of the image, SHA-256 first.
    pub image: Vec<Digest>,
    /// Checksums of the file as published, SHA-256 first.
    pub published: Vec<Digest>,
}

impl Measured {
    /// All checksums. The image's come first: what is on the storage is compared with the first one of an algorithm.
    pub fn digests(&self) -> Vec<Digest> {
        [&self.image[..], &self.published].concat()
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a compressed file cannot be used.
#[derive(Debug)]
pub enum Unusable {
    /// It cannot be read.
    Unreadable(String),
    /// It cannot be unpacked.
    Broken(io::Error),
    /// What is in it is not what is wanted but this.
    NotAnImage(Kind),
    /// It has more than so many bytes.
    TooLarge(u64),
    /// The image in it says that it is longer, by so many bytes.
    CutShort(u64),
}

impl Unusable {
    /// The error of the source that is called `shown`.
    pub fn into_error(self, shown: &str, compression: Compression, wanted: Wanted) -> Error {
        let shown = shown.to_owned();
        match self {
            Self::Unreadable(reason) => Error::Interrupted { shown, reason },
            Self::Broken(error) => Error::CannotUnpack {
                shown,
                compression,
                error,
            },
            Self::NotAnImage(kind) => kind.refuse_unpacked(shown, compression, wanted),
            Self::TooLarge(most) => Error::NoSpaceUnpacked { shown, most },
            Self::CutShort(lacking) => Error::CutShort { shown, lacking },
        }
    }
}

/// Unpack it once, to learn what an upload has to say beforehand: size and checksums, by SHA-256 and
/// `also` by others. `most` bounds the size, `wanted` is what it has to be.
pub async fn measure(
    packed: Packed,
    compression: Compression,
    also: Vec<Algorithm>,
    most: u64,
    wanted: Wanted,
) -> Result<Measured, Unusable> {
    let (answer, done) = tokio::sync::oneshot::channel();
    thread(move || {
        // Nobody waits for it any more when the task has ended.
        let _ = answer.send(measure_now(packed, compression, also, most, wanted));
    })
    .map_err(Unusable::Broken)?;
    done.await
        .unwrap_or_else(|_| Err(Unusable::Broken(io::Error::other("unpacking ended early"))))
}

fn measure_now(
    mut packed: Packed,
    compression: Compression,
    also: Vec<Algorithm>,
    most: u64,
    wanted: Wanted,
) -> Result<Measured, Unusable> {
    let hasher = Hasher::new(also);
    let mut image = hasher.clone();
    let hasher = Arc::new(Mutex::new(hasher));
    packed.hasher = hasher.clone();
    let failed = packed.failed.clone();
    let broken = |error| match lock(&failed).take() {
        Some(error) => Unusable::Unreadable(error),
        None => Unusable::Broken(error),
    };
    let mut unpacked = reader(compression, packed).map_err(broken)?;
    let mut size = 0u64;
    let (mut head, mut says, mut known) = (Vec::new(), None, false);
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = unpacked.read(&mut buffer).map_err(broken)?;
        image.update(&buffer[..read]);
        size += read as u64;
        if size > most {
            return Err(Unusable::TooLarge(most));
        }
        if !known {
            let lacking = content::HEAD - head.len();
            head.extend_from_slice(&buffer[..read.min(lacking)]);
            if head.len() == content::HEAD || read == 0 {
                let whole = (read == 0).then_some(size);
                says = content::kind(&head, whole)
                    .expect(wanted)
                    .map_err(Unusable::NotAnImage)?;
                (known, head) = (true, Vec::new());
            }
        }
        if read == 0 {
            break;
        }
    }
    drop(unpacked);
    if let Some(lacking) = content::lacks(says, size) {
        return Err(Unusable::CutShort(lacking));
    }
    let published = hasher
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .digests();
    Ok(Measured {
        size,
        image: image.digests(),
        published,
    })
}

/// The unpacked bytes as a stream.
///
/// # Errors
/// When no thread can be started.
pub fn stream(packed: Packed, compression: Compression) -> io::Result<ByteStream> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    thread(move || {
        let mut unpacked = match reader(compression, packed) {
            Ok(unpacked) => unpacked,
            Err(error) => {
                let _ = sender.blocking_send(Err(error));
                return;
            }
        };
        loop {
            let mut buffer = vec![0; CHUNK];
            let chunk = match unpacked.read(&mut buffer) {
                Ok(0) => return,
                Ok(read) => {
                    buffer.truncate(read);
                    Ok(Bytes::from(buffer))
                }
                Err(error) => Err(error),
            };
            let failed = chunk.is_err();
            // The upload may have ended meanwhile.
            if sender.blocking_send(chunk).is_err() || failed {
                return;
            }
        }
    })?;
    Ok(stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    })
    .boxed())
}

fn thread(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new()
        .name("unpack".into())
        .spawn(work)
        .map(|_| ())
}

/// The unpacked bytes of `packed`, all members and frames of it.
fn reader(compression: Compression, packed: Packed) -> io::Result<Box<dyn Read + Send>> {
    let packed = BufReader::with_capacity(CHUNK, packed);
    Ok(match compression {
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(packed)),
        Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(
            packed,
            true,
            u32::try_from(MEMORY / 1024).unwrap_or(u32::MAX),
        )),
        Compression::Zstd => {
            let mut decoder = FrameDecoder::new();
            decoder.set_max_window_size(MEMORY);
            Box::new(Frames {
                packed,
                decoder,
                within: false,
            })
        }
    })
}
