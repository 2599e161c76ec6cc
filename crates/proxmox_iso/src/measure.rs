//! What is in a compressed source: its size and checksums once unpacked.

use ansible_module::Failure;
use pve_client::StorageContent;

use crate::cache;
use crate::checksum::Algorithm;
use crate::compression::Compression;
use crate::fetch::{Facts, Fetch};
use crate::local;
use crate::present::Present;
use crate::source::{Origin, mismatch};
use crate::unpack::{self, Measured, Packed};

impl Present<'_> {
    /// Unpack it once to learn size and checksums, `also` by these algorithms, and compare these with
    /// the one wanted.
    ///
    /// # Errors
    /// When it cannot be unpacked, is not an image, or is another one.
    pub async fn measure(
        &self,
        packed: Packed,
        compression: Compression,
        also: impl IntoIterator<Item = Algorithm>,
        found: Option<&StorageContent>,
    ) -> Result<Measured, Failure> {
        if let Some(Some(measured)) = self.measured.get() {
            return Ok(measured.clone());
        }
        self.progress.step("unpack");
        let wanted = self.source.checksum.as_ref();
        let algorithms = wanted.map(|digest| digest.algorithm);
        let algorithms: Vec<_> = algorithms.into_iter().chain(also).collect();
        let most = self.usable(found).unwrap_or(u64::MAX);
        let shown = self.source.shown();
        let measured = self
            .context
            .deadline
            .run(
                format!("the unpacking of {shown}"),
                unpack::measure(packed, compression, algorithms, most, self.wanted()),
            )
            .await?
            .map_err(|unusable| unusable.into_error(&shown, compression, self.wanted()))?;
        match wanted {
            Some(wanted)
                if !measured.image.contains(wanted) && !measured.published.contains(wanted) =>
            {
                let got = measured
                    .published
                    .iter()
                    .find(|digest| digest.algorithm == wanted.algorithm);
                Err(mismatch(&self.source, wanted, got))
            }
            _ => Ok(measured),
        }
    }

    /// Whether what the controller downloads is compressed. Not every address has a name that shows
    /// it; who cannot be reached is taken by the name.
    pub async fn is_packed(&self, facts: &Facts) -> bool {
        if self.source.compression().is_some() {
            return self.options.content_check;
        }
        facts.size.is_some() && matches!(self.packed().await, Ok(Some(_)))
    }

    /// The bytes of the source, if it is compressed and is unpacked by the controller.
    async fn packed(&self) -> Result<Option<(Packed, Compression)>, Failure> {
        if !self.options.content_check || self.by_node() {
            return Ok(None);
        }
        match &self.source.origin {
            Origin::File(path) => {
                let compression = Compression::of_bytes(&local::head(path)?);
                compression
                    .map(|compression| Ok((local::packed(path)?, compression)))
                    .transpose()
            }
            Origin::Url { .. } => {
                let Some((url, with)) = self.source.request() else {
                    return Ok(None);
                };
                if let Some(dir) = &self.options.cache_dir
                    && self.source.compression().is_some()
                    && !self.context.task.check_mode
                {
                    let cached =
                        cache::file(dir, &self.source, &self.progress, self.context.deadline)
                            .await?;
                    let compression = Compression::of_bytes(&local::head(&cached.path)?);
                    return compression
                        .map(|compression| Ok((local::packed(&cached.path)?, compression)))
                        .transpose();
                }
                let mut download = Fetch::new()?
                    .download(url, with, self.context.deadline)
                    .await?;
                let head = download
                    .peek(&self.source.shown(), self.context.deadline)
                    .await?;
                Ok(Compression::of_bytes(&head)
                    .map(|compression| (Packed::of_stream(download.stream), compression)))
            }
        }
    }

    /// What is in the source, if it is compressed: size and checksums, `also` by these algorithms. A
    /// server that is out of reach counts as one without compressed files, unless the source's name
    /// says otherwise.
    pub async fn unpacked(
        &self,
        also: impl IntoIterator<Item = Algorithm>,
        found: Option<&StorageContent>,
    ) -> Result<Option<&Measured>, Failure> {
        let measure = async || {
            let packed = match self.packed().await {
                Err(_) if self.source.compression().is_none() => None,
                packed => packed?,
            };
            match packed {
                Some((packed, compression)) => {
                    let measured = self.measure(packed, compression, also, found).await?;
                    Ok(Some(measured))
                }
                None => Ok::<_, Failure>(None),
            }
        };
        Ok(self.measured.get_or_try_init(measure).await?.as_ref())
    }
}
