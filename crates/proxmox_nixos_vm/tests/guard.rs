//! Tags as guards and as a compare-and-set.

mod common;

use common::*;
use insta::assert_snapshot;
use serde_json::{Value, json};

fn vm(more: Value) -> Value {
    with(json!({"node": "pve", "name": "web1", "timeout": 100}), more)
}

#[test]
fn a_vm_without_the_guard_tag_is_not_touched() {
    let lab = lab();
    let theirs = lab.ok(vm(json!({"memory": 128, "tags": ["theirs"]})))["vmid"].clone();
    let states = ["present", "started", "stopped", "restarted", "absent"];
    let ours = vm(json!({"guard_tag": "ours", "memory": 256}));
    assert_snapshot!(lab.refuses_each(&ours, states.map(|state| json!({"state": state}))), @"
    5 times guarded: VM 100 (web1) on pve is not touched: it lacks the tag ours (guard_tag); its tags are: theirs
      another task, or a person, tagged it so; look at it first (state: current)
    ");
    let refused = lab.fails(ours);
    assert_eq!(
        [&refused["vmid"], &refused["tags"]],
        [&theirs, &json!(["theirs"])]
    );
    let writes = lab.writes();
    assert_eq!(
        lab.ok(vm(json!({"guard_tag": "ours", "state": "current"})))["exists"],
        json!(true)
    );
    assert_eq!(lab.writes(), writes);
}

#[test]
fn a_new_vm_gets_the_guard_tag_and_keeps_it() {
    let lab = lab();
    let ours = |more: Value| {
        let mut options = vm(more);
        options["guard_tag"] = json!("Ours");
        options
    };
    assert_eq!(
        lab.ok(ours(json!({"memory": 128})))["tags"],
        json!(["ours"])
    );
    assert_eq!(
        lab.changed(ours(json!({"tags": ["web"]})))["tags"],
        json!(["ours", "web"])
    );
    lab.unchanged(ours(json!({"tags": ["web"]})));
    assert_eq!(lab.ok(ours(json!({"tags": []})))["tags"], json!(["ours"]));
    assert_eq!(
        lab.ok(ours(json!({"state": "absent"})))["exists"],
        json!(false)
    );
}

#[test]
fn tags_are_compared_and_set() {
    let lab = lab();
    let moved = |from: &str, to: &str| vm(json!({"only_if_tagged": [from], "tags": ["web", to]}));
    assert_snapshot!(lab.refuses(moved("waiting", "installing")), @"
    guarded: VM web1 does not exist, so it has not the tag waiting that only_if_tagged demands
      create it first, without only_if_tagged
    ");
    assert_eq!(lab.vms(), []);
    lab.unchanged(vm(json!({"only_if_tagged": ["x"], "state": "absent"})));

    lab.ok(vm(
        json!({"memory": 128, "tags": ["web", "waiting"], "unless_tagged": ["waiting"]}),
    ));
    lab.would_change(moved("waiting", "installing"));
    assert_eq!(
        lab.ok(moved("Waiting", "installing"))["tags"],
        json!(["installing", "web"])
    );
    // Whoever comes second must notice, though nothing is left to be changed.
    assert_eq!(
        lab.fails(moved("waiting", "installing"))["error"]["kind"],
        "guarded"
    );
    let back = vm(json!({"unless_tagged": ["installing"], "tags": ["waiting"], "memory": 256}));
    assert_snapshot!(lab.refuses(back), @"
    guarded: VM 100 (web1) on pve is not touched: it has the tag installing (unless_tagged); its tags are: installing, web
      another task, or a person, tagged it so; look at it first (state: current)
    ");
    assert_eq!(
        lab.ok(vm(json!({"state": "current"})))["config"]["memory"],
        "128"
    );
}

#[test]
fn of_several_that_move_a_vm_one_succeeds() {
    let lab = lab();
    let vmid = lab.ok(vm(json!({"memory": 128, "tags": ["waiting"], "ide": {"ide2": "local:iso/a.iso"}, "state": "started"})))["vmid"].as_u64().unwrap();
    for more in [
        json!({}),
        json!({"description": "x"}),
        json!({"remove_disks": ["ide2"]}),
        json!({"scsi": {"scsi1": "local:0.1"}}),
    ] {
        let moved = vm(json!({"only_if_tagged": ["waiting"], "tags": ["installing"]}));
        let options = with(moved, more.clone());
        // All of them have read the VM before the first one writes.
        lab.faults(json!([
            {"method": "PUT", "path": "/nodes/pve/qemu/*/config", "nth": 1, "times": 6, "action": "delay", "seconds": 1},
            {"method": "POST", "path": "/nodes/pve/qemu/*/config", "nth": 1, "times": 6, "action": "delay", "seconds": 1},
        ]));
        let racing: Vec<_> = (0..6).map(|_| lab.start(options.clone())).collect();
        let results: Vec<Value> = racing.into_iter().map(|child| lab.ended(child)).collect();
        let won = results
            .iter()
            .filter(|r| r["changed"] == json!(true))
            .count();
        let guarded = results
            .iter()
            .filter(|r| r["error"]["kind"] == "guarded")
            .count();
        assert_eq!((won, guarded), (1, 5), "{more}: {results:#?}");
        lab.faults(json!([]));
        lab.configure(vmid, &[("tags", "waiting")]);
    }
}

#[test]
fn a_lost_answer_is_settled_or_refused() {
    let lab = lab();
    let vmid = lab.ok(vm(json!({"memory": 128, "tags": ["waiting"]})))["vmid"]
        .as_u64()
        .unwrap();
    let moved = vm(json!({"only_if_tagged": ["waiting"], "tags": ["installing"]}));
    let fault = |action: &str| {
        lab.faults(json!([{"method": "PUT", "path": "/nodes/pve/qemu/*/config", "nth": 1, "action": action}]));
    };
    fault("drop-before");
    lab.changed(moved.clone());
    lab.configure(vmid, &[("tags", "waiting")]);
    fault("drop-after");
    assert_snapshot!(failure(&lab.fails(moved)), @"
    guarded: VM 100 (web1) on pve is not touched: it lacks the tag waiting (only_if_tagged); its tags are: installing
      the answer to a change by this task was lost, so that may have been this task or another one
    ");
}
