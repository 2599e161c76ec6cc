//! Many at once, lost answers, and others who change the same VM.

mod common;

use std::collections::BTreeSet;
use std::process::{Child, Stdio};

use common::Lab;
use serde_json::{Value, json};

fn small(name: &str) -> Value {
    json!({"node": "pve", "name": name, "memory": 128, "scsi": {"scsi0": "local:0.1"}, "timeout": 100})
}

fn start(lab: &Lab, options: Value) -> Child {
    lab.command(options, false)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn end(child: Child) -> Value {
    let output = child.wait_with_output().unwrap();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{result:#}");
    result
}

#[test]
fn twenty_at_once_without_a_vmid_are_twenty_vms() {
    let lab = Lab::new();
    let names: Vec<String> = (0..20).map(|n| format!("vm{n}")).collect();
    let running: Vec<Child> = names.iter().map(|name| start(&lab, small(name))).collect();
    let vmids: BTreeSet<u64> = running
        .into_iter()
        .map(|child| end(child)["vmid"].as_u64().unwrap())
        .collect();
    assert_eq!(vmids.len(), 20);
    let there = lab.vms();
    assert_eq!(there.len(), 20);
    assert_eq!(
        there
            .into_iter()
            .map(|(_, name)| name)
            .collect::<BTreeSet<_>>(),
        names.into_iter().collect()
    );
}

#[test]
fn the_same_vm_asked_for_twice_at_once_is_made_once() {
    let lab = Lab::new();
    let running: Vec<Child> = (0..4).map(|_| start(&lab, small("one"))).collect();
    let changed: Vec<bool> = running
        .into_iter()
        .map(|child| end(child)["changed"].as_bool().unwrap())
        .collect();
    assert_eq!(changed.iter().filter(|changed| **changed).count(), 1);
    assert_eq!(lab.vms().len(), 1);
}

#[test]
fn a_creation_without_an_answer_makes_one_vm() {
    for fault in ["596-after-effect", "drop-after", "drop-before"] {
        let lab = Lab::new();
        lab.faults(
            json!([{"method": "POST", "path": "/nodes/pve/qemu", "nth": 1, "action": fault}]),
        );
        let made = lab.ok(small("web1"));
        assert_eq!(made["changed"], json!(true), "{fault}");
        assert_eq!(
            lab.vms(),
            [(made["vmid"].as_u64().unwrap() as u32, "web1".to_owned())],
            "{fault}"
        );
        assert_eq!(lab.ok(small("web1"))["changed"], json!(false), "{fault}");
    }
}

#[test]
fn changes_without_an_answer_are_made_once() {
    for fault in ["596-after-effect", "drop-after", "drop-before"] {
        let lab = Lab::new();
        lab.ok(small("web1"));
        let mut more = small("web1");
        more["memory"] = json!(256);
        more["scsi"] = json!({"scsi0": "local:0.2", "scsi1": "local:0.1"});
        lab.faults(json!([
            {"method": "POST", "path": "/nodes/pve/qemu/*/config", "nth": 1, "action": fault},
            {"method": "PUT", "path": "/nodes/pve/qemu/*/resize", "nth": 1, "action": fault},
        ]));
        let changed = lab.ok(more.clone());
        assert_eq!(changed["config"]["memory"], "256", "{fault}");
        assert_eq!(
            changed["config"].get("unused0"),
            None,
            "{fault}: {changed:#}"
        );
        assert_eq!(lab.ok(more)["changed"], json!(false), "{fault}");
    }
}

#[test]
fn power_and_removal_without_an_answer() {
    for fault in ["596-after-effect", "drop-after", "drop-before"] {
        let lab = Lab::new();
        lab.ok(small("web1"));
        for action in ["start", "shutdown"] {
            lab.faults(json!([
                {"method": "POST", "path": format!("/nodes/pve/qemu/*/status/{action}"), "nth": 1, "action": fault},
                {"method": "DELETE", "path": "/nodes/pve/qemu/*", "nth": 1, "action": fault},
            ]));
            let (state, status) = if action == "start" {
                ("started", "running")
            } else {
                ("stopped", "stopped")
            };
            let done = lab.ok(json!({"name": "web1", "state": state, "timeout": 60}));
            assert_eq!(
                (&done["changed"], &done["status"]),
                (&json!(true), &json!(status)),
                "{fault}"
            );
        }
        let gone = lab.ok(json!({"name": "web1", "state": "absent", "timeout": 60}));
        assert_eq!(gone["changed"], json!(true), "{fault}");
        assert_eq!(lab.vms(), [], "{fault}");
    }
}

#[test]
fn locks_are_waited_out() {
    let lab = Lab::new();
    lab.ok(small("web1"));
    lab.faults(json!([
        {"method": "POST", "path": "/nodes/pve/qemu/*/status/start", "nth": 1, "times": 2, "action": "lock"},
        {"method": "PUT", "path": "/nodes/pve/qemu/*/config", "nth": 1, "action": "lock"},
    ]));
    let done = lab.ok(json!({"name": "web1", "state": "started", "memory": 200, "timeout": 90}));
    assert_eq!(
        (&done["changed"], &done["status"]),
        (&json!(true), &json!("running"))
    );
}

#[test]
fn a_failed_task_is_reported_in_its_own_words() {
    let lab = Lab::new();
    lab.faults(json!([{"method": "POST", "path": "/nodes/pve/qemu", "action": "full"}]));
    let failed = lab.fails(small("web1"));
    assert!(
        failed["msg"]
            .as_str()
            .unwrap()
            .contains("No space left on device"),
        "{failed:#}"
    );
    assert_eq!(lab.vms(), []);

    lab.faults(json!([]));
    lab.ok(small("web1"));
    let message = "bridge 'vmbr0' does not exist";
    lab.faults(json!([{"path": "/nodes/pve/qemu/*/status/start", "action": "task-fail", "message": message}]));
    let failed = lab.fails(json!({"name": "web1", "state": "started", "memory": 200}));
    assert!(
        failed["msg"].as_str().unwrap().contains(message),
        "{failed:#}"
    );
    assert_eq!(
        failed["changed"],
        json!(true),
        "the memory was changed before: {failed:#}"
    );
}

#[test]
fn a_task_that_was_killed_leaves_one_vm() {
    let lab = Lab::new();
    // The answer of the creation never comes, the VM is made: then the task is killed.
    lab.faults(json!([{"method": "POST", "path": "/nodes/pve/qemu", "nth": 1, "action": "drop-after"},
                      {"method": "GET", "path": "/nodes/pve/qemu/*/config", "action": "delay", "seconds": 30}]));
    let mut child = start(&lab, small("web1"));
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while lab.writes().is_empty() {
        assert!(
            std::time::Instant::now() < limit,
            "the creation was not asked for"
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    lab.faults(json!([]));
    lab.ok(small("web1"));
    assert_eq!(lab.vms().len(), 1);
}
