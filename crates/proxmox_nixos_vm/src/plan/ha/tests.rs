use serde_json::json;

use super::*;

fn want(ha: Value) -> Ha {
    serde_json::from_value(ha).unwrap()
}

/// A VM 100 that runs.
fn running() -> Subject {
    Subject {
        vmid: Some(100),
        runs: true,
        switched: false,
    }
}

/// HA knows VM 100 with these properties, and VM 101.
fn knows(properties: &[(&str, &str)]) -> Known {
    let own = properties
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Known {
        resource: Some(own.collect()),
        managed: ["vm:100", "vm:101"].map(str::to_owned).into(),
        nodes: ["a", "b"].map(str::to_owned).into(),
        named: [("web2", "vm:101"), ("web3", "vm:102"), ("vm:100", "vm:100")]
            .map(|(name, sid)| (name.to_owned(), Some(sid.to_owned())))
            .into(),
        ..Known::default()
    }
}

fn rule(kind: &str, resources: &[&str]) -> Rule {
    Rule {
        kind: kind.into(),
        resources: resources.iter().map(|sid| (*sid).to_owned()).collect(),
        digest: Some("d".into()),
        ..Rule::default()
    }
}

fn with_rule(name: &str, rule: Rule) -> Known {
    let mut known = knows(&[]);
    known.rules.insert(name.into(), rule);
    known
}

fn step(plan: &Plan) -> &Step {
    assert_eq!(plan.steps.len(), 1, "{plan:?}");
    assert!(plan.refusals.is_empty(), "{plan:?}");
    &plan.steps[0]
}

#[test]
fn a_vm_that_ha_does_not_know_is_added_as_it_is_left() {
    for (runs, state) in [(true, "started"), (false, "stopped")] {
        let vm = Subject { runs, ..running() };
        let plan = plan(
            &want(json!({"max_restart": 3, "comment": ""})),
            vm,
            &Known::default(),
        );
        let set = Texts::from([("max_restart", "3".to_owned()), ("state", state.to_owned())]);
        assert_eq!(step(&plan), &Step::Add(set));
        assert_eq!(plan.before, None);
        assert_eq!(
            Value::from(plan.after.unwrap()),
            json!({"state": state, "max_restart": "3"})
        );
    }
}

#[test]
fn only_what_differs_is_changed_and_defaults_are_no_difference() {
    let all = json!({"state": "started", "max_restart": 1, "max_relocate": 1, "comment": "x"});
    let same = plan(
        &want(all),
        running(),
        &knows(&[("state", "enabled"), ("comment", "x\n")]),
    );
    assert_eq!(same.steps, []);
    assert_eq!(same.before, same.after);
    let have = knows(&[("state", "stopped"), ("comment", "x"), ("group", "g")]);
    let differs = json!({"state": "ignored", "comment": "", "group": "", "max_relocate": 1});
    let plan = plan(&want(differs), running(), &have);
    let set = Texts::from([("state", "ignored".to_owned())]);
    assert_eq!(step(&plan), &Step::Change(set, vec!["comment", "group"]));
    assert!(!plan.acts);
    assert_eq!(
        Value::from(plan.before.unwrap()),
        json!({"state": "stopped", "comment": "x", "group": "g", "max_relocate": "1"})
    );
    assert_eq!(
        Value::from(plan.after.unwrap()),
        json!({"state": "ignored", "max_relocate": "1"})
    );
}

#[test]
fn what_is_left_out_stays() {
    let have = knows(&[("state", "disabled"), ("comment", "x")]);
    let same = plan(&want(json!({})), running(), &have);
    assert_eq!((same.steps, same.acts), (vec![], true));
    // PVE passes a start on to HA, which the diff shows and no call repeats.
    let switched = Subject {
        switched: true,
        ..running()
    };
    let started = plan(&want(json!({})), switched, &knows(&[("state", "stopped")]));
    assert_eq!(started.steps, []);
    assert_eq!(started.after.unwrap()["state"], "started");
}

#[test]
fn absent_removes_what_there_is_whatever_else_is_said() {
    let absent = want(json!({"state": "absent", "rule": "r1", "max_restart": 2}));
    assert_eq!(plan(&absent, running(), &Known::default()), Plan::default());
    let plan = plan(&absent, running(), &knows(&[]));
    assert_eq!(step(&plan), &Step::Remove);
    assert_eq!(
        (plan.before.is_some(), plan.after, plan.acts),
        (true, None, false)
    );
}

#[test]
fn groups_where_there_are_groups_and_rules_where_there_are_rules() {
    let groups = |names: &[&str]| Known {
        groups: Some(names.iter().map(|name| (*name).to_owned()).collect()),
        ..knows(&[])
    };
    let group = want(json!({"group": "g1"}));
    let set = Texts::from([("group", "g1".to_owned())]);
    assert_eq!(
        step(&plan(&group, running(), &groups(&["g1"]))),
        &Step::Change(set, vec![])
    );
    let nodes = want(json!({"rule": "r1", "nodes": ["a"]}));
    for (want, known, part) in [
        (
            &group,
            groups(&["g2"]),
            "the group g1 does not exist (available: g2)",
        ),
        (
            &group,
            knows(&[]),
            "ha.group: this cluster has no HA groups",
        ),
        (&nodes, groups(&[]), "ha.rule: this cluster has no HA rules"),
    ] {
        let refusals = plan(want, running(), &known).refusals;
        assert!(
            refusals.iter().any(|text| text.contains(part)),
            "{refusals:?}"
        );
    }
}

#[test]
fn a_rule_on_nodes_is_made_joined_and_changed() {
    let described = want(json!({"rule": "r1", "nodes": ["b:2", "a"], "strict": true}));
    let made = plan(&described, running(), &knows(&[]));
    let Step::MakeRule(name, params) = step(&made) else {
        panic!("{made:?}");
    };
    assert_eq!(name, "r1");
    assert_eq!(
        json!(params),
        json!({"type": "node-affinity", "resources": "vm:100", "nodes": "a,b:2", "strict": "1"})
    );
    // Who only names it, joins it.
    let mut other = rule("node-affinity", &["vm:101"]);
    other.nodes.insert("a".into(), 0);
    let joined = plan(
        &want(json!({"rule": "r1"})),
        running(),
        &with_rule("r1", other.clone()),
    );
    let Step::ChangeRule(_, params) = step(&joined) else {
        panic!("{joined:?}");
    };
    assert_eq!(
        json!(params),
        json!({"type": "node-affinity", "resources": "vm:100,vm:101", "digest": "d"})
    );
    assert_eq!(joined.before.unwrap().get("rule"), None);
    let mut ours = rule("node-affinity", &["vm:100"]);
    ours.nodes = other.nodes;
    ours.strict = true;
    let changed = plan(&described, running(), &with_rule("r1", ours.clone()));
    let Step::ChangeRule(_, params) = step(&changed) else {
        panic!("{changed:?}");
    };
    assert_eq!(params["nodes"], "a,b:2");
    ours.nodes.insert("b".into(), 2);
    assert_eq!(
        plan(&described, running(), &with_rule("r1", ours)).steps,
        []
    );
}

#[test]
fn a_rule_on_vms_is_made_once_there_are_two() {
    let described = |others: &[&str]| {
        want(json!({"rule": "apart", "affinity": "negative", "resources": others}))
    };
    let alone = plan(&described(&["web3", "vm:100"]), running(), &knows(&[]));
    assert_eq!((alone.steps, alone.refusals), (vec![], vec![]));
    assert_eq!(alone.waits, ["web3"]);
    let made = plan(&described(&["web2"]), running(), &knows(&[]));
    let Step::MakeRule(_, params) = step(&made) else {
        panic!("{made:?}");
    };
    assert_eq!(
        json!(params),
        json!({"type": "resource-affinity", "resources": "vm:100,vm:101", "affinity": "negative"})
    );
    // One that is not made yet counts too.
    let unmade = Subject {
        vmid: None,
        ..running()
    };
    let mut there = rule("resource-affinity", &["vm:101", "vm:105"]);
    there.affinity = "negative".into();
    let third = plan(
        &described(&["web2"]),
        unmade,
        &with_rule("apart", there.clone()),
    );
    assert_eq!(
        third.refusals,
        ["ha.rule: apart keeps 3 VMs on nodes of their own, and the cluster has only 2"]
    );
    // Whom others have put there stays.
    there.affinity = "positive".into();
    there.resources.insert("vm:100".into());
    let positive = json!({"rule": "apart", "affinity": "positive", "resources": ["web2"]});
    assert_eq!(
        plan(&want(positive), running(), &with_rule("apart", there)).steps,
        []
    );
}

#[test]
fn rules_that_cannot_be_are_refused() {
    let nodes = rule("node-affinity", &["vm:100"]);
    for (ha, known, part) in [
        (
            json!({"rule": "r1"}),
            knows(&[]),
            "the rule r1 does not exist (available: none); to make it, give ha.nodes",
        ),
        (
            json!({"rule": "r1", "strict": true}),
            knows(&[]),
            "to make it, give ha.nodes",
        ),
        (
            json!({"rule": "r1", "nodes": ["c:1"]}),
            knows(&[]),
            "ha.nodes: node c does not exist (nodes: a, b)",
        ),
        (
            json!({"rule": "r1", "affinity": "positive"}),
            with_rule("r1", nodes.clone()),
            "r1 is a rule on nodes (node-affinity)",
        ),
        (
            json!({"rule": "r1", "nodes": ["a"]}),
            with_rule("r1", rule("resource-affinity", &["vm:101"])),
            "r1 is a rule on VMs (resource-affinity)",
        ),
        (
            json!({"rule": "r2", "nodes": ["a"]}),
            with_rule("r1", nodes),
            "the VM is in the rule r1 on nodes, and can be in one only",
        ),
    ] {
        let refusals = plan(&want(ha), running(), &known).refusals;
        assert!(
            refusals.iter().any(|text| text.contains(part)),
            "{refusals:?}"
        );
    }
}
