//! High availability: resources, rules (PVE 9), groups (PVE 8), and what must hold before HA gets a VM.

mod common;

use common::*;
use insta::assert_snapshot;
use serde_json::{Value, json};

const RESOURCES: &str = "/cluster/ha/resources";
const RULES: &str = "/cluster/ha/rules";

fn vm(name: &str, ha: Value) -> Value {
    json!({"node": "pve", "name": name, "memory": 64, "ha": ha, "timeout": 60})
}

/// A test host whose cluster has these groups, as PVE 8 has them.
fn with_groups(lab: Lab, groups: Value) -> Lab {
    let groups = json!({"groups": groups}).to_string();
    std::fs::write(lab.path("pve/ha.json"), groups).unwrap();
    lab
}

fn writes_to_ha(lab: &Lab) -> usize {
    let writes = lab.writes();
    writes.iter().filter(|call| call.contains("/ha/")).count()
}

/// A resource without its digest.
fn resource(lab: &Lab, vmid: u32) -> Value {
    let all = lab.get(RESOURCES);
    let sid = format!("vm:{vmid}");
    let found = all
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["sid"] == sid.as_str());
    let mut found = found.cloned().unwrap_or_default();
    found.as_object_mut().map(|found| found.remove("digest"));
    found
}

#[test]
fn a_vm_is_added_changed_and_taken_out() {
    let lab = lab();
    let ha = json!({"state": "started", "max_restart": 2, "comment": "web"});
    let started = with(vm("web1", ha.clone()), json!({"state": "started"}));
    let check = lab.would_change(started.clone());
    assert_eq!(check["actions"], json!(["create", "start", "ha"]));
    assert_eq!(
        check["msg"],
        "would create VM web1 on pve and start it; change ha"
    );
    let shown = json!({"state": "started", "max_restart": "2", "comment": "web"});
    assert_eq!(check["diff"]["after"]["ha"], shown);
    assert!(lab.writes().is_empty());
    let made = lab.changed(started.clone());
    assert_eq!(made["actions"], json!(["create", "start", "ha"]));
    assert_eq!(made["diff"]["after"]["ha"], shown);
    assert_eq!(
        resource(&lab, 100),
        json!({"sid": "vm:100", "type": "vm", "state": "started", "max_restart": 2, "comment": "web"})
    );
    lab.unchanged(started);
    // What is left out stays.
    let calls = writes_to_ha(&lab);
    lab.unchanged(vm("web1", json!({})));
    assert_eq!(writes_to_ha(&lab), calls);
    let changed = vm(
        "web1",
        json!({"state": "ignored", "max_relocate": 0, "comment": ""}),
    );
    let check = lab.would_change(changed.clone());
    let done = lab.changed(changed.clone());
    for result in [&check, &done] {
        assert_eq!(result["actions"], json!(["ha"]));
        assert_eq!(
            result["diff"]["before"]["ha"],
            json!({"state": "started", "max_relocate": "1", "comment": "web"})
        );
        assert_eq!(
            result["diff"]["after"]["ha"],
            json!({"state": "ignored", "max_relocate": "0"})
        );
    }
    assert_eq!(
        done["msg"], "VM 100 (web1) on pve: changed ha",
        "{}",
        check["msg"]
    );
    lab.unchanged(changed);
    assert_eq!(resource(&lab, 100)["max_restart"], 2);
    let absent = vm("web1", json!({"state": "absent"}));
    lab.would_change(absent.clone());
    lab.changed(absent.clone());
    lab.unchanged(absent);
    assert_eq!(resource(&lab, 100), Value::Null);
    // Without a state it is kept as the task leaves it.
    lab.changed(with(
        vm("web1", json!({"max_restart": 0})),
        json!({"state": "stopped", "force": true}),
    ));
    assert_eq!(resource(&lab, 100)["state"], "stopped");
}

#[test]
fn a_vm_is_started_and_stopped_by_ha_and_removed_with_its_resource() {
    let lab = lab();
    let started = with(vm("web1", json!({})), json!({"state": "started"}));
    lab.changed(started.clone());
    let stopped = with(
        vm("web1", json!({"state": "stopped"})),
        json!({"state": "stopped", "force": true}),
    );
    let done = lab.changed(stopped.clone());
    assert_eq!(done["actions"], json!(["shut down", "ha"]));
    lab.unchanged(stopped);
    let done = lab.changed(started.clone());
    // PVE passed the start on to HA.
    assert_eq!(done["actions"], json!(["start"]));
    assert_eq!(done["diff"]["before"]["ha"], json!({"state": "stopped"}));
    assert_eq!(done["diff"]["after"]["ha"], json!({"state": "started"}));
    lab.unchanged(started);
    lab.changed(vm("web1", json!({"rule": "r1", "nodes": ["pve"]})));
    lab.changed(json!({"name": "web1", "state": "absent", "force": true, "timeout": 60}));
    assert!(lab.vms().is_empty());
    assert_eq!((lab.get(RESOURCES), lab.get(RULES)), (json!([]), json!([])));
}

#[test]
fn rules_on_nodes_and_on_vms() {
    let lab = cluster_of(&["pve", "b"], None);
    let on_nodes = |name| {
        vm(
            name,
            json!({"rule": "west", "nodes": ["pve:2", "b"], "strict": true}),
        )
    };
    lab.would_change(on_nodes("web1"));
    lab.changed(on_nodes("web1"));
    lab.unchanged(on_nodes("web1"));
    lab.changed(on_nodes("web2"));
    lab.unchanged(on_nodes("web1"));
    let rule = lab.get(&format!("{RULES}/west"));
    assert_eq!(
        [&rule["resources"], &rule["nodes"], &rule["strict"]],
        [&json!("vm:100,vm:101"), &json!("b,pve:2"), &json!(1)]
    );
    lab.changed(vm("web1", json!({"rule": "west", "strict": false})));
    assert_eq!(lab.get(&format!("{RULES}/west"))["strict"], 0);
    // The first one has nobody to be apart from.
    let apart = |name| {
        vm(
            name,
            json!({"rule": "apart", "affinity": "negative", "resources": ["db1", "db2"]}),
        )
    };
    let first = lab.changed(apart("db1"));
    assert_eq!(
        first["warnings"],
        json!([
            "ha.resources: HA does not know db2 yet, so the rule apart is without; their own tasks bring them into it"
        ])
    );
    lab.unchanged(apart("db1"));
    known(&lab, "db1");
    let second = lab.changed(apart("db2"));
    assert_eq!(second["diff"]["after"]["ha"]["rule"], "apart");
    let rule = lab.get(&format!("{RULES}/apart"));
    assert_eq!(
        [&rule["resources"], &rule["affinity"]],
        [&json!("vm:102,vm:103"), &json!("negative")]
    );
    known(&lab, "db2");
    for name in ["db1", "db2"] {
        assert_eq!(lab.unchanged(apart(name)).get("warnings"), None);
    }
    assert_snapshot!(lab.refuses(apart("db3")), @"refused: VM db3 cannot be made as described: ha.rule: apart keeps 3 VMs on nodes of their own, and the cluster has only 2");
    assert_snapshot!(lab.refuses(vm("db1", json!({"group": "g1", "rule": "r9"}))), @"invalid_option: ha: give either group, which Proxmox VE 8 has, or rule, which Proxmox VE 9 has");
    assert_snapshot!(lab.refuses(vm("db1", json!({"group": "g1"}))), @"refused: VM 102 (db1) cannot be made as described: ha.group: this cluster has no HA groups, but rules (Proxmox VE 9); use ha.rule, with ha.nodes");
}

#[test]
fn many_vms_join_one_rule_at_once() {
    let lab = lab();
    let on_nodes = |name: String| vm(&name, json!({"rule": "west", "nodes": ["pve"]}));
    let tasks: Vec<_> = (0..6)
        .map(|n| lab.start(on_nodes(format!("web{n}"))))
        .collect();
    for task in tasks {
        assert_eq!(lab.ended(task)["changed"], true);
    }
    let rule = lab.get(&format!("{RULES}/west"));
    assert_eq!(
        rule["resources"].as_str().unwrap().split(',').count(),
        6,
        "{rule}"
    );
}

#[test]
fn an_answer_that_is_lost_makes_no_difference() {
    let lab = lab();
    lab.ok(vm("web1", json!(null)));
    for (path, method) in [(RESOURCES, "POST"), (RULES, "POST")] {
        lab.faults(json!([{"method": method, "path": path, "nth": 1, "action": "drop-after"}]));
        let ha = json!({"state": "stopped", "rule": "west", "nodes": ["pve"]});
        lab.changed(vm("web1", ha.clone()));
        lab.faults(json!([]));
        lab.unchanged(vm("web1", ha));
        lab.changed(vm("web1", json!({"state": "absent"})));
    }
    // Nothing of it was done before.
    lab.faults(json!([{"method": "POST", "path": RESOURCES, "action": "status", "status": 500, "message": "no quorum"}]));
    let failed = lab.fails(vm("web1", json!({"state": "stopped"})));
    assert_eq!(failed.get("changed"), Some(&json!(false)), "{failed:#}");
}

#[test]
fn groups_of_pve_8() {
    let lab = with_groups(lab(), json!({"west": {"nodes": "pve"}}));
    let group = vm("web1", json!({"group": "west", "state": "ignored"}));
    lab.would_change(group.clone());
    lab.changed(group.clone());
    lab.unchanged(group);
    assert_eq!(resource(&lab, 100)["group"], "west");
    lab.changed(vm("web1", json!({"group": ""})));
    assert_eq!(resource(&lab, 100).get("group"), None);
    let calls = lab.writes().len();
    assert_snapshot!(lab.refuses(vm("web2", json!({"group": "east"}))), @"refused: VM web2 cannot be made as described: ha.group: the group east does not exist (available: west); make it first: ha-manager groupadd east --nodes NODE,NODE");
    assert_snapshot!(lab.refuses(vm("web1", json!({"rule": "r1", "nodes": ["pve"]}))), @"refused: VM 100 (web1) cannot be made as described: ha.rule: this cluster has no HA rules, but groups (Proxmox VE 8); use ha.group");
    assert_eq!(lab.writes().len(), calls);
}

#[test]
fn mistakes_are_named_together_and_ha_managed_has_an_option() {
    let lab = lab();
    assert_snapshot!(lab.refuses(with(
        vm("web1", json!({"state": "stopped", "nodes": ["a b"]})),
        json!({"state": "started", "config": {"ha-managed": 1}}),
    )), @"invalid_option: config: ha-managed cannot be set here: PVE takes it only while it creates a VM; use the option ha, for example ha: {state: started}; ha.nodes: is a part of a rule; name the rule with rule; ha.nodes: must be a node, or NODE:PRIORITY with a priority from 0 to 1000 (got 'a b'); ha.state: stopped would stop the VM, against state: started; change one of the two");
    assert!(lab.requests().is_empty());
}

#[test]
fn missing_privileges_are_named_before_anything_is_changed() {
    let commands = documented(&["## proxmox_nixos_vm"]);
    let lab = lab().granted(&commands);
    let vm = vm("web1", json!({"state": "ignored"}));
    assert_snapshot!(lab.refuses(vm.clone()), @"
    permission_denied: provisioner@pve!empty lacks the privilege Sys.Audit,Sys.Console on /
      run on a node: pveum role add nixos-Sys-Audit-Sys-Console --privs 'Sys.Audit Sys.Console'; pveum acl modify / --roles nixos-Sys-Audit-Sys-Console --users 'provisioner@pve' --tokens 'provisioner@pve!empty'
    ");
    lab.grant("pveum role add Look --privs \"Sys.Audit\"\npveum acl modify / --roles Look --users a --tokens b --propagate 0\n");
    let refused = lab.fails(with(vm.clone(), json!({"_ansible_check_mode": true})));
    let msg = refused["msg"].as_str().unwrap();
    assert!(
        msg.starts_with("provisioner@pve!empty lacks the privilege Sys.Console on /; "),
        "{msg}"
    );
    assert!(lab.writes().is_empty());
    lab.grant(&documented(&["### High availability"]));
    lab.changed(vm.clone());
    lab.unchanged(vm);
    // PVE takes it out of HA itself, without that privilege.
    lab.changed(json!({"name": "web1", "state": "absent", "timeout": 60}));
}

#[test]
fn not_while_the_vm_is_being_installed() {
    let lab = lab();
    let made = lab.ok(vm("web1", json!(null)));
    let config = &made["config"];
    let uuid = config["smbios1"]
        .as_str()
        .unwrap()
        .trim_start_matches("uuid=");
    let generation = config["vmgenid"].as_str().unwrap();
    let record = |phase: &str| {
        format!(
            "<!-- nixos-proxmox: v=1 installation={} host=web1 vmid=100 uuid={uuid} generation={generation} phase={phase} run=00000001 -->",
            "0".repeat(32)
        )
    };
    lab.configure(100, &[("description", &record("installing"))]);
    let calls = lab.writes().len();
    for state in [json!("started"), json!("stopped"), json!(null)] {
        let refused = lab.refuses(vm("web1", json!({"state": state})));
        insta::allow_duplicates! {
        assert_snapshot!(refused, @"
        installing: ha: VM web1 is being installed for the inventory host web1 (phase 'installing'), and HA would start or stop it; nothing was done to it
          finish the installation first: run provision.yml for that host; until then leave ha out, or use ha.state: ignored
        ");
        }
    }
    assert_eq!(lab.writes().len(), calls);
    lab.changed(vm("web1", json!({"state": "ignored"})));
    lab.changed(vm("web1", json!({"state": "absent"})));
    lab.configure(100, &[("description", &record("done"))]);
    lab.changed(vm("web1", json!({"state": "stopped"})));
}
