//! Answers of the PVE API that the tasks of one controller share, so that many tasks that make VMs at once send few requests.
//!
//! An answer counts only if it was requested after the task that uses it began. So a task that shares an answer knows no
//! less than one that sends the request itself.

use std::time::{SystemTime, UNIX_EPOCH};

use ansible_module::Failure;
use deadline::Deadline;
use pve_client::{Client, Error};
use pve_module::Lock;
use serde::Deserialize;
use serde_json::{Value, json};

/// A point in time, in milliseconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| {
        u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
    })
}

/// An answer of the API.
#[derive(Debug, Deserialize)]
struct Answer {
    /// When it was asked for.
    began: u64,
    value: Value,
}

/// The answers for one cluster, as one caller sees it. Each is in the note of a lock of its own.
pub struct ResponseCache {
    /// The beginning of the names of its locks.
    pub lock: String,
    /// When the task that uses the cache began, in milliseconds since 1970.
    pub began: u64,
}

impl ResponseCache {
    /// The answers that tasks with this caller share, for a task that begins now.
    pub fn new(cluster: &str, caller: &str) -> Self {
        Self {
            lock: format!("notes {cluster} {caller}"),
            began: now(),
        }
    }

    /// The answer that a task got here since `since`, or else the one that `ask` gets. Only one task asks at a time: whoever waits for
    /// it has the same answer, if it was asked for late enough.
    pub async fn get_or_ask<E>(
        &self,
        deadline: &Deadline,
        key: &str,
        since: u64,
        ask: impl AsyncFnOnce() -> Result<Value, E>,
    ) -> Result<Result<Value, E>, Failure> {
        let mut lock = Lock::acquire(&format!("{} {key}", self.lock), deadline).await?;
        let text = lock.note().unwrap_or_default();
        let known = serde_json::from_str(&text).ok();
        let known = known.filter(|known: &Answer| (since..=now()).contains(&known.began));
        if let Some(known) = known {
            return Ok(Ok(known.value));
        }
        let began = now();
        let answer = ask().await;
        if let Ok(value) = &answer {
            // Without the note the others ask for themselves.
            let _ = lock.leave_note(&json!({"began": began, "value": value}).to_string());
        }
        Ok(answer)
    }

    /// GET, or the answer that another task got since this one began.
    pub async fn get(
        &self,
        client: &Client,
        deadline: &Deadline,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<Result<Value, Error>, Failure> {
        let query_text: Vec<String> = query.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let key = format!("{path} {}", query_text.join("&"));
        let ask = async || client.get(path, query, deadline).await;
        self.get_or_ask(deadline, &key, self.began, ask).await
    }
}
