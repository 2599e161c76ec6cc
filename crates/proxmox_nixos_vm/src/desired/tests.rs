use pve_schema::Kind;
use serde_json::{Value, json};

use super::*;

fn desired(options: Value) -> Result<Desired, String> {
    from_json(options)
}

fn plain(desired: &Desired) -> BTreeMap<&str, Option<&str>> {
    desired
        .plain
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_deref()))
        .collect()
}

#[test]
fn options_become_pve_texts() {
    let desired = desired(json!({
        "name": "web1", "memory": 2048, "agent": "True", "onboot": true, "tags": ["B", "a", "b"],
        "serial": {"serial0": "socket"}, "boot": "scsi0;ide2", "description": "",
        "config": {"kvm": false, "args": "-x", "hookscript": null, "numa0": "cpus=0"},
    }))
    .unwrap();
    assert_eq!(
        plain(&desired),
        BTreeMap::from([
            ("name", Some("web1")),
            ("memory", Some("2048")),
            ("agent", Some("1")),
            ("onboot", Some("1")),
            ("tags", Some("a;B")),
            ("serial0", Some("socket")),
            ("description", None),
            ("kvm", Some("0")),
            ("args", Some("-x")),
            ("hookscript", None),
            ("numa0", Some("cpus=0")),
        ])
    );
    assert_eq!(desired.boot.as_deref(), Some("order=scsi0;ide2"));
}

#[test]
fn mistakes_are_named_all_at_once() {
    let error = desired(json!({
        "name": "web_1", "memory": 1, "scsi": {"ide0": "a:1"}, "net": {"eth0": "virtio"}, "serial": {"s": "socket"},
        "config": {"memory": 2, "cipassword": "x", "ide2": null, "kvm": "maybe", "unused0": "x", "args": ["a"]},
        "ide": {"ide1": "a:1"}, "remove_disks": ["ide1", "floppy", "unused3"], "cores": 0, "pool": "",
        "tags": ["web", "x nixos-installing", "a;b", "", "ü"], "sata": {"sata6": {"storage": "a", "size": 1, "dicsard": true}},
        "virtio": {"virtio16": "a:1"},
    }))
    .unwrap_err();
    for part in [
        "name: 'web_1' is not a DNS name",
        "write for example 'web-1'",
        "scsi: 'ide0' is not a drive",
        "net: 'eth0' is not a NIC",
        "serial: 's' is not a device",
        "config: memory is described by an option of its own too",
        "config: cipassword cannot be set here: use the module cloudinit_drive",
        "config: ide2 is a drive; remove_disks removes it",
        "kvm: must be a boolean (got 'maybe')",
        "config: unused0 cannot be set",
        "args: expected text",
        "remove_disks: ide1 is also described as a drive",
        "'floppy' is not a drive",
        "set delete_disks to delete its volume",
        "cores: must be at least 1 (got 0)",
        "pool: must not be empty",
        "tags: 'x nixos-installing' is not a valid tag",
        "tags: 'a;b' is not a valid tag",
        "tags: 'ü' is not a valid tag",
        "sata6: dicsard is not one of aio, ",
        "virtio16 is not one of virtio0 to virtio15",
    ] {
        assert!(error.contains(part), "{part} in: {error}");
    }
}

#[test]
fn what_the_machine_does_not_have_is_refused() {
    let cdrom = json!("none,media=cdrom");
    for (options, part) in [
        (
            json!({"machine": "q35", "ide": {"ide1": cdrom}}),
            "ide1: a q35 machine has ide0 and ide2 only",
        ),
        (
            json!({"machine": "pc-q35-9.0,viommu=virtio", "config": {"ide3": cdrom}}),
            "ide3: a q35",
        ),
        (
            json!({"arch": "aarch64", "ide": {"ide2": cdrom}}),
            "ide2: an aarch64 machine (virt) has no IDE",
        ),
        (
            json!({"machine": "virt", "ide": {"ide0": cdrom}}),
            "ide0: an aarch64",
        ),
        (
            json!({"machine": {"type": "pc-q35-9.2"}, "arch": "aarch64"}),
            "machine: an aarch64 machine is virt",
        ),
        (
            json!({"machine": "pc", "hostpci": {"hostpci0": {"mapping": "gpu", "pcie": true}}}),
            "hostpci0: pcie needs the machine q35",
        ),
        (
            json!({"memory": 256, "balloon": 512}),
            "balloon: must be at most memory",
        ),
    ] {
        let error = desired(options).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    desired(json!({"machine": "q35", "ide": {"ide0": cdrom, "ide2": cdrom}})).unwrap();
    desired(json!({"machine": "pc", "ide": {"ide1": cdrom}})).unwrap();
}

#[test]
fn legacy_boot_orders_are_refused_with_the_wanted_form() {
    let options = |boot: &str| {
        json!({
            "boot": boot, "scsi": {"scsi1": "a:1"}, "ide": {"ide2": "local:iso/a.iso,media=cdrom"},
            "net": {"net0": "virtio"}, "efidisk0": {"storage": "a"},
        })
    };
    for (boot, form) in [
        ("cdn", "order=scsi1;ide2;net0"),
        ("legacy=nc", "order=net0;scsi1"),
        ("c", "order=scsi1"),
        ("cad", "order=scsi1;ide2"),
    ] {
        let error = desired(options(boot)).unwrap_err();
        assert!(
            error.starts_with(&format!("boot: '{boot}' is PVE's legacy form")),
            "{error}"
        );
        assert!(error.ends_with(&format!("write {form}")), "{error}");
    }
    let error = desired(json!({"config": {"bootdisk": "scsi0", "boot": "cd"}})).unwrap_err();
    assert!(
        error.contains("config: bootdisk cannot be set here")
            && error.contains("write order=scsi0"),
        "{error}"
    );
    assert!(
        desired(json!({"boot": "c;n"}))
            .unwrap_err()
            .ends_with("write order=scsi0;net0")
    );
    for given in [json!({"order": "scsi0"}), json!([["scsi0"]]), json!([null])] {
        let error = desired(json!({"boot": given})).unwrap_err();
        assert!(
            error.contains("boot: expected text such as order="),
            "{error}"
        );
    }
    let repr = desired(json!({"boot": "['scsi1', 'net0']"})).unwrap_err();
    assert!(repr.contains("boot: expected text"), "{repr}");
    let list = desired(json!({"boot": ["scsi1", "net0"]})).unwrap();
    assert_eq!(list.boot.as_deref(), Some("order=scsi1;net0"));
    for boot in ["order=scsi1,ide2", "scsi1, ide2", "order=scsi1;ide2"] {
        let desired = desired(options(boot)).unwrap();
        assert_eq!(desired.boot.as_deref(), Some("order=scsi1;ide2"), "{boot}");
    }
    assert!(
        desired(options("scsi1;scsi1"))
            .unwrap_err()
            .contains("named twice")
    );
}

#[test]
fn what_pve_does_not_know_is_refused_before() {
    let error = desired(json!({
        "config": {"vcpu": 2, "ha-managed": true, "bwlimit": 1, "storage": "x", "nameservers": "a", "ostype": "linux",
                   "cpu": ["host"], "hostpci0": {"mapping": "a,b"}, "usb0": ["x"]},
        "vga": {"typ": "std"},
    }))
    .unwrap_err();
    for part in [
        "config: vcpu is not an option",
        "config: ha-managed cannot be set here",
        "config: bwlimit cannot",
        "config: storage cannot",
        "did you mean nameserver?",
        "ostype: must be one of",
        "cpu: expected text",
        "hostpci0: mapping: ",
        "usb0: expected text",
        "vga: typ is not one of type, clipboard, memory",
    ] {
        assert!(error.contains(part), "{part} in: {error}");
    }
}

#[test]
fn config_takes_drives_and_cards_too() {
    let desired =
        desired(json!({"config": {"scsi5": "local:1", "net3": null, "net4": {"bridge": "b"}}}))
            .unwrap();
    assert!(desired.drives.contains_key("scsi5"));
    assert_eq!(desired.nics["net3"], None);
    assert!(desired.describes_hardware());
}

/// A field of the options and a row of the table are all that an option needs.
#[test]
fn every_option_that_pve_has_gets_there() {
    let schema = schemars::schema_for!(crate::options::Options);
    let mut tried = 0;
    for name in schema
        .get("properties")
        .unwrap()
        .as_object()
        .unwrap()
        .keys()
    {
        let Some(row) = pve_schema::parameter(name) else {
            continue;
        };
        let value = match row.kind {
            Kind::NotConfig | Kind::Drive | Kind::Nic => continue,
            Kind::Flag => json!(true),
            Kind::Integer(least, _) => json!(least.max(1)),
            Kind::Choice(choices) => json!(choices[0]),
            _ if name == "memory" => json!(1024),
            _ if name == "tags" => json!(["one"]),
            _ if name == "boot" => json!("order=scsi0"),
            _ if name == "hotplug" => json!("network"),
            _ if name == "vga" => json!("std"),
            _ if name == "rng0" => json!("source=/dev/urandom"),
            _ if name == "startup" => json!("order=1"),
            _ => json!(row.example.unwrap_or("text")),
        };
        let mut options = json!({"scsi": {"scsi0": "local:1"}});
        options[name] = value;
        let desired = desired(options).unwrap();
        let known = desired.plain.contains_key(name) || (name == "boot" && desired.boot.is_some());
        assert!(known, "{name}");
        tried += 1;
    }
    assert!(tried > 20, "{tried}");
}
