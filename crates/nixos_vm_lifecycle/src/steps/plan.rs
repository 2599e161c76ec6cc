//! What a run would do to the machine, and what that takes: for a report of all machines. Nothing is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ansible_module::{Failure, Outcome};
use deadline::Deadline;
use nixos_vm_report::host_plan::{Action, HostPlan, System};
use proxmox_nixos_vm::ownership::Ownership;
use pve_module::record::{Phase, Record};
use serde_json::{Map, Value};

use super::{deploy, host_key, install, out_of_turn, provision, vm};
use crate::capacity::{self, Cluster};
use crate::context::Context;
use crate::facts::Decision;
use crate::host_claims;
use crate::options::{Step, given};
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
pub async fn run(context: &Context<'_>, state: State) -> Result<Outcome, Failure> {
    let claims = host_claims::claimed(context, &state.cluster);
    match plan(context, state).await {
        Ok(plan) => {
            let plan = HostPlan { claims, ..plan };
            Ok(Outcome::unchanged(plan.msg.clone()).with("plan", plan))
        }
        // Others may claim the same, whatever is wrong here.
        Err(failure) => Err(failure.with("claims", claims)),
    }
}

async fn plan(context: &Context<'_>, mut state: State) -> Result<HostPlan, Failure> {
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
        ..HostPlan::default()
    };
    let config = config(&state);
    let mut outcomes = Vec::new();
    let mut deployed = None;
    (plan.action, plan.msg) = match &decision {
        Decision::Create => {
            let flake = given(settings.flake.as_ref());
            let system = match settings.by_image() {
                true => "make its boot disk of the disk image".to_owned(),
                false => format!("install {}", flake.unwrap_or_default()),
            };
            let on = plan.node.as_ref();
            let on = on.map_or_else(String::new, |node| format!(" on {node}"));
            let msg = format!("would create {}{on} and {system}", plan.object);
            outcomes.extend(planned);
            (Action::Create, msg)
        }
        Decision::Install(record) => {
            outcomes.extend(resumed(context, &state, record).await?);
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
            let runs = state.facts.vm.as_ref().is_some_and(|vm| vm.running);
            let vm = vm::finished(context, &state, record, true).await?;
            if settings.deploy {
                deployed = Some(deploy::run(context, state).await?);
            }
            let (action, mut msg) = converged(&mut plan, &vm, deployed.as_ref());
            if let Some(deployed) = deployed.as_ref().filter(|_| !runs) {
                msg = format!("{msg}; {}", deployed.msg);
            }
            outcomes.push(vm);
            (action, msg)
        }
        Decision::Ask => return Err(out_of_turn(&state, &decision, "it was to be planned")),
    };
    for outcome in outcomes.iter().chain(&deployed) {
        plan.changes.extend(changes(outcome));
    }
    if decision.installs() && plan.changes.contains_key("memory") {
        // What it has in the end, rather than what the installer is lent; and it is started.
        let memory = plan.changes.entry("memory".into()).or_default();
        memory.1 = settings.memory().to_string().into();
        plan.changes.remove("status");
    }
    let after = after(&config, &plan);
    plan.system = system(context, &decision, deployed.as_ref(), &after).await?;
    plan.demand = capacity::demand(&config, &after);
    read_capacity(context, &mut plan).await?;
    Ok(plan)
}

/// What differs of a VM whose installation is resumed. That of a VM that is not complete yet, or is installed anew, is not known.
async fn resumed(
    context: &Context<'_>,
    state: &State,
    record: &Record,
) -> Result<Option<Outcome>, Failure> {
    if record.phase == Phase::Creating || record.reinstall.is_some() {
        return Ok(None);
    }
    let mut args = context.settings().vm_without_installer();
    // Both change with the phase.
    args.shift_remove("boot");
    args.shift_remove("ha");
    args.insert("vmid".into(), state.vmid().into());
    args.insert("state".into(), "present".into());
    let ownership = Ownership {
        add_tags: true,
        rename: true,
        ..Ownership::default()
    };
    context.vm(args, ownership, true).await.map(Some)
}

/// The present node of the machine, or the one that the inventory names, or that an interrupted run chose.
fn node(context: &Context<'_>, state: &State) -> Option<String> {
    if state.vm.is_some() {
        return Some(state.node(context));
    }
    let named = placement::named(context.settings()).map(str::to_owned);
    named.or_else(|| placement::kept(context).filter(|kept| state.placed.as_ref() == Some(kept)))
}

fn due(context: &Context<'_>, decision: &Decision) -> Vec<String> {
    let due = decision.due(context.settings().by_image()).into_iter();
    due.map(|step| step.name().to_owned()).collect()
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
fn converged(plan: &mut HostPlan, vm: &Outcome, deployed: Option<&Outcome>) -> (Action, String) {
    let steps = [(Step::Provision, Some(vm)), (Step::Deploy, deployed)];
    let steps = steps
        .into_iter()
        .filter_map(|(step, outcome)| Some((step, outcome?)));
    let due: Vec<(Step, &Outcome)> = steps.filter(|(_, outcome)| outcome.changed).collect();
    plan.due = due.iter().map(|(step, _)| step.name().to_owned()).collect();
    let msgs: Vec<&str> = due
        .iter()
        .map(|(_, outcome)| outcome.msg.as_str())
        .collect();
    match due.is_empty() {
        true => (Action::None, vm.msg.clone()),
        false => (Action::Change, msgs.join("; ")),
    }
}

/// What differs by a module's own words: before and after, null for none.
fn changes(outcome: &Outcome) -> BTreeMap<String, (Value, Value)> {
    let diff = outcome.diff.as_ref();
    let sides = diff.and_then(|diff| Some((diff.before.as_object()?, diff.after.as_object()?)));
    let Some((before, after)) = sides else {
        return BTreeMap::new();
    };
    let side = |map: &Map<String, Value>, key: &String| map.get(key).cloned().unwrap_or_default();
    let keys = before.keys().chain(after.keys());
    keys.map(|key| (key.clone(), (side(before, key), side(after, key))))
        .filter(|(_, (before, after))| before != after)
        .collect()
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
    decision: &Decision,
    deployed: Option<&Outcome>,
    after: &Map<String, Value>,
) -> Result<Option<System>, Failure> {
    let settings = context.settings();
    let mut system = System {
        disk: capacity::disk_size(after, &settings.boot_disk()),
        ..System::default()
    };
    let mut read = |values: &Map<String, Value>, path: &str, bytes: &str| {
        system.path = values.get(path).and_then(Value::as_str).map(str::to_owned);
        system.bytes = values.get(bytes).and_then(Value::as_u64);
    };
    match deployed.filter(|deployed| deployed.changed) {
        Some(deployed) => read(&deployed.values, "system", "size_after"),
        None if !decision.installs() || settings.by_image() => return Ok(None),
        None if settings.plan_build => {
            let facts = system_facts::temporary_dir()?;
            let args = install::built_args(settings, &facts.path().join(system_facts::DIR))?;
            let built = context.build(args).await?.values;
            read(&built, "closure", "closure_size");
        }
        None => {}
    }
    Ok(Some(system))
}

/// Read what the nodes and storages have that the machine takes something of.
async fn read_capacity(context: &Context<'_>, plan: &mut HostPlan) -> Result<(), Failure> {
    let demand = &plan.demand;
    if demand.memory == 0 && demand.cpus == 0 && demand.storages.is_empty() {
        return Ok(());
    }
    let settings = context.settings();
    let cluster = Cluster::read(context, &Deadline::after(READ)).await?;
    let storages: BTreeSet<&str> = demand.storages.keys().map(String::as_str).collect();
    if plan.node.is_none() {
        let mut needed: Vec<&str> = storages.iter().copied().collect();
        needed.push(&settings.iso_storage);
        plan.apart_from = placement::companions(context);
        plan.candidates =
            cluster.candidates(&placement::allowed(settings), &needed, &plan.apart_from);
    }
    let nodes = plan.candidates.keys().chain(&plan.node);
    let nodes: Vec<&str> = nodes.map(String::as_str).collect();
    plan.capacity = cluster.capacity(&nodes, &storages);
    Ok(())
}
