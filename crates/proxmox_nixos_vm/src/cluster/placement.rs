//! The node for a new VM.

use std::cmp::Reverse;
use std::time::{SystemTime, UNIX_EPOCH};

use ansible_module::Failure;
use pve_module::{Inventory, Load, Lock, Seen};
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
}

/// For how many seconds a VM that no list shows yet counts on the node that was chosen for it.
const COUNTS: u64 = 120;

/// A node that a task of this controller has chosen for a VM. Hosts of one play look at the nodes at the same moment: without
/// knowing of each other all of them would take the same one.
#[derive(Debug, Serialize, Deserialize)]
struct Chosen {
    name: String,
    node: String,
    memory: u64,
    /// Seconds since 1970.
    at: u64,
}

/// Bytes that are neither in use nor promised to a VM that does not take them yet; below zero when more is promised than there
/// is. A VM that does not run counts too: otherwise all new VMs, which are made before they are started, would go to one node.
fn free(load: &Load, inventory: &Inventory, chosen: &[Chosen]) -> i128 {
    let promised = |seen: &&Seen| {
        let (most, now) = (seen.vm.maxmem, seen.vm.mem);
        i128::from(
            most.unwrap_or_default()
                .saturating_sub(now.unwrap_or_default()),
        )
    };
    let here = inventory.vms.iter();
    let here = here.filter(|seen| seen.node == load.node && !seen.vm.template);
    // Which others see is for each to say: their inventories are of other moments. A VM that is very new has no memory in them.
    let counts = |name: &str| {
        let there = inventory.by_name(name);
        there.iter().any(|seen| seen.vm.maxmem.is_some())
    };
    let chosen = chosen.iter();
    let chosen = chosen.filter(|chosen| chosen.node == load.node && !counts(&chosen.name));
    i128::from(load.maxmem)
        - i128::from(load.mem)
        - here.map(|seen| promised(&seen)).sum::<i128>()
        - chosen.map(|chosen| i128::from(chosen.memory)).sum::<i128>()
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
        known(&inventory.online, &inventory.offline, node)?;
        requirements::check(context, node, needs).await?;
        return Ok(node.to_owned());
    }
    let mut loads = inventory.loads.clone();
    let mut unfit = Vec::new();
    while let Some(node) = take(context, inventory, &mut loads, newcomer).await? {
        match requirements::check(context, &node, needs).await {
            Ok(()) => return Ok(node),
            Err(failure) => unfit.push(failure),
        }
    }
    Err(match unfit.len() {
        0 => Error::NoNodeOnline.into(),
        1 => unfit.remove(0),
        _ => {
            let reasons = unfit.into_iter().map(|failure| failure.msg).collect();
            Error::NoNodeFits(reasons).into()
        }
    })
}

/// Take the node with the most free memory out of `loads`, and let other tasks of this controller know.
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
        chosen.at.abs_diff(now) < COUNTS && !is_self
    });
    loads.sort_by_key(|load| Reverse(free(load, inventory, &chosen)));
    let node = loads.remove(0).node;
    if !context.task.check_mode {
        chosen.push(Chosen {
            name: newcomer.name.to_owned(),
            node: node.clone(),
            memory: newcomer.memory,
            at: now,
        });
        // Without the note the choice is as good as before.
        let _ = lock.leave_note(&serde_json::json!(chosen).to_string());
    }
    Ok(Some(node))
}

/// Refuse a node that is down or does not exist.
///
/// # Errors
/// [`Error::NodeOffline`] and [`Error::NoSuchNode`].
pub fn known(online: &[String], offline: &[String], node: &str) -> Result<(), Error> {
    if online.iter().any(|known| known == node) {
        return Ok(());
    }
    let is_offline = offline.iter().any(|known| known == node);
    let (node, online) = (node.to_owned(), online.to_vec());
    Err(match is_offline {
        true => Error::NodeOffline { node, online },
        false => Error::NoSuchNode { node, online },
    })
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
        let chosen = [Chosen {
            name: "x".into(),
            node: "c".into(),
            memory: 3,
            at: 0,
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
    fn nodes_that_cannot_be_used_are_named() {
        let (online, down) = (["a".into(), "b".into()], ["c".into()]);
        assert!(known(&online, &down, "a").is_ok());
        let refused = |node| known(&online, &down, node).unwrap_err().to_string();
        assert_eq!(refused("c"), "node: c is offline (online: a, b)");
        assert_eq!(refused("d"), "node: d does not exist (online: a, b)");
    }
}
