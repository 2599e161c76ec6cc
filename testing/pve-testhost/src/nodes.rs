//! What is said of the nodes in `nodes.json`, which is read anew whenever it is asked for: a node can be taken down while
//! the host serves.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

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
    /// Its virtual networks of SDN, each with its zone.
    pub vnets: BTreeMap<String, String>,
    /// Its resolver, as `GET /nodes/NAME/dns` tells it.
    pub dns: Dns,
    /// Whether API tokens may open consoles, as since proxmox-termproxy 2.0.3.
    pub console_tokens: bool,
}

/// A node's `/etc/resolv.conf`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// The search domain.
    pub search: Option<String>,
    /// The name servers, up to three.
    pub dns1: Option<String>,
    /// The second one.
    pub dns2: Option<String>,
    /// The third one.
    pub dns3: Option<String>,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            search: Some("pve.test".into()),
            dns1: Some(crate::guest::GATEWAY.to_string()),
            dns2: None,
            dns3: None,
        }
    }
}

impl Dns {
    /// The name servers.
    pub fn servers(&self) -> Vec<&str> {
        let all = [&self.dns1, &self.dns2, &self.dns3];
        all.into_iter().flatten().map(String::as_str).collect()
    }

    /// As the API answers.
    pub fn json(&self) -> Value {
        let pairs = [
            ("search", &self.search),
            ("dns1", &self.dns1),
            ("dns2", &self.dns2),
            ("dns3", &self.dns3),
        ];
        let known = pairs
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), json!(value.as_ref()?))));
        Value::Object(known.collect())
    }
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
            vnets: BTreeMap::new(),
            dns: Dns::default(),
            console_tokens: true,
        }
    }
}

impl Facts {
    /// The zone of SDN that a bridge or virtual network belongs to: permissions have it in their paths.
    pub fn zone(&self, bridge: &str) -> &str {
        self.vnets
            .get(bridge)
            .map_or("localnetwork", String::as_str)
    }

    /// What `DIR/nodes.json` says of `node`; a file that cannot be read says nothing.
    pub fn read(dir: &Path, node: &str) -> Self {
        facts_of(&dir.join("nodes.json"), node)
    }
}

/// Of one guest, in `guests.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuestFacts {
    /// Whether a system runs in it: without one it does not power off when it is asked to.
    pub os: bool,
    /// What its guest agent reports of its first NIC: addresses with the length of their prefix. Without any the agent is silent.
    pub addresses: Vec<String>,
    /// QEMU's word for its state while it runs, such as `internal-error`.
    pub qmpstatus: Option<String>,
}

impl Default for GuestFacts {
    fn default() -> Self {
        Self {
            os: true,
            addresses: Vec::new(),
            qmpstatus: None,
        }
    }
}

impl GuestFacts {
    /// What `DIR/guests.json` says of a VM.
    pub fn read(dir: &Path, vmid: u32) -> Self {
        facts_of(&dir.join("guests.json"), &vmid.to_string())
    }
}

/// An entry of a file of facts; a file that cannot be read says nothing.
fn facts_of<T: Default + for<'a> Deserialize<'a>>(path: &Path, name: &str) -> T {
    let Ok(text) = std::fs::read(path) else {
        return T::default();
    };
    match serde_json::from_slice::<BTreeMap<String, T>>(&text) {
        Ok(mut all) => all.remove(name).unwrap_or_default(),
        Err(error) => {
            eprintln!("pve-testhost: {} says nothing: {error}", path.display());
            T::default()
        }
    }
}

/// Refuse names that no cluster has.
///
/// # Errors
/// When there is none, one is not a host name, or one comes twice.
pub fn check(names: &[String]) -> Result<()> {
    if names.is_empty() {
        bail!("a host has one node at least");
    }
    for (n, name) in names.iter().enumerate() {
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if name.is_empty() || !name.chars().all(letters) || name == "localhost" {
            bail!("'{name}' is not a node's name");
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
