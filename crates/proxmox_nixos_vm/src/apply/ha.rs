//! High availability: what the cluster's HA manager knows of a VM, and changing that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ansible_module::Failure;
use pve_client::{Error as ApiError, Params};
use pve_module::{Inventory, doing};
use serde_json::Value;

use crate::config::text;
use crate::context::{Context, failed};
use crate::options::{Ha, HaState};
use crate::plan::ha::{self, Known, Plan, Rule, Step, Subject};

const RESOURCES: &str = "/cluster/ha/resources";
const RULES: &str = "/cluster/ha/rules";
const GROUPS: &str = "/cluster/ha/groups";

/// How often the rest is planned anew because somebody else changed HA's configuration meanwhile, or an answer was lost.
const ATTEMPTS: u32 = 10;
/// The pause before that.
const PAUSE: Duration = Duration::from_millis(300);

/// Read what `want` needs to be compared with.
///
/// # Errors
/// The API's.
pub async fn read(context: &Context<'_>, want: &Ha, vmid: Option<u32>) -> Result<Known, Failure> {
    let mut known = Known::default();
    for resource in list(context, RESOURCES).await? {
        let resource = properties(&resource);
        let Some(sid) = resource.get("sid").cloned() else {
            continue;
        };
        if vmid.map(ha::sid).as_ref() == Some(&sid) {
            known.resource = Some(resource);
        }
        known.managed.insert(sid);
    }
    let wants_group = want.group.as_ref().is_some_and(|group| !group.is_empty());
    if want.state == Some(HaState::Absent) || !(wants_group || want.rule.is_some()) {
        return Ok(known);
    }
    known.groups = groups(context).await?;
    if want.rule.is_none() || known.groups.is_some() {
        return Ok(known);
    }
    for rule in list(context, RULES).await? {
        let rule = properties(&rule);
        if let Some(name) = rule.get("rule") {
            known.rules.insert(name.clone(), self::rule(&rule));
        }
    }
    let inventory = Inventory::list(context.client, context.deadline).await?;
    let nodes = inventory.online.iter().chain(&inventory.offline);
    known.nodes = nodes.cloned().collect();
    for named in want.resources.iter().flatten() {
        known.named.insert(named.clone(), find(&inventory, named)?);
    }
    Ok(known)
}

/// The resource that is meant by a VM's name, its VMID or `vm:VMID`.
fn find(inventory: &Inventory, named: &str) -> Result<Option<String>, Failure> {
    let number = named.strip_prefix("vm:").unwrap_or(named);
    if let Ok(vmid) = number.parse::<u32>() {
        return Ok(Some(ha::sid(vmid)));
    }
    match inventory.by_name(named).as_slice() {
        [] => Ok(None),
        [seen] => Ok(Some(ha::sid(seen.vm.vmid))),
        several => Err(crate::error::Error::AmbiguousName {
            name: format!("{named} in ha.resources"),
            vms: several
                .iter()
                .map(|seen| crate::error::location(seen))
                .collect(),
        }
        .into()),
    }
}

async fn list(context: &Context<'_>, path: &str) -> Result<Vec<Value>, Failure> {
    let answer = context.client.get(path, &[], context.deadline).await;
    match answer.map_err(doing(format!("read {path}")))? {
        Value::Array(items) => Ok(items),
        _ => Ok(Vec::new()),
    }
}

/// The groups of a cluster that has them. Proxmox VE 9 has rules instead once the groups are migrated, and refuses the list.
async fn groups(context: &Context<'_>) -> Result<Option<BTreeSet<String>>, Failure> {
    let answer = context.client.get(GROUPS, &[], context.deadline).await;
    match answer {
        Err(error) if has_no_groups(&error) => Ok(None),
        Err(error) => Err(doing(format!("read {GROUPS}"))(error)),
        Ok(list) => {
            let groups = list.as_array().into_iter().flatten();
            let name = |group: &Value| group.get("group").and_then(text::scalar);
            Ok(Some(groups.filter_map(name).collect()))
        }
    }
}

fn has_no_groups(error: &ApiError) -> bool {
    error.status() == Some(501)
        || error
            .pve_message()
            .is_some_and(|text| text.contains("migrated to rules"))
}

fn properties(value: &Value) -> BTreeMap<String, String> {
    let pairs = value.as_object().into_iter().flatten();
    pairs
        .filter_map(|(key, value)| Some((key.clone(), text::scalar(value)?)))
        .collect()
}

fn rule(properties: &BTreeMap<String, String>) -> Rule {
    let text = |key: &str| properties.get(key).map(String::as_str).unwrap_or_default();
    let items = |key: &str| {
        let items = text(key).split([',', ';', ' ']);
        items.filter(|item| !item.is_empty()).map(str::to_owned)
    };
    Rule {
        kind: text("type").to_owned(),
        resources: items("resources").collect(),
        nodes: items("nodes")
            .map(|node| {
                let (name, priority) = ha::parse_node(&node);
                (name.to_owned(), priority)
            })
            .collect(),
        strict: text("strict") == "1",
        affinity: text("affinity").to_owned(),
        digest: properties.get("digest").cloned(),
    }
}

/// Carry the plan out. What somebody else changed meanwhile, or what became of a call whose answer was lost, is read again, and what is
/// still missing is planned anew. Returns whether anything was changed.
///
/// # Errors
/// The API's; `changed` says then whether anything was done before.
pub async fn apply(
    context: &Context<'_>,
    want: &Ha,
    vm: Subject,
    object: &str,
    first: Plan,
    changed: &mut bool,
) -> Result<(), Failure> {
    let mut plan = first;
    let vmid = vm.vmid.unwrap_or_default();
    context.report_step("ha", object);
    for attempt in 1.. {
        let mut done = Ok(());
        for step in &plan.steps {
            done = carry_out(context, vmid, step).await;
            *changed |= match &done {
                Ok(()) => true,
                Err(error) => error.may_have_happened(),
            };
            if done.is_err() {
                break;
            }
        }
        let Err(error) = done else { break };
        let unsettled = error.may_have_happened() || is_conflict(&error);
        if !unsettled || attempt >= ATTEMPTS || !context.deadline.sleep(PAUSE).await {
            return Err(failed("change the high availability of", object)(error));
        }
        let known = read(context, want, vm.vmid).await?;
        plan = ha::plan(want, vm, &known);
        if !plan.refusals.is_empty() {
            return Err(failed("change the high availability of", object)(error));
        }
    }
    Ok(())
}

async fn carry_out(context: &Context<'_>, vmid: u32, step: &Step) -> Result<(), ApiError> {
    let (client, deadline) = (context.client, context.deadline);
    let of = |texts: &ha::Texts| -> Params { texts.iter().map(|(k, v)| (*k, v)).collect() };
    let own = format!("{RESOURCES}/{}", ha::sid(vmid));
    let done = match step {
        Step::Add(texts) => {
            let params = of(texts).with("sid", ha::sid(vmid));
            client.post(RESOURCES, &params, deadline).await
        }
        Step::Change(texts, delete) => {
            let mut params = of(texts);
            if !delete.is_empty() {
                params.set("delete", delete.join(","));
            }
            client.put(&own, &params, deadline).await
        }
        Step::Remove => client.delete(&own, &[], deadline).await,
        Step::MakeRule(name, texts) => {
            let params = of(texts).with("rule", name);
            client.post(RULES, &params, deadline).await
        }
        Step::ChangeRule(name, texts) => {
            let path = format!("{RULES}/{name}");
            client.put(&path, &of(texts), deadline).await
        }
    };
    done.map(drop)
}

/// Whether somebody else was faster: the same was made, removed or changed since it was read.
fn is_conflict(error: &ApiError) -> bool {
    error.pve_message().is_some_and(|text| {
        [
            "already defined",
            "not HA managed",
            "detected modified configuration",
            "no such resource",
            "does not exist",
        ]
        .iter()
        .any(|part| text.contains(part))
    })
}
