//! What every step needs: the API's client, the deadline, the progress log and the Ansible task.

use std::time::Duration;

use ansible_module::{Failure, Progress, Task};
use deadline::Deadline;
use pve_client::{Client, Error};
use serde_json::json;

/// What every step needs.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The API.
    pub client: &'a Client,
    /// The end of the whole task.
    pub deadline: &'a Deadline,
    /// Where progress goes.
    pub progress: &'a Progress,
    /// The Ansible task, for warnings and check mode.
    pub task: &'a Task,
}

impl Context<'_> {
    /// Report that `step` begins on `object`.
    pub fn report_step(&self, step: &str, object: &str) {
        self.progress
            .emit(&json!({"event": "step", "step": step, "object": object}));
    }

    /// Report how long something has been waited for.
    pub fn report_wait(&self, step: &str, object: &str, waited: Duration) {
        let seconds = waited.as_secs_f64();
        self.progress
            .emit(&json!({"event": "wait", "step": step, "object": object, "seconds": seconds}));
    }
}

/// `.map_err(failed("read", "VM 101"))`: a failure of the API at doing something (an infinitive) to an object.
pub fn failed(doing: &str, object: &str) -> impl FnOnce(Error) -> Failure {
    move |error| {
        let mut failure = pve_module::doing(format!("{doing} {object}"))(error);
        failure.object = Some(object.to_owned());
        failure
    }
}
