//! Snapshots of single volumes: QEMU's own inside a qcow2 image, a copy beside an image that stands for a ZFS volume, none of a raw
//! image in a directory.

use std::path::{Path, PathBuf};

use crate::disk;
use crate::host::Host;
use crate::storage::Kind;

/// A volume that can be asked for snapshots.
struct Volume {
    file: PathBuf,
    kind: Kind,
    volid: String,
}

fn volume(host: &Host, volid: &str) -> Result<Volume, String> {
    let (storage, _) = volid
        .split_once(':')
        .ok_or_else(|| format!("unable to parse volume ID '{volid}'"))?;
    let storage = host.storage(storage).map_err(|error| error.message)?;
    Ok(Volume {
        file: host.volume_file(volid)?,
        kind: storage.kind,
        volid: volid.to_owned(),
    })
}

/// Does its storage have snapshots of it?
pub fn is_possible(host: &Host, volid: &str) -> bool {
    volume(host, volid).is_ok_and(|volume| match volume.kind {
        Kind::Zfs => true,
        Kind::Dir => disk::format_of(&volume.file) == "qcow2",
    })
}

/// Take a snapshot of the volume of drive `key`.
pub async fn create(
    host: &Host,
    vmid: u32,
    key: &str,
    volid: &str,
    name: &str,
) -> Result<(), String> {
    let volume = volume(host, volid)?;
    match volume.kind {
        // The running QEMU has the image open.
        Kind::Dir if host.guests.holds_images(vmid) => {
            host.guests.snapshot_disk(vmid, key, name).await
        }
        Kind::Dir => disk::snapshot(&volume.file, "-c", name).await,
        Kind::Zfs => {
            let file = copy_file(&volume.file, name);
            std::fs::create_dir_all(file.parent().unwrap_or(Path::new("/")))
                .map_err(|error| error.to_string())?;
            disk::copy_sparse(&volume.file, &file).await
        }
    }
}

/// Delete a snapshot of the volume of drive `key`.
pub async fn delete(
    host: &Host,
    vmid: u32,
    key: &str,
    volid: &str,
    name: &str,
) -> Result<(), String> {
    let volume = volume(host, volid)?;
    match volume.kind {
        Kind::Dir if host.guests.holds_images(vmid) => {
            host.guests.delete_disk_snapshot(vmid, key, name).await
        }
        Kind::Dir => disk::snapshot(&volume.file, "-d", name).await,
        Kind::Zfs => std::fs::remove_file(copy_file(&volume.file, name)).map_err(|_| {
            format!("zfs error: could not find any snapshots to destroy; check snapshot names.: {volid}@{name}")
        }),
    }
}

/// Fail when the volume cannot go back to a snapshot: a ZFS volume goes back to its latest one only.
pub fn check_rollback(host: &Host, volid: &str, name: &str) -> Result<(), String> {
    let volume = volume(host, volid)?;
    if volume.kind == Kind::Dir {
        return Ok(());
    }
    let taken = |file: &PathBuf| {
        std::fs::metadata(file)
            .and_then(|data| data.modified())
            .ok()
    };
    let Some(own) = taken(&copy_file(&volume.file, name)) else {
        return Err(format!(
            "can't rollback, snapshot '{name}' does not exist on '{}'",
            volume.volid
        ));
    };
    if copies(&volume.file)
        .iter()
        .any(|file| taken(file).is_some_and(|time| time > own))
    {
        return Err(format!(
            "can't rollback, '{name}' is not most recent snapshot on '{}'",
            volume.volid
        ));
    }
    Ok(())
}

/// Bring the content of a snapshot back. The VM is stopped.
pub async fn rollback(host: &Host, volid: &str, name: &str) -> Result<(), String> {
    let volume = volume(host, volid)?;
    match volume.kind {
        Kind::Dir => disk::snapshot(&volume.file, "-a", name).await,
        Kind::Zfs => disk::copy_sparse(&copy_file(&volume.file, name), &volume.file).await,
    }
}

/// Copy what a snapshot holds into a new image.
pub async fn export(file: &Path, name: &str, target: &Path) -> Result<(), String> {
    match disk::format_of(file) {
        "qcow2" => disk::import_snapshot(file, name, target).await,
        _ => disk::import(&copy_file(file, name), "raw", target).await,
    }
}

/// A volume that goes takes its snapshots along.
pub fn forget(file: &Path) {
    for copy in copies(file) {
        let _ = std::fs::remove_file(copy);
    }
}

fn copies_dir(file: &Path) -> PathBuf {
    file.with_file_name(".snapshots")
}

fn copy_file(file: &Path, name: &str) -> PathBuf {
    let own = file.file_name().unwrap_or_default().to_string_lossy();
    copies_dir(file).join(format!("{own}@{name}"))
}

fn copies(file: &Path) -> Vec<PathBuf> {
    let own = file.file_name().unwrap_or_default().to_string_lossy();
    let start = format!("{own}@");
    let entries = std::fs::read_dir(copies_dir(file));
    let entries = entries.into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&start))
        .map(|entry| entry.path())
        .collect()
}
