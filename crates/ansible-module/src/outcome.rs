//! How a task ends.

use crate::FailureKind;
use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};

/// A task that succeeded.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Whether anything changed, or in check mode would have.
    pub changed: bool,
    /// One sentence that says what was done, or why nothing was.
    pub msg: String,
    /// What changed; shown only when a diff was asked for.
    pub diff: Option<Diff>,
    /// The module's own return values.
    pub values: Map<String, Value>,
    /// Which of the values are facts, see [`Outcome::fact`].
    pub facts: BTreeSet<String>,
}

impl Outcome {
    /// Everything was already as asked.
    pub fn unchanged(msg: impl Into<String>) -> Self {
        Self {
            msg: msg.into(),
            ..Self::default()
        }
    }

    /// Something changed, or in check mode would have.
    pub fn changed(msg: impl Into<String>) -> Self {
        Self {
            changed: true,
            ..Self::unchanged(msg)
        }
    }

    /// Return `value` as `key` too. A long secret within it is masked, and what controls a terminal
    /// is escaped.
    pub fn with(mut self, key: impl Into<String>, value: impl Serialize) -> Self {
        self.values.insert(key.into(), to_value(value));
        self
    }

    /// Return `value`, which the module computed or recorded, as `key` too: an identifier, a tag, a
    /// store path, a file to be saved. It is returned byte by byte: a later task works with it, and
    /// somebody's password that happens to be a part of it must not change it.
    pub fn fact(mut self, key: impl Into<String>, value: impl Serialize) -> Self {
        let key = key.into();
        self.values.insert(key.clone(), to_value(value));
        self.facts.insert(key);
        self
    }

    /// Show this difference when one was asked for.
    pub fn diff(mut self, diff: Diff) -> Self {
        self.diff = Some(diff);
        self
    }
}

/// What is and what will be (or was and is); objects or strings.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Diff {
    /// The state before.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub before: Value,
    /// The state after.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub after: Value,
    /// A text that Ansible shows as it is, instead of comparing both states.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prepared: Option<String>,
    /// A title for the state before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_header: Option<String>,
    /// A title for the state after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_header: Option<String>,
}

impl Diff {
    /// A difference without titles.
    pub fn new(before: impl Serialize, after: impl Serialize) -> Self {
        Self {
            before: to_value(before),
            after: to_value(after),
            ..Self::default()
        }
    }

    /// A text that is shown as it is.
    pub fn prepared(text: impl Into<String>) -> Self {
        Self {
            prepared: Some(text.into()),
            ..Self::default()
        }
    }

    /// The same title for both sides: the object's name.
    pub fn header(mut self, header: impl Into<String>) -> Self {
        let header = header.into();
        self.before_header = Some(header.clone());
        self.after_header = Some(header);
        self
    }
}

/// A task that failed.
#[derive(Clone, Debug, Default)]
pub struct Failure {
    /// One readable sentence: what was being done, on which object, what was answered.
    pub msg: String,
    /// Why, for programs.
    pub kind: FailureKind,
    /// The object that it happened to.
    pub object: Option<String>,
    /// The HTTP status or exit code behind it.
    pub status: Option<u16>,
    /// The full answer, log tail or cause.
    pub detail: Option<String>,
    /// What to do next, in the imperative. It is shown after the sentence.
    pub hint: Option<String>,
    /// Whether a change may have been made although no answer came. If so, read the object again before the next step.
    pub may_have_happened: bool,
    /// What was already done before it failed. `changed` may be among it.
    pub values: Map<String, Value>,
    /// Which of the values are facts, see [`Outcome::fact`].
    pub facts: BTreeSet<String>,
}

impl Failure {
    /// A failure of a `kind`, with a readable sentence.
    pub fn new(kind: FailureKind, msg: impl Into<String>) -> Self {
        Self {
            kind,
            msg: msg.into(),
            ..Self::default()
        }
    }

    /// Name the object that it happened to.
    pub fn object(mut self, object: impl Into<String>) -> Self {
        self.object = Some(object.into());
        self
    }

    /// The HTTP status or exit code behind it.
    pub fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// The full answer, log tail or cause.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// What to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Return `value` as `key` too: something that was already done, or `changed`.
    pub fn with(mut self, key: impl Into<String>, value: impl Serialize) -> Self {
        self.values.insert(key.into(), to_value(value));
        self
    }

    /// Return `value` as `key` too, as [`Outcome::fact`] does.
    pub fn fact(mut self, key: impl Into<String>, value: impl Serialize) -> Self {
        let key = key.into();
        self.values.insert(key.clone(), to_value(value));
        self.facts.insert(key);
        self
    }
}

impl From<deadline::Expired> for Failure {
    fn from(expired: deadline::Expired) -> Self {
        Self::new(FailureKind::Timeout, expired.to_string())
            .object(expired.what)
            .hint("raise the option timeout if that is normal here")
    }
}

/// A value that cannot be written as JSON (a map with odd keys) becomes a string saying so.
fn to_value(value: impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_else(|e| Value::String(format!("not JSON: {e}")))
}
