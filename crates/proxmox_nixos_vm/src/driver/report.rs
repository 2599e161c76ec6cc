//! The result of a task: its message, diff and return values.

use ansible_module::{Diff, Outcome};
use serde_json::{Map, Value};

use crate::apply::migrate;
use crate::plan::Plan;
use crate::state::State;

pub fn outcome(
    changed: bool,
    msg: String,
    values: Map<String, Value>,
    actions: &[&str],
) -> Outcome {
    let mut outcome = if changed {
        Outcome::changed(msg)
    } else {
        Outcome::unchanged(msg)
    };
    outcome.values = values;
    outcome.with("actions", actions)
}

pub fn message(
    vm: &State,
    check: bool,
    actions: &[&str],
    plan: &Plan,
    due: Option<&migrate::Move>,
) -> String {
    let object = format!("{} on {}", vm.object(), vm.node);
    let waiting: Vec<&str> = vm.pending.iter().map(|line| line.key.as_str()).collect();
    let waiting = match waiting.is_empty() {
        true => String::new(),
        false => format!(
            "; {} will take effect at its next stop and start (restart: true does that)",
            waiting.join(", ")
        ),
    };
    if actions.is_empty() {
        return format!("{object} is as described{waiting}");
    }
    let said: Vec<String> = actions
        .iter()
        .map(|action| match (*action, check) {
            ("migrate", true) => format!("migrate to {}", due.map_or("", |due| &due.to)),
            ("migrate", false) => format!("migrated from {}", due.map_or("", |due| &due.from)),
            ("change", true) => format!("change {}", plan.changed_names().join(", ")),
            ("change", false) => format!("changed {}", plan.changed_names().join(", ")),
            ("ha", true) => "change ha".into(),
            ("ha", false) => "changed ha".into(),
            ("template", true) => "make it a template".into(),
            ("template", false) => "made it a template".into(),
            ("shut down", _) | (_, true) => (*action).to_owned(),
            (verb, false) => format!("{}ed", verb.trim_end_matches('e')),
        })
        .collect();
    // In a check it is what waits already, and may be brought into effect by what would be done.
    let waiting = if check { "" } else { &waiting };
    format!(
        "{object}: {}{}{waiting}",
        if check { "would " } else { "" },
        said.join("; ")
    )
}

pub fn difference(vm: &State, created: Option<Plan>, plan: Plan, was: &str, will_be: &str) -> Diff {
    let made = created.is_some();
    let (mut before, mut after) = match created {
        Some(made) => (
            Map::new(),
            made.after.into_iter().chain(plan.after).collect(),
        ),
        None => (plan.before, plan.after),
    };
    if !made && (!before.is_empty() || was != will_be) {
        before.insert("status".into(), was.into());
    }
    after.insert("status".into(), will_be.into());
    if before.is_empty() && was == will_be && after.len() == 1 {
        after.clear();
    }
    Diff::new(before, after).header(vm.object())
}
