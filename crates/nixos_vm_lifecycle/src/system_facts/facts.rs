//! The facts themselves.

use std::collections::BTreeMap;

use pve_client::property::PropertyString;
use pve_module::record::Phase;
use serde_json::{Map, Value, json};

use crate::keys;
use crate::module_args::{Args, bus_of, normal};
use crate::options::Settings;

/// What the variables say, by the names of the module's options. What they do not say is left to the module.
pub fn of(settings: &Settings) -> Args {
    let vm = settings.vm(Phase::Provisioning, None);
    let mut facts = Args::new();
    let mut put = |name: &str, value: Option<Value>| {
        facts.extend(value.map(|value| (name.to_owned(), value)));
    };
    put("vmid", settings.vmid.map(Value::from));
    put("node", text(settings.node.as_deref()));
    put("hostName", text(settings.name.as_deref()));
    let nic = settings.first_nic();
    let (address, length) = split(nic.ip.as_deref());
    put("address", address);
    put("prefixLength", length);
    put("gateway", gateway(nic.gw.as_deref()));
    let (address, length) = split(nic.ip6.as_deref());
    let ipv6: Map<String, Value> = [
        ("address", address),
        ("prefixLength", length),
        ("gateway", gateway(nic.gw6.as_deref())),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect();
    put("ipv6", (!ipv6.is_empty()).then(|| ipv6.into()));
    put("nameservers", list(settings.nameservers.as_deref()));
    put("searchDomains", list(settings.searchdomains.as_deref()));
    put("mac", mac(&vm).map(Value::from));
    put("authorizedKeys", list(Some(&settings.authorized_keys)));
    let key = settings.ssh_host_key_types.first();
    put(
        "hostKeyPath",
        key.map(|key| keys::path_in_system(settings, *key).into()),
    );
    put("diskDevice", disk_device(settings, &vm).map(Value::from));
    put("bios", vm.get("bios").cloned());
    facts
}

/// What is missing for facts that make one machine.
pub fn mistakes(settings: &Settings) -> Vec<String> {
    let vm = settings.vm(Phase::Provisioning, None);
    let nics = vm.get("net").and_then(Value::as_object);
    let several = nics.is_some_and(|nics| nics.values().filter(|nic| !nic.is_null()).count() > 1);
    match several && mac(&vm).is_none() {
        true => vec![
            "nixos_vm_net.net0: needs a MAC address, because the installed system finds the first of several NICs by it \
             (nixos_vm_system_facts); write virtio=02:00:00:00:00:01,bridge=vmbr0, for example"
                .into(),
        ],
        false => Vec::new(),
    }
}

fn text(text: Option<&str>) -> Option<Value> {
    text.map(str::trim)
        .filter(|text| !text.is_empty())
        .map(Value::from)
}

fn list(items: Option<&[String]>) -> Option<Value> {
    let items: Vec<&str> = items
        .unwrap_or_default()
        .iter()
        .map(|item| item.trim())
        .collect();
    (!items.is_empty()).then(|| json!(items))
}

/// An address in its normal form and the length of its prefix; `dhcp` and `auto` have none.
fn split(address: Option<&str>) -> (Option<Value>, Option<Value>) {
    let Some((address, length)) = address.and_then(|address| address.split_once('/')) else {
        return (text(address), None);
    };
    (
        text(Some(&normal(address))),
        length.parse::<u8>().ok().map(Value::from),
    )
}

fn gateway(gateway: Option<&str>) -> Option<Value> {
    gateway.map(|gateway| normal(gateway).into())
}

/// The properties of a value that is a text of Proxmox VE, or a dict.
fn parts(value: &Value, default_key: Option<&str>) -> BTreeMap<String, String> {
    match value {
        Value::String(text) => PropertyString::parse(text, default_key)
            .map(|parts| {
                parts
                    .iter()
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect()
            })
            .unwrap_or_default(),
        Value::Object(map) => map
            .iter()
            .filter_map(|(key, value)| match value {
                Value::Null => None,
                Value::String(text) => Some((key.clone(), text.clone())),
                other => Some((key.clone(), other.to_string())),
            })
            .collect(),
        _ => BTreeMap::new(),
    }
}

/// The MAC address of the first NIC, if the inventory sets it. A NIC has it behind its model (`virtio=MAC`) or as `macaddr`.
fn mac(vm: &Args) -> Option<String> {
    let nic = parts(vm.get("net")?.get("net0")?, Some("model"));
    nic.iter()
        .find(|(key, value)| {
            (*key == "macaddr" || pve_schema::NIC_MODELS.contains(&key.as_str()))
                && pve_schema::syntax::is_any_mac(value)
        })
        .map(|(_, mac)| mac.to_ascii_lowercase())
}

/// The device of the boot disk, where the variables alone say it. Names such as /dev/sda are given as the disks are found, so only a
/// single disk has a known one.
fn disk_device(settings: &Settings, vm: &Args) -> Option<String> {
    let key = settings.boot_disk();
    let bus = bus_of(&key).to_owned();
    let count = |bus: &str| vm.get(bus).and_then(Value::as_object).map_or(0, Map::len);
    let disk = parts(vm.get(&bus)?.get(&key)?, Some("file"));
    let serial = disk.get("serial");
    // What else names a SCSI disk in the guest; which of them wins differs between versions of Proxmox VE.
    let named = ["product", "serial", "vendor", "wwn"];
    match (bus.as_str(), serial) {
        ("scsi", _) if named.iter().any(|key| disk.contains_key(*key)) => None,
        ("scsi", _) => Some(format!(
            "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_drive-{key}"
        )),
        ("virtio", Some(serial)) => Some(format!("/dev/disk/by-id/virtio-{serial}")),
        ("virtio", None) if count("virtio") == 1 => Some("/dev/vda".into()),
        ("sata", None) if count("sata") == 1 && count("scsi") == 0 => Some("/dev/sda".into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(variables: Value) -> Value {
        of(&settings(variables)).into()
    }

    fn settings(variables: Value) -> Settings {
        let mut all = json!({
            "api_host": ["pve1"], "api_user": "a@pve", "name": "web1", "node": "pve1",
            "ip": "192.0.2.11/24", "flake": "/infra#web1",
        });
        for (key, value) in variables.as_object().unwrap() {
            all[key] = value.clone();
        }
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn the_variables_of_a_usual_machine() {
        let expected = json!({
            "node": "pve1", "hostName": "web1", "address": "192.0.2.11", "prefixLength": 24,
            "hostKeyPath": "/etc/ssh/ssh_host_ed25519_key",
            "diskDevice": "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_drive-scsi0", "bios": "seabios",
        });
        assert_eq!(facts(json!({})), expected);
    }

    #[test]
    fn every_variable_that_has_a_fact() {
        let expected = json!({
            "vmid": 211, "node": "pve1", "hostName": "web1",
            "address": "192.0.2.11", "prefixLength": 24, "gateway": "192.0.2.1",
            "ipv6": {"address": "2001:db8::11", "prefixLength": 64, "gateway": "2001:db8::1"},
            "nameservers": ["192.0.2.1", "2001:db8::53"], "searchDomains": ["example.org"],
            "mac": "02:00:00:00:0a:11", "authorizedKeys": ["ssh-ed25519 AAAA me"],
            "hostKeyPath": "/persist/etc/ssh/ssh_host_rsa_key",
            "diskDevice": "/dev/disk/by-id/virtio-root", "bios": "ovmf",
        });
        assert_eq!(
            facts(json!({
                "vmid": 211, "ip": "192.0.2.9/24", "nameservers": ["192.0.2.1", "2001:db8::53"], "searchdomains": ["example.org"],
                "ipconfig": {"ipconfig0": {"ip": "192.0.2.11/24", "gw": "192.0.2.1", "ip6": "2001:db8::11/64", "gw6": "2001:db8::1"}},
                "net": {"net0": {"virtio": "02:00:00:00:0A:11", "bridge": "vmbr0"}}, "bios": "ovmf", "persist": "/persist",
                "authorized_keys": ["ssh-ed25519 AAAA me\n"], "ssh_host_key_types": ["rsa", "ed25519"],
                "virtio": {"virtio0": {"storage": "local", "size": "8G", "serial": "root"}},
            })),
            expected
        );
    }

    #[test]
    fn addresses_that_only_the_network_knows() {
        let dhcp = facts(json!({"ip": "dhcp", "gateway": "192.0.2.1"}));
        assert_eq!(
            (
                &dhcp["address"],
                dhcp.get("gateway"),
                dhcp.get("prefixLength")
            ),
            (&json!("dhcp"), None, None)
        );
        let static_6 = facts(json!({
            "ip": ["dhcp", "2001:DB8::0:11/128"], "gateway": ["192.0.2.1", "FE80::1"],
        }));
        assert_eq!(
            (
                &static_6["address"],
                static_6.get("gateway"),
                &static_6["ipv6"]
            ),
            (
                &json!("dhcp"),
                None,
                &json!({"address": "2001:db8::11", "prefixLength": 128, "gateway": "fe80::1"})
            )
        );
        let alone = facts(json!({"ip": "slaac"}));
        assert_eq!(
            (alone.get("address"), &alone["ipv6"]),
            (None, &json!({"address": "auto"}))
        );
        let auto = facts(json!({"ipconfig": {"ipconfig0": "ip=dhcp,ip6=auto"}}));
        assert_eq!(
            (&auto["address"], &auto["ipv6"]),
            (&json!("dhcp"), &json!({"address": "auto"}))
        );
    }

    #[test]
    fn a_mac_address_is_found_however_it_is_written() {
        for nic in [
            json!("virtio=02:00:00:00:00:AB,bridge=vmbr0"),
            json!("model=e1000,macaddr=02:00:00:00:00:ab"),
            json!({"model": "virtio", "macaddr": "02:00:00:00:00:AB"}),
        ] {
            assert_eq!(
                facts(json!({"net": {"net0": nic}}))["mac"],
                "02:00:00:00:00:ab",
                "{nic}"
            );
        }
        assert_eq!(
            facts(json!({"net": {"net0": "virtio,bridge=vmbr0"}})).get("mac"),
            None
        );
    }

    #[test]
    fn a_disk_is_named_only_where_its_name_is_known() {
        let by_id = |name: &str| json!(format!("/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_{name}"));
        for (variables, device) in [
            (
                json!({"scsi": {"scsi1": "local:8", "scsi5": "local:8"}}),
                by_id("drive-scsi1"),
            ),
            (
                json!({"scsi": {"scsi0": "local:8", "scsi1": "local:8"}, "boot_disk": "scsi1"}),
                by_id("drive-scsi1"),
            ),
            (
                json!({"scsi": {"scsi0": "local:8,serial=root"}}),
                Value::Null,
            ),
            (json!({"scsi": {"scsi0": "local:8,vendor=me"}}), Value::Null),
            (json!({"virtio": {"virtio3": "local:8"}}), json!("/dev/vda")),
            (
                json!({"virtio": {"virtio0": "local:8", "virtio1": "local:8"}}),
                Value::Null,
            ),
            (json!({"sata": {"sata0": "local:8"}}), json!("/dev/sda")),
            (
                json!({"sata": {"sata0": "local:8"}, "scsi": {"scsi0": "local:8"}, "boot_disk": "sata0"}),
                Value::Null,
            ),
            (json!({"boot_disk": "virtio0"}), Value::Null),
        ] {
            assert_eq!(
                facts(variables.clone())["diskDevice"],
                device,
                "{variables}"
            );
        }
    }

    #[test]
    fn the_first_of_several_nics_needs_a_mac_address() {
        let wrong = |net: Value| mistakes(&settings(json!({"net": net})));
        assert_eq!(wrong(json!({"net0": "virtio,bridge=vmbr0"})), [""; 0]);
        assert_eq!(
            wrong(json!({"net0": "virtio=02:00:00:00:00:01", "net1": "virtio"})),
            [""; 0]
        );
        let mistakes = wrong(json!({"net0": "virtio,bridge=vmbr0", "net1": "virtio"}));
        assert!(
            mistakes[0].starts_with("nixos_vm_net.net0: "),
            "{mistakes:?}"
        );
    }

    /// The facts of the example flake are those that the role writes for the example inventory.
    #[test]
    fn the_examples_facts_are_the_inventorys() {
        let inventory = |name: &str, address: &str| {
            facts(json!({
                "name": name, "node": null, "ip": address, "gateway": "192.0.2.1", "nameservers": ["192.0.2.1"],
                "net": {"net0": "virtio,bridge=vmbr0"}, "disks_storage": "local-lvm",
            }))
        };
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        for (file, expected) in [
            (
                include_str!("../../../../examples/nixos-config/facts/web1.json"),
                inventory("web1", "192.0.2.11/24"),
            ),
            (
                include_str!("../../../../examples/nixos-config/facts/db1.json"),
                inventory("db1", "192.0.2.12/24"),
            ),
            (
                include_str!("../../../../examples/nixos-config/facts/vault1.json"),
                inventory("vault1", "192.0.2.13/24"),
            ),
        ] {
            assert_eq!(read(file), expected);
        }
    }
}
