//! What would stop a transfer late, found before anything is changed.

use ansible_module::Failure;
use pve_client::StorageContent;

use crate::content;
use crate::error::Error;
use crate::fetch::{Facts, Fetch};
use crate::local;
use crate::plan::Plan;
use crate::present::{Assessment, Present};
use crate::source::{GLANCE, Origin, compressed_for_node};
use crate::state;

impl Present<'_> {
    /// PVE says that a right is missing only in the middle of an upload.
    pub async fn check_right(&self) -> Result<(), Failure> {
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
    pub fn usable(&self, found: Option<&StorageContent>) -> Option<u64> {
        let avail = self.storage.avail?;
        Some(avail + found.and_then(|volume| volume.size).unwrap_or(0))
    }

    /// PVE overwrites a file in place: a guest that runs from it would read a mixture.
    pub async fn check_users(&self, assessment: &Assessment) -> Result<(), Failure> {
        if assessment.plan != Plan::Replace {
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

    /// Assessment at what would be transferred. What a controller passes on is looked at as it comes, so
    /// that only a check looks at it here. Returns what the server says of it.
    pub async fn check_content(&self, assessment: &Assessment) -> Result<Facts, Failure> {
        let transfers = assessment.plan != Plan::Compare;
        match &self.source.origin {
            Origin::Url { .. } if transfers && self.by_node() => {
                self.check_node_download(assessment).await
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
                    content::check(&shown, &head, download.facts.size, self.wanted())?;
                }
                Ok(download.facts)
            }
            Origin::File(path) if transfers && self.options.content_check => {
                let shown = path.display().to_string();
                content::check(&shown, &local::head(path)?, self.source.size, self.wanted())?;
                Ok(Facts::default())
            }
            _ => Ok(Facts::default()),
        }
    }

    /// What a node downloads ends up on the storage at once: the controller looks at its first bytes
    /// before, if it can.
    async fn check_node_download(&self, assessment: &Assessment) -> Result<Facts, Failure> {
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
        let node = match own.is_ok() && assessment.plan == Plan::Create {
            true => None,
            false => Some(state::url_facts(&self.context, &self.options.node, public).await),
        };
        let facts = match (own, node) {
            (Ok((facts, head)), _) => {
                if self.options.content_check
                    && let Some(compression) =
                        content::check(&shown, &head, facts.size, self.wanted())?
                {
                    return Err(compressed_for_node(&shown, compression).into());
                }
                return Ok(facts);
            }
            (Err(_), Some(Ok(facts))) => facts,
            // The old one is deleted before: not for what nobody can read.
            (Err(_), Some(Err(failed))) if assessment.plan == Plan::Replace => return Err(failed),
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
                content::check(&shown, b"<html>", None, self.wanted())?;
            }
            if facts.size == Some(0) {
                content::check(&shown, b"", Some(0), self.wanted())?;
            }
            if self.source.checksum.is_none() {
                self.context.task.warn(format!(
                    "{shown} was not looked at, since the controller could not read it: nothing tells that it is {}; set checksum: ALGORITHM:HEX",
                    self.wanted()
                ));
            }
        }
        Ok(facts)
    }
}
