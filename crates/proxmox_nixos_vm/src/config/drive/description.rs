//! A drive, described or existing.

use std::collections::BTreeMap;

use pve_client::property::{self, PropertyString};
use pve_schema::is_drive as is_key;

use crate::config::size;

/// What is in a drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A disk to be allocated: `storage:32`.
    New {
        /// The storage it is allocated on.
        storage: String,
    },
    /// A volume that exists: `local:101/vm-101-disk-0.raw`.
    Volume(String),
    /// A CD-ROM with this ISO: `local:iso/nixos.iso`.
    Iso(String),
    /// PVE's own cloud-init drive on this storage: `storage:cloudinit`.
    CloudInit(String),
    /// A CD-ROM drive without a medium: `none`.
    Empty,
    /// The node's own CD-ROM drive: `cdrom`.
    Host,
}

/// A drive, described or existing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// What is in it.
    pub source: Source,
    /// Its size in bytes. Of CD-ROMs never known here: PVE adds it to ISOs, and it means nothing.
    pub size: Option<u64>,
    /// Every other drive option, as PVE writes them, without `media`.
    pub options: BTreeMap<String, String>,
}

/// The VM that the volume of a drive's text belongs to, by PVE's names (`vm-100-disk-0`, `base-100-disk-0`).
pub fn owner(key: &str, text: &str) -> Option<u32> {
    let drive = is_key(key).then(|| Drive::from_text(text).ok())??;
    let Source::Volume(volid) = drive.source else {
        return None;
    };
    let name = volid.rsplit(['/', ':']).next()?;
    let rest = name.strip_prefix("vm-").or(name.strip_prefix("base-"))?;
    rest.split('-').next()?.parse().ok()
}

impl Drive {
    /// Whether it is a CD-ROM drive.
    pub fn is_cdrom(&self) -> bool {
        !matches!(self.source, Source::New { .. } | Source::Volume(_))
    }

    /// The storage that it needs.
    pub fn storage(&self) -> Option<&str> {
        match &self.source {
            Source::New { storage } | Source::CloudInit(storage) => Some(storage),
            Source::Volume(volid) | Source::Iso(volid) if !volid.starts_with('/') => {
                volid.split_once(':').map(|(storage, _)| storage)
            }
            Source::Volume(_) | Source::Iso(_) | Source::Empty | Source::Host => None,
        }
    }

    /// The text that makes this drive, for PVE.
    pub fn to_text(&self) -> String {
        let file = match &self.source {
            Source::New { storage } => {
                let amount = if self.options.contains_key("import-from") {
                    "0".into()
                } else {
                    size::gib(self.size.unwrap_or(size::GIB))
                };
                format!("{storage}:{amount}")
            }
            Source::Volume(volid) | Source::Iso(volid) => volid.clone(),
            Source::CloudInit(storage) => format!("{storage}:cloudinit"),
            Source::Empty => "none".into(),
            Source::Host => "cdrom".into(),
        };
        let mut parts = PropertyString::new(Some("file"));
        parts.set("file", file);
        if self.is_cdrom() && !matches!(self.source, Source::CloudInit(_)) {
            parts.set("media", "cdrom");
        }
        for (key, value) in &self.options {
            parts.set(key, value);
        }
        if let (Source::Volume(_), Some(bytes)) = (&self.source, self.size) {
            parts.set("size", property::format_size(bytes));
        }
        parts.to_string()
    }
}
