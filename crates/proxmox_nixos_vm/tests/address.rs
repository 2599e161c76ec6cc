//! Waiting for an address that the guest agent tells. The agents of simulated guests are silent; testing/pytest/flow has one that
//! answers.

mod common;

use common::*;
use insta::assert_snapshot;
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
    let lab = lab();
    lab.ok(web1(json!({"agent": true, "state": "started"})));
    let mac = lab.config(100)["net0"].as_str().unwrap()[7..24].to_owned();
    let silent = lab.fails(waiting(json!({"timeout": 3})));
    assert!(silent["msg"].as_str().unwrap().contains(&mac), "{silent:#}");
    assert_snapshot!(failure(&silent), @"
    timeout: waited [seconds] s for the guest agent of VM 100 (web1) to report an address of net0 ([mac]); last: QEMU guest agent is not running (timeout 3 s)
      the guest has to run the QEMU guest agent (NixOS: services.qemuGuest.enable = true) and to get an address on that NIC, by DHCP or router advertisements for example; its console shows both
    ");
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
    let lab = lab();
    let ask = |more: Value| lab.refuses(waiting(with(json!({"timeout": 600}), more)));
    let present = json!({"state": "present", "memory": 512});
    let mut refused = vec![ask(json!({})), ask(present.clone())];
    assert_eq!(lab.writes(), [""; 0]);
    lab.ok(web1(json!({})));
    refused.extend([json!({}), present, json!({"state": "stopped"})].map(ask));
    lab.ok(web1(json!({"state": "started"})));
    refused.push(ask(json!({})));
    // On until the VM's next start, which PVE knows better than its configuration.
    lab.ok(web1(json!({"agent": true})));
    refused.push(ask(json!({})));
    let bare =
        json!({"node": "pve", "name": "bare", "memory": 256, "agent": true, "state": "started"});
    lab.ok(bare);
    refused.push(ask(json!({"name": "bare"})));
    assert_snapshot!(refused.join("\n"), @"
    not_found: VM web1 does not exist, so it has no address
      make it first, with state: started
    not_found: VM web1 does not exist
      make it with state: started; with state: present it would be stopped, and wait_for_address in vain
    no_address: VM 100 (web1) is stopped, so its guest agent tells no address
      start it, with state: started
    no_address: VM 100 (web1) is stopped, so its guest agent tells no address
      start it, with state: started
    invalid_option: wait_for_address: requires a running VM, but this state leaves it stopped; remove it or use state: started
    no_address: VM 100 (web1) has no guest agent configured, so nothing tells its address
      set agent: enabled=1, which takes effect with the VM's next start
    api_error: cannot ask the guest agent of VM 100 (web1): GET /nodes/pve/qemu/100/agent/network-get-interfaces: 500 No QEMU guest agent configured
    no_address: VM 101 (bare) has no NIC net0, so it has no address to wait for
      give it one with the option net
    ");
}

#[test]
fn the_documented_role_is_enough_and_wanted() {
    let options = json!({"agent": true, "state": "started", "wait_for_address": true});
    let without = lab().granted(&documented(&["## proxmox_nixos_vm"]));
    let refused = without.fails(web1(with(options.clone(), json!({"timeout": 600}))));
    assert_eq!(refused["error"]["status"], 403, "{refused:#}");
    let with_it = lab().granted(&documented(&["## proxmox_nixos_vm", "## The guest agent"]));
    let silent = with_it.fails(web1(with(options, json!({"timeout": 10}))));
    assert_eq!(silent["error"]["kind"], "timeout", "{silent:#}");
}

#[test]
fn the_family_is_chosen_among_what_the_agent_reports() {
    let lab = lab();
    lab.ok(web1(json!({"agent": true, "state": "started"})));
    let reports = |addresses: &[&str]| {
        let said = json!({"100": {"addresses": addresses}});
        std::fs::write(lab.path("pve/guests.json"), said.to_string()).unwrap();
    };
    let address = |family: &str| {
        let more = json!({"address_family": family, "timeout": 60});
        lab.ok(waiting(more))["guest_agent"].clone()
    };
    reports(&[
        "192.0.2.11/24",
        "fe80::1/64",
        "FD00:0::11/64",
        "2001:DB8:0::11/64",
    ]);
    let both = address("any");
    assert_eq!(both["address"], "192.0.2.11", "{both:#}");
    assert_eq!(
        both["addresses"],
        json!(["192.0.2.11", "2001:db8::11", "fd00::11"])
    );
    assert_eq!(address("ipv4")["address"], "192.0.2.11");
    assert_eq!(address("ipv6")["address"], "2001:db8::11");
    // A guest that has IPv6 alone.
    reports(&["fe80::1/64", "2001:db8::11/64"]);
    let alone = lab.ok(waiting(json!({"timeout": 4})))["guest_agent"].clone();
    assert_eq!(
        (
            &alone["address"],
            &alone["address_ipv4"],
            &alone["address_ipv6"]
        ),
        (&json!("2001:db8::11"), &Value::Null, &json!("2001:db8::11"))
    );
    let refused = lab.fails(waiting(json!({"address_family": "ipv4", "timeout": 3})));
    assert_snapshot!(failure(&refused), @"
    timeout: waited [seconds] s for the guest agent of VM 100 (web1) to report an IPv4 address of net0 ([mac]); last: it has lo: 127.0.0.1/8 ::1/128, eth0: fe80::1/64 2001:db8::11/64 (timeout 3 s)
      the NIC has addresses of the other family only; set address_family to take them, or give it an address of this family
    ");
}

#[test]
fn the_api_is_reached_by_ipv6() {
    let host = module_lab::Host::start(|options| options.listen = "[::1]:0".parse().unwrap());
    assert_eq!(host.endpoint["api_host"], "::1");
    let lab = Lab::new(host, env!("CARGO_BIN_EXE_proxmox_nixos_vm"));
    for written in ["::1", "[::1]", "0:0:0:0:0:0:0:1"] {
        let found = lab
            .ok(json!({"api_host": [written], "node": "pve", "name": "web1", "state": "current"}));
        assert_eq!(found["exists"], false, "{found:#}");
    }
}
