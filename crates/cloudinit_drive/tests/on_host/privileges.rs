//! docs/privileges.md says what is enough.

use crate::lab::Lab;
use serde_json::json;

fn lab(headings: &[&str]) -> Lab {
    let text = include_str!("../../../../docs/privileges.md");
    Lab::new().granted(&pve_testhost::pveum::sections(text, headings))
}

#[test]
fn the_documented_roles_are_enough_for_native_drives() {
    let lab = lab(&["## cloudinit_drive"]);
    let native = json!({
        "node": "pve", "vmid": 101, "kind": "native", "drive": "ide0", "storage": "local-zfs", "ciuser": "root",
        "nameservers": ["10.77.0.1"], "ipconfig": {"ipconfig0": {"ip": "10.77.0.11/24", "gw": "10.77.0.1"}},
    });
    assert_eq!(lab.ok(native.clone())["changed"], json!(true));
    lab.unchanged(native);
    let gone = lab.ok(json!({"node": "pve", "vmid": 101, "drive": "ide0", "state": "absent"}));
    assert_eq!(gone["changed"], json!(true));
}

#[test]
fn the_documented_roles_are_enough_for_our_own_drives() {
    let lab = lab(&["## cloudinit_drive", "### kind: nocloud"]);
    let nocloud = json!({
        "node": "pve", "vmid": 101, "kind": "nocloud", "drive": "ide0", "storage": "local", "hostname": "web1",
    });
    assert_eq!(lab.ok(nocloud.clone())["changed"], json!(true));
    lab.unchanged(nocloud);
    let gone = lab.ok(json!({"node": "pve", "vmid": 101, "kind": "nocloud", "drive": "ide0", "storage": "local", "state": "absent"}));
    assert_eq!(gone["changed"], json!(true));
    assert!(lab.seeds().is_empty());
}

#[test]
fn without_the_privilege_for_the_nodes_name_servers_there_is_a_warning() {
    let lab = lab(&["## cloudinit_drive", "### kind: nocloud"]);
    let made = lab.ok(json!({
        "node": "pve", "vmid": 101, "drive": "ide0", "storage": "local", "ipconfig": {"ipconfig0": "ip=10.77.0.11/24"},
    }));
    let warning = made["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("grant Sys.Audit on /nodes/pve"),
        "{made:#}"
    );
}
