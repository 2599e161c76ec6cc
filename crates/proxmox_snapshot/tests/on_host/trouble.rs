//! Locks, lost answers, tasks that are cut off, and others who are quicker.

use std::time::Duration;

use crate::lab::Lab;
use module_lab::with;
use serde_json::{Value, json};

fn snapshot(name: &str, more: Value) -> Value {
    with(json!({"vmid": 101, "snapname": name, "timeout": 60}), more)
}

fn count(lab: &Lab, request: &str) -> usize {
    lab.writes().iter().filter(|one| *one == request).count()
}

#[test]
fn a_lock_is_waited_for_and_named_when_it_stays() {
    let lab = Lab::new();
    lab.edit(|text| format!("lock: backup\n{text}"));
    let failed = lab.refuses(
        snapshot("s1", json!({"timeout": 2})),
        "locked",
        "VM 101 (web1): it is locked by 'backup'",
    );
    assert!(
        failed["error"]["hint"]
            .as_str()
            .unwrap()
            .contains("qm unlock 101"),
        "{failed:#}"
    );
    let would = lab.would_change(snapshot("s1", json!({})));
    assert!(
        would["warnings"][0]
            .as_str()
            .unwrap()
            .contains("locked by 'backup'"),
        "{would:#}"
    );
    let waiting = lab.start(snapshot("s1", json!({})));
    std::thread::sleep(Duration::from_millis(1500));
    assert!(lab.snapshots().is_empty());
    lab.edit(|text| text.replace("lock: backup\n", ""));
    let made = lab.answer(waiting.wait_with_output().unwrap());
    assert_eq!(made["changed"], json!(true), "{made:#}");
    assert_eq!(lab.snapshots(), ["s1"]);
}

#[test]
fn a_hibernated_vm_is_not_waited_for() {
    let lab = Lab::new();
    lab.edit(|text| format!("lock: suspended\n{text}"));
    // Well before the end of the time.
    let begun = std::time::Instant::now();
    lab.refuses(
        snapshot("s1", json!({"timeout": 600})),
        "locked",
        "it is hibernated",
    );
    assert!(begun.elapsed() < Duration::from_secs(300));
}

#[test]
fn a_lost_answer_is_settled_and_nothing_is_done_twice() {
    let calls = [
        ("POST", "/nodes/pve/qemu/101/snapshot", "present", "s2"),
        ("DELETE", "/nodes/pve/qemu/101/snapshot/s1", "absent", "s1"),
        (
            "POST",
            "/nodes/pve/qemu/101/snapshot/s1/rollback",
            "rolled_back",
            "s1",
        ),
    ];
    for (method, path, state, name) in calls {
        for (fault, sent) in [("596-after-effect", 1), ("drop-after", 1), ("orphan", 2)] {
            let lab = Lab::new();
            lab.snapshot("s1");
            lab.faults(json!([{"method": method, "path": path, "nth": 1, "action": fault}]));
            let before = count(&lab, &format!("{method} {path}"));
            let done = lab.changed(snapshot(name, json!({"state": state})));
            assert_eq!(done["done"].as_array().unwrap().len(), 1, "{done:#}");
            let after = count(&lab, &format!("{method} {path}"));
            assert_eq!(after - before, sent, "{state} {fault}");
            let expected: &[&str] = match state {
                "present" => &["s1", "s2"],
                "absent" => &[],
                _ => &["s1"],
            };
            assert_eq!(lab.snapshots(), expected, "{state} {fault}");
        }
    }
}

#[test]
fn a_task_that_fails_is_told_in_pves_words() {
    let lab = Lab::new();
    lab.faults(json!([{
        "method": "POST", "path": "/nodes/pve/qemu/101/snapshot", "action": "task-fail", "message": "out of space",
    }]));
    let failed = lab.fails(snapshot("s1", json!({})));
    assert_eq!(failed["error"]["kind"], "task_failed");
    let msg = failed["msg"].as_str().unwrap();
    assert!(
        msg.contains("cannot make a snapshot of VM 101 (web1)") && msg.contains("out of space"),
        "{msg}"
    );
    assert_eq!(failed["changed"], json!(false));
}

#[test]
fn what_was_done_before_a_failure_is_reported() {
    let lab = Lab::new();
    lab.snapshot("auto-1");
    lab.faults(json!([{
        "method": "DELETE", "path": "/nodes/pve/qemu/101/snapshot/auto-1", "action": "task-fail", "message": "busy",
    }]));
    let options = snapshot(
        "auto-2",
        json!({"retention": 1, "retention_prefix": "auto-"}),
    );
    let failed = lab.fails(options);
    assert_eq!(
        (&failed["changed"], &failed["done"]),
        (&json!(true), &json!(["created auto-2"]))
    );
    assert_eq!(lab.snapshots(), ["auto-1", "auto-2"]);
}

#[test]
fn a_snapshot_that_was_cut_off_is_refused_and_can_be_deleted() {
    let lab = Lab::new();
    lab.faults(json!([{
        "method": "POST", "path": "/nodes/pve/qemu/101/snapshot", "nth": 1, "action": "kill-worker",
    }]));
    let failed = lab.fails(snapshot("s1", json!({})));
    assert_eq!(failed["error"]["kind"], "task_failed", "{failed:#}");
    let refused = lab.refuses(snapshot("s1", json!({})), "cut_off", "snapstate 'prepare'");
    assert!(
        refused["error"]["hint"]
            .as_str()
            .unwrap()
            .contains("state: absent with force: true"),
        "{refused:#}"
    );
    let back = json!({"state": "rolled_back"});
    lab.refuses(snapshot("s1", back), "cut_off", "snapstate 'prepare'");
    let gone = snapshot(
        "s1",
        json!({"state": "absent", "force": true, "timeout": 2}),
    );
    lab.refuses(gone, "locked", "locked by 'snapshot'");
    // qm unlock 101
    lab.edit(|text| text.replace("lock: snapshot\n", ""));
    lab.changed(snapshot("s1", json!({"state": "absent", "force": true})));
    assert!(lab.snapshots().is_empty());
}

#[test]
fn two_at_once_make_one_snapshot() {
    let lab = Lab::new();
    let options = snapshot("s1", json!({"description": "same"}));
    let running: Vec<_> = (0..3).map(|_| lab.start(options.clone())).collect();
    let ended: Vec<Value> = running
        .into_iter()
        .map(|child| lab.answer(child.wait_with_output().unwrap()))
        .collect();
    assert!(
        ended.iter().all(|one| one.get("failed").is_none()),
        "{ended:#?}"
    );
    let changed = ended.iter().filter(|one| one["changed"] == json!(true));
    assert_eq!(changed.count(), 1, "{ended:#?}");
    assert_eq!(lab.snapshots(), ["s1"]);
}

/// SIGKILL at several moments; PVE goes on with what it has begun.
#[test]
fn a_module_that_is_killed_leaves_what_the_next_run_completes() {
    for (state, left) in [("present", vec!["s0", "s1"]), ("absent", vec!["s0"])] {
        for delay in [20, 60, 120, 250, 500] {
            let lab = Lab::new();
            lab.snapshot("s0");
            if state == "absent" {
                lab.snapshot("s1");
            }
            let mut run = lab.start(snapshot("s1", json!({"state": state})));
            std::thread::sleep(Duration::from_millis(delay));
            run.kill().unwrap();
            run.wait().unwrap();
            lab.ok(snapshot("s1", json!({"state": state})));
            assert_eq!(lab.snapshots(), left, "{state} after {delay} ms");
            lab.unchanged(snapshot("s1", json!({"state": state})));
            assert_eq!(lab.config().get("lock"), None);
        }
    }
}
