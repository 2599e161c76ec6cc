//! Removing a VM with the disks it owns, and nothing else.

use std::time::Duration;

use ansible_module::Failure;

use crate::apply::{power, update};
use crate::context::{Context, failed};
use crate::error::Error;
use crate::state::{self, State};

/// The pause between two looks at whether the VM is gone.
const LOOK: Duration = Duration::from_millis(500);

/// Why the VM must not be removed.
pub fn refusal(vm: &State, force: bool) -> Option<Error> {
    let (object, node) = (vm.object(), vm.node.clone());
    if vm.protected() {
        return Some(Error::Protected { object, node });
    }
    if vm.running() && !force {
        return Some(Error::RunningNotRemoved { object, node });
    }
    None
}

/// Remove the VM, stopping it hard first if it runs. Volumes that only bear its VMID but are not in its
/// configuration stay, as do ISOs.
pub async fn destroy(context: &Context<'_>, vm: &State) -> Result<(), Failure> {
    let object = vm.object();
    if vm.running() {
        power::stop(context, vm).await?;
    }
    context.report_step("destroy", &object);
    let path = format!("/nodes/{}/qemu/{}", vm.node, vm.vmid);
    let query = [
        ("purge", "1".to_owned()),
        ("destroy-unreferenced-disks", "0".to_owned()),
    ];
    loop {
        let watch = context.watcher("destroy", &object);
        let lost = match context
            .client
            .delete_task(&path, &query, context.deadline, watch)
            .await
        {
            Ok(_) => return Ok(()),
            // Somebody else was faster, or our own call whose answer was lost.
            Err(error) if error.not_found() => return Ok(()),
            Err(error) if error.may_have_happened() => error,
            Err(error) => return Err(failed("remove", &object)(error)),
        };
        if gone(context, vm).await? {
            return Ok(());
        }
        if !context.deadline.sleep(LOOK).await {
            return Err(failed("remove", &object)(lost));
        }
    }
}

/// Whether the VM is there no more, after a call to remove it whose answer was lost. That call may still be at work, so
/// its end is waited for; and once a VMID is free, PVE gives it to the next VM, which is not the one to remove.
async fn gone(context: &Context<'_>, vm: &State) -> Result<bool, Failure> {
    update::await_tasks(context, vm).await?;
    let config = context
        .client
        .vm_config(&vm.node, vm.vmid, false, context.deadline);
    match config.await {
        Ok(raw) => Ok(!vm.is_same(&state::config(&raw))),
        Err(error) if error.not_found() => Ok(true),
        Err(error) => Err(failed("read", &vm.object())(error)),
    }
}
