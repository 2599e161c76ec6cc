//! The one line of JSON that a module answers with.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};

use crate::arguments::Arguments;
use crate::mask::Secrets;
use crate::task::Task;
use crate::text::shortened;
use crate::{Failure, Outcome};

/// The version of the modules' answers: raised when a key is removed, or means something else. Keys that are added leave
/// it as it is.
pub const SCHEMA_VERSION: u32 = 1;

/// Everything that goes into the answer beside the outcome. Shared, so that a module that is
/// ended from outside or panics can still answer.
#[derive(Debug, Default)]
pub struct Reply {
    /// The module's name.
    pub module: &'static str,
    /// What to mask.
    pub secrets: Secrets,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    answered: bool,
    invocation: Option<Value>,
    diff_mode: bool,
    no_log: bool,
    task: Option<Task>,
    warnings: Vec<String>,
}

impl Reply {
    /// The answer of the module called `module`.
    pub fn new(module: &'static str) -> Self {
        Self {
            module,
            ..Self::default()
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answer as these arguments ask; `invocation` is how they may be shown.
    pub fn asked(&self, arguments: &Arguments, invocation: Value, warnings: Vec<String>) {
        let mut state = self.state();
        state.diff_mode = arguments.diff_mode;
        state.no_log = arguments.no_log;
        state.invocation = (arguments.inject_invocation && !arguments.no_log).then_some(invocation);
        state.warnings = warnings;
    }

    /// Collect this task's warnings.
    pub fn task(&self, task: Task) {
        self.state().task = Some(task);
    }

    /// Print the answer, unless one was printed before. Returns whether the task succeeded.
    pub fn answer(&self, outcome: Result<Outcome, Failure>) -> bool {
        // Held until it is printed: whoever answers second may end the process.
        let mut state = self.state();
        let succeeded = outcome.is_ok();
        if state.answered {
            return succeeded;
        }
        state.answered = true;
        let line = self.line(&mut state, outcome);
        // Nobody is told when nobody listens.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
        succeeded
    }

    fn line(&self, state: &mut State, outcome: Result<Outcome, Failure>) -> Value {
        let mut result = match outcome {
            Ok(outcome) => self.success(outcome, state.diff_mode),
            Err(failure) => self.failed(failure, state.no_log),
        };
        let mut warnings = std::mem::take(&mut state.warnings);
        warnings.extend(state.task.as_ref().map(Task::warnings).unwrap_or_default());
        let left_out = warnings.len().saturating_sub(MOST_WARNINGS);
        warnings.truncate(MOST_WARNINGS);
        if left_out > 0 {
            warnings.push(format!("{left_out} more warnings are left out"));
        }
        let mut warnings: Vec<_> = warnings.into_iter().map(|w| self.text_of(w)).collect();
        // Not masked: they name options, and say nothing of what is in them.
        warnings.extend(self.secrets.warnings());
        if !warnings.is_empty() {
            result.insert("warnings".into(), warnings.into());
        }
        if let Some(invocation) = state.invocation.take() {
            let invocation = json!({"module_args": self.secrets.scrub(invocation)});
            result.insert("invocation".into(), invocation);
        }
        result.insert("schema_version".into(), SCHEMA_VERSION.into());
        Value::Object(result)
    }

    /// The module's return values: facts as they are, others without long secrets. Their keys are the
    /// module's own: without its `failed` a failure is a success for Ansible.
    fn values(&self, values: Map<String, Value>, facts: &BTreeSet<String>) -> Map<String, Value> {
        let shown =
            |(key, value): (String, Value)| match facts.contains(&key) || FACTS.contains(&&*key) {
                true => (key, value),
                false => (key, self.secrets.scrub_own(value)),
            };
        values.into_iter().map(shown).collect()
    }

    /// Free text, as a person may see it: no secrets, nothing that controls a terminal, and no more
    /// than can be read.
    fn text_of(&self, text: String) -> String {
        as_text(
            self.secrets
                .scrub(Value::String(shortened(text, LONGEST_SEEN))),
        )
    }

    /// The module's own words: only what nobody says by chance is masked in them.
    fn own(&self, text: String) -> String {
        as_text(
            self.secrets
                .scrub_own(Value::String(shortened(text, LONGEST_SEEN))),
        )
    }

    fn success(&self, outcome: Outcome, diff_mode: bool) -> Map<String, Value> {
        let mut result = self.values(outcome.values, &outcome.facts);
        result.insert("changed".into(), outcome.changed.into());
        result.insert("msg".into(), self.text_of(outcome.msg).into());
        if let (true, Some(diff)) = (diff_mode, outcome.diff) {
            let diff = self.secrets.scrub(json!(diff));
            result.insert("diff".into(), diff);
        }
        result
    }

    fn failed(&self, failure: Failure, no_log: bool) -> Map<String, Value> {
        let hint = failure.hint.map(|hint| self.own(hint));
        let mut error = Map::new();
        error.insert("kind".into(), json!(failure.kind));
        let mut put = |key: &str, value: Option<Value>| {
            error.insert(key.into(), value.unwrap_or(Value::Null));
        };
        put(
            "object",
            failure.object.map(|object| self.own(object).into()),
        );
        put("status", failure.status.map(Value::from));
        put(
            "detail",
            failure.detail.map(|detail| self.text_of(detail).into()),
        );
        put("hint", hint.clone().map(Value::from));
        let mut result = self.values(failure.values, &failure.facts);
        result.entry("changed").or_insert(Value::Bool(false));
        if failure.may_have_happened {
            result.insert("may_have_happened".into(), true.into());
        }
        result.insert("failed".into(), true.into());
        let mut msg = self.text_of(failure.msg);
        // People read the message only; Ansible does not show them the rest.
        if let Some(hint) = hint {
            msg = format!(
                "{msg}{}{hint}",
                if msg.contains('\n') { "\n" } else { "; " }
            );
        }
        if no_log {
            // Ansible 2.21 prints the msg of a failure in spite of no_log.
            error.insert("msg".into(), msg.into());
            msg = format!(
                "{} failed ({}); the task's no_log hides why",
                self.module, failure.kind
            );
        }
        result.insert("msg".into(), msg.into());
        result.insert("error".into(), error.into());
        result
    }

    /// What [`Reply::answer`] prints.
    #[cfg(any(test, fuzzing))]
    pub fn text(&self, outcome: Result<Outcome, Failure>) -> String {
        self.line(&mut self.state(), outcome).to_string()
    }
}

/// The most characters of one text that are shown: the longest messages of our own, which list all
/// options of a module or the last lines of a log, have a quarter of that.
const LONGEST_TEXT: usize = 16_000;

/// What is longer than this is cut before secrets are looked for, of which there may be thousands. It is so much more
/// than what is shown that no secret that was cut in two is among that.
const LONGEST_SEEN: usize = 20 * LONGEST_TEXT;

/// The most warnings that are shown.
const MOST_WARNINGS: usize = 100;

/// Keys of return values that are facts ([`Outcome::fact`]) in every module.
const FACTS: [&str; 19] = [
    "checksum",
    "closure",
    "drive",
    "exists",
    "hardware_config",
    "instance_id",
    "log_path",
    "name",
    "node",
    "path",
    "phase",
    "size",
    "status",
    "store_paths",
    "tags",
    "upid",
    "vmid",
    "vmids",
    "volid",
];

fn as_text(text: Value) -> String {
    let text = match text {
        Value::String(text) => text,
        other => other.to_string(),
    };
    shortened(text, LONGEST_TEXT)
}
