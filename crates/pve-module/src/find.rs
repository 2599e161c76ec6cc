//! Finding a VM by number or name.

use ansible_module::Failure;
use deadline::Deadline;
use pve_client::{Client, Vm};
use serde_json::Value;

use crate::failure::doing;

/// A VM that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmRef {
    /// Its number.
    pub vmid: u32,
    /// The node it is on.
    pub node: String,
    /// Its name.
    pub name: String,
    /// `running` or `stopped`.
    pub status: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Whether it is a template.
    pub template: bool,
}

/// The VM with this number, or else with this name, on any node. The nodes' own lists are asked,
/// since `cluster/resources` lags behind by up to ten seconds. A VMID identifies a VM whatever its
/// name is; `name` counts only without one.
///
/// # Errors
/// Kind `ambiguous` when several VMs have the name, `node_offline` when the VM is on a node that
/// cannot be asked; otherwise the API's.
pub async fn find_vm(
    client: &Client,
    vmid: Option<u32>,
    name: Option<&str>,
    deadline: &Deadline,
) -> Result<Option<VmRef>, Failure> {
    let nodes = client
        .nodes(deadline)
        .await
        .map_err(doing("list the nodes"))?;
    let mut found = Vec::new();
    // "unknown" is what callers without Sys.Audit see of every node.
    for node in nodes.iter().filter(|node| node.status != "offline") {
        let vms = client
            .vms(&node.node, deadline)
            .await
            .map_err(doing(format!("list the VMs of node {}", node.node)))?;
        found.extend(
            vms.into_iter()
                .filter(|vm| matches(vm, vmid, name))
                .map(|vm| vm_ref(vm, &node.node)),
        );
    }
    match found.as_slice() {
        [] if nodes.iter().any(|node| node.status == "offline") => {
            refuse_if_offline(client, vmid, name, deadline)
                .await
                .map(|()| None)
        }
        [] => Ok(None),
        [_] => Ok(found.pop()),
        several => {
            let places: Vec<_> = several
                .iter()
                .map(|vm| format!("{} on {}", vm.vmid, vm.node))
                .collect();
            let name = name.unwrap_or_default();
            Err(Failure::new(
                "ambiguous",
                format!("several VMs are called {name}: {}", places.join(", ")),
            )
            .object(name)
            .hint("give vmid, or rename all but one of them"))
        }
    }
}

/// A VM on a node that is off must not be taken for missing, or it would be made again.
async fn refuse_if_offline(
    client: &Client,
    vmid: Option<u32>,
    name: Option<&str>,
    deadline: &Deadline,
) -> Result<(), Failure> {
    let query = [("type", "vm".to_string())];
    let known = client
        .get("/cluster/resources", &query, deadline)
        .await
        .map_err(doing("list the cluster's VMs"))?;
    let wanted = |entry: &&Value| match vmid {
        Some(vmid) => entry.get("vmid").and_then(Value::as_u64) == Some(u64::from(vmid)),
        None => name.is_some() && entry.get("name").and_then(Value::as_str) == name,
    };
    let Some(entry) = known
        .as_array()
        .and_then(|entries| entries.iter().find(wanted))
    else {
        return Ok(());
    };
    let text = |key: &str| {
        entry
            .get(key)
            .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_string))
            .unwrap_or_default()
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

fn matches(vm: &Vm, vmid: Option<u32>, name: Option<&str>) -> bool {
    match vmid {
        Some(vmid) => vm.vmid == vmid,
        None => name == Some(vm.name.as_str()),
    }
}

fn vm_ref(vm: Vm, node: &str) -> VmRef {
    let tags = vm.tags.unwrap_or_default();
    VmRef {
        vmid: vm.vmid,
        node: node.to_string(),
        name: vm.name,
        status: vm.status,
        tags: tags
            .split([';', ',', ' '])
            .filter(|tag| !tag.is_empty())
            .map(str::to_string)
            .collect(),
        template: vm.template,
    }
}
