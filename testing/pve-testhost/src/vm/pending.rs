//! Pending changes: what a running VM takes at once, and what waits for its next stop or start.

use std::collections::BTreeMap;

use super::config::Config;
use super::detach::detach;
use super::drive::{self, Drive, bus, is_drive, is_net};
use super::options;
use crate::error::ApiError;
use crate::host::Host;

/// Put every pending change into force. The VM is stopped, or about to start.
pub fn apply(host: &Host, vmid: u32, config: &mut Config) {
    for (key, force) in std::mem::take(&mut config.delete) {
        remove(host, vmid, config, &key, force);
    }
    for (key, value) in std::mem::take(&mut config.pending) {
        store(host, vmid, config, &key, value);
    }
}

/// Delete one option for good.
fn remove(host: &Host, vmid: u32, config: &mut Config, key: &str, force: bool) {
    if let Some(old) = config.current.remove(key)
        && is_drive(key)
    {
        detach(host, vmid, config, &old, force);
    }
}

/// Set one option for good.
fn store(host: &Host, vmid: u32, config: &mut Config, key: &str, value: String) {
    let old = config.current.insert(key.to_owned(), value.clone());
    if is_drive(key)
        && let Some(old) = old
        && Drive::parse(&old).file != Drive::parse(&value).file
    {
        detach(host, vmid, config, &old, false);
    }
}

/// Remember what a cloud-init option of a running VM was when the drive was last written.
fn note(config: &mut Config, key: &str, old: Option<&str>, new: Option<&str>) {
    if !(options::is_cloudinit(key) || key == "name") || old == new {
        return;
    }
    match config.cloudinit.get(key) {
        // Back to what is on the drive.
        Some(before) if before.as_deref() == new => {
            config.cloudinit.remove(key);
        }
        Some(_) => {}
        None => {
            config
                .cloudinit
                .insert(key.to_owned(), old.map(str::to_owned));
        }
    }
}

/// Hand the pending changes to a running VM, as far as it can take them; the rest waits.
///
/// A change that fails leaves the others applied and itself pending, as in PVE.
///
/// Only `touched` options are looked at, and those that take effect at once on any running VM.
pub async fn hotplug(
    host: &Host,
    vmid: u32,
    config: &mut Config,
    touched: &[&String],
) -> Result<(), ApiError> {
    let due = |key: &String| touched.contains(&key) || options::is_immediate(key);
    let mut errors = BTreeMap::new();
    for (key, force) in config.delete.clone() {
        if !due(&key) {
            continue;
        }
        match unplug(host, config, &key) {
            Ok(true) => {
                config.delete.remove(&key);
                let old = config.current.get(&key).cloned();
                note(config, &key, old.as_deref(), None);
                remove(host, vmid, config, &key, force);
            }
            Ok(false) => {}
            Err(text) => {
                errors.insert(key, text);
            }
        }
    }
    for (key, value) in config.pending.clone() {
        if !due(&key) {
            continue;
        }
        match plug(host, vmid, config, &key, &value).await {
            Ok(true) => {
                config.pending.remove(&key);
                let old = config.current.get(&key).cloned();
                note(config, &key, old.as_deref(), Some(&value));
                store(host, vmid, config, &key, value);
            }
            Ok(false) => {}
            Err(text) => {
                errors.insert(key, format!("hotplug problem - {text}\n"));
            }
        }
    }
    config.save(host, vmid)?;
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::params(errors))
    }
}

/// Is this kind of device hot-pluggable in this VM?
fn enabled(config: &Config, feature: &str) -> bool {
    match config.current.get("hotplug").map(String::as_str) {
        None | Some("1") => true,
        Some("0") => false,
        Some(list) => crate::formats::list(list).contains(&feature),
    }
}

/// Can a deletion take effect now?
fn unplug(host: &Host, config: &Config, key: &str) -> Result<bool, String> {
    if options::is_immediate(key) {
        return Ok(true);
    }
    if !host.can_hotplug() {
        return Ok(false);
    }
    if is_net(key) {
        return Ok(enabled(config, "network"));
    }
    if matches!(bus(key), Some("scsi" | "virtio")) && enabled(config, "disk") {
        if drive::boot_devices(config.current.get("boot"))
            .iter()
            .any(|device| device == key)
        {
            return Err(format!("hotplug problem - can't unplug bootdisk '{key}'\n"));
        }
        return Ok(true);
    }
    Ok(false)
}

/// Can a new value take effect now? Media of CD-ROMs are changed on the way.
async fn plug(
    host: &Host,
    vmid: u32,
    config: &Config,
    key: &str,
    value: &str,
) -> Result<bool, String> {
    if options::is_immediate(key) {
        return Ok(true);
    }
    if is_net(key) {
        return Ok(host.can_hotplug() && enabled(config, "network"));
    }
    let Some(bus) = bus(key) else {
        return Ok(false);
    };
    let new = Drive::parse(value);
    match config.current.get(key).map(|old| Drive::parse(old)) {
        Some(old) if old.is_cdrom() && new.is_cdrom() => {
            if old.file != new.file {
                let medium = if new.has_medium() {
                    Some(host.volume_file(&new.file)?)
                } else {
                    None
                };
                if let Some(file) = medium.as_ref().filter(|file| !file.exists()) {
                    return Err(format!("volume '{}' does not exist", file.display()));
                }
                host.guests
                    .change_medium(vmid, key, medium.as_deref())
                    .await?;
            }
            Ok(true)
        }
        Some(old) if old.file == new.file => {
            // Limits and flags that QEMU takes while it runs; the others need a new device.
            let live = |name: &str| {
                ["bps", "iops", "mbps"]
                    .iter()
                    .any(|prefix| name.starts_with(prefix))
                    || matches!(name, "backup" | "replicate" | "size")
            };
            let differs = |a: &Drive, b: &Drive| {
                a.options
                    .iter()
                    .any(|(name, value)| !live(name) && b.get(name) != Some(value))
            };
            Ok(!differs(&old, &new) && !differs(&new, &old))
        }
        _ => Ok(host.can_hotplug() && matches!(bus, "scsi" | "virtio") && enabled(config, "disk")),
    }
}

/// GET pending.
pub fn list(config: &Config) -> serde_json::Value {
    use serde_json::json;
    let mut keys: Vec<&String> = config.current.keys().chain(config.pending.keys()).collect();
    keys.sort();
    keys.dedup();
    let mut entries: Vec<serde_json::Value> = keys
        .into_iter()
        .map(|key| {
            let mut entry = json!({"key": key});
            if let Some(value) = config.current.get(key) {
                entry["value"] = options::shown(key, value);
            }
            if let Some(value) = config.pending.get(key) {
                entry["pending"] = options::shown(key, value);
            }
            if let Some(force) = config.delete.get(key) {
                entry["delete"] = json!(if *force { 2 } else { 1 });
            }
            entry
        })
        .collect();
    entries.push(json!({"key": "digest", "value": config.digest}));
    entries.into()
}
