//! A module's life: arguments in, work, one line of JSON out.

use std::process::ExitCode;

use serde_json::{Map, Value, json};

use crate::task::{Secrets, Task};
use crate::{Failure, Module, Outcome};

/// Run the module `M` as Ansible starts it: `NAME ARGUMENT_FILE`. Prints the result and returns
/// the exit code, 0 or 1.
pub fn main<M: Module>() -> ExitCode {
    let secrets = Secrets::default();
    let outcome = run::<M>(&secrets);
    let (result, code) = match outcome {
        Ok(outcome) => (success(outcome), ExitCode::SUCCESS),
        Err(failure) => (failed(failure), ExitCode::FAILURE),
    };
    println!("{}", secrets.scrub(Value::Object(result)));
    code
}

fn run<M: Module>(secrets: &Secrets) -> Result<Outcome, Failure> {
    let path = std::env::args_os()
        .nth(1)
        .ok_or_else(|| Failure::new("invocation", "no argument file"))?;
    let text = std::fs::read(path)
        .map_err(|e| Failure::new("invocation", format!("cannot read the arguments: {e}")))?;
    let mut arguments: Map<String, Value> = serde_json::from_slice(&text)
        .map_err(|e| Failure::new("invocation", format!("the arguments are not JSON: {e}")))?;
    let flag = |name: &str| arguments.get(name) == Some(&Value::Bool(true));
    let task = Task::new(
        flag("_ansible_check_mode"),
        flag("_ansible_diff"),
        0,
        secrets.clone(),
    );
    arguments.retain(|name, _| !name.starts_with("_ansible_"));
    let options = serde_json::from_value(Value::Object(arguments))
        .map_err(|e| Failure::new("invalid_option", e.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new("internal", format!("cannot start: {e}")))?;
    let _ = task.warnings();
    runtime.block_on(M::run(options, task))
}

fn success(outcome: Outcome) -> Map<String, Value> {
    let mut result = outcome.values;
    result.insert("changed".into(), outcome.changed.into());
    result.insert("msg".into(), outcome.msg.into());
    result
}

fn failed(failure: Failure) -> Map<String, Value> {
    let mut result = failure.values;
    result.insert("failed".into(), true.into());
    result.insert("msg".into(), failure.msg.into());
    result.insert(
        "error".into(),
        json!({"kind": failure.kind, "object": failure.object, "status": failure.status,
               "detail": failure.detail, "hint": failure.hint}),
    );
    result
}
