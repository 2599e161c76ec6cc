//! From what is wanted and what is there to what has to be done. Pure.

use ansible_module::Failure;
use pve_client::StorageContent;

use crate::record::Record;

/// What is wanted of the content.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Bytes, where known.
    pub size: Option<u64>,
    /// SHA-256 in hex, where known.
    pub sha256: Option<String>,
    /// Where it is downloaded from.
    pub url: Option<String>,
    /// Whether the node downloads it, and so compares what is there with the checksum.
    pub by_node: bool,
}

/// What has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Nothing.
    Keep,
    /// Transfer it; nothing of that name is there.
    Create,
    /// Transfer it over what is there.
    Replace,
    /// Have PVE compare what is there with the checksum (it does so for a `url`).
    Compare,
}

/// Decide. `record` counts only if it is of the volume found.
///
/// # Errors
/// Kind `exists` when something else is there and `force` is not set.
pub fn plan(
    volid: &str,
    wanted: &Wanted,
    found: Option<&StorageContent>,
    record: Option<&Record>,
    force: bool,
) -> Result<Plan, Failure> {
    let Some(found) = found else {
        return Ok(Plan::Create);
    };
    let known = record.filter(|record| record.is_of(found));
    let known_sha256 = known.and_then(|record| record.sha256.as_deref());
    let difference = match (wanted.size, found.size, &wanted.sha256, known_sha256) {
        (_, _, Some(wanted), Some(known)) if wanted != known => Some(format!(
            "its content differs: sha256 {known} instead of {wanted}"
        )),
        (Some(wanted), Some(size), ..) if wanted != size => Some(format!(
            "its size differs: {size} instead of {wanted} bytes"
        )),
        _ => None,
    };
    let same = (wanted.sha256.is_some() && wanted.sha256.as_deref() == known_sha256)
        || (wanted.url.is_some()
            && wanted.sha256.is_none()
            && known.is_some_and(|record| record.url == wanted.url));
    match difference {
        Some(_) if force => Ok(Plan::Replace),
        Some(difference) => Err(exists(volid, &difference)),
        None if same => Ok(Plan::Keep),
        None if force => Ok(Plan::Replace),
        None if wanted.by_node && wanted.sha256.is_some() => Ok(Plan::Compare),
        None => Ok(Plan::Keep),
    }
}

/// The failure when something else of that name is there.
pub fn exists(volid: &str, difference: &str) -> Failure {
    Failure::new("exists", format!("{volid} exists already and {difference}"))
        .object(volid)
        .hint("set force: true to replace it, or name to keep both")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(size: u64) -> StorageContent {
        StorageContent {
            volid: "local:iso/x.iso".into(),
            size: Some(size),
            ctime: Some(7),
            content: "iso".into(),
        }
    }

    fn record(size: u64, sha256: &str) -> Record {
        Record {
            size,
            ctime: 7,
            sha256: Some(sha256.into()),
            url: None,
        }
    }

    fn wanted(size: u64, sha256: Option<&str>) -> Wanted {
        Wanted {
            size: Some(size),
            sha256: sha256.map(str::to_string),
            url: None,
            by_node: false,
        }
    }

    fn decide(
        wanted: &Wanted,
        found: Option<u64>,
        record: Option<Record>,
        force: bool,
    ) -> Result<Plan, &'static str> {
        plan(
            "local:iso/x.iso",
            wanted,
            found.map(volume).as_ref(),
            record.as_ref(),
            force,
        )
        .map_err(|failure| failure.kind)
    }

    #[test]
    fn name_and_size_decide_without_a_record() {
        assert_eq!(
            decide(&wanted(5, None), None, None, false),
            Ok(Plan::Create)
        );
        assert_eq!(
            decide(&wanted(5, Some("a")), Some(5), None, false),
            Ok(Plan::Keep)
        );
        assert_eq!(
            decide(&wanted(5, None), Some(6), None, false),
            Err("exists")
        );
        assert_eq!(
            decide(&wanted(5, None), Some(6), None, true),
            Ok(Plan::Replace)
        );
    }

    #[test]
    fn a_record_tells_equal_sizes_apart() {
        assert_eq!(
            decide(&wanted(5, Some("a")), Some(5), Some(record(5, "a")), true),
            Ok(Plan::Keep)
        );
        assert_eq!(
            decide(&wanted(5, Some("b")), Some(5), Some(record(5, "a")), false),
            Err("exists")
        );
        assert_eq!(
            decide(&wanted(5, Some("b")), Some(5), Some(record(5, "a")), true),
            Ok(Plan::Replace)
        );
    }

    #[test]
    fn a_stale_record_does_not_count() {
        let stale = Record {
            ctime: 6,
            ..record(5, "a")
        };
        assert_eq!(
            decide(&wanted(5, Some("b")), Some(5), Some(stale), false),
            Ok(Plan::Keep)
        );
    }

    #[test]
    fn force_replaces_what_is_not_known_to_be_the_same() {
        assert_eq!(
            decide(&wanted(5, Some("a")), Some(5), None, true),
            Ok(Plan::Replace)
        );
    }

    #[test]
    fn a_download_is_compared_by_pve() {
        let url = Wanted {
            size: None,
            sha256: Some("a".into()),
            url: Some("https://x/y.iso".into()),
            by_node: true,
        };
        assert_eq!(decide(&url, Some(5), None, false), Ok(Plan::Compare));
        assert_eq!(
            decide(&url, Some(5), Some(record(5, "a")), false),
            Ok(Plan::Keep)
        );
        assert_eq!(
            decide(&url, Some(5), Some(record(5, "b")), false),
            Err("exists")
        );
    }
}
