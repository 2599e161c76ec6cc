//! Where a task works: the API, its deadline, and whom it tells about its progress.

use std::time::Duration;

use ansible_module::{Failure, Progress, Task};
use deadline::Deadline;
use pve_client::{Client, Error};
use serde_json::{Value, json};

use crate::cluster::survey::Notes;

/// What every step of a task needs.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The API.
    pub client: &'a Client,
    /// The end of the whole task.
    pub deadline: &'a Deadline,
    /// Where progress goes.
    pub progress: &'a Progress,
    /// The Ansible task, for warnings.
    pub task: &'a Task,
    /// What tasks of this controller that make VMs at once share, if this is one.
    pub notes: Option<&'a Notes>,
}

impl Context<'_> {
    /// GET what is the same for many tasks, so that one of them asks. The error is of what `wrong` makes one.
    pub async fn shared(
        &self,
        path: &str,
        query: &[(&str, String)],
        wrong: impl FnOnce(Error) -> Failure,
    ) -> Result<Value, Failure> {
        let answer = match self.notes {
            Some(notes) => notes.get(self, path, query).await?,
            None => self.client.get(path, query, self.deadline).await,
        };
        answer.map_err(wrong)
    }

    /// Say that `step` begins on `object`.
    pub fn says(&self, step: &str, object: &str) {
        self.progress
            .emit(&json!({"event": "step", "step": step, "object": object}));
    }

    /// A watcher of a task of PVE's that does `step` on `object`.
    pub fn watches(&self, step: &str, object: &str) -> impl FnMut(Duration) {
        let (progress, step, object) = (self.progress.clone(), step.to_owned(), object.to_owned());
        move |waited| {
            let seconds = waited.as_secs_f64();
            progress.emit(
                &json!({"event": "wait", "step": step, "object": object, "seconds": seconds}),
            );
        }
    }
}

/// A failure of the API at `doing` (an infinitive: `start`) something to `object`.
pub fn failed(doing: &str, object: &str, error: Error) -> Failure {
    let mut failure = pve_module::doing(format!("{doing} {object}"))(error);
    failure.object = Some(object.to_owned());
    failure
}

/// A failure after the VM was already made or changed.
pub fn done(failure: Failure, vmid: u32, node: &str) -> Failure {
    failure
        .with("changed", true)
        .with("vmid", vmid)
        .with("node", node)
}

/// [`done`] when `changed`, else the failure as it is.
pub fn done_if(changed: bool, failure: Failure, vmid: u32, node: &str) -> Failure {
    if changed {
        done(failure, vmid, node)
    } else {
        failure
    }
}
