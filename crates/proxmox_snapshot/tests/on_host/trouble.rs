//! Locks, lost answers, tasks that are cut off, and others who are quicker.

use std::time::Duration;

use crate::lab::{lab, snapshot, snapshots, take};
use insta::assert_snapshot;
use module_lab::{Lab, failure, shown};
use serde_json::{Value, json};

fn count(lab: &Lab, request: &str) -> usize {
    lab.writes().iter().filter(|one| *one == request).count()
}

#[test]
fn a_lock_is_waited_for_and_named_when_it_stays() {
    let lab = lab();
    lab.edit(101, |text| format!("lock: backup\n{text}"));
    assert_snapshot!(lab.refuses(snapshot("s1", json!({"timeout": 2}))), @"
    locked: VM 101 (web1): it is locked by 'backup' (waited [seconds] s)
      wait for the task that holds the lock (pvesh get /cluster/tasks), or raise timeout. If no such task runs, it was cut off and left its lock: qm unlock 101 on node pve removes it
    ");
    assert_snapshot!(shown(&lab.would_change(snapshot("s1", json!({}))), "warnings"), @r#"warnings: ["VM 101 (web1) is locked by 'backup'; the task would wait for it"]"#);
    let waiting = lab.start(snapshot("s1", json!({})));
    std::thread::sleep(Duration::from_millis(1500));
    assert!(snapshots(&lab).is_empty());
    lab.edit(101, |text| text.replace("lock: backup\n", ""));
    let made = lab.ended(waiting);
    assert_eq!(made["changed"], json!(true), "{made:#}");
    assert_eq!(snapshots(&lab), ["s1"]);
}

#[test]
fn a_hibernated_vm_is_not_waited_for() {
    let lab = lab();
    lab.edit(101, |text| format!("lock: suspended\n{text}"));
    // Well before the end of the time.
    let begun = std::time::Instant::now();
    assert_snapshot!(lab.refuses(snapshot("s1", json!({"timeout": 600}))), @"
    locked: VM 101 (web1): it is hibernated (lock 'suspended')
      start the VM, which resumes it, and shut it down if it is to be stopped; then run the task again
    ");
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
            let lab = lab();
            take(&lab, "s1");
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
            assert_eq!(snapshots(&lab), expected, "{state} {fault}");
        }
    }
}

#[test]
fn a_task_that_fails_is_told_in_pves_words() {
    let lab = lab();
    lab.faults(json!([{
        "method": "POST", "path": "/nodes/pve/qemu/101/snapshot", "action": "task-fail", "message": "out of space",
    }]));
    assert_snapshot!(failure(&lab.fails(snapshot("s1", json!({})))), @"
    task_failed: cannot make a snapshot of VM 101 (web1): task qmsnapshot 101 on pve failed: out of space
      its whole log: pvenode task log UPID:pve:[task]:qmsnapshot:101:root@pam!full:
    ");
}

#[test]
fn what_was_done_before_a_failure_is_reported() {
    let lab = lab();
    take(&lab, "auto-1");
    lab.faults(json!([{
        "method": "DELETE", "path": "/nodes/pve/qemu/101/snapshot/auto-1", "action": "task-fail", "message": "busy",
    }]));
    let options = json!({"retention": 1, "retention_prefix": "auto-"});
    assert_snapshot!(failure(&lab.fails(snapshot("auto-2", options))), @r#"
    task_failed: cannot delete the snapshot auto-1 of VM 101 (web1): task qmdelsnapshot 101 on pve failed: busy
      its whole log: pvenode task log UPID:pve:[task]:qmdelsnapshot:101:root@pam!full:
      changed: ["created auto-2"]
    "#);
    assert_eq!(snapshots(&lab), ["auto-1", "auto-2"]);
}

#[test]
fn a_snapshot_that_was_cut_off_is_refused_and_can_be_deleted() {
    let lab = lab();
    lab.faults(json!([{
        "method": "POST", "path": "/nodes/pve/qemu/101/snapshot", "nth": 1, "action": "kill-worker",
    }]));
    assert_snapshot!(failure(&lab.fails(snapshot("s1", json!({})))), @"
    task_failed: cannot make a snapshot of VM 101 (web1): task qmsnapshot 101 on pve failed: unexpected status
      its whole log: pvenode task log UPID:pve:[task]:qmsnapshot:101:root@pam!full:
    ");
    let cases = [
        json!({}),
        json!({"state": "rolled_back"}),
        json!({"state": "absent", "force": true, "timeout": 2}),
    ];
    assert_snapshot!(lab.refuses_each(&snapshot("s1", json!({})), cases), @"
    2 times cut_off: VM 101 (web1): the snapshot s1 is incomplete (snapstate 'prepare')
      wait for its task, if one is running (pvesh get /cluster/tasks). Otherwise delete it: qm unlock 101 on node pve if the VM is locked, then state: absent with force: true
    locked: VM 101 (web1): it is locked by 'snapshot' (waited [seconds] s)
      wait for the task that holds the lock (pvesh get /cluster/tasks), or raise timeout. If no such task runs, it was cut off and left its lock: qm unlock 101 on node pve removes it
    ");
    // qm unlock 101
    lab.edit(101, |text| text.replace("lock: snapshot\n", ""));
    lab.changed(snapshot("s1", json!({"state": "absent", "force": true})));
    assert!(snapshots(&lab).is_empty());
}

#[test]
fn two_at_once_make_one_snapshot() {
    let lab = lab();
    let options = snapshot("s1", json!({"description": "same"}));
    let running: Vec<_> = (0..3).map(|_| lab.start(options.clone())).collect();
    let ended: Vec<Value> = running.into_iter().map(|child| lab.ended(child)).collect();
    assert!(
        ended.iter().all(|one| one.get("failed").is_none()),
        "{ended:#?}"
    );
    let changed = ended.iter().filter(|one| one["changed"] == json!(true));
    assert_eq!(changed.count(), 1, "{ended:#?}");
    assert_eq!(snapshots(&lab), ["s1"]);
}

/// SIGKILL at several moments; PVE goes on with what it has begun.
#[test]
fn a_module_that_is_killed_leaves_what_the_next_run_completes() {
    for (state, left) in [("present", vec!["s0", "s1"]), ("absent", vec!["s0"])] {
        for delay in [20, 60, 120, 250, 500] {
            let lab = lab();
            take(&lab, "s0");
            if state == "absent" {
                take(&lab, "s1");
            }
            let mut run = lab.start(snapshot("s1", json!({"state": state})));
            std::thread::sleep(Duration::from_millis(delay));
            run.kill().unwrap();
            run.wait().unwrap();
            lab.ok(snapshot("s1", json!({"state": state})));
            assert_eq!(snapshots(&lab), left, "{state} after {delay} ms");
            lab.unchanged(snapshot("s1", json!({"state": state})));
            assert_eq!(lab.config(101).get("lock"), None);
        }
    }
}

/// The next run finds the task under way, and the snapshot incomplete.
#[test]
fn a_task_of_a_killed_module_is_waited_for() {
    let calls = [
        (
            "POST",
            "/nodes/pve/qemu/101/snapshot",
            "present",
            vec!["s1"],
        ),
        (
            "DELETE",
            "/nodes/pve/qemu/101/snapshot/s1",
            "absent",
            vec![],
        ),
    ];
    for (method, path, state, left) in calls {
        let lab = lab();
        if state == "absent" {
            take(&lab, "s1");
        }
        lab.faults(json!([
            {"method": method, "path": path, "nth": 1, "action": "slow-copy", "seconds": 5},
        ]));
        let mut run = lab.start(snapshot("s1", json!({"state": state})));
        let begun = |lab: &Lab| {
            lab.config(101)
                .get("lock")
                .and_then(Value::as_str)
                .is_some_and(|lock| lock.starts_with("snapshot"))
        };
        while !begun(&lab) {
            assert!(run.try_wait().unwrap().is_none(), "it has ended");
            std::thread::sleep(Duration::from_millis(20));
        }
        run.kill().unwrap();
        run.wait().unwrap();
        let next = lab.ok(snapshot("s1", json!({"state": state})));
        assert_eq!(next["changed"], json!(false), "{next:#}");
        assert_eq!(snapshots(&lab), left, "{state}");
    }
}
