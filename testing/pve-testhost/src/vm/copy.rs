//! Clones of VMs, and disks that move to another storage.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::config::Config;
use super::create::{Making, reserve};
use super::drive::{Drive, is_drive, is_net};
use super::options;
use super::template::{is_template, own_name};
use crate::context::Context;
use crate::disk;
use crate::error::{ApiError, ApiResult};
use crate::guest::Power;
use crate::host::Host;
use crate::random::random_uuid;
use crate::storage::{Kind, Storage};
use crate::task::Log;

/// What a clone shall be.
struct Clone {
    source: u32,
    newid: u32,
    full: bool,
    storage: Option<String>,
    format: Option<String>,
    name: Option<String>,
    description: Option<String>,
    snapshot: Option<String>,
}

impl Clone {
    /// Refuse a linked clone that PVE does not make: only of a template, and always beside it.
    fn check_linked(
        &self,
        context: &Context,
        template: bool,
        options: &BTreeMap<String, String>,
    ) -> Result<(), ApiError> {
        for name in ["storage", "format"] {
            if context.get(name).is_some() {
                return Err(ApiError::failed(format!(
                    "parameter '{name}' not allowed for linked clones"
                )));
            }
        }
        if !template {
            let disk = options
                .iter()
                .find(|(key, value)| is_drive(key) && !Drive::parse(value).is_cdrom());
            if let Some((key, value)) = disk {
                let of = match self.snapshot {
                    Some(_) => " a snapshot of",
                    None => "",
                };
                let volid = Drive::parse(value).file;
                return Err(ApiError::failed(format!(
                    "Linked clone feature is not supported for{of} '{volid}' ({key})"
                )));
            }
        }
        Ok(())
    }

    /// The options that are cloned: those in force, or a snapshot's.
    fn options<'a>(&self, config: &'a Config) -> Result<&'a BTreeMap<String, String>, String> {
        match &self.snapshot {
            None => Ok(&config.current),
            Some(name) => config
                .snapshots
                .get(name)
                .ok_or_else(|| super::snapshot::missing(name)),
        }
    }
}

/// Is this something that a snapshot says of itself, or that belongs to the source alone?
fn stays_behind(key: &str) -> bool {
    key.starts_with("unused")
        || matches!(
            key,
            "template"
                | "lock"
                | "parent"
                | "snaptime"
                | "snapstate"
                | "vmstate"
                | "runningcpu"
                | "runningmachine"
                | "running-nets-host-mtu"
        )
}

/// POST clone: linked from a template unless `full`, always full from a VM.
pub async fn clone(context: Context) -> ApiResult {
    let host = context.host.clone();
    let source = context.vmid()?;
    let text = |name: &str| context.get(name).map(str::to_owned);
    let target = match context.get("target").filter(|name| **name != *host.node) {
        Some(name) => Some(
            host.peer(name)
                .ok_or_else(|| ApiError::failed(format!("no such cluster node '{name}'")))?,
        ),
        None => None,
    };
    let config = Config::load(&host, source)?;
    config.check_lock().map_err(ApiError::failed)?;
    let template = is_template(&config);
    let wanted = Clone {
        source,
        newid: context
            .number("newid")
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| {
                ApiError::param(
                    "newid",
                    "invalid format - value does not look like a valid VM ID\n",
                )
            })?,
        full: context.get("full").map_or(!template, |full| full == "1"),
        storage: text("storage"),
        format: text("format"),
        name: text("name"),
        description: text("description").filter(|text| !text.is_empty()),
        snapshot: text("snapname"),
    };
    let options = wanted.options(&config).map_err(ApiError::failed)?;
    if let Some(target) = &target
        && !is_shared(&host, options)
    {
        return Err(ApiError::failed(format!(
            "can't clone VM to node '{}' (VM uses local storage)",
            target.node
        )));
    }
    if !wanted.full {
        wanted.check_linked(&context, template, options)?;
    }
    check_storages(&context, options, &wanted)?;
    let pool = text("pool");
    if let Some(pool) = &pool
        && !super::pools(&host.dir).contains_key(pool)
    {
        return Err(ApiError::failed(format!("pool '{pool}' does not exist")));
    }
    let newid = wanted.newid;
    reserve(&host, newid, "clone").map_err(|_| {
        ApiError::failed(format!(
            "unable to create VM {newid}: config file already exists"
        ))
    })?;
    let interrupt = context.interrupt;
    let mut making = Making::new(host.clone(), newid);
    context.spawn("qmclone", &source.to_string(), move |log| async move {
        let _guard = host.lock_vm(source).await?;
        let built = build(&host, &wanted, &mut making, &log).await;
        let mut config = built.map_err(|error| format!("clone failed: {error}"))?;
        if let Err(killed) = interrupt.pass().await {
            making.finish();
            return Err(killed);
        }
        config
            .save(&host, newid)
            .map_err(|error| format!("clone failed: {error}"))?;
        super::create::join_pool(&host, newid, pool)?;
        making.finish();
        match target {
            // Made here, and then given away.
            Some(target) => Config::hand_over(&host, &target, newid)
                .map_err(|error| format!("clone failed: {error}")),
            None => Ok(()),
        }
    })
}

/// Whether every node sees all volumes of the VM, ISOs included.
pub fn is_shared(host: &Host, options: &BTreeMap<String, String>) -> bool {
    let mut drives = options.iter().filter(|(key, _)| is_drive(key));
    drives.all(|(_, value)| {
        let drive = Drive::parse(value);
        let Some((storage, _)) = drive.volume().filter(|_| drive.has_medium()) else {
            return true;
        };
        host.storage(storage).is_ok_and(|storage| storage.shared)
    })
}

/// The storages that the copies go to must be usable by the caller.
fn check_storages(
    context: &Context,
    options: &BTreeMap<String, String>,
    wanted: &Clone,
) -> Result<(), ApiError> {
    for (_, value) in options.iter().filter(|(key, _)| is_drive(key)) {
        let drive = Drive::parse(value);
        let Some((own, _)) = drive.volume().filter(|_| !drive.is_cdrom()) else {
            continue;
        };
        let storage = context
            .host
            .storage(wanted.storage.as_deref().unwrap_or(own))?;
        context.host.access.check(
            &context.who,
            &format!("/storage/{}", storage.id),
            &["Datastore.AllocateSpace"],
        )?;
        if !storage.takes("images") {
            return Err(ApiError::param(
                "storage",
                format!("storage '{}' does not support vm images", storage.id),
            ));
        }
    }
    Ok(())
}

/// Copy the disks; the configuration that comes of it is still to be saved.
async fn build(
    host: &Host,
    wanted: &Clone,
    making: &mut Making,
    log: &Log,
) -> Result<Config, String> {
    let source = Config::load(host, wanted.source).map_err(|error| error.message)?;
    log.line(format!(
        "creating a clone of VM {} with ID {}",
        wanted.source, wanted.newid
    ));
    let options = wanted.options(&source)?;
    let mut made = BTreeMap::new();
    for (key, value) in options {
        if stays_behind(key) {
            continue;
        }
        let mut value = value.clone();
        if is_net(key) {
            value = options::with_new_mac(&value);
        } else if is_drive(key) {
            let drive = Drive::parse(&value);
            if drive.is_cloudinit() {
                let storage = drive.volume().map_or("", |(storage, _)| storage);
                let fresh = Drive::parse(&format!("{storage}:cloudinit"));
                let (text, file) =
                    super::provide::provide(host, wanted.newid, key, fresh, log).await?;
                making.volumes.extend(file);
                value = text;
            } else if !drive.is_cdrom() && drive.volume().is_some() {
                let file;
                (value, file) = copy_disk(host, key, drive, wanted, log).await?;
                making.volumes.push(file);
            }
        }
        made.insert(key.clone(), value);
    }
    let name = wanted.name.clone().unwrap_or_else(|| {
        let of = options.get("name").cloned();
        format!(
            "Copy-of-VM-{}",
            of.unwrap_or_else(|| wanted.source.to_string())
        )
    });
    made.insert("name".into(), name);
    if let Some(description) = &wanted.description {
        made.insert("description".into(), description.clone());
    }
    let smbios = made.remove("smbios1").unwrap_or_default();
    let rest = smbios
        .split(',')
        .filter(|part| !part.is_empty() && !part.starts_with("uuid="));
    let uuid = format!("uuid={}", random_uuid());
    made.insert(
        "smbios1".into(),
        std::iter::once(uuid.as_str())
            .chain(rest)
            .collect::<Vec<_>>()
            .join(","),
    );
    if made.get("vmgenid").is_some_and(|id| id != "0") {
        made.insert("vmgenid".into(), random_uuid());
    }
    Ok(Config {
        current: made,
        ..Config::default()
    })
}

/// One disk of a clone: its value and its file.
async fn copy_disk(
    host: &Host,
    key: &str,
    mut drive: Drive,
    wanted: &Clone,
    log: &Log,
) -> Result<(String, PathBuf), String> {
    if wanted.full {
        let own = drive.volume().map_or("", |(storage, _)| storage).to_owned();
        let target = wanted.storage.clone().unwrap_or(own);
        log.line(format!("create full clone of drive {key} ({})", drive.file));
        let storage = host.storage(&target).map_err(|error| error.message)?;
        let (volid, file) = copy(
            host,
            &drive.file,
            storage,
            wanted.newid,
            wanted.format.as_deref(),
            wanted.snapshot.as_deref(),
        )
        .await?;
        log_copy(&file, log);
        drive.file = volid;
        return Ok((drive.render(), file));
    }
    log.line(format!(
        "create linked clone of drive {key} ({})",
        drive.file
    ));
    let base = own_name(host, &drive.file);
    let source = host.volume_file(&base)?;
    let (storage, base_name) = base
        .split_once(':')
        .ok_or_else(|| format!("unable to parse volume ID '{base}'"))?;
    let storage = host.storage(storage).map_err(|error| error.message)?;
    storage.check_enabled()?;
    let stem = storage.free_disk(wanted.newid);
    let name = match storage.kind {
        Kind::Dir => storage.image_name(wanted.newid, &stem, "qcow2"),
        Kind::Zfs => storage.image_name(wanted.newid, &stem, "raw"),
    };
    let file = storage.file(&name)?;
    match storage.kind {
        Kind::Dir => disk::overlay(&source, &file).await?,
        Kind::Zfs => disk::import(&source, "raw", &file).await?,
    }
    drive.file = format!("{}:{base_name}/{name}", storage.id);
    Ok((drive.render(), file))
}

/// What the log of a copy shows.
fn log_copy(file: &std::path::Path, log: &Log) {
    let size = disk::virtual_size(file).unwrap_or_default();
    log.line(super::provide::formatting(
        file,
        disk::format_of(file),
        size,
    ));
    super::provide::transferred(log, size);
}

/// Copy a volume to a storage, as a new image of a VM. Returns its volume id and file.
async fn copy(
    host: &Host,
    volid: &str,
    storage: &Storage,
    vmid: u32,
    format: Option<&str>,
    snapshot: Option<&str>,
) -> Result<(String, PathBuf), String> {
    storage.check_enabled()?;
    let from = host.volume_file(volid)?;
    if !from.exists() {
        return Err(format!("volume '{volid}' does not exist"));
    }
    let source_format = disk::format_of(&from);
    let format = match storage.kind {
        Kind::Zfs => "raw",
        Kind::Dir => format.unwrap_or(source_format),
    };
    let name = storage.image_name(vmid, &storage.free_disk(vmid), format);
    let file = storage.file(&name)?;
    match snapshot {
        None => disk::import(&from, source_format, &file).await?,
        Some(snapshot) => super::volume_snapshot::export(&from, snapshot, &file).await?,
    }
    Ok((format!("{}:{name}", storage.id), file))
}

/// POST move_disk to another storage. The old volume becomes an unused one unless `delete`.
pub async fn move_disk(context: Context) -> ApiResult {
    let vmid = context.vmid()?;
    let host = context.host.clone();
    let key = context.need("disk")?.to_owned();
    if context.get("target-vmid").is_some() || key.starts_with("unused") {
        return Err(ApiError::failed(
            "the test host moves a VM's own disks to other storages only",
        ));
    }
    let target = context.need("storage")?.to_owned();
    let format = context.get("format").map(str::to_owned);
    let delete = context.flag("delete");
    host.access.check(
        &context.who,
        &format!("/storage/{target}"),
        &["Datastore.AllocateSpace"],
    )?;
    let storage = host.storage(&target)?;
    let config = Config::load(&host, vmid)?;
    config.check_lock().map_err(ApiError::failed)?;
    if context
        .get("digest")
        .is_some_and(|digest| digest != config.digest)
    {
        return Err(ApiError::failed(
            "checksum mismatch (file change by other user?)",
        ));
    }
    let drive = movable(&config, &key)?;
    let own = drive.volume().map_or("", |(storage, _)| storage);
    let same_format = format.as_deref().is_none_or(|format| {
        drive.file.ends_with(&format!(".{format}")) || storage.kind == Kind::Zfs
    });
    if own == target && same_format {
        return Err(ApiError::failed(
            "you can't move to the same storage with same format",
        ));
    }
    if !storage.takes("images") {
        return Err(ApiError::param(
            "storage",
            format!("storage '{target}' does not support vm images"),
        ));
    }
    context.spawn("qmmove", &vmid.to_string(), move |log| async move {
        let _guard = host.lock_vm(vmid).await?;
        relocate(&host, vmid, &key, &target, format.as_deref(), delete, &log)
            .await
            .map_err(|error| format!("storage migration failed: {error}"))
    })
}

fn movable(config: &Config, key: &str) -> Result<Drive, ApiError> {
    let value = config
        .current
        .get(key)
        .ok_or_else(|| ApiError::failed(format!("disk '{key}' does not exist")))?;
    let drive = Drive::parse(value);
    if drive.is_cdrom() {
        return Err(ApiError::failed("you can't move a cdrom"));
    }
    Ok(drive)
}

async fn relocate(
    host: &Arc<Host>,
    vmid: u32,
    key: &str,
    target: &str,
    format: Option<&str>,
    delete: bool,
    log: &Log,
) -> Result<(), String> {
    if host.guests.power(vmid) != Power::Stopped && !host.can_hotplug() {
        return Err("the test host moves no disk of a real guest that runs".into());
    }
    let mut config = Config::load(host, vmid).map_err(|error| error.message)?;
    let mut drive = movable(&config, key).map_err(|error| error.message)?;
    let old = drive.render();
    let storage = host.storage(target).map_err(|error| error.message)?;
    log.line(format!("create full clone of drive {key} ({})", drive.file));
    let (volid, file) = copy(host, &drive.file, storage, vmid, format, None).await?;
    drive.file = volid;
    log_copy(&file, log);
    let size = disk::virtual_size(&file).unwrap_or_default();
    drive.set("size", &disk::format_size(size));
    config.current.insert(key.to_owned(), drive.render());
    super::detach::detach(host, vmid, &mut config, &old, delete);
    config.save(host, vmid).map_err(|error| error.to_string())
}
