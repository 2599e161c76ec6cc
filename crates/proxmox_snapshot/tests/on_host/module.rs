//! What the module does.

use crate::lab::Lab;
use module_lab::with;
use serde_json::{Value, json};

fn snapshot(name: &str, more: Value) -> Value {
    with(
        json!({"name": "web1", "snapname": name, "timeout": 60}),
        more,
    )
}

#[test]
fn a_snapshot_is_made_once_and_deleted_once() {
    let lab = Lab::new();
    let wanted = snapshot("s1", json!({"description": "first"}));
    let would = lab.would_change(wanted.clone());
    assert_eq!(would["msg"], "VM 101 (web1): would create s1");
    let after = json!({"snapshots": {"s1": {"description": "first", "vmstate": false}}});
    assert_eq!(
        (&would["diff"]["before"], &would["diff"]["after"]),
        (&json!({"snapshots": {}}), &after)
    );
    assert!(lab.snapshots().is_empty());
    let made = lab.changed(wanted.clone());
    assert_eq!(made["diff"], would["diff"]);
    assert_eq!(
        (&made["vmid"], &made["node"], &made["done"]),
        (&json!(101), &json!("pve"), &json!(["created s1"]))
    );
    assert_eq!(made["snapshot"]["description"], "first");
    assert!(made["snapshot"]["snaptime"].as_u64().unwrap() > 1_700_000_000);
    assert_eq!(lab.snapshots(), ["s1"]);
    let again = lab.unchanged(wanted);
    assert_eq!(again["snapshot"], made["snapshot"]);
    // Another description, by VMID; without one it stays.
    let other = json!({"vmid": 101, "snapname": "s1", "description": "a\nb"});
    lab.would_change(other.clone());
    let described = lab.changed(other.clone());
    assert_eq!(described["done"], json!(["described s1"]));
    assert_eq!(lab.description("s1"), "a\nb");
    lab.unchanged(other);
    lab.unchanged(snapshot("s1", json!({})));
    lab.unchanged(snapshot("s1", json!({"vmstate": true})));
    let gone = snapshot("s1", json!({"state": "absent"}));
    let would = lab.would_change(gone.clone());
    assert_eq!(
        would["diff"]["before"],
        json!({"snapshots": {"s1": {"description": "a\nb", "vmstate": false}}})
    );
    assert_eq!(lab.changed(gone.clone())["snapshot"], Value::Null);
    lab.unchanged(gone);
    assert!(lab.snapshots().is_empty());
}

#[test]
fn a_run_without_changes_is_three_requests() {
    let lab = Lab::new();
    lab.snapshot("s1");
    let before = lab.requests().len();
    lab.unchanged(json!({"vmid": 101, "snapname": "s1"}));
    assert_eq!(lab.requests()[before..].len(), 3, "{:?}", lab.requests());
}

#[test]
fn a_rollback_restores_disk_and_options_but_not_the_notes() {
    let lab = Lab::new();
    lab.write_disk(1);
    lab.snapshot("s1");
    lab.write_disk(2);
    lab.configure(&[
        ("memory", "512"),
        ("tags", "two"),
        ("description", "of today"),
    ]);
    lab.snapshot("s2");
    let back = snapshot("s1", json!({"state": "rolled_back"}));
    let would = lab.would_change(back.clone());
    assert_eq!(
        would["diff"]["before"],
        json!({"memory": "512", "tags": "two", "status": "stopped", "parent": "s2"})
    );
    assert_eq!(
        would["diff"]["after"],
        json!({"memory": "256", "tags": "one", "status": "stopped", "parent": "s1"})
    );
    assert!(lab.disk_has(2));
    for _ in 0..2 {
        // It is an action: each time the disk may have been written to.
        let done = lab.changed(back.clone());
        assert_eq!(done["done"], json!(["rolled back to s1"]));
        assert_eq!(done["status"], "stopped");
        assert!(lab.disk_has(1));
        lab.write_disk(3);
    }
    let config = lab.config();
    assert_eq!(
        (&config["memory"], &config["tags"], &config["description"]),
        (&json!("256"), &json!("one"), &json!("of today"))
    );
    assert_eq!(lab.snapshots(), ["s1", "s2"]);
}

#[test]
fn a_running_vm_is_stopped_by_a_rollback_and_runs_again_if_that_is_asked_for() {
    let lab = Lab::new();
    lab.snapshot("s1");
    lab.start_vm();
    let back = |more| snapshot("s1", with(json!({"state": "rollback"}), more));
    let started = lab.changed(back(json!({"start": true})));
    assert_eq!(started["done"], json!(["rolled back to s1", "started"]));
    assert_eq!(
        (&started["status"], lab.status()),
        (&json!("running"), json!("running"))
    );
    assert!(
        started
            .get("warnings")
            .is_none_or(|list| list == &json!([]))
    );
    let stopped = lab.changed(back(json!({})));
    assert_eq!(
        (&stopped["status"], lab.status()),
        (&json!("stopped"), json!("stopped"))
    );
    assert!(
        stopped["warnings"][0]
            .as_str()
            .unwrap()
            .contains("start: true starts it"),
        "{stopped:#}"
    );
}

#[test]
fn a_snapshot_with_memory_resumes_the_guest() {
    let lab = Lab::new();
    let with_memory = snapshot("m1", json!({"vmstate": true}));
    let without = lab.would_change(with_memory.clone());
    assert!(
        without["warnings"][0]
            .as_str()
            .unwrap()
            .contains("is stopped"),
        "{without:#}"
    );
    lab.start_vm();
    let made = lab.changed(with_memory);
    assert_eq!(made["snapshot"]["vmstate"], json!(true), "{made:#}");
    let back = snapshot("m1", json!({"state": "rolled_back"}));
    let resumed = lab.changed(back);
    assert_eq!(resumed["status"], "running", "{resumed:#}");
}

#[test]
fn a_vm_whose_smbios1_a_rollback_restores_is_started() {
    let lab = Lab::new();
    lab.snapshot("s1");
    lab.configure(&[("smbios1", "uuid=5d5a1ca8-3a4f-4d0c-9f3a-2f0a3a1c0e11")]);
    let started = lab.changed(snapshot(
        "s1",
        json!({"state": "rolled_back", "start": true}),
    ));
    assert_eq!(started["done"], json!(["rolled back to s1", "started"]));
}

#[test]
fn retention_deletes_the_oldest_of_its_own_and_nothing_else() {
    let lab = Lab::new();
    for name in ["auto-1", "by-hand", "auto-2"] {
        lab.snapshot(name);
    }
    // PVE's times are whole seconds.
    lab.edit(|text| {
        let mut time = 1_700_000_000;
        let lines = text
            .lines()
            .map(|line| match line.starts_with("snaptime: ") {
                true => {
                    time += 10;
                    format!("snaptime: {time}\n")
                }
                false => format!("{line}\n"),
            });
        lines.collect()
    });
    let kept = |name: &str, more| {
        snapshot(
            name,
            with(json!({"retention": 2, "retention_prefix": "auto-"}), more),
        )
    };
    let would = lab.would_change(kept("auto-3", json!({})));
    assert_eq!(
        would["msg"],
        "VM 101 (web1): would create auto-3; delete auto-1"
    );
    let made = lab.changed(kept("auto-3", json!({})));
    assert_eq!(made["done"], json!(["created auto-3", "deleted auto-1"]));
    assert_eq!(lab.snapshots(), ["auto-2", "auto-3", "by-hand"]);
    // Nothing is created, so nothing is deleted.
    lab.unchanged(kept("auto-3", json!({"retention": 1})));
    let all = kept("auto-4", json!({"retention": 1, "retention_prefix": ""}));
    lab.changed(all);
    assert_eq!(lab.snapshots(), ["auto-4"]);
    lab.refuses(
        snapshot("x1", json!({"retention": 1})),
        "invalid_option",
        "retention_prefix: is required",
    );
    lab.refuses(
        kept("x1", json!({})),
        "invalid_option",
        "snapname: must begin with retention_prefix 'auto-'",
    );
}

#[test]
fn what_is_refused_is_refused_before_anything_is_done() {
    let lab = Lab::new();
    lab.snapshot("s1");
    lab.post(
        "/nodes/pve/qemu",
        &[("vmid", "102"), ("name", "raw"), ("scsi0", "local:0.0625")],
    );
    lab.post("/nodes/pve/qemu", &[("vmid", "103"), ("name", "golden")]);
    lab.post("/nodes/pve/qemu/103/template", &[]);
    for name in ["current", "Pending", "1x", "a b", "x", &"s".repeat(41)] {
        lab.refuses(snapshot(name, json!({})), "invalid_option", "snapname: ");
    }
    let raw = json!({"vmid": 102, "snapname": "s1"});
    let refused = lab.refuses(raw, "unsupported", "scsi0: local:102/vm-102-disk-0.raw");
    assert!(
        refused["error"]["hint"]
            .as_str()
            .unwrap()
            .contains("qm disk move 102"),
        "{refused:#}"
    );
    let template = json!({"name": "golden", "snapname": "s1"});
    lab.refuses(template.clone(), "template", "is a template");
    lab.unchanged(with(template, json!({"state": "absent"})));
    let back = json!({"state": "rolled_back"});
    lab.refuses(snapshot("s9", back), "not_found", "(available: s1)");
    let nobody = json!({"name": "nobody", "snapname": "s1"});
    lab.refuses(nobody.clone(), "not_found", "VM nobody does not exist");
    let gone = lab.unchanged(with(nobody, json!({"state": "absent"})));
    assert_eq!(gone["msg"], "VM nobody does not exist");
    lab.refuses(
        json!({"vmid": 101, "name": "other", "snapname": "s1"}),
        "name_differs",
        "has the name web1",
    );
    lab.refuses(
        json!({"snapname": "s1"}),
        "invalid_option",
        "one of the following is required: vmid, name",
    );
    let moved = lab.refuses(
        json!({"hostname": "web1", "vmid": 101, "unbind": false}),
        "invalid_option",
        "Unsupported parameters",
    );
    let hint = moved["error"]["hint"].as_str().unwrap();
    assert!(
        hint.contains("instead of hostname: name")
            && hint.contains("instead of unbind: nothing: it is for containers"),
        "{hint}"
    );
}

#[test]
fn secrets_of_cloud_init_are_in_no_diff() {
    let lab = Lab::new();
    lab.configure(&[("cipassword", "correct-horse")]);
    lab.snapshot("s1");
    lab.configure(&[("delete", "cipassword")]);
    let would = lab.would_change(snapshot("s1", json!({"state": "rolled_back"})));
    assert_eq!(would["diff"]["after"]["cipassword"], "(set)", "{would:#}");
    assert!(!would.to_string().contains("correct-horse"));
}
