//! What nodes and storages have left after a run.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;

use crate::host_plan::{Action, Demand, HostPlan, Node};
use crate::size::{bytes, signed};

/// A node before and after a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeAfter {
    /// The first address of the cluster's API.
    pub api: String,
    /// The node.
    pub node: String,
    /// What it has now.
    #[serde(flatten)]
    pub now: Node,
    /// The memory that its guests may take after the run, in bytes.
    pub given_after: i64,
    /// The CPUs of its guests after the run.
    pub cpus_given_after: i64,
}

/// A storage before and after a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StorageAfter {
    /// The first address of the cluster's API.
    pub api: String,
    /// The storage.
    pub storage: String,
    /// Its node; none if it is shared.
    pub node: Option<String>,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes in use now.
    pub used: u64,
    /// The most bytes that are in use after the run: new disks count as if they were full.
    pub used_after: i64,
}

/// What the nodes and storages have after a run, in the order of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct After {
    /// The nodes.
    pub nodes: Vec<NodeAfter>,
    /// The storages.
    pub storages: Vec<StorageAfter>,
    /// What is too little.
    #[serde(rename = "capacity_warnings")]
    pub warnings: Vec<String>,
    /// The node of each host for which a run chooses one: an estimate, since the run goes by what is free then.
    pub placed: BTreeMap<String, String>,
}

/// Add what the plans take to what there is.
pub fn after(plans: &BTreeMap<String, HostPlan>) -> After {
    let counted = plans
        .iter()
        .filter(|(_, plan)| plan.action != Action::Refuse && plan.demand != Demand::default());
    let (named, chosen): (Vec<_>, Vec<_>) = counted.partition(|(_, plan)| plan.node.is_some());
    let mut sums = Sums::default();
    for (_, plan) in named.iter().chain(&chosen) {
        sums.note(plan);
    }
    for (_, plan) in named {
        sums.add(plan, plan.node.as_deref().unwrap_or_default());
    }
    let mut placed = BTreeMap::new();
    let mut unknown = Vec::new();
    for (host, plan) in chosen {
        match sums.best(plan) {
            Some(node) => {
                sums.add(plan, node);
                placed.insert(host.clone(), node.clone());
            }
            None => unknown.push(format!(
                "host {host}: is not counted, since no node is known that has its storages; set nixos_vm_node"
            )),
        }
    }
    let mut after = sums.into_after(placed);
    after.warnings.extend(unknown);
    after
}

/// What is added up, by cluster.
#[derive(Default)]
struct Sums {
    nodes: BTreeMap<(String, String), NodeAfter>,
    /// By cluster, storage and node, which is empty for a shared storage.
    storages: BTreeMap<(String, String, String), StorageAfter>,
    /// Where something was added.
    touched: Vec<(String, String)>,
    /// By cluster and node, the names of the VMs that are new there.
    new: BTreeMap<(String, String), Vec<String>>,
}

impl Sums {
    /// Take note of what a host's plan read of the cluster; the first reading of each counts.
    fn note(&mut self, plan: &HostPlan) {
        for (node, now) in &plan.capacity.nodes {
            let key = (plan.cluster.clone(), node.clone());
            self.nodes.entry(key).or_insert_with(|| NodeAfter {
                api: plan.api.clone(),
                node: node.clone(),
                given_after: signed(now.given),
                cpus_given_after: signed(now.cpus_given),
                now: now.clone(),
            });
        }
        for storage in &plan.capacity.storages {
            let node = storage.node.clone();
            let key = (
                plan.cluster.clone(),
                storage.name.clone(),
                node.clone().unwrap_or_default(),
            );
            self.storages.entry(key).or_insert_with(|| StorageAfter {
                api: plan.api.clone(),
                storage: storage.name.clone(),
                node,
                size: storage.size,
                used: storage.used,
                used_after: signed(storage.used),
            });
        }
    }

    /// Add what a machine takes on a node.
    fn add(&mut self, plan: &HostPlan, node: &str) {
        let at = (plan.cluster.clone(), node.to_owned());
        if let Some(sum) = self.nodes.get_mut(&at) {
            sum.given_after += plan.demand.memory;
            sum.cpus_given_after += plan.demand.cpus;
        }
        for (storage, bytes) in &plan.demand.storages {
            for place in ["", node] {
                let key = (plan.cluster.clone(), storage.clone(), place.to_owned());
                if let Some(sum) = self.storages.get_mut(&key) {
                    sum.used_after += bytes;
                }
            }
        }
        if plan.vmid.is_none() {
            self.new
                .entry(at.clone())
                .or_default()
                .push(plan.name.clone());
        }
        self.touched.push(at);
    }

    /// The node for a new machine, as a run chooses it: the fewest VMs that it shall be apart from, then the most free memory.
    fn best<'a>(&self, plan: &'a HostPlan) -> Option<&'a String> {
        let is_apart = |name: &&String| {
            let mut names = plan.apart_from.iter();
            names.any(|other| other.eq_ignore_ascii_case(name))
        };
        let key = |(node, there): &(&String, &usize)| {
            let at = (plan.cluster.clone(), (*node).clone());
            let new = self.new.get(&at).into_iter().flatten();
            let companions = **there + new.filter(is_apart).count();
            (companions, Reverse(self.free(&plan.cluster, node)))
        };
        let best = plan.candidates.iter().min_by_key(key)?;
        Some(best.0)
    }

    /// Bytes of a node that are neither in use nor promised; below zero when more is promised than there is.
    fn free(&self, cluster: &str, node: &str) -> i128 {
        let at = (cluster.to_owned(), node.to_owned());
        let Some(sum) = self.nodes.get(&at) else {
            return i128::MIN;
        };
        let added = i128::from(sum.given_after) - i128::from(sum.now.given);
        i128::from(sum.now.memory) - i128::from(sum.now.used) - i128::from(sum.now.promised) - added
    }

    /// Only what a plan takes something of is shown.
    fn into_after(self, placed: BTreeMap<String, String>) -> After {
        let Self {
            nodes,
            storages,
            touched,
            new: _,
        } = self;
        let nodes = nodes
            .into_iter()
            .filter(|(at, _)| touched.contains(at))
            .map(|(_, node)| node)
            .collect();
        let storages = storages
            .into_values()
            .filter(|storage| storage.used_after != signed(storage.used))
            .collect();
        let mut after = After {
            nodes,
            storages,
            warnings: Vec::new(),
            placed,
        };
        after.warnings = warnings(&after);
        after
    }
}

/// What is too little. A size of zero is one that the caller may not see.
fn warnings(after: &After) -> Vec<String> {
    let nodes = after.nodes.iter().filter(|node| {
        node.now.memory > 0
            && node.given_after > signed(node.now.memory)
            && node.given_after > signed(node.now.given)
    });
    let nodes = nodes.map(|node| {
        format!(
            "node {}: guests are configured with {} of memory after the run (the node has {})",
            node.node,
            bytes(node.given_after),
            bytes(signed(node.now.memory))
        )
    });
    let storages = after.storages.iter().filter(|storage| {
        storage.size > 0
            && storage.used_after > signed(storage.size)
            && storage.used_after > signed(storage.used)
    });
    let storages = storages.map(|storage| {
        format!(
            "storage {}{}: up to {} are in use after the run (its size is {})",
            storage.storage,
            storage
                .node
                .as_ref()
                .map_or_else(String::new, |node| format!(" on {node}")),
            bytes(storage.used_after),
            bytes(signed(storage.size))
        )
    });
    nodes.chain(storages).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_plan::{Capacity, Storage};

    const GIB: u64 = 1 << 30;

    fn new_machine(name: &str, candidates: &[&str], apart_from: &[&str]) -> (String, HostPlan) {
        let node = |used: u64| Node {
            memory: 16 * GIB,
            used: used * GIB,
            given: used * GIB,
            ..Node::default()
        };
        let local = |node: &str| Storage {
            name: "local".into(),
            node: Some(node.into()),
            size: 100 * GIB,
            used: 90 * GIB,
        };
        let capacity = Capacity {
            nodes: BTreeMap::from([("a".into(), node(2)), ("b".into(), node(4))]),
            storages: vec![local("a"), local("b")],
        };
        let demand = Demand {
            memory: signed(4 * GIB),
            cpus: 2,
            storages: BTreeMap::from([("local".into(), signed(8 * GIB))]),
        };
        let plan = HostPlan {
            name: name.into(),
            candidates: candidates.iter().map(|&node| (node.into(), 0)).collect(),
            apart_from: apart_from.iter().map(|&name| name.into()).collect(),
            demand,
            capacity,
            ..HostPlan::default()
        };
        (name.to_owned(), plan)
    }

    fn placed(machines: &[(String, HostPlan)]) -> Vec<(String, String)> {
        let after = after(&machines.iter().cloned().collect());
        after.placed.into_iter().collect()
    }

    #[test]
    fn machines_come_to_where_most_memory_is_free() {
        let names = ["m1", "m2", "m3"].map(|name| new_machine(name, &["a", "b"], &[]));
        let nodes = placed(&names).into_iter().map(|(_, node)| node);
        assert_eq!(nodes.collect::<Vec<_>>(), ["a", "b", "a"]);
        let apart = ["m1", "m2"].map(|name| new_machine(name, &["a", "b"], &["m1", "m2"]));
        assert_eq!(placed(&apart)[1].1, "b");
        let mut beside = new_machine("m1", &["a", "b"], &["other"]);
        beside.1.candidates.insert("a".into(), 1);
        assert_eq!(placed(&[beside])[0].1, "b");
        let one = [new_machine("m1", &["b"], &[])];
        assert_eq!(placed(&one)[0].1, "b");
    }

    #[test]
    fn overcommitment_is_reported() {
        let mut machines: BTreeMap<String, HostPlan> = ["m1", "m2", "m3", "m4"]
            .map(|name| new_machine(name, &["a"], &[]))
            .into();
        let found = after(&machines);
        assert_eq!(
            found.warnings,
            [
                "node a: guests are configured with 18.0 GiB of memory after the run (the node has 16.0 GiB)",
                "storage local on a: up to 122.0 GiB are in use after the run (its size is 100.0 GiB)",
            ]
        );
        // Only what is used is shown.
        assert_eq!((found.nodes.len(), found.storages.len()), (1, 1));
        machines.retain(|name, _| name == "m1");
        let found = after(&machines);
        assert_eq!(found.warnings, [] as [String; 0]);
        assert_eq!(found.nodes[0].cpus_given_after, 2);
        // A machine that takes nothing, or that no run makes.
        let mut idle = new_machine("idle", &["b"], &[]).1;
        idle.demand = Demand::default();
        let mut refused = new_machine("refused", &["b"], &[]).1;
        refused.action = Action::Refuse;
        machines.extend([("idle".to_owned(), idle), ("refused".to_owned(), refused)]);
        assert_eq!(after(&machines).nodes.len(), 1);
        let nowhere = new_machine("nowhere", &[], &[]);
        let found = after(&BTreeMap::from([nowhere]));
        assert_eq!(
            found.warnings,
            [
                "host nowhere: is not counted, since no node is known that has its storages; set nixos_vm_node"
            ]
        );
    }
}
