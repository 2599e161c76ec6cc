//! ISOs that VMs use are neither deleted nor replaced under them.

mod common;

use common::*;
use insta::assert_snapshot;
use serde_json::json;

#[test]
fn what_a_vm_uses_is_not_deleted() {
    let lab = lab();
    for name in ["nixos-1.iso", "nixos-2.iso", "nixos-3.iso", "other.iso"] {
        lab.changed(json!({"src": iso_file(&lab, name, name.as_bytes())}));
    }
    vm(&lab, 101, "nixos-2.iso", false);
    assert_snapshot!(lab.refuses(json!({"name": "nixos-2.iso", "state": "absent"})), @"
    in_use: local:iso/nixos-2.iso is used by VM 101 (vm101, stopped)
      force: true deletes it nevertheless; then the VM cannot start until its drive is changed
    ");

    let all = json!({"name": "nixos-*.iso", "state": "absent"});
    let mut checked = all.clone();
    checked["_ansible_check_mode"] = json!(true);
    checked["_ansible_diff"] = json!(true);
    let checked = lab.changed(checked);
    assert_eq!(checked["diff"]["before"].as_array().unwrap().len(), 2);
    assert!(lab.stored("nixos-1.iso").exists());
    let result = lab.changed(all.clone());
    assert_eq!(
        result["deleted"],
        json!(["local:iso/nixos-1.iso", "local:iso/nixos-3.iso"])
    );
    assert_eq!(result["kept"], json!(["local:iso/nixos-2.iso"]));
    assert!(lab.stored("nixos-2.iso").exists() && lab.stored("other.iso").exists());
    lab.unchanged(all);

    lab.changed(json!({"name": "nixos-2.iso", "state": "absent", "force": true}));
    assert!(!lab.stored("nixos-2.iso").exists());
}

#[test]
fn what_a_running_vm_uses_is_not_replaced() {
    let lab = lab();
    lab.changed(json!({"src": iso_file(&lab, "x.iso", b"old")}));
    vm(&lab, 101, "x.iso", true);
    let replace = json!({"src": iso_file(&lab, "x.iso", b"new content"), "force": true});
    assert_snapshot!(lab.refuses(replace.clone()), @"
    in_use: local:iso/x.iso is used by VM 101 (vm101, running)
      it is not replaced under a running VM; give the new one another name, or eject it first
    ");
    assert_eq!(std::fs::read(lab.stored("x.iso")).unwrap(), iso(b"old"));
    lab.power(101, "stop");
    lab.changed(replace);
    assert_eq!(
        std::fs::read(lab.stored("x.iso")).unwrap(),
        iso(b"new content")
    );
}

#[test]
fn who_may_not_see_vms_is_told_so() {
    let lab = lab();
    lab.changed(json!({"src": iso_file(&lab, "x.iso", b"x")}));
    lab.grant(
        "pveum role add Deleting --privs \"Datastore.Allocate Datastore.Audit\"\n\
         pveum acl modify /storage/local --roles Deleting",
    );
    let mut options = lab.endpoint["empty"].clone();
    options["name"] = json!("x.iso");
    options["state"] = json!("absent");
    let result = lab.changed(options);
    assert_snapshot!(shown(&result, "warnings"), @r#"warnings: ["provisioner@pve!empty lacks VM.Audit on /vms: VMs that it may not see may use what is deleted or replaced"]"#);
}
