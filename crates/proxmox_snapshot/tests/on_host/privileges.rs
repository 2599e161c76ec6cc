//! docs/privileges.md says what is enough, and what is missing is named with the command that grants it.

use crate::lab::{documented, lab, snapshot, take};
use insta::assert_snapshot;
use serde_json::json;

#[test]
fn the_documented_role_is_enough() {
    let lab = documented(&["## proxmox_snapshot"]);
    lab.changed(snapshot("s1", json!({})));
    lab.unchanged(snapshot("s1", json!({})));
    lab.changed(snapshot("s1", json!({"description": "x"})));
    lab.changed(snapshot(
        "s1",
        json!({"state": "rolled_back", "start": true}),
    ));
    assert_eq!(lab.status(101), "running");
    lab.changed(snapshot("s1", json!({"state": "absent"})));
}

#[test]
fn the_documented_role_for_rollbacks_is_enough_for_them_only() {
    let lab = documented(&["### Rollbacks only"]);
    take(&lab, "s1");
    lab.changed(snapshot("s1", json!({"state": "rolled_back"})));
    let cases = [
        json!({"snapname": "s2"}),
        json!({"snapname": "s2", "_ansible_check_mode": true}),
        json!({"snapname": "s1", "state": "rolled_back", "start": true}),
    ];
    assert_snapshot!(lab.refuses_each(&json!({"vmid": 101}), cases), @"
    2 times permission_denied: provisioner@pve!empty lacks the privilege VM.Snapshot on /vms/101
      run on a node: pveum role add nixos-VM-Snapshot --privs 'VM.Snapshot'; pveum acl modify /vms --roles nixos-VM-Snapshot --users 'provisioner@pve' --tokens 'provisioner@pve!empty'
    permission_denied: provisioner@pve!empty lacks the privilege VM.PowerMgmt on /vms/101
      run on a node: pveum role add nixos-VM-PowerMgmt --privs 'VM.PowerMgmt'; pveum acl modify /vms --roles nixos-VM-PowerMgmt --users 'provisioner@pve' --tokens 'provisioner@pve!empty'
    ");
}

#[test]
fn who_sees_no_vm_does_not_learn_that_there_is_none() {
    let lab = lab().granted("");
    let states = ["present", "absent", "rolled_back"].map(|state| json!({"state": state}));
    assert_snapshot!(lab.refuses_each(&snapshot("s1", json!({})), states), @"
    3 times permission_denied: the privilege VM.Audit is missing: no VM is shown, so it is not known which there are
      give the user, and its token, VM.Audit on /vms or on a pool (pveum acl modify)
    ");
}
