//! What the module does.

use crate::lab::{disk_has, lab, snapshot, snapshots, take, write_disk};
use insta::assert_snapshot;
use module_lab::{shown, with};
use serde_json::{Value, json};

#[test]
fn a_snapshot_is_made_once_and_deleted_once() {
    let lab = lab();
    let wanted = snapshot("s1", json!({"description": "first"}));
    let would = lab.would_change(wanted.clone());
    assert_snapshot!(shown(&would, "msg diff"), @"
    msg: VM 101 (web1): would create s1
    diff:
    - snapshots: {}
    + snapshots.s1.description: first
    + snapshots.s1.vmstate: false
    ");
    assert!(snapshots(&lab).is_empty());
    let made = lab.changed(wanted.clone());
    assert_eq!(made["diff"], would["diff"]);
    assert_snapshot!(shown(&made, "vmid node done snapshot"), @r#"
    vmid: 101
    node: pve
    done: ["created s1"]
    snapshot: {"name":"s1","description":"first","snaptime":[time],"vmstate":false,"parent":null}
    "#);
    assert!(made["snapshot"]["snaptime"].as_u64().unwrap() > 1_700_000_000);
    assert_eq!(snapshots(&lab), ["s1"]);
    let again = lab.unchanged(wanted);
    assert_eq!(again["snapshot"], made["snapshot"]);
    // Another description, by VMID; without one it stays.
    let other = json!({"vmid": 101, "snapname": "s1", "description": "a\nb"});
    lab.would_change(other.clone());
    assert_snapshot!(shown(&lab.changed(other.clone()), "done diff"), @r#"
    done: ["described s1"]
    diff:
    - snapshots.s1.description: first
    + snapshots.s1.description: "a\nb"
    "#);
    let config = lab.get("/nodes/pve/qemu/101/snapshot/s1/config");
    assert_eq!(config["description"], "a\nb");
    lab.unchanged(other);
    lab.unchanged(snapshot("s1", json!({})));
    lab.unchanged(snapshot("s1", json!({"vmstate": true})));
    let gone = snapshot("s1", json!({"state": "absent"}));
    assert_snapshot!(shown(&lab.would_change(gone.clone()), "diff"), @r#"
    diff:
    - snapshots.s1.description: "a\nb"
    - snapshots.s1.vmstate: false
    + snapshots: {}
    "#);
    assert_eq!(lab.changed(gone.clone())["snapshot"], Value::Null);
    lab.unchanged(gone);
    assert!(snapshots(&lab).is_empty());
}

#[test]
fn a_run_without_changes_is_three_requests() {
    let lab = lab();
    take(&lab, "s1");
    let before = lab.requests().len();
    lab.unchanged(json!({"vmid": 101, "snapname": "s1"}));
    assert_eq!(lab.requests()[before..].len(), 3, "{:?}", lab.requests());
}

#[test]
fn a_rollback_restores_disk_and_options_but_not_the_notes() {
    let lab = lab();
    write_disk(&lab, 1);
    take(&lab, "s1");
    write_disk(&lab, 2);
    let today = [
        ("memory", "512"),
        ("tags", "two"),
        ("description", "of today"),
    ];
    lab.configure(101, &today);
    take(&lab, "s2");
    let back = snapshot("s1", json!({"state": "rolled_back"}));
    assert_snapshot!(shown(&lab.would_change(back.clone()), "diff"), @"
    diff:
    - memory: 512
    - tags: two
      status: stopped
    - parent: s2
    + memory: 256
    + tags: one
    + parent: s1
    ");
    assert!(disk_has(&lab, 2));
    for _ in 0..2 {
        // It is an action: each time the disk may have been written to.
        let done = lab.changed(back.clone());
        assert_eq!(
            shown(&done, "done status"),
            "done: [\"rolled back to s1\"]\nstatus: stopped"
        );
        assert!(disk_has(&lab, 1));
        write_disk(&lab, 3);
    }
    assert_snapshot!(shown(&lab.config(101), "memory tags description"), @"
    memory: 256
    tags: one
    description: of today
    ");
    assert_eq!(snapshots(&lab), ["s1", "s2"]);
}

#[test]
fn a_running_vm_is_stopped_by_a_rollback_and_runs_again_if_that_is_asked_for() {
    let lab = lab();
    take(&lab, "s1");
    lab.power(101, "start");
    let back = |more| snapshot("s1", with(json!({"state": "rollback"}), more));
    let started = lab.changed(back(json!({"start": true})));
    assert_snapshot!(shown(&started, "done status warnings"), @r#"
    done: ["rolled back to s1","started"]
    status: running
    "#);
    assert_eq!(lab.status(101), "running");
    let stopped = lab.changed(back(json!({})));
    assert_snapshot!(shown(&stopped, "done status warnings"), @r#"
    done: ["rolled back to s1"]
    status: stopped
    warnings: ["VM 101 (web1) runs now and is stopped after the rollback; start: true starts it"]
    "#);
    assert_eq!(lab.status(101), "stopped");
}

#[test]
fn a_snapshot_with_memory_resumes_the_guest() {
    let lab = lab();
    let with_memory = snapshot("m1", json!({"vmstate": true}));
    let without = lab.would_change(with_memory.clone());
    assert_snapshot!(shown(&without, "warnings"), @r#"warnings: ["vmstate: VM 101 (web1) is stopped, so the snapshot m1 has no memory of a guest"]"#);
    lab.power(101, "start");
    let made = lab.changed(with_memory);
    assert_eq!(made["snapshot"]["vmstate"], json!(true), "{made:#}");
    let resumed = lab.changed(snapshot("m1", json!({"state": "rolled_back"})));
    assert_eq!(resumed["status"], "running", "{resumed:#}");
}

#[test]
fn a_vm_whose_smbios1_a_rollback_restores_is_started() {
    let lab = lab();
    take(&lab, "s1");
    lab.configure(
        101,
        &[("smbios1", "uuid=5d5a1ca8-3a4f-4d0c-9f3a-2f0a3a1c0e11")],
    );
    let back = snapshot("s1", json!({"state": "rolled_back", "start": true}));
    let started = lab.changed(back);
    assert_eq!(started["done"], json!(["rolled back to s1", "started"]));
}

#[test]
fn retention_deletes_the_oldest_of_its_own_and_nothing_else() {
    let lab = lab();
    for name in ["auto-1", "by-hand", "auto-2"] {
        take(&lab, name);
    }
    // PVE's times are whole seconds.
    lab.edit(101, |text| {
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
    let retention = json!({"retention": 2, "retention_prefix": "auto-"});
    let kept = |name: &str, more| snapshot(name, with(retention.clone(), more));
    assert_snapshot!(shown(&lab.would_change(kept("auto-3", json!({}))), "msg"), @"msg: VM 101 (web1): would create auto-3; delete auto-1");
    let made = lab.changed(kept("auto-3", json!({})));
    assert_eq!(made["done"], json!(["created auto-3", "deleted auto-1"]));
    assert_eq!(snapshots(&lab), ["auto-2", "auto-3", "by-hand"]);
    // Nothing is created, so nothing is deleted.
    lab.unchanged(kept("auto-3", json!({"retention": 1})));
    let all = json!({"retention": 1, "retention_prefix": ""});
    lab.changed(kept("auto-4", all));
    assert_eq!(snapshots(&lab), ["auto-4"]);
    assert_snapshot!(lab.refuses(snapshot("x1", json!({"retention": 1}))), @"invalid_option: retention_prefix: is required with retention, so that only snapshots of such names are deleted; '' stands for every snapshot of the VM");
    assert_snapshot!(lab.refuses(kept("x1", json!({}))), @"invalid_option: snapname: must begin with retention_prefix 'auto-' (got 'x1')");
}

#[test]
fn what_is_refused_is_refused_before_anything_is_done() {
    let lab = lab();
    take(&lab, "s1");
    lab.post(
        "/nodes/pve/qemu",
        &[("vmid", "102"), ("name", "raw"), ("scsi0", "local:0.0625")],
    );
    lab.post("/nodes/pve/qemu", &[("vmid", "103"), ("name", "golden")]);
    lab.post("/nodes/pve/qemu/103/template", &[]);
    let too_long = "s".repeat(41);
    let names = ["current", "Pending", "1x", "a b", "x", &too_long];
    let names = names.map(|name| json!({"snapname": name}));
    assert_snapshot!(lab.refuses_each(&json!({"name": "web1"}), names), @"
    invalid_option: snapname: 'current' is reserved by Proxmox VE
    invalid_option: snapname: 'Pending' is reserved by Proxmox VE
    invalid_option: snapname: must be a letter followed by letters, digits, _ and -, 2 to 40 characters in all (got '1x')
    invalid_option: snapname: must be a letter followed by letters, digits, _ and -, 2 to 40 characters in all (got 'a b')
    invalid_option: snapname: must be a letter followed by letters, digits, _ and -, 2 to 40 characters in all (got 'x')
    invalid_option: snapname: must be a letter followed by letters, digits, _ and -, 2 to 40 characters in all (got 'sssssssssssssssssssssssssssssssssssssssss')
    ");
    let other_vms = [
        json!({"vmid": 102}),
        json!({"name": "golden"}),
        json!({"name": "web1", "snapname": "s9", "state": "rolled_back"}),
        json!({"name": "nobody"}),
        json!({"vmid": 101, "name": "other"}),
        json!({}),
    ];
    assert_snapshot!(lab.refuses_each(&json!({"snapname": "s1"}), other_vms), @"
    unsupported: VM 102 (raw): Proxmox VE cannot make snapshots of all of its disks (scsi0: local:102/vm-102-disk-0.raw)
      each disk must be on a storage with snapshots (such as ZFS, LVM-thin or Ceph RBD) or, on a directory, NFS or CIFS storage, have the format qcow2. To move one: qm disk move 102 DISK STORAGE --format qcow2
    template: VM 103 (golden) is a template, and templates have no snapshots
    not_found: snapname: VM 101 (web1) has no snapshot 's9' (available: s1)
    not_found: VM nobody does not exist
      check vmid or name, and that the API user has VM.Audit on it
    name_differs: name: VM 101 has the name web1 (got 'other')
      correct vmid or name, or leave one of them out
    invalid_option: one of the following is required: vmid, name
    ");
    let of_another_module = json!({"hostname": "web1", "vmid": 101, "unbind": false});
    let refused = lab.fails(of_another_module);
    assert_snapshot!(shown(&refused["error"], "kind hint"), @"
    kind: invalid_option
    hint: instead of hostname: name; instead of unbind: nothing: it is for containers, and this module is for VMs
    ");
    lab.unchanged(json!({"name": "golden", "snapname": "s1", "state": "absent"}));
    let gone = lab.unchanged(json!({"name": "nobody", "snapname": "s1", "state": "absent"}));
    assert_eq!(gone["msg"], "VM nobody does not exist");
}

#[test]
fn secrets_of_cloud_init_are_in_no_diff() {
    let lab = lab();
    lab.configure(101, &[("cipassword", "correct-horse")]);
    take(&lab, "s1");
    lab.configure(101, &[("delete", "cipassword")]);
    let would = lab.would_change(snapshot("s1", json!({"state": "rolled_back"})));
    assert_eq!(would["diff"]["after"]["cipassword"], "(set)", "{would:#}");
    assert!(!would.to_string().contains("correct-horse"));
}
