//! What differs between two closures, package by package. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// The store paths of a closure and their sizes in bytes.
pub type Closure = BTreeMap<String, u64>;

/// A package that the two closures do not have alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its name, without version.
    pub name: String,
    /// Its versions in the old system; empty if it is new there.
    pub before: Vec<String>,
    /// Its versions in the new system; empty if it is gone.
    pub after: Vec<String>,
    /// How many bytes more the new system has of it.
    pub size: i64,
}

/// What differs between the closures of two systems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The packages that they do not have alike.
    pub packages: Vec<Change>,
    /// The size of the old closure, in bytes.
    pub size_before: u64,
    /// The size of the new one.
    pub size_after: u64,
}

impl Comparison {
    /// Compare two closures.
    pub fn new(before: &Closure, after: &Closure) -> Self {
        let mut packages = changes(before, after);
        packages.truncate(MOST_PACKAGES);
        Self {
            packages,
            size_before: total(before),
            size_after: total(after),
        }
    }
}

/// The most packages that are reported. Another release of NixOS changes more than a thousand.
const MOST_PACKAGES: usize = 2000;

/// A difference in size alone is reported from here on, in bytes. Rebuilt packages differ by less for no reason that matters, as
/// C(nix store diff-closures) has it.
const SIZE: i64 = 8 << 10;

/// The version that is shown for packages without one, as Nix does it.
const NO_VERSION: &str = "∅";

/// The packages whose versions differ, or whose size differs much.
fn changes(before: &Closure, after: &Closure) -> Vec<Change> {
    let (old, new) = (packages(before), packages(after));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let empty = Package::default();
    names
        .into_iter()
        .filter_map(|name| {
            let (old, new) = (
                old.get(name).unwrap_or(&empty),
                new.get(name).unwrap_or(&empty),
            );
            let size = new.size - old.size;
            if old.versions == new.versions && size.abs() < SIZE {
                return None;
            }
            Some(Change {
                name: name.clone(),
                before: old.versions.iter().cloned().collect(),
                after: new.versions.iter().cloned().collect(),
                size,
            })
        })
        .collect()
}

/// The size of a closure, in bytes.
fn total(closure: &Closure) -> u64 {
    closure
        .values()
        .fold(0, |sum, size| sum.saturating_add(*size))
}

#[derive(Debug, Default)]
struct Package {
    versions: BTreeSet<String>,
    size: i64,
}

fn packages(closure: &Closure) -> BTreeMap<String, Package> {
    let mut packages: BTreeMap<String, Package> = BTreeMap::new();
    for (path, size) in closure {
        let (name, version) = name_and_version(path);
        let package = packages.entry(name.to_owned()).or_default();
        package.versions.insert(version.to_owned());
        package.size = package
            .size
            .saturating_add(i64::try_from(*size).unwrap_or(i64::MAX));
    }
    packages
}

/// Name and version of a store path: the version begins behind the first dash that no letter follows (Nix, `DrvName`). A further output
/// (`-man`, `-lib` ...) counts for the version, as it does there.
fn name_and_version(path: &str) -> (&str, &str) {
    let file = path.rsplit('/').next().unwrap_or(path);
    // The hash of 32 characters.
    let full = match file.split_once('-') {
        Some((hash, rest)) if hash.len() == 32 => rest,
        _ => file,
    };
    let dash = full
        .match_indices('-')
        .find(|(at, _)| {
            let next = full[at + 1..].chars().next();
            next.is_some_and(|next| !next.is_alphabetic())
        })
        .map(|(at, _)| at);
    match dash {
        Some(at) => (&full[..at], &full[at + 1..]),
        None => (full, NO_VERSION),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HASH: &str = "0123456789abcdfghijklmnpqrsvwxyz";

    fn closure(paths: &[(&str, u64)]) -> Closure {
        let path = |(name, size): &(&str, u64)| (format!("/nix/store/{HASH}-{name}"), *size);
        paths.iter().map(path).collect()
    }

    #[test]
    fn names_and_versions_are_nixs() {
        for (name, expected) in [
            ("openssh-10.2p1", ("openssh", "10.2p1")),
            (
                "nixos-system-web1-26.05.20261101.abc",
                ("nixos-system-web1", "26.05.20261101.abc"),
            ),
            ("linux-6.12.58-modules", ("linux", "6.12.58-modules")),
            ("unit-sshd.service", ("unit-sshd.service", "∅")),
            ("etc", ("etc", "∅")),
            ("a-", ("a-", "∅")),
        ] {
            let path = format!("/nix/store/{HASH}-{name}");
            assert_eq!(name_and_version(&path), expected);
        }
    }

    #[test]
    fn what_is_new_gone_or_changed_is_found() {
        let before = closure(&[
            ("openssh-10.0", 100_000),
            ("vim-9.1", 5),
            ("etc", 10),
            ("same-1", 7),
        ]);
        let after = closure(&[
            ("openssh-10.2", 120_000),
            ("etc", 9_000),
            ("same-1", 8),
            ("nginx-1.29", 50),
        ]);
        let found: Vec<String> = changes(&before, &after)
            .iter()
            .map(|change| {
                format!(
                    "{} {:?} {:?} {}",
                    change.name, change.before, change.after, change.size
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                r#"etc ["∅"] ["∅"] 8990"#,
                r#"nginx [] ["1.29"] 50"#,
                r#"openssh ["10.0"] ["10.2"] 20000"#,
                r#"vim ["9.1"] [] -5"#,
            ]
        );
        assert_eq!(total(&before), 100_022);
        assert!(changes(&after, &after).is_empty());
    }

    proptest! {
        #[test]
        fn any_path_has_a_name(path in "\\PC{0,60}") {
            let (name, version) = name_and_version(&path);
            prop_assert!(name.len() + version.len() <= path.len() + NO_VERSION.len());
        }
    }
}
