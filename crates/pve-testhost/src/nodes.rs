//! What is said of the nodes in `nodes.json`, which is read anew whenever it is asked for: a node can be taken down while
//! the host serves.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use serde::Deserialize;

/// The bridges of a node of which nothing else is said.
const BRIDGE: &str = "vmbr0";

/// Of one node.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Facts {
    /// Whether it is down: calls that it would have to answer are not answered.
    pub offline: bool,
    /// Whether it has been down for so long (five minutes on a real node) that the others have forgotten what it last
    /// said of its VMs, their names included.
    pub forgotten: bool,
    /// Whether HA manages the VMs on it. Of that only migrations show anything: HA has them done, a moment after they were
    /// asked for.
    pub ha: bool,
    /// Its memory in bytes, if not this machine's.
    pub maxmem: Option<u64>,
    /// How much of it is used, in bytes.
    pub mem: Option<u64>,
    /// Its bridges.
    pub bridges: Vec<String>,
    /// Its resolver: `dns1` to `dns3` and `search`.
    pub dns: BTreeMap<String, String>,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            offline: false,
            forgotten: false,
            ha: false,
            maxmem: None,
            mem: None,
            bridges: vec![BRIDGE.into()],
            dns: [("dns1", "192.0.2.53"), ("search", "example.org")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        }
    }
}

impl Facts {
    /// What `DIR/nodes.json` says of `node`; a file that cannot be read says nothing.
    pub fn read(dir: &Path, node: &str) -> Self {
        let path = dir.join("nodes.json");
        let Ok(text) = std::fs::read(&path) else {
            return Self::default();
        };
        match serde_json::from_slice::<BTreeMap<String, Self>>(&text) {
            Ok(mut all) => all.remove(node).unwrap_or_default(),
            Err(error) => {
                eprintln!("pve-testhost: {} says nothing: {error}", path.display());
                Self::default()
            }
        }
    }
}

/// Refuse names that no cluster has.
///
/// # Errors
/// When there is none, one is no host name, or one comes twice.
pub fn check(names: &[String]) -> Result<()> {
    if names.is_empty() {
        bail!("a host has one node at least");
    }
    for (n, name) in names.iter().enumerate() {
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if name.is_empty() || !name.chars().all(letters) || name == "localhost" {
            bail!("'{name}' is no node's name");
        }
        if names[..n].contains(name) {
            bail!("there are two nodes {name}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_facts() {
        let names =
            |list: &[&str]| check(&list.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert!(names(&["pve1", "pve-2"]).is_ok());
        for bad in [&[][..], &["a", "a"], &["a/b"], &[""], &["localhost"]] {
            assert!(names(bad).is_err(), "{bad:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(!Facts::read(dir.path(), "a").offline);
        std::fs::write(
            dir.path().join("nodes.json"),
            r#"{"a": {"offline": true, "maxmem": 5, "mem": 1}}"#,
        )
        .unwrap();
        let facts = Facts::read(dir.path(), "a");
        assert_eq!(
            (facts.offline, facts.maxmem, facts.mem),
            (true, Some(5), Some(1))
        );
        assert_eq!(facts.bridges, [BRIDGE]);
        assert!(!Facts::read(dir.path(), "b").offline);
    }
}
