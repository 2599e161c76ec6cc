//! docs/privileges.md says what is enough.

use crate::lab::{lab, seeds};
use insta::assert_snapshot;
use module_lab::{Lab, shown};
use serde_json::json;

fn documented(headings: &[&str]) -> Lab {
    let text = include_str!("../../../../docs/privileges.md");
    lab().granted(&pve_testhost::pveum::sections(text, headings))
}

#[test]
fn the_documented_roles_are_enough_for_native_drives() {
    let lab = documented(&["## cloudinit_drive"]);
    let native = json!({
        "node": "pve", "vmid": 101, "kind": "native", "drive": "ide0", "storage": "local-zfs", "ciuser": "root",
        "nameservers": ["10.77.0.1"], "ipconfig": {"ipconfig0": {"ip": "10.77.0.11/24", "gw": "10.77.0.1"}},
    });
    lab.changed(native.clone());
    lab.unchanged(native);
    lab.changed(json!({"node": "pve", "vmid": 101, "drive": "ide0", "state": "absent"}));
}

#[test]
fn the_documented_roles_are_enough_for_our_own_drives() {
    let lab = documented(&["## cloudinit_drive", "### kind: nocloud"]);
    let nocloud = json!({
        "node": "pve", "vmid": 101, "kind": "nocloud", "drive": "ide0", "storage": "local", "hostname": "web1",
    });
    lab.changed(nocloud.clone());
    lab.unchanged(nocloud);
    lab.changed(json!({"node": "pve", "vmid": 101, "kind": "nocloud", "drive": "ide0", "storage": "local", "state": "absent"}));
    assert!(seeds(&lab).is_empty());
}

#[test]
fn without_the_privilege_for_the_nodes_name_servers_there_is_a_warning() {
    let lab = documented(&["## cloudinit_drive", "### kind: nocloud"]);
    let made = lab.ok(json!({
        "node": "pve", "vmid": 101, "drive": "ide0", "storage": "local", "ipconfig": {"ipconfig0": "ip=10.77.0.11/24"},
    }));
    assert_snapshot!(shown(&made, "warnings"), @r#"warnings: ["nameservers: VM 101 has a fixed address and no name server: cannot read the DNS settings of node pve: GET /nodes/pve/dns: 403 Permission check failed (/nodes/pve, Sys.Audit); set nameservers, or grant Sys.Audit on /nodes/pve so that those of the node are taken"]"#);
}
