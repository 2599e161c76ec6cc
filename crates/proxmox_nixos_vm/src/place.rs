//! The node for a new VM.

use ansible_module::Failure;
use pve_module::{Inventory, Seen};
use serde::Deserialize;

use crate::precheck::{self, Needs};
use crate::site::{Site, failed};

#[derive(Deserialize)]
struct Load {
    node: String,
    #[serde(default)]
    mem: u64,
    #[serde(default)]
    maxmem: u64,
}

impl Load {
    /// Bytes that are neither in use nor promised to a VM that does not take them yet; below zero when more is promised than there
    /// is. A VM that does not run counts too: otherwise all new VMs, which are made before they are started, would go to one node.
    fn free(&self, inventory: &Inventory) -> i128 {
        let promised = |seen: &&Seen| {
            let (most, now) = (seen.vm.maxmem, seen.vm.mem);
            i128::from(
                most.unwrap_or_default()
                    .saturating_sub(now.unwrap_or_default()),
            )
        };
        let here = inventory.vms.iter();
        let here = here.filter(|seen| seen.node == self.node && !seen.vm.template);
        i128::from(self.maxmem)
            - i128::from(self.mem)
            - here.map(|seen| promised(&seen)).sum::<i128>()
    }
}

/// The node that the user names, or the online node with the most free memory that has what the VM needs.
pub async fn choose(
    site: &Site<'_>,
    inventory: &Inventory,
    node: Option<&str>,
    needs: &Needs,
) -> Result<String, Failure> {
    if let Some(node) = node {
        known(&inventory.online, &inventory.offline, node)?;
        precheck::check(site, node, needs).await?;
        return Ok(node.to_owned());
    }
    let mut loads: Vec<Load> = site
        .client
        .read_as("/nodes", &[], site.deadline)
        .await
        .map_err(|e| failed("list the nodes of", "the cluster", e))?;
    loads.retain(|load| inventory.online.contains(&load.node));
    loads.sort_by_key(|load| std::cmp::Reverse(load.free(inventory)));
    let mut unfit = Vec::new();
    for load in loads {
        match precheck::check(site, &load.node, needs).await {
            Ok(()) => return Ok(load.node),
            Err(failure) => unfit.push(failure),
        }
    }
    let none = Failure::new(
        "no_node",
        "no node is online, so there is none to create the VM on",
    );
    Err(match unfit.len() {
        0 => none,
        1 => unfit.remove(0),
        _ => {
            let reasons: Vec<String> = unfit.into_iter().map(|failure| failure.msg).collect();
            Failure::new(
                "no_node",
                format!(
                    "no online node has what the VM needs: {}",
                    reasons.join("; ")
                ),
            )
        }
    })
}

/// Refuse a node that is down or does not exist.
///
/// # Errors
/// Kinds `node_offline` and `no_node`.
pub fn known(online: &[String], offline: &[String], node: &str) -> Result<(), Failure> {
    if online.iter().any(|known| known == node) {
        return Ok(());
    }
    let online = online.join(", ");
    let (kind, why) = if offline.iter().any(|known| known == node) {
        ("node_offline", "is offline")
    } else {
        ("no_node", "does not exist")
    };
    Err(
        Failure::new(kind, format!("the node {node} {why}; online are: {online}"))
            .object(node)
            .hint(
                "correct node, or leave it out to take the online node with the most free memory",
            ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_promised_is_not_free() {
        let on = |node: &str, vm| Seen {
            node: node.into(),
            vm: serde_json::from_value(vm).unwrap(),
        };
        let inventory = Inventory {
            vms: vec![
                on("a", json!({"vmid": 101, "status": "stopped", "maxmem": 6})),
                on(
                    "a",
                    json!({"vmid": 102, "status": "running", "maxmem": "5", "mem": 3}),
                ),
                on("a", json!({"vmid": 103, "template": 1, "maxmem": 50})),
                on("b", json!({"vmid": 104})),
            ],
            ..Inventory::default()
        };
        for (node, mem, free) in [("a", 3, -1), ("a", 12, -10), ("b", 1, 9), ("c", 0, 10)] {
            let load = Load {
                node: node.into(),
                mem,
                maxmem: 10,
            };
            assert_eq!(load.free(&inventory), free, "{node} {mem}");
        }
    }

    #[test]
    fn nodes_that_cannot_be_used_are_named() {
        let (online, down) = (["a".into(), "b".into()], ["c".into()]);
        assert!(known(&online, &down, "a").is_ok());
        let offline = known(&online, &down, "c").unwrap_err();
        assert_eq!(
            (offline.kind, offline.msg.as_str()),
            ("node_offline", "the node c is offline; online are: a, b")
        );
        assert_eq!(known(&online, &down, "d").unwrap_err().kind, "no_node");
    }
}
