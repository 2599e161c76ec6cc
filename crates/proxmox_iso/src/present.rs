//! The task that makes an ISO present: what there is, what is wanted, and what follows.

use ansible_module::Failure;
use pve_client::{Storage, StorageContent, Volid};
use pve_module::Context;
use tokio::sync::OnceCell;

use crate::address::Address;
use crate::apply::{Arrived, Transfer};
use crate::checksum::{Algorithm, Digest, Hasher};
use crate::compression::Compression;
use crate::fetch::Facts;
use crate::local;
use crate::options::{DownloadBy, Options};
use crate::plan::{Desired, Plan, plan};
use crate::record::{Memory, Record, RecordFile};
use crate::source::{Origin, Source};
use crate::state;
use crate::transfer_progress::TransferProgress;
use crate::unpack::Measured;
use crate::wanted::Wanted;

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
pub struct Assessment {
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
    /// What the image has to be.
    pub fn wanted(&self) -> Wanted {
        Wanted::of(self.options.content.into(), self.volid.file_name())
    }

    /// Whether the node itself downloads it.
    pub fn by_node(&self) -> bool {
        self.source.url().is_some() && self.options.download_by == DownloadBy::Node
    }

    /// What is there, once nobody writes it, and what follows.
    pub async fn assess(&self) -> Result<Assessment, Failure> {
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
        Ok(Assessment {
            found,
            memory,
            desired,
            learned,
            plan,
        })
    }

    /// Add to the record what unpacking has shown, so that the next run need not unpack.
    pub fn learn(&self, assessment: &Assessment) {
        let (Some(record), Some(found)) = (assessment.memory.valid(), &assessment.found) else {
            return;
        };
        if assessment.learned.is_empty() || self.context.task.check_mode {
            return;
        }
        let mut digests = record.digests.clone();
        for digest in &assessment.learned {
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

    pub fn remember(&self, arrived: &Arrived, now: &StorageContent, source: Option<String>) {
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
}

/// The algorithm by which a file can be compared with what is recorded.
fn comparable(known: &[Digest]) -> Option<Algorithm> {
    let algorithms = known.iter().map(|digest| digest.algorithm);
    algorithms.min()
}
