//! What this controller knows of the content of ISOs: PVE's list tells a volume's size and time,
//! but no checksum. After each verified transfer size, time and checksum are kept in a small file
//! below `~/.cache/nixos-proxmox/isos`. It counts only while size and time on the storage are
//! still those, and losing it costs nothing but the knowledge.

use std::io;
use std::path::PathBuf;

use pve_client::StorageContent;
use pve_module::paths;
use serde::{Deserialize, Serialize};

/// What was transferred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Bytes.
    pub size: u64,
    /// The volume's time as PVE lists it, in seconds since 1970.
    pub ctime: u64,
    /// SHA-256 in hex, where it is known.
    pub sha256: Option<String>,
    /// Where the node downloaded it from.
    pub url: Option<String>,
}

impl Record {
    /// Whether it still speaks of this volume.
    pub fn is_of(&self, volume: &StorageContent) -> bool {
        volume.size == Some(self.size) && volume.ctime == Some(self.ctime)
    }
}

/// Where the record of one ISO is.
#[derive(Debug, Clone)]
pub struct RecordFile(PathBuf);

impl RecordFile {
    /// The record of the ISO identified by `key`.
    ///
    /// # Errors
    /// When there is no cache directory.
    pub fn new(key: &str) -> io::Result<Self> {
        Ok(Self(
            paths::cache_dir()?
                .join("isos")
                .join(format!("{}.json", paths::file_name(key))),
        ))
    }

    /// The record, if there is a usable one.
    pub fn read(&self) -> Option<Record> {
        serde_json::from_slice(&std::fs::read(&self.0).ok()?).ok()
    }

    /// Write the record, all or nothing.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, record: &Record) -> io::Result<()> {
        let dir = self
            .0
            .parent()
            .ok_or_else(|| io::Error::other("no directory"))?;
        paths::make_private_dir(dir)?;
        let new = self.0.with_extension(format!("{}.new", std::process::id()));
        std::fs::write(&new, serde_json::to_vec(record)?)?;
        std::fs::rename(&new, &self.0)
    }

    /// Forget the ISO.
    pub fn remove(&self) {
        // Gone already, or not removable: then its size and time will not fit any more.
        let _ = std::fs::remove_file(&self.0);
    }
}
