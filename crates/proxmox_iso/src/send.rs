//! Sending an ISO to the storage, from wherever it comes.

use std::path::Path;

use ansible_module::{Failure, FailureKind};
use pve_client::Upload;

use crate::apply::Arrived;
use crate::checksum::{Digest, Hasher};
use crate::compression::Compression;
use crate::content;
use crate::error::Error;
use crate::fetch::{Facts, Fetch, Hashing};
use crate::plan::Plan;
use crate::present::{Assessment, Present};
use crate::source::Origin;
use crate::unpack::{self, Measured, Packed};
use crate::{cache, local};

impl Present<'_> {
    /// Transfer it. `facts` is what the server says of it, where that is known already.
    ///
    /// # Errors
    /// When it cannot be read, is not an image, or does not arrive.
    pub async fn send(&self, assessment: &Assessment, facts: Facts) -> Result<Arrived, Failure> {
        match (&self.source.origin, &self.options.cache_dir) {
            (Origin::File(path), _) => {
                let known = assessment.desired.checksum.as_ref();
                self.send_file(path, known.into_iter().cloned().collect(), assessment)
                    .await
            }
            (Origin::Url { .. }, _) if self.by_node() => {
                self.node_downloads(assessment, facts).await
            }
            (Origin::Url { .. }, Some(dir)) => {
                let cached =
                    cache::file(dir, &self.source, &self.progress, self.context.deadline).await?;
                let mut known = cached.digests;
                if let Some(wanted) = &self.source.checksum {
                    known.sort_by_key(|digest| digest != wanted);
                }
                let arrived = self.send_file(&cached.path, known, assessment).await?;
                Ok(Arrived {
                    facts: cached.facts,
                    ..arrived
                })
            }
            (Origin::Url { .. }, None) => self.pass_on(assessment).await,
        }
    }

    /// Send a local file. The first of the checksums that are known is compared by PVE.
    async fn send_file(
        &self,
        path: &Path,
        known: Vec<Digest>,
        assessment: &Assessment,
    ) -> Result<Arrived, Failure> {
        let size = local::size(path)?;
        let shown = self.source.shown();
        if self.options.content_check
            && let Some(compression) =
                content::check(&shown, &local::head(path)?, Some(size), self.wanted())?
        {
            let measured = self
                .measure(
                    local::packed(path)?,
                    compression,
                    None,
                    assessment.found.as_ref(),
                )
                .await?;
            return self
                .unpack(compression, &measured, assessment, async || {
                    Ok(local::packed(path)?)
                })
                .await;
        }
        self.check_space(Some(size), assessment.found.as_ref())?;
        let digests = match known.is_empty() {
            true => {
                self.progress.step("hash");
                local::hash(path, Hasher::new(None)).await?
            }
            false => known,
        };
        let Some(first) = digests.first() else {
            return Ok(Arrived::default());
        };
        let upload = Upload::iso_file(self.volid.file_name(), path, &first.hex)
            .content(self.options.content.into())
            .checksum(first.algorithm.name(), &first.hex);
        let upid = self
            .transfer()
            .upload(
                &upload,
                size,
                &path.display().to_string(),
                assessment.found.as_ref(),
            )
            .await?;
        Ok(Arrived {
            upid,
            size: Some(size),
            digests,
            facts: Facts::default(),
        })
    }

    /// Send what is in a compressed source, which `open` opens once more for each attempt.
    async fn unpack(
        &self,
        compression: Compression,
        measured: &Measured,
        assessment: &Assessment,
        open: impl AsyncFn() -> Result<Packed, Failure>,
    ) -> Result<Arrived, Failure> {
        self.check_space(Some(measured.size), assessment.found.as_ref())?;
        let shown = self.source.shown();
        let name = self.volid.file_name();
        let mut left = self.options.connection.api_host.len();
        let upid = loop {
            let stream = unpack::stream(open().await?, compression).map_err(Error::Thread)?;
            let sha256 = measured.image.first().map(|digest| digest.hex.as_str());
            let upload = Upload::iso_stream(name, measured.size, sha256, stream)
                .content(self.options.content.into());
            let sent = self
                .transfer()
                .upload(&upload, measured.size, &shown, assessment.found.as_ref())
                .await;
            match sent {
                Err(lost) if is_lost(&lost) && left > 0 => left -= 1,
                settled => break settled?,
            }
        };
        Ok(Arrived {
            upid,
            size: Some(measured.size),
            digests: measured.digests(),
            facts: Facts::default(),
        })
    }

    /// Have the node download it.
    async fn node_downloads(
        &self,
        assessment: &Assessment,
        facts: Facts,
    ) -> Result<Arrived, Failure> {
        let transfer = self.transfer();
        let Some(public) = self.source.url() else {
            return Ok(Arrived::default());
        };
        // PVE does not overwrite a file by a download.
        if assessment.plan == Plan::Replace {
            transfer.delete().await?;
        }
        let digest = self.source.checksum.as_ref();
        let upid = transfer
            .download(public.as_str(), digest, false)
            .await
            .map_err(|failed| match &self.source.origin {
                Origin::Url {
                    private: Some(_), ..
                } => failed.hint(
                    "a node cannot use github_release.token: for a private repository set download_by: controller",
                ),
                _ => failed,
            })?;
        Ok(Arrived {
            upid: Some(upid),
            size: assessment.desired.size,
            digests: digest.into_iter().cloned().collect(),
            facts,
        })
    }

    /// Download it straight into the upload. A download can be passed on once: it is begun anew
    /// when the host that took it is lost.
    async fn pass_on(&self, assessment: &Assessment) -> Result<Arrived, Failure> {
        let mut left = self.options.connection.api_host.len();
        let arrived = loop {
            match self.pass_on_once(assessment).await {
                Err(lost) if is_lost(&lost) && left > 0 => left -= 1,
                settled => break settled?,
            }
        };
        let (None, Some(digest), Some(public)) = (
            &self.source.checksum,
            arrived.digests.first(),
            self.source.url(),
        ) else {
            return Ok(arrived);
        };
        // What was unpacked was hashed beforehand, and so compared as it arrived.
        if arrived.digests.len() > 1 {
            return Ok(arrived);
        }
        self.compare_arrived(&public.identity(), digest).await?;
        Ok(arrived)
    }

    /// Compare what was hashed as it passed with what arrived.
    async fn compare_arrived(&self, url: &str, digest: &Digest) -> Result<(), Failure> {
        use crate::apply::{Compared, mismatch_on_node};
        match self.transfer().compare(url, digest).await? {
            Compared::Same => {}
            Compared::Differs(_) => {
                return Err(mismatch_on_node(
                    &self.volid.to_string(),
                    "what arrived is not what was sent",
                ));
            }
            Compared::NotAllowed => self.context.task.warn(format!(
                "no checksum of {} was known beforehand: what arrived was compared by its size only, as {} may not \
                 have the node compare it (Sys.AccessNetwork); set checksum: ALGORITHM:HEX",
                self.source.shown(),
                self.context.client.caller()
            )),
        }
        Ok(())
    }

    /// One attempt.
    async fn pass_on_once(&self, assessment: &Assessment) -> Result<Arrived, Failure> {
        let shown = self.source.shown();
        let Some((url, with)) = self.source.request() else {
            return Ok(Arrived::default());
        };
        let fetch = Fetch::new()?;
        let mut download = fetch.download(url, with, self.context.deadline).await?;
        let facts = download.facts.clone();
        let size = facts.size;
        if let (Some(expected), Some(size)) = (self.source.size, size)
            && expected != size
        {
            let error = Error::NotTheReleasesSize {
                shown,
                size,
                expected,
            };
            return Err(error.into());
        }
        if self.options.content_check {
            let head = download.peek(&shown, self.context.deadline).await?;
            if let Some(compression) = content::check(&shown, &head, size, self.wanted())? {
                let packed = Packed::of_stream(download.stream);
                let measured = self
                    .measure(packed, compression, None, assessment.found.as_ref())
                    .await?;
                // It comes once more, as an upload has to say beforehand how long it is.
                let open = async || {
                    let again = fetch.download(url, with, self.context.deadline).await?;
                    Ok(Packed::of_stream(again.stream))
                };
                let arrived = self
                    .unpack(compression, &measured, assessment, open)
                    .await?;
                return Ok(Arrived { facts, ..arrived });
            }
        }
        // PVE has to know how long an upload is before it begins.
        let size = size.ok_or_else(|| Error::UnknownSize(shown.clone()))?;
        self.check_space(Some(size), assessment.found.as_ref())?;
        let name = self.volid.file_name();
        let content = self.options.content.into();
        // With a checksum PVE hashes what arrives; that is not done twice.
        let (upload, hashing) = match &self.source.checksum {
            Some(digest) => (
                Upload::iso_stream(name, size, None, download.stream)
                    .content(content)
                    .checksum(digest.algorithm.name(), &digest.hex),
                None,
            ),
            None => {
                let (stream, hashing) = Hashing::of(download.stream, Hasher::new(None));
                let upload = Upload::iso_stream(name, size, None, stream).content(content);
                (upload, Some(hashing))
            }
        };
        let upid = self
            .transfer()
            .upload(&upload, size, &shown, assessment.found.as_ref())
            .await?;
        let digests = match hashing {
            Some(hashing) => hashing.digests(),
            None => self.source.checksum.iter().cloned().collect(),
        };
        Ok(Arrived {
            upid,
            size: Some(size),
            digests,
            facts,
        })
    }
}

/// Whether the host that took the upload is lost, and nothing was changed.
fn is_lost(failure: &Failure) -> bool {
    matches!(
        failure.kind,
        FailureKind::ConnectionLost | FailureKind::Unreachable
    )
}
