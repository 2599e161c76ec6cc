//! Misbehaviour on demand: rules from a file, read again whenever it changes.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use regex_lite::Regex;
use serde::Deserialize;

use crate::files::{Version, version};

/// One rule of the file, which holds a JSON array of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Rule {
    /// Method; any when left out.
    #[serde(default)]
    method: Option<String>,
    /// Glob over the API path (`*` = anything), or a regular expression when it starts with `^`.
    path: String,
    /// The first matching call that is hit, counted from 1.
    #[serde(default)]
    nth: Option<u64>,
    /// How many calls from there on; 1 with `nth`, else all.
    #[serde(default)]
    times: Option<u64>,
    action: Kind,
    /// For `delay` and `slow-copy`: seconds.
    #[serde(default)]
    seconds: f64,
    /// For `status`: the HTTP status.
    #[serde(default)]
    status: Option<u16>,
    /// For `task-fail`: the task's exit status.
    #[serde(default)]
    message: Option<String>,
}

#[derive(Debug, Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    DropBefore,
    DropAfter,
    Delay,
    Status,
    #[serde(rename = "596-after-effect")]
    LostAnswer,
    Lock,
    TaskFail,
    Full,
    SlowCopy,
    Orphan,
    KillWorker,
}

/// What happens to a call.
#[derive(Debug, Clone)]
pub enum Action {
    /// The connection is dropped before anything is done.
    DropBefore,
    /// Everything is done, then the connection is dropped.
    DropAfter,
    /// The call waits first.
    Delay(Duration),
    /// This status, nothing done.
    Answer(u16),
    /// Everything is done, the answer is this status.
    AnswerAfter(u16),
    /// The VM's lock cannot be had.
    Lock,
    /// The call's task (or the call itself when it has none) fails with this text.
    Fail(String),
    /// The task of an upload or download takes this long to write the file, which grows meanwhile.
    SlowCopy(Duration),
    /// pvedaemon dies: a create leaves `lock: create` and no task, another call nothing.
    Orphan,
    /// The call's worker is killed in its middle, and leaves what it had made.
    Kill,
}

/// What happens to a task in its middle.
#[derive(Debug, Clone, Copy, Default)]
pub struct Interrupt {
    /// It takes this long.
    pub slow: Duration,
    /// It is killed.
    pub kill: bool,
}

impl Interrupt {
    /// The middle of a task.
    ///
    /// # Errors
    /// When the task is killed here.
    pub async fn pass(self) -> Result<(), String> {
        tokio::time::sleep(self.slow).await;
        match self.kill {
            true => Err(crate::task::KILLED.into()),
            false => Ok(()),
        }
    }
}

#[derive(Default)]
struct State {
    read: Option<Version>,
    rules: Vec<(Rule, Regex, u64)>,
}

/// The rules and how often each has matched.
pub struct Faults {
    file: Option<PathBuf>,
    state: Mutex<State>,
}

impl Faults {
    /// Rules of a file, which may appear later.
    pub fn new(file: Option<PathBuf>) -> Self {
        Self {
            file,
            state: Mutex::default(),
        }
    }

    /// What is to happen to this call. Counts it.
    pub fn action(&self, method: &str, path: &str) -> Option<Action> {
        let file = self.file.as_ref()?;
        let mut state = self
            .state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let changed = version(file);
        if changed != state.read {
            state.rules = match read(file) {
                Ok(rules) => rules,
                // A test whose faults do not come would pass for nothing.
                Err(error) => {
                    let text = format!("the faults file {}: {error}", file.display());
                    return Some(Action::Fail(text));
                }
            };
            state.read = changed;
        }
        let mut found = None;
        for (rule, pattern, count) in &mut state.rules {
            if rule
                .method
                .as_ref()
                .is_some_and(|wanted| !wanted.eq_ignore_ascii_case(method))
                || !pattern.is_match(path)
            {
                continue;
            }
            *count += 1;
            let first = rule.nth.unwrap_or(1);
            let times = rule
                .times
                .unwrap_or(if rule.nth.is_some() { 1 } else { u64::MAX });
            if *count >= first && *count - first < times && found.is_none() {
                found = Some(rule.action());
            }
        }
        found
    }
}

impl Rule {
    fn action(&self) -> Action {
        match self.action {
            Kind::DropBefore => Action::DropBefore,
            Kind::DropAfter => Action::DropAfter,
            Kind::Delay => Action::Delay(Duration::from_secs_f64(self.seconds.clamp(0.0, 3600.0))),
            Kind::Status => Action::Answer(self.status.unwrap_or(500)),
            Kind::LostAnswer => Action::AnswerAfter(596),
            Kind::Lock => Action::Lock,
            Kind::TaskFail => Action::Fail(
                self.message
                    .clone()
                    .unwrap_or_else(|| "injected failure".into()),
            ),
            Kind::SlowCopy => {
                Action::SlowCopy(Duration::from_secs_f64(self.seconds.clamp(0.0, 3600.0)))
            }
            Kind::Orphan => Action::Orphan,
            Kind::KillWorker => Action::Kill,
            Kind::Full => Action::Fail("No space left on device".into()),
        }
    }
}

fn read(file: &PathBuf) -> Result<Vec<(Rule, Regex, u64)>, String> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) if text.trim().is_empty() => return Ok(Vec::new()),
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string()),
    };
    let rules: Vec<Rule> = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    rules
        .into_iter()
        .map(|rule| {
            let text = if rule.path.starts_with('^') {
                rule.path.clone()
            } else {
                format!("^{}$", regex_lite::escape(&rule.path).replace("\\*", ".*"))
            };
            let pattern = Regex::new(&text).map_err(|error| error.to_string())?;
            Ok((rule, pattern, 0))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_count_their_calls() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("faults.json");
        std::fs::write(
            &file,
            r#"[{"method":"POST","path":"/nodes/*/qemu","nth":2,"action":"596-after-effect"},
                {"path":"^/version","action":"status","status":503}]"#,
        )
        .expect("written");
        let faults = Faults::new(Some(file));
        assert!(faults.action("POST", "/nodes/pve/qemu").is_none());
        assert!(matches!(
            faults.action("POST", "/nodes/pve/qemu"),
            Some(Action::AnswerAfter(596))
        ));
        assert!(faults.action("POST", "/nodes/pve/qemu").is_none());
        assert!(faults.action("GET", "/nodes/pve/qemu").is_none());
        assert!(matches!(
            faults.action("GET", "/version"),
            Some(Action::Answer(503))
        ));
        assert!(matches!(
            faults.action("GET", "/version"),
            Some(Action::Answer(503))
        ));
        let broken = dir.path().join("broken.json");
        std::fs::write(&broken, r#"[{"path":"/none","action":"503"}]"#).expect("written");
        let faults = Faults::new(Some(broken));
        for _ in 0..2 {
            assert!(matches!(
                faults.action("GET", "/version"),
                Some(Action::Fail(text)) if text.contains("unknown variant")
            ));
        }
    }
}
