//! Carrying the steps out. Before each of them the VM's lock is waited for and its record is read again; an answer that was lost is
//! settled by the list of PVE's tasks, and the call is repeated only if no task shows up.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ansible_module::Failure;
use pve_client::{Error as ApiError, Params, TaskResult, Upid};
use pve_module::{Context, failed};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::desired::{Action, Desired};
use crate::error::Error;
use crate::plan::{Step, refuse_installation};
use crate::state::{Vm, list, lock, path};

/// How often a call is sent whose answer is lost.
const ATTEMPTS: u32 = 3;
/// How long the task of such a call may take to show in PVE's list before the call is sent again.
const TASK_APPEARS_WITHIN: Duration = Duration::from_secs(5);
/// The pause between two requests for a lock, a status or a list of tasks.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The lock of a hibernated VM (PVE::QemuServer, `vm_suspend` to disk).
const HIBERNATED: &str = "suspended";

/// How the steps ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// All of them were carried out.
    Done,
    /// Somebody else made the snapshot first: what is to be done has to be planned anew.
    Overtaken,
}

/// Carry the steps out; `done` says afterwards, also after a failure, which were.
///
/// # Errors
/// Kind `locked` when the VM's lock is held to the end of the time, `installing` and `guarded` when the VM changed meanwhile; otherwise the
/// API's.
pub async fn apply(
    context: &Context<'_>,
    vm: &Vm,
    desired: &Desired,
    steps: &[Step],
    done: &mut Vec<String>,
) -> Result<Applied, Failure> {
    let work = Work {
        context,
        vm,
        desired,
        object: vm.object(),
    };
    for step in steps {
        // A rollback brings back the smbios1 of its snapshot.
        let rolled_back = vm
            .snapshot_config
            .as_ref()
            .filter(|_| matches!(step, Step::Start));
        work.wait_until_unlocked(rolled_back.unwrap_or(&vm.config))
            .await?;
        match step {
            Step::Create {
                vmstate,
                description,
            } => {
                if !work.create(*vmstate, description.as_deref()).await? {
                    return Ok(Applied::Overtaken);
                }
                done.push(format!("created {}", desired.snapname));
            }
            Step::Describe { description } => {
                work.describe(description).await?;
                done.push(format!("described {}", desired.snapname));
            }
            Step::Delete { name, force } => {
                if work.is_due(name).await? && work.delete(name, *force).await? {
                    done.push(format!("deleted {name}"));
                }
            }
            Step::RollBack { resumes } => {
                work.roll_back().await?;
                done.push(format!("rolled back to {}", desired.snapname));
                if *resumes {
                    work.await_running().await?;
                }
            }
            Step::Start => {
                work.start().await?;
                done.push("started".into());
            }
        }
    }
    Ok(Applied::Done)
}

/// A call that PVE makes a task of.
enum Call<'a> {
    Post(&'a Params),
    Delete(&'a [(&'a str, String)]),
}

#[derive(Deserialize)]
struct Listed {
    upid: String,
}

struct Work<'a> {
    context: &'a Context<'a>,
    vm: &'a Vm,
    desired: &'a Desired,
    object: String,
}

impl Work<'_> {
    fn path(&self, below: &str) -> String {
        path(&self.vm.node, self.vm.vmid, below)
    }

    fn of_snapshot(&self, name: &str, below: &str) -> String {
        self.path(&format!("snapshot/{name}{below}"))
    }

    /// Read the VM's configuration, and make sure that it is still the VM with the configuration `expected`, and that no installation
    /// has begun. Returns its lock. PVE takes no digest for snapshots, so a change in the moment before the call cannot be excluded.
    async fn read_lock(&self, expected: &Map<String, Value>) -> Result<Option<String>, Failure> {
        let Context {
            client, deadline, ..
        } = *self.context;
        let (node, vmid) = (&self.vm.node, self.vm.vmid);
        let config = client.vm_config(node, vmid, false, deadline).await;
        let config = config.map_err(failed("read", &self.object))?;
        self.check_same(&config, expected)?;
        if !self.desired.allow_during_installation {
            refuse_installation(vmid, &self.object, &config)?;
        }
        Ok(lock(&config).map(str::to_owned))
    }

    /// Wait until the VM is not locked. See [`Self::read_lock`].
    async fn wait_until_unlocked(&self, expected: &Map<String, Value>) -> Result<(), Failure> {
        let since = Instant::now();
        while let Some(lock) = self.read_lock(expected).await? {
            if lock == HIBERNATED {
                let object = self.object.clone();
                return Err(Error::Hibernated { object }.into());
            }
            let step = format!("wait for the lock '{lock}'");
            self.context.watcher(&step, &self.object)(since.elapsed());
            if !self.context.deadline.sleep(POLL_INTERVAL).await {
                return Err(self.locked(lock, since.elapsed()).into());
            }
        }
        Ok(())
    }

    fn locked(&self, lock: String, waited: Duration) -> Error {
        Error::Locked {
            object: self.object.clone(),
            vmid: self.vm.vmid,
            node: self.vm.node.clone(),
            lock,
            waited,
        }
    }

    fn check_same(
        &self,
        config: &Map<String, Value>,
        expected: &Map<String, Value>,
    ) -> Result<(), Error> {
        if config.get("smbios1") == expected.get("smbios1") {
            return Ok(());
        }
        let object = self.object.clone();
        Err(Error::AnotherVm { object })
    }

    /// Make the snapshot. Returns false if somebody else has made one of that name meanwhile.
    async fn create(&self, vmstate: bool, description: Option<&str>) -> Result<bool, Failure> {
        let mut params = Params::new().with("snapname", &self.desired.snapname);
        if let Some(description) = description {
            params.set("description", description);
        }
        if vmstate {
            params.set("vmstate", 1);
        }
        let (made, repeated) = self
            .send_until_settled("qmsnapshot", &self.path("snapshot"), Call::Post(&params))
            .await;
        match made {
            Err(error) if pve_message_contains(&error, "already used") => Ok(repeated),
            made => {
                self.warn(made.map_err(failed("make a snapshot of", &self.object))?);
                Ok(true)
            }
        }
    }

    async fn describe(&self, description: &str) -> Result<(), Failure> {
        let Context {
            client, deadline, ..
        } = *self.context;
        self.context.report_step("describe", &self.object);
        let path = self.of_snapshot(&self.desired.snapname, "/config");
        let params = Params::new().with("description", description);
        let described = self.repeat(|| client.put(&path, &params, deadline)).await;
        described.map_err(failed("describe a snapshot of", &self.object))?;
        Ok(())
    }

    /// Send a call whose repetition does no harm, until it is answered.
    async fn repeat<T>(&self, call: impl AsyncFn() -> Result<T, ApiError>) -> Result<T, ApiError> {
        let mut attempts = ATTEMPTS;
        loop {
            attempts -= 1;
            match call().await {
                Err(error)
                    if error.may_have_happened()
                        && attempts > 0
                        && self.context.deadline.sleep(POLL_INTERVAL).await => {}
                settled => return settled,
            }
        }
    }

    /// Whether the snapshot is still the one that was planned to be deleted and, with retention, still one too many: others may have
    /// deleted or made some meanwhile.
    async fn is_due(&self, name: &str) -> Result<bool, Failure> {
        let Action::Present { retention, .. } = &self.desired.action else {
            return Ok(true);
        };
        let Some(retention) = retention else {
            return Ok(true);
        };
        let listed = list(self.context, &self.vm.node, self.vm.vmid).await?;
        let counted = listed
            .iter()
            .filter(|one| one.is_counted_by(retention))
            .count();
        let planned = self.vm.snapshot(name).map(|one| one.snaptime);
        let found = listed.iter().find(|one| one.name == name);
        Ok(counted > retention.keep && found.map(|one| one.snaptime) == planned)
    }

    /// Delete a snapshot. Returns false if somebody else has done it.
    async fn delete(&self, name: &str, force: bool) -> Result<bool, Failure> {
        let mut query = Vec::new();
        if force {
            query.push(("force", "1".to_owned()));
        }
        let (gone, repeated) = self
            .send_until_settled(
                "qmdelsnapshot",
                &self.of_snapshot(name, ""),
                Call::Delete(&query),
            )
            .await;
        match gone {
            Err(error)
                if pve_message_contains(&error, "does not exist")
                    && pve_message_contains(&error, "snapshot '") =>
            {
                Ok(repeated)
            }
            gone => {
                let what = format!("delete the snapshot {name} of");
                self.warn(gone.map_err(failed(&what, &self.object))?);
                Ok(true)
            }
        }
    }

    async fn roll_back(&self) -> Result<(), Failure> {
        let path = self.of_snapshot(&self.desired.snapname, "/rollback");
        let params = Params::new();
        let (back, _) = self
            .send_until_settled("qmrollback", &path, Call::Post(&params))
            .await;
        let what = format!("roll back to {} the", self.desired.snapname);
        self.warn(back.map_err(failed(&what, &self.object))?);
        Ok(())
    }

    /// Start the VM. Starting one that runs does nothing.
    async fn start(&self) -> Result<(), Failure> {
        let Context {
            client, deadline, ..
        } = *self.context;
        self.context.report_step("start", &self.object);
        let path = self.path("status/start");
        let params = Params::new();
        let started = self
            .repeat(|| client.post_task(&path, &params, deadline, |_| ()))
            .await;
        match started {
            Err(error) if pve_message_contains(&error, "already running") => {}
            started => self.warn(Some(started.map_err(failed("start", &self.object))?)),
        }
        self.await_running().await
    }

    /// Wait until the VM runs: PVE may start it in a task of its own.
    async fn await_running(&self) -> Result<(), Failure> {
        let Context {
            client, deadline, ..
        } = *self.context;
        let mut tick = self.context.watcher("start", &self.object);
        let since = Instant::now();
        loop {
            let status = client
                .vm_status(&self.vm.node, self.vm.vmid, deadline)
                .await
                .map_err(failed("read the status of", &self.object))?;
            if status.status == "running" {
                return Ok(());
            }
            tick(since.elapsed());
            if !deadline.sleep(POLL_INTERVAL).await {
                let what = format!("{} to be running", self.object);
                return Err(deadline.expired_error(what, since.elapsed()).into());
            }
        }
    }

    /// Send a call until it is known what became of it, and wait for its task. Returns also whether it was sent more than once.
    async fn send_until_settled(
        &self,
        kind: &str,
        path: &str,
        call: Call<'_>,
    ) -> (Result<Option<TaskResult>, ApiError>, bool) {
        self.context.report_step(step_of(kind), &self.object);
        let before = match self.tasks(kind).await {
            Ok(before) => before,
            Err(error) => return (Err(error), false),
        };
        let mut sent = 0;
        loop {
            sent += 1;
            let error = match self.send(kind, path, &call).await {
                Err(error) if error.may_have_happened() && !self.context.deadline.expired() => {
                    error
                }
                settled => return (settled, sent > 1),
            };
            match self.new_task(kind, &before).await {
                Ok(Some(upid)) => return (self.finish(kind, &upid).await.map(Some), sent > 1),
                // The task may show up later still, and hold the VM's lock: then sending it again would only fail.
                Ok(None)
                    if sent < ATTEMPTS
                        && matches!(self.read_lock(&self.vm.config).await, Ok(None)) => {}
                // That the list could not be read does not tell what became of the call.
                Ok(None) | Err(_) => return (Err(error), sent > 1),
            }
        }
    }

    async fn send(
        &self,
        kind: &str,
        path: &str,
        call: &Call<'_>,
    ) -> Result<Option<TaskResult>, ApiError> {
        let Context {
            client, deadline, ..
        } = *self.context;
        let tick = self.context.watcher(step_of(kind), &self.object);
        match call {
            Call::Post(params) => client
                .post_task(path, params, deadline, tick)
                .await
                .map(Some),
            Call::Delete(query) => client.delete_task(path, query, deadline, tick).await,
        }
    }

    async fn finish(&self, kind: &str, upid: &Upid) -> Result<TaskResult, ApiError> {
        let tick = self.context.watcher(step_of(kind), &self.object);
        let Context {
            client, deadline, ..
        } = *self.context;
        client.task(upid, deadline, tick).await
    }

    /// The caller's latest tasks of this kind on the VM: at most 50, PVE's limit for a list without `limit`.
    async fn tasks(&self, kind: &str) -> Result<BTreeSet<String>, ApiError> {
        let Context {
            client, deadline, ..
        } = *self.context;
        let query = [
            ("vmid", self.vm.vmid.to_string()),
            ("typefilter", kind.to_owned()),
            ("source", "all".to_owned()),
        ];
        let path = format!("/nodes/{}/tasks", self.vm.node);
        let listed: Vec<Listed> = client.read_as(&path, &query, deadline).await?;
        let caller = client.caller();
        let own = |task: &Listed| {
            let upid: Result<Upid, _> = task.upid.parse();
            upid.is_ok_and(|upid| upid.user == caller)
        };
        Ok(listed
            .into_iter()
            .filter(own)
            .map(|task| task.upid)
            .collect())
    }

    /// The task of the call whose answer was lost, if it shows up.
    async fn new_task(
        &self,
        kind: &str,
        before: &BTreeSet<String>,
    ) -> Result<Option<Upid>, ApiError> {
        let limit = self.context.deadline.shorter(TASK_APPEARS_WITHIN);
        loop {
            let new = self
                .tasks(kind)
                .await?
                .into_iter()
                .find(|upid| !before.contains(upid));
            if let Some(upid) = new.and_then(|upid| upid.parse().ok()) {
                return Ok(Some(upid));
            }
            if !limit.sleep(POLL_INTERVAL).await {
                return Ok(None);
            }
        }
    }

    fn warn(&self, done: Option<TaskResult>) {
        if let Some(done) = done.filter(|done| done.warnings > 0) {
            self.context.task.warn(format!(
                "{}: the task {} ended with warnings",
                self.object, done.upid
            ));
        }
    }
}

/// What a task of PVE's does, for the progress.
fn step_of(kind: &str) -> &str {
    match kind {
        "qmsnapshot" => "make the snapshot",
        "qmdelsnapshot" => "delete the snapshot",
        "qmrollback" => "roll back to the snapshot",
        kind => kind,
    }
}

fn pve_message_contains(error: &ApiError, text: &str) -> bool {
    error
        .pve_message()
        .is_some_and(|message| message.contains(text))
}
