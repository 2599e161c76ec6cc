//! What this controller knows of the content of ISOs: PVE's list has a volume's size and time, but no
//! checksum. After each verified transfer they are kept with the checksums and the source in a small
//! file below `~/.cache/nixos-proxmox/isos`. It counts only while size and time on the storage are
//! still those.

use std::io;
use std::path::PathBuf;

use pve_client::{Storage, StorageContent, Volid, sha256_bytes};
use pve_module::paths;
use serde::{Deserialize, Serialize};

use crate::checksum::Digest;
use crate::fetch::Facts;
use crate::options::Options;

/// What was transferred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Bytes.
    pub size: u64,
    /// The volume's time as PVE lists it, in seconds since 1970.
    pub ctime: u64,
    /// Checksums that were compared, of the image and of the compressed file that it came in. The
    /// image's come first.
    #[serde(default)]
    pub digests: Vec<Digest>,
    /// The address that it came from, without credentials; none if it was a local file, or was there.
    #[serde(default)]
    pub source: Option<String>,
    /// What the address's server said of it.
    #[serde(default)]
    pub facts: Facts,
}

impl Record {
    /// Whether it still speaks of this volume.
    pub fn is_of(&self, volume: &StorageContent) -> bool {
        volume.size == Some(self.size) && volume.ctime == Some(self.ctime)
    }
}

/// What is remembered of the volume that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Memory {
    /// Nothing.
    Nothing,
    /// It was written again since this controller transferred it.
    Stale,
    /// The record is of this volume.
    Valid(Record),
}

impl Memory {
    /// What a record says of a volume.
    pub fn of(record: Option<Record>, found: &StorageContent) -> Self {
        match record {
            None => Self::Nothing,
            Some(record) if record.is_of(found) => Self::Valid(record),
            Some(_) => Self::Stale,
        }
    }

    /// The record, if it is of the volume.
    pub fn valid(&self) -> Option<&Record> {
        match self {
            Self::Valid(record) => Some(record),
            Self::Nothing | Self::Stale => None,
        }
    }
}

/// Names an ISO among all that this controller deals with. All nodes see the same file on a shared
/// storage.
pub fn key(options: &Options, storage: &Storage, volid: &Volid) -> String {
    let node = if storage.shared {
        None
    } else {
        Some(&options.node)
    };
    let port = options.connection.api_port;
    let mut hosts: Vec<String> = options
        .connection
        .api_host
        .iter()
        .map(|host| format!("{}:{port}", host.trim().to_ascii_lowercase()))
        .collect();
    hosts.sort();
    let whole = serde_json::json!([hosts, node, volid.storage, volid.file_name()]).to_string();
    format!(
        "{}-{}-{}",
        volid.storage,
        volid.file_name(),
        &sha256_bytes(whole.as_bytes())[..32]
    )
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
