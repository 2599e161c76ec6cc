//! Two controllers that make a VM of the same name at the same moment.
//!
//! PVE has no names that are taken: it makes both VMs. What keeps them from staying is an order of events:
//!
//! 1. A task looks for other VMs of its name after its own VM is complete. The name of a complete VM can be read, and the list of
//!    the cluster has its VMID at once. So of two tasks the one whose VM was complete later finds the other VM. Whether the
//!    other task finds this one too depends on when it looked.
//! 2. A task that finds another VM gives way: it removes the VM that it has just made, and goes on with the other one. Only the
//!    task with the lowest VMID first waits for the others to give way. If they do, its VM stays.
//! 3. If both found each other, the higher VMID gives way and the lower one sees that. If only one found the other, then
//!    the other has looked before and will not give way: this one does so at once if its VMID is higher, and after the wait if it
//!    is lower. In each case one VM is left. If a wait is too short because a removal takes long, none is left, and both tasks look
//!    and, if need be, make the VM again.
//!
//! What is removed is only ever the VM that this very task made: the one whose creation PVE confirmed to it, with the
//! configuration that it had then, stopped, and with no volume that was there before. Anything else is an error that names both.

use std::time::Duration;

use ansible_module::Failure;
use deadline::Deadline;
use pve_client::Params;
use pve_module::Seen;
use serde_json::Value;

use crate::apply::destroy;
use crate::config::drive::{Drive, Source};
use crate::context::{Context, done, failed};
use crate::error::{Error, location};
use crate::plan::Plan;
use crate::state::State;

/// How long the task with the lowest VMID waits for the others to give way.
const PATIENCE: Duration = Duration::from_secs(20);
/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// Give way to the other VMs of that name, or stay if they do. Returns whether `own`, which was just made by `plan`, stays.
///
/// # Errors
/// Kind `ambiguous` when it must give way and cannot be removed without asking somebody; otherwise the API's.
pub async fn stays(
    context: &Context<'_>,
    own: &State,
    plan: &Plan,
    rivals: &[&Seen],
    chosen_vmid: bool,
) -> Result<bool, Failure> {
    let name = own.name();
    let mut left = Vec::new();
    for rival in rivals {
        if is_there(context, rival, &name).await? {
            left.push(*rival);
        }
    }
    if left.is_empty() {
        return Ok(true);
    }
    if chosen_vmid || brings_volumes(plan) {
        return Err(both(own, &left));
    }
    let is_lowest = left.iter().all(|rival| own.vmid < rival.vm.vmid);
    if is_lowest {
        context.report_step("wait for another task to give way", &own.object());
        let limit = Deadline::after(PATIENCE);
        while let Some(rival) = left.last() {
            if !is_there(context, rival, &name).await? {
                left.pop();
            } else if !limit.sleep(LOOK).await || context.deadline.expired() {
                break;
            }
        }
        if left.is_empty() {
            return Ok(true);
        }
    }
    give_way(context, own, &left).await.map(|()| false)
}

/// Whether the rival is still a VM of that name.
async fn is_there(context: &Context<'_>, rival: &Seen, name: &str) -> Result<bool, Failure> {
    let (node, vmid) = (&rival.node, rival.vm.vmid);
    match context
        .client
        .vm_config(node, vmid, false, context.deadline)
        .await
    {
        Ok(config) => {
            let has = config.get("name").and_then(Value::as_str);
            Ok(has.is_some_and(|has| has.eq_ignore_ascii_case(name)))
        }
        Err(error) if error.not_found() => Ok(false),
        Err(error) => Err(failed("read", &format!("VM {vmid}"))(error)),
    }
}

/// Remove the VM that was just made, if it is still as it was made.
async fn give_way(context: &Context<'_>, own: &State, rivals: &[&Seen]) -> Result<(), Failure> {
    let mut now = State::read(context, &own.node, own.vmid).await?;
    if now.running() || now.digest != own.digest || !now.is_same(&own.config) {
        return Err(both(own, rivals));
    }
    if now.protected() {
        let mut params = Params::new().with("protection", 0);
        if let Some(digest) = &now.digest {
            params.set("digest", digest);
        }
        let unprotected =
            context
                .client
                .vm_configure(&own.node, own.vmid, &params, context.deadline);
        unprotected
            .await
            .map_err(failed("unprotect", &own.object()))?;
        now = State::read(context, &own.node, own.vmid).await?;
    }
    // PVE refuses to remove a VM that somebody has started since.
    destroy::destroy(context, &now).await
}

/// Whether the VM was given volumes that there were before, which would be removed with it.
fn brings_volumes(plan: &Plan) -> bool {
    plan.set.iter().any(|(key, text)| {
        let drive = crate::config::drive::is_key(key).then(|| Drive::from_text(text).ok());
        drive
            .flatten()
            .is_some_and(|drive| matches!(drive.source, Source::Volume(_)))
    })
}

fn both(own: &State, rivals: &[&Seen]) -> Failure {
    let others = rivals.iter().map(|rival| format!("VM {}", location(rival)));
    let error = Error::TwoOfThisName {
        name: own.name(),
        others: others.collect(),
        vmid: own.vmid,
        node: own.node.clone(),
    };
    done(error.into(), own.vmid, &own.node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_that_was_there_before_is_not_removed() {
        let plan = |text: &str| {
            let mut plan = Plan::default();
            plan.set.insert("scsi0".into(), text.into());
            plan.set
                .insert("name".into(), "local:9/vm-9-disk-0.raw".into());
            plan
        };
        assert!(brings_volumes(&plan("local:100/vm-100-disk-0.raw")));
        assert!(brings_volumes(&plan("/dev/sdb")));
        for made in [
            "local:1",
            "local:0,import-from=local:import/a.qcow2",
            "local:iso/a.iso,media=cdrom",
            "none,media=cdrom",
        ] {
            assert!(!brings_volumes(&plan(made)), "{made}");
        }
    }
}
