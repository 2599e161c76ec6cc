//! Progress of long work, as JSON lines that a person or a program can follow.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::mask::Secrets;

/// A writer of JSON lines. Cheap to clone. Writing never fails the task: a file that cannot be
/// opened or written is as good as none.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    file: Option<Arc<File>>,
    secrets: Secrets,
}

impl Progress {
    /// Append to the file at `path` (made with mode 0600), or write nothing without one.
    pub(crate) fn open(path: Option<&Path>, secrets: Secrets) -> Self {
        let file = path.and_then(|path| {
            OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(path)
                .ok()
        });
        Self {
            file: file.map(Arc::new),
            secrets,
        }
    }

    /// Append `event` as one line. An object gets the time, `time`, as its first key; anything
    /// else becomes the value of `event`.
    pub fn emit(&self, event: &impl Serialize) {
        let Some(file) = &self.file else { return };
        let Ok(event) = serde_json::to_value(event) else {
            return;
        };
        let mut line = Map::new();
        if let Ok(now) = OffsetDateTime::now_utc().format(&Rfc3339) {
            line.insert("time".into(), Value::String(now));
        }
        match event {
            Value::Object(fields) => line.extend(fields),
            other => {
                line.insert("event".into(), other);
            }
        }
        let line = self.secrets.scrub(Value::Object(line));
        // One write with O_APPEND, so that the lines of parallel tasks do not mix.
        let _ = (&**file).write_all(format!("{line}\n").as_bytes());
    }
}
