//! Moving a VM to the node where it shall be: once, whatever becomes of the answers.

use std::time::Duration;

use ansible_module::Failure;
use pve_client::{Error as ApiError, Params};
use pve_module::Inventory;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::cluster::placement;
use crate::config::drive::Drive;
use crate::context::{Context, failed};
use crate::error::Error;
use crate::plan::Plan;
use crate::precheck::requirements::{self, Needs};
use crate::state::State;

/// The pause between two looks at a VM that may be on its way.
const LOOK: Duration = Duration::from_millis(500);
/// The pause between two looks at a VM that HA is to move.
const HA_LOOK: Duration = Duration::from_secs(1);
/// How often a VM whose migration was not answered, and which no task moves, is looked for on the new node before it is asked
/// for again.
const LOOKS: u32 = 6;

/// A migration that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The node the VM is on.
    pub from: String,
    /// The node it shall be on.
    pub to: String,
    /// Whether it runs meanwhile.
    online: bool,
    /// Whether it has disks that must be copied.
    local_disks: bool,
}

/// What PVE says beforehand (`GET migrate`).
#[derive(Debug, Default, Deserialize)]
struct Preconditions {
    #[serde(default)]
    local_disks: Vec<LocalDisk>,
    #[serde(default)]
    local_resources: Vec<String>,
    #[serde(default)]
    not_allowed_nodes: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct LocalDisk {
    volid: String,
}

/// The migration that brings the VM to `node`, if it is elsewhere.
///
/// # Errors
/// When PVE would not migrate it: kinds `cannot_migrate`, `node_offline`, `no_node`, and those of storages and bridges.
pub async fn due(context: &Context<'_>, vm: &State, node: &str) -> Result<Option<Move>, Failure> {
    if vm.node == node {
        return Ok(None);
    }
    let doing = format!("see what keeps {} from migrating to {node}", vm.object());
    let nodes = context.client.nodes(context.deadline).await;
    let nodes = nodes.map_err(pve_module::doing("list the nodes"))?;
    let (offline, online): (Vec<_>, Vec<_>) =
        nodes.into_iter().partition(|node| node.status == "offline");
    let names = |nodes: Vec<pve_client::Node>| -> Vec<String> {
        nodes.into_iter().map(|node| node.node).collect()
    };
    placement::known("node", &names(online), &names(offline), node)?;
    let query = [("target", node.to_owned())];
    let path = path(&vm.node, vm.vmid);
    let said = context
        .client
        .read_as(&path, &query, context.deadline)
        .await;
    let said: Preconditions = said.map_err(pve_module::doing(doing))?;
    let due = plan(vm, node, &said)?;
    requirements::check(context, node, &needs(vm)).await?;
    Ok(Some(due))
}

fn plan(vm: &State, node: &str, said: &Preconditions) -> Result<Move, Error> {
    let mut problems = Vec::new();
    if !said.local_resources.is_empty() {
        problems.push(format!(
            "it has devices of its node: {}",
            said.local_resources.join(", ")
        ));
    }
    let mut local_disks = false;
    for disk in &said.local_disks {
        let volid = &disk.volid;
        match vm.config.iter().find(|(_, value)| is_in(volid, value)) {
            Some((key, value)) if holds_iso(value) => problems.push(format!(
                "{key} holds {volid}, which only {} has (remove_disks empties it, or put in an ISO of a shared storage)",
                vm.node
            )),
            _ => local_disks = true,
        }
    }
    let lacking = said.not_allowed_nodes.get(node);
    let lacking = lacking.and_then(|why| why.get("unavailable_storages")?.as_array());
    let lacking: Vec<&str> = lacking
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if !lacking.is_empty() {
        problems.push(format!(
            "{node} does not have the storage {}",
            lacking.join(", ")
        ));
    }
    if problems.is_empty() {
        return Ok(Move {
            from: vm.node.clone(),
            to: node.to_owned(),
            online: vm.running(),
            local_disks,
        });
    }
    Err(Error::CannotMigrate {
        object: vm.object(),
        from: vm.node.clone(),
        to: node.to_owned(),
        problems,
    })
}

fn is_in(volid: &str, value: &str) -> bool {
    value.split(',').next() == Some(volid)
}

/// A cloud-init drive is a CD-ROM too, but PVE takes it along.
fn holds_iso(value: &str) -> bool {
    let is_iso = |drive: &Drive| matches!(drive.source, crate::config::drive::Source::Iso(_));
    Drive::from_text(value).is_ok_and(|drive| is_iso(&drive))
}

/// What the VM needs wherever it is.
fn needs(vm: &State) -> Needs {
    Needs::of(&Plan {
        set: vm.config.clone(),
        ..Plan::default()
    })
}

fn path(node: &str, vmid: u32) -> String {
    format!("/nodes/{node}/qemu/{vmid}/migrate")
}

/// Migrate the VM, and read it where it is then.
///
/// A request whose answer was lost is settled by looking: at the task that moves the VM, or at where it is. It is asked for
/// again only while neither shows anything; PVE moves a VM only from where it is, and one time at once, so that a request which
/// comes through late does nothing.
pub async fn carry_out(context: &Context<'_>, vm: &State, due: &Move) -> Result<State, Failure> {
    let object = vm.object();
    let doing = format!("migrate to {}", due.to);
    context.report_step("migrate", &object);
    let mut params = Params::new().with("target", &due.to);
    if due.online {
        params.set("online", 1);
    }
    if due.local_disks && due.online {
        params.set("with-local-disks", 1);
    }
    loop {
        let watch = context.watcher("migrate", &object);
        let path = path(&due.from, vm.vmid);
        let asked = context
            .client
            .post_task(&path, &params, context.deadline, watch)
            .await;
        match asked {
            Ok(done) => {
                if done.warnings > 0 {
                    context.task.warn(format!(
                        "the migration of {object} ended with warnings: task {}",
                        done.upid
                    ));
                }
                if done.upid.kind == "hamigrate" {
                    await_ha(context, vm, due).await?;
                }
            }
            Err(error @ ApiError::Task(_)) => return Err(failed(&doing, &object)(error)),
            Err(error) => {
                let unsettled = error.may_have_happened() || error.not_found();
                if !unsettled || context.deadline.expired() {
                    return Err(failed(&doing, &object)(error));
                }
                if !arrives(context, vm, due).await? {
                    if error.not_found() {
                        return Err(failed(&doing, &object)(error));
                    }
                    continue;
                }
            }
        }
        return State::read(context, &due.to, vm.vmid).await;
    }
}

/// Wait until HA has moved the VM: the task that PVE makes for one that HA manages only asks for that, and HA's manager
/// has it done by a task of root's some seconds later.
async fn await_ha(context: &Context<'_>, vm: &State, due: &Move) -> Result<(), Failure> {
    let object = vm.object();
    context.report_step("wait for HA", &object);
    while whereabouts(context, vm.vmid).await?.as_deref() != Some(due.to.as_str()) {
        if !context.deadline.sleep(HA_LOOK).await {
            let what = format!("HA, which manages {object}, to migrate it to {}", due.to);
            let expired = context
                .deadline
                .expired_error(what, context.deadline.limit());
            return Err(Failure::from(expired).object(object).hint(
                "ha-manager status and the migration's task in PVE say what HA makes of it; it may still move the VM",
            ));
        }
    }
    Ok(())
}

/// Whether the VM comes to its new node though nobody said so.
async fn arrives(context: &Context<'_>, vm: &State, due: &Move) -> Result<bool, Failure> {
    let object = vm.object();
    for _ in 0..LOOKS {
        await_task(context, &due.from, vm.vmid, &object).await?;
        if whereabouts(context, vm.vmid).await?.as_deref() == Some(due.to.as_str()) {
            return Ok(true);
        }
        if !context.deadline.sleep(LOOK).await {
            let what = format!(
                "{object} to migrate to {} after the answer was lost",
                due.to
            );
            let expired = context
                .deadline
                .expired_error(what, context.deadline.limit());
            return Err(Failure::from(expired)
                .object(object)
                .hint("it may still be on its way: look for its task qmigrate, or run this again, which waits for that"));
        }
    }
    Ok(false)
}

/// Wait for the task that moves the VM away from `node`, if there is one. Returns whether there was.
///
/// # Errors
/// Those of the API, and of the task.
pub async fn await_task(
    context: &Context<'_>,
    node: &str,
    vmid: u32,
    object: &str,
) -> Result<bool, Failure> {
    let running = context
        .client
        .running_tasks(node, Some(vmid), context.deadline)
        .await
        .map_err(failed("list the tasks of", object))?;
    let upid = running.into_iter().find(|upid| upid.kind == "qmigrate");
    let Some(upid) = upid else {
        return Ok(false);
    };
    context.report_step("wait for migration", object);
    let watch = context.watcher("migrate", object);
    match context.client.task(upid, context.deadline, watch).await {
        Ok(_) => Ok(true),
        Err(error) => Err(failed("migrate", object)(error)),
    }
}

/// The node that the VM is on now: of this PVE's list of the whole cluster knows at once.
async fn whereabouts(context: &Context<'_>, vmid: u32) -> Result<Option<String>, Failure> {
    let listed = Inventory::list(context.client, context.deadline).await?;
    let seen = listed.certain(Some(vmid), None);
    Ok(seen.map(|seen| seen.node.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn vm(config: &[(&str, &str)], status: &str) -> State {
        State {
            made_here: false,
            vmid: 101,
            node: "a".into(),
            config: config
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            digest: None,
            status: status.into(),
            pending: Vec::new(),
        }
    }

    fn said(value: Value) -> Preconditions {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_moves_and_how() {
        let disks = [
            ("scsi0", "local:101/vm-101-disk-0.raw,size=1G"),
            ("ide0", "local:101/vm-101-cloudinit.qcow2,media=cdrom"),
        ];
        let local = json!({"local_disks": [
            {"volid": "local:101/vm-101-disk-0.raw", "cdrom": 0},
            {"volid": "local:101/vm-101-cloudinit.qcow2", "cdrom": 1},
        ]});
        let due = plan(&vm(&disks, "running"), "b", &said(local)).unwrap();
        let expected = Move {
            from: "a".into(),
            to: "b".into(),
            online: true,
            local_disks: true,
        };
        assert_eq!(due, expected);
        let due = plan(&vm(&[], "stopped"), "b", &said(json!({}))).unwrap();
        assert_eq!((due.online, due.local_disks), (false, false));
    }

    #[test]
    fn what_does_not_move() {
        let config = [("ide2", "local:iso/a.iso,media=cdrom,size=64K")];
        for (value, part) in [
            (
                json!({"local_resources": ["hostpci0", "usb1"]}),
                "devices of its node: hostpci0, usb1",
            ),
            (
                json!({"local_disks": [{"volid": "local:iso/a.iso"}]}),
                "ide2 holds local:iso/a.iso, which only a has",
            ),
            (
                json!({"not_allowed_nodes": {"b": {"unavailable_storages": ["fast"]}}}),
                "b does not have the storage fast",
            ),
        ] {
            let refused = plan(&vm(&config, "stopped"), "b", &said(value)).unwrap_err();
            assert!(refused.to_string().contains(part), "{refused}");
        }
        let elsewhere = json!({"not_allowed_nodes": {"c": {"unavailable_storages": ["fast"]}}});
        assert!(plan(&vm(&[], "stopped"), "b", &said(elsewhere)).is_ok());
    }
}
