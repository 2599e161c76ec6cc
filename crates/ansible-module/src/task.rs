//! What a running module knows of its task, and what it may say on the way.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::progress::Progress;

/// One run of the module. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Task {
    /// Only say what would change.
    pub check_mode: bool,
    /// A difference was asked for.
    pub diff_mode: bool,
    /// The number of `-v`.
    pub verbosity: u8,
    warnings: Arc<Mutex<Vec<String>>>,
    secrets: Secrets,
}

impl Task {
    pub(crate) fn new(check_mode: bool, diff_mode: bool, verbosity: u8, secrets: Secrets) -> Self {
        Self {
            check_mode,
            diff_mode,
            verbosity,
            warnings: Arc::default(),
            secrets,
        }
    }

    /// Warn the user, once however often it is said.
    pub fn warn(&self, msg: impl Into<String>) {
        let msg = msg.into();
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if !warnings.contains(&msg) {
            warnings.push(msg);
        }
    }

    /// Mask `value` too wherever it appears in the result: a ticket, a generated password.
    pub fn secret(&self, value: &str) {
        self.secrets.add(value);
    }

    /// A writer of progress lines to `path`, masked as the result is.
    pub fn progress(&self, path: Option<&Path>) -> Progress {
        Progress::open(path, self.secrets.clone())
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The strings to mask, shared by everything that writes.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Arc<Mutex<Vec<String>>>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Secrets {
    /// Mask `value` from now on.
    pub(crate) fn add(&self, value: &str) {
        if !value.is_empty() {
            let mut secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            secrets.push(value.to_owned());
        }
    }

    /// `value` with every secret masked.
    pub(crate) fn scrub(&self, value: Value) -> Value {
        let secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        scrub(value, &secrets)
    }
}

fn scrub(value: Value, secrets: &[String]) -> Value {
    match value {
        Value::String(text) => Value::String(
            secrets
                .iter()
                .fold(text, |text, secret| text.replace(secret, "********")),
        ),
        Value::Array(items) => items.into_iter().map(|v| scrub(v, secrets)).collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(k, v)| (k, scrub(v, secrets)))
            .collect(),
        other => other,
    }
}
