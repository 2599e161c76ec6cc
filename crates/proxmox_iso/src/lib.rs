//! The Ansible module `proxmox_iso`: an ISO image present on, or absent from, a storage.

mod absent;
mod answers;
mod apply;
mod cache;
mod docs;
mod fetch;
mod glob;
mod options;
mod plan;
mod record;
mod source;
mod state;
mod sums;
mod tell;

use std::path::Path;
use std::time::Duration;

use ansible_module::{Diff, Documentation, Failure, Module, Outcome, Rule, Task};
use deadline::Deadline;
use pve_client::{Client, Storage, StorageContent, Upid, Upload, Volid, sha256_file};
use pve_module::{Connection, Lock, failure};
use serde_json::{Map, Value, json};

pub use options::{DownloadBy, GithubRelease, Options, State};

use absent::in_use;
use apply::Transfer;
use fetch::{Fetch, Hashing};
use plan::{Plan, Wanted, plan};
use record::{Record, RecordFile};
use source::{Origin, Source};
use tell::Tell;

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
        rules.push(Rule::MutuallyExclusive(&["src", "url", "github_release"]));
        rules.push(Rule::RequiredIf {
            option: "state",
            value: "present",
            options: &["src", "url", "github_release"],
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
        let api_url = options.github_release.as_ref();
        let api_url = api_url.map(|release| release.api_url.as_str());
        let urls = options.url.as_deref().into_iter().chain(api_url);
        urls.filter_map(url_password)
            .for_each(|password| task.secret(password));
        options.checksum()?;
        let client = options.connection.client()?;
        let source = match options.state {
            State::Present => Source::resolve(&options, &deadline).await?,
            State::Absent => None,
        };
        // A name that cannot be used is found before anybody is asked.
        let volid = source
            .as_ref()
            .map(|source| options.iso_name(&source.name))
            .transpose()?
            .map(|name| Volid::iso(&options.storage, &name));
        let storage =
            state::usable_storage(&client, &options.node, &options.storage, &deadline).await?;
        let (Some(source), Some(volid)) = (source, volid) else {
            return absent::absent(&client, &options, &task, &storage, &deadline).await;
        };
        let key = key(&options, &storage, &volid);
        let record = RecordFile::new(&key)
            .map_err(|e| Failure::new("file", format!("no place for records: {e}")))?;
        let progress = task.progress(options.progress_path.as_deref());
        let run = Run {
            tell: Tell::new(progress, volid.to_string()),
            client,
            options,
            task,
            deadline,
            storage,
            source,
            volid,
            record,
            key,
        };
        run.present().await
    }
}

/// Names an ISO among all that this controller deals with. All nodes see the same file on a shared
/// storage.
fn key(options: &Options, storage: &Storage, volid: &Volid) -> String {
    let place = if storage.shared {
        "shared"
    } else {
        &options.node
    };
    format!(
        "{}-{place}-{}-{}",
        options.connection.api_host.join("+"),
        volid.storage,
        volid.file_name()
    )
}

/// One task that makes an ISO present.
struct Run {
    client: Client,
    options: Options,
    task: Task,
    deadline: Deadline,
    tell: Tell,
    storage: Storage,
    source: Source,
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
    /// Whether the node itself downloads it.
    fn by_node(&self) -> bool {
        self.source.url().is_some() && self.options.download_by == DownloadBy::Node
    }

    async fn present(&self) -> Result<Outcome, Failure> {
        let mut wanted = Wanted {
            size: self.source.size,
            sha256: self.source.sha256.clone(),
            url: self.source.url().map(str::to_string),
            by_node: self.by_node(),
        };
        let look = self.look(&mut wanted).await?;
        if look.plan == Plan::Keep || (self.task.check_mode && look.plan == Plan::Compare) {
            return Ok(self.kept(&wanted, look.found.as_ref()).await);
        }
        self.check_right().await?;
        self.check_space(wanted.size, look.found.as_ref())?;
        self.check_users(&look).await?;
        if self.task.check_mode {
            return Ok(self.done(&wanted, &look, None, None).await);
        }
        // Hosts that run in parallel ask for the same ISO: the first transfers it, the others
        // find it there.
        self.tell.step("lock");
        let _lock = Lock::acquire(&format!("iso-{}", self.key), &self.deadline).await?;
        let look = self.look(&mut wanted).await?;
        if look.plan == Plan::Keep {
            return Ok(self.kept(&wanted, look.found.as_ref()).await);
        }
        let (upid, now) = self.carry_out(&mut wanted, &look, &self.transfer()).await?;
        self.remember(&wanted, &now);
        // A comparison that PVE found in order left the file as it was.
        if look.plan == Plan::Compare && look.found.as_ref().and_then(|v| v.ctime) == now.ctime {
            return Ok(self.kept(&wanted, Some(&now)).await);
        }
        Ok(self.done(&wanted, &look, Some(&now), upid.as_ref()).await)
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
        if found.is_some() && wanted.size.is_none() && record.is_none() {
            match self.remote_size().await {
                Ok(size) => wanted.size = size.or(found.as_ref().and_then(|found| found.size)),
                // With a checksum PVE compares the content itself.
                Err(_) if wanted.sha256.is_some() => {}
                Err(failure) => self.task.warn(format!(
                    "{} exists and is taken for what {} gives, whose size could not be asked: {}",
                    self.volid,
                    self.source.shown(),
                    failure.msg
                )),
            }
        }
        let comparable = record
            .as_ref()
            .is_some_and(|record| record.sha256.is_some());
        if let (Origin::File(src), None, true) = (&self.source.origin, &wanted.sha256, comparable) {
            wanted.sha256 = Some(self.hash(src).await?);
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

    /// The size that the source's server tells, to whoever downloads.
    async fn remote_size(&self) -> Result<Option<u64>, Failure> {
        let node = &self.options.node;
        match (self.source.request(), self.source.url()) {
            (_, Some(url)) if self.by_node() => {
                apply::url_size(&self.client, node, url, &self.deadline).await
            }
            (Some((url, with)), _) => {
                let download = Fetch::new()?.download(url, with, &self.deadline).await?;
                Ok(download.size)
            }
            _ => Ok(None),
        }
    }

    fn check_space(
        &self,
        size: Option<u64>,
        found: Option<&StorageContent>,
    ) -> Result<(), Failure> {
        let (Some(size), Some(avail)) = (size, self.storage.avail) else {
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
        .object(self.volid.storage.clone())
        .hint("delete old ISOs (proxmox_iso with state: absent takes a pattern as name), or use another storage"))
    }

    /// PVE overwrites a file in place: a guest that runs from it would read a mixture.
    async fn check_users(&self, look: &Look) -> Result<(), Failure> {
        let replaces = match look.plan {
            Plan::Replace => true,
            Plan::Compare => self.options.force,
            Plan::Create | Plan::Keep => false,
        };
        if look.found.is_none() || !replaces {
            return Ok(());
        }
        let users = state::users(
            &self.client,
            &self.task,
            &self.options.node,
            &self.storage,
            &self.deadline,
        )
        .await?;
        let running: Vec<_> = users
            .iter()
            .filter(|user| user.runs() && user.uses(&self.volid))
            .collect();
        match running.is_empty() {
            true => Ok(()),
            false => Err(in_use(
                &self.volid,
                &running,
                "it is not replaced under a running VM; give the new one another name, or eject it first",
            )),
        }
    }

    /// SHA-256 of a local file.
    async fn hash(&self, path: &Path) -> Result<String, Failure> {
        self.tell.step("hash");
        Ok(sha256_file(path).await.map_err(failure)?.sha256)
    }

    /// Do what was planned; returns the task and the volume as it is afterwards.
    async fn carry_out(
        &self,
        wanted: &mut Wanted,
        look: &Look,
        transfer: &Transfer<'_>,
    ) -> Result<(Option<Upid>, StorageContent), Failure> {
        let upid = match (&self.source.origin, &self.options.cache_dir) {
            (Origin::File(path), _) => {
                let sha256 = match &wanted.sha256 {
                    Some(known) => known.clone(),
                    None => self.hash(path).await?,
                };
                self.send_file(path, sha256, wanted, look, transfer).await?
            }
            (Origin::Url { public, .. }, _) if self.by_node() => {
                Some(self.node_downloads(public, wanted, look, transfer).await?)
            }
            (Origin::Url { .. }, Some(dir)) => {
                let (path, sha256) =
                    cache::file(dir, &self.source, &self.tell, &self.deadline).await?;
                self.send_file(&path, sha256, wanted, look, transfer)
                    .await?
            }
            (Origin::Url { public, .. }, None) => {
                self.pass_on(public, wanted, look, transfer).await?
            }
        };
        let now = transfer.verify(wanted.size).await?;
        Ok((upid, now))
    }

    async fn send_file(
        &self,
        path: &Path,
        sha256: String,
        wanted: &mut Wanted,
        look: &Look,
        transfer: &Transfer<'_>,
    ) -> Result<Option<Upid>, Failure> {
        let size = std::fs::metadata(path)
            .map_err(|e| Failure::new("file", format!("cannot read {}: {e}", path.display())))?
            .len();
        wanted.size = Some(size);
        self.check_space(wanted.size, look.found.as_ref())?;
        let upload = Upload::iso_file(self.volid.file_name(), path, &sha256);
        wanted.sha256 = Some(sha256);
        let shown = path.display().to_string();
        transfer
            .upload(&upload, size, &shown, look.found.as_ref())
            .await
    }

    /// Have the node download it.
    async fn node_downloads(
        &self,
        url: &str,
        wanted: &Wanted,
        look: &Look,
        transfer: &Transfer<'_>,
    ) -> Result<Upid, Failure> {
        let sha256 = wanted.sha256.as_deref();
        // PVE does not overwrite a file by a download.
        if look.plan == Plan::Replace {
            transfer.delete().await?;
        }
        let compared = transfer
            .download(url, sha256, look.plan == Plan::Compare)
            .await;
        match compared {
            Err(differs)
                if look.plan == Plan::Compare
                    && differs.kind == "exists"
                    && self.options.force =>
            {
                transfer.delete().await?;
                transfer.download(url, sha256, false).await
            }
            Err(failed) => Err(match &self.source.origin {
                Origin::Url { private: Some(_), .. } => failed.hint(
                    "a node cannot use github_release.token: for a private repository set download_by: controller",
                ),
                _ => failed,
            }),
            done => done,
        }
    }

    /// Download it straight into the upload. A download can be passed on once: it is begun anew
    /// when the host that took it is lost.
    async fn pass_on(
        &self,
        public: &str,
        wanted: &mut Wanted,
        look: &Look,
        transfer: &Transfer<'_>,
    ) -> Result<Option<Upid>, Failure> {
        let mut left = self.options.connection.api_host.len();
        let (upid, sha256) = loop {
            match self.pass_on_once(wanted, look, transfer).await {
                Err(lost) if matches!(lost.kind, "interrupted" | "unreachable") && left > 0 => {
                    left -= 1;
                }
                settled => break settled?,
            }
        };
        let Some(sha256) = sha256 else {
            return Ok(upid);
        };
        if transfer.compare(public, &sha256).await?.is_none() {
            self.task.warn(format!(
                "no checksum of {} was known beforehand: what arrived was compared by its size only, as {} may not \
                 have the node compare it (Sys.AccessNetwork); set checksum",
                self.source.shown(),
                self.client.caller()
            ));
        }
        wanted.sha256 = Some(sha256);
        Ok(upid)
    }

    /// One attempt: the task, and the SHA-256 of what passed unless it was known.
    async fn pass_on_once(
        &self,
        wanted: &mut Wanted,
        look: &Look,
        transfer: &Transfer<'_>,
    ) -> Result<(Option<Upid>, Option<String>), Failure> {
        let shown = self.source.shown();
        let Some((url, with)) = self.source.request() else {
            return Ok((None, None));
        };
        let download = Fetch::new()?.download(url, with, &self.deadline).await?;
        // Proxmox VE has to be told how long an upload is before it begins.
        let size = download.size.ok_or_else(|| {
            Failure::new("download", format!("{shown} does not tell its size (Content-Length), without which nothing can be uploaded"))
                .object(shown.clone())
                .hint("set cache_dir, so that it is downloaded first, or download_by: node")
        })?;
        if let Some(told) = self.source.size.filter(|told| *told != size) {
            return Err(Failure::new(
                "download",
                format!("{shown} has {size} bytes instead of the release's {told}"),
            )
            .object(shown));
        }
        self.check_space(Some(size), look.found.as_ref())?;
        wanted.size = Some(size);
        let name = self.volid.file_name();
        // With a checksum PVE hashes what arrives; that is not done twice.
        let (upload, hashing) = match &wanted.sha256 {
            Some(sha256) => (
                Upload::iso_stream(name, size, Some(sha256), download.stream),
                None,
            ),
            None => {
                let (stream, hashing) = Hashing::of(download.stream);
                (Upload::iso_stream(name, size, None, stream), Some(hashing))
            }
        };
        let upid = transfer
            .upload(&upload, size, &shown, look.found.as_ref())
            .await?;
        Ok((upid, hashing.map(|hashing| hashing.sha256())))
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

    fn transfer(&self) -> Transfer<'_> {
        Transfer {
            client: &self.client,
            node: &self.options.node,
            volid: &self.volid,
            deadline: &self.deadline,
            tell: &self.tell,
        }
    }

    async fn kept(&self, wanted: &Wanted, found: Option<&StorageContent>) -> Outcome {
        let size = found.and_then(|volume| volume.size);
        let outcome = Outcome::unchanged(format!("{} is there", self.volid));
        let outcome = self.values(outcome, size, wanted.sha256.as_deref(), None);
        self.with_path(outcome).await
    }

    /// With where the file is on the node. Whether PVE tells that changes nothing else.
    async fn with_path(&self, outcome: Outcome) -> Outcome {
        let path = self
            .client
            .volume_path(&self.options.node, &self.volid, &self.deadline)
            .await;
        match path {
            Ok(Some(path)) => outcome.with("path", path),
            _ => outcome,
        }
    }

    async fn done(
        &self,
        wanted: &Wanted,
        look: &Look,
        now: Option<&StorageContent>,
        upid: Option<&Upid>,
    ) -> Outcome {
        let size = now.and_then(|volume| volume.size).or(wanted.size);
        let verb = if self.by_node() {
            "downloaded"
        } else {
            "uploaded"
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
        let outcome = Outcome::changed(format!("{verb} {}{replacing}", self.volid)).diff(diff);
        let outcome = self.values(outcome, size, sha256, upid);
        match now {
            Some(_) => self.with_path(outcome).await,
            None => outcome,
        }
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
