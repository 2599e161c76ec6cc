//! The plan itself: what must be done, in which order.

use std::collections::{BTreeMap, BTreeSet};

use pve_client::property::PropertyString;
use serde_json::{Map, Value};

use crate::config::normalise;

/// What must be done, in the order of the fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// CD-ROMs of a running VM to empty before their drive is removed.
    pub eject: Vec<String>,
    /// Options to set. For a new VM all that it is made of.
    pub set: BTreeMap<String, String>,
    /// Options to remove.
    pub delete: BTreeSet<String>,
    /// Whether volumes are allocated, which may take its time.
    pub allocates: bool,
    /// Disks to move to these storages. That comes first, and what else there is to do is planned anew afterwards.
    pub moves: BTreeMap<String, String>,
    /// Whether the volumes of the disks in `delete` go too, in the same call (PVE's `force`), so that nothing can come between.
    pub destroys: bool,
    /// Disks to grow, to this many bytes.
    pub grow: BTreeMap<String, u64>,
    /// The boot order to set after everything else, because PVE edits it with every CD-ROM.
    pub boot: Option<String>,
    /// The pool to move the VM to.
    pub pool: Option<String>,
    /// The architecture of an existing VM whose CPU is set, if it is not left to the node.
    pub arch: Option<String>,
    /// Why the VM cannot be made as described.
    pub refusals: Vec<String>,
    /// The managed options before.
    pub before: Map<String, Value>,
    /// The managed options after.
    pub after: Map<String, Value>,
}

impl Plan {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.eject.is_empty()
            && self.set.is_empty()
            && self.delete.is_empty()
            && self.grow.is_empty()
            && self.moves.is_empty()
            && self.boot.is_none()
            && self.pool.is_none()
    }

    /// The memory that a new VM is given, in bytes.
    pub fn memory(&self) -> u64 {
        let text = self.set.get("memory").map(String::as_str);
        let text = text.or(normalise::default("memory")).unwrap_or_default();
        let mib = PropertyString::parse(text, Some("current"))
            .ok()
            .and_then(|memory| memory.get("current")?.parse::<u64>().ok());
        mib.unwrap_or_default().saturating_mul(1 << 20)
    }

    /// The names of the options that change, for messages.
    pub fn changed_names(&self) -> Vec<&str> {
        let mut names: BTreeSet<&str> = self
            .set
            .keys()
            .chain(&self.delete)
            .map(String::as_str)
            .collect();
        names.extend(
            self.grow
                .keys()
                .chain(self.moves.keys())
                .map(String::as_str),
        );
        // It is also set to what it is, after drives.
        let boot = self.boot.is_some() && self.before.get("boot") != self.after.get("boot");
        names.extend(boot.then_some("boot"));
        names.extend(self.pool.as_ref().map(|_| "pool"));
        names.into_iter().collect()
    }

    pub(super) fn shows(&mut self, name: &str, before: Option<&str>, after: Option<&str>) {
        for (side, value) in [(&mut self.before, before), (&mut self.after, after)] {
            if let Some(value) = value {
                side.insert(name.to_owned(), Value::String(value.to_owned()));
            }
        }
    }

    pub(super) fn sets(&mut self, name: &str, before: Option<&str>, after: String) {
        self.shows(name, before, Some(&after));
        self.set.insert(name.to_owned(), after);
    }

    pub(super) fn deletes(&mut self, name: &str, before: &str) {
        self.shows(name, Some(before), None);
        self.delete.insert(name.to_owned());
    }
}
