//! Several nodes: which one a VM is made on, where it is found, and how it moves.

mod common;

use std::time::{Duration, Instant};

use common::*;
use insta::assert_snapshot;
use serde_json::{Value, json};

const GIB: u64 = 1 << 30;

/// Three nodes; `fast` is on `b` and `c` only, `shared` everywhere the same.
fn cluster() -> Lab {
    let content = ["images", "iso"];
    let storages = json!([
        {"id": "local", "type": "dir", "content": content},
        {"id": "fast", "type": "dir", "content": content, "nodes": ["b", "c"]},
        {"id": "shared", "type": "dir", "content": content, "shared": true},
    ]);
    cluster_of(&["pve", "b", "c"], Some(storages))
}

/// 8 GiB each, of which that many are free; more is said of a node by `more`.
fn free(lab: &Lab, gib: [u64; 3], more: Value) {
    let mut facts = json!({});
    for (node, free) in ["pve", "b", "c"].into_iter().zip(gib) {
        facts[node] = json!({"maxmem": 8 * GIB, "mem": (8 - free) * GIB});
        if let Some(more) = more.get(node) {
            facts[node] = with(facts[node].clone(), more.clone());
        }
    }
    lab.nodes(facts);
}

fn vm(name: &str, storage: &str) -> Value {
    json!({
        "name": name, "memory": 128, "scsi": {"scsi0": {"storage": storage, "size": "64M"}},
        "net": {"net0": {"bridge": "vmbr0"}}, "timeout": 100,
    })
}

/// The qmigrate tasks that there were.
fn migrations(lab: &Lab) -> usize {
    ["pve", "b", "c"]
        .iter()
        .map(|node| {
            let query = "source=all&typefilter=qmigrate";
            let tasks = lab.get(&format!("/nodes/{node}/tasks?{query}"));
            tasks.as_array().unwrap().len()
        })
        .sum()
}

fn node_of(lab: &Lab, vmid: &Value) -> Value {
    let all = lab.get("/cluster/resources?type=vm");
    let all = all.as_array().unwrap();
    let found: Vec<&Value> = all.iter().filter(|entry| entry["vmid"] == *vmid).collect();
    assert_eq!(found.len(), 1, "{all:?}");
    found[0]["node"].clone()
}

#[test]
fn the_node_with_the_most_free_memory_that_has_what_the_vm_needs() {
    let lab = cluster();
    free(&lab, [6, 2, 4], json!({}));
    assert_eq!(lab.ok(vm("a1", "local"))["node"], "pve");
    // It has not the storage.
    assert_eq!(lab.ok(vm("a2", "fast"))["node"], "c");
    assert_eq!(lab.check(vm("a3", "fast"))["node"], "c");
    // It is down. Of a VM that was made just before PVE would know no name.
    known(&lab, "a2");
    free(&lab, [6, 2, 4], json!({"c": {"offline": true}}));
    assert_eq!(lab.ok(vm("a4", "fast"))["node"], "b");
    // It has not the bridge.
    free(&lab, [6, 2, 4], json!({"pve": {"bridges": ["vmbr7"]}}));
    assert_eq!(lab.ok(vm("a5", "local"))["node"], "c");
    // A vnet of SDN is as good as a bridge, on the nodes that have it.
    free(&lab, [2, 2, 6], json!({"b": {"vnets": {"blue": "zone1"}}}));
    let on_vnet = json!({"net": {"net0": "virtio,bridge=blue,tag=20"}, "state": "started"});
    assert_eq!(lab.ok(with(vm("v1", "local"), on_vnet))["node"], "b");
    // Figures change.
    free(&lab, [1, 5, 4], json!({}));
    assert_eq!(lab.ok(vm("a6", "shared"))["node"], "b");
    // What VMs have is not free, whether they run or not.
    free(&lab, [5, 5, 5], json!({}));
    let large = |name| with(vm(name, "shared"), json!({"memory": 1024}));
    let nodes = ["l1", "l2", "l3"].map(|name| lab.ok(large(name))["node"].clone());
    assert_eq!(
        nodes.iter().collect::<std::collections::HashSet<_>>().len(),
        3,
        "{nodes:?}"
    );

    // Only these nodes; apart from others where that can be, before memory counts.
    free(&lab, [6, 2, 4], json!({}));
    let among = |name, more| with(vm(name, "shared"), more);
    let two = json!({"nodes": ["b", "c"]});
    assert_eq!(lab.ok(among("n1", two))["node"], "c");
    let apart = json!({"apart_from": ["s1", "s2", "s3", "s4"]});
    let spread =
        ["s1", "s2", "s3", "s4"].map(|name| lab.ok(among(name, apart.clone()))["node"].clone());
    assert_eq!(
        spread
            .iter()
            .collect::<std::collections::HashSet<_>>()
            .len(),
        3,
        "{spread:?}"
    );
    assert_snapshot!(lab.refuses(among("n2", json!({"nodes": ["b", "d"]}))), @"
    no_node: nodes: d does not exist (online: pve, b, c)
      correct nodes, or leave it out to choose from all nodes
    ");
    known(&lab, "s4");
    free(&lab, [6, 2, 4], json!({"b": {"offline": true}}));
    assert_snapshot!(lab.refuses(among("n2", json!({"nodes": ["b"]}))), @"
    node_offline: nodes: all of them are offline (b)
      correct nodes, or leave it out to choose from all nodes
    ");

    known(&lab, "a5");
    let writes = lab.writes().len();
    free(
        &lab,
        [6, 2, 4],
        json!({"b": {"bridges": ["vmbr7"]}, "c": {"offline": true}}),
    );
    assert_snapshot!(lab.refuses(vm("a7", "fast")), @"no_node: no online node has what the VM needs: storage fast does not exist on node pve (available: local, shared); net: bridge vmbr0 does not exist on node b (available: vmbr7)");
    assert_snapshot!(lab.refuses(with(vm("a7", "fast"), json!({"node": "c"}))), @"
    node_offline: node: c is offline (online: pve, b)
      correct node, or leave it out to take the online node with the most free memory
    ");
    assert_eq!(lab.writes().len(), writes);
}

#[test]
fn a_vm_is_found_wherever_it_has_moved() {
    let lab = cluster();
    let made = lab.ok(with(vm("web1", "local"), json!({"node": "b"})));
    let vmid = made["vmid"].to_string();
    lab.post(&format!("/nodes/b/qemu/{vmid}/migrate"), &[("target", "c")]);
    // Where it would be made now does not matter.
    free(&lab, [6, 5, 1], json!({}));
    assert_eq!(lab.unchanged(vm("web1", "local"))["node"], json!("c"));
    let elsewhere = lab.ok(with(
        vm("web1", "local"),
        json!({"node": "b", "memory": 256}),
    ));
    assert_eq!(
        (&elsewhere["node"], &elsewhere["actions"]),
        (&json!("c"), &json!(["change"]))
    );
    let warned = elsewhere["warnings"][0].as_str().unwrap();
    assert!(warned.contains("is on node c and not on b"), "{warned}");
    lab.changed(json!({"name": "web1", "state": "absent", "timeout": 100}));
    assert_eq!(lab.get("/nodes/c/qemu"), json!([]));
}

#[test]
fn a_vm_on_a_node_that_is_down_is_not_made_again() {
    let lab = cluster();
    let made = lab.ok(with(vm("web1", "local"), json!({"node": "b"})));
    known(&lab, "web1");
    for facts in [
        json!({"offline": true}),
        json!({"offline": true, "forgotten": true}),
    ] {
        free(&lab, [6, 5, 1], json!({"b": facts}));
        for options in [
            vm("web1", "local"),
            json!({"name": "web1", "state": "absent", "timeout": 100}),
            json!({"vmid": made["vmid"], "state": "current", "timeout": 100}),
        ] {
            let writes = lab.writes().len();
            let refused = lab.fails(options);
            assert_eq!(refused["error"]["kind"], "node_offline", "{refused:#}");
            assert_eq!(lab.writes().len(), writes);
        }
    }
    assert_snapshot!(lab.refuses(vm("web2", "local")), @"
    node_offline: it is not known whether VM web2 exists: of the VMs on the offline nodes (b) PVE shows no names any more: 100
      start the node, or remove it and its VMs from the cluster; a VM that is given its vmid is found, or made, without its name
    ");
    // Who gives a VMID means that VM.
    let made = lab.ok(with(vm("web2", "local"), json!({"vmid": 300})));
    assert_eq!((&made["vmid"], &made["node"]), (&json!(300), &json!("pve")));
}

#[test]
fn who_may_not_see_that_a_node_is_down_uses_the_others() {
    let content = ["images", "iso"];
    let local = json!([{"id": "local", "type": "dir", "content": content}]);
    let lab = cluster_of(&["pve", "b"], Some(local)).granted(
        "pveum role add R --privs \"VM.Allocate VM.Audit VM.Config.Disk VM.Config.Network VM.Config.Memory VM.Config.Options VM.Config.HWType Datastore.AllocateSpace SDN.Use\"\npveum acl modify / --roles R",
    );
    lab.nodes(json!({"b": {"offline": true}}));
    assert_eq!(lab.ok(vm("web1", "local"))["node"], "pve");
}

#[test]
fn a_known_vm_costs_no_request_per_node() {
    let lab = cluster();
    let described = with(vm("web1", "local"), json!({"node": "c"}));
    lab.ok(described.clone());
    known(&lab, "web1");
    let before = lab.requests().len();
    lab.unchanged(described);
    let asked = lab.requests().split_off(before);
    let expected = [
        "GET /cluster/resources",
        "GET /nodes/c/qemu/100/status/current",
        "GET /nodes/c/qemu/100/config",
    ];
    assert_eq!(asked, expected);
}

#[test]
fn no_vm_is_removed_by_a_name_that_another_has_been_given_a_moment_ago() {
    let lab = cluster();
    let on_pve = |name| with(vm(name, "local"), json!({"node": "pve"}));
    lab.ok(on_pve("web1"));
    let other = lab.ok(on_pve("web2"))["vmid"].as_u64().unwrap();
    known(&lab, "web2");
    lab.configure(other, &[("name", "web1")]);
    assert_snapshot!(lab.refuses(json!({"name": "web1", "state": "absent"})), @"
    ambiguous: 2 VMs have the name web1: 100 on pve, 101 on pve
      say which one with vmid, or rename the others
    ");
    assert_eq!(lab.vms().len(), 2);
}

#[test]
fn a_vm_moves_when_it_is_asked_to_and_once() {
    let lab = cluster();
    let described = with(vm("web1", "local"), json!({"node": "b", "migrate": true}));
    let made = lab.ok(described.clone());
    assert_eq!(made["actions"], json!(["create"]));
    let vmid = &made["vmid"];
    let to_c = with(described, json!({"node": "c", "memory": 256}));

    let checked = lab.check(to_c.clone());
    assert_eq!(
        checked["actions"],
        json!(["migrate", "change"]),
        "{checked:#}"
    );
    let diff = &checked["diff"];
    assert_eq!(
        (&diff["before"]["node"], &diff["after"]["node"]),
        (&json!("b"), &json!("c"))
    );
    assert_snapshot!(shown(&checked, "msg"), @"msg: VM 100 (web1) on b: would migrate to c; change memory");
    assert_eq!((node_of(&lab, vmid), migrations(&lab)), (json!("b"), 0));

    let moved = lab.ok(to_c.clone());
    assert_eq!(
        (&moved["node"], &moved["actions"]),
        (&json!("c"), &checked["actions"])
    );
    assert_eq!(moved["diff"]["before"]["node"], "b");
    lab.unchanged(to_c.clone());

    // Online, with its disk.
    let running = with(to_c, json!({"state": "started"}));
    assert_eq!(lab.ok(running.clone())["actions"], json!(["start"]));
    let moved = lab.ok(with(running.clone(), json!({"node": "pve"})));
    assert_eq!(
        (&moved["actions"], &moved["status"]),
        (&json!(["migrate"]), &json!("running"))
    );
    assert_eq!(lab.config(vmid.as_u64().unwrap())["memory"], "256");
    assert_eq!(migrations(&lab), 2);
    // It is not moved to be removed.
    let gone = json!({"name": "web1", "node": "c", "migrate": true, "state": "absent", "force": true, "timeout": 100});
    assert_eq!(lab.ok(gone)["actions"], json!(["remove"]));
    assert_eq!(migrations(&lab), 2);
}

#[test]
fn a_lost_answer_makes_no_second_migration() {
    let lab = cluster();
    let described = with(vm("web1", "shared"), json!({"migrate": true}));
    lab.ok(with(described.clone(), json!({"node": "pve"})));
    for (n, (action, to)) in [
        ("drop-before", "b"),
        ("drop-after", "c"),
        ("596-after-effect", "pve"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = "/nodes/*/qemu/*/migrate";
        lab.faults(json!([{"method": "POST", "path": path, "nth": 1, "action": action}]));
        let moved = lab.ok(with(described.clone(), json!({"node": to})));
        assert_eq!(
            (&moved["node"], migrations(&lab)),
            (&json!(to), n + 1),
            "{action}"
        );
    }
}

#[test]
fn a_vm_that_ha_manages_is_waited_for_until_ha_has_moved_it() {
    let lab = cluster();
    let described = with(vm("web1", "shared"), json!({"migrate": true}));
    lab.ok(with(described.clone(), json!({"node": "pve"})));
    lab.nodes(json!({"pve": {"ha": true}}));
    let to_b = with(described, json!({"node": "b", "memory": 256}));
    let moved = lab.ok(to_b.clone());
    assert_eq!(
        (&moved["node"], &moved["actions"]),
        (&json!("b"), &json!(["migrate", "change"]))
    );
    assert_eq!(migrations(&lab), 1);
    lab.unchanged(to_b);
}

#[test]
fn a_migration_that_another_run_began_is_waited_for() {
    let lab = cluster();
    let described = with(vm("web1", "local"), json!({"migrate": true}));
    lab.ok(with(described.clone(), json!({"node": "pve"})));
    let rule = json!([{
        "method": "POST", "path": "/nodes/*/qemu/*/migrate", "nth": 1, "action": "slow-copy", "seconds": 3,
    }]);
    lab.faults(rule);
    let to_b = with(described, json!({"node": "b"}));
    let mut child = lab.start(to_b.clone());
    let limit = Instant::now() + Duration::from_secs(60);
    while migrations(&lab) == 0 {
        assert!(Instant::now() < limit, "no migration begins");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let again = lab.ok(to_b);
    assert_eq!(
        (&again["node"], &again["changed"]),
        (&json!("b"), &json!(false)),
        "{again:#}"
    );
    assert_eq!(migrations(&lab), 1);
}

#[test]
fn what_pve_would_not_migrate_is_refused_with_the_reason() {
    let lab = cluster();
    let described = |more: Value| with(vm("web1", "fast"), with(json!({"migrate": true}), more));
    lab.ok(described(json!({"node": "b"})));
    let to = |node: &str| described(json!({"node": node}));
    let mut refused = vec![lab.refuses(to("pve")), lab.refuses(to("x"))];
    lab.nodes(json!({"c": {"bridges": ["vmbr7"]}}));
    refused.push(lab.refuses(to("c")));
    lab.nodes(json!({"c": {"offline": true}}));
    refused.push(lab.refuses(to("c")));
    lab.nodes(json!({}));
    // An ISO that only the old node has.
    let isos = lab.path("pve/nodes/b/storage/local/template/iso");
    std::fs::write(isos.join("own.iso"), vec![0; 65536]).unwrap();
    let drive = json!({"ide2": "local:iso/own.iso,media=cdrom"});
    lab.ok(described(json!({"node": "b", "ide": drive})));
    refused.push(lab.refuses(to("c")));
    assert_snapshot!(refused.join("\n"), @"
    cannot_migrate: VM 100 (web1) cannot be migrated from b to pve: pve does not have the storage fast
      leave migrate out to manage the VM where it is
    no_node: node: x does not exist (online: pve, b, c)
      correct node, or leave it out to take the online node with the most free memory
    no_bridge: net: bridge vmbr0 does not exist on node c (available: vmbr7)
      correct its name in net, or make the bridge first; PVE lists only bridges and vnets on which the API user has SDN.Use
    node_offline: node: c is offline (online: pve, b)
      correct node, or leave it out to take the online node with the most free memory
    cannot_migrate: VM 100 (web1) cannot be migrated from b to c: ide2 holds local:iso/own.iso, which only b has (remove_disks empties it, or put in an ISO of a shared storage)
      leave migrate out to manage the VM where it is
    ");
    lab.ok(described(json!({"node": "b", "remove_disks": ["ide2"]})));
    assert_eq!(migrations(&lab), 0);
    // A task that fails says why.
    let rule = json!([{
        "method": "POST", "path": "/nodes/*/qemu/*/migrate", "action": "task-fail", "message": "migration aborted",
    }]);
    lab.faults(rule);
    assert_snapshot!(failure(&lab.fails(to("c"))), @"
    task_failed: cannot migrate to c VM 100 (web1): task qmigrate 100 on b failed: migration aborted
      its whole log: pvenode task log UPID:b:[task]:qmigrate:100:root@pam!full:
    ");
    lab.faults(json!([]));

    let lab = lab.granted("pveum role add R --privs \"VM.Audit Sys.Audit Datastore.AllocateSpace\"\npveum acl modify / --roles R");
    assert_snapshot!(lab.refuses(described(json!({"node": "c"}))), @"
    permission_denied: cannot see what keeps VM 100 (web1) from migrating to c: GET /nodes/b/qemu/100/migrate: 403 Permission check failed (/vms/100, VM.Migrate)
      run on a node: pveum role add nixos-VM-Migrate --privs 'VM.Migrate'; pveum acl modify / --roles nixos-VM-Migrate --users 'provisioner@pve' --tokens 'provisioner@pve!empty'
    ");
    let role = "pveum role add N --privs \"VM.Migrate\"\npveum acl modify / --roles N";
    let lab = lab.granted(role);
    assert_eq!(lab.ok(described(json!({"node": "c"})))["node"], "c");
}

#[test]
fn vms_that_are_made_at_once_are_spread() {
    let lab = cluster();
    free(&lab, [5, 6, 4], json!({}));
    let large = |n: usize| with(vm(&format!("m{n}"), "shared"), json!({"memory": 2048}));
    let racing: Vec<_> = (0..5).map(|n| lab.start(large(n))).collect();
    let mut nodes: Vec<String> = racing
        .into_iter()
        .map(|child| {
            let made = lab.ended(child);
            made["node"].as_str().unwrap().to_owned()
        })
        .collect();
    nodes.sort();
    assert_eq!(nodes, ["b", "b", "c", "pve", "pve"]);
}
