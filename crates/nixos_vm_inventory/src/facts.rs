//! Variables made of a VM's configuration, and the phase that its record names.

use pve_client::property::PropertyString;
use pve_module::record::{self, Binding, Identity, Record};
use serde_json::{Map, Value};

use crate::details::Config;
use crate::list::{Vm, text};
use crate::options::Options;

/// Left out: what says nothing about the VM. PVE shows a password as asterisks only.
const LEFT_OUT: [&str; 2] = ["digest", "cipassword"];

/// How the options that are drives begin; a number follows.
const DRIVES: [&str; 7] = [
    "scsi", "virtio", "sata", "ide", "efidisk", "tpmstate", "unused",
];

/// The options of a VM as variables, in the form of `community.proxmox`: texts of `key=value` are dicts, and the volume of a drive is its
/// `disk_image`.
pub fn of_config(options: &Options, config: &Config) -> Map<String, Value> {
    let shown = config
        .0
        .iter()
        .filter(|(key, _)| !LEFT_OUT.contains(&key.as_str()));
    shown
        .filter_map(|(key, value)| Some((name(options, key), fact(key, value)?)))
        .collect()
}

fn fact(key: &str, value: &Value) -> Option<Value> {
    let string = match value {
        Value::String(string) => string,
        Value::Number(_) | Value::Bool(_) => return Some(value.clone()),
        _ => return None,
    };
    if key == "description" {
        return Some(text(&record::without_record(string)).into());
    }
    let digits = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit());
    let is_drive = DRIVES
        .iter()
        .any(|start| key.strip_prefix(start).is_some_and(digits));
    let default_key = is_drive.then_some("disk_image");
    let string = text(string);
    let is_dict = is_drive || string.split(',').all(|part| part.contains('='));
    let parts = match is_dict {
        true => PropertyString::parse(&string, default_key).ok(),
        false => None,
    };
    let Some(parts) = parts else {
        return Some(string.into());
    };
    let keys = string.split(',').map(|part| match part.split_once('=') {
        Some((key, _)) => key.trim(),
        None => "disk_image",
    });
    let dict = keys.filter_map(|key| Some((key.to_owned(), parts.get(key)?.into())));
    Some(Value::Object(dict.collect()))
}

/// The name of a variable: the prefix and the option, as far as Ansible allows it.
pub fn name(options: &Options, key: &str) -> String {
    format!("{}{}", options.facts_prefix, identifier(key))
}

/// Small letters, digits and underscores; blanks are left out.
pub fn identifier(text: &str) -> String {
    let kept = text.chars().filter(|c| *c != ' ');
    let part = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '_'
        }
    };
    kept.map(part).collect()
}

/// The record in the VM's notes, if it was written for this VM. A record that a clone or a restored VM has copied does not count. After a
/// rollback only that of a finished machine counts, as for the role.
///
/// Whoever may change the VM's notes can write any record: it says what the machine is meant to be, and proves nothing.
pub fn record(vm: &Vm, config: &Config) -> Option<Record> {
    let record = Record::find(config.text("description")?)?;
    let identity = Identity::of(config.text("smbios1"), config.text("vmgenid"));
    match record.binding(vm.vmid, &identity) {
        Binding::Ours => Some(record),
        Binding::RolledBack if !record.phase.unfinished() => Some(record),
        Binding::RolledBack | Binding::Copied => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(value: Value) -> Config {
        Config(value.as_object().unwrap().clone())
    }

    #[test]
    fn options_become_variables() {
        let config = config(json!({
            "memory": "2048", "cores": 2, "scsihw": "virtio-scsi-single", "scsi0": "local:101/vm-101-disk-0.raw,discard=on,size=8G",
            "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0", "boot": "order=scsi0", "agent": "enabled=1", "ipconfig0": "ip=dhcp",
            "description": "mine\n<!-- nixos-proxmox: v=1 -->\n", "digest": "x", "cipassword": "**********", "odd": ["x"],
            "tags": "a;b", "Odd-Key": "\u{1b}[2J{{ x }}",
        }));
        assert_eq!(
            Value::Object(of_config(&crate::options::given(json!({})), &config)),
            json!({
                "proxmox_memory": "2048", "proxmox_cores": 2, "proxmox_scsihw": "virtio-scsi-single",
                "proxmox_scsi0": {"disk_image": "local:101/vm-101-disk-0.raw", "discard": "on", "size": "8G"},
                "proxmox_net0": {"virtio": "BC:24:11:00:00:01", "bridge": "vmbr0"}, "proxmox_boot": {"order": "scsi0"},
                "proxmox_agent": {"enabled": "1"}, "proxmox_ipconfig0": {"ip": "dhcp"}, "proxmox_description": "mine",
                "proxmox_tags": "a;b", "proxmox_odd_key": "\\x1b[2J{{ x }}",
            })
        );
    }

    #[test]
    fn a_record_counts_on_its_own_vm() {
        let uuid = "0a1b2c3d-0000-4000-8000-000000000001";
        let generation = "0a1b2c3d-0000-4000-8000-000000000002";
        let of = |phase: &str, vmid: u32, uuid_now: &str, generation_now: &str| {
            let notes = format!(
                "<!-- nixos-proxmox: v=1 installation={} host=web1 vmid=101 uuid={uuid} generation={generation} phase={phase} run=01234567 -->",
                "a".repeat(32)
            );
            let config = config(
                json!({"description": notes, "smbios1": format!("uuid={uuid_now}"), "vmgenid": generation_now}),
            );
            let vm = Vm {
                vmid,
                ..Vm::default()
            };
            record(&vm, &config).map(|record| record.phase.name())
        };
        assert_eq!(of("done", 101, uuid, generation), Some("done"));
        assert_eq!(of("installing", 101, uuid, generation), Some("installing"));
        let other = "0a1b2c3d-0000-4000-8000-000000000003";
        assert_eq!(of("done", 102, uuid, generation), None);
        assert_eq!(of("done", 101, other, generation), None);
        assert_eq!(of("installing", 101, uuid, other), None);
        assert_eq!(of("done", 101, uuid, other), Some("done"));
    }
}
