//! docs/privileges.md says what is enough.

mod common;

use common::*;
use serde_json::{Value, json};

#[test]
fn the_documented_roles_are_enough() {
    let commands = documented(&["## proxmox_nixos_vm"]);
    let lab = lab().granted(&commands);
    let vm = |more: Value| {
        let all = json!({
            "node": "pve", "name": "web1", "memory": 256, "cores": 1, "agent": true, "serial": {"serial0": "socket"},
            "tags": ["nixos"], "description": "made by a test", "onboot": true, "scsihw": "virtio-scsi-single",
            "scsi": {"scsi0": "local-zfs:1"}, "ide": {"ide2": "local:iso/a.iso,media=cdrom"},
            "net": {"net0": {"model": "virtio", "bridge": "vmbr0"}}, "boot": "order=scsi0;ide2", "timeout": 60,
        });
        with(all, more)
    };
    lab.changed(vm(json!({"state": "started"})));
    lab.unchanged(vm(json!({"state": "started"})));
    lab.changed(vm(json!({
        "state": "stopped", "memory": 512, "cores": 2, "scsi": {"scsi0": "local-zfs:2"}, "force": true,
    })));
    lab.changed(json!({"node": "pve", "name": "web1", "state": "absent", "timeout": 60}));
    assert!(lab.vms().is_empty());
}

#[test]
fn the_documented_roles_are_enough_for_several_nodes() {
    let headings = ["## proxmox_nixos_vm", "### Several nodes"];
    let commands = documented(&headings);
    let lab = cluster_of(&["pve", "b"], None).granted(&commands);
    lab.nodes(json!({"pve": {"maxmem": 8, "mem": 7}, "b": {"maxmem": 8, "mem": 1}}));
    let vm = |more: Value| {
        let vm = json!({
            "name": "web1", "scsi": {"scsi0": "local-zfs:1"}, "state": "started", "timeout": 60,
        });
        with(vm, more)
    };
    assert_eq!(lab.ok(vm(json!({})))["node"], "b");
    let moved = lab.ok(vm(json!({"node": "pve", "migrate": true})));
    assert_eq!(
        (&moved["node"], &moved["actions"]),
        (&json!("pve"), &json!(["migrate"]))
    );
}

/// A policy on tags, as datacenter.cfg has it.
fn policy(lab: &Lab, text: &str) {
    std::fs::write(lab.path("pve/datacenter.cfg"), text).unwrap();
}

#[test]
fn tags_are_set_as_far_as_the_cluster_lets_the_caller() {
    let lab = lab().granted(&documented(&["## proxmox_nixos_vm"]));
    let vm = |name: &str, tags: &[&str]| json!({"node": "pve", "name": name, "tags": tags, "timeout": 60});
    lab.ok(vm("seen", &["known"]));
    for mode in [
        "list,user-allow-list=web;db",
        "existing,user-allow-list=web;db",
    ] {
        policy(&lab, &format!("user-tag-access: user-allow={mode}\n"));
        // PVE refuses every tag of a new VM.
        let made = lab.ok(vm("web1", &["Web", "db"]));
        assert_eq!(made["tags"], json!(["db", "web"]));
        lab.unchanged(vm("web1", &["Web", "db"]));
        let before = lab.vms();
        let refused = lab.fails(vm("web2", &["web", "other"]));
        let refused = refused["msg"].as_str().unwrap();
        assert!(
            refused.contains("does not let provisioner@pve!empty set or remove other at VM web2"),
            "{refused}"
        );
        assert_eq!(lab.vms(), before);
        assert_eq!(
            lab.fails(vm("web1", &["web", "other"]))["error"]["kind"],
            "permission_denied"
        );
        lab.ok(json!({"node": "pve", "name": "web1", "state": "absent", "timeout": 60}));
    }
    policy(&lab, "user-tag-access: user-allow=none\n");
    let refused = lab.fails(vm("web3", &["web"]));
    let refused = refused["msg"].as_str().unwrap();
    assert!(
        refused.contains("set or remove web at VM web3 (tags that it may: "),
        "{refused}"
    );
    lab.ok(json!({"node": "pve", "name": "web3", "timeout": 60}));
    policy(&lab, "registered-tags: secret\n");
    lab.ok(vm("web4", &["any"]));
    assert_eq!(
        lab.fails(vm("web5", &["secret"]))["error"]["kind"],
        "permission_denied"
    );
}

#[test]
fn who_may_see_the_policy_is_told_before_anything_is_changed() {
    let commands = documented(&["## proxmox_nixos_vm"]);
    let audit = "pveum role add Auditor --privs \"Sys.Audit\"\n\
                 pveum acl modify / --roles Auditor --users ansible@pve --tokens 'ansible@pve!deploy'\n";
    let lab = lab().granted(&format!("{commands}\n{audit}"));
    policy(
        &lab,
        "user-tag-access: user-allow=list,user-allow-list=web\n",
    );
    let vm = |tags: &[&str]| json!({"node": "pve", "name": "web1", "tags": tags, "timeout": 60});
    let refused = lab.fails(with(
        vm(&["web", "other"]),
        json!({"_ansible_check_mode": true}),
    ));
    assert_eq!(refused["error"]["kind"], "permission_denied", "{refused}");
    assert!(lab.writes().is_empty());
    lab.ok(vm(&["web"]));
}

#[test]
fn tags_keep_their_case_where_it_counts() {
    let lab = lab();
    policy(&lab, "tag-style: case-sensitive=1\n");
    let vm = |tags: &[&str]| json!({"node": "pve", "name": "web1", "tags": tags, "timeout": 60});
    lab.ok(vm(&["Web", "db"]));
    lab.unchanged(vm(&["Web", "db"]));
    let text = |lab: &Lab| lab.get("/nodes/pve/qemu/100/config")["tags"].clone();
    assert_eq!(text(&lab), "Web;db");
    lab.ok(vm(&["Web", "New"]));
    assert_eq!(text(&lab), "New;Web");
}
