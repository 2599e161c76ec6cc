//! The progress of a transfer.

use std::time::{Duration, Instant};

use ansible_module::Progress;
use serde_json::json;

/// How often bytes are reported.
const TICK: Duration = Duration::from_millis(500);

/// Reports the progress of one ISO.
pub struct TransferProgress {
    progress: Progress,
    /// The volume identifier.
    object: String,
}

impl TransferProgress {
    /// About the volume `object`.
    pub fn new(progress: Progress, object: String) -> Self {
        Self { progress, object }
    }

    /// `step` begins.
    pub fn step(&self, step: &str) {
        self.progress
            .emit(&json!({"event": "step", "step": step, "object": self.object}));
    }

    /// A watcher of the bytes that `step` has passed on, and of how many there are in all. Called
    /// as often as one likes, it reports twice a second, and the last byte in any case.
    pub fn bytes<'a>(&'a self, step: &'a str) -> impl FnMut(u64, Option<u64>) + 'a {
        let mut since = Instant::now();
        let mut told: Option<(Instant, u64)> = None;
        move |sent, size| {
            let now = Instant::now();
            // It began anew, with another host.
            if told.is_some_and(|(_, before)| sent < before) {
                (since, told) = (now, None);
            }
            let soon = told.is_some_and(|(at, _)| now - at < TICK);
            let again = told.is_some_and(|(_, before)| sent == before);
            if again || (soon && size != Some(sent)) {
                return;
            }
            told = Some((now, sent));
            let seconds = (now - since).as_secs_f64();
            let rate = if seconds > 0.0 {
                (sent as f64 / seconds) as u64
            } else {
                0
            };
            self.progress.emit(&json!({
                "event": "transfer", "step": step, "object": self.object, "sent": sent, "size": size, "rate": rate
            }));
        }
    }

    /// A watcher of how long `step` has waited for a task of Proxmox VE's.
    pub fn waits<'a>(&'a self, step: &'a str, upid: &'a str) -> impl FnMut(Duration) + 'a {
        move |waited| {
            let seconds = (waited.as_secs_f64() * 10.0).round() / 10.0;
            self.progress.emit(&json!({
                "event": "wait", "step": step, "object": self.object, "upid": upid, "seconds": seconds
            }));
        }
    }
}
