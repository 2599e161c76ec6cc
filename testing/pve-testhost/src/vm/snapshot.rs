//! Snapshots of a VM: its options and its disks at one moment, as qemu-server keeps them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::config::Config;
use super::detach::{detach, is_in_use, keep_unused};
use super::drive::{self, Drive, is_drive};
use super::{options, power, template, volume_snapshot};
use crate::clock::now;
use crate::faults::Interrupt;
use crate::guest::Power;
use crate::host::Host;
use crate::random::random_uuid;
use crate::task::Log;

type Options = BTreeMap<String, String>;

/// What a new snapshot shall be.
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Its description, if any.
    pub description: Option<String>,
    /// Whether the memory of a running guest goes along.
    pub vmstate: bool,
    /// What happens to the task in its middle.
    pub interrupt: Interrupt,
}

/// The text for a snapshot that does not exist.
pub fn missing(name: &str) -> String {
    format!("snapshot '{name}' does not exist")
}

/// The disks of these options in PVE's order; CD-ROMs and cloud-init drives are not among them.
fn disks(options: &Options) -> Vec<(String, Drive)> {
    let mut disks: Vec<(String, Drive)> = options
        .iter()
        .filter(|(key, _)| is_drive(key))
        .map(|(key, value)| (key.clone(), Drive::parse(value)))
        .filter(|(_, drive)| !drive.is_cdrom() && drive.volume().is_some())
        .collect();
    disks.sort_by_key(|(key, _)| drive::order(key));
    disks
}

/// Can all disks of these options be snapshotted?
pub fn is_possible(host: &Host, options: &Options) -> bool {
    disks(options)
        .iter()
        .all(|(_, drive)| volume_snapshot::is_possible(host, &drive.file))
}

/// The options that go into a snapshot, and come back from it.
fn copied(from: &Options) -> Options {
    let own = |key: &str| {
        matches!(
            key,
            "snapstate" | "snaptime" | "vmstate" | "lock" | "description"
        ) || key.starts_with("unused")
    };
    let kept = from.iter().filter(|(key, _)| !own(key));
    kept.map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn load(host: &Host, vmid: u32) -> Result<Config, String> {
    Config::load(host, vmid).map_err(|error| error.message)
}

fn save(host: &Host, vmid: u32, config: &mut Config) -> Result<(), String> {
    config.save(host, vmid).map_err(|error| error.to_string())
}

fn is_running(host: &Host, vmid: u32) -> bool {
    host.guests.power(vmid) != Power::Stopped
}

/// Take a snapshot: reserve its name, snapshot the disks, make it the current state's parent.
pub async fn create(host: &Arc<Host>, vmid: u32, wanted: Wanted, log: &Log) -> Result<(), String> {
    let name = wanted.name.as_str();
    let snapshot = {
        let _guard = host.lock_vm(vmid).await?;
        prepare(host, vmid, &wanted)?
    };
    wanted.interrupt.pass().await?;
    let mut done = Vec::new();
    let result = snapshot_disks(host, vmid, &wanted, &snapshot, &mut done, log).await;
    let _guard = host.lock_vm(vmid).await?;
    let mut config = load(host, vmid)?;
    if let Err(error) = result {
        log.line("snapshot create failed: starting cleanup");
        for (key, volid) in done {
            if let Err(error) = volume_snapshot::delete(host, vmid, &key, &volid, name).await {
                log.line(error);
            }
        }
        config.snapshots.remove(name);
        config.current.remove("lock");
        save(host, vmid, &mut config)?;
        return Err(error);
    }
    if config.current.remove("lock").as_deref() != Some("snapshot") {
        return Err("missing snapshot lock".into());
    }
    if let Some(snapshot) = config.snapshots.get_mut(name) {
        snapshot.remove("snapstate");
    }
    config.current.insert("parent".into(), name.to_owned());
    save(host, vmid, &mut config)
}

fn prepare(host: &Host, vmid: u32, wanted: &Wanted) -> Result<Options, String> {
    let mut config = load(host, vmid)?;
    if template::is_template(&config) {
        return Err("you can't take a snapshot if it's a template".into());
    }
    config.check_lock()?;
    if config.snapshots.contains_key(&wanted.name) {
        return Err(format!("snapshot name '{}' already used", wanted.name));
    }
    if !is_possible(host, &config.current) {
        return Err("snapshot feature is not available".into());
    }
    // A snapshot of that name was removed by hand: its children would become their own ancestors.
    for options in config.snapshots.values_mut() {
        if options.get("parent") == Some(&wanted.name) {
            options.remove("parent");
        }
    }
    let mut snapshot = copied(&config.current);
    if wanted.vmstate && is_running(host, vmid) {
        let (volid, bytes) = state_volume(host, vmid, &config.current, &wanted.name)?;
        let file = host.volume_file(&volid)?;
        let make = || {
            std::fs::create_dir_all(file.parent().unwrap_or(std::path::Path::new("/")))?;
            std::fs::File::create(&file)?.set_len(bytes)
        };
        make().map_err(|error| format!("unable to create image: {error}"))?;
        snapshot.insert("vmstate".into(), volid);
        snapshot.insert("runningmachine".into(), "pc-i440fx-10.0+pve0".into());
    }
    snapshot.insert("snapstate".into(), "prepare".into());
    snapshot.insert("snaptime".into(), now().to_string());
    if let Some(text) = wanted.description.as_ref().filter(|text| !text.is_empty()) {
        snapshot.insert("description".into(), text.clone());
    }
    config.current.insert("lock".into(), "snapshot".into());
    config
        .snapshots
        .insert(wanted.name.clone(), snapshot.clone());
    save(host, vmid, &mut config)?;
    Ok(snapshot)
}

/// Where the memory of a guest goes, and how large PVE makes that: twice the memory and 500 MiB.
fn state_volume(
    host: &Host,
    vmid: u32,
    options: &Options,
    name: &str,
) -> Result<(String, u64), String> {
    if !host.can_hotplug() {
        return Err("the test host does not save the memory of a real guest".into());
    }
    let used = disks(options);
    let storage = options
        .get("vmstatestorage")
        .map(String::as_str)
        .or_else(|| used.first()?.1.volume().map(|(storage, _)| storage))
        .unwrap_or("local");
    let storage = host.storage(storage).map_err(|error| error.message)?;
    let memory = options.get("memory").and_then(|value| value.parse().ok());
    let mib: u64 = memory.unwrap_or(512) * 2 + 500;
    let name = storage.image_name(vmid, &format!("vm-{vmid}-state-{name}"), "raw");
    Ok((format!("{}:{name}", storage.id), mib << 20))
}

async fn snapshot_disks(
    host: &Host,
    vmid: u32,
    wanted: &Wanted,
    snapshot: &Options,
    done: &mut Vec<(String, String)>,
    log: &Log,
) -> Result<(), String> {
    if is_running(host, vmid) && !snapshot.contains_key("vmstate") {
        log.line(if options::agent_enabled(snapshot) {
            "skipping guest filesystem freeze - agent configured but not running?"
        } else {
            "skipping guest filesystem freeze - disabled in VM options"
        });
    }
    for (key, drive) in disks(snapshot) {
        log.line(format!("snapshotting 'drive-{key}' ({})", drive.file));
        volume_snapshot::create(host, vmid, &key, &drive.file, &wanted.name).await?;
        done.push((key, drive.file));
    }
    Ok(())
}

/// Go back to a snapshot: options and disks of then, notes of now, stopped.
///
/// Returns whether the guest's memory was in the snapshot, so that the VM has to run again.
pub async fn rollback(
    host: &Arc<Host>,
    vmid: u32,
    name: &str,
    interrupt: Interrupt,
    log: &Log,
) -> Result<bool, String> {
    let snapshot = {
        let _guard = host.lock_vm(vmid).await?;
        let config = load(host, vmid)?;
        let snapshot = rollback_source(&config, name)?;
        for (_, drive) in disks(&snapshot) {
            volume_snapshot::check_rollback(host, &drive.file, name)?;
        }
        if let Some(state) = snapshot.get("snapstate") {
            return Err(format!(
                "unable to rollback to incomplete snapshot (snapstate = {state})"
            ));
        }
        config.check_lock()?;
        if is_running(host, vmid) {
            host.guests.stop(vmid).await;
            power::settle(host, vmid)?;
        }
        let mut config = load(host, vmid)?;
        config.current.insert("lock".into(), "rollback".into());
        save(host, vmid, &mut config)?;
        snapshot
    };
    interrupt.pass().await?;
    // A disk that fails leaves the lock, as on PVE.
    for (_, drive) in disks(&snapshot) {
        volume_snapshot::rollback(host, &drive.file, name).await?;
    }
    let _guard = host.lock_vm(vmid).await?;
    let mut config = load(host, vmid)?;
    if config.current.remove("lock").as_deref() != Some("rollback") {
        return Err("got wrong lock".into());
    }
    apply(host, vmid, &mut config, name, log)?;
    save(host, vmid, &mut config)?;
    Ok(snapshot.contains_key("vmstate"))
}

fn rollback_source(config: &Config, name: &str) -> Result<Options, String> {
    if template::is_template(config) {
        return Err("you can't rollback if vm is a template".into());
    }
    let found = config.snapshots.get(name);
    found.cloned().ok_or_else(|| missing(name))
}

/// Put the options of a snapshot into force.
fn apply(host: &Host, vmid: u32, config: &mut Config, name: &str, log: &Log) -> Result<(), String> {
    let snapshot = rollback_source(config, name)?;
    let mut options = copied(&snapshot);
    for key in ["runningmachine", "runningcpu", "running-nets-host-mtu"] {
        options.remove(key);
    }
    // Another generation, so that the guest can notice.
    if options.get("vmgenid").is_some_and(|id| id != "0") {
        options.insert("vmgenid".into(), random_uuid());
    }
    options.insert("parent".into(), name.to_owned());
    let kept = |key: &str| key == "description" || key.starts_with("unused");
    let before = std::mem::take(&mut config.current);
    options.extend(
        before
            .iter()
            .filter(|(key, _)| kept(key))
            .map(|(key, value)| (key.clone(), value.clone())),
    );
    config.current = options;
    config.pending.clear();
    config.delete.clear();
    config.cloudinit.clear();
    // What was attached since stays as an unused disk; a cloud-init drive goes.
    for (key, value) in before.iter().filter(|(key, _)| is_drive(key)) {
        let drive = Drive::parse(value);
        let known = snapshot
            .get(key)
            .is_some_and(|then| Drive::parse(then).file == drive.file);
        if known || is_attached(&config.current, &drive.file) {
            continue;
        }
        if drive.is_cloudinit() {
            log.line(format!(
                "found unused cloudinit disk '{}', removing it",
                drive.file
            ));
        }
        detach(host, vmid, config, value, false);
    }
    Ok(())
}

fn is_attached(options: &Options, volid: &str) -> bool {
    options
        .iter()
        .any(|(key, value)| is_drive(key) && Drive::parse(value).file == volid)
}

/// Delete a snapshot; its children become those of its parent. `force` passes over disks that fail.
pub async fn delete(
    host: &Arc<Host>,
    vmid: u32,
    name: &str,
    force: bool,
    interrupt: Interrupt,
    log: &Log,
) -> Result<(), String> {
    let snapshot = {
        let _guard = host.lock_vm(vmid).await?;
        let mut config = load(host, vmid)?;
        if !config.snapshots.contains_key(name) {
            return Err(missing(name));
        }
        config.check_lock()?;
        if template::is_template(&config) {
            return Err("you can't delete a snapshot if vm is a template".into());
        }
        config
            .current
            .insert("lock".into(), "snapshot-delete".into());
        let snapshot = config.snapshots.entry(name.to_owned()).or_default();
        snapshot.insert("snapstate".into(), "delete".into());
        let snapshot = snapshot.clone();
        save(host, vmid, &mut config)?;
        snapshot
    };
    interrupt.pass().await?;
    if let Some(state) = snapshot.get("vmstate") {
        super::destroy::free(host, vmid, state);
    }
    if !force && snapshot.contains_key("vmstate") {
        forget(host, vmid, name, "vmstate").await?;
    }
    for (key, drive) in disks(&snapshot) {
        let result = volume_snapshot::delete(host, vmid, &key, &drive.file, name).await;
        match result {
            Err(error) if force => log.line(error),
            // A disk that fails leaves the lock and the rest of the section, as on PVE.
            other => other?,
        }
        if !force {
            forget(host, vmid, name, &key).await?;
        }
    }
    let _guard = host.lock_vm(vmid).await?;
    let mut config = load(host, vmid)?;
    config.snapshots.remove(name);
    config.current.remove("lock");
    unlink(&mut config, name, snapshot.get("parent"));
    // A disk that only the snapshot had is an unused one from now on.
    for (key, value) in &snapshot {
        if is_drive(key) {
            let drive = Drive::parse(value);
            if !drive.is_cdrom() && !is_in_use(&config, &drive.file) {
                detach(host, vmid, &mut config, value, false);
            }
        }
    }
    save(host, vmid, &mut config)
}

/// Take a drive whose volume's snapshot is gone out of the section of a snapshot that is being deleted. Its volume stays there as
/// an unused one.
async fn forget(host: &Arc<Host>, vmid: u32, name: &str, key: &str) -> Result<(), String> {
    let _guard = host.lock_vm(vmid).await?;
    let mut config = load(host, vmid)?;
    let snapshot = config
        .snapshots
        .get_mut(name)
        .ok_or_else(|| missing(name))?;
    if let Some(value) = snapshot.remove(key).filter(|_| is_drive(key)) {
        keep_unused(snapshot, Drive::parse(&value).file);
    }
    save(host, vmid, &mut config)
}

/// The children of a snapshot that is gone become those of its parent.
fn unlink(config: &mut Config, name: &str, parent: Option<&String>) {
    let others = config.snapshots.values_mut();
    for options in others.chain([&mut config.current]) {
        if options.get("parent").is_some_and(|known| known == name) {
            match parent {
                Some(parent) => options.insert("parent".into(), parent.clone()),
                None => options.remove("parent"),
            };
        }
    }
}
