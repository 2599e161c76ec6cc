//! Which VMs there are, and on which nodes.

use ansible_module::{Failure, FailureKind};
use deadline::Deadline;
use pve_client::{Client, Vm};
use serde_json::{Value, json};

use crate::failure::doing;

/// The status of a call that the node asked could not pass on to the one meant.
const UNREACHED: u16 = 595;

/// A VM and the node it is on.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The node.
    pub node: String,
    /// The VM as the list that it comes from has it.
    pub vm: Vm,
}

/// What a node has and uses, in bytes. Zero where the caller lacks Sys.Audit on the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Load {
    /// The node.
    pub node: String,
    /// Memory in use.
    pub mem: u64,
    /// Memory in all.
    pub maxmem: u64,
}

/// The VMs that there are, and the nodes that could not be asked.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// Every VM on an online node that the token may see.
    pub vms: Vec<Seen>,
    /// Nodes that are up, or whose state the token may not see.
    pub online: Vec<String>,
    /// Nodes that are down: what is on them is not among the VMs.
    pub offline: Vec<String>,
    /// What the online nodes have and use.
    pub loads: Vec<Load>,
    /// The guests on nodes that are down, as in `cluster/resources`.
    pub hidden: Vec<Value>,
}

impl Inventory {
    /// PVE's list of the whole cluster, one request however many nodes there are. PVE reads VMIDs, nodes, tags and locks from the
    /// cluster's file system, so they are those of this moment. Names and states are what each node broadcast last: a new VM has
    /// no name for about 6 seconds, and a renamed one its old name for about 10.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn list(client: &Client, deadline: &Deadline) -> Result<Self, Failure> {
        let entries = client
            .read_as("/cluster/resources", &[], deadline)
            .await
            .map_err(doing("list the cluster's VMs"))?;
        Self::of(entries)
    }

    /// The list of the whole cluster with the names and states of this moment, which the nodes are asked for one by one.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn read(client: &Client, deadline: &Deadline) -> Result<Self, Failure> {
        let listed = Self::list(client, deadline).await?;
        listed.refreshed(client, deadline).await
    }

    /// This list with the VMs of each node as the node lists them now.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn refreshed(
        mut self,
        client: &Client,
        deadline: &Deadline,
    ) -> Result<Self, Failure> {
        let mut vms = Vec::new();
        for node in self.online.clone() {
            match node_vms(client, &node, deadline).await? {
                Some(entries) => vms.extend(seen_on(&node, entries)?),
                None => self.is_down(&node),
            }
        }
        self.vms = vms;
        Ok(self)
    }

    /// The nodes, their loads and the VMs in the entries of `cluster/resources`.
    ///
    /// # Errors
    /// Kind `unexpected_answer` for an entry that is not PVE's.
    pub fn of(entries: Vec<Value>) -> Result<Self, Failure> {
        let mut inventory = Self::default();
        let mut guests = Vec::new();
        for entry in entries {
            match text(&entry, "type") {
                "node" => {
                    let node = text(&entry, "node").to_owned();
                    // "unknown" is what callers without Sys.Audit see of every node.
                    if text(&entry, "status") == "offline" {
                        inventory.offline.push(node);
                    } else {
                        let bytes = |key: &str| entry.get(key).and_then(Value::as_u64);
                        inventory.loads.push(Load {
                            node: node.clone(),
                            mem: bytes("mem").unwrap_or_default(),
                            maxmem: bytes("maxmem").unwrap_or_default(),
                        });
                        inventory.online.push(node);
                    }
                }
                "qemu" | "lxc" => guests.push(entry),
                _ => {}
            }
        }
        for entry in guests {
            let node = text(&entry, "node").to_owned();
            if inventory.is_offline(&node) {
                inventory.hidden.push(entry);
            } else if text(&entry, "type") == "qemu" {
                inventory.vms.extend(seen_on(&node, vec![entry])?);
            }
        }
        Ok(inventory)
    }

    /// Take note that the node does not answer, although it was not said to be down.
    pub fn is_down(&mut self, node: &str) {
        self.online.retain(|online| online != node);
        self.loads.retain(|load| load.node != node);
        self.offline.push(node.to_owned());
        let (there, rest) = std::mem::take(&mut self.vms)
            .into_iter()
            .partition(|seen| seen.node == node);
        self.vms = rest;
        let there: Vec<Seen> = there;
        self.hidden.extend(there.into_iter().map(|seen| {
            json!({"id": format!("qemu/{}", seen.vm.vmid), "type": "qemu", "vmid": seen.vm.vmid, "name": seen.vm.name, "node": node})
        }));
    }

    /// Bytes of memory that the VMs on a node may take beyond what they use now. A VM that does not run counts too: otherwise all new
    /// VMs, which are made before they are started, would go to one node.
    pub fn promised(&self, node: &str) -> u64 {
        let here = self.vms.iter();
        let here = here.filter(|seen| seen.node == node && !seen.vm.template);
        here.map(|seen| {
            let (most, now) = (seen.vm.maxmem, seen.vm.mem);
            most.unwrap_or_default()
                .saturating_sub(now.unwrap_or_default())
        })
        .sum()
    }

    /// How many of the names are those of VMs on a node.
    pub fn named_on<'a>(&self, node: &str, names: impl Iterator<Item = &'a str>) -> usize {
        let there = |name: &&str| self.by_name(name).iter().any(|seen| seen.node == node);
        names.filter(there).count()
    }

    /// The VM with this number.
    pub fn by_vmid(&self, vmid: u32) -> Option<&Seen> {
        self.vms.iter().find(|seen| seen.vm.vmid == vmid)
    }

    /// The VM with this number, or else this name, if the list of the whole cluster shows for certain that it is the one that is
    /// meant. The caller must read it: its name and state are as they were up to ten seconds ago.
    pub fn certain(&self, vmid: Option<u32>, name: Option<&str>) -> Option<&Seen> {
        // A VM without a name may be another one with the name looked for.
        if name.is_some() && self.vms.iter().any(|seen| seen.vm.name.is_empty()) {
            return None;
        }
        let named = |seen: &Seen| name.is_some_and(|name| seen.vm.name.eq_ignore_ascii_case(name));
        let meant = |seen: &Seen| vmid.map_or(named(seen), |vmid| seen.vm.vmid == vmid);
        // Another VM with the name is an error that the full lookup reports.
        let mut found = self.vms.iter().filter(|seen| meant(seen) || named(seen));
        let one = found.next().filter(|seen| meant(seen))?;
        (found.next().is_none() && one.vm.lock.is_none()).then_some(one)
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
    /// more (it forgets the names five minutes after the node went down) and only a name is looked for.
    pub fn refuse_if_offline(&self, vmid: Option<u32>, name: Option<&str>) -> Result<(), Failure> {
        let entries = &self.hidden;
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
            FailureKind::NodeOffline,
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
            FailureKind::NodeOffline,
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

/// The entries that a node has for its VMs, as it knows them now; nothing when it could not be reached.
///
/// # Errors
/// Those of the API.
pub async fn node_vms(
    client: &Client,
    node: &str,
    deadline: &Deadline,
) -> Result<Option<Vec<Value>>, Failure> {
    match client
        .read_as(&format!("/nodes/{node}/qemu"), &[], deadline)
        .await
    {
        Ok(entries) => Ok(Some(entries)),
        // It went down just now, or the caller may not see that it is down.
        Err(error) if error.status() == Some(UNREACHED) => Ok(None),
        Err(error) => Err(doing(format!("list the VMs of node {node}"))(error)),
    }
}

/// The VMs that entries for the node's VMs describe.
///
/// # Errors
/// Kind `unexpected_answer` for an entry that is not PVE's.
pub fn seen_on(node: &str, entries: Vec<Value>) -> Result<Vec<Seen>, Failure> {
    let seen = |entry| {
        let vm = serde_json::from_value(entry).map_err(|error| {
            Failure::new(
                FailureKind::UnexpectedAnswer,
                format!("the list of VMs is not as PVE writes it: {error}"),
            )
        })?;
        Ok(Seen {
            node: node.to_owned(),
            vm,
        })
    };
    entries.into_iter().map(seen).collect()
}

/// Make sure that an empty list of VMs means that there are none: PVE shows nothing, and no error, to a caller who may
/// not look.
///
/// # Errors
/// Kind `permission_denied`; otherwise the API's.
pub async fn check_vms_visible(client: &Client, deadline: &Deadline) -> Result<(), Failure> {
    let granted = client.get("/access/permissions", &[], deadline).await;
    let granted = granted.map_err(doing("read the token's privileges"))?;
    let looks = |privileges: &Value| privileges.get("VM.Audit").is_some();
    if granted
        .as_object()
        .is_some_and(|paths| paths.values().any(looks))
    {
        return Ok(());
    }
    Err(Failure::new(
        FailureKind::PermissionDenied,
        "the privilege VM.Audit is missing: no VM is shown, so it is not known which there are",
    )
    .object("/vms")
    .hint("give the user, and its token, VM.Audit on /vms or on a pool (pveum acl modify)"))
}

/// The node that the VM with this number is on.
///
/// # Errors
/// Kind `node_offline` when that node is down; otherwise the API's.
pub async fn node_of(
    client: &Client,
    vmid: u32,
    deadline: &Deadline,
) -> Result<Option<String>, Failure> {
    let inventory = Inventory::list(client, deadline).await?;
    match inventory.by_vmid(vmid) {
        Some(seen) => Ok(Some(seen.node.clone())),
        None => inventory.refuse_if_offline(Some(vmid), None).map(|()| None),
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
        assert_eq!(refused.kind, FailureKind::NodeOffline);
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
    fn only_what_is_certain_is_taken_from_the_list() {
        let entry = |vmid: u32, name: &str| json!({"type": "qemu", "vmid": vmid, "name": name, "node": "a"});
        let pick = |entries: Vec<Value>, vmid: Option<u32>, name: Option<&str>| {
            let inventory = Inventory::of(entries).unwrap();
            inventory.certain(vmid, name).map(|seen| seen.vm.vmid)
        };
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
            assert_eq!(pick(entries, vmid, name), expected, "{vmid:?} {name:?}");
        }
        assert!(pick(vec![locked], Some(101), None).is_none());
        let down = json!({"type": "node", "node": "a", "status": "offline"});
        assert!(pick(vec![entry(101, "web1"), down], Some(101), None).is_none());
    }

    #[test]
    fn a_node_that_does_not_answer_hides_its_vms() {
        let entries = vec![
            json!({"type": "node", "node": "a", "status": "unknown"}),
            json!({"type": "node", "node": "b", "status": "unknown"}),
            json!({"type": "qemu", "vmid": 101, "name": "web1", "node": "a"}),
            json!({"type": "qemu", "vmid": 102, "name": "db1", "node": "b"}),
        ];
        let mut inventory = Inventory::of(entries).unwrap();
        inventory.is_down("a");
        assert_eq!(
            (inventory.online.as_slice(), inventory.vms.len()),
            (["b".to_owned()].as_slice(), 1)
        );
        let inventory = Inventory {
            online: Vec::new(),
            vms: Vec::new(),
            ..inventory
        };
        let refused = inventory.refuse_if_offline(None, Some("web1"));
        assert_eq!(refused.unwrap_err().kind, FailureKind::NodeOffline);
    }
}
