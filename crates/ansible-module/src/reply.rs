//! The one line of JSON that a module answers with.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};

use crate::arguments::Arguments;
use crate::mask::Secrets;
use crate::task::Task;
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
            Ok(outcome) => success(outcome, state.diff_mode),
            Err(failure) => failed(failure, self.module, state.no_log),
        };
        let mut warnings = std::mem::take(&mut state.warnings);
        warnings.extend(state.task.as_ref().map(Task::warnings).unwrap_or_default());
        if !warnings.is_empty() {
            result.insert("warnings".into(), warnings.into());
        }
        if let Some(invocation) = state.invocation.take() {
            result.insert("invocation".into(), json!({"module_args": invocation}));
        }
        // These keys are the protocol's and the module's own: without its `failed` a failure is a success for Ansible.
        result
            .into_iter()
            .map(|(key, value)| (key, self.secrets.scrub(value)))
            .chain([("schema_version".into(), SCHEMA_VERSION.into())])
            .collect()
    }

    /// What [`Reply::answer`] prints.
    #[cfg(any(test, fuzzing))]
    pub fn text(&self, outcome: Result<Outcome, Failure>) -> String {
        self.line(&mut self.state(), outcome).to_string()
    }
}

fn success(outcome: Outcome, diff_mode: bool) -> Map<String, Value> {
    let mut result = outcome.values;
    result.insert("changed".into(), outcome.changed.into());
    result.insert("msg".into(), outcome.msg.into());
    if let (true, Some(diff)) = (diff_mode, outcome.diff) {
        result.insert("diff".into(), json!(diff));
    }
    result
}

fn failed(failure: Failure, module: &str, no_log: bool) -> Map<String, Value> {
    let mut error = Map::new();
    error.insert("kind".into(), failure.kind.into());
    let mut put = |key: &str, value: Option<Value>| {
        error.insert(key.into(), value.unwrap_or(Value::Null));
    };
    put("object", failure.object.map(Value::from));
    put("status", failure.status.map(Value::from));
    put("detail", failure.detail.map(Value::from));
    put("hint", failure.hint.clone().map(Value::from));
    let mut result = failure.values;
    result.entry("changed").or_insert(Value::Bool(false));
    result.insert("failed".into(), true.into());
    let mut msg = failure.msg;
    // People read the message only; Ansible does not show them the rest.
    if let Some(hint) = failure.hint {
        msg = format!(
            "{msg}{}{hint}",
            if msg.contains('\n') { "\n" } else { "; " }
        );
    }
    if no_log {
        // Ansible 2.21 prints the msg of a failure in spite of no_log.
        error.insert("msg".into(), msg.into());
        msg = format!(
            "{module} failed ({}); the task's no_log hides why",
            failure.kind
        );
    }
    result.insert("msg".into(), msg.into());
    result.insert("error".into(), error.into());
    result
}
