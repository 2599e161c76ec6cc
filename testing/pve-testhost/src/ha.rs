//! What the high availability manager knows, in `ha.json` in the data directory: resources, rules and, on a cluster of PVE 8, groups.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha1::{Digest, Sha1};

use crate::files::write_private;

/// The configuration of HA.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ha {
    /// Resources by their id (`vm:100`).
    pub resources: Map<String, Value>,
    /// Rules by their name, in their order.
    pub rules: Map<String, Value>,
    /// Groups, if the cluster still has them instead of rules, as PVE 8 does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Map<String, Value>>,
}

/// The id of a VM's resource.
pub fn sid(vmid: u32) -> String {
    format!("vm:{vmid}")
}

impl Ha {
    /// What `DIR/ha.json` says; without it nothing is managed.
    pub fn read(dir: &Path) -> Self {
        let path = dir.join("ha.json");
        let Ok(text) = std::fs::read(&path) else {
            return Self::default();
        };
        serde_json::from_slice(&text).unwrap_or_else(|error| {
            eprintln!("pve-testhost: {} says nothing: {error}", path.display());
            Self::default()
        })
    }

    /// Keep it.
    ///
    /// # Errors
    /// The system's.
    pub fn save(&self, dir: &Path) -> std::io::Result<()> {
        write_private(&dir.join("ha.json"), &serde_json::to_vec_pretty(self)?)
    }

    /// SHA-1 over all of it.
    pub fn digest(&self) -> String {
        hex::encode(Sha1::digest(serde_json::to_vec(self).unwrap_or_default()))
    }

    /// Does HA start, stop and move this VM?
    pub fn manages(&self, vmid: u32) -> bool {
        let resource = self.resources.get(&sid(vmid));
        resource.is_some_and(|resource| resource["state"] != "ignored")
    }

    /// Ask for another state.
    pub fn set_state(&mut self, vmid: u32, state: &str) {
        if let Some(resource) = self.resources.get_mut(&sid(vmid)) {
            resource["state"] = state.into();
        }
    }

    /// Take a resource away, from the rules that name it too; a rule without resources goes.
    pub fn remove(&mut self, sid: &str, purge: bool) {
        self.resources.remove(sid);
        if !purge {
            return;
        }
        self.rules.retain(|_, rule| {
            let named = rule["resources"].as_str().unwrap_or_default();
            let left: Vec<&str> = named.split(',').filter(|known| *known != sid).collect();
            let left = left.join(",");
            let stays = !left.is_empty();
            rule["resources"] = left.into();
            stays
        });
    }
}
