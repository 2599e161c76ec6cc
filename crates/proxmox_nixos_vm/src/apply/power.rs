//! Starting and stopping. Each of these ends with the VM in the state asked for, whatever became of an answer.

use std::time::Duration;

use ansible_module::Failure;
use pve_client::{Error as ApiError, Params};

use crate::context::{Context, done, failed};
use crate::error::Error;
use crate::options::State as Target;
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

/// A change of a VM's power state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerChange {
    Start,
    Shutdown,
    Restart,
}

impl PowerChange {
    /// The change that brings a VM to the state `target`. With `renew` its pending changes must take effect, which needs a
    /// stop and a start.
    pub fn needed(target: Target, running: bool, renew: bool) -> Option<Self> {
        match (target, running) {
            (Target::Started | Target::Restarted, false) => Some(Self::Start),
            (Target::Restarted, true) => Some(Self::Restart),
            (Target::Present | Target::Started, true) if renew => Some(Self::Restart),
            (Target::Stopped, true) => Some(Self::Shutdown),
            _ => None,
        }
    }

    /// The action as results name it.
    pub fn action(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Shutdown => "shut down",
            Self::Restart => "restart",
        }
    }

    /// Whether the VM runs afterwards, as PVE's status: `running` or `stopped`.
    pub fn status(self) -> &'static str {
        match self {
            Self::Start | Self::Restart => "running",
            Self::Shutdown => "stopped",
        }
    }

    /// Carry the change out, and read the VM as it is then. With `force` a guest that does not shut down is stopped hard.
    pub async fn apply(
        self,
        context: &Context<'_>,
        vm: &State,
        force: bool,
    ) -> Result<State, Failure> {
        match self {
            Self::Start => start(context, vm).await?,
            Self::Shutdown => shutdown(context, vm, force).await?,
            Self::Restart => {
                shutdown(context, vm, force).await?;
                start(context, vm)
                    .await
                    .map_err(|failure| done(failure, vm.vmid, &vm.node))?;
            }
        }
        State::read(context, &vm.node, vm.vmid).await
    }
}

/// Start the VM. A VM that runs already is fine.
async fn start(context: &Context<'_>, vm: &State) -> Result<(), Failure> {
    match insist(context, vm, "start", &Params::new(), "running").await {
        Ok(()) => {}
        Err(error)
            if error
                .pve_message()
                .is_some_and(|text| text.contains("already running")) => {}
        Err(error) => return Err(failed("start", &vm.object())(error)),
    }
    reach(context, vm, "running").await
}

/// Shut the VM down. With `force` it is stopped hard when the guest does not react.
async fn shutdown(context: &Context<'_>, vm: &State, force: bool) -> Result<(), Failure> {
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
        Err(error) if is_deaf(&error) => Err(no_shutdown(vm, grace, &error).into()),
        Err(error) => Err(failed("shut down", &vm.object())(error)),
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
    stopped.map_err(failed("stop", &vm.object()))?;
    reach(context, vm, "stopped").await
}

/// Whether the guest did not react to a shutdown.
fn is_deaf(error: &ApiError) -> bool {
    let timeout = error
        .pve_message()
        .is_some_and(|text| text.contains("got timeout"));
    timeout && !error.is_lock_contention()
}

fn no_shutdown(vm: &State, grace: Duration, error: &ApiError) -> Error {
    Error::NoShutdown {
        object: vm.object(),
        grace,
        pve: error.pve_message().unwrap_or_default().to_owned(),
    }
}

/// Ask for an action until it is known to have been carried out. To start a running VM or stop a stopped one
/// does nothing, so an action whose answer was lost, and which shows no effect, is asked for again.
async fn insist(
    context: &Context<'_>,
    vm: &State,
    action: &str,
    params: &Params,
    target: &str,
) -> Result<(), ApiError> {
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
        Err(error) => Err(failed("read the status of", &vm.object())(error)),
    }
}

async fn becomes(
    context: &Context<'_>,
    vm: &State,
    status: &str,
    within: Duration,
) -> Result<bool, ApiError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_follows_the_state_asked_for() {
        for (target, running, renew, expected) in [
            (Target::Present, false, false, None),
            (Target::Present, true, false, None),
            (Target::Present, true, true, Some(PowerChange::Restart)),
            (Target::Started, false, false, Some(PowerChange::Start)),
            (Target::Started, true, false, None),
            (Target::Started, true, true, Some(PowerChange::Restart)),
            (Target::Stopped, true, true, Some(PowerChange::Shutdown)),
            (Target::Stopped, false, false, None),
            (Target::Restarted, true, false, Some(PowerChange::Restart)),
            (Target::Restarted, false, false, Some(PowerChange::Start)),
            (Target::Template, false, true, None),
        ] {
            assert_eq!(
                PowerChange::needed(target, running, renew),
                expected,
                "{target:?} {running} {renew}"
            );
        }
    }
}
