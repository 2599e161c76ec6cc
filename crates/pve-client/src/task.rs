//! Tasks: PVE's way of doing what takes time.

use std::time::{Duration, Instant};

use deadline::{Deadline, backoff};
use serde::Deserialize;

use crate::error::{TaskFailure, shown};
use crate::params::encode;
use crate::{Client, Error, Params, Upid};

/// First pause between two looks at a task, and the longest.
const FIRST_LOOK: Duration = Duration::from_millis(100);
const LAST_LOOK: Duration = Duration::from_secs(1);
/// Lines of a failed task's log that go into the error.
const LOG_TAIL: usize = 10;

/// A task that ended well.
#[derive(Debug, Clone)]
pub struct TaskResult {
    /// The task.
    pub upid: Upid,
    /// Its number of warnings (exit status `WARNINGS: n`).
    pub warnings: u32,
}

/// A line of a task's log.
#[derive(Debug, Clone, Deserialize)]
pub struct LogLine {
    /// Its number, from 1.
    pub n: u64,
    /// Its text.
    pub t: String,
}

#[derive(Deserialize)]
struct Status {
    status: String,
    exitstatus: Option<String>,
}

impl Client {
    /// Wait until a task ends, looking at it every 0.1 s at first and every second later.
    /// `on_tick` is called after each look with the time waited so far.
    ///
    /// # Errors
    /// [`Error::Task`] when it ended with anything but `OK` or `WARNINGS: n`;
    /// [`Error::Expired`] when the deadline passes (the task goes on).
    pub async fn task(
        &self,
        upid: impl AsRef<str>,
        deadline: &Deadline,
        mut on_tick: impl FnMut(Duration),
    ) -> Result<TaskResult, Error> {
        let upid: Upid = upid
            .as_ref()
            .parse()
            .map_err(|e: crate::upid::InvalidUpid| Error::unexpected("waiting for a task", e))?;
        let path = format!(
            "/nodes/{}/tasks/{}/status",
            encode(&upid.node),
            encode(upid.as_ref())
        );
        let since = Instant::now();
        let mut pause = FIRST_LOOK;
        loop {
            let status: Status = match self.read_as(&path, &[], deadline).await {
                Err(Error::Expired { last, .. }) => {
                    return Err(unfinished(&upid, last, deadline, since));
                }
                answer => answer?,
            };
            if status.status == "stopped" {
                let exitstatus = status.exitstatus.unwrap_or_default();
                return match warnings(&exitstatus) {
                    Some(warnings) => Ok(TaskResult { upid, warnings }),
                    None => Err(self.task_failure(upid, exitstatus, deadline).await),
                };
            }
            on_tick(since.elapsed());
            if !deadline.sleep(pause).await {
                return Err(unfinished(&upid, None, deadline, since));
            }
            pause = pause.mul_f64(1.3).min(LAST_LOOK);
        }
    }

    /// POST something that PVE makes a task of, and wait for it. A task that failed because
    /// somebody held the VM's lock did nothing and is started again.
    ///
    /// # Errors
    /// As [`Client::post`] and [`Client::task`].
    pub async fn post_task(
        &self,
        path: &str,
        params: &Params,
        deadline: &Deadline,
        mut on_tick: impl FnMut(Duration),
    ) -> Result<TaskResult, Error> {
        let mut locked = 0;
        loop {
            let data = self.post(path, params, deadline).await?;
            let upid = data.as_str().ok_or_else(|| {
                let detail = format!("no task identifier but {data}");
                Error::unexpected(format!("POST {path}"), detail)
            })?;
            match self.task(upid, deadline, &mut on_tick).await {
                Err(error) if error.is_lock_contention() => {
                    locked += 1;
                    if !deadline
                        .sleep(backoff(locked, Duration::from_secs(2)))
                        .await
                    {
                        return Err(error);
                    }
                }
                settled => return settled,
            }
        }
    }

    /// DELETE something and wait for the task, if PVE makes one of it. Locks as in [`Client::post_task`].
    ///
    /// # Errors
    /// As [`Client::delete`] and [`Client::task`].
    pub async fn delete_task(
        &self,
        path: &str,
        query: &[(&str, String)],
        deadline: &Deadline,
        mut on_tick: impl FnMut(Duration),
    ) -> Result<Option<TaskResult>, Error> {
        let mut locked = 0;
        loop {
            let data = self.delete(path, query, deadline).await?;
            let Some(upid) = data.as_str() else {
                return Ok(None);
            };
            match self.task(upid, deadline, &mut on_tick).await {
                Err(error) if error.is_lock_contention() => {
                    locked += 1;
                    if !deadline
                        .sleep(backoff(locked, Duration::from_secs(2)))
                        .await
                    {
                        return Err(error);
                    }
                }
                settled => return settled.map(Some),
            }
        }
    }

    /// The tasks that run on a node, those of one VM if `vmid` is given. PVE lists the tasks of other users only to callers with
    /// Sys.Audit.
    ///
    /// # Errors
    /// Those of [`Client::read_as`].
    pub async fn running_tasks(
        &self,
        node: &str,
        vmid: Option<u32>,
        deadline: &Deadline,
    ) -> Result<Vec<Upid>, Error> {
        #[derive(Deserialize)]
        struct Listed {
            upid: String,
        }
        let path = format!("/nodes/{}/tasks", encode(node));
        let mut query = vec![("source", "active".to_owned())];
        query.extend(vmid.map(|vmid| ("vmid", vmid.to_string())));
        let listed: Vec<Listed> = self.read_as(&path, &query, deadline).await?;
        let parsed = listed.iter().map(|task| {
            let invalid = |e: crate::upid::InvalidUpid| Error::unexpected(format!("GET {path}"), e);
            task.upid.parse().map_err(invalid)
        });
        parsed.collect()
    }

    /// The log of a task from line `start` (0-based), at most `limit` lines (0: all).
    pub async fn task_log(
        &self,
        upid: &Upid,
        start: u64,
        limit: u64,
        deadline: &Deadline,
    ) -> Result<Vec<LogLine>, Error> {
        let path = format!(
            "/nodes/{}/tasks/{}/log",
            encode(&upid.node),
            encode(upid.as_ref())
        );
        self.read_as(
            &path,
            &[("start", start.to_string()), ("limit", limit.to_string())],
            deadline,
        )
        .await
    }

    async fn task_failure(&self, upid: Upid, exitstatus: String, deadline: &Deadline) -> Error {
        // The log is a help, not the error: a short look, and nothing if it cannot be had.
        let lines = self
            .task_log(&upid, 0, 0, &deadline.shorter(Duration::from_secs(10)))
            .await
            .unwrap_or_default();
        task_failure(upid, &exitstatus, &lines)
    }
}

/// The error for a task that ended so, with the end of its log.
pub fn task_failure(upid: Upid, exitstatus: &str, lines: &[LogLine]) -> Error {
    let skip = lines.len().saturating_sub(LOG_TAIL);
    let log = lines.iter().skip(skip).map(|line| shown(&line.t)).collect();
    Error::Task(Box::new(TaskFailure {
        upid,
        exitstatus: shown(exitstatus),
        log,
    }))
}

/// The error for a task that goes on after the deadline. `last`: why the last look at it had no answer.
fn unfinished(upid: &Upid, last: Option<String>, deadline: &Deadline, since: Instant) -> Error {
    Error::Expired {
        expired: deadline.expired_error(
            format!("the task {} to end ({upid})", describe(upid)),
            since.elapsed(),
        ),
        last,
        may_have_happened: true,
    }
}

/// `qmstart 101`.
fn describe(upid: &Upid) -> String {
    if upid.id.is_empty() {
        upid.kind.clone()
    } else {
        format!("{} {}", upid.kind, upid.id)
    }
}

/// The number of warnings of an exit status that means success.
fn warnings(exitstatus: &str) -> Option<u32> {
    if exitstatus == "OK" {
        return Some(0);
    }
    let number = exitstatus.strip_prefix("WARNINGS: ")?;
    number
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| number.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_is_ok_or_warnings() {
        assert_eq!(warnings("OK"), Some(0));
        assert_eq!(warnings("WARNINGS: 12"), Some(12));
        for text in [
            "",
            "ok",
            "WARNINGS: ",
            "WARNINGS: 1 x",
            "WARNINGS: +1",
            "received interrupt",
            "unexpected status",
        ] {
            assert_eq!(warnings(text), None, "{text}");
        }
    }
}
