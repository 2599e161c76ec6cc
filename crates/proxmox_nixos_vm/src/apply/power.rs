//! Starting and stopping. Each of these ends with the VM in the state asked for, whatever became of an answer.

use std::time::Duration;

use ansible_module::Failure;
use pve_client::{Error, Params};

use crate::context::Context;
use crate::context::failed;
use crate::state::State;

/// With force, the longest that a guest gets to shut down by itself.
const GRACE: Duration = Duration::from_secs(180);
/// With force, the longest that a guest gets which has written nothing since it was started: it runs no system that has anything
/// to lose, and one without a system never reacts.
const GRACE_WITHOUT_WRITES: Duration = Duration::from_secs(10);
/// What is left of the deadline for the stop after a shutdown that failed, and for reading the result.
const RESERVE: Duration = Duration::from_secs(3);
/// The pause between two looks at a VM's status.
const LOOK: Duration = Duration::from_millis(300);
/// How long an action whose answer was lost may take to show before it is asked for again.
const SETTLE: Duration = Duration::from_secs(5);

/// Start the VM. A VM that runs already is fine.
pub async fn start(context: &Context<'_>, vm: &State) -> Result<(), Failure> {
    match insist(context, vm, "start", &Params::new(), "running").await {
        Ok(()) => {}
        Err(error)
            if error
                .pve_message()
                .is_some_and(|text| text.contains("already running")) => {}
        Err(error) => return Err(failed("start", &vm.object(), error)),
    }
    reach(context, vm, "running").await
}

/// Shut the VM down. With `force` it is stopped hard when the guest does not react.
pub async fn shutdown(context: &Context<'_>, vm: &State, force: bool) -> Result<(), Failure> {
    let left = context.deadline.remaining().saturating_sub(RESERVE);
    let grace = match force {
        true if has_written(context, vm).await => GRACE.min(left / 2),
        true => GRACE_WITHOUT_WRITES.min(left / 2),
        false => left,
    };
    let mut params = Params::new().with("timeout", grace.as_secs().max(1));
    if force {
        params.set("forceStop", 1);
    }
    match insist(context, vm, "shutdown", &params, "stopped").await {
        Ok(()) => reach(context, vm, "stopped").await,
        Err(error) if is_deaf(&error) => Err(deaf(vm, grace, &error)),
        Err(error) => Err(failed("shut down", &vm.object(), error)),
    }
}

/// Whether the guest may have written anything since it was started. PVE counts what goes through its drives, so a guest with other
/// devices, or one whose count is not known, counts as one that has.
async fn has_written(context: &Context<'_>, vm: &State) -> bool {
    let is_other = |key: &str| {
        ["hostpci", "usb", "virtiofs"]
            .iter()
            .any(|stem| key.starts_with(stem))
    };
    if vm.config.keys().any(|key| is_other(key)) || vm.config.contains_key("args") {
        return true;
    }
    let path = format!("/nodes/{}/qemu/{}/status/current", vm.node, vm.vmid);
    let status = context.client.get(&path, &[], context.deadline).await;
    let written = status
        .ok()
        .and_then(|status| status.get("diskwrite")?.as_u64());
    written != Some(0)
}

/// Stop the VM as pulling the plug does.
pub async fn stop(context: &Context<'_>, vm: &State) -> Result<(), Failure> {
    let stopped = insist(context, vm, "stop", &Params::new(), "stopped").await;
    stopped.map_err(|error| failed("stop", &vm.object(), error))?;
    reach(context, vm, "stopped").await
}

/// Whether the guest did not react to a shutdown.
fn is_deaf(error: &Error) -> bool {
    let timeout = error
        .pve_message()
        .is_some_and(|text| text.contains("got timeout"));
    timeout && !error.is_lock_contention()
}

fn deaf(vm: &State, grace: Duration, error: &Error) -> Failure {
    let object = vm.object();
    let said = error.pve_message().unwrap_or_default();
    Failure::new("timeout", format!("{object} did not shut down within {} s: {said}", grace.as_secs())).object(object).hint(
        "look at its console: does the guest react to ACPI, or run the guest agent? force: true stops it hard, \
         a longer timeout gives it more time",
    )
}

/// Ask for an action until it is known to have been carried out. To start a running VM or stop a stopped one
/// does nothing, so an action whose answer was lost, and which shows no effect, is asked for again.
async fn insist(
    context: &Context<'_>,
    vm: &State,
    action: &str,
    params: &Params,
    target: &str,
) -> Result<(), Error> {
    let object = vm.object();
    context.report_step(action, &object);
    let path = format!("/nodes/{}/qemu/{}/status/{action}", vm.node, vm.vmid);
    loop {
        let watch = context.watcher(action, &object);
        match context
            .client
            .post_task(&path, params, context.deadline, watch)
            .await
        {
            Ok(done) => {
                if done.warnings > 0 {
                    context.task.warn(format!(
                        "{action} of {object}: the task {} ended with warnings",
                        done.upid
                    ));
                }
                return Ok(());
            }
            Err(error) if !error.may_have_happened() || context.deadline.expired() => {
                return Err(error);
            }
            Err(_) if becomes(context, vm, target, SETTLE).await? => return Ok(()),
            Err(_) => {}
        }
    }
}

/// Wait until the VM has the status: PVE's task may end a moment before.
async fn reach(context: &Context<'_>, vm: &State, status: &str) -> Result<(), Failure> {
    let within = context.deadline.remaining();
    match becomes(context, vm, status, within).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(context
            .deadline
            .expired_error(format!("{} to be {status}", vm.object()), within)
            .into()),
        Err(error) => Err(failed("read the status of", &vm.object(), error)),
    }
}

async fn becomes(
    context: &Context<'_>,
    vm: &State,
    status: &str,
    within: Duration,
) -> Result<bool, Error> {
    let limit = context.deadline.shorter(within);
    loop {
        if context
            .client
            .vm_status(&vm.node, vm.vmid, context.deadline)
            .await?
            .status
            == status
        {
            return Ok(true);
        }
        if !limit.sleep(LOOK).await {
            return Ok(false);
        }
    }
}
