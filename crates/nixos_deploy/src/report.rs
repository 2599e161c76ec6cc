//! The result of a task.

use ansible_module::{Diff, Outcome};
use serde_json::json;

use crate::options::{Action, Options};
use crate::packages::{Change, Comparison};
use crate::plan::{Plan, Step, Wanted};
use crate::state::Machine;

/// What check mode found.
pub fn would_change(
    options: &Options,
    machine: &Machine,
    wanted: &Wanted,
    plan: &Plan,
    closures: Option<&Comparison>,
) -> Outcome {
    let host = &options.host;
    let what = sentence(plan, options.action, 0);
    let msg = match what.is_empty() {
        true => format!("{host}: would copy and dry-activate {}", wanted.system),
        false => format!("{host}: would {what} {}", wanted.system),
    };
    let outcome = match plan.changes() {
        true => Outcome::changed(msg),
        false => Outcome::unchanged(msg),
    };
    with_machine(outcome, machine, wanted, plan, closures)
        .diff(difference(host, machine, wanted, plan, closures))
}

/// Nothing was to be done.
pub fn unchanged(options: &Options, machine: &Machine, wanted: &Wanted, plan: &Plan) -> Outcome {
    let verb = match options.action {
        Action::Boot => "boots",
        Action::Switch | Action::Test | Action::DryActivate => "runs",
    };
    let msg = format!("{}: already {verb} {}", options.host, wanted.system);
    with_machine(Outcome::unchanged(msg), machine, wanted, plan, None)
}

/// What was done: the machine before, and as it is now.
pub fn done(
    options: &Options,
    before: &Machine,
    now: &Machine,
    wanted: &Wanted,
    plan: &Plan,
    closures: Option<&Comparison>,
) -> Outcome {
    let host = &options.host;
    let rebooted = plan.steps.contains(&Step::Reboot);
    let what = sentence(plan, options.action, 1);
    let msg = format!("{host}: {what} {}", wanted.system);
    with_machine(Outcome::changed(msg), now, wanted, plan, closures)
        .with("previous_system", &before.current)
        .with("rebooted", rebooted)
        .diff(difference(host, before, wanted, plan, closures))
}

/// What the dry activation said.
pub fn dry(
    options: &Options,
    machine: &Machine,
    wanted: &Wanted,
    plan: &Plan,
    closures: Option<&Comparison>,
    output: &str,
) -> Outcome {
    let msg = format!(
        "{}: dry-activated {}; 'output' lists what would change",
        options.host, wanted.system
    );
    with_machine(Outcome::unchanged(msg), machine, wanted, plan, closures)
        .with("output", lines(output))
        .diff(difference(&options.host, machine, wanted, plan, closures))
}

/// The lines of a program's output.
pub fn lines(output: &str) -> Vec<&str> {
    output.lines().collect()
}

/// What a step does, as an infinitive and as a past tense. Nothing for those that only prepare.
fn words(step: Step, action: Action) -> Option<[&'static str; 2]> {
    match (step, action) {
        (Step::Copy, _) | (Step::Activate, Action::DryActivate) => None,
        (Step::Activate, Action::Switch) => Some(["switch to", "switched to"]),
        (Step::Activate, Action::Boot) => Some(["boot from now on", "boots from now on"]),
        (Step::Activate, Action::Test) => Some([
            "activate until the next boot",
            "activated until the next boot",
        ]),
        (Step::Reboot, _) => Some(["restart into", "restarted into"]),
    }
}

/// What the steps of a plan do, in one of both tenses.
fn sentence(plan: &Plan, action: Action, tense: usize) -> String {
    let steps = plan.steps.iter();
    let words: Vec<&str> = steps
        .filter_map(|step| Some(words(*step, action)?[tense]))
        .collect();
    words.join(" and ")
}

fn with_machine(
    outcome: Outcome,
    machine: &Machine,
    wanted: &Wanted,
    plan: &Plan,
    closures: Option<&Comparison>,
) -> Outcome {
    let mut outcome = outcome
        .with("system", &wanted.system)
        .with("running_system", &machine.current);
    if let Some(generation) = machine.generation {
        outcome = outcome.with("generation", generation);
    }
    if let Some(required) = plan.reboot_required {
        outcome = outcome.with("reboot_required", required);
    }
    match closures {
        None => outcome,
        Some(compared) => outcome
            .with("packages", &compared.packages)
            .with("size_before", compared.size_before)
            .with("size_after", compared.size_after),
    }
}

/// The systems and the packages that differ.
fn difference(
    host: &str,
    machine: &Machine,
    wanted: &Wanted,
    plan: &Plan,
    closures: Option<&Comparison>,
) -> Diff {
    let packages = closures.map_or(&[][..], |compared| &compared.packages);
    let side =
        |system: &str, versions: fn(&Change) -> &Vec<String>, kept: fn(&Change) -> Option<i64>| {
            let rows = packages
                .iter()
                .filter(|change| !versions(change).is_empty());
            let rows = rows.map(|change| {
                let size = kept(change)
                    .map(|size| format!(" ({size:+} bytes)"))
                    .unwrap_or_default();
                (
                    change.name.clone(),
                    json!(format!("{}{size}", versions(change).join(", "))),
                )
            });
            json!({"system": system, "packages": rows.collect::<serde_json::Map<_, _>>()})
        };
    let mut before = side(&machine.current, |change| &change.before, |_| None);
    let mut after = side(
        &wanted.system,
        |change| &change.after,
        |change| Some(change.size),
    );
    if plan.steps.contains(&Step::Reboot) {
        before["restarted"] = json!(false);
        after["restarted"] = json!(true);
    }
    Diff::new(before, after).header(host)
}
