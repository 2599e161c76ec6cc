//! Options as people type them: they give what is meant, or a refusal that check mode has too.

mod common;

use common::{Lab, with};
use serde_json::{Value, json};

fn described(options: Value) -> Value {
    with(
        json!({"node": "pve", "name": "web", "memory": 128}),
        options,
    )
}

#[test]
fn blanks_and_other_spellings_give_what_is_meant() {
    let lab = Lab::new();
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
    let lab = Lab::new();
    for (options, part) in [
        (
            json!({"config": {"cpuunits": "abc"}}),
            "cpuunits: must be between 1 and 262144 (got 'abc')",
        ),
        (
            json!({"config": {"cpuunits": 300_000}}),
            "cpuunits: must be between 1 and 262144",
        ),
        (
            json!({"config": {"vcpus": 1.5}}),
            "vcpus: must be a whole number, at least 1 (got '1.5')",
        ),
        (
            json!({"config": {"cpulimit": "50%"}}),
            "cpulimit: must be a number (got '50%')",
        ),
        (
            json!({"config": {"migrate_downtime": "0,5"}}),
            "migrate_downtime: must be a number",
        ),
        (
            json!({"config": {"startdate": "2026/01/31"}}),
            "startdate: must be now, or a date such as 2026-01-31",
        ),
        (
            json!({"hotplug": "network, ram"}),
            "hotplug: must be 1, 0, or some of network, disk",
        ),
        (
            json!({"config": {"ipconfig0": "ip=dhcp,gw=192.0.2.1"}}),
            "ipconfig0: gw needs a fixed ip (got 'dhcp')",
        ),
        (
            json!({"config": {"ipconfig0": "gw=192.0.2.1"}}),
            "ipconfig0: gw requires ip",
        ),
        (json!({"tags": ["prod;web"]}), "write several as a list"),
        (json!({"cpu": {"type": "host"}}), "did you mean cputype?"),
        (
            json!({"net": {"net0": {"model": "virtio", "brige": "vmbr0"}}}),
            "did you mean bridge?",
        ),
    ] {
        let writes = lab.writes();
        let options = with(described(options), json!({"_ansible_check_mode": true}));
        let result = lab.fails(options);
        let msg = result["msg"].as_str().unwrap();
        assert!(msg.contains(part), "{part} in: {msg}");
        assert_eq!(lab.writes(), writes);
    }
}
