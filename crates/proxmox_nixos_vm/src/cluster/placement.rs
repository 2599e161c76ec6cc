//! The node for a new VM.

use std::cmp::Reverse;
use std::time::{SystemTime, UNIX_EPOCH};

use ansible_module::Failure;
use pve_module::{Inventory, Load, Lock};
use serde::{Deserialize, Serialize};

use crate::cluster::locks;
use crate::context::Context;
use crate::error::Error;
use crate::precheck::requirements::{self, Needs};

/// The VM that a node is chosen for.
pub struct Newcomer<'a> {
    /// The cluster, for locks.
    pub cluster: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its memory in bytes.
    pub memory: u64,
    /// The nodes that it may come to; all, if this is empty.
    pub nodes: &'a [String],
    /// The names of the VMs that it shall not share a node with, where that can be.
    pub apart_from: &'a [String],
    /// For how many seconds it counts on its node before a list shows it.
    pub hold: u64,
}

impl Newcomer<'_> {
    /// Whether it may come to this node, as far as the user limits that.
    pub fn may_come_to(&self, node: &str) -> bool {
        self.nodes.is_empty() || self.nodes.iter().any(|allowed| allowed == node)
    }
}

/// For how many seconds a VM counts that is made at once.
pub const MADE_NOW: u64 = 120;

/// A node that a task of this controller has chosen for a VM. Hosts of one play look at the nodes at the same moment: without
/// knowing of each other all of them would take the same one.
#[derive(Debug, Serialize, Deserialize)]
struct Chosen {
    name: String,
    node: String,
    memory: u64,
    /// Until when it counts, in seconds since 1970.
    until: u64,
}

/// Bytes that are neither in use nor promised to a VM that does not take them yet; below zero when more is promised than there
/// is.
fn free(load: &Load, inventory: &Inventory, chosen: &[Chosen]) -> i128 {
    // Which others see is for each to say: their inventories are of other moments. A VM that is very new has no memory in them.
    let counts = |name: &str| {
        let there = inventory.by_name(name);
        there.iter().any(|seen| seen.vm.maxmem.is_some())
    };
    let chosen = chosen.iter();
    let chosen = chosen.filter(|chosen| chosen.node == load.node && !counts(&chosen.name));
    i128::from(load.maxmem)
        - i128::from(load.mem)
        - i128::from(inventory.promised(&load.node))
        - chosen.map(|chosen| i128::from(chosen.memory)).sum::<i128>()
}

/// How many of the VMs with these names are on a node, or will be.
fn companions(node: &str, names: &[String], inventory: &Inventory, chosen: &[Chosen]) -> usize {
    let there = |name: &&String| {
        let listed = inventory.by_name(name);
        let coming =
            |chosen: &Chosen| chosen.node == node && chosen.name.eq_ignore_ascii_case(name);
        match listed.is_empty() {
            true => chosen.iter().any(coming),
            false => listed.iter().any(|seen| seen.node == node),
        }
    };
    names.iter().filter(there).count()
}

/// The node that the user names, or the online node with the most free memory that has what the VM needs.
pub async fn choose(
    context: &Context<'_>,
    inventory: &Inventory,
    node: Option<&str>,
    needs: &Needs,
    newcomer: &Newcomer<'_>,
) -> Result<String, Failure> {
    if let Some(node) = node {
        known("node", &inventory.online, &inventory.offline, node)?;
        requirements::check(context, node, needs).await?;
        return Ok(node.to_owned());
    }
    let is_online = |node: &&String| !inventory.offline.contains(node);
    for node in newcomer.nodes.iter().filter(is_online) {
        known("nodes", &inventory.online, &inventory.offline, node)?;
    }
    let mut loads = inventory.loads.clone();
    loads.retain(|load| newcomer.may_come_to(&load.node));
    let mut unfit = Vec::new();
    while let Some(node) = take(context, inventory, &mut loads, newcomer).await? {
        match requirements::check(context, &node, needs).await {
            Ok(()) => return Ok(node),
            Err(failure) => unfit.push(failure),
        }
    }
    Err(match unfit.len() {
        0 if newcomer.nodes.is_empty() => Error::NoNodeOnline.into(),
        0 => Error::NodesOffline(newcomer.nodes.to_vec()).into(),
        1 => unfit.remove(0),
        _ => {
            let reasons = unfit.into_iter().map(|failure| failure.msg).collect();
            Error::NoNodeFits(reasons).into()
        }
    })
}

/// Take the best node out of `loads` (the fewest VMs that the new one shall be apart from, then the most free memory), and let other
/// tasks of this controller know.
async fn take(
    context: &Context<'_>,
    inventory: &Inventory,
    loads: &mut Vec<Load>,
    newcomer: &Newcomer<'_>,
) -> Result<Option<String>, Failure> {
    if loads.is_empty() {
        return Ok(None);
    }
    let name = locks::placing(newcomer.cluster);
    let mut lock = Lock::acquire(&name, context.deadline).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs();
    let noted = lock.note().unwrap_or_default();
    let mut chosen: Vec<Chosen> = serde_json::from_str(&noted).unwrap_or_default();
    chosen.retain(|chosen| {
        let is_self = chosen.name.eq_ignore_ascii_case(newcomer.name);
        chosen.until > now && !is_self
    });
    let companions = |load: &Load| companions(&load.node, newcomer.apart_from, inventory, &chosen);
    loads.sort_by_key(|load| (companions(load), Reverse(free(load, inventory, &chosen))));
    let node = loads.remove(0).node;
    if !context.task.check_mode {
        chosen.push(Chosen {
            name: newcomer.name.to_owned(),
            node: node.clone(),
            memory: newcomer.memory,
            until: now + newcomer.hold,
        });
        // Without the note the choice is as good as before.
        let _ = lock.leave_note(&serde_json::json!(chosen).to_string());
    }
    Ok(Some(node))
}

/// Refuse a node, given by `option`, that is down or does not exist.
///
/// # Errors
/// [`Error::NodeOffline`] and [`Error::NoSuchNode`].
pub fn known(
    option: &'static str,
    online: &[String],
    offline: &[String],
    node: &str,
) -> Result<(), Error> {
    if online.iter().any(|known| known == node) {
        return Ok(());
    }
    let is_offline = offline.iter().any(|known| known == node);
    let (node, online) = (node.to_owned(), online.to_vec());
    Err(match is_offline {
        true => Error::NodeOffline { node, online },
        false => Error::NoSuchNode {
            option,
            node,
            online,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pve_module::Seen;
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
        let chosen = [Chosen {
            name: "x".into(),
            node: "c".into(),
            memory: 3,
            until: 0,
        }];
        for (node, mem, expected) in [("a", 3, -1), ("a", 12, -10), ("b", 1, 9), ("c", 0, 7)] {
            let load = Load {
                node: node.into(),
                mem,
                maxmem: 10,
            };
            assert_eq!(free(&load, &inventory, &chosen), expected, "{node} {mem}");
        }
    }

    #[test]
    fn companions_are_counted_where_they_are_and_where_they_will_be() {
        let vm = |node: &str, name: &str| Seen {
            node: node.into(),
            vm: serde_json::from_value(json!({"vmid": 101, "name": name, "status": "running"}))
                .unwrap(),
        };
        let coming = |node: &str, name: &str| Chosen {
            name: name.into(),
            node: node.into(),
            memory: 1,
            until: 0,
        };
        let inventory = Inventory {
            vms: vec![vm("a", "db1"), vm("a", "web1")],
            ..Inventory::default()
        };
        // A VM that is listed is where it is, whatever was chosen for it.
        let chosen = [coming("b", "db2"), coming("b", "db1")];
        let names = ["db1".to_owned(), "DB2".to_owned(), "db3".to_owned()];
        for (node, expected) in [("a", 1), ("b", 1), ("c", 0)] {
            assert_eq!(
                companions(node, &names, &inventory, &chosen),
                expected,
                "{node}"
            );
        }
    }

    #[test]
    fn nodes_that_cannot_be_used_are_named() {
        let (online, down) = (["a".into(), "b".into()], ["c".into()]);
        assert!(known("node", &online, &down, "a").is_ok());
        let refused = |node| known("node", &online, &down, node).unwrap_err().to_string();
        assert_eq!(refused("c"), "node: c is offline (online: a, b)");
        assert_eq!(refused("d"), "node: d does not exist (online: a, b)");
    }
}
