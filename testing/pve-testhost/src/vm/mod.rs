//! Virtual machines: their configurations, life cycle and pending changes.

pub mod cloudinit;
pub mod config;
pub mod copy;
pub mod create;
pub mod destroy;
pub mod detach;
pub mod drive;
pub mod migrate;
pub mod options;
pub mod pending;
pub mod permission;
pub mod power;
pub mod provide;
pub mod snapshot;
pub mod status;
pub mod tags;
pub mod template;
pub mod update;
pub mod volume_snapshot;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::files::write_private;
use crate::host::Host;
use config::Config;

/// The VMs of the whole cluster, each with its node, by VMID.
pub fn everywhere(host: &Host) -> Vec<(Arc<Host>, u32)> {
    let mut found = Vec::new();
    for node in host.nodes() {
        found.extend(ids(&node).into_iter().map(|vmid| (node.clone(), vmid)));
    }
    found.sort_unstable_by_key(|(_, vmid)| *vmid);
    found
}

/// The VMIDs of a node.
pub fn ids(host: &Host) -> Vec<u32> {
    let entries = std::fs::read_dir(&host.configs)
        .into_iter()
        .flatten()
        .flatten();
    let mut found: Vec<u32> = entries
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .strip_suffix(".conf")?
                .parse()
                .ok()
        })
        .collect();
    found.sort_unstable();
    found
}

pub use crate::pools::pools;

/// Keep the pools.
pub fn save_pools(host: &Host, pools: &BTreeMap<String, Vec<u32>>) -> std::io::Result<()> {
    write_private(
        &host.dir.join("pools.json"),
        &serde_json::to_vec_pretty(pools)?,
    )
}

/// Clean up after a server that was killed: its workers are gone, and what they were making with them.
pub fn recover(host: &Host) -> std::io::Result<()> {
    for (host, vmid) in everywhere(host) {
        let Ok(mut config) = Config::load(&host, vmid) else {
            continue;
        };
        if config
            .current
            .get("lock")
            .is_some_and(|lock| matches!(lock.as_str(), "create" | "clone" | "migrate"))
        {
            config.current.remove("lock");
            // PVE would keep the lock; here nobody could ever take it away again.
            config.save(&host, vmid)?;
        }
    }
    for entry in std::fs::read_dir(host.tmp_dir())?.flatten() {
        let _ = std::fs::remove_file(entry.path());
    }
    Ok(())
}
