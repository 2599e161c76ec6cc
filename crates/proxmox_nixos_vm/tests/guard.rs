//! Tags as guards and as a compare-and-set.

mod common;

use common::{Lab, with};
use serde_json::{Value, json};

fn vm(more: Value) -> Value {
    with(json!({"node": "pve", "name": "web1", "timeout": 100}), more)
}

#[test]
fn a_vm_without_the_guard_tag_is_not_touched() {
    let lab = Lab::new();
    let theirs = lab.ok(vm(json!({"memory": 128, "tags": ["theirs"]})))["vmid"].clone();
    let writes = lab.writes();
    for state in ["present", "started", "stopped", "restarted", "absent"] {
        let refused = lab.fails(vm(
            json!({"guard_tag": "ours", "state": state, "memory": 256}),
        ));
        assert_eq!(refused["error"]["kind"], "guarded", "{state}: {refused:#}");
        assert!(
            refused["msg"]
                .as_str()
                .unwrap()
                .contains("it lacks the tag ours (guard_tag); its tags are: theirs"),
            "{refused:#}"
        );
        assert_eq!(
            (&refused["vmid"], &refused["tags"]),
            (&theirs, &json!(["theirs"]))
        );
    }
    assert_eq!(
        lab.ok(vm(json!({"guard_tag": "ours", "state": "current"})))["exists"],
        json!(true)
    );
    assert_eq!(lab.writes(), writes);
}

#[test]
fn a_new_vm_gets_the_guard_tag_and_keeps_it() {
    let lab = Lab::new();
    let ours = |more: Value| {
        let mut options = vm(more);
        options["guard_tag"] = json!("Ours");
        options
    };
    assert_eq!(
        lab.ok(ours(json!({"memory": 128})))["tags"],
        json!(["ours"])
    );
    let tagged = lab.ok(ours(json!({"tags": ["web"]})));
    assert_eq!(
        (&tagged["changed"], &tagged["tags"]),
        (&json!(true), &json!(["ours", "web"]))
    );
    assert_eq!(
        lab.ok(ours(json!({"tags": ["web"]})))["changed"],
        json!(false)
    );
    assert_eq!(lab.ok(ours(json!({"tags": []})))["tags"], json!(["ours"]));
    assert_eq!(
        lab.ok(ours(json!({"state": "absent"})))["exists"],
        json!(false)
    );
}

#[test]
fn tags_are_compared_and_set() {
    let lab = Lab::new();
    let moved = |from: &str, to: &str| vm(json!({"only_if_tagged": [from], "tags": ["web", to]}));
    let missing = lab.fails(moved("waiting", "installing"));
    assert_eq!(missing["error"]["kind"], "guarded", "{missing:#}");
    assert_eq!(lab.vms(), []);
    assert_eq!(
        lab.ok(vm(json!({"only_if_tagged": ["x"], "state": "absent"})))["changed"],
        json!(false)
    );

    lab.ok(vm(
        json!({"memory": 128, "tags": ["web", "waiting"], "unless_tagged": ["waiting"]}),
    ));
    let check = lab.check(moved("waiting", "installing"));
    assert_eq!(check["changed"], json!(true));
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
    let refused = lab.fails(back);
    assert!(
        refused["msg"]
            .as_str()
            .unwrap()
            .contains("has the tag installing (unless_tagged)"),
        "{refused:#}"
    );
    assert_eq!(
        lab.ok(vm(json!({"state": "current"})))["config"]["memory"],
        "128"
    );
}

#[test]
fn of_several_that_move_a_vm_one_succeeds() {
    let lab = Lab::new();
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
        let results: Vec<Value> = racing
            .into_iter()
            .map(|child| lab.answer(child.wait_with_output().unwrap()))
            .collect();
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
        lab.configure(vmid, "tags", "waiting");
    }
}

#[test]
fn a_lost_answer_is_settled_or_refused() {
    let lab = Lab::new();
    let vmid = lab.ok(vm(json!({"memory": 128, "tags": ["waiting"]})))["vmid"]
        .as_u64()
        .unwrap();
    let moved = vm(json!({"only_if_tagged": ["waiting"], "tags": ["installing"]}));
    let fault = |action: &str| {
        lab.faults(json!([{"method": "PUT", "path": "/nodes/pve/qemu/*/config", "nth": 1, "action": action}]));
    };
    fault("drop-before");
    assert_eq!(lab.ok(moved.clone())["changed"], json!(true));
    lab.configure(vmid, "tags", "waiting");
    fault("drop-after");
    let refused = lab.fails(moved);
    assert_eq!(refused["error"]["kind"], "guarded");
    assert!(
        refused["error"]["hint"]
            .as_str()
            .unwrap()
            .contains("answer to a change by this task was lost"),
        "{refused:#}"
    );
}
