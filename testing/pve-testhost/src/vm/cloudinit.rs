//! The cloud-init drive's calls.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::config::Config;
use super::drive::{Drive, bus};
use super::options;
use crate::error::ApiError;
use crate::guest::cloudinit::{self, Custom};
use crate::host::Host;

/// The file of a VM's cloud-init drive, if it has one.
fn volume(config: &Config) -> Option<String> {
    let drives = config
        .current
        .iter()
        .filter(|(key, _)| bus(key).is_some())
        .map(|(_, value)| Drive::parse(value));
    drives
        .into_iter()
        .find(Drive::is_cloudinit)
        .map(|drive| drive.file)
}

/// Snippets named by `cicustom`.
fn custom(host: &Host, config: &Config) -> Result<Custom, String> {
    let mut custom = Custom::default();
    let Some(value) = config.current.get("cicustom") else {
        return Ok(custom);
    };
    for part in value.split(',') {
        let Some((kind, volid)) = part.split_once('=') else {
            continue;
        };
        let file = host.volume_file(volid)?;
        let text = std::fs::read_to_string(file)
            .map_err(|_| format!("volume '{volid}' does not exist"))?;
        match kind {
            "user" => custom.user = Some(text),
            "network" => custom.network = Some(text),
            "meta" => custom.meta = Some(text),
            "vendor" => custom.vendor = Some(text),
            _ => {}
        }
    }
    Ok(custom)
}

fn with_resolver(host: &Host, config: &Config) -> BTreeMap<String, String> {
    let dns = host.facts().dns;
    cloudinit::with_resolver(&config.current, dns.search.as_deref(), &dns.servers())
}

/// Write the drive's content, if there is a drive; afterwards nothing differs from it. The caller saves the config.
/// Returns whether there is one.
pub async fn generate(host: &Host, vmid: u32, config: &mut Config) -> Result<bool, String> {
    let volume = volume(config);
    if let Some(volid) = &volume {
        let custom = custom(host, config)?;
        let drive = cloudinit::drive(vmid, &with_resolver(host, config), &custom)?;
        crate::disk::write_cloudinit(&host.volume_file(volid)?, &drive.image()).await?;
    }
    config.cloudinit.clear();
    Ok(volume.is_some())
}

/// PUT cloudinit.
pub async fn regenerate(host: &Host, vmid: u32) -> Result<Value, ApiError> {
    let _guard = host.lock_vm(vmid).await.map_err(ApiError::failed)?;
    let mut config = Config::load(host, vmid)?;
    config.check_lock().map_err(ApiError::failed)?;
    generate(host, vmid, &mut config)
        .await
        .map_err(ApiError::failed)?;
    config.save(host, vmid)?;
    Ok(Value::Null)
}

/// GET cloudinit: what is on the drive and what would be. PVE goes through a list of options that has no `ipconfigN`.
pub fn pending(host: &Host, vmid: u32) -> Result<Value, ApiError> {
    let config = Config::load(host, vmid)?;
    let mut keys: Vec<&String> = config
        .current
        .keys()
        .filter(|key| options::is_cloudinit(key))
        .chain(config.cloudinit.keys())
        .filter(|key| !key.starts_with("ipconfig") && *key != "name")
        .collect();
    keys.sort();
    keys.dedup();
    let entry = |key: &String| {
        let mut entry = json!({"key": key});
        let now = config.current.get(key);
        match config.cloudinit.get(key) {
            Some(before) => {
                if let Some(before) = before {
                    entry["value"] = options::shown(key, before);
                }
                match now {
                    Some(now) => entry["pending"] = options::shown(key, now),
                    None => entry["delete"] = json!(1),
                }
            }
            None => entry["value"] = now.map_or(Value::Null, |now| options::shown(key, now)),
        }
        entry
    };
    Ok(keys.into_iter().map(entry).collect())
}

/// GET cloudinit/dump: what PVE itself would write, without `cicustom`.
pub fn dump(host: &Host, vmid: u32, kind: &str) -> Result<Value, ApiError> {
    let config = Config::load(host, vmid)?;
    let text = match kind {
        "user" => cloudinit::user_data(vmid, &config.current),
        "network" => {
            cloudinit::network_data(&with_resolver(host, &config)).map_err(ApiError::failed)?
        }
        _ => cloudinit::meta_data(vmid, &config.current).map_err(ApiError::failed)?,
    };
    Ok(json!(text))
}
