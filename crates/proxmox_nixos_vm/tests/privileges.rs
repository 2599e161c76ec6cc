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
