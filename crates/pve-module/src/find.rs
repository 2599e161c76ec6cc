//! Which VMs there are, and on which nodes.

use ansible_module::Failure;
use deadline::Deadline;
use pve_client::{Client, Vm};
use serde_json::Value;

use crate::failure::doing;

/// The status of a call that the node asked could not pass on to the one meant.
const UNREACHED: u16 = 595;

/// A VM in the list of the node it is on.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The node.
    pub node: String,
    /// What the node says about it.
    pub vm: Vm,
}

/// The VMs that there are, and the nodes that could not be asked.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// Every VM on an online node that the token may see.
    pub vms: Vec<Seen>,
    /// Nodes that are up.
    pub online: Vec<String>,
    /// Nodes that are down: what is on them is not among the VMs.
    pub offline: Vec<String>,
}

impl Inventory {
    /// Ask every node for its VMs. `cluster/resources` would be one request, but knows neither new VMs
    /// nor their names for up to ten seconds.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn read(client: &Client, deadline: &Deadline) -> Result<Self, Failure> {
        let nodes = client
            .nodes(deadline)
            .await
            .map_err(doing("list the nodes"))?;
        let mut inventory = Self::default();
        for node in nodes {
            // "unknown" is what callers without Sys.Audit see of every node.
            if node.status == "offline" {
                inventory.offline.push(node.node);
                continue;
            }
            let vms = match client.vms(&node.node, deadline).await {
                Ok(vms) => vms,
                // It went down just now, or the caller may not see that it is down.
                Err(error) if error.status() == Some(UNREACHED) => {
                    inventory.offline.push(node.node);
                    continue;
                }
                Err(error) => {
                    return Err(doing(format!("list the VMs of node {}", node.node))(error));
                }
            };
            inventory.vms.extend(vms.into_iter().map(|vm| Seen {
                node: node.node.clone(),
                vm,
            }));
            inventory.online.push(node.node);
        }
        Ok(inventory)
    }

    /// The VM with this number.
    pub fn by_vmid(&self, vmid: u32) -> Option<&Seen> {
        self.vms.iter().find(|seen| seen.vm.vmid == vmid)
    }

    /// The VMs with this name, which is a DNS name: its case does not count.
    pub fn by_name(&self, name: &str) -> Vec<&Seen> {
        let has = |seen: &&Seen| seen.vm.name.eq_ignore_ascii_case(name);
        self.vms.iter().filter(has).collect()
    }

    /// Make sure that a VM which was not found is not merely on a node that is down: it would be made again.
    ///
    /// # Errors
    /// Kind `node_offline` when a VM with this number or name is on such a node, or one whose name PVE does not know any
    /// more (it forgets the names five minutes after the node went down) and only a name is looked for; otherwise the API's.
    pub async fn refuse_if_offline(
        &self,
        client: &Client,
        vmid: Option<u32>,
        name: Option<&str>,
        deadline: &Deadline,
    ) -> Result<(), Failure> {
        if self.offline.is_empty() {
            return Ok(());
        }
        let query = [("type", "vm".to_string())];
        let known = client
            .get("/cluster/resources", &query, deadline)
            .await
            .map_err(doing("list the cluster's VMs"))?;
        let entries = known.as_array().map(Vec::as_slice).unwrap_or_default();
        let Some(entry) = entries.iter().find(|entry| self.hides(entry, vmid, name)) else {
            return match (vmid, name) {
                (None, Some(name)) => self.refuse_if_nameless(entries, name),
                _ => Ok(()),
            };
        };
        let text = |key: &str| match entry.get(key) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        Err(Failure::new(
            "node_offline",
            format!(
                "VM {} is on node {}, which is offline",
                text("vmid"),
                text("node")
            ),
        )
        .object(text("id"))
        .hint("start that node, or have HA move the VM"))
    }

    fn refuse_if_nameless(&self, entries: &[Value], name: &str) -> Result<(), Failure> {
        let is_hidden = |entry: &&Value| {
            text(entry, "type") == "qemu"
                && text(entry, "name").is_empty()
                && self.is_offline(text(entry, "node"))
        };
        let vmids: Vec<String> = entries
            .iter()
            .filter(is_hidden)
            .filter_map(|entry| Some(entry.get("vmid")?.to_string()))
            .collect();
        if vmids.is_empty() {
            return Ok(());
        }
        Err(Failure::new(
            "node_offline",
            format!(
                "it is not known whether VM {name} exists: of the VMs on the offline nodes ({}) PVE shows no names any more: {}",
                self.offline.join(", "),
                vmids.join(", ")
            ),
        )
        .object(name)
        .hint("start the node, or remove it and its VMs from the cluster; a VM that is given its vmid is found, or made, without its name"))
    }

    /// Whether an entry of `cluster/resources` is a VM with this number or name on a node that is down.
    fn hides(&self, entry: &Value, vmid: Option<u32>, name: Option<&str>) -> bool {
        let number = entry.get("vmid").and_then(Value::as_u64);
        // Containers share the VMIDs, but not the names.
        let named =
            |name| text(entry, "type") != "lxc" && text(entry, "name").eq_ignore_ascii_case(name);
        let is = vmid.is_some() && number == vmid.map(u64::from) || name.is_some_and(named);
        is && self.is_offline(text(entry, "node"))
    }

    fn is_offline(&self, node: &str) -> bool {
        self.offline.iter().any(|offline| offline == node)
    }
}

/// A text in an entry of `cluster/resources`; empty when there is none.
fn text<'a>(entry: &'a Value, key: &str) -> &'a str {
    entry.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The VM with this number, or else this name, by one request however many nodes there are; nothing when that does not
/// tell for certain. PVE's list of the whole cluster knows the node of every VM, but new VMs by their numbers only, and
/// names and states as they were up to ten seconds ago: the caller must read the VM itself.
///
/// # Errors
/// Those of the API.
pub async fn glance(
    client: &Client,
    vmid: Option<u32>,
    name: Option<&str>,
    deadline: &Deadline,
) -> Result<Option<Seen>, Failure> {
    // Not only the VMs: the nodes among the rest tell which of them are down.
    let entries: Vec<Value> = client
        .read_as("/cluster/resources", &[], deadline)
        .await
        .map_err(doing("list the cluster's VMs"))?;
    Ok(pick(entries, vmid, name))
}

/// The one VM that is certainly meant, if there is one. A VM without a name may be another one with the name looked for.
fn pick(entries: Vec<Value>, vmid: Option<u32>, name: Option<&str>) -> Option<Seen> {
    let (mut found, mut offline) = (None::<Seen>, Vec::new());
    for entry in entries {
        if text(&entry, "type") == "node" && text(&entry, "status") == "offline" {
            offline.push(text(&entry, "node").to_owned());
        }
        if text(&entry, "type") != "qemu" {
            continue;
        }
        let node = text(&entry, "node").to_owned();
        let vm: Vm = serde_json::from_value(entry).ok()?;
        if vm.name.is_empty() && name.is_some() {
            return None;
        }
        let named = name.is_some_and(|name| vm.name.eq_ignore_ascii_case(name));
        let meant = vmid.map_or(named, |vmid| vm.vmid == vmid);
        // Another VM with the name is an error that the thorough look tells in full.
        if named && !meant || meant && found.is_some() {
            return None;
        }
        if meant {
            found = Some(Seen { node, vm });
        }
    }
    found.filter(|seen| seen.vm.lock.is_none() && !offline.contains(&seen.node))
}

/// The node that the VM with this number is on.
///
/// # Errors
/// Kind `node_offline` when that node cannot be asked; otherwise the API's.
pub async fn node_of(
    client: &Client,
    vmid: u32,
    deadline: &Deadline,
) -> Result<Option<String>, Failure> {
    let inventory = Inventory::read(client, deadline).await?;
    match inventory.by_vmid(vmid) {
        Some(seen) => Ok(Some(seen.node.clone())),
        None => inventory
            .refuse_if_offline(client, Some(vmid), None, deadline)
            .await
            .map(|()| None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_vm_on_a_node_that_is_down_is_known() {
        let inventory = Inventory {
            offline: vec!["down".into()],
            ..Inventory::default()
        };
        let entry = json!({"id": "qemu/101", "vmid": 101, "name": "web1", "node": "down"});
        for (vmid, name, hidden) in [
            (Some(101), None, true),
            (None, Some("Web1"), true),
            (Some(200), Some("web1"), true),
            (Some(200), Some("db1"), false),
            (None, None, false),
        ] {
            assert_eq!(
                inventory.hides(&entry, vmid, name),
                hidden,
                "{vmid:?} {name:?}"
            );
        }
        let container = json!({"type": "lxc", "vmid": 102, "name": "web1", "node": "down"});
        assert!(!inventory.hides(&container, None, Some("web1")));
        assert!(inventory.hides(&container, Some(102), None));
        // PVE has forgotten its name.
        let nameless = [json!({"type": "qemu", "vmid": 102, "node": "down"})];
        let refused = inventory.refuse_if_nameless(&nameless, "web1").unwrap_err();
        assert_eq!(refused.kind, "node_offline");
        assert!(
            refused.msg.ends_with("no names any more: 102"),
            "{}",
            refused.msg
        );
        let container = [json!({"type": "lxc", "vmid": 103, "node": "down"})];
        assert!(inventory.refuse_if_nameless(&container, "web1").is_ok());
        // Made a moment ago on a node that is up: only this list lags behind.
        let elsewhere = json!({"vmid": 101, "name": "web1", "node": "up"});
        assert!(!inventory.hides(&elsewhere, Some(101), None));
        assert!(!inventory.hides(&json!({"node": "down"}), None, Some("web1")));
    }

    #[test]
    fn only_what_is_certain_is_found_at_a_glance() {
        let entry = |vmid: u32, name: &str| json!({"type": "qemu", "vmid": vmid, "name": name, "node": "a"});
        let two = [entry(101, "web1"), entry(102, "db1")];
        let new = json!({"type": "qemu", "vmid": 103, "node": "b"});
        let container = json!({"type": "lxc", "vmid": 104, "name": "web1", "node": "b"});
        let locked =
            json!({"type": "qemu", "vmid": 101, "name": "web1", "node": "a", "lock": "migrate"});
        for (more, vmid, name, expected) in [
            (None, None, Some("WEB1"), Some(101)),
            (None, Some(102), None, Some(102)),
            (None, Some(101), Some("web1"), Some(101)),
            (None, Some(102), Some("web1"), None),
            (None, None, Some("new"), None),
            (None, Some(103), None, None),
            (Some(entry(103, "Web1")), None, Some("web1"), None),
            (Some(entry(103, "web1")), Some(101), Some("web1"), None),
            (Some(new.clone()), None, Some("web1"), None),
            (Some(new), Some(101), None, Some(101)),
            (Some(container), None, Some("web1"), Some(101)),
        ] {
            let entries = two.iter().cloned().chain(more).collect();
            let found = pick(entries, vmid, name).map(|seen| seen.vm.vmid);
            assert_eq!(found, expected, "{vmid:?} {name:?}");
        }
        assert!(pick(vec![locked], Some(101), None).is_none());
        let down = json!({"type": "node", "node": "a", "status": "offline"});
        assert!(pick(vec![entry(101, "web1"), down], Some(101), None).is_none());
    }
}
