//! docs/privileges.md says what is enough, and what is missing is named.

use std::thread::sleep;
use std::time::Duration;

use module_lab::{Host, Lab};
use serde_json::{Value, json};

/// A test host with the running VM 101, whose agent reports an address; and the module.
fn lab() -> Lab {
    let host = Host::start(|_| ());
    let vm = [
        ("vmid", "101"),
        ("name", "web1"),
        ("memory", "64"),
        ("agent", "1"),
        ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0"),
    ];
    host.post("/nodes/pve/qemu", &vm);
    host.post("/nodes/pve/qemu/101/status/start", &[]);
    let guests = json!({"101": {"addresses": ["192.0.2.11/24"]}});
    std::fs::write(host.path("pve/guests.json"), guests.to_string()).unwrap();
    // The nodes broadcast names and states every ten seconds.
    let is_known = || host.get("/cluster/resources?type=vm")[0]["status"] == "running";
    let known = (0..900).any(|_| {
        is_known() || {
            sleep(Duration::from_millis(100));
            false
        }
    });
    assert!(known, "VM 101 is not in the list");
    Lab::new(host, env!("CARGO_BIN_EXE_nixos_vm_inventory"))
}

fn documented() -> String {
    let text = include_str!("../../../docs/privileges.md");
    pve_testhost::pveum::sections(text, &["## The inventory plugin"])
}

#[test]
fn the_documented_role_is_enough_and_less_is_reported() {
    let lab = lab().called_by("empty");
    let refused = lab.run(json!({}));
    assert_eq!(refused["error"]["kind"], "permission_denied", "{refused}");

    lab.grant(&documented().replace("VM.GuestAgent.Audit", "VM.Audit"));
    let without_agent = lab.run(json!({}));
    assert_eq!(without_agent["hosts"][0]["name"], "web1", "{without_agent}");
    assert_eq!(
        without_agent["hosts"][0]["vars"]["ansible_host"],
        Value::Null
    );
    let warning = without_agent["warnings"][0].as_str().unwrap_or_default();
    assert!(warning.contains("VM.GuestAgent.Audit"), "{without_agent}");

    lab.grant(&documented());
    let listed = lab.run(json!({"want_facts": true, "qemu_extended_statuses": true}));
    assert_eq!(
        listed["hosts"][0]["vars"]["ansible_host"], "192.0.2.11",
        "{listed}"
    );
    assert_eq!(
        listed["hosts"][0]["vars"]["proxmox_qmpstatus"], "running",
        "{listed}"
    );
    assert!(listed.get("warnings").is_none(), "{listed}");
}
