//! Volume identifiers (`local:iso/nixos.iso`), and the files that can be uploaded.

use std::fmt;
use std::str::FromStr;

/// A volume on a storage.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Volid {
    /// Storage identifier.
    pub storage: String,
    /// Everything behind the first colon, such as `iso/nixos.iso` or `vm-101-disk-0`.
    pub name: String,
}

/// A text that is not a volume identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a volume identifier (storage:name)")]
pub struct InvalidVolid(String);

impl Volid {
    /// The ISO image `name` on `storage`.
    pub fn iso(storage: &str, name: &str) -> Self {
        Self::file(Content::Iso, storage, name)
    }

    /// The file `name` of this content type on `storage`.
    pub fn file(content: Content, storage: &str, name: &str) -> Self {
        Self {
            storage: storage.to_string(),
            name: format!("{}/{name}", content.name()),
        }
    }

    /// The content type of a file: the folder of its name.
    pub fn content(&self) -> Option<Content> {
        let (folder, _) = self.name.split_once('/')?;
        Content::ALL
            .into_iter()
            .find(|content| content.name() == folder)
    }

    /// The part after the last `/`: the file's name on a directory storage.
    pub fn file_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }
}

impl FromStr for Volid {
    type Err = InvalidVolid;

    fn from_str(text: &str) -> Result<Self, InvalidVolid> {
        match text.split_once(':') {
            Some((storage, name)) if !name.is_empty() && is_storage_id(storage) => Ok(Self {
                storage: storage.to_string(),
                name: name.to_string(),
            }),
            _ => Err(InvalidVolid(text.to_string())),
        }
    }
}

impl fmt::Display for Volid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.storage, self.name)
    }
}

/// PVE's format `pve-storage-id`: a letter, then letters, digits, `-`, `_`, `.`, not ending in these three.
fn is_storage_id(text: &str) -> bool {
    text.len() >= 2
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// The name PVE gives an uploaded or downloaded file: its directory is dropped and every
/// character outside `[A-Za-z0-9_.-]` becomes `_`.
pub fn normalise_upload_name(name: &str) -> String {
    let file = name.rsplit(['/', '\\']).next().unwrap_or(name);
    file.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') {
                c
            } else {
                '_'
            }
        })
        .collect()
}

/// A content type of files that can be uploaded or downloaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Content {
    /// Images for CD-ROM drives.
    #[default]
    Iso,
    /// Images of disks, which `import-from` copies into the disk of a VM. Archives (`.ova`) are left out.
    Import,
}

impl Content {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Iso, Self::Import];

    /// PVE's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iso => "iso",
            Self::Import => "import",
        }
    }

    /// How the names of its files end: `ISO_EXT_RE_0` and `UPLOAD_IMPORT_EXT_RE_1` in `PVE::Storage`.
    pub fn endings(self) -> &'static [&'static str] {
        match self {
            Self::Iso => &["iso", "img"],
            Self::Import => &["qcow2", "raw", "vmdk"],
        }
    }

    /// Whether PVE takes a file of this name: one of the endings, for ISOs in any case, and at most 255 bytes.
    pub fn takes(self, name: &str) -> bool {
        let lower = match self {
            Self::Iso => name.to_ascii_lowercase(),
            Self::Import => name.to_owned(),
        };
        name.len() <= 255
            && self.endings().iter().any(|ending| {
                lower
                    .strip_suffix(ending)
                    .and_then(|stem| stem.strip_suffix('.'))
                    .is_some_and(|stem| !stem.is_empty())
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_as_pve_makes_them() {
        assert_eq!(
            normalise_upload_name("../x/na me+ä;(1).iso"),
            "na_me____1_.iso"
        );
        assert_eq!(
            normalise_upload_name("nixos-25.11_x86.iso"),
            "nixos-25.11_x86.iso"
        );
        assert!(
            Content::Iso.takes("a.ISO")
                && Content::Iso.takes("a.img")
                && !Content::Iso.takes(".iso")
                && !Content::Iso.takes("a.qcow2")
        );
        assert!(
            Content::Import.takes("a.qcow2")
                && Content::Import.takes("a.raw")
                && !Content::Import.takes("a.QCOW2")
                && !Content::Import.takes(".vmdk")
                && !Content::Import.takes("a.iso")
        );
    }

    #[test]
    fn a_volid_is_split_at_the_first_colon() {
        let volid: Volid = "local:iso/x.iso".parse().unwrap();
        assert_eq!(volid, Volid::iso("local", "x.iso"));
        assert_eq!(volid.file_name(), "x.iso");
        assert_eq!(volid.content(), Some(Content::Iso));
        let disk: Volid = "local:101/vm-101-disk-0.qcow2".parse().unwrap();
        assert_eq!(disk.content(), None);
        for text in ["", "local", "local:", ":x", "/dev/sda", "1x:y"] {
            assert!(text.parse::<Volid>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(name in ".*") {
            let once = normalise_upload_name(&name);
            prop_assert_eq!(normalise_upload_name(&once), once.clone());
            prop_assert!(once.is_ascii());
        }
    }
}
