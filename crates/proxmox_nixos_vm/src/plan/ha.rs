//! What must be done so that high availability sees to a VM as described. Pure, as the rest of the plan.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::options::{Affinity, Ha, HaState};

/// PVE's texts by their names, for its parameters.
pub type Texts = BTreeMap<&'static str, String>;

/// What the cluster's HA manager knows, as far as an option asks for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The VM's own resource, its properties as texts.
    pub resource: Option<BTreeMap<String, String>>,
    /// The resources that there are (`vm:100`).
    pub managed: BTreeSet<String>,
    /// The groups of a cluster that has them (Proxmox VE 8). None on one with rules, and when neither is asked for.
    pub groups: Option<BTreeSet<String>>,
    /// The rules, by their names.
    pub rules: BTreeMap<String, Rule>,
    /// The nodes, those that are down among them.
    pub nodes: BTreeSet<String>,
    /// The resources that the option names, by what it says; none where that VM does not exist yet.
    pub named: BTreeMap<String, Option<String>>,
}

/// A rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// `node-affinity` or `resource-affinity`.
    pub kind: String,
    /// The resources that it names.
    pub resources: BTreeSet<String>,
    /// Its nodes, each with its priority.
    pub nodes: BTreeMap<String, u32>,
    /// Whether the VMs run on no other node.
    pub strict: bool,
    /// `positive` or `negative`.
    pub affinity: String,
    /// The digest, which guards against changes by others: a rule has a list of all of its VMs.
    pub digest: Option<String>,
}

/// The VM whose resource it is.
#[derive(Debug, Clone, Copy)]
pub struct Subject {
    /// Its VMID, unless it is not made yet.
    pub vmid: Option<u32>,
    /// Whether it runs when the task has started or stopped it.
    pub runs: bool,
    /// Whether the task starts or stops it: PVE passes that on to HA, which changes its own state of the VM.
    pub switched: bool,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make the resource.
    Add(Texts),
    /// Change the resource; what is in the second part is removed.
    Change(Texts, Vec<&'static str>),
    /// Take the resource away.
    Remove,
    /// Make the rule of this name.
    MakeRule(String, Texts),
    /// Change the rule of this name.
    ChangeRule(String, Texts),
}

/// What must be done, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The calls.
    pub steps: Vec<Step>,
    /// What is described, as it is; none when HA does not know the VM.
    pub before: Option<Map<String, Value>>,
    /// The same as it will be.
    pub after: Option<Map<String, Value>>,
    /// Why it cannot be so.
    pub refusals: Vec<String>,
    /// The VMs of the rule that HA does not know yet.
    pub waits: Vec<String>,
    /// Whether HA starts or stops the VM afterwards.
    pub acts: bool,
}

/// The id of a VM's resource.
pub fn sid(vmid: u32) -> String {
    format!("vm:{vmid}")
}

/// What turns what is `known` into what is described.
pub fn plan(want: &Ha, vm: Subject, known: &Known) -> Plan {
    let mut plan = Plan::default();
    if want.state == Some(HaState::Absent) {
        if let Some(have) = &known.resource {
            plan.before = Some(Map::from_iter([(
                "state".into(),
                current(have, "state").into(),
            )]));
            plan.steps.push(Step::Remove);
        }
        return plan;
    }
    let mut sides = Sides::default();
    resource(&mut plan, &mut sides, want, vm, known);
    group(&mut plan, want, known);
    rule(&mut plan, &mut sides, want, vm, known);
    plan.before = known.resource.as_ref().map(|_| sides.before);
    plan.after = Some(sides.after);
    plan
}

/// Both sides of the diff.
#[derive(Default)]
struct Sides {
    before: Map<String, Value>,
    after: Map<String, Value>,
}

impl Sides {
    fn show(&mut self, key: &str, before: Option<String>, after: Option<String>) {
        for (side, value) in [(&mut self.before, before), (&mut self.after, after)] {
            side.extend(value.map(|value| (key.to_owned(), Value::String(value))));
        }
    }
}

/// A property of a resource; PVE leaves defaults out, and `enabled` is an old word for `started`.
fn current(have: &BTreeMap<String, String>, key: &str) -> String {
    let text = have.get(key).map(|text| text.trim_end());
    let default = match key {
        "state" => "started",
        "max_restart" | "max_relocate" => "1",
        _ => "",
    };
    match text {
        Some("enabled") if key == "state" => default,
        Some(text) => text,
        None => default,
    }
    .to_owned()
}

fn resource(plan: &mut Plan, sides: &mut Sides, want: &Ha, vm: Subject, known: &Known) {
    let as_it_is = if vm.runs { "started" } else { "stopped" };
    let have = known.resource.as_ref();
    let was = have.map(|have| current(have, "state"));
    let state = match (want.state, &was) {
        (Some(state), _) => word(state).to_owned(),
        (None, Some(was)) if !vm.switched || was == "ignored" => was.clone(),
        (None, _) => as_it_is.to_owned(),
    };
    plan.acts = state != "ignored";
    let number = |value: Option<u32>| value.map(|value| value.to_string());
    let text = |value: &Option<String>| value.as_ref().map(|value| value.trim_end().to_owned());
    let wanted = [
        ("state", Some(state)),
        ("max_restart", number(want.max_restart)),
        ("max_relocate", number(want.max_relocate)),
        ("comment", text(&want.comment)),
        ("group", want.group.clone()),
    ];
    let (mut set, mut delete) = (Texts::new(), Vec::new());
    for (key, value) in wanted {
        let Some(value) = value else { continue };
        let before = have.map(|have| current(have, key));
        let shown = |text: &String| (!text.is_empty()).then(|| text.clone());
        sides.show(key, before.as_ref().and_then(shown), shown(&value));
        // That of a VM which HA keeps as it is is PVE's own, with the start or the stop.
        let own = key == "state" && want.state.is_none() && have.is_some();
        if own || before.as_ref() == Some(&value) {
            continue;
        }
        match value.is_empty() {
            false => drop(set.insert(key, value)),
            true if have.is_some() => delete.push(key),
            true => {}
        }
    }
    match have {
        None => plan.steps.push(Step::Add(set)),
        Some(_) if set.is_empty() && delete.is_empty() => {}
        Some(_) => plan.steps.push(Step::Change(set, delete)),
    }
}

fn group(plan: &mut Plan, want: &Ha, known: &Known) {
    let Some(group) = want.group.as_ref().filter(|group| !group.is_empty()) else {
        return;
    };
    match &known.groups {
        Some(groups) if groups.contains(group) => {}
        Some(groups) => plan.refusals.push(format!(
            "ha.group: the group {group} does not exist (available: {}); make it first: ha-manager groupadd {group} --nodes NODE,NODE",
            or_none(groups)
        )),
        None => plan.refusals.push(
            "ha.group: this cluster has no HA groups, but rules (Proxmox VE 9); use ha.rule, with ha.nodes".into(),
        ),
    }
}

fn rule(plan: &mut Plan, sides: &mut Sides, want: &Ha, vm: Subject, known: &Known) {
    let Some(name) = &want.rule else { return };
    if known.groups.is_some() {
        plan.refusals.push(
            "ha.rule: this cluster has no HA rules, but groups (Proxmox VE 8); use ha.group".into(),
        );
        return;
    }
    let own = vm.vmid.map(sid);
    let (there, waits): (Vec<_>, Vec<_>) = want
        .resources
        .iter()
        .flatten()
        .map(|text| (text, known.named.get(text).cloned().flatten()))
        .filter(|(_, sid)| sid.is_none() || *sid != own)
        .partition(|(_, sid)| sid.as_ref().is_some_and(|sid| known.managed.contains(sid)));
    let others: BTreeSet<String> = there.into_iter().filter_map(|(_, sid)| sid).collect();
    plan.waits = waits.into_iter().map(|(text, _)| text.clone()).collect();
    let found = known.rules.get(name);
    if let Some(refusal) = unfit(want, name, found, known, own.as_deref()) {
        plan.refusals.push(refusal);
        return;
    }
    let mut rule = described(want, found);
    rule.resources.extend(others);
    // A VM that is not made yet counts, whatever its VMID will be.
    rule.resources
        .insert(own.clone().unwrap_or_else(|| "vm:".into()));
    let count = rule.resources.len();
    let apart = rule.kind == "resource-affinity" && rule.affinity == "negative";
    if apart && count > known.nodes.len() {
        plan.refusals.push(format!(
            "ha.rule: {name} keeps {count} VMs on nodes of their own, and the cluster has only {}",
            known.nodes.len()
        ));
    }
    let is_in = |rule: &Rule| own.as_ref().is_some_and(|own| rule.resources.contains(own));
    if found.is_none() && rule.kind == "resource-affinity" && count < 2 {
        return;
    }
    let joined = found.filter(|found| is_in(found)).map(|_| name.clone());
    sides.show("rule", joined, Some(name.clone()));
    show(sides, found, &rule);
    match found {
        Some(found) if *found == rule => {}
        Some(found) => {
            let params = changed(found, &rule);
            plan.steps.push(Step::ChangeRule(name.clone(), params));
        }
        None => plan.steps.push(Step::MakeRule(name.clone(), all(&rule))),
    }
}

/// Why the rule cannot be as described.
fn unfit(
    want: &Ha,
    name: &str,
    found: Option<&Rule>,
    known: &Known,
    own: Option<&str>,
) -> Option<String> {
    let missing = |node: &&String| !known.nodes.contains(parse_node(node).0);
    if let Some(node) = want.nodes.iter().flatten().find(missing) {
        return Some(format!(
            "ha.nodes: node {} does not exist (nodes: {})",
            parse_node(node).0,
            or_none(&known.nodes)
        ));
    }
    let of_nodes = want.nodes.is_some() || want.strict.is_some();
    let kind = match found {
        Some(found) => found.kind.as_str(),
        None if want.nodes.is_some() => "node-affinity",
        None if want.resources.is_some() => "resource-affinity",
        None => {
            let rules: BTreeSet<String> = known.rules.keys().cloned().collect();
            return Some(format!(
                "ha.rule: the rule {name} does not exist (available: {}); to make it, give ha.nodes, or ha.affinity and ha.resources",
                or_none(&rules)
            ));
        }
    };
    if (of_nodes && kind != "node-affinity")
        || (want.affinity.is_some() && kind != "resource-affinity")
    {
        let on = if of_nodes { "VMs" } else { "nodes" };
        return Some(format!(
            "ha.rule: {name} is a rule on {on} ({kind}); choose another name, or leave out what does not belong to it"
        ));
    }
    // PVE takes no second one (PVE::HA::Rules::NodeAffinity).
    let others = known.rules.iter().filter(|(other, _)| *other != name);
    let holds = |rule: &Rule| own.is_some_and(|own| rule.resources.contains(own));
    let mut others = others.filter(|(_, rule)| rule.kind == "node-affinity" && holds(rule));
    let (other, _) = others.next().filter(|_| kind == "node-affinity")?;
    Some(format!(
        "ha.rule: the VM is in the rule {other} on nodes, and can be in one only; take it out of that one first"
    ))
}

/// The rule as it is described, with what there is.
fn described(want: &Ha, found: Option<&Rule>) -> Rule {
    let mut rule = found.cloned().unwrap_or_default();
    if found.is_none() {
        let kind = match want.nodes {
            Some(_) => "node-affinity",
            None => "resource-affinity",
        };
        rule.kind = kind.to_owned();
    }
    if let Some(nodes) = &want.nodes {
        let nodes = nodes.iter().map(|node| parse_node(node));
        rule.nodes = nodes.map(|(node, at)| (node.to_owned(), at)).collect();
    }
    rule.strict = want.strict.unwrap_or(rule.strict);
    if let Some(affinity) = want.affinity {
        rule.affinity = match affinity {
            Affinity::Positive => "positive".into(),
            Affinity::Negative => "negative".into(),
        };
    }
    rule
}

fn show(sides: &mut Sides, found: Option<&Rule>, rule: &Rule) {
    for key in ["nodes", "strict", "affinity", "resources"] {
        let text = |rule: &Rule| {
            let text = texts(rule).remove(key).unwrap_or_default();
            (!text.is_empty()).then_some(text)
        };
        sides.show(key, found.and_then(text), text(rule));
    }
}

/// The texts of a rule: its VMs (the one that is not made yet left out) and what its kind has.
fn texts(rule: &Rule) -> Texts {
    let resources = rule.resources.iter().filter(|sid| *sid != "vm:");
    let resources: Vec<&str> = resources.map(String::as_str).collect();
    let mut texts = Texts::from([("resources", resources.join(","))]);
    if rule.kind == "node-affinity" {
        let node = |(node, at): (&String, &u32)| match at {
            0 => node.clone(),
            at => format!("{node}:{at}"),
        };
        let nodes: Vec<String> = rule.nodes.iter().map(node).collect();
        texts.insert("nodes", nodes.join(","));
        texts.insert("strict", u8::from(rule.strict).to_string());
    } else {
        texts.insert("affinity", rule.affinity.clone());
    }
    texts
}

fn all(rule: &Rule) -> Texts {
    let mut all = texts(rule);
    all.insert("type", rule.kind.clone());
    all
}

fn changed(found: &Rule, rule: &Rule) -> Texts {
    let before = texts(found);
    let mut changed = texts(rule);
    changed.retain(|key, text| before.get(key) != Some(text));
    changed.insert("type", rule.kind.clone());
    changed.extend(found.digest.clone().map(|digest| ("digest", digest)));
    changed
}

/// A node and its priority, of `NODE` or `NODE:PRIORITY`.
pub fn parse_node(text: &str) -> (&str, u32) {
    let (node, at) = text.split_once(':').unwrap_or((text, ""));
    (node, at.parse().unwrap_or_default())
}

/// PVE's word.
fn word(state: HaState) -> &'static str {
    match state {
        HaState::Started => "started",
        HaState::Stopped => "stopped",
        HaState::Disabled => "disabled",
        HaState::Ignored => "ignored",
        HaState::Absent => "absent",
    }
}

fn or_none(names: &BTreeSet<String>) -> String {
    match names.is_empty() {
        true => "none".to_owned(),
        false => names
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", "),
    }
}
