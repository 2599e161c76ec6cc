//! What a machine takes of nodes and storages, and what these have.

use std::collections::{BTreeMap, BTreeSet};

use ansible_module::Failure;
use deadline::Deadline;
use nixos_vm_report::host_plan::{Capacity, Demand, Node, Storage};
use pve_client::property::parse_size;
use pve_module::Inventory;
use pve_schema::{is_drive, is_state_disk};
use serde_json::{Map, Value};

use crate::context::Context;

/// The memory of a VM whose configuration has none, in MiB (PVE::QemuServer::Memory).
const DEFAULT_MEMORY: i64 = 512;

/// What a VM takes when its configuration `before` becomes `after`. A new one has an empty configuration before.
pub fn demand(before: &Map<String, Value>, after: &Map<String, Value>) -> Demand {
    let mut storages: BTreeMap<String, i64> = BTreeMap::new();
    for (config, sign) in [(before, -1), (after, 1)] {
        for (storage, bytes) in config.iter().filter_map(|(key, value)| disk(key, value)) {
            *storages.entry(storage.to_owned()).or_default() += sign * bytes;
        }
    }
    storages.retain(|_, bytes| *bytes != 0);
    Demand {
        memory: memory(after) - memory(before),
        cpus: cpus(after) - cpus(before),
        storages,
    }
}

/// The memory of a VM in bytes; none if there is no VM.
fn memory(config: &Map<String, Value>) -> i64 {
    match config.is_empty() {
        true => 0,
        false => number(config, "memory").unwrap_or(DEFAULT_MEMORY) << 20,
    }
}

fn cpus(config: &Map<String, Value>) -> i64 {
    let count = |key| number(config, key).unwrap_or(1);
    match config.is_empty() {
        true => 0,
        false => count("sockets") * count("cores"),
    }
}

fn number(config: &Map<String, Value>, key: &str) -> Option<i64> {
    let value = config.get(key)?;
    // `memory` may be a property string, `current=4096`.
    let text = value
        .as_str()
        .map(|text| text.trim_start_matches("current="));
    value.as_i64().or_else(|| text?.parse().ok())
}

/// The storage of a disk and its size in bytes. The disks of firmware are a few MiB, and CD-ROMs take nothing.
fn disk<'a>(key: &str, value: &'a Value) -> Option<(&'a str, i64)> {
    if !is_drive(key) || is_state_disk(key) {
        return None;
    }
    let text = value
        .as_str()
        .filter(|text| !text.contains("media=cdrom"))?;
    let mut parts = text.split(',');
    let volume = parts.next()?;
    let (storage, name) = volume.split_once(':')?;
    let size = parts.find_map(|part| part.strip_prefix("size="));
    let bytes = match size {
        Some(size) => parse_size(size)?,
        // A new disk: GiB.
        None => (name.parse::<f64>().ok()? * f64::from(1 << 30)) as u64,
    };
    Some((storage, i64::try_from(bytes).ok()?))
}

/// The size of a disk of a configuration in bytes.
pub fn disk_size(config: &Map<String, Value>, key: &str) -> Option<u64> {
    let (_, bytes) = disk(key, config.get(key)?)?;
    bytes.try_into().ok()
}

/// The nodes, guests and storages of a cluster.
pub struct Cluster {
    inventory: Inventory,
    entries: Vec<Value>,
}

impl Cluster {
    /// Read PVE's list of all of them.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn read(context: &Context<'_>, deadline: &Deadline) -> Result<Self, Failure> {
        let what = "list the nodes and storages of the cluster";
        let entries = context
            .get(what, "/cluster/resources", &[], deadline)
            .await?;
        Self::of(entries.as_array().cloned().unwrap_or_default())
    }

    fn of(entries: Vec<Value>) -> Result<Self, Failure> {
        Ok(Self {
            inventory: Inventory::of(entries.clone())?,
            entries,
        })
    }

    /// The nodes that are up and have these storages, as far as the caller may see that; of `allowed`, if that is not empty. With each
    /// comes how many VMs with the names `apart_from` it has.
    pub fn candidates(
        &self,
        allowed: &[String],
        storages: &[&str],
        apart_from: &[String],
    ) -> BTreeMap<String, usize> {
        let has = |node: &str, storage: &&str| {
            self.of_type("storage")
                .any(|entry| text(entry, "storage") == *storage && text(entry, "node") == node)
        };
        let names = || apart_from.iter().map(String::as_str);
        let online = self.inventory.online.iter();
        online
            .filter(|node| allowed.is_empty() || allowed.contains(node))
            .filter(|node| storages.iter().all(|storage| has(node, storage)))
            .map(|node| (node.clone(), self.inventory.named_on(node, names())))
            .collect()
    }

    /// What these nodes have, and these storages on them.
    pub fn capacity(&self, nodes: &[&str], storages: &BTreeSet<&str>) -> Capacity {
        let on_them = |entry: &&Value| nodes.contains(&text(entry, "node"));
        let of_storages = self
            .of_type("storage")
            .filter(on_them)
            .filter(|entry| storages.contains(text(entry, "storage")));
        let mut found: Vec<Storage> = Vec::new();
        for entry in of_storages {
            let shared = number_of(entry, "shared") == 1;
            let storage = Storage {
                name: text(entry, "storage").to_owned(),
                node: (!shared).then(|| text(entry, "node").to_owned()),
                size: number_of(entry, "maxdisk"),
                used: number_of(entry, "disk"),
            };
            let is_it =
                |other: &Storage| (&other.name, &other.node) == (&storage.name, &storage.node);
            if !found.iter().any(is_it) {
                found.push(storage);
            }
        }
        Capacity {
            nodes: self
                .of_type("node")
                .filter(on_them)
                .map(|entry| (text(entry, "node").to_owned(), self.node(entry)))
                .collect(),
            storages: found,
        }
    }

    fn node(&self, entry: &Value) -> Node {
        let name = text(entry, "node");
        let mut node = Node {
            memory: number_of(entry, "maxmem"),
            used: number_of(entry, "mem"),
            promised: self.inventory.promised(name),
            cpus: number_of(entry, "maxcpu"),
            ..Node::default()
        };
        let guests = self.of_type("qemu").chain(self.of_type("lxc"));
        let is_here =
            |guest: &&Value| text(guest, "node") == name && number_of(guest, "template") == 0;
        for guest in guests.filter(is_here) {
            node.given += number_of(guest, "maxmem");
            node.cpus_given += number_of(guest, "maxcpu");
        }
        node
    }

    fn of_type<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        let entries = self.entries.iter();
        entries.filter(move |entry| text(entry, "type") == kind)
    }
}

fn text<'a>(entry: &'a Value, key: &str) -> &'a str {
    entry.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A number of an entry; zero where the caller may not see it.
fn number_of(entry: &Value, key: &str) -> u64 {
    entry.get(key).and_then(Value::as_u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const GIB: i64 = 1 << 30;

    #[test]
    fn only_what_differs_is_taken() {
        let demand = |before: Value, after: Value| {
            let demand = demand(before.as_object().unwrap(), after.as_object().unwrap());
            (demand.memory >> 20, demand.cpus, json!(demand.storages))
        };
        let new = json!({
            "memory": 2048, "cores": 2, "sockets": "2", "scsi0": "zfs:32,discard=on", "scsi1": "lvm:0.5",
            "efidisk0": "zfs:1,efitype=4m", "ide2": "none,media=cdrom", "net0": "virtio,bridge=vmbr0",
        });
        assert_eq!(
            demand(json!({}), new),
            (2048, 4, json!({"zfs": 32 * GIB, "lvm": GIB / 2}))
        );
        let before = json!({"memory": "2048", "cores": 2, "scsi0": "zfs:vm-101-disk-0,size=32G"});
        let after =
            json!({"memory": "current=3072", "cores": 1, "scsi0": "zfs:vm-101-disk-0,size=64G"});
        assert_eq!(
            demand(before.clone(), after),
            (1024, -1, json!({"zfs": 32 * GIB}))
        );
        assert_eq!(demand(before.clone(), before), (0, 0, json!({})));
        // A VM of PVE's defaults.
        assert_eq!(demand(json!({}), json!({"name": "x"})), (512, 1, json!({})));
        assert_eq!(
            demand(json!({"name": "x"}), json!({"name": "x", "memory": 1024})),
            (512, 0, json!({}))
        );
    }

    #[test]
    fn a_shared_storage_is_one() {
        let entries = [
            json!({"type": "node", "node": "a", "status": "online", "maxmem": 16, "mem": 3, "maxcpu": 4}),
            json!({"type": "node", "node": "b", "status": "offline"}),
            json!({"type": "node", "node": "c", "status": "unknown"}),
            json!({"type": "storage", "storage": "nfs", "node": "a", "shared": 1, "maxdisk": 100, "disk": 40}),
            json!({"type": "storage", "storage": "nfs", "node": "c", "shared": 1, "maxdisk": 100, "disk": 40}),
            json!({"type": "storage", "storage": "lvm", "node": "c", "maxdisk": 50, "disk": 10}),
            json!({"type": "qemu", "vmid": 101, "name": "db1", "node": "a", "maxmem": 4, "mem": 1, "maxcpu": 2}),
            json!({"type": "qemu", "vmid": 102, "name": "t", "node": "a", "maxmem": 40, "maxcpu": 20, "template": 1}),
            json!({"type": "lxc", "vmid": 103, "node": "a", "maxmem": 2, "mem": 2, "maxcpu": 1}),
        ];
        let cluster = Cluster::of(entries.to_vec()).unwrap();
        let candidates = |allowed: &[&str], storages: &[&str]| {
            let allowed: Vec<String> = allowed.iter().map(|&node| node.into()).collect();
            let found = cluster.candidates(&allowed, storages, &["DB1".into(), "db2".into()]);
            found.into_iter().collect::<Vec<_>>()
        };
        let (a, c) = (("a".to_owned(), 1), ("c".to_owned(), 0));
        assert_eq!(candidates(&[], &["nfs"]), [a.clone(), c.clone()]);
        assert_eq!(candidates(&["a", "b"], &["nfs"]), [a]);
        assert_eq!(candidates(&[], &["nfs", "lvm"]), [c]);
        let capacity = cluster.capacity(&["a", "c"], &BTreeSet::from(["nfs", "lvm"]));
        let names: Vec<_> = capacity
            .storages
            .iter()
            .map(|storage| (&*storage.name, storage.node.as_deref()))
            .collect();
        assert_eq!(names, [("nfs", None), ("lvm", Some("c"))]);
        let expected = Node {
            memory: 16,
            used: 3,
            given: 6,
            promised: 3,
            cpus: 4,
            cpus_given: 3,
        };
        assert_eq!(capacity.nodes["a"], expected);
    }
}
