//! Options as people type them: they give what is meant, or a refusal that check mode has too.

mod common;

use common::*;
use insta::assert_snapshot;
use serde_json::{Value, json};

fn described(options: Value) -> Value {
    with(
        json!({"node": "pve", "name": "web", "memory": 128}),
        options,
    )
}

#[test]
fn blanks_and_other_spellings_give_what_is_meant() {
    let lab = lab();
    lab.changed(described(json!({})));
    for (options, key, expected) in [
        (
            json!({"cpu": "host, flags = +aes"}),
            "cpu",
            json!("host,flags=+aes"),
        ),
        (
            json!({"machine": "q35, viommu=virtio\n"}),
            "machine",
            json!("q35,viommu=virtio"),
        ),
        (
            json!({"agent": "1, fstrim_cloned_disks=1"}),
            "agent",
            json!("1,fstrim_cloned_disks=1"),
        ),
        (
            json!({"net": {"net0": "virtio=bc:24:11:00:00:01 , bridge=vmbr0, tag=10"}}),
            "net0",
            json!("virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=10"),
        ),
        (
            json!({"config": {"ipconfig0": "ip=192.0.2.2/24, gw=192.0.2.1"}}),
            "ipconfig0",
            json!("ip=192.0.2.2/24,gw=192.0.2.1"),
        ),
        (
            json!({"scsihw": "virtio-scsi-pci "}),
            "scsihw",
            json!("virtio-scsi-pci"),
        ),
        (
            json!({"config": {"cpuunits": "200 "}}),
            "cpuunits",
            json!(200),
        ),
        (
            json!({"hotplug": "network, disk"}),
            "hotplug",
            json!("network, disk"),
        ),
        (
            json!({"config": {"startdate": "2026-01-31T13:30:00"}}),
            "startdate",
            json!("2026-01-31T13:30:00"),
        ),
    ] {
        lab.changed(described(options.clone()));
        assert_eq!(lab.config(100)[key], expected, "{options}");
        lab.unchanged(described(options));
    }
    let drive = described(json!({"scsi": {"scsi0": "local:0.1, ssd=1 , discard=on"}}));
    lab.changed(drive.clone());
    lab.unchanged(drive);
}

#[test]
fn what_pve_would_refuse_is_refused_in_check_mode_too() {
    let lab = lab();
    let cases = [
        json!({"config": {"cpuunits": "abc"}}),
        json!({"config": {"cpuunits": 300_000}}),
        json!({"config": {"vcpus": 1.5}}),
        json!({"config": {"cpulimit": "50%"}}),
        json!({"config": {"migrate_downtime": "0,5"}}),
        json!({"config": {"startdate": "2026/01/31"}}),
        json!({"hotplug": "network, ram"}),
        json!({"config": {"ipconfig0": "ip=dhcp,gw=192.0.2.1"}}),
        json!({"config": {"ipconfig0": "gw=192.0.2.1"}}),
        json!({"tags": ["prod;web"]}),
        json!({"cpu": {"type": "host"}}),
        json!({"net": {"net0": {"model": "virtio", "brige": "vmbr0"}}}),
    ];
    let usual = described(json!({"_ansible_check_mode": true}));
    assert_snapshot!(lab.refuses_each(&usual, cases), @"
    invalid_option: cpuunits: must be between 1 and 262144 (got 'abc')
    invalid_option: cpuunits: must be between 1 and 262144 (got '300000')
    invalid_option: vcpus: must be a whole number, at least 1 (got '1.5')
    invalid_option: cpulimit: must be a number (got '50%')
    invalid_option: migrate_downtime: must be a number (got '0,5')
    invalid_option: startdate: must be now, or a date such as 2026-01-31 or 2026-01-31T13:30:00 (got '2026/01/31')
    invalid_option: hotplug: must be 1, 0, or some of network, disk, cpu, memory, usb and cloudinit (got 'network, ram')
    invalid_option: ipconfig0: gw needs a fixed ip (got 'dhcp')
    invalid_option: ipconfig0: gw requires ip
    invalid_option: tags: 'prod;web' is not a valid tag: it must begin with a letter, a digit or _, and continue with these, -, + and .; write several as a list
    invalid_option: cpu: type is not one of cputype, flags, guest-phys-bits, hidden, hv-vendor-id, level, phys-bits, reported-model (PVE's own text takes any); did you mean cputype?
    invalid_option: net0: brige is not one of model, macaddr, bridge, firewall, link_down, mtu, queues, rate, tag, trunks, e1000, e1000-82540em, e1000-82544gc, e1000-82545em, e1000e, i82551, i82557b, i82559er, ne2k_isa, ne2k_pci, pcnet, rtl8139, virtio, vmxnet3 (PVE's own text takes any); did you mean bridge?
    ");
}
