//! The result of a task: its message, diff and return values.

use ansible_module::{Diff, Failure, Outcome};
use serde_json::{Value, json};

use crate::desired::{Action, Desired};
use crate::plan::{Plan, Step};
use crate::state::Vm;

/// What check mode found.
pub fn would_change(vm: &Vm, desired: &Desired, plan: &Plan) -> Outcome {
    let name = &desired.snapname;
    let said: Vec<String> = plan
        .steps
        .iter()
        .map(|step| match step {
            Step::Create { .. } => format!("create {name}"),
            Step::Describe { .. } => format!("describe {name}"),
            Step::Delete { name, .. } => format!("delete {name}"),
            Step::RollBack { .. } => format!("roll back to {name}"),
            Step::Start => "start".into(),
        })
        .collect();
    let msg = format!("{}: would {}", vm.object(), said.join("; "));
    with_vm(Outcome::changed(msg), vm, desired, &[]).diff(plan.diff.clone())
}

/// What was done, or that nothing was to be done.
pub fn outcome(vm: &Vm, desired: &Desired, done: &[String], diff: Diff) -> Outcome {
    let object = vm.object();
    let name = &desired.snapname;
    if !done.is_empty() {
        let msg = format!("{object}: {}", done.join("; "));
        return with_vm(Outcome::changed(msg), vm, desired, done).diff(diff);
    }
    let msg = match desired.action {
        Action::Absent { .. } => format!("{object} has no snapshot {name}"),
        Action::Present { .. } | Action::RollBack { .. } => {
            format!("{object} has the snapshot {name}")
        }
    };
    with_vm(Outcome::unchanged(msg), vm, desired, done)
}

/// There is no VM, so it has no snapshot.
pub fn vm_missing(object: &str, desired: &Desired) -> Outcome {
    Outcome::unchanged(format!("{object} does not exist"))
        .with("snapname", &desired.snapname)
        .with("snapshot", Value::Null)
        .with("done", json!([]))
}

/// A failure after some steps were carried out.
pub fn with_partial_result(failure: Failure, vm: &Vm, done: &[String]) -> Failure {
    match done.is_empty() {
        true => failure,
        false => failure
            .with("changed", true)
            .with("vmid", vm.vmid)
            .with("node", &vm.node)
            .with("done", done),
    }
}

fn with_vm(outcome: Outcome, vm: &Vm, desired: &Desired, done: &[String]) -> Outcome {
    let snapshot = vm.snapshot(&desired.snapname).map(|there| {
        json!({
            "name": there.name, "description": there.description, "snaptime": there.snaptime, "vmstate": there.vmstate == 1,
            "parent": there.parent,
        })
    });
    let names: Vec<&str> = vm.snapshots.iter().map(|one| one.name.as_str()).collect();
    let status = if vm.running { "running" } else { "stopped" };
    outcome
        .with("vmid", vm.vmid)
        .with("node", &vm.node)
        .with("name", vm.name())
        .with("status", status)
        .with("snapname", &desired.snapname)
        .with("snapshot", snapshot)
        .with("snapshots", names)
        .with("done", done)
}
