//! Resource pools, in `pools.json`.

use std::collections::BTreeMap;
use std::path::Path;

/// Pools and the VMs in them; `dir` is the data directory.
pub fn pools(dir: &Path) -> BTreeMap<String, Vec<u32>> {
    std::fs::read(dir.join("pools.json"))
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}
