//! Doing it.

use ansible_module::{Failure, FailureKind};
use pve_client::{Error as ApiError, Params, StorageContent, Upid, Upload, Volid};
use pve_module::{Context, doing};

use crate::address::shown;
use crate::checksum::Digest;
use crate::error::Error;
use crate::fetch::Facts;
use crate::state;
use crate::transfer_progress::TransferProgress;

/// What a comparison on the node says.
pub enum Compared {
    /// It is the same.
    Same,
    /// It is not, in PVE's words.
    Differs(String),
    /// The caller may not ask for it.
    NotAllowed,
}

/// What arrived on the storage.
#[derive(Debug, Default)]
pub struct Arrived {
    /// The task that put it into place.
    pub upid: Option<Upid>,
    /// The bytes it must have.
    pub size: Option<u64>,
    /// Its checksums, and those of the compressed file that it came in.
    pub digests: Vec<Digest>,
    /// What its server said of it.
    pub facts: Facts,
}

/// What the steps of a transfer need.
pub struct Transfer<'a> {
    pub context: Context<'a>,
    /// Node through which the storage is reached.
    pub node: &'a str,
    /// What is written.
    pub volid: &'a Volid,
    /// Where progress is reported.
    pub progress: &'a TransferProgress,
}

impl Transfer<'_> {
    /// Upload `size` bytes that are called `shown` over what was there `before`. Returns the task.
    ///
    /// # Errors
    /// Kind `connection_lost` means that nothing was changed, as far as can be seen.
    pub async fn upload(
        &self,
        upload: &Upload,
        size: u64,
        shown: &str,
        before: Option<&StorageContent>,
    ) -> Result<Option<Upid>, Failure> {
        let what = || doing(format!("upload {shown} as {}", self.volid));
        self.progress.step("upload");
        let mut again = true;
        loop {
            let mut tell = self.progress.bytes("upload");
            let sent = self
                .context
                .client
                .upload(
                    self.node,
                    &self.volid.storage,
                    upload,
                    self.context.deadline,
                    |sent, size| tell(sent, Some(size)),
                )
                .await;
            let error = match sent {
                Ok(upid) => return self.finish(upid, shown).await.map(Some),
                Err(error) if error.may_have_happened() => error,
                Err(error) => return Err(what()(error)),
            };
            // All was sent and the answer was lost: what is on the storage tells.
            if let Some(upid) = state::writing_task(&self.context, self.node, self.volid).await {
                return self.finish(upid, shown).await.map(Some);
            }
            let now = state::find_settled(&self.context, self.node, self.volid, Some(size)).await?;
            let rewritten = now.as_ref().and_then(|v| v.ctime) != before.and_then(|v| v.ctime);
            let arrived = now.as_ref().and_then(|v| v.size) == Some(size);
            if rewritten && arrived {
                return Ok(None);
            }
            // It did not happen: once more, if all of it can be had again.
            if !(again && upload.is_whole()) {
                return Err(what()(error));
            }
            again = false;
        }
    }

    /// Await the task that puts an upload into place.
    async fn finish(&self, upid: Upid, shown: &str) -> Result<Upid, Failure> {
        match self.wait("upload", &upid).await {
            Ok(()) => Ok(upid),
            Err(error) => Err(match mismatch(&error) {
                Some(text) => mismatch_on_node(shown, text).with("upid", upid.to_string()),
                None => doing(format!("upload {shown} as {}", self.volid))(error),
            }),
        }
    }

    /// Have the node compare what is there with a checksum: PVE does so when it is asked to
    /// download over it, and then downloads nothing. `url` is what it says in the task's log.
    ///
    /// # Errors
    /// When it cannot be compared.
    pub async fn compare(&self, url: &str, digest: &Digest) -> Result<Compared, Failure> {
        match self.download(url, Some(digest), true).await {
            Ok(_) => Ok(Compared::Same),
            Err(failed) if failed.kind == FailureKind::PermissionDenied => Ok(Compared::NotAllowed),
            Err(failed) if failed.kind == FailureKind::Exists => {
                Ok(Compared::Differs(failed.detail.unwrap_or_default()))
            }
            Err(failed) => Err(failed),
        }
    }

    /// Have the node download `url`. What is there of that name is compared with the checksum by
    /// PVE, and refused without one. Returns the task.
    ///
    /// # Errors
    /// Kind `exists` when what was to be compared differs.
    pub async fn download(
        &self,
        url: &str,
        digest: Option<&Digest>,
        comparing: bool,
    ) -> Result<Upid, Failure> {
        let what = || {
            doing(match comparing {
                true => format!("have node {} compare {}", self.node, self.volid),
                false => format!(
                    "have node {} download {} as {}",
                    self.node,
                    shown(url),
                    self.volid
                ),
            })
        };
        let step = if comparing {
            "compare"
        } else {
            "node-download"
        };
        self.progress.step(step);
        let mut params = Params::new()
            .with("content", self.volid.content().unwrap_or_default().name())
            .with("filename", self.volid.file_name())
            .with("url", url);
        if let Some(digest) = digest {
            params
                .set("checksum-algorithm", digest.algorithm.name())
                .set("checksum", &digest.hex);
        }
        let path = format!(
            "/nodes/{}/storage/{}/download-url",
            self.node, self.volid.storage
        );
        let data = self
            .context
            .client
            .post(&path, &params, self.context.deadline)
            .await
            .map_err(what())?;
        let upid: Upid = data
            .as_str()
            .unwrap_or_default()
            .parse()
            .map_err(|_| Error::NoTask(data))?;
        match self.wait(step, &upid).await {
            Ok(()) => Ok(upid),
            Err(error) => Err(match mismatch(&error) {
                Some(text) if comparing => {
                    let difference = format!("its content differs: {text}");
                    Failure::from(Error::exists(&self.volid.to_string(), &difference))
                        .detail(difference)
                }
                Some(text) => mismatch_on_node(&shown(url), text),
                None => what()(error),
            }),
        }
    }

    /// Delete what is there.
    pub async fn delete(&self) -> Result<(), Failure> {
        self.progress.step("delete");
        let gone = self
            .context
            .client
            .delete_volume(self.node, self.volid, self.context.deadline)
            .await;
        gone.map(|_| ())
            .map_err(doing(format!("delete {}", self.volid)))
    }

    async fn wait(&self, step: &str, upid: &Upid) -> Result<(), ApiError> {
        let tell = self.progress.waits(step, upid.as_ref());
        self.context
            .client
            .task(upid, self.context.deadline, tell)
            .await
            .map(|_| ())
    }

    /// The volume after a transfer; `size` is what it must have.
    pub async fn verify(&self, size: Option<u64>) -> Result<StorageContent, Failure> {
        self.progress.step("verify");
        // Another controller may be writing the same over it.
        let found = state::find_settled(&self.context, self.node, self.volid, size).await?;
        let volid = self.volid.clone();
        match (found, size) {
            (None, _) => Err(Error::NotArrived { volid }.into()),
            (Some(found), Some(expected)) if found.size.is_some_and(|size| size != expected) => {
                let size = found.size.unwrap_or_default();
                let arrived = Error::ArrivedSize {
                    volid,
                    size,
                    expected,
                };
                Err(arrived.into())
            }
            (Some(found), _) => Ok(found),
        }
    }
}

/// The failure when PVE finds that content and checksum of `object` do not fit.
pub fn mismatch_on_node(object: &str, finding: &str) -> Failure {
    let (object, finding) = (object.to_owned(), finding.to_owned());
    Error::ChecksumMismatchOnNode { object, finding }.into()
}

/// PVE's words about a checksum that did not fit.
fn mismatch(error: &ApiError) -> Option<&str> {
    match error {
        ApiError::Task(task) => {
            Some(task.exitstatus.as_str()).filter(|text| text.contains("checksum mismatch"))
        }
        _ => None,
    }
}
