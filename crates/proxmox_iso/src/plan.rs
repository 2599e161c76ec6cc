//! From what is wanted and what is there to what has to be done. Pure.

use pve_client::StorageContent;

use crate::address::shown;
use crate::checksum::Digest;
use crate::error::Error;
use crate::fetch::Facts;
use crate::record::{Memory, Record};

/// What is wanted of the content.
#[derive(Debug, Clone, Default)]
pub struct Desired {
    /// Bytes of the image, where known.
    pub size: Option<u64>,
    /// A checksum of the image, or of the compressed file that it comes in.
    pub checksum: Option<Digest>,
    /// The address that it comes from, without credentials; none for a local file.
    pub source: Option<String>,
    /// What the address's server says now.
    pub facts: Facts,
    /// Why the server did not say anything.
    pub unreachable: Option<String>,
}

/// What has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Nothing.
    Keep,
    /// Nothing, although the content could not be compared: the warning says why.
    Assume(String),
    /// Transfer it; nothing of that name is there.
    Create,
    /// Transfer it over what is there.
    Replace,
    /// Have the node compare what is there with the checksum.
    Compare,
}

/// Decide.
///
/// # Errors
/// [`Error::Exists`] when something else is there, or may be, and `force` is not set.
pub fn plan(
    volid: &str,
    desired: &Desired,
    found: Option<&StorageContent>,
    memory: &Memory,
    force: bool,
) -> Result<Plan, Error> {
    let Some(found) = found else {
        return Ok(Plan::Create);
    };
    let known = memory.valid();
    if is_same(desired, known) {
        return Ok(Plan::Keep);
    }
    if force {
        return Ok(Plan::Replace);
    }
    if let Some(difference) = difference(desired, found, known) {
        return Err(Error::exists(volid, difference));
    }
    match (&desired.checksum, known, &desired.unreachable) {
        (Some(_), ..) => Ok(Plan::Compare),
        (None, Some(_), Some(why)) => Ok(Plan::Assume(format!(
            "{volid} was kept as it was transferred from there before; whether it has changed there could not be asked: {why}"
        ))),
        _ => assume(volid, desired, found, memory),
    }
}

/// Whether it is known to be the same.
fn is_same(desired: &Desired, known: Option<&Record>) -> bool {
    match (&desired.checksum, known) {
        (Some(checksum), Some(record)) => record.digests.contains(checksum),
        (None, Some(record)) => {
            desired.source.is_some()
                && desired.source == record.source
                && desired.unreachable.is_none()
                && change(&record.facts, &desired.facts).is_none()
                && desired.size.is_none_or(|size| size == record.size)
        }
        _ => false,
    }
}

/// How it differs for certain.
fn difference(desired: &Desired, found: &StorageContent, known: Option<&Record>) -> Option<String> {
    if let (Some(checksum), Some(record)) = (&desired.checksum, known)
        && let Some(other) = record
            .digests
            .iter()
            .find(|digest| digest.algorithm == checksum.algorithm)
    {
        return Some(format!(
            "its content differs: {other} instead of {checksum}"
        ));
    }
    if let (Some(wanted), Some(size)) = (desired.size, found.size)
        && wanted != size
    {
        return Some(format!(
            "its size differs: {size} instead of {wanted} bytes"
        ));
    }
    let record = known.filter(|_| desired.checksum.is_none())?;
    if record.source != desired.source {
        let now = desired
            .source
            .as_deref()
            .map_or("a local file".into(), shown);
        return Some(match record.source.as_deref().map(shown) {
            None => format!("it was not transferred from {now}"),
            Some(before) if before == now => {
                format!("it was transferred from {now} with other parameters")
            }
            Some(before) => format!("it was transferred from {before}, not from {now}"),
        });
    }
    let now = desired.source.as_deref().map(shown).unwrap_or_default();
    change(&record.facts, &desired.facts)
        .map(|change| format!("what {now} gives has changed since: {change}"))
}

/// What a server says otherwise than before. Mirrors of one file have entity tags of their own, so
/// that these count only where there is nothing better.
fn change(before: &Facts, now: &Facts) -> Option<String> {
    let differs = |what: &str, before: &Option<String>, now: &Option<String>| match (before, now) {
        (Some(before), Some(now)) if before != now => Some(format!("{what} {before}, now {now}")),
        _ => None,
    };
    let size = match (before.size, now.size) {
        (Some(before), Some(now)) if before != now => {
            Some(format!("its size was {before}, now {now} bytes"))
        }
        _ => None,
    };
    let same_time = before.modified.is_some() && now.modified.is_some();
    size.or_else(|| differs("its name was", &before.file, &now.file))
        .or_else(|| differs("it was last modified", &before.modified, &now.modified))
        .or_else(|| match same_time {
            true => None,
            false => differs("its entity tag was", &before.etag, &now.etag),
        })
}

/// What is done when content cannot be compared: what this controller knows nothing of counts as the
/// same if name and size are those.
///
/// # Errors
/// [`Error::Exists`].
pub fn assume(
    volid: &str,
    desired: &Desired,
    found: &StorageContent,
    memory: &Memory,
) -> Result<Plan, Error> {
    let what = match &desired.source {
        Some(source) => format!("what {} gives", shown(source)),
        None => "the local file".to_string(),
    };
    if let Some(why) = &desired.unreachable {
        return Err(Error::exists(
            volid,
            format!("whether it is {what} could not be asked: {why}"),
        ));
    }
    match memory {
        Memory::Stale => Err(Error::exists(
            volid,
            "it was written again since this controller transferred it, so that its content is not known",
        )),
        _ if desired.size.is_some() && desired.size == found.size => Ok(Plan::Assume(format!(
            "{volid} was taken for {what} by its name and size; its content was not compared"
        ))),
        _ => Err(Error::exists(
            volid,
            format!("nothing tells whether it is {what}: its size is not known beforehand"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::Algorithm;
    use proptest::prelude::*;

    fn volume(size: u64) -> StorageContent {
        StorageContent {
            volid: "local:iso/x.iso".into(),
            size: Some(size),
            ctime: Some(7),
            content: "iso".into(),
        }
    }

    fn digest(byte: u8) -> Digest {
        Digest::new(Algorithm::Sha256, &hex::encode([byte; 32])).unwrap()
    }

    fn record(size: u64, byte: u8) -> Record {
        Record {
            size,
            ctime: 7,
            digests: vec![digest(byte)],
            source: None,
            facts: Facts::default(),
        }
    }

    fn from(url: &str) -> Record {
        Record {
            source: Some(url.into()),
            ..record(5, 1)
        }
    }

    fn file(size: u64, byte: Option<u8>) -> Desired {
        Desired {
            size: Some(size),
            checksum: byte.map(digest),
            ..Desired::default()
        }
    }

    fn url(url: &str, size: Option<u64>) -> Desired {
        Desired {
            size,
            source: Some(url.into()),
            facts: Facts {
                size,
                ..Facts::default()
            },
            ..Desired::default()
        }
    }

    fn decide(
        desired: &Desired,
        found: Option<u64>,
        memory: Memory,
        force: bool,
    ) -> Result<Plan, String> {
        plan(
            "local:iso/x.iso",
            desired,
            found.map(volume).as_ref(),
            &memory,
            force,
        )
        .map_err(|error| {
            assert!(matches!(error, Error::Exists { .. }), "{error}");
            error.to_string()
        })
    }

    #[test]
    fn a_record_decides_by_content() {
        let valid = |byte| Memory::Valid(record(5, byte));
        assert_eq!(
            decide(&file(5, None), None, Memory::Nothing, false),
            Ok(Plan::Create)
        );
        assert_eq!(
            decide(&file(5, Some(1)), Some(5), valid(1), true),
            Ok(Plan::Keep)
        );
        assert!(
            decide(&file(5, Some(2)), Some(5), valid(1), false)
                .unwrap_err()
                .contains("content differs")
        );
        assert_eq!(
            decide(&file(5, Some(2)), Some(5), valid(1), true),
            Ok(Plan::Replace)
        );
        assert!(
            decide(&file(5, Some(1)), Some(6), Memory::Nothing, false)
                .unwrap_err()
                .contains("size differs")
        );
        assert_eq!(
            decide(&file(5, Some(1)), Some(6), Memory::Nothing, true),
            Ok(Plan::Replace)
        );
        // Another algorithm says nothing of the content.
        let other = Desired {
            checksum: Digest::new(Algorithm::Sha512, &"0".repeat(128)),
            ..file(5, None)
        };
        assert_eq!(decide(&other, Some(5), valid(1), false), Ok(Plan::Compare));
    }

    #[test]
    fn what_is_not_known_is_compared() {
        assert_eq!(
            decide(&file(5, Some(1)), Some(5), Memory::Nothing, false),
            Ok(Plan::Compare)
        );
        assert_eq!(
            decide(&file(5, Some(1)), Some(5), Memory::Stale, false),
            Ok(Plan::Compare)
        );
        assert_eq!(
            decide(&file(5, Some(1)), Some(5), Memory::Nothing, true),
            Ok(Plan::Replace)
        );
        // Where that cannot be done, size and name count, unless it is known to have been rewritten.
        let assume = |memory| assume("x", &file(5, Some(1)), &volume(5), &memory);
        assert!(matches!(assume(Memory::Nothing), Ok(Plan::Assume(_))));
        assert!(assume(Memory::Stale).is_err());
    }

    #[test]
    fn another_address_is_never_the_same() {
        let valid = || Memory::Valid(from("https://a/x.iso"));
        assert_eq!(
            decide(&url("https://a/x.iso", Some(5)), Some(5), valid(), false),
            Ok(Plan::Keep)
        );
        let refused =
            decide(&url("https://b/x.iso", Some(5)), Some(5), valid(), false).unwrap_err();
        assert!(
            refused.contains("from https://a/x.iso, not from https://b/x.iso"),
            "{refused}"
        );
        assert_eq!(
            decide(&url("https://b/x.iso", Some(5)), Some(5), valid(), true),
            Ok(Plan::Replace)
        );
        assert!(
            decide(&url("https://a/x.iso?id=2", None), Some(5), valid(), false)
                .unwrap_err()
                .contains("other parameters")
        );
        let local = Memory::Valid(record(5, 1));
        assert!(
            decide(&url("https://a/x.iso", Some(5)), Some(5), local, false)
                .unwrap_err()
                .contains("not transferred from https://a/x.iso")
        );
    }

    #[test]
    fn a_server_that_says_otherwise_than_before_has_something_else() {
        let at = |modified: &str, etag: &str, file: &str| Facts {
            size: Some(5),
            modified: Some(modified.into()).filter(|text: &String| !text.is_empty()),
            etag: Some(etag.into()),
            file: Some(file.into()),
            ..Facts::default()
        };
        let decide = |before: Facts, now: Facts| {
            let record = Record {
                facts: before,
                ..from("https://a/x.iso")
            };
            let desired = Desired {
                facts: now,
                ..url("https://a/x.iso", Some(5))
            };
            decide(&desired, Some(5), Memory::Valid(record), false)
        };
        let before = || at("Mon", "1", "a-1.iso");
        assert_eq!(decide(before(), before()), Ok(Plan::Keep));
        // Another mirror of the same file.
        assert_eq!(decide(before(), at("Mon", "2", "a-1.iso")), Ok(Plan::Keep));
        for now in [
            at("Tue", "1", "a-1.iso"),
            at("Mon", "1", "a-2.iso"),
            Facts {
                size: Some(6),
                ..before()
            },
        ] {
            assert!(
                decide(before(), now)
                    .unwrap_err()
                    .contains("has changed since")
            );
        }
        assert!(decide(at("", "1", "a"), at("", "2", "a")).is_err());
    }

    #[test]
    fn an_address_that_does_not_answer_proves_nothing() {
        let silent = |address: &str| Desired {
            unreachable: Some("it answered 404".into()),
            ..url(address, None)
        };
        let there = silent("https://a/x.iso");
        for memory in [
            Memory::Nothing,
            Memory::Stale,
            Memory::Valid(record(5, 1)),
            Memory::Valid(from("https://b/x.iso")),
        ] {
            assert!(decide(&there, Some(5), memory, false).is_err());
        }
        // What came from there before is still that.
        let kept = decide(
            &there,
            Some(5),
            Memory::Valid(from("https://a/x.iso")),
            false,
        );
        assert!(matches!(kept, Ok(Plan::Assume(why)) if why.contains("404")));
    }

    #[test]
    fn without_a_checksum_size_and_name_count() {
        let decide = |size, memory| decide(&url("https://a/x.iso", size), Some(5), memory, false);
        assert!(matches!(
            decide(Some(5), Memory::Nothing),
            Ok(Plan::Assume(_))
        ));
        assert!(decide(Some(6), Memory::Nothing).is_err());
        assert!(
            decide(None, Memory::Nothing)
                .unwrap_err()
                .contains("not known beforehand")
        );
        assert!(
            decide(Some(5), Memory::Stale)
                .unwrap_err()
                .contains("written again")
        );
    }

    proptest! {
        /// Without force nothing is replaced, and nothing is kept that a record shows to differ.
        #[test]
        fn nothing_is_replaced_unasked(
            size in proptest::option::of(4u64..6), byte in proptest::option::of(1u8..3), source in proptest::option::of("[ab]"),
            recorded in proptest::option::of((1u8..3, proptest::option::of("[ab]"), any::<bool>())), silent: bool,
        ) {
            let desired = Desired {
                size,
                checksum: byte.map(digest),
                source: source.clone(),
                facts: Facts::default(),
                unreachable: silent.then(|| "silent".into()),
            };
            let memory = match &recorded {
                None => Memory::Nothing,
                Some((_, _, false)) => Memory::Stale,
                Some((byte, source, true)) => Memory::Valid(Record { source: source.clone(), ..record(5, *byte) }),
            };
            let decided = decide(&desired, Some(5), memory.clone(), false);
            prop_assert!(!matches!(decided, Ok(Plan::Replace | Plan::Create)));
            if let (Some(byte), Some((recorded, _, true))) = (byte, &recorded) {
                prop_assert_eq!(decided == Ok(Plan::Keep), byte == *recorded);
            }
            if let (None, Some((_, recorded, true))) = (byte, &recorded)
                && *recorded != source
            {
                prop_assert!(decided.is_err());
            }
        }
    }
}
