//! docs/privileges.md says what is enough, and what is missing is named with the command that grants it.

use crate::lab::Lab;
use serde_json::json;

fn lab(headings: &[&str]) -> Lab {
    let text = include_str!("../../../../docs/privileges.md");
    Lab::new().granted(&pve_testhost::pveum::sections(text, headings))
}

#[test]
fn the_documented_role_is_enough() {
    let lab = lab(&["## proxmox_snapshot"]);
    let snapshot = |state: &str, start: bool| json!({"name": "web1", "snapname": "s1", "state": state, "start": start, "timeout": 60});
    lab.changed(snapshot("present", false));
    lab.unchanged(snapshot("present", false));
    lab.changed(json!({"name": "web1", "snapname": "s1", "description": "x"}));
    lab.changed(snapshot("rolled_back", true));
    assert_eq!(lab.status(), "running");
    lab.changed(snapshot("absent", false));
}

#[test]
fn the_documented_role_for_rollbacks_is_enough_for_them_only() {
    let lab = lab(&["### Rollbacks only"]);
    lab.snapshot("s1");
    lab.changed(json!({"vmid": 101, "snapname": "s1", "state": "rolled_back"}));
    for check in [false, true] {
        let refused = lab.refuses(
            json!({"vmid": 101, "snapname": "s2", "_ansible_check_mode": check}),
            "permission_denied",
            "lacks the privilege VM.Snapshot on /vms/101",
        );
        let hint = refused["error"]["hint"].as_str().unwrap();
        assert!(
            hint.contains("pveum role add nixos-VM-Snapshot --privs 'VM.Snapshot'; pveum acl modify /vms --roles"),
            "{hint}"
        );
    }
    lab.refuses(
        json!({"vmid": 101, "snapname": "s1", "state": "rolled_back", "start": true}),
        "permission_denied",
        "lacks the privilege VM.PowerMgmt on /vms/101",
    );
}

#[test]
fn who_sees_no_vm_does_not_learn_that_there_is_none() {
    let lab = Lab::new().granted("");
    for state in ["present", "absent", "rolled_back"] {
        lab.refuses(
            json!({"name": "web1", "snapname": "s1", "state": state}),
            "permission_denied",
            "VM.Audit is missing",
        );
    }
}
