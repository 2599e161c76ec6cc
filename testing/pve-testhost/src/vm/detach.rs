//! Volumes that a VM does not use any more.

use std::collections::BTreeMap;

use super::config::Config;
use super::destroy::{free, own_volume};
use super::drive::{Drive, is_drive};
use crate::host::Host;

/// A drive's value is not used any more: cloud-init volumes go, the VM's own disks become unused (or go, with `force`), ISOs and
/// other VMs' disks stay where they are.
pub fn detach(host: &Host, vmid: u32, config: &mut Config, value: &str, force: bool) {
    let drive = Drive::parse(value);
    if drive.is_cloudinit() || (force && !drive.is_cdrom()) {
        free(host, vmid, &drive.file);
        return;
    }
    if drive.is_cdrom() || own_volume(host, vmid, &drive.file).is_none() {
        return;
    }
    let referenced = |map: &BTreeMap<String, String>| {
        map.iter().any(|(key, value)| {
            (is_drive(key) || key.starts_with("unused")) && Drive::parse(value).file == drive.file
        })
    };
    if referenced(&config.current) || referenced(&config.pending) {
        return;
    }
    keep_unused(&mut config.current, drive.file);
}

/// Add a volume as the first free `unusedN`.
pub fn keep_unused(options: &mut BTreeMap<String, String>, volume: String) {
    let free = (0..256)
        .map(|n| format!("unused{n}"))
        .find(|key| !options.contains_key(key));
    options.extend(free.map(|key| (key, volume)));
}

/// Is a volume in use by the options now in force or by a snapshot, other than as an unused one?
pub fn is_in_use(config: &Config, volid: &str) -> bool {
    let uses = |options: &BTreeMap<String, String>| {
        options
            .iter()
            .any(|(key, value)| is_drive(key) && Drive::parse(value).file == volid)
    };
    uses(&config.current) || config.snapshots.values().any(uses)
}
