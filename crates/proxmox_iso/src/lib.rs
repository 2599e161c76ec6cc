//! The Ansible module `proxmox_iso`: an ISO image present on, or absent from, a storage.

mod apply;
mod docs;
mod options;
mod plan;
mod record;
mod state;

use std::time::Duration;

use ansible_module::{Diff, Documentation, Failure, Module, Outcome, Rule, Task};
use deadline::Deadline;
use pve_client::{Client, StorageContent, Upid, Volid, sha256_file};
use pve_module::{Connection, Lock, failure};
use serde_json::{Map, Value, json};

pub use options::{Options, State};

use apply::Transfer;
use plan::{Plan, Wanted, exists, plan};
use record::{Record, RecordFile};

/// The module.
pub struct ProxmoxIso;

impl Module for ProxmoxIso {
    const NAME: &'static str = "proxmox_iso";
    type Options = Options;

    fn documentation() -> Documentation {
        docs::documentation()
    }

    fn rules() -> Vec<Rule> {
        let mut rules = Connection::rules();
        rules.push(Rule::MutuallyExclusive(&["src", "url"]));
        rules.push(Rule::RequiredIf {
            option: "state",
            value: "present",
            options: &["src", "url"],
            one_is_enough: true,
        });
        rules.push(Rule::RequiredIf {
            option: "state",
            value: "absent",
            options: &["name", "src", "url"],
            one_is_enough: true,
        });
        rules
    }

    async fn run(options: Options, task: Task) -> Result<Outcome, Failure> {
        let deadline = Deadline::after(Duration::from_secs(options.timeout));
        if let Some(password) = options.url.as_deref().and_then(url_password) {
            task.secret(password);
        }
        let volid = Volid::iso(&options.storage, &options.iso_name()?);
        let sha256 = options.sha256()?;
        let client = options.connection.client()?;
        let storage =
            state::usable_storage(&client, &options.node, &options.storage, &deadline).await?;
        // All nodes see the same file on a shared storage.
        let place = if storage.shared {
            "shared"
        } else {
            &options.node
        };
        let key = format!(
            "{}-{place}-{}-{}",
            options.connection.api_host.join("+"),
            volid.storage,
            volid.file_name()
        );
        let record = RecordFile::new(&key)
            .map_err(|e| Failure::new("file", format!("no place for records: {e}")))?;
        let run = Run {
            client,
            options,
            task,
            deadline,
            volid,
            record,
            key,
        };
        match run.options.state {
            State::Present => run.present(sha256, storage.avail).await,
            State::Absent => run.absent().await,
        }
    }
}

/// One task.
struct Run {
    client: Client,
    options: Options,
    task: Task,
    deadline: Deadline,
    volid: Volid,
    record: RecordFile,
    /// Names the ISO among all that this controller deals with.
    key: String,
}

/// What is there, and what follows.
struct Look {
    found: Option<StorageContent>,
    /// The record, if it is of what was found.
    record: Option<Record>,
    plan: Plan,
}

impl Run {
    async fn absent(&self) -> Result<Outcome, Failure> {
        let Some(found) = state::find(
            &self.client,
            &self.options.node,
            &self.volid,
            &self.deadline,
        )
        .await?
        else {
            return Ok(self.values(
                Outcome::unchanged(format!("{} is not there", self.volid)),
                None,
                None,
                None,
            ));
        };
        let diff = Diff::new(shown(Some(&found), None), json!({})).header(self.volid.to_string());
        if !self.task.check_mode {
            self.transfer(&self.task.progress(self.options.progress_path.as_deref()))
                .delete()
                .await?;
            self.record.remove();
        }
        Ok(self.values(
            Outcome::changed(format!("deleted {}", self.volid)).diff(diff),
            None,
            None,
            None,
        ))
    }

    async fn present(
        &self,
        sha256: Option<String>,
        avail: Option<u64>,
    ) -> Result<Outcome, Failure> {
        let mut wanted = Wanted {
            size: None,
            sha256,
            url: self.options.url.clone(),
        };
        if let Some(src) = &self.options.src {
            let meta = std::fs::metadata(src).and_then(|meta| match meta.is_file() {
                true => Ok(meta),
                false => Err(std::io::Error::other("it is not a regular file")),
            });
            let meta = meta.map_err(|e| {
                Failure::new("file", format!("cannot read src {}: {e}", src.display()))
                    .object(src.display().to_string())
            })?;
            wanted.size = Some(meta.len());
        }
        let look = self.look(&mut wanted).await?;
        if look.plan == Plan::Keep || (self.task.check_mode && look.plan == Plan::Compare) {
            return Ok(self.kept(&wanted, look.found.as_ref()));
        }
        self.check_right().await?;
        self.check_space(&wanted, look.found.as_ref(), avail)?;
        if self.task.check_mode {
            return Ok(self.done(&wanted, &look, None, None));
        }
        // Hosts that run in parallel ask for the same ISO: the first transfers it, the others
        // find it there.
        let _lock = Lock::acquire(&format!("iso-{}", self.key), &self.deadline).await?;
        let look = self.look(&mut wanted).await?;
        if look.plan == Plan::Keep {
            return Ok(self.kept(&wanted, look.found.as_ref()));
        }
        let progress = self.task.progress(self.options.progress_path.as_deref());
        let (upid, now) = self
            .carry_out(&mut wanted, &look, &self.transfer(&progress))
            .await?;
        self.remember(&wanted, &now);
        // A comparison that PVE found in order left the file as it was.
        if look.plan == Plan::Compare && look.found.as_ref().and_then(|v| v.ctime) == now.ctime {
            return Ok(self.kept(&wanted, Some(&now)));
        }
        Ok(self.done(&wanted, &look, Some(&now), upid.as_ref()))
    }

    /// What is there, once nobody writes it, and what follows. Fills in what `wanted` lacks as far
    /// as that decides anything.
    async fn look(&self, wanted: &mut Wanted) -> Result<Look, Failure> {
        let node = &self.options.node;
        let found =
            state::find_settled(&self.client, node, &self.volid, wanted.size, &self.deadline)
                .await?;
        let record = self
            .record
            .read()
            .filter(|record| found.as_ref().is_some_and(|found| record.is_of(found)));
        if let (Some(found), Some(url), None, None) = (&found, &wanted.url, &wanted.size, &record) {
            match apply::url_size(&self.client, node, url, &self.deadline).await {
                Ok(size) => wanted.size = size.or(found.size),
                // With a checksum PVE compares the content itself.
                Err(_) if wanted.sha256.is_some() => {}
                Err(failure) => self.task.warn(format!(
                    "{} exists and is taken for what {url} gives, whose size could not be asked: {}",
                    self.volid, failure.msg
                )),
            }
        }
        let comparable = record
            .as_ref()
            .is_some_and(|record| record.sha256.is_some());
        if let (Some(src), None, true) = (&self.options.src, &wanted.sha256, comparable) {
            wanted.sha256 = Some(sha256_file(src).await.map_err(failure)?.sha256);
        }
        let plan = plan(
            &self.volid.to_string(),
            wanted,
            found.as_ref(),
            record.as_ref(),
            self.options.force,
        )?;
        Ok(Look {
            found,
            record,
            plan,
        })
    }

    /// PVE tells of a missing right only in the middle of an upload.
    async fn check_right(&self) -> Result<(), Failure> {
        let path = format!("/storage/{}", self.volid.storage);
        match self.client.privileges(&path, &self.deadline).await {
            Ok(held) if !held.contains("Datastore.AllocateTemplate") => Err(
                pve_module::permission_denied(&self.client, &path, "Datastore.AllocateTemplate"),
            ),
            // Where it cannot be asked PVE decides.
            _ => Ok(()),
        }
    }

    fn check_space(
        &self,
        wanted: &Wanted,
        found: Option<&StorageContent>,
        avail: Option<u64>,
    ) -> Result<(), Failure> {
        let (Some(size), Some(avail)) = (wanted.size, avail) else {
            return Ok(());
        };
        let usable = avail + found.and_then(|volume| volume.size).unwrap_or(0);
        if size <= usable {
            return Ok(());
        }
        Err(Failure::new(
            "no_space",
            format!(
                "storage {} has room for {usable} bytes, {} needs {size}",
                self.volid.storage, self.volid
            ),
        )
        .object(self.volid.storage.clone()))
    }

    /// Do what was planned; returns the task and the volume as it is afterwards.
    async fn carry_out(
        &self,
        wanted: &mut Wanted,
        look: &Look,
        transfer: &Transfer<'_>,
    ) -> Result<(Option<Upid>, StorageContent), Failure> {
        let upid = match (&self.options.src, &self.options.url) {
            (Some(src), _) => {
                let sha256 = match &wanted.sha256 {
                    Some(known) => known.clone(),
                    None => sha256_file(src).await.map_err(failure)?.sha256,
                };
                wanted.sha256 = Some(sha256.clone());
                transfer.upload(src, &sha256, look.found.as_ref()).await?
            }
            (None, Some(url)) => {
                let sha256 = wanted.sha256.as_deref();
                // PVE does not overwrite a file by a download.
                if look.plan == Plan::Replace {
                    transfer.delete().await?;
                }
                let compared = transfer
                    .download(url, sha256, look.plan == Plan::Compare)
                    .await;
                match compared {
                    Ok(upid) => Some(upid),
                    Err(differs)
                        if look.plan == Plan::Compare
                            && differs.kind == "exists"
                            && self.options.force =>
                    {
                        transfer.delete().await?;
                        Some(transfer.download(url, sha256, false).await?)
                    }
                    Err(failed) => return Err(failed),
                }
            }
            (None, None) => {
                return Err(exists(
                    &self.volid.to_string(),
                    "neither src nor url is set",
                ));
            }
        };
        let now = transfer.verify(wanted.size).await?;
        Ok((upid, now))
    }

    fn remember(&self, wanted: &Wanted, now: &StorageContent) {
        let (Some(size), Some(ctime)) = (now.size, now.ctime) else {
            return;
        };
        let record = Record {
            size,
            ctime,
            sha256: wanted.sha256.clone(),
            url: wanted.url.clone(),
        };
        if let Err(error) = self.record.write(&record) {
            self.task.warn(format!(
                "the checksum of {} could not be recorded: {error}",
                self.volid
            ));
        }
    }

    fn transfer<'a>(&'a self, progress: &'a ansible_module::Progress) -> Transfer<'a> {
        Transfer {
            client: &self.client,
            node: &self.options.node,
            volid: &self.volid,
            deadline: &self.deadline,
            progress,
        }
    }

    fn kept(&self, wanted: &Wanted, found: Option<&StorageContent>) -> Outcome {
        let size = found.and_then(|volume| volume.size);
        self.values(
            Outcome::unchanged(format!("{} is there", self.volid)),
            size,
            wanted.sha256.as_deref(),
            None,
        )
    }

    fn done(
        &self,
        wanted: &Wanted,
        look: &Look,
        now: Option<&StorageContent>,
        upid: Option<&Upid>,
    ) -> Outcome {
        let size = now.and_then(|volume| volume.size).or(wanted.size);
        let verb = if self.options.src.is_some() {
            "uploaded"
        } else {
            "downloaded"
        };
        let replacing = if look.found.is_some() {
            ", replacing what was there"
        } else {
            ""
        };
        let sha256 = wanted.sha256.as_deref();
        let mut after = Map::from_iter([("volid".to_string(), json!(self.volid.to_string()))]);
        after.extend(size.map(|size| ("size".to_string(), json!(size))));
        after.extend(
            sha256.map(|sha256| ("checksum".to_string(), json!(format!("sha256:{sha256}")))),
        );
        let diff = Diff::new(shown(look.found.as_ref(), look.record.as_ref()), after)
            .header(self.volid.to_string());
        self.values(
            Outcome::changed(format!("{verb} {}{replacing}", self.volid)).diff(diff),
            size,
            sha256,
            upid,
        )
    }

    fn values(
        &self,
        mut outcome: Outcome,
        size: Option<u64>,
        sha256: Option<&str>,
        upid: Option<&Upid>,
    ) -> Outcome {
        outcome = outcome.with("volid", self.volid.to_string());
        if let Some(size) = size {
            outcome = outcome.with("size", size);
        }
        if let Some(sha256) = sha256 {
            outcome = outcome.with("checksum", format!("sha256:{sha256}"));
        }
        match upid {
            Some(upid) => outcome.with("upid", upid.to_string()),
            None => outcome,
        }
    }
}

/// A volume in a diff, with its checksum if that is recorded.
fn shown(volume: Option<&StorageContent>, record: Option<&Record>) -> Value {
    let Some(volume) = volume else {
        return json!({});
    };
    let mut shown = Map::from_iter([("volid".to_string(), json!(volume.volid))]);
    shown.extend(volume.size.map(|size| ("size".to_string(), json!(size))));
    if let Some(sha256) = record.and_then(|record| record.sha256.as_ref()) {
        shown.insert("checksum".into(), json!(format!("sha256:{sha256}")));
    }
    Value::Object(shown)
}

/// The password in `https://user:password@host/`.
fn url_password(url: &str) -> Option<&str> {
    let authority = url.split_once("://")?.1.split(['/', '?', '#']).next()?;
    authority
        .rsplit_once('@')?
        .0
        .split_once(':')
        .map(|(_, password)| password)
        .filter(|password| !password.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_found() {
        assert_eq!(url_password("https://u:p%40x@h/x.iso"), Some("p%40x"));
        assert_eq!(url_password("https://h/a:b@c.iso"), None);
        assert_eq!(url_password("https://u@h/x"), None);
    }
}
