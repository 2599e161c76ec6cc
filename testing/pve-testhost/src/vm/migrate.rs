//! Moving a VM to another node: from PVE's source as remembered, not from observations.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::config::Config;
use super::drive::{Drive, is_drive};
use crate::access::Identity;
use crate::clock::now;
use crate::context::Context;
use crate::disk;
use crate::error::{ApiError, ApiResult};
use crate::guest::Power;
use crate::host::Host;
use crate::task::Log;

/// Devices that tie a VM to its node, unless they are mapped.
const LOCAL: [&str; 5] = ["usb", "hostpci", "serial", "parallel", "virtiofs"];

/// What passes until HA's manager does what it was asked for.
const HA_ROUND: Duration = Duration::from_secs(1);

/// A volume that the target cannot see where it is.
struct LocalDisk {
    volid: String,
    drive: Drive,
    unused: bool,
}

fn local_disks(host: &Host, config: &Config) -> Vec<LocalDisk> {
    let volumes = config
        .current
        .iter()
        .filter(|(key, _)| is_drive(key) || key.starts_with("unused"));
    let local = volumes.filter_map(|(key, value)| {
        let drive = Drive::parse(value);
        let (storage, _) = drive.volume().filter(|_| drive.has_medium())?;
        let shared = host.storage(storage).is_ok_and(|storage| storage.shared);
        (!shared).then(|| LocalDisk {
            volid: drive.file.clone(),
            unused: key.starts_with("unused"),
            drive,
        })
    });
    local.collect()
}

fn local_resources(config: &Config) -> Vec<&str> {
    let is_local = |(key, value): (&'static str, &String)| match key {
        "serial" => value != "socket",
        "usb" if value.starts_with("spice") || value == "host=spice" => false,
        _ => !value.split(',').any(|part| part.starts_with("mapping=")),
    };
    let found = config.current.iter().filter(|(key, value)| {
        let stem = key.trim_end_matches(|c: char| c.is_ascii_digit());
        let stem = LOCAL.iter().find(|known| **known == stem && stem != **key);
        stem.is_some_and(|stem| is_local((stem, value)))
    });
    found.map(|(key, _)| key.as_str()).collect()
}

/// The storages of the VM that a node does not have, or that are disabled.
fn missing_storages(config: &Config, target: &Host) -> Vec<String> {
    let mut missing = Vec::new();
    for (key, value) in &config.current {
        if !is_drive(key) && !key.starts_with("unused") {
            continue;
        }
        let drive = Drive::parse(value);
        let Some((storage, _)) = drive.volume().filter(|_| drive.has_medium()) else {
            continue;
        };
        let there = target.storage(storage).is_ok_and(|known| known.enabled);
        if !there && !missing.iter().any(|known| known == storage) {
            missing.push(storage.to_owned());
        }
    }
    missing
}

/// GET migrate: what speaks against it.
pub fn preconditions(context: &Context, vmid: u32) -> ApiResult {
    let host = &context.host;
    let config = Config::load(host, vmid)?;
    config.check_lock().map_err(ApiError::failed)?;
    let running = host.guests.power(vmid) != Power::Stopped;
    let disks = local_disks(host, &config).into_iter().map(|disk| {
        let size = host.volume_file(&disk.volid).ok();
        let size = size.and_then(|path| disk::virtual_size(&path)).unwrap_or(0);
        json!({
            "volid": disk.volid, "cdrom": u8::from(disk.drive.is_cdrom()), "is_unused": u8::from(disk.unused), "size": size,
        })
    });
    let mut value = json!({
        "running": u8::from(running), "local_disks": disks.collect::<Vec<_>>(), "local_resources": local_resources(&config),
        "mapped-resources": [], "mapped-resource-info": {}, "has-dbus-vmstate": 0,
    });
    if !running {
        let (mut allowed, mut refused) = (Vec::new(), json!({}));
        for peer in host.nodes().iter().filter(|peer| peer.node != host.node) {
            let missing = missing_storages(&config, peer);
            if missing.is_empty() {
                allowed.push(peer.node.clone());
            } else {
                refused[&peer.node] = json!({"unavailable_storages": missing});
            }
        }
        value["allowed_nodes"] = json!(allowed);
        value["not_allowed_nodes"] = refused;
    }
    Ok(value)
}

/// POST migrate.
pub fn migrate(context: &Context, vmid: u32) -> ApiResult {
    let host = context.host.clone();
    let name = context.need("target")?;
    if name == host.node {
        return Err(ApiError::param("target", "target is local node."));
    }
    let target = host
        .peer(name)
        .ok_or_else(|| ApiError::failed(format!("no such cluster node '{name}'")))?;
    if context.flag("force") && !context.who.is_root() {
        return Err(ApiError::param("force", "Only root may use this option."));
    }
    if context.get("targetstorage").is_some() {
        let text = "the test host moves disks to storages of the same name only";
        return Err(ApiError::failed(text));
    }
    let config = Config::load(&host, vmid)?;
    config.check_lock().map_err(ApiError::failed)?;
    let running = host.guests.power(vmid) != Power::Stopped;
    if running && !context.flag("online") {
        return Err(ApiError::failed(
            "can't migrate running VM without --online",
        ));
    }
    if let Some(storage) = missing_storages(&config, &target).first() {
        let text = format!("storage '{storage}' is not available on node '{name}'");
        return Err(ApiError::failed(text));
    }
    let wish = Wish {
        vmid,
        running,
        local_disks: context.flag("with-local-disks"),
        force: context.flag("force"),
        slow: context.interrupt.slow,
    };
    let id = vmid.to_string();
    if !host.facts().ha && !crate::ha::Ha::read(&host.dir).manages(vmid) {
        let work = move |log| carry_out(host, target, wish, log);
        return context.spawn("qmigrate", &id, work);
    }
    context.spawn("hamigrate", &id.clone(), move |log| async move {
        log.line(format!(
            "Requesting HA migration for VM {vmid} to node {}",
            target.node
        ));
        tokio::spawn(async move {
            tokio::time::sleep(HA_ROUND).await;
            let root = Identity {
                user: "root@pam".into(),
                token: None,
            };
            let tasks = host.tasks.clone();
            let work = move |log| carry_out(host, target, wish, log);
            tasks.spawn("qmigrate", &id, &root, None, work);
        });
        Ok(())
    })
}

async fn carry_out(host: Arc<Host>, target: Arc<Host>, wish: Wish, log: Log) -> Result<(), String> {
    let _guard = host.lock_vm(wish.vmid).await?;
    let since = Instant::now();
    let log = Stamped(&log);
    let took = || {
        let seconds = since.elapsed().as_secs();
        format!(
            "{:02}:{:02}:{:02}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        )
    };
    match transfer(&host, &target, &wish, &log).await {
        Ok(()) => {
            log.line(&format!(
                "migration finished successfully (duration {})",
                took()
            ));
            Ok(())
        }
        Err(error) => {
            log.line(&format!(
                "ERROR: migration aborted (duration {}): {error}",
                took()
            ));
            Err("migration aborted".into())
        }
    }
}

/// What is asked for.
struct Wish {
    vmid: u32,
    running: bool,
    local_disks: bool,
    force: bool,
    slow: Duration,
}

/// Log lines with the time before them, as only migrations have.
struct Stamped<'a>(&'a Log);

impl Stamped<'_> {
    fn line(&self, text: &str) {
        self.0.line(format!("{} {text}", time(now())));
    }
}

/// What an attempt leaves behind when it fails or is killed: the VM where it was, unlocked, and nothing on the target.
struct Attempt {
    host: Arc<Host>,
    vmid: u32,
    copies: Vec<PathBuf>,
    done: bool,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        for copy in &self.copies {
            let _ = std::fs::remove_file(copy);
        }
        if let Ok(mut config) = Config::load(&self.host, self.vmid)
            && config
                .current
                .get("lock")
                .is_some_and(|lock| lock == "migrate")
        {
            config.current.remove("lock");
            let _ = config.save(&self.host, self.vmid);
        }
    }
}

async fn transfer(
    host: &Arc<Host>,
    target: &Arc<Host>,
    wish: &Wish,
    log: &Stamped<'_>,
) -> Result<(), String> {
    let vmid = wish.vmid;
    if target.facts().offline {
        return Err(format!(
            "Can't connect to destination address of node '{}'",
            target.node
        ));
    }
    log.line(&format!(
        "starting migration of VM {vmid} to node '{}' (127.0.0.1)",
        target.node
    ));
    let (mut config, disks) = scan(host, wish, log)?;
    config.current.insert("lock".into(), "migrate".into());
    config.save(host, vmid).map_err(|error| error.to_string())?;
    let mut attempt = Attempt {
        host: host.clone(),
        vmid,
        copies: Vec::new(),
        done: false,
    };
    tokio::time::sleep(wish.slow).await;
    if !disks.is_empty() {
        log.line("copying local disk images");
    }
    let old = copy_disks(host, target, &disks, &mut attempt).await?;
    if wish.running {
        log.line(&format!(
            "starting VM {vmid} on remote node '{}'",
            target.node
        ));
        log.line(&format!(
            "starting online/live migration on unix:/run/qemu-server/{vmid}.migrate"
        ));
        log.line("migration completed");
    }
    config.current.remove("lock");
    config.save(host, vmid).map_err(|error| error.to_string())?;
    Config::hand_over(host, target, vmid).map_err(|error| error.to_string())?;
    attempt.done = true;
    for file in old {
        let _ = std::fs::remove_file(file);
    }
    Ok(())
}

/// The configuration of the VM and the disks that have to be copied, if nothing is in the way.
fn scan(
    host: &Arc<Host>,
    wish: &Wish,
    log: &Stamped<'_>,
) -> Result<(Config, Vec<LocalDisk>), String> {
    let config = Config::load(host, wish.vmid).map_err(|error| error.message)?;
    config.check_lock()?;
    let devices = local_resources(&config).join(", ");
    if !devices.is_empty() && (wish.running || !wish.force) {
        return Err(format!(
            "can't migrate VM which uses local devices: {devices}"
        ));
    }
    if wish.running && !host.can_hotplug() {
        return Err("the test host does not migrate a real guest while it runs".into());
    }
    let disks = local_disks(host, &config);
    for disk in &disks {
        log.line(&format!("found local disk '{}' (attached)", disk.volid));
    }
    if let Some(problem) = problem(wish, &disks) {
        log.line(&problem);
        log.line("ERROR: Problem found while scanning volumes - can't migrate VM - check log");
        log.line("aborting phase 1 - cleanup resources");
        return Err("Problem found while scanning volumes - can't migrate VM - check log".into());
    }
    Ok((config, disks))
}

/// Copy disks to the target. Returns the files that they are copies of.
async fn copy_disks(
    host: &Arc<Host>,
    target: &Arc<Host>,
    disks: &[LocalDisk],
    attempt: &mut Attempt,
) -> Result<Vec<PathBuf>, String> {
    let mut old = Vec::new();
    for disk in disks {
        let (from, to) = (
            host.volume_file(&disk.volid)?,
            target.volume_file(&disk.volid)?,
        );
        if to.exists() {
            return Err(format!(
                "volume '{}' already exists on the target",
                disk.volid
            ));
        }
        attempt.copies.push(to.clone());
        disk::import(&from, disk::format_of(&from), &to).await?;
        old.push(from);
    }
    Ok(old)
}

/// Why a local volume cannot move along.
fn problem(wish: &Wish, disks: &[LocalDisk]) -> Option<String> {
    disks.iter().find_map(|disk| {
        let volid = &disk.volid;
        if disk.drive.is_cloudinit() {
            None
        } else if disk.drive.is_cdrom() {
            Some(format!(
                "can't migrate local disk '{volid}': local cdrom image"
            ))
        } else if let Some((base, _)) = volid
            .split_once("/vm-")
            .filter(|(base, _)| base.contains("base-"))
        {
            Some(format!(
                "can't migrate '{volid}' as it's a clone of '{base}'"
            ))
        } else if wish.running && !wish.local_disks {
            Some("can't live migrate attached local disks without with-local-disks option".into())
        } else {
            None
        }
    })
}

/// Seconds since the epoch as `2026-01-31 23:59:59` (UTC).
fn time(seconds: u64) -> String {
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|at| at.format(&format).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(time(0), "1970-01-01 00:00:00");
        assert_eq!(time(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(time(1_795_388_399), "2026-11-22 22:59:59");
    }

    #[test]
    fn what_ties_a_vm_to_its_node() {
        let config = Config::parse(
            "hostpci0: 0000:01:00.0\nhostpci1: mapping=gpu\nserial0: socket\nserial1: /dev/ttyS0\nusb0: spice\nmemory: 512\n",
        );
        assert_eq!(local_resources(&config), ["hostpci0", "serial1"]);
    }
}
