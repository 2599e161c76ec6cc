//! VMs that PVE is still making: waiting for them, and noticing the ones that will never be complete.

use std::collections::BTreeSet;
use std::time::Duration;

use ansible_module::Failure;
use deadline::Deadline;
use pve_module::{Inventory, Lock, Seen};
use serde_json::Value;

use crate::cluster::locks;
use crate::context::{Context, failed};
use crate::error::Error;

/// The pause between two looks at VMs that are being created.
const LOOK: Duration = Duration::from_millis(500);

/// How often a VM that is locked by its making must be found without a task before nothing more is expected of it.
const CUT_OFF_LOOKS: u32 = 6;

/// The VMs that PVE makes at the moment.
pub fn in_the_making(inventory: &Inventory) -> BTreeSet<u32> {
    let making = inventory.vms.iter().filter(|seen| is_in_the_making(seen));
    making.map(|seen| seen.vm.vmid).collect()
}

/// Whether no task of this controller looks after the making of this VM: the task that asked for it was killed, or is another
/// controller's.
pub async fn is_orphan(cluster: &str, vmid: u32) -> bool {
    let at_once = Deadline::after(Duration::ZERO);
    let lock = Lock::acquire(&locks::creating(cluster, vmid), &at_once).await;
    lock.is_ok()
}

/// Wait while PVE makes the VM. Returns whether it is done; if not, its making was cut off and will not go on.
pub async fn await_making(context: &Context<'_>, seen: &Seen) -> Result<bool, Failure> {
    created(context, seen).await?;
    // PVE writes the lock a moment before it begins the task.
    for _ in 0..CUT_OFF_LOOKS {
        let config = context
            .client
            .vm_config(&seen.node, seen.vm.vmid, false, context.deadline);
        match config.await {
            Ok(config)
                if config
                    .get("lock")
                    .and_then(Value::as_str)
                    .is_some_and(is_making) => {}
            Ok(_) => return Ok(true),
            Err(error) if error.not_found() => return Ok(true),
            Err(error) => return Err(failed("read", &format!("VM {}", seen.vm.vmid))(error)),
        }
        if created(context, seen).await? || !context.deadline.sleep(LOOK).await {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Wait for the VM with this VMID if PVE still creates it. Returns whether it did.
///
/// # Errors
/// Kind `cut_off` when it never will be complete; otherwise the API's.
pub async fn await_creation(
    context: &Context<'_>,
    inventory: &Inventory,
    vmid: Option<u32>,
) -> Result<bool, Failure> {
    let is = |seen: &&Seen| Some(seen.vm.vmid) == vmid && is_in_the_making(seen);
    let Some(seen) = inventory.vms.iter().find(is) else {
        return Ok(false);
    };
    if await_making(context, seen).await? {
        return Ok(true);
    }
    let lock = seen.vm.lock.as_deref().unwrap_or_default();
    Err(Error::cut_off(&seen.node, seen.vm.vmid, lock).into())
}

/// Wait while a task of PVE's creates the VM. Returns whether one did.
async fn created(context: &Context<'_>, seen: &Seen) -> Result<bool, Failure> {
    let vmid = seen.vm.vmid;
    let mut waited = false;
    while is_creating(context, seen).await? {
        if !waited {
            context.report_step("wait for creation", &format!("VM {vmid}"));
            waited = true;
        }
        if !context.deadline.sleep(LOOK).await {
            let what = format!("the creation of VM {vmid}, which another task began");
            let expired = context
                .deadline
                .expired_error(what, context.deadline.limit());
            return Err(expired.into());
        }
    }
    Ok(waited)
}

/// Whether the lock of the VM says that it is being created or is the clone in the making.
pub fn is_in_the_making(seen: &Seen) -> bool {
    seen.vm.lock.as_deref().is_some_and(is_making)
}

fn is_making(lock: &str) -> bool {
    matches!(lock, "create" | "clone")
}

/// Whether a task of PVE's makes the VM. Its lock alone says nothing: a worker that was killed leaves it for ever.
pub async fn is_creating(context: &Context<'_>, seen: &Seen) -> Result<bool, Failure> {
    let (client, vmid) = (context.client, seen.vm.vmid);
    let object = format!("VM {vmid}");
    let path = format!("/nodes/{}/tasks", seen.node);
    let mut query = vec![("source", "active".to_owned())];
    if seen.vm.lock.as_deref() == Some("clone") {
        // The task has the template's VMID, so that any clone's task counts as long as the lock is there.
        match client
            .vm_config(&seen.node, vmid, false, context.deadline)
            .await
        {
            Ok(config) if config.contains_key("lock") => {}
            Ok(_) => return Ok(false),
            Err(error) if error.not_found() => return Ok(false),
            Err(error) => return Err(failed("read", &object)(error)),
        }
        query.push(("typefilter", "qmclone".to_owned()));
    } else {
        query.push(("vmid", vmid.to_string()));
    }
    let tasks = client.get(&path, &query, context.deadline).await;
    let tasks = tasks.map_err(failed("list the tasks of", &object))?;
    Ok(tasks.as_array().is_some_and(|tasks| !tasks.is_empty()))
}
