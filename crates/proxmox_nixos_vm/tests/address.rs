//! Waiting for an address that the guest agent tells. The agents of simulated guests are silent; testing/pytest/flow has one that
//! answers.

mod common;

use common::{Lab, with};
use pve_testhost::pveum;
use serde_json::{Value, json};

fn web1(more: Value) -> Value {
    let options =
        json!({"node": "pve", "name": "web1", "memory": 256, "net": {"net0": {"bridge": "vmbr0"}}});
    with(options, more)
}

fn waiting(more: Value) -> Value {
    let options = json!({"name": "web1", "state": "current", "wait_for_address": true});
    with(options, more)
}

#[test]
fn a_silent_agent_is_waited_for_and_named() {
    let lab = Lab::new();
    lab.ok(web1(json!({"agent": true, "state": "started"})));
    let mac = lab.config(100)["net0"].as_str().unwrap()[7..24].to_owned();
    let silent = lab.fails(waiting(json!({"timeout": 3})));
    assert_eq!(silent["error"]["kind"], "timeout", "{silent:#}");
    assert_eq!(silent["error"]["object"], "VM 100 (web1)");
    let msg = silent["msg"].as_str().unwrap();
    assert!(
        msg.contains(&format!(
            "the guest agent of VM 100 (web1) to tell an IPv4 address of net0 ({mac}); last: QEMU guest agent is not running (timeout 3 s)"
        )),
        "{msg}"
    );
    assert!(msg.contains("services.qemuGuest.enable"), "{msg}");
    assert_eq!(lab.writes().len(), 2);
    // What was changed before is said.
    let changed = lab.fails(web1(json!({
        "state": "started", "description": "new", "wait_for_address": true, "timeout": 3,
    })));
    assert_eq!(
        (&changed["changed"], &changed["vmid"]),
        (&json!(true), &json!(100)),
        "{changed:#}"
    );
}

#[test]
fn what_no_waiting_helps_is_said_at_once() {
    let lab = Lab::new();
    let refused = |more: Value, text: &str| {
        let refused = lab.fails(waiting(with(json!({"timeout": 600}), more)));
        let msg = refused["msg"].as_str().unwrap();
        assert!(msg.contains(text), "{msg}");
    };
    refused(json!({}), "VM web1 does not exist, so it has no address");
    refused(json!({"state": "present"}), "VM web1 does not exist");
    assert_eq!(lab.writes(), [""; 0]);
    lab.ok(web1(json!({})));
    refused(json!({}), "VM 100 (web1) is stopped");
    let writes = lab.writes();
    refused(
        json!({"state": "present", "memory": 512}),
        "VM 100 (web1) is stopped",
    );
    refused(json!({"state": "stopped"}), "this state leaves it stopped");
    assert_eq!(lab.writes(), writes);
    lab.ok(web1(json!({"state": "started"})));
    refused(json!({}), "VM 100 (web1) has no guest agent configured");
    // On until the VM's next start, which PVE knows better than its configuration.
    lab.ok(web1(json!({"agent": true})));
    refused(json!({}), "No QEMU guest agent configured");
    lab.ok(
        json!({"node": "pve", "name": "bare", "memory": 256, "agent": true, "state": "started"}),
    );
    refused(json!({"name": "bare"}), "VM 101 (bare) has no card net0");
}

#[test]
fn the_documented_role_is_enough_and_wanted() {
    let documented = |sections: &[&str]| {
        let text = include_str!("../../../docs/privileges.md");
        pveum::sections(text, sections)
    };
    let options = json!({"agent": true, "state": "started", "wait_for_address": true});
    let without = Lab::new().granted(&documented(&["## proxmox_nixos_vm"]));
    let refused = without.fails(web1(with(options.clone(), json!({"timeout": 600}))));
    assert_eq!(refused["error"]["status"], 403, "{refused:#}");
    let with_it = Lab::new().granted(&documented(&["## proxmox_nixos_vm", "## The guest agent"]));
    let silent = with_it.fails(web1(with(options, json!({"timeout": 10}))));
    assert_eq!(silent["error"]["kind"], "timeout", "{silent:#}");
}
