//! Changing a VM's configuration: PUT and POST config, unlink, resize.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::config::Config;
use super::create::{check_cloudinit, check_storage};
use super::detach::{detach, is_in_use};
use super::drive::{self, Drive, bus, is_drive};
use super::permission::Scope;
use super::provide::provide;
use super::{options, pending};
use crate::access::Identity;
use crate::context::Context;
use crate::error::{ApiError, ApiResult};
use crate::formats::list;
use crate::guest::Power;
use crate::host::Host;
use crate::schema;
use crate::task::Log;

/// Parameters of the call that are no options.
const NOT_OPTIONS: [&str; 9] = [
    "node",
    "vmid",
    "digest",
    "delete",
    "revert",
    "skiplock",
    "force",
    "background_delay",
    "import-working-storage",
];

/// What a call wants changed.
#[derive(Default)]
struct Change {
    set: BTreeMap<String, String>,
    delete: Vec<String>,
    revert: Vec<String>,
    force: bool,
}

/// The change that a call asks for, refused if it contradicts itself.
fn requested(context: &Context) -> Result<Change, ApiError> {
    let names = |name: &str| -> Vec<String> {
        context
            .get(name)
            .map(list)
            .unwrap_or_default()
            .into_iter()
            .map(str::to_owned)
            .collect()
    };
    let mut change = Change {
        set: BTreeMap::new(),
        delete: names("delete"),
        revert: names("revert"),
        force: context.flag("force"),
    };
    for (key, value) in &context.params {
        if !NOT_OPTIONS.contains(&key.as_str()) && !options::is_ignored(key, value) {
            change.set.insert(key.clone(), value.clone());
        }
    }
    if context
        .params
        .keys()
        .all(|key| NOT_OPTIONS.contains(&key.as_str()))
        && change.delete.is_empty()
        && change.revert.is_empty()
    {
        return Err(ApiError::failed("no options specified"));
    }
    for (list, param) in [(&change.delete, "delete"), (&change.revert, "revert")] {
        for key in list {
            if !schema::is_vm_option(key) {
                return Err(ApiError::param(param, format!("unknown option '{key}'")));
            }
            if change.set.contains_key(key) {
                return Err(ApiError::param(
                    param,
                    format!("you can't use '-{key}' and '-{param} {key}' at the same time"),
                ));
            }
        }
    }
    if let Some(revert) = change.revert.iter().find(|key| change.delete.contains(key)) {
        return Err(ApiError::param(
            "delete",
            format!("you can't use '-delete {revert}' and '-revert {revert}' at the same time"),
        ));
    }
    Ok(change)
}

/// Check what the change sets, whether the user may do all of it, and bring its values into PVE's form.
fn check(context: &Context, vmid: u32, change: &mut Change) -> Result<(), ApiError> {
    let host = &context.host;
    let known = Config::load(host, vmid)
        .map(|config| config.current)
        .unwrap_or_default();
    if let Some(volid) = change.set.get("hookscript") {
        options::check_hookscript(host, volid)
            .map_err(|text| ApiError::param("hookscript", format!("{text}\n")))?;
    }
    let scope = Scope {
        context,
        vmid,
        is_new: false,
        pool: None,
    };
    for key in change.delete.iter().chain(&change.revert) {
        scope.check(key, None, known.get(key).map(String::as_str))?;
    }
    for (key, value) in &mut change.set {
        let old = known.get(key).map(String::as_str);
        scope.check(key, Some(value), old)?;
        *value = options::normalize(key, value)?;
        if key == "cipassword" {
            *value = options::hash_password(value)?;
        }
        if is_drive(key) {
            check_storage(context, vmid, key, &Drive::parse(value))?;
        }
    }
    Ok(())
}

/// PUT (`wait`) or POST config.
pub async fn update(context: Context, wait: bool) -> ApiResult {
    let vmid = context.vmid()?;
    let host = context.host.clone();
    let mut change = requested(&context)?;
    check(&context, vmid, &mut change)?;
    let who = context.who.clone();
    let request = Request {
        digest: context.get("digest").map(str::to_owned),
        skiplock: context.flag("skiplock"),
    };
    if wait {
        let guard = host.lock_vm(vmid).await.map_err(ApiError::failed)?;
        let config = request.load(&host, vmid, &change)?;
        if let Some(text) = context.fail {
            return Err(ApiError::failed(text));
        }
        // A client that hangs up does not stop pvedaemon.
        let worker = tokio::spawn(async move {
            let _guard = guard;
            apply(&host, vmid, &who, config, change, None).await
        });
        worker
            .await
            .map_err(|error| ApiError::failed(error.to_string()))??;
        return Ok(Value::Null);
    }
    // Looked at before the task, but the lock is the task's to wait for.
    request.load(&host, vmid, &change)?;
    let what = parameters(&context);
    let worker_host = host.clone();
    context.spawn("qmconfig", &vmid.to_string(), move |log| async move {
        let _guard = worker_host.lock_vm(vmid).await?;
        let config = request
            .load(&worker_host, vmid, &change)
            .map_err(|error| error.task_text())?;
        log.line(format!("update VM {vmid}: {what}"));
        apply(&worker_host, vmid, &who, config, change, Some(&log))
            .await
            .map_err(|error| error.task_text())
    })
}

/// Under which circumstances a change is made.
struct Request {
    digest: Option<String>,
    skiplock: bool,
}

impl Request {
    /// The configuration, unless it is locked or not the one that the caller saw.
    fn load(&self, host: &Host, vmid: u32, change: &Change) -> Result<Config, ApiError> {
        let config = Config::load(host, vmid)?;
        if self
            .digest
            .as_ref()
            .is_some_and(|digest| *digest != config.digest)
        {
            return Err(ApiError::failed(
                "checksum mismatch (file change by other user?)",
            ));
        }
        // To give up what a suspended VM keeps of its memory is to unlock it.
        let resets =
            config.has_lock("suspended") && change.delete.iter().any(|key| key == "vmstate");
        if !self.skiplock && !resets {
            config.check_lock().map_err(ApiError::failed)?;
        }
        Ok(config)
    }
}

/// The parameters of a call as a task log shows them, as options of `qm set`.
fn parameters(context: &Context) -> String {
    let shown = context.params.iter().filter(|(key, _)| {
        !matches!(
            key.as_str(),
            "node" | "vmid" | "digest" | "background_delay"
        )
    });
    let words = shown.map(|(key, value)| match key.as_str() {
        "cipassword" => format!("-{key} <hidden>"),
        _ => format!("-{key} {value}"),
    });
    words.collect::<Vec<_>>().join(" ")
}

async fn apply(
    host: &Arc<Host>,
    vmid: u32,
    who: &Identity,
    mut config: Config,
    mut change: Change,
    log: Option<&Log>,
) -> Result<(), ApiError> {
    let old = config.current.get("tags").map_or("", String::as_str);
    if let Some(new) = change.set.get_mut("tags") {
        super::tags::check_change(host, who, vmid, old, new)?;
        *new = super::tags::unique(host, new);
    } else if change.delete.iter().any(|key| key == "tags") && config.current.contains_key("tags") {
        super::tags::check_change(host, who, vmid, old, "")?;
    }
    let running = host.guests.power(vmid) != Power::Stopped;
    for key in &change.revert {
        revert(host, vmid, &mut config, key);
    }
    // Edits of the boot order start from the one in force, whatever is pending.
    let mut boot = drive::boot_devices(config.current.get("boot"));
    for key in &change.delete {
        if key.starts_with("unused") {
            if let Some(value) = config.current.remove(key) {
                let volid = Drive::parse(&value).file;
                if is_in_use(&config, &volid) {
                    return Err(ApiError::failed(format!(
                        "unable to delete '{volid}' - volume is still in use (snapshot?)"
                    )));
                }
                super::destroy::free(host, vmid, &volid);
            }
            continue;
        }
        if is_drive(key)
            && config
                .current
                .get("protection")
                .is_some_and(|flag| flag == "1")
        {
            return Err(ApiError::failed(format!(
                "can't remove drive '{key}' - protection mode enabled"
            )));
        }
        if boot.contains(key) {
            boot.retain(|device| device != key);
            config.delete.remove("boot");
            config
                .pending
                .insert("boot".into(), drive::boot_value(&boot));
        }
        if let Some(value) = config.pending.remove(key)
            && is_drive(key)
        {
            detach(host, vmid, &mut config, &value, change.force);
        }
        if config.current.contains_key(key) {
            config.delete.insert(key.clone(), change.force);
        }
    }
    let mut made = Vec::new();
    let result = set(host, vmid, &mut config, &change.set, boot, &mut made, log).await;
    if let Err(error) = result {
        for volume in made {
            let _ = std::fs::remove_file(volume);
        }
        return Err(error);
    }
    config.save(host, vmid)?;
    if running {
        let mut touched: Vec<&String> = change.set.keys().chain(&change.delete).collect();
        touched.extend(&change.revert);
        pending::hotplug(host, vmid, &mut config, &touched).await
    } else {
        pending::apply(host, vmid, &mut config);
        config.save(host, vmid)?;
        Ok(())
    }
}

async fn set(
    host: &Host,
    vmid: u32,
    config: &mut Config,
    wanted: &BTreeMap<String, String>,
    mut boot: Vec<String>,
    made: &mut Vec<std::path::PathBuf>,
    log: Option<&Log>,
) -> Result<(), ApiError> {
    for (key, value) in wanted {
        let mut value = value.clone();
        if is_drive(key) {
            let drive = Drive::parse(&value);
            check_cloudinit(&config.effective(), key, &drive).map_err(ApiError::failed)?;
            // Unlogged work goes to a log that nobody keeps.
            let (provided, volume) = match log {
                Some(log) => provide(host, vmid, key, drive.clone(), log).await,
                None => provide(host, vmid, key, drive.clone(), &Log::none(&host.tasks)).await,
            }
            .map_err(ApiError::failed)?;
            made.extend(volume);
            if let Some(old) = config.pending.get(key).cloned() {
                let same = Drive::parse(&old).file == Drive::parse(&provided).file;
                if !same {
                    detach(host, vmid, config, &old, false);
                }
            }
            value = provided;
            // Into a boot order that names something, and never a cloud-init drive.
            let is_medium = bus(key).is_some() && drive.is_cdrom() && !drive.is_cloudinit();
            if is_medium && config.delete.contains_key(key) && boot.contains(key) {
                // It stays after all, and where it was.
                config.pending.remove("boot");
            }
            if is_medium && !boot.is_empty() && !boot.contains(key) {
                boot.push(key.clone());
                config
                    .pending
                    .insert("boot".into(), drive::boot_value(&boot));
                config.delete.remove("boot");
            }
        }
        if key == "boot" {
            for device in drive::boot_devices(Some(&value)) {
                let known = config.current.contains_key(&device)
                    || config.pending.contains_key(&device)
                    || wanted.contains_key(&device);
                if !known {
                    return Err(ApiError::failed(format!(
                        "invalid bootorder: device '{device}' does not exist'"
                    )));
                }
            }
        }
        config.delete.remove(key);
        if config.current.get(key) == Some(&value) {
            config.pending.remove(key);
        } else {
            config.pending.insert(key.clone(), value);
        }
    }
    Ok(())
}

/// Take a pending change back. The boot order that came with it stays.
fn revert(host: &Host, vmid: u32, config: &mut Config, key: &str) {
    config.delete.remove(key);
    if let Some(value) = config.pending.remove(key)
        && is_drive(key)
    {
        let in_use = config
            .current
            .get(key)
            .is_some_and(|old| Drive::parse(old).file == Drive::parse(&value).file);
        if !in_use {
            detach(host, vmid, config, &value, false);
        }
    }
}

/// PUT unlink: like delete, several at once.
pub async fn unlink(mut context: Context) -> ApiResult {
    let names = context.need("idlist")?.to_owned();
    context.params.remove("idlist");
    context.params.insert("delete".into(), names);
    update(context, true).await
}

/// PUT resize.
pub async fn resize(context: Context) -> ApiResult {
    let vmid = context.vmid()?;
    let host = context.host.clone();
    let key = context.need("disk")?.to_owned();
    let size = context.need("size")?.to_owned();
    let request = Request {
        digest: context.get("digest").map(str::to_owned),
        skiplock: context.flag("skiplock"),
    };
    request.load(&host, vmid, &Change::default())?;
    let worker_host = host.clone();
    context.spawn("resize", &vmid.to_string(), move |_| async move {
        let _guard = worker_host.lock_vm(vmid).await?;
        let config = request
            .load(&worker_host, vmid, &Change::default())
            .map_err(|error| error.task_text())?;
        let Some(value) = config.current.get(&key).cloned() else {
            return Err(format!("disk '{key}' does not exist"));
        };
        let drive = Drive::parse(&value);
        if drive.is_cdrom() {
            return Err("you can't resize a cdrom".into());
        }
        grow(&worker_host, vmid, config, &key, drive, &size).await
    })
}

async fn grow(
    host: &Host,
    vmid: u32,
    mut config: Config,
    key: &str,
    mut drive: Drive,
    size: &str,
) -> Result<(), String> {
    let path = host.volume_file(&drive.file)?;
    let old = crate::disk::virtual_size(&path)
        .ok_or_else(|| format!("volume '{}' does not exist", drive.file))?;
    let (added, text) = match size.strip_prefix('+') {
        Some(text) => (true, text),
        None => (false, size),
    };
    let bytes =
        crate::disk::parse_size(text).ok_or_else(|| format!("unable to parse size '{size}'"))?;
    let new = if added { old + bytes } else { bytes };
    if new < old {
        return Err("shrinking disks is not supported".into());
    }
    if new > old {
        crate::disk::resize(&path, crate::disk::format_of(&path), new).await?;
    }
    drive.set("size", &crate::disk::format_size(new));
    config.current.insert(key.to_owned(), drive.render());
    config.save(host, vmid).map_err(|error| error.to_string())
}
