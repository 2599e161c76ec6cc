//! Making an ISO present: read, plan, check, lock, transfer, record.

use ansible_module::{Failure, Outcome};
use pve_client::{Storage, StorageContent, Volid};
use pve_module::{Context, Lock};
use tokio::sync::OnceCell;

use crate::address::Address;
use crate::apply::{Compared, Transfer};
use crate::cache;
use crate::checksum::{Algorithm, Digest, Hasher};
use crate::compression::Compression;
use crate::content;
use crate::error::Error;
use crate::fetch::{Facts, Fetch};
use crate::local;
use crate::options::{DownloadBy, Options};
use crate::plan::{Desired, Plan, assume, plan};
use crate::record::{Memory, Record, RecordFile};
use crate::report::Report;
use crate::send::Arrived;
use crate::source::{GLANCE, Origin, Source, compressed_for_node, mismatch};
use crate::state;
use crate::transfer_progress::TransferProgress;
use crate::unpack::{self, Measured, Packed};

/// One task that makes an ISO present.
pub struct Present<'a> {
    pub context: Context<'a>,
    /// What was asked for.
    pub options: &'a Options,
    /// Where progress goes.
    pub progress: TransferProgress,
    /// The storage.
    pub storage: Storage,
    /// Where the ISO comes from.
    pub source: Source,
    /// What it becomes.
    pub volid: Volid,
    /// Names it among all that this controller deals with.
    pub key: String,
    /// What is remembered of it.
    pub record: RecordFile,
    /// What is in the source if it is compressed; it is unpacked for that once.
    pub measured: OnceCell<Option<Measured>>,
}

/// What is there, what is wanted, and what follows.
pub struct Look {
    /// The volume of that name.
    pub found: Option<StorageContent>,
    /// What is remembered of it.
    pub memory: Memory,
    /// What is wanted.
    pub desired: Desired,
    /// Checksums of a compressed source and of its image, which is the recorded one. The record may lack some.
    pub learned: Vec<Digest>,
    /// What follows.
    pub plan: Plan,
}

impl Present<'_> {
    /// Whether the node itself downloads it.
    pub fn by_node(&self) -> bool {
        self.source.url().is_some() && self.options.download_by == DownloadBy::Node
    }

    /// Make it present.
    ///
    /// # Errors
    /// When something else of that name is there, or the transfer fails.
    pub async fn run(&self) -> Result<Outcome, Failure> {
        let look = self.look().await?;
        if let Some(outcome) = self.settled(&look).await? {
            return Ok(outcome);
        }
        if look.plan != Plan::Compare {
            self.check_right().await?;
            self.check_space(look.desired.size, look.found.as_ref())?;
            self.check_users(&look).await?;
        }
        let facts = self.check_content(&look).await?;
        if self.context.task.check_mode {
            return Ok(self.report().would(&look));
        }
        // Hosts that run in parallel ask for the same ISO: the first transfers it, the others
        // find it there.
        self.progress.step("lock");
        let _lock = Lock::acquire(&format!("iso-{}", self.key), self.context.deadline).await?;
        let look = self.look().await?;
        if let Some(outcome) = self.settled(&look).await? {
            return Ok(outcome);
        }
        if look.plan == Plan::Compare {
            return self.compare(&look).await;
        }
        let arrived = self
            .send(&look, facts)
            .await
            .map_err(|failure| self.source.explain(failure))?;
        let now = self.transfer().verify(arrived.size).await?;
        self.remember(&arrived, &now, self.source.url().map(Address::identity));
        Ok(self.report().done(&look, &arrived, &now).await)
    }

    /// The outcome, if nothing has to be done.
    async fn settled(&self, look: &Look) -> Result<Option<Outcome>, Failure> {
        match &look.plan {
            Plan::Assume(why) => self.context.task.warn(why.clone()),
            Plan::Keep => self.learn(look),
            Plan::Create | Plan::Replace | Plan::Compare => return Ok(None),
        }
        Ok(Some(self.report().kept(look).await))
    }

    /// What is there, once nobody writes it, and what follows.
    async fn look(&self) -> Result<Look, Failure> {
        let node = &self.options.node;
        let mut desired = self.desired()?;
        let found = state::find_settled(&self.context, node, &self.volid, desired.size).await?;
        let memory = match &found {
            Some(found) => Memory::of(self.record.read(), found),
            None => Memory::Nothing,
        };
        if let Some(found) = &found
            && desired.checksum.is_none()
        {
            desired = self.complete(desired, found, &memory).await?;
        }
        let mut learned = Vec::new();
        if let Some(record) = memory.valid()
            && let Some(wanted) = desired.checksum.clone()
            && !record.digests.contains(&wanted)
            && let known = comparable(&record.digests)
            && let also = known.into_iter().chain([wanted.algorithm])
            && let Some(measured) = self.unpacked(also, found.as_ref()).await?
        {
            // The checksum of a compressed file does not identify the image in it: the same image
            // may be compressed in many ways, or not at all.
            let image = &measured.image;
            let comparable = image
                .iter()
                .find(|digest| Some(digest.algorithm) == known)
                .or(image.first());
            learned = measured.digests();
            desired = Desired {
                size: Some(measured.size),
                checksum: comparable.cloned(),
                ..desired
            };
        }
        let plan = plan(
            &self.volid.to_string(),
            &desired,
            found.as_ref(),
            &memory,
            self.options.force,
        )?;
        Ok(Look {
            found,
            memory,
            desired,
            learned,
            plan,
        })
    }

    /// Add to the record what unpacking has shown, so that the next run need not unpack.
    fn learn(&self, look: &Look) {
        let (Some(record), Some(found)) = (look.memory.valid(), &look.found) else {
            return;
        };
        if look.learned.is_empty() || self.context.task.check_mode {
            return;
        }
        let mut digests = record.digests.clone();
        for digest in &look.learned {
            if !digests.contains(digest) {
                digests.push(digest.clone());
            }
        }
        let arrived = Arrived {
            digests,
            facts: record.facts.clone(),
            ..Arrived::default()
        };
        self.remember(&arrived, found, record.source.clone());
    }

    /// What is wanted, as far as it is known without asking anybody.
    fn desired(&self) -> Result<Desired, Failure> {
        let packed = match &self.source.origin {
            Origin::File(path) if self.options.content_check => {
                Compression::of_bytes(&local::head(path)?).is_some()
            }
            Origin::Url { .. } if self.options.content_check => self.source.compression().is_some(),
            _ => false,
        };
        Ok(Desired {
            size: self.source.size.filter(|_| !packed),
            checksum: self.source.checksum.clone(),
            source: self.source.url().map(Address::identity),
            facts: Facts {
                size: self.source.size,
                ..Facts::default()
            },
            unreachable: None,
        })
    }

    /// With what tells whether it is what was found: the file's checksum, or what the server says.
    async fn complete(
        &self,
        desired: Desired,
        found: &StorageContent,
        memory: &Memory,
    ) -> Result<Desired, Failure> {
        match &self.source.origin {
            // Another size is another content.
            Origin::File(_) if desired.size.is_some() && desired.size != found.size => Ok(desired),
            Origin::File(path) => {
                let known = memory.valid().map(|record| record.digests.as_slice());
                let algorithm = known.and_then(comparable).unwrap_or(Algorithm::Sha256);
                self.progress.step("hash");
                let digests = local::hash(path, Hasher::of(&[algorithm])).await?;
                Ok(Desired {
                    checksum: digests.into_iter().next(),
                    ..desired
                })
            }
            // The release has said it.
            Origin::Url { .. } if desired.facts.size.is_some() => Ok(desired),
            Origin::Url { .. } => {
                let asked = self.source.ask(&self.context, self.options);
                Ok(match asked.await {
                    Ok(facts) => Desired {
                        size: match facts.size == found.size || !self.is_packed(&facts).await {
                            true => facts.size,
                            false => None,
                        },
                        facts,
                        ..desired
                    },
                    Err(failure) => Desired {
                        unreachable: Some(failure.msg),
                        ..desired
                    },
                })
            }
        }
    }

    /// PVE says that a right is missing only in the middle of an upload.
    async fn check_right(&self) -> Result<(), Failure> {
        let path = format!("/storage/{}", self.volid.storage);
        match self
            .context
            .client
            .privileges(&path, self.context.deadline)
            .await
        {
            Ok(held) if !held.contains("Datastore.AllocateTemplate") => {
                Err(pve_module::permission_denied(
                    self.context.client,
                    &path,
                    "Datastore.AllocateTemplate",
                ))
            }
            // Where it cannot be asked PVE decides.
            _ => Ok(()),
        }
    }

    /// Refuse what the storage has no room for.
    ///
    /// # Errors
    /// [`Error::NoSpace`].
    pub fn check_space(
        &self,
        size: Option<u64>,
        found: Option<&StorageContent>,
    ) -> Result<(), Error> {
        let (Some(size), Some(usable)) = (size, self.usable(found)) else {
            return Ok(());
        };
        if size <= usable {
            return Ok(());
        }
        Err(Error::NoSpace {
            volid: self.volid.clone(),
            usable,
            size,
        })
    }

    /// The room on the storage once what is there is gone.
    fn usable(&self, found: Option<&StorageContent>) -> Option<u64> {
        let avail = self.storage.avail?;
        Some(avail + found.and_then(|volume| volume.size).unwrap_or(0))
    }

    /// PVE overwrites a file in place: a guest that runs from it would read a mixture.
    async fn check_users(&self, look: &Look) -> Result<(), Failure> {
        if look.plan != Plan::Replace {
            return Ok(());
        }
        let users = state::users(&self.context, &self.options.node, &self.storage).await?;
        let running: Vec<_> = users
            .iter()
            .filter(|user| user.runs() && user.uses(&self.volid))
            .collect();
        match running.is_empty() {
            true => Ok(()),
            false => {
                let in_use = Error::InUseByRunningVm {
                    volid: self.volid.clone(),
                    users: running.iter().map(ToString::to_string).collect(),
                };
                Err(in_use.into())
            }
        }
    }

    /// Look at what would be transferred. What a controller passes on is looked at as it comes, so
    /// that only a check looks at it here. Returns what the server says of it.
    async fn check_content(&self, look: &Look) -> Result<Facts, Failure> {
        let transfers = look.plan != Plan::Compare;
        match &self.source.origin {
            Origin::Url { .. } if transfers && self.by_node() => {
                self.check_node_download(look).await
            }
            // A check of a release asks its API only.
            Origin::Url { .. }
                if transfers
                    && self.context.task.check_mode
                    && self.options.github_release.is_none() =>
            {
                let Some((url, with)) = self.source.request() else {
                    return Ok(Facts::default());
                };
                let mut download = Fetch::new()?
                    .download(url, with, self.context.deadline)
                    .await?;
                if self.options.content_check {
                    let shown = self.source.shown();
                    let head = download.peek(&shown, self.context.deadline).await?;
                    content::check(&shown, &head, download.facts.size)?;
                }
                Ok(download.facts)
            }
            Origin::File(path) if transfers && self.options.content_check => {
                let shown = path.display().to_string();
                content::check(&shown, &local::head(path)?, self.source.size)?;
                Ok(Facts::default())
            }
            _ => Ok(Facts::default()),
        }
    }

    /// What a node downloads ends up on the storage at once: the controller looks at its first bytes
    /// before, if it can.
    async fn check_node_download(&self, look: &Look) -> Result<Facts, Failure> {
        let Some(public) = self.source.url() else {
            return Ok(Facts::default());
        };
        let shown = public.shown();
        if public.has_secret() {
            self.context.task.warn(format!(
                "url: the node writes the address of {shown} into its task log, and the address carries a secret; set download_by: controller"
            ));
        }
        let limit = self.context.deadline.shorter(GLANCE);
        let own = async {
            let mut download = Fetch::new()?
                .download(public.as_str(), Default::default(), &limit)
                .await?;
            let head = download.peek(&shown, &limit).await?;
            Ok::<_, Failure>((download.facts, head))
        };
        let own = own.await;
        let node = match own.is_ok() && look.plan == Plan::Create {
            true => None,
            false => Some(state::url_facts(&self.context, &self.options.node, public).await),
        };
        let facts = match (own, node) {
            (Ok((facts, head)), _) => {
                if self.options.content_check
                    && let Some(compression) = content::check(&shown, &head, facts.size)?
                {
                    return Err(compressed_for_node(&shown, compression).into());
                }
                return Ok(facts);
            }
            (Err(_), Some(Ok(facts))) => facts,
            // The old one is deleted before: not for what nobody can read.
            (Err(_), Some(Err(failed))) if look.plan == Plan::Replace => return Err(failed),
            // The server has no such file, whoever asks.
            (Err(failed), _) if matches!(failed.status, Some(404 | 410)) => return Err(failed),
            (Err(failed), _) => {
                if self.context.task.check_mode {
                    self.context.task.warn(format!(
                        "url: {} (the node may reach it nevertheless)",
                        failed.msg
                    ));
                }
                Facts::default()
            }
        };
        if self.options.content_check {
            let is = |text: &str| {
                facts
                    .media_type
                    .as_deref()
                    .is_some_and(|kind| kind.starts_with(text))
            };
            if is("text/html") {
                content::check(&shown, b"<html>", None)?;
            }
            if facts.size == Some(0) {
                content::check(&shown, b"", Some(0))?;
            }
            if self.source.checksum.is_none() {
                self.context.task.warn(format!(
                    "{shown} was not looked at, since the controller could not read it: nothing tells that it is an ISO image; set checksum: ALGORITHM:HEX"
                ));
            }
        }
        Ok(facts)
    }

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
                unpack::measure(packed, compression, algorithms, most),
            )
            .await?
            .map_err(|unusable| unusable.into_error(&shown, compression))?;
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

    /// Have the node compare what is there.
    async fn compare(&self, look: &Look) -> Result<Outcome, Failure> {
        let (Some(found), Some(wanted)) = (&look.found, &look.desired.checksum) else {
            return Ok(self.report().kept(look).await);
        };
        let volid = self.volid.to_string();
        let also = [wanted.algorithm];
        // Whether an address with an uncompressed name gives something compressed is asked only if
        // what is there is not what the checksum says.
        let by_name = self.source.url().is_none() || self.source.compression().is_some();
        let mut measured = match by_name {
            true => self.unpacked(also, Some(found)).await?,
            false => None,
        };
        // The address is not asked for anything: it stands in the task's log.
        let url = match self.source.url() {
            Some(url) => url.identity(),
            None => format!("http://localhost/{}", self.volid.file_name()),
        };
        let (compared, digests) = loop {
            let digests = match measured {
                Some(measured) if Some(measured.size) != found.size => {
                    let size = found.size.unwrap_or(0);
                    let difference = format!(
                        "its size differs: {size} instead of {} bytes",
                        measured.size
                    );
                    return Err(Error::exists(&volid, difference).into());
                }
                Some(measured) => measured.digests(),
                None => vec![wanted.clone()],
            };
            let Some(digest) = digests.first() else {
                return Ok(self.report().kept(look).await);
            };
            let compared = self.transfer().compare(&url, digest).await?;
            if measured.is_none() && !by_name && matches!(compared, Compared::Differs(_)) {
                measured = self.unpacked(also, Some(found)).await?;
                if measured.is_some() {
                    continue;
                }
            }
            break (compared, digests);
        };
        match compared {
            Compared::Same => {
                let known = look.memory.valid();
                let arrived = Arrived {
                    upid: None,
                    size: found.size,
                    digests,
                    facts: known.map(|record| record.facts.clone()).unwrap_or_default(),
                };
                // It was not transferred now: what is known of where it came from stays.
                self.remember(
                    &arrived,
                    found,
                    known.and_then(|record| record.source.clone()),
                );
                Ok(self.report().compared(look, &arrived).await)
            }
            Compared::Differs(difference) => Err(Error::exists(&volid, difference).into()),
            Compared::NotAllowed => {
                let desired = Desired {
                    size: look
                        .desired
                        .size
                        .or_else(|| (digests.len() > 1).then_some(found.size).flatten()),
                    ..look.desired.clone()
                };
                if let Plan::Assume(why) = assume(&volid, &desired, found, &look.memory)? {
                    self.context.task.warn(format!(
                        "{why}, as {} may not have node {} do it (Sys.AccessNetwork)",
                        self.context.client.caller(),
                        self.options.node
                    ));
                }
                Ok(self.report().kept(look).await)
            }
        }
    }

    /// Whether what the controller downloads is compressed. Not every address has a name that shows
    /// it; who cannot be reached is taken by the name.
    async fn is_packed(&self, facts: &Facts) -> bool {
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
    async fn unpacked(
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

    fn remember(&self, arrived: &Arrived, now: &StorageContent, source: Option<String>) {
        let (Some(size), Some(ctime)) = (now.size, now.ctime) else {
            return;
        };
        let record = Record {
            size,
            ctime,
            digests: arrived.digests.clone(),
            source,
            facts: arrived.facts.clone(),
        };
        if let Err(error) = self.record.write(&record) {
            self.context.task.warn(format!(
                "the checksum of {} could not be recorded: {error}",
                self.volid
            ));
        }
    }

    /// The steps of a transfer.
    pub fn transfer(&self) -> Transfer<'_> {
        Transfer {
            context: self.context,
            node: &self.options.node,
            volid: &self.volid,
            progress: &self.progress,
        }
    }

    fn report(&self) -> Report<'_> {
        Report {
            context: self.context,
            node: &self.options.node,
            volid: &self.volid,
            by_node: self.by_node(),
        }
    }
}

/// The algorithm by which a file can be compared with what is recorded.
fn comparable(known: &[Digest]) -> Option<Algorithm> {
    let algorithms = known.iter().map(|digest| digest.algorithm);
    algorithms.min()
}
