//! What every step of a task needs: the API's client, the deadline, the progress log and the Ansible task.

use std::path::Path;
use std::time::Duration;

use ansible_module::{Failure, Progress, Task};
use deadline::Deadline;
use pve_client::{Client, Error};
use serde_json::json;

use crate::{Connection, doing, explained};

/// What a task opens once and holds to its end. [`Session::context`] lends it to the steps.
pub struct Session {
    client: Client,
    deadline: Deadline,
    progress: Progress,
    task: Task,
}

impl Session {
    /// Begin a task that may take `timeout` seconds. Nothing is sent yet.
    ///
    /// # Errors
    /// Those of [`Connection::client`].
    pub fn open(
        connection: &Connection,
        timeout: u64,
        progress_path: Option<&Path>,
        task: Task,
    ) -> Result<Self, Failure> {
        Ok(Self {
            client: connection.client()?,
            deadline: Deadline::after(Duration::from_secs(timeout)),
            progress: task.progress(progress_path),
            task,
        })
    }

    /// What the steps of the task need.
    pub fn context(&self) -> Context<'_> {
        Context {
            client: &self.client,
            deadline: &self.deadline,
            progress: &self.progress,
            task: &self.task,
        }
    }

    /// What was done; a failure for lack of a privilege with the path on which to grant it.
    ///
    /// # Errors
    /// The failure.
    pub async fn explain<T>(&self, done: Result<T, Failure>) -> Result<T, Failure> {
        match done {
            Err(failure) => Err(explained(&self.client, &self.deadline, failure).await),
            done => done,
        }
    }
}

/// What every step of a task needs.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The client of the API.
    pub client: &'a Client,
    /// The end of the whole task.
    pub deadline: &'a Deadline,
    /// The log for the option `progress_path`.
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

    /// A watcher that reports how long `step` on `object`, such as a task of PVE's, has been waited for.
    pub fn watcher(&self, step: &str, object: &str) -> impl FnMut(Duration) + use<> {
        let (progress, step, object) = (self.progress.clone(), step.to_owned(), object.to_owned());
        move |waited| {
            let seconds = waited.as_secs_f64();
            progress.emit(
                &json!({"event": "wait", "step": step, "object": object, "seconds": seconds}),
            );
        }
    }
}

/// `.map_err(failed("start", "VM 101"))`: a failure of the API at `doing` (an infinitive) something to `object`.
pub fn failed(doing_what: &str, object: &str) -> impl FnOnce(Error) -> Failure + Copy {
    move |error| doing(format!("{doing_what} {object}"))(error).object(object)
}
