//! The volumes of drives.

use std::path::PathBuf;

use super::drive::Drive;
use crate::disk;
use crate::host::Host;
use crate::storage::{Kind, Storage};
use crate::task::Log;

/// Make what a drive asks for: a new volume, a cloud-init drive, or just the volume it names. Returns the value to
/// store and the file made.
pub async fn provide(
    host: &Host,
    vmid: u32,
    key: &str,
    mut drive: Drive,
    log: &Log,
) -> Result<(String, Option<PathBuf>), String> {
    let format = drive.take("format");
    let source = drive.take("import-from");
    if !drive.has_medium() {
        return Ok((drive.render(), None));
    }
    let Some((storage_id, name)) = drive
        .volume()
        .map(|(storage, name)| (storage.to_owned(), name.to_owned()))
    else {
        return Ok((drive.render(), None));
    };
    let storage = host.storage(&storage_id).map_err(|error| error.message)?;
    storage.check_enabled()?;
    if name == "cloudinit" {
        let path = make_cloudinit(storage, vmid, key, &mut drive, format, log).await?;
        return Ok((drive.render(), Some(path)));
    }
    if let Some((_, gib)) = drive.allocation() {
        let wish = Allocation {
            gib,
            format,
            source,
        };
        let path = allocate(host, storage, vmid, key, &mut drive, wish, log).await?;
        return Ok((drive.render(), Some(path)));
    }
    let path = storage.file(&name)?;
    let Some(size) = disk::virtual_size(&path) else {
        return Err(format!("volume '{}' does not exist", drive.file));
    };
    if !drive.is_cloudinit() {
        drive.set("size", &disk::format_size(size));
    }
    Ok((drive.render(), None))
}

/// Make a cloud-init drive's volume, and have the drive name it.
async fn make_cloudinit(
    storage: &Storage,
    vmid: u32,
    key: &str,
    drive: &mut Drive,
    format: Option<String>,
    log: &Log,
) -> Result<PathBuf, String> {
    let zfs = storage.kind == Kind::Zfs;
    let storage_id = &storage.id;
    let format = format.unwrap_or_else(|| if zfs { "raw" } else { "qcow2" }.into());
    let name = storage.image_name(vmid, &format!("vm-{vmid}-cloudinit"), &format);
    let path = storage.file(&name)?;
    disk::create(&path, &format, 4 << 20).await?;
    log.line(formatting(&path, &format, 4 << 20));
    drive.file = format!("{storage_id}:{name}");
    drive.set("media", "cdrom");
    log.line(format!(
        "{key}: successfully created disk '{}'",
        drive.render()
    ));
    Ok(path)
}

/// A volume that is asked for.
struct Allocation {
    gib: f64,
    format: Option<String>,
    /// What is imported into it.
    source: Option<String>,
}

/// Make a disk's volume, and have the drive name it.
async fn allocate(
    host: &Host,
    storage: &Storage,
    vmid: u32,
    key: &str,
    drive: &mut Drive,
    wish: Allocation,
    log: &Log,
) -> Result<PathBuf, String> {
    let Allocation {
        gib,
        format,
        source,
    } = wish;
    let zfs = storage.kind == Kind::Zfs;
    let storage_id = &storage.id;
    let format = format.unwrap_or_else(|| "raw".into());
    if zfs && format != "raw" {
        return Err(format!(
            "storage '{storage_id}' does not support format '{format}'"
        ));
    }
    let name = storage.image_name(vmid, &storage.free_disk(vmid), &format);
    let path = storage.file(&name)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a size in GiB, verified to be positive"
    )]
    let asked = (gib * f64::from(1 << 20)).ceil() as u64 * 1024;
    let size = match key {
        // The variables of OVMF, whatever size was asked for.
        "efidisk0" if drive.get("efitype") == Some("4m") => 528 << 10,
        "efidisk0" => 128 << 10,
        "tpmstate0" => 4 << 20,
        _ => asked,
    };
    match source {
        Some(source) => import(host, &source, &path, log).await?,
        None => {
            disk::create(&path, &format, size).await?;
            log.line(formatting(&path, &format, size));
        }
    }
    let size = disk::virtual_size(&path).unwrap_or(size);
    drive.file = format!("{storage_id}:{name}");
    drive.set("size", &disk::format_size(size));
    log.line(format!(
        "{key}: successfully created disk '{}'",
        drive.render()
    ));
    Ok(path)
}

/// What `qemu-img create` says.
pub fn formatting(path: &std::path::Path, format: &str, size: u64) -> String {
    let path = path.display();
    match format {
        "qcow2" => format!(
            "Formatting '{path}', fmt=qcow2 cluster_size=65536 extended_l2=off preallocation=metadata \
             compression_type=zlib size={size} lazy_refcounts=off refcount_bits=16"
        ),
        _ => format!("Formatting '{path}', fmt={format} size={size} preallocation=off"),
    }
}

/// What `qemu-img convert -p` says while it copies, in one go and a step.
pub fn transferred(log: &Log, size: u64) {
    #[expect(clippy::cast_precision_loss, reason = "a size to show")]
    let shown = |bytes: u64| match bytes {
        0 => "0.0 B".to_owned(),
        _ if bytes < 1 << 20 => format!("{:.1} KiB", bytes as f64 / f64::from(1 << 10)),
        _ if bytes < 1 << 30 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    };
    let all = shown(size);
    log.line(format!("transferred 0.0 B of {all} (0.00%)"));
    log.line(format!("transferred {all} of {all} (100.00%)"));
}

async fn import(
    host: &Host,
    source: &str,
    target: &std::path::Path,
    log: &Log,
) -> Result<(), String> {
    let (path, format) = if source.starts_with('/') {
        (PathBuf::from(source), "raw".to_owned())
    } else {
        let (storage, name) = source
            .split_once(':')
            .ok_or_else(|| format!("unable to parse volume ID '{source}'"))?;
        let storage = host.storage(storage).map_err(|error| error.message)?;
        storage.check_enabled()?;
        let parsed = storage.parse(name)?;
        (
            storage.path.join(&parsed.file),
            if parsed.format == "iso" {
                "raw".into()
            } else {
                parsed.format
            },
        )
    };
    if !path.exists() {
        return Err(format!("volume '{source}' does not exist"));
    }
    log.line(format!("importing disk '{source}' as VM disk"));
    disk::import(&path, &format, target).await
}
