//! One task from its options to its result: find the VM, plan, stop there in check mode, apply.

use ansible_module::{Failure, Outcome, Task};
use pve_module::{Context, Seen, Session, permission_denied};
use serde_json::Value;

use crate::apply::{Applied, apply};
use crate::desired::{Action, Desired};
use crate::error::Error;
use crate::options::Options;
use crate::plan::{Plan, plan};
use crate::report;
use crate::state::{self, Snapshot, Vm, lock};

/// How often it is planned anew because somebody else was quicker.
const ATTEMPTS: u32 = 3;

/// Do the task.
///
/// # Errors
/// Kind `invalid_option` for mistakes in the options, before any request. Everything else as the steps report it, with what the API knows
/// about a missing privilege.
pub async fn run(options: Options, task: Task) -> Result<Outcome, Failure> {
    let desired = Desired::from_options(&options).map_err(Error::InvalidOptions)?;
    let session = Session::open(
        &options.connection,
        options.timeout,
        options.progress_path.as_deref(),
        task,
    )?;
    let outcome = converge(&session.context(), &options, &desired).await;
    session.explain(outcome).await
}

async fn converge(
    context: &Context<'_>,
    options: &Options,
    desired: &Desired,
) -> Result<Outcome, Failure> {
    let name = options.name.as_deref();
    let Some(seen) = state::locate(context, options.vmid, name).await? else {
        return without_vm(options, desired);
    };
    let mut vm = read_settled(context, &seen, desired).await?;
    let mut plan = plan(desired, &vm)?;
    let mut diff = plan.diff.clone();
    let mut done = Vec::new();
    let mut attempts = ATTEMPTS;
    while !plan.steps.is_empty() {
        check_privileges(context, &vm, &plan).await?;
        plan.warnings
            .drain(..)
            .for_each(|text| context.task.warn(text));
        if context.task.check_mode {
            if let Some(lock) = lock(&vm.config) {
                let object = vm.object();
                context.task.warn(format!(
                    "{object} is locked by '{lock}'; the task would wait for it"
                ));
            }
            return Ok(report::would_change(&vm, desired, &plan));
        }
        if attempts == 0 {
            let object = vm.object();
            let overtaken = Error::Overtaken { object }.into();
            return Err(report::with_partial_result(overtaken, &vm, &done));
        }
        attempts -= 1;
        let applied = apply(context, &vm, desired, &plan.steps, &mut done).await;
        let applied =
            applied.map_err(|failure| report::with_partial_result(failure, &vm, &done))?;
        vm = read_settled(context, &seen, desired)
            .await
            .map_err(|failure| report::with_partial_result(failure, &vm, &done))?;
        match applied {
            Applied::Done => break,
            Applied::Overtaken => {
                plan = self::plan(desired, &vm)?;
                diff = plan.diff.clone();
            }
        }
    }
    Ok(report::outcome(&vm, desired, &done, diff))
}

/// Read the VM. A run that was killed leaves its task running, and the snapshot incomplete until that ends: it is waited for.
async fn read_settled(
    context: &Context<'_>,
    seen: &Seen,
    desired: &Desired,
) -> Result<Vm, Failure> {
    let vm = state::read(context, seen, desired).await?;
    let named = vm.snapshot(&desired.snapname);
    if !named.is_some_and(Snapshot::is_incomplete) {
        return Ok(vm);
    }
    state::await_task(context, &vm).await?;
    state::read(context, seen, desired).await
}

fn without_vm(options: &Options, desired: &Desired) -> Result<Outcome, Failure> {
    let object = match (options.vmid, &options.name) {
        (Some(vmid), _) => format!("VM {vmid}"),
        (None, name) => format!("VM {}", name.as_deref().unwrap_or_default()),
    };
    if let Action::Absent { .. } = desired.action {
        return Ok(report::vm_missing(&object, desired));
    }
    Err(Error::VmNotFound { object }.into())
}

/// Refuse a caller without the privileges for the steps, in check mode too, and before the first of several steps. If the
/// caller's privileges cannot be read, PVE itself refuses the call.
async fn check_privileges(context: &Context<'_>, vm: &Vm, plan: &Plan) -> Result<(), Failure> {
    let path = format!("/vms/{}", vm.vmid);
    let query = [("path", path.clone())];
    let (client, deadline) = (context.client, context.deadline);
    let Ok(answer) = client.get("/access/permissions", &query, deadline).await else {
        return Ok(());
    };
    let Some(held) = answer.get(&path).and_then(Value::as_object) else {
        return Ok(());
    };
    for step in &plan.steps {
        let wanted = step.privilege();
        if !wanted.split('|').any(|one| held.contains_key(one)) {
            return Err(permission_denied(client, &path, wanted));
        }
    }
    Ok(())
}
