//! Templates: VMs whose disks are bases for clones.

use super::config::Config;
use super::drive::{Drive, is_drive};
use crate::context::Context;
use crate::error::{ApiError, ApiResult};
use crate::guest::Power;
use crate::host::Host;
use crate::storage::Kind;

/// Is it a template?
pub fn is_template(config: &Config) -> bool {
    config
        .current
        .get("template")
        .is_some_and(|flag| flag == "1")
}

/// POST template: make the VM a template, and its disks bases.
pub async fn template(context: Context) -> ApiResult {
    let vmid = context.vmid()?;
    if context.get("disk").is_some() {
        return Err(ApiError::failed(
            "the test host makes templates of whole VMs only",
        ));
    }
    let host = context.host.clone();
    let config = check(&host, vmid).map_err(ApiError::failed)?;
    if !config.snapshots.is_empty() {
        return Err(ApiError::failed(
            "unable to create template, because VM contains snapshots",
        ));
    }
    context.spawn("qmtemplate", &vmid.to_string(), move |_| async move {
        let _guard = host.lock_vm(vmid).await?;
        let mut config = check(&host, vmid)?;
        config.current.insert("template".into(), "1".into());
        for (key, value) in &mut config.current {
            let mut drive = Drive::parse(value);
            if is_drive(key) && !drive.is_cdrom() && drive.volume().is_some() {
                drive.file = to_base(&host, &drive.file)?;
                *value = drive.render();
            }
        }
        config.save(&host, vmid).map_err(|error| error.to_string())
    })
}

fn check(host: &Host, vmid: u32) -> Result<Config, String> {
    let config = Config::load(host, vmid).map_err(|error| error.message)?;
    config.check_lock()?;
    if is_template(&config) {
        return Err("you can't convert a template to a template".into());
    }
    if host.guests.power(vmid) != Power::Stopped {
        return Err("you can't convert a VM to template if VM is running".into());
    }
    Ok(config)
}

/// Rename a volume `vm-101-disk-0` to `base-101-disk-0`; a linked clone keeps its own base.
fn to_base(host: &Host, volid: &str) -> Result<String, String> {
    let (parent, own) = volid.rsplit_once("vm-").ok_or_else(|| {
        format!("unable to create template of '{volid}', because it is not a VM's image")
    })?;
    let base = format!("{parent}base-{own}");
    let (from, to) = (host.volume_file(volid)?, host.volume_file(&base)?);
    std::fs::rename(&from, &to).map_err(|error| format!("rename '{}': {error}", from.display()))?;
    Ok(base)
}

/// Fail when a linked clone needs one of this VM's disks.
pub fn check_unused(host: &Host, config: &Config) -> Result<(), String> {
    if !is_template(config) {
        return Ok(());
    }
    for (_, value) in config.current.iter().filter(|(key, _)| is_drive(key)) {
        let drive = Drive::parse(value);
        if drive.is_cdrom() || drive.volume().is_none() {
            continue;
        }
        let of_it = format!("{}/", own_name(host, &drive.file));
        let used = super::everywhere(host)
            .into_iter()
            .filter_map(|(node, vmid)| Config::load(&node, vmid).ok())
            .any(|other| {
                let values = other.current.values().chain(other.pending.values());
                values.into_iter().any(|value| value.starts_with(&of_it))
            });
        if used {
            return Err(format!(
                "base volume '{}' is still in use by linked cloned",
                drive.file
            ));
        }
    }
    Ok(())
}

/// A volume without the base it is itself a linked clone of: what the names of its own clones begin with.
pub fn own_name(host: &Host, volid: &str) -> String {
    let Some((storage, name)) = volid.split_once(':') else {
        return volid.to_owned();
    };
    let parts = match host.storage(storage).map(|storage| storage.kind) {
        Ok(Kind::Zfs) => 1,
        _ => 2,
    };
    let all: Vec<&str> = name.split('/').collect();
    let own = all[all.len().saturating_sub(parts)..].join("/");
    format!("{storage}:{own}")
}
