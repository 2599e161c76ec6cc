//! What every step of a task needs: the API's client, the deadline, the progress log and the Ansible task.

use std::time::Duration;

use ansible_module::{Failure, Progress, Task};
use deadline::Deadline;
use pve_client::{Client, Error};
use serde_json::{Value, json};

use crate::response_cache::ResponseCache;

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
    /// The answers that tasks of this controller share while they make VMs at once. Other tasks have no cache.
    pub cache: Option<&'a ResponseCache>,
}

impl Context<'_> {
    /// GET what is the same for many tasks, so that only one of them sends the request. `wrong` converts the API's error.
    pub async fn get_shared(
        &self,
        path: &str,
        query: &[(&str, String)],
        wrong: impl FnOnce(Error) -> Failure,
    ) -> Result<Value, Failure> {
        let answer = match self.cache {
            Some(cache) => cache.get(self.client, self.deadline, path, query).await?,
            None => self.client.get(path, query, self.deadline).await,
        };
        answer.map_err(wrong)
    }

    /// Report that `step` begins on `object`.
    pub fn report_step(&self, step: &str, object: &str) {
        self.progress
            .emit(&json!({"event": "step", "step": step, "object": object}));
    }

    /// A watcher that reports how long a task of PVE's, which does `step` on `object`, has been waited for.
    pub fn watcher(&self, step: &str, object: &str) -> impl FnMut(Duration) {
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
