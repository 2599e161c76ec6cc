//! Destroying VMs.

use std::path::PathBuf;

use super::config::Config;
use super::drive::{Drive, is_drive};
use crate::context::Context;
use crate::error::{ApiError, ApiResult};
use crate::guest::Power;
use crate::ha::{self, Ha};
use crate::host::Host;
use crate::storage::{Kind, Storage};

/// DELETE /nodes/N/qemu/ID.
pub fn destroy(context: &Context, vmid: u32) -> ApiResult {
    let host = context.host.clone();
    let config = Config::load(&host, vmid)?;
    if config
        .current
        .get("protection")
        .is_some_and(|flag| flag == "1")
    {
        return Err(ApiError::failed(format!(
            "can't remove VM {vmid} - protection mode enabled"
        )));
    }
    if host.guests.power(vmid) != Power::Stopped {
        return Err(ApiError::failed(format!(
            "VM {vmid} is running - destroy failed"
        )));
    }
    if Ha::read(&host.dir).resources.contains_key(&ha::sid(vmid)) && !context.flag("purge") {
        return Err(ApiError::failed(format!(
            "unable to remove VM {vmid} - used in HA resources and purge parameter not set."
        )));
    }
    let unreferenced = context.flag("destroy-unreferenced-disks");
    let purge = context.flag("purge");
    let skiplock = context.flag("skiplock");
    context.spawn("qmdestroy", &vmid.to_string(), move |log| async move {
        let _guard = host.lock_vm(vmid).await?;
        let config = Config::load(&host, vmid).map_err(|error| error.message)?;
        if !skiplock && !config.has_lock("suspended") {
            config.check_lock()?;
        }
        if host.guests.power(vmid) != Power::Stopped {
            return Err(format!("VM {vmid} is running - destroy failed"));
        }
        super::template::check_unused(&host, &config)?;
        for (key, value) in config.current.iter().chain(&config.pending) {
            if is_drive(key) || key.starts_with("unused") {
                free(&host, vmid, &Drive::parse(value).file);
            }
        }
        for options in config.snapshots.values() {
            if let Some(volid) = options.get("vmstate") {
                free(&host, vmid, volid);
            }
        }
        if unreferenced {
            for storage in host.storages().iter().filter(|storage| storage.enabled) {
                for volume in storage
                    .list()
                    .into_iter()
                    .filter(|volume| volume.vmid == Some(vmid))
                {
                    log.line(format!("Destroying unreferenced disk '{}'", volume.volid));
                    let _ = std::fs::remove_file(volume.path);
                }
            }
        }
        if purge {
            log.line(format!("purging VM {vmid} from related configurations.."));
            let mut ha = Ha::read(&host.dir);
            if ha.resources.contains_key(&ha::sid(vmid)) {
                ha.remove(&ha::sid(vmid), true);
                ha.save(&host.dir).map_err(|error| error.to_string())?;
                log.line(format!(
                    "NOTE: removed VM {vmid} from HA resource configuration."
                ));
            }
        }
        leave_pools(&host, vmid);
        host.guests.forget(vmid);
        let _ = std::fs::remove_dir_all(host.dir.join("run").join(vmid.to_string()));
        Config::remove(&host, vmid).map_err(|error| error.to_string())
    })
}

/// Remove a volume if it belongs to this VM; ISOs and others' disks stay.
pub fn free(host: &Host, vmid: u32, volid: &str) -> bool {
    let Some((storage, file)) = own_volume(host, vmid, volid) else {
        return false;
    };
    let path = storage.path.join(file);
    let removed = std::fs::remove_file(&path).is_ok();
    super::volume_snapshot::forget(&path);
    if let Some(dir) = path.parent().filter(|_| storage.kind == Kind::Dir) {
        // Goes once the last image is gone.
        let _ = std::fs::remove_dir(dir);
    }
    removed
}

/// The storage and the file of a volume, if its name says that it is this VM's.
pub fn own_volume<'a>(host: &'a Host, vmid: u32, volid: &str) -> Option<(&'a Storage, PathBuf)> {
    let (storage, name) = volid.split_once(':')?;
    let storage = host.storage(storage).ok()?;
    let parsed = storage.parse(name).ok()?;
    (parsed.vmid == Some(vmid)).then_some((storage, parsed.file))
}

/// A VM that is gone is in no pool.
pub fn leave_pools(host: &Host, vmid: u32) {
    let mut pools = super::pools(&host.dir);
    let before = pools.clone();
    pools
        .values_mut()
        .for_each(|members| members.retain(|member| *member != vmid));
    if pools != before
        && let Err(error) = super::save_pools(host, &pools)
    {
        eprintln!("pve-testhost: cannot write pools.json: {error}");
    }
}
