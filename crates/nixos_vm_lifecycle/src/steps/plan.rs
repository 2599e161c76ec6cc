//! What a run would do to the machine, and what that takes: for a report of all machines. Nothing is changed.

use std::collections::BTreeSet;
use std::time::Duration;

use ansible_module::{Failure, Outcome};
use deadline::Deadline;
use nixos_vm_report::host_plan::{Action, Claim, HostPlan, System};
use serde_json::{Map, Value};

use super::{deploy, host_key, install, provision, vm};
use crate::capacity;
use crate::context::Context;
use crate::facts::Decision;
use crate::host_claims;
use crate::options::Step;
use crate::placement;
use crate::preflight;
use crate::state::State;
use crate::steps::decide;
use crate::system_facts;

/// How long reading the cluster may take.
const READ: Duration = Duration::from_secs(60);

/// Plan.
///
/// # Errors
/// Whatever a run would be refused for.
pub async fn run(context: &Context<'_>, mut state: State) -> Result<Outcome, Failure> {
    let settings = context.settings();
    let decision = state.decide(context).await?;
    let planned = preflight::check(context, &mut state, &decision).await?;
    let mut plan = HostPlan {
        object: state.object().to_owned(),
        name: settings.name.clone().unwrap_or_default(),
        phase: decide::phase(&decision).to_owned(),
        due: due(context, &decision),
        cluster: state.cluster.clone(),
        api: settings
            .connection
            .api_host
            .first()
            .cloned()
            .unwrap_or_default(),
        vmid: state.vm.as_ref().map(|_| state.vmid()),
        node: node(context, &state),
        claims: claims(context, &state),
        ..HostPlan::default()
    };
    let config = config(&state);
    let mut outcomes = Vec::new();
    (plan.action, plan.msg) = match &decision {
        Decision::Create => {
            let system = settings.flake.as_deref().unwrap_or("its disk image");
            let on = plan.node.as_ref();
            let on = on.map_or_else(String::new, |node| format!(" on {node}"));
            let msg = format!("would create {}{on} and install {system}", plan.object);
            outcomes.extend(planned);
            (Action::Create, msg)
        }
        Decision::Install(record) => {
            let msg = format!(
                "would resume the installation of {}, whose phase is '{}'",
                plan.object, record.phase
            );
            (Action::Resume, msg)
        }
        Decision::Finalize(_) => {
            let msg = format!(
                "would verify {}, whose installation has ended, and detach its installer",
                plan.object
            );
            (Action::Resume, msg)
        }
        Decision::Reinstall(record) => {
            host_key::check_host_key(context, &state, record).await?;
            let reinstalled = provision::run(context, state).await?;
            let msg = reinstalled.msg.clone();
            outcomes.push(reinstalled);
            (Action::Reinstall, msg)
        }
        Decision::Adopt => {
            let adopted = vm::adopt(context, &state, true).await?;
            let msg = adopted.msg.clone();
            outcomes.push(adopted);
            (Action::Change, msg)
        }
        Decision::Converge(record) => {
            outcomes.push(vm::finished(context, &state, record, true).await?);
            if settings.deploy {
                outcomes.push(deploy::run(context, state).await?);
            }
            converged(&mut plan, &outcomes)
        }
        Decision::Ask => (Action::None, "undecided".to_owned()),
    };
    for outcome in &outcomes {
        plan.changes.extend(changes(outcome));
    }
    if plan.action == Action::Create {
        // What it has in the end, rather than what the installer is lent; and it is started.
        let memory = plan.changes.entry("memory".into()).or_default();
        memory.1 = settings.memory().to_string().into();
        plan.changes.remove("status");
    }
    let after = after(&config, &plan);
    plan.system = system(context, &plan, &decision, &outcomes, &after).await?;
    plan.demand = capacity::demand(&config, &after);
    read_capacity(context, &mut plan).await?;
    Ok(Outcome::unchanged(plan.msg.clone()).with("plan", plan))
}

/// The node that the machine is on, or that the inventory names.
fn node(context: &Context<'_>, state: &State) -> Option<String> {
    let named = placement::named(context.settings()).map(str::to_owned);
    match state.vm {
        Some(_) => Some(state.node(context)),
        None => named,
    }
}

fn due(context: &Context<'_>, decision: &Decision) -> Vec<String> {
    let due = decision.due(context.settings().by_image()).into_iter();
    due.map(|step| step.name().to_owned()).collect()
}

fn claims(context: &Context<'_>, state: &State) -> Vec<Claim> {
    let claims = host_claims::claimed(context, &state.cluster).into_iter();
    claims
        .map(|claim| Claim {
            what: claim.what,
            key: claim.key,
            variable: claim.variable,
        })
        .collect()
}

/// The configuration of the VM; empty if there is none.
fn config(state: &State) -> Map<String, Value> {
    let config = state.vm.as_ref().and_then(|vm| vm.get("config"));
    config
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default()
}

/// What would be done to a finished machine: its VM is converged, and a system deployed.
fn converged(plan: &mut HostPlan, outcomes: &[Outcome]) -> (Action, String) {
    let steps = [Step::Provision, Step::Deploy];
    let due = outcomes
        .iter()
        .zip(steps)
        .filter(|(outcome, _)| outcome.changed);
    let (changed, due): (Vec<&Outcome>, Vec<Step>) = due.unzip();
    plan.due = due.into_iter().map(|step| step.name().to_owned()).collect();
    let msgs = |outcomes: &mut dyn Iterator<Item = &Outcome>| {
        let msgs: Vec<&str> = outcomes.map(|outcome| outcome.msg.as_str()).collect();
        msgs.join("; ")
    };
    match changed.is_empty() {
        true => (Action::None, msgs(&mut outcomes.iter())),
        false => (Action::Change, msgs(&mut changed.into_iter())),
    }
}

/// What differs by a module's own words.
fn changes(outcome: &Outcome) -> impl Iterator<Item = (String, (Value, Value))> {
    let diff = outcome.diff.as_ref();
    let sides = diff.and_then(|diff| Some((diff.before.as_object()?, diff.after.as_object()?)));
    sides
        .map(|(before, after)| HostPlan::compare(before, after))
        .into_iter()
        .flatten()
}

/// The configuration with the changes of the plan.
fn after(config: &Map<String, Value>, plan: &HostPlan) -> Map<String, Value> {
    let mut after = config.clone();
    for (key, (_, value)) in &plan.changes {
        match value {
            Value::Null => after.remove(key),
            value => after.insert(key.clone(), value.clone()),
        };
    }
    after
}

/// The system that the machine gets, and how large it is.
async fn system(
    context: &Context<'_>,
    plan: &HostPlan,
    decision: &Decision,
    outcomes: &[Outcome],
    after: &Map<String, Value>,
) -> Result<Option<System>, Failure> {
    let settings = context.settings();
    let mut system = System {
        disk: capacity::disk_size(after, &settings.boot_disk()),
        ..System::default()
    };
    if decision.installs() && !settings.by_image() {
        if settings.plan_build {
            let facts = system_facts::temporary_dir()?;
            let args = install::built_args(settings, &facts.path().join(system_facts::DIR))?;
            let built = context.build(args).await?.values;
            system.path = built
                .get("closure")
                .and_then(Value::as_str)
                .map(str::to_owned);
            system.bytes = built.get("closure_size").and_then(Value::as_u64);
        }
        return Ok(Some(system));
    }
    let deployed = outcomes
        .get(1)
        .filter(|_| plan.due.contains(&Step::Deploy.name().to_owned()));
    Ok(deployed.map(|deployed| {
        let value = |key: &str| deployed.values.get(key);
        system.path = value("system").and_then(Value::as_str).map(str::to_owned);
        system.bytes = value("size_after").and_then(Value::as_u64);
        system
    }))
}

/// Read what the nodes and storages have that the machine takes something of.
async fn read_capacity(context: &Context<'_>, plan: &mut HostPlan) -> Result<(), Failure> {
    let demand = &plan.demand;
    if demand.memory == 0 && demand.cpus == 0 && demand.storages.is_empty() {
        return Ok(());
    }
    let settings = context.settings();
    let entries = capacity::list(context, &Deadline::after(READ)).await?;
    let storages: BTreeSet<&str> = demand.storages.keys().map(String::as_str).collect();
    let nodes = match &plan.node {
        Some(node) => vec![node.clone()],
        None => {
            let mut needed: Vec<&str> = storages.iter().copied().collect();
            needed.push(&settings.iso_storage);
            let allowed = settings.nodes.clone().unwrap_or_default();
            plan.candidates = capacity::candidates(&entries, &allowed, &needed);
            plan.apart_from = placement::companions(context);
            plan.candidates.clone()
        }
    };
    plan.capacity = capacity::of(&entries, &nodes, &storages);
    Ok(())
}
