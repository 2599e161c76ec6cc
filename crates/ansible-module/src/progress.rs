//! Progress of long work, as JSON lines that a person or a program can follow.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::OFlags;
use serde::Serialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::mask::Secrets;
use crate::text::shortened;

/// Keys whose values are the module's own words, which programs compare.
const OWN: [&str; 5] = ["time", "event", "phase", "step", "host"];

/// The most characters of one text in a line: more than a terminal shows of it.
const LONGEST: usize = 2000;

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
                // A pipe that nobody reads must not hold the task up.
                .custom_flags(OFlags::NONBLOCK.bits() as i32)
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
        let shown = |(key, value): (String, Value)| {
            let value = match OWN.contains(&&*key) {
                true => self.secrets.scrub_own(value),
                false => self.secrets.scrub(value),
            };
            (key, cut(value))
        };
        let line: Map<String, Value> = line.into_iter().map(shown).collect();
        let line = Value::Object(line);
        // One write with O_APPEND, so that the lines of parallel tasks do not mix.
        let _ = (&**file).write_all(format!("{line}\n").as_bytes());
    }
}

/// `value` with the strings in it no longer than [`LONGEST`].
fn cut(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(shortened(text, LONGEST)),
        Value::Array(items) => items.into_iter().map(cut).collect(),
        Value::Object(map) => map.into_iter().map(|(key, v)| (key, cut(v))).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use serde_json::json;

    #[test]
    fn lines_are_appended_masked_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("progress");
        let secrets = Secrets::default();
        secrets.add("hunter2");
        for event in [
            json!({"phase": "upload", "note": "by hunter2!"}),
            json!("done"),
        ] {
            Progress::open(Some(&path), secrets.clone()).emit(&event);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["phase"], "upload");
        assert_eq!(lines[0]["note"], "by ********!");
        assert!(lines[0]["time"].as_str().unwrap().ends_with('Z'));
        assert_eq!(lines[1]["event"], "done");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_a_guest_says_is_shown_and_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("progress");
        let secrets = Secrets::default();
        secrets.add("install");
        let reason = format!("\x1b]0;pwn\x07 by install {}", "x".repeat(100_000));
        Progress::open(Some(&path), secrets)
            .emit(&json!({"event": "installing", "phase": "install", "reason": reason}));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.len() < 3000, "{text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&line["event"], &line["phase"]),
            (&json!("installing"), &json!("install"))
        );
        let reason = line["reason"].as_str().unwrap();
        assert!(
            reason.starts_with("\\x1b]0;pwn\\x07 by ******** xxx"),
            "{reason}"
        );
    }

    #[test]
    fn what_cannot_be_written_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        Progress::open(Some(folder.path()), Secrets::default()).emit(&json!({"a": 1}));
        Progress::open(Some(&folder.path().join("none/x")), Secrets::default()).emit(&1);
        Progress::open(None, Secrets::default()).emit(&json!(null));
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
        Progress::open(Some(&pipe), Secrets::default()).emit(&json!({"a": 1}));
    }
}
