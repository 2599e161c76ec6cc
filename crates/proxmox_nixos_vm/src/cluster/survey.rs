//! All VMs of the cluster with the names that they have now, read with as few requests as possible.
//!
//! Nothing here is older than the task that uses it, see [`crate::response_cache`].

use std::collections::{BTreeMap, BTreeSet};

use ansible_module::Failure;
use pve_module::{Inventory, Seen, doing, node_vms, seen_on};
use serde_json::{Value, json};

use crate::cluster::creation_log::CreationLog;
use crate::cluster::creation_progress::is_in_the_making;
use crate::context::Context;
use crate::response_cache::{ResponseCache, now};

/// How old an answer may be, in milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Since {
    /// PVE's list of the cluster.
    pub list: u64,
    /// The names of VMs that have none in that list yet.
    pub names: u64,
}

impl Since {
    /// Both from this moment on.
    pub fn now() -> Self {
        Self::at(now())
    }

    /// Both from that moment on.
    pub fn at(moment: u64) -> Self {
        Self {
            list: moment,
            names: moment,
        }
    }
}

/// The VMs of the cluster.
pub struct Survey {
    /// The VMs with their names of this moment, except those that PVE still makes, which have none.
    pub inventory: Inventory,
    /// VMs that are so new that PVE's own list has no name for them, and that no task of this controller made.
    pub young: BTreeSet<u32>,
}

impl Survey {
    /// Read the VMs with their names. Neither is older than `since` says. `nodes` are the nodes that were up when the task
    /// began, `name` the name that matters.
    ///
    /// PVE reuses a VMID as soon as its VM is removed. So the name of a VM that PVE's list does not name yet counts for a
    /// moment only.
    ///
    /// VMIDs, nodes and locks are those of PVE's list of the cluster. The names come from the lists of the nodes, which one
    /// task reads for all tasks that had begun by then. A VM that is in no such list is read by itself.
    pub async fn read(
        context: &Context<'_>,
        log: &CreationLog,
        nodes: &[String],
        since: Since,
        name: Option<&str>,
    ) -> Result<Self, Failure> {
        let mut by_node: BTreeMap<u32, Seen> = BTreeMap::new();
        let mut down = Vec::new();
        for node in nodes {
            match vms_of(context, &log.cache, node).await? {
                Some(seen) => by_node.extend(seen.into_iter().map(|seen| (seen.vm.vmid, seen))),
                None => down.push(node),
            }
        }
        // After the nodes, so that whatever is in their lists only is gone since.
        let mut inventory = list(context, &log.cache, since.list).await?;
        down.into_iter().for_each(|node| inventory.is_down(node));
        let nameless = inventory.vms.iter().filter(|seen| seen.vm.name.is_empty());
        let mut young: BTreeSet<u32> = nameless.map(|seen| seen.vm.vmid).collect();
        let own = match young.is_empty() {
            true => BTreeSet::new(),
            false => log.own(context).await?,
        };
        young.retain(|vmid| !own.contains(vmid));
        let reused = |vmid: u32| young.contains(&vmid) && since.names > log.cache.began;
        let unknown = name_from_nodes(&mut inventory, by_node, reused, name);
        if !unknown.is_empty() {
            let names = log.names_of(context, unknown, since.names).await?;
            for seen in &mut inventory.vms {
                if let Some(name) = names.get(&seen.vm.vmid) {
                    seen.vm.name.clone_from(name);
                }
            }
        }
        Ok(Self { inventory, young })
    }
}

/// PVE's list of the whole cluster, not older than `since`.
async fn list(
    context: &Context<'_>,
    cache: &ResponseCache,
    since: u64,
) -> Result<Inventory, Failure> {
    let ask = async || {
        let all = context
            .client
            .get("/cluster/resources", &[], context.deadline)
            .await;
        all.map(compact).map_err(doing("list the cluster's VMs"))
    };
    let entries = cache
        .get_or_ask(context.deadline, "/cluster/resources", since, ask)
        .await??;
    Inventory::of(match entries {
        Value::Array(entries) => entries,
        _ => Vec::new(),
    })
}

/// Give the VMs of the cluster's list the names that the lists of the nodes have. Returns the VMs (VMID and node) whose names
/// must be read one by one: those without a name, those whose VMID may belong to another VM by now (`reused`), and those for
/// which the lists disagree about `name`.
fn name_from_nodes(
    inventory: &mut Inventory,
    mut by_node: BTreeMap<u32, Seen>,
    reused: impl Fn(u32) -> bool,
    name: Option<&str>,
) -> Vec<(u32, String)> {
    let matters = |found: &str| name.is_some_and(|name| name.eq_ignore_ascii_case(found));
    let mut unknown = Vec::new();
    for seen in &mut inventory.vms {
        let listed = std::mem::take(&mut seen.vm.name);
        if is_in_the_making(seen) {
            continue;
        }
        match by_node.remove(&seen.vm.vmid) {
            Some(before)
                if !before.vm.name.is_empty()
                    && !is_in_the_making(&before)
                    && !reused(seen.vm.vmid) =>
            {
                let renamed = !listed.is_empty() && listed != before.vm.name;
                if renamed && (matters(&listed) || matters(&before.vm.name)) {
                    unknown.push((seen.vm.vmid, seen.node.clone()));
                }
                let lock = seen.vm.lock.take();
                seen.vm = before.vm;
                seen.vm.lock = lock;
            }
            _ if listed.is_empty() => unknown.push((seen.vm.vmid, seen.node.clone())),
            _ => seen.vm.name = listed,
        }
    }
    unknown
}

/// The VMs of a node with their names, not older than this task; nothing when the node does not answer.
async fn vms_of(
    context: &Context<'_>,
    cache: &ResponseCache,
    node: &str,
) -> Result<Option<Vec<Seen>>, Failure> {
    let ask = async || {
        let entries = node_vms(context.client, node, context.deadline).await;
        entries.map(|entries| compact(json!(entries)))
    };
    let key = format!("/nodes/{node}/qemu");
    let entries = cache
        .get_or_ask(context.deadline, &key, cache.began, ask)
        .await??;
    match entries {
        Value::Array(entries) => seen_on(node, entries).map(Some),
        _ => Ok(None),
    }
}

/// The entries of a list with what is needed of them only. No list (a node that does not answer) stays none.
fn compact(entries: Value) -> Value {
    const NEEDED: [&str; 11] = [
        "type", "node", "vmid", "name", "status", "tags", "template", "lock", "maxmem", "mem", "id",
    ];
    let Value::Array(mut entries) = entries else {
        return entries;
    };
    entries.retain(|entry| {
        let kind = entry.get("type").and_then(Value::as_str);
        kind.is_none_or(|kind| matches!(kind, "node" | "qemu" | "lxc"))
    });
    for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
        entry.retain(|key, _| NEEDED.contains(&key.as_str()));
    }
    Value::Array(entries)
}
