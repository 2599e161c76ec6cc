//! Which VM is meant, and what it and its snapshots are.

use ansible_module::Failure;
use pve_client::Error as ApiError;
use pve_client::property::PropertyString;
use pve_module::record::{Binding, Identity, Phase, Record};
use pve_module::{Context, Inventory, Seen, check_vms_visible, failed};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::desired::{Action, Desired, Retention};
use crate::error::Error;

/// The entry of PVE's list that stands for the VM as it is now.
const NOW: &str = "current";
/// The tasks that make and delete snapshots.
const SNAPSHOTTING: [&str; 2] = ["qmsnapshot", "qmdelsnapshot"];

/// A snapshot as PVE lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Snapshot {
    pub name: String,
    /// Its description; empty without one.
    #[serde(default)]
    pub description: String,
    /// When it was made, in seconds since 1970.
    #[serde(default)]
    pub snaptime: u64,
    /// 1 if it has the guest's memory.
    #[serde(default)]
    pub vmstate: u8,
    /// The snapshot that the VM was at when this one was made.
    #[serde(default)]
    pub parent: Option<String>,
    /// `prepare` while it is made, `delete` while it is deleted, and for good if that was cut off.
    #[serde(default)]
    pub snapstate: Option<String>,
    /// Of the entry for the VM as it is now: 1 if it runs.
    #[serde(default)]
    pub running: u8,
}

impl Snapshot {
    /// Whether it is one of those that are counted and may be deleted. Incomplete ones are not: how they got so is for somebody to
    /// look at. Nor is the entry for the VM as it is now.
    pub fn is_counted_by(&self, retention: &Retention) -> bool {
        self.name != NOW && !self.is_incomplete() && self.name.starts_with(&retention.prefix)
    }

    /// Whether it is being made or deleted, or that was cut off.
    pub fn is_incomplete(&self) -> bool {
        self.snapstate.is_some()
    }
}

/// The VM, its snapshots, and what the action needs to know beside them.
#[derive(Debug, Clone, Default)]
pub struct Vm {
    pub vmid: u32,
    pub node: String,
    /// Its configuration, with pending changes as if they were made, as PVE shows it.
    pub config: Map<String, Value>,
    pub running: bool,
    /// The snapshot that it is at.
    pub parent: Option<String>,
    /// Without the entry for the VM as it is now.
    pub snapshots: Vec<Snapshot>,
    /// Whether PVE can make a snapshot of its disks. It is asked only if one is to be made.
    pub can_snapshot: Option<bool>,
    /// The options in the snapshot that it is to go back to.
    pub snapshot_config: Option<Map<String, Value>>,
}

impl Vm {
    /// Its name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.config.get("name").and_then(Value::as_str)
    }

    /// What to call it in messages.
    pub fn object(&self) -> String {
        match self.name() {
            Some(name) => format!("VM {} ({name})", self.vmid),
            None => format!("VM {}", self.vmid),
        }
    }

    /// Its snapshot of this name.
    pub fn snapshot(&self, name: &str) -> Option<&Snapshot> {
        self.snapshots.iter().find(|snapshot| snapshot.name == name)
    }

    /// Whether it is a template.
    pub fn is_template(&self) -> bool {
        scalar(self.config.get("template")).as_deref() == Some("1")
    }

    /// Its disks as `KEY: VOLUME`, CD-ROMs and cloud-init drives left out.
    pub fn disks(&self) -> Vec<String> {
        let volume = |value: &Value| {
            let drive = PropertyString::parse(value.as_str()?, Some("file")).ok()?;
            let disk = drive.get("media") != Some("cdrom");
            drive.get("file").filter(|_| disk).map(str::to_owned)
        };
        self.config
            .iter()
            .filter(|(key, _)| pve_schema::is_drive(key))
            .filter_map(|(key, value)| Some(format!("{key}: {}", volume(value)?)))
            .collect()
    }
}

/// The lock in a configuration.
pub fn lock(config: &Map<String, Value>) -> Option<&str> {
    config.get("lock").and_then(Value::as_str)
}

/// The record of an unfinished installation in a configuration, if it is this VM's and a run may go on with it. Of a VM that was cloned,
/// or rolled back meanwhile, the role takes none up.
pub fn installation(vmid: u32, config: &Map<String, Value>) -> Option<(String, Phase)> {
    let text = |key: &str| config.get(key).and_then(Value::as_str);
    let record = Record::find(text("description")?)?;
    let identity = Identity::of(text("smbios1"), text("vmgenid"));
    let ours = record.binding(vmid, &identity) == Binding::Ours;
    (ours && record.phase.unfinished()).then_some((record.host, record.phase))
}

/// A value of a configuration as text.
pub fn scalar(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(on) => Some(u8::from(*on).to_string()),
        _ => None,
    }
}

/// Find the VM by few requests if that is certain, else by a look at every node.
///
/// # Errors
/// Kinds `ambiguous` and `name_differs`, `node_offline` when it may be on a node that is down, `permission_denied` when the caller sees no
/// VM at all; otherwise the API's.
pub async fn locate(
    context: &Context<'_>,
    vmid: Option<u32>,
    name: Option<&str>,
) -> Result<Option<Seen>, Failure> {
    let (client, deadline) = (context.client, context.deadline);
    let listed = Inventory::list(client, deadline).await?;
    if let Some(seen) = certain(context, &listed, vmid, name).await {
        return Ok(Some(seen));
    }
    let inventory = listed.refreshed(client, deadline).await?;
    let found = identify(&inventory, vmid, name)?;
    if found.is_none() {
        inventory.refuse_if_offline(vmid, name)?;
        if inventory.vms.is_empty() {
            check_vms_visible(client, deadline).await?;
        }
    }
    Ok(found.cloned())
}

/// The VM that the list of the whole cluster shows. A VMID is unmistakable; a name in that list may be up to ten seconds old, so the VM
/// itself is asked for it. Whatever goes wrong here is reported by the look at every node.
async fn certain(
    context: &Context<'_>,
    listed: &Inventory,
    vmid: Option<u32>,
    name: Option<&str>,
) -> Option<Seen> {
    let (client, deadline) = (context.client, context.deadline);
    let Some(name) = name else {
        return listed.by_vmid(vmid?).cloned();
    };
    let seen = listed.certain(vmid, Some(name))?;
    let config = client.vm_config(&seen.node, seen.vm.vmid, false, deadline);
    let config = config.await.ok()?;
    let has = config.get("name").and_then(Value::as_str)?;
    has.eq_ignore_ascii_case(name).then(|| seen.clone())
}

fn identify<'a>(
    inventory: &'a Inventory,
    vmid: Option<u32>,
    name: Option<&str>,
) -> Result<Option<&'a Seen>, Error> {
    let named = name.map(|name| inventory.by_name(name)).unwrap_or_default();
    let name = name.unwrap_or_default();
    let Some(vmid) = vmid else {
        return match named.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(*one)),
            several => Err(Error::AmbiguousName {
                name: name.to_owned(),
                vmids: several.iter().map(|seen| seen.vm.vmid).collect(),
            }),
        };
    };
    let found = inventory.by_vmid(vmid);
    if !name.is_empty() && !named.iter().any(|seen| seen.vm.vmid == vmid) {
        let name = name.to_owned();
        return match found {
            Some(seen) => Err(Error::NameDiffers {
                vmid,
                actual: seen.vm.name.clone(),
                name,
            }),
            None if named.is_empty() => Ok(None),
            None => Err(Error::NameOfAnotherVm { vmid, name }),
        };
    }
    Ok(found)
}

/// Read the VM, its snapshots, and what else the action needs.
///
/// # Errors
/// The API's.
pub async fn read(context: &Context<'_>, seen: &Seen, desired: &Desired) -> Result<Vm, Failure> {
    let (client, deadline) = (context.client, context.deadline);
    let (node, vmid) = (&seen.node, seen.vm.vmid);
    let object = format!("VM {vmid}");
    let config = client.vm_config(node, vmid, false, deadline).await;
    let listed = list(context, node, vmid).await;
    let mut vm = Vm {
        vmid,
        node: node.clone(),
        config: config.map_err(failed("read", &object))?,
        ..Vm::default()
    };
    for snapshot in listed? {
        if snapshot.name == NOW {
            vm.running = snapshot.running == 1;
            vm.parent = snapshot.parent;
        } else {
            vm.snapshots.push(snapshot);
        }
    }
    let is_there = vm.snapshot(&desired.snapname).is_some();
    match desired.action {
        Action::Present { .. } if !is_there && !vm.is_template() => {
            let query = [("feature", "snapshot".to_owned())];
            let answer = client
                .get(&path(node, vmid, "feature"), &query, deadline)
                .await
                .map_err(failed("read the features of", &object))?;
            let has = scalar(answer.get("hasFeature"));
            vm.can_snapshot = Some(has.as_deref() == Some("1"));
        }
        Action::RollBack { .. } if is_there => {
            let below = format!("snapshot/{}/config", desired.snapname);
            let then = client
                .read_as(&path(node, vmid, &below), &[], deadline)
                .await;
            vm.snapshot_config = Some(then.map_err(failed("read a snapshot of", &object))?);
        }
        _ => {}
    }
    Ok(vm)
}

/// The VM's snapshots as PVE lists them, the entry for the VM as it is now among them.
///
/// # Errors
/// The API's.
pub async fn list(context: &Context<'_>, node: &str, vmid: u32) -> Result<Vec<Snapshot>, Failure> {
    let path = path(node, vmid, "snapshot");
    let listed = context.client.read_as(&path, &[], context.deadline).await;
    listed.map_err(failed("list the snapshots of", &format!("VM {vmid}")))
}

/// Wait for a running task that makes or deletes a snapshot of the VM, such as one that a killed run left. PVE lists the tasks of other
/// users only to callers with Sys.Audit. The caller reads the snapshots again to learn how the task ended.
///
/// # Errors
/// The API's, and kind `timeout` when the task outlives the deadline.
pub async fn await_task(context: &Context<'_>, vm: &Vm) -> Result<(), Failure> {
    let object = vm.object();
    let (client, deadline) = (context.client, context.deadline);
    let running = client
        .running_tasks(&vm.node, Some(vm.vmid), deadline)
        .await;
    let mut running = running
        .map_err(failed("list the tasks of", &object))?
        .into_iter();
    let snapshotting = running.find(|upid| SNAPSHOTTING.contains(&upid.kind.as_str()));
    let Some(upid) = snapshotting else {
        return Ok(());
    };
    context.report_step("wait for a snapshot", &object);
    let watch = context.watcher("snapshot", &object);
    match client.task(&upid, deadline, watch).await {
        Ok(_) | Err(ApiError::Task(_)) => Ok(()),
        Err(error) => Err(failed("wait for a snapshot of", &object)(error)),
    }
}

/// `/nodes/NODE/qemu/VMID/BELOW`.
pub fn path(node: &str, vmid: u32, below: &str) -> String {
    format!("/nodes/{node}/qemu/{vmid}/{below}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ansible_module::FailureKind;
    use serde_json::json;

    fn inventory(vms: &[(u32, &str)]) -> Inventory {
        let seen = |(vmid, name): &(u32, &str)| Seen {
            node: "pve".into(),
            vm: serde_json::from_value(json!({"vmid": vmid, "name": name})).unwrap(),
        };
        Inventory {
            vms: vms.iter().map(seen).collect(),
            ..Inventory::default()
        }
    }

    #[test]
    fn which_vm_is_meant() {
        let there = inventory(&[(101, "web1"), (102, "twin"), (103, "twin")]);
        for (vmid, name, expected) in [
            (Some(101), None, Ok(Some(101))),
            (None, Some("WEB1"), Ok(Some(101))),
            (Some(101), Some("web1"), Ok(Some(101))),
            (Some(103), Some("twin"), Ok(Some(103))),
            (None, Some("none"), Ok(None)),
            (Some(200), None, Ok(None)),
            (Some(200), Some("none"), Ok(None)),
            (None, Some("twin"), Err(FailureKind::Ambiguous)),
            (Some(101), Some("twin"), Err(FailureKind::NameDiffers)),
            (Some(101), Some("none"), Err(FailureKind::NameDiffers)),
            (Some(200), Some("web1"), Err(FailureKind::NameDiffers)),
        ] {
            let found = identify(&there, vmid, name)
                .map(|seen| seen.map(|seen| seen.vm.vmid))
                .map_err(|error| Failure::from(error).kind);
            assert_eq!(found, expected, "{vmid:?} {name:?}");
        }
    }

    #[test]
    fn an_installation_counts_on_its_own_vm_only() {
        let uuid = "6cff0931-1cb7-4535-800e-09aaaede1e6d";
        let generation = "1b1c8c0e-7a0f-4d3c-9b0a-000000000001";
        let config = |phase: &str, generation_now: &str, uuid_now: &str| {
            let notes = format!(
                "<!-- nixos-proxmox: v=1 installation=0123456789abcdef0123456789abcdef host=web1 vmid=101 uuid={uuid} \
                 generation={generation} phase={phase} run=1a2b3c4d -->"
            );
            json!({"description": notes, "smbios1": format!("uuid={uuid_now}"), "vmgenid": generation_now})
        };
        let other = "00000000-0000-4000-8000-000000000000";
        for (config, vmid, expected) in [
            (
                config("provisioning", generation, uuid),
                101,
                Some(Phase::Provisioning),
            ),
            (
                config("installing", generation, uuid),
                101,
                Some(Phase::Installing),
            ),
            (
                config("installed", generation, uuid),
                101,
                Some(Phase::Installed),
            ),
            (config("done", generation, uuid), 101, None),
            (config("adopted", generation, uuid), 101, None),
            // Rolled back since, a clone, and copied notes.
            (config("installing", other, uuid), 101, None),
            (config("installing", generation, other), 101, None),
            (config("installing", generation, uuid), 102, None),
            (json!({"description": "notes"}), 101, None),
            (json!({}), 101, None),
        ] {
            let found = installation(vmid, config.as_object().unwrap());
            assert_eq!(found.map(|(_, phase)| phase), expected, "{config}");
        }
    }

    #[test]
    fn the_disks_are_named_without_cdroms() {
        let config = json!({
            "scsi0": "local:101/vm-101-disk-0.raw,size=1G", "ide2": "local:iso/a.iso,media=cdrom", "efidisk0": "local:101/vm-101-disk-1.raw",
            "scsihw": "virtio-scsi-single", "ide0": "local:101/vm-101-cloudinit.qcow2,media=cdrom", "unused0": "local:101/vm-101-disk-2.raw",
        });
        let vm = Vm {
            config: config.as_object().unwrap().clone(),
            ..Vm::default()
        };
        assert_eq!(
            vm.disks(),
            [
                "scsi0: local:101/vm-101-disk-0.raw",
                "efidisk0: local:101/vm-101-disk-1.raw"
            ]
        );
    }
}
