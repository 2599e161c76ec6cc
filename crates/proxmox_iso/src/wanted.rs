//! What the content of a file has to be.

use std::fmt;

use pve_client::Content;

/// What a file has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// An ISO 9660 or UDF image.
    Iso,
    /// An image of a disk.
    Disk(DiskFormat),
}

impl Wanted {
    /// What a file of this content type has to be that is called `name` on the storage.
    pub fn of(content: Content, name: &str) -> Self {
        match (content, name.rsplit('.').next()) {
            (Content::Iso, _) => Self::Iso,
            (Content::Import, Some("qcow2")) => Self::Disk(DiskFormat::Qcow2),
            (Content::Import, Some("vmdk")) => Self::Disk(DiskFormat::Vmdk),
            (Content::Import, _) => Self::Disk(DiskFormat::Raw),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Iso => "an ISO 9660 or UDF image",
            Self::Disk(DiskFormat::Qcow2) => "a qcow2 disk image",
            Self::Disk(DiskFormat::Raw) => "a raw disk image",
            Self::Disk(DiskFormat::Vmdk) => "a VMDK disk image",
        })
    }
}

/// The format of an image of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFormat {
    Qcow2,
    Raw,
    Vmdk,
}
