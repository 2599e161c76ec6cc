//! Which VMs there are, and on which nodes.

use ansible_module::Failure;
use deadline::Deadline;
use pve_client::{Client, Vm};
use serde_json::Value;

use crate::failure::doing;

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
            let vms = client
                .vms(&node.node, deadline)
                .await
                .map_err(doing(format!("list the VMs of node {}", node.node)))?;
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
    /// Kind `node_offline` when a VM with this number or name is on such a node; otherwise the API's.
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
        let Some(entry) = known
            .as_array()
            .and_then(|entries| entries.iter().find(|entry| self.hides(entry, vmid, name)))
        else {
            return Ok(());
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

    /// Whether an entry of `cluster/resources` is a VM with this number or name on a node that is down.
    fn hides(&self, entry: &Value, vmid: Option<u32>, name: Option<&str>) -> bool {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
        let number = entry.get("vmid").and_then(Value::as_u64);
        let is = vmid.is_some() && number == vmid.map(u64::from)
            || name.is_some_and(|name| text("name").eq_ignore_ascii_case(name));
        is && self.offline.iter().any(|node| node == text("node"))
    }
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
        // Made a moment ago on a node that is up: only this list lags behind.
        let elsewhere = json!({"vmid": 101, "name": "web1", "node": "up"});
        assert!(!inventory.hides(&elsewhere, Some(101), None));
        assert!(!inventory.hides(&json!({"node": "down"}), None, Some("web1")));
    }
}
