//! Tasks: UPIDs, logs, exit statuses. They outlive the server's run in `tasks/`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::access::Identity;
use crate::clock::now;
use crate::files::write_private;

/// What a worker returns that is killed: its task ends without a line in the log.
pub const KILLED: &str = "unexpected status";

/// What is kept of a task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Unique id.
    pub upid: String,
    /// E.g. `qmcreate`.
    pub kind: String,
    /// VMID, storage or empty.
    pub id: String,
    /// `user@realm`, without the token.
    pub user: String,
    /// The token's name.
    pub tokenid: Option<String>,
    /// Invented process id.
    pub pid: u32,
    /// Invented process start.
    pub pstart: u32,
    /// Seconds since the epoch.
    pub starttime: u64,
    /// Seconds since the epoch; none while it runs.
    pub endtime: Option<u64>,
    /// `OK`, `WARNINGS: n` or an error; none while it runs.
    pub status: Option<String>,
    /// Log lines.
    pub log: Vec<String>,
}

struct Task {
    record: Record,
    abort: Option<tokio::task::AbortHandle>,
    ended: watch::Sender<bool>,
}

/// All tasks of the host.
pub struct Tasks {
    dir: PathBuf,
    node: String,
    started: Instant,
    next: AtomicU32,
    tasks: Mutex<BTreeMap<String, Task>>,
}

/// A running task's own log.
#[derive(Clone)]
pub struct Log {
    tasks: Arc<Tasks>,
    upid: String,
    warnings: Arc<AtomicU32>,
}

impl Log {
    /// A log that nobody keeps, for work that a call does itself.
    pub fn none(tasks: &Arc<Tasks>) -> Self {
        Self {
            tasks: tasks.clone(),
            upid: String::new(),
            warnings: Arc::default(),
        }
    }

    /// Add a line (or several).
    pub fn line(&self, text: impl AsRef<str>) {
        let mut tasks = self.tasks.lock();
        if let Some(task) = tasks.get_mut(&self.upid) {
            task.record
                .log
                .extend(text.as_ref().lines().map(str::to_owned));
        }
    }

    /// Add a warning: the task then ends with `WARNINGS: n`.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.warnings.fetch_add(1, Ordering::Relaxed);
        self.line(format!("WARN: {}", text.as_ref()));
    }
}

impl Tasks {
    /// The tasks of earlier runs; those that never ended were killed with the server.
    pub fn open(dir: PathBuf, node: &str) -> std::io::Result<Arc<Self>> {
        std::fs::create_dir_all(&dir)?;
        let tasks = Arc::new(Self {
            dir,
            node: node.into(),
            started: Instant::now(),
            next: AtomicU32::new(std::process::id().max(1000)),
            tasks: Mutex::default(),
        });
        for entry in std::fs::read_dir(&tasks.dir)?.flatten() {
            let read = std::fs::read(entry.path())
                .ok()
                .and_then(|text| serde_json::from_slice::<Record>(&text).ok());
            let Some(mut record) = read else { continue };
            if record.status.is_none() {
                record.status = Some(KILLED.into());
                record.endtime = Some(now());
                tasks.save(&record);
            }
            tasks.lock().insert(
                record.upid.clone(),
                Task {
                    record,
                    abort: None,
                    ended: watch::Sender::new(true),
                },
            );
        }
        Ok(tasks)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Task>> {
        self.tasks
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn save(&self, record: &Record) {
        let path = self
            .dir
            .join(format!("{}.json", record.upid.replace('/', "_")));
        let saved = serde_json::to_vec(record)
            .map_err(std::io::Error::from)
            .and_then(|text| write_private(&path, &text));
        if let Err(error) = saved {
            eprintln!(
                "pve-testhost: cannot save the task {}: {error}",
                record.upid
            );
        }
    }

    /// Start a worker. `fail` makes it fail with this text before it does anything.
    pub fn spawn<W>(
        self: &Arc<Self>,
        kind: &str,
        id: &str,
        who: &Identity,
        fail: Option<String>,
        work: impl FnOnce(Log) -> W + Send + 'static,
    ) -> String
    where
        W: Future<Output = Result<(), String>> + Send + 'static,
    {
        let pid = self.next.fetch_add(1, Ordering::Relaxed);
        // Hundredths of seconds since boot, like the kernel's clock ticks.
        let pstart = u32::try_from(self.started.elapsed().as_millis() / 10).unwrap_or(u32::MAX);
        let starttime = now();
        let upid = format!(
            "UPID:{}:{pid:08X}:{pstart:08X}:{starttime:08X}:{kind}:{id}:{}:",
            self.node,
            who.id()
        );
        let record = Record {
            upid: upid.clone(),
            kind: kind.into(),
            id: id.into(),
            user: who.user.clone(),
            tokenid: who.token.clone(),
            pid,
            pstart,
            starttime,
            endtime: None,
            status: None,
            log: Vec::new(),
        };
        self.save(&record);
        self.lock().insert(
            upid.clone(),
            Task {
                record,
                abort: None,
                ended: watch::Sender::new(false),
            },
        );
        let log = Log {
            tasks: self.clone(),
            upid: upid.clone(),
            warnings: Arc::default(),
        };
        let tasks = self.clone();
        let own = upid.clone();
        let warnings = log.warnings.clone();
        let worker = tokio::spawn(async move {
            let result = match fail {
                Some(text) => Err(text),
                None => work(log).await,
            };
            let warned = warnings.load(Ordering::Relaxed);
            let status = match result {
                Err(text) => text.trim_end().replace('\n', " "),
                Ok(()) if warned > 0 => format!("WARNINGS: {warned}"),
                Ok(()) => "OK".into(),
            };
            tasks.end(&own, &status);
        });
        if let Some(task) = self.lock().get_mut(&upid) {
            task.abort = Some(worker.abort_handle());
        }
        // A worker that panics still ends its task.
        let tasks = self.clone();
        let own = upid.clone();
        tokio::spawn(async move {
            if worker.await.is_err_and(|error| error.is_panic()) {
                tasks.end(&own, KILLED);
            }
        });
        upid
    }

    fn end(&self, upid: &str, status: &str) {
        let record = {
            let mut tasks = self.lock();
            let Some(task) = tasks
                .get_mut(upid)
                .filter(|task| task.record.status.is_none())
            else {
                return;
            };
            let line = if status == "OK" || status.starts_with("WARNINGS: ") {
                format!("TASK {status}")
            } else {
                format!("TASK ERROR: {status}")
            };
            // A killed worker leaves no line.
            if status != KILLED {
                task.record.log.push(line);
            }
            task.record.status = Some(status.into());
            task.record.endtime = Some(now());
            task.ended.send_replace(true);
            task.record.clone()
        };
        self.save(&record);
    }

    /// Wait for a task's end, at most this long.
    pub async fn wait(&self, upid: &str, limit: Duration) -> bool {
        let Some(mut ended) = self.lock().get(upid).map(|task| task.ended.subscribe()) else {
            return true;
        };
        tokio::time::timeout(limit, ended.wait_for(|ended| *ended))
            .await
            .is_ok()
    }

    /// One task.
    pub fn get(&self, upid: &str) -> Option<Record> {
        self.lock().get(upid).map(|task| task.record.clone())
    }

    /// All tasks, latest first.
    pub fn list(&self) -> Vec<Record> {
        let mut all: Vec<Record> = self
            .lock()
            .values()
            .map(|task| task.record.clone())
            .collect();
        all.sort_by_key(|record| std::cmp::Reverse((record.starttime, record.pid)));
        all
    }

    /// End the running tasks of a kind for an id; returns them.
    pub fn cancel_all(&self, kind: &str, id: &str) -> Vec<String> {
        let running =
            |record: &Record| record.status.is_none() && record.kind == kind && record.id == id;
        let tasks = self.list().into_iter().filter(running);
        let ended: Vec<String> = tasks.map(|record| record.upid).collect();
        ended.iter().for_each(|upid| self.cancel(upid));
        ended
    }

    /// End a running task; of a finished one nothing happens.
    pub fn cancel(&self, upid: &str) {
        let abort = self.lock().get(upid).and_then(|task| task.abort.clone());
        if let Some(abort) = abort {
            abort.abort();
        }
        self.end(upid, "received interrupt");
    }
}

impl Record {
    /// As `tasks/UPID/status` shows it.
    pub fn status_json(&self, node: &str) -> Value {
        let mut value = json!({
            "upid": self.upid, "node": node, "type": self.kind, "id": self.id, "user": self.user, "pid": self.pid,
            "pstart": self.pstart, "starttime": self.starttime,
            "status": if self.status.is_some() { "stopped" } else { "running" },
        });
        if let Some(status) = &self.status {
            value["exitstatus"] = json!(status);
        }
        if let Some(token) = &self.tokenid {
            value["tokenid"] = json!(token);
        }
        value
    }

    /// As the list of tasks shows it.
    pub fn list_json(&self, node: &str) -> Value {
        let mut value = json!({
            "upid": self.upid, "node": node, "type": self.kind, "id": self.id, "user": self.user, "pid": self.pid,
            "pstart": self.pstart, "starttime": self.starttime, "status": self.status.as_deref().unwrap_or("RUNNING"),
        });
        if let Some(end) = self.endtime {
            value["endtime"] = json!(end);
        } else {
            // From the file of active tasks, which knows no tokens.
            value["user"] = json!(self.full_user());
            value["saved"] = json!("0");
            return value;
        }
        if let Some(token) = &self.tokenid {
            value["tokenid"] = json!(token);
        }
        value
    }

    fn full_user(&self) -> String {
        match &self.tokenid {
            Some(token) => format!("{}!{token}", self.user),
            None => self.user.clone(),
        }
    }

    /// As the list of the cluster's tasks shows it.
    pub fn cluster_json(&self, node: &str) -> Value {
        let mut value = json!({
            "upid": self.upid, "node": node, "type": self.kind, "id": self.id, "user": self.full_user(),
            "starttime": self.starttime,
        });
        if let (Some(end), Some(status)) = (self.endtime, &self.status) {
            value["endtime"] = json!(end);
            value["status"] = json!(status);
            value["saved"] = json!("1");
        }
        value
    }

    /// What `statusfilter` calls its result.
    pub fn status_type(&self) -> &'static str {
        match self.status.as_deref() {
            None | Some("unexpected status") => "unknown",
            Some("OK") => "ok",
            Some(text) if text.starts_with("WARNINGS: ") => "warning",
            Some(_) => "error",
        }
    }

    /// Did it end well?
    pub fn succeeded(&self) -> bool {
        self.status
            .as_ref()
            .is_some_and(|status| status == "OK" || status.starts_with("WARNINGS: "))
    }
}
