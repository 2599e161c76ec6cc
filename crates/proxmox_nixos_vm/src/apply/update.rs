//! Carrying out a plan on a VM that exists.

use std::time::Duration;

use ansible_module::Failure;
use pve_client::{Error, Params};

use crate::context::Context;
use crate::context::done_if;
use crate::context::failed;
use crate::desired::Desired;
use crate::guard::Guard;
use crate::plan;
use crate::plan::Plan;
use crate::precheck::requirements;
use crate::precheck::requirements::Needs;
use crate::state::State;

/// How often a plan is made anew because somebody else changed the VM meanwhile, or an answer was lost.
const ATTEMPTS: u32 = 5;
/// The pause before the VM is read again after a lost answer.
const PAUSE: Duration = Duration::from_millis(500);

/// The plan for a VM as it is now.
pub async fn plan(context: &Context<'_>, desired: &Desired, vm: &State) -> Result<Plan, Failure> {
    let in_pool = match &desired.pool {
        Some(pool) => in_pool(context, pool, vm.vmid).await?,
        None => true,
    };
    let mut desired = desired.clone();
    desired.record = desired.record_for(vm.vmid);
    Ok(plan::update(&desired, &vm.config, vm.running(), in_pool))
}

/// Refuse what the plan refuses.
pub fn refuse(plan: &Plan, object: &str) -> Result<(), Failure> {
    if plan.refusals.is_empty() {
        return Ok(());
    }
    let msg = format!(
        "{object} cannot be made as described: {}",
        plan.refusals.join("; ")
    );
    Err(Failure::new("refused", msg).object(object))
}

/// Make the VM as described; `first` is the plan for `vm`, whose tags are as `guard` wants them. Returns the VM as it
/// is afterwards.
///
/// Every plan is guarded by the configuration's digest, so it is carried out once or not at all. When somebody else
/// was faster, or it is not known what became of it, the VM is read again and what is still missing is planned anew.
pub async fn apply(
    context: &Context<'_>,
    desired: &Desired,
    guard: Option<&Guard>,
    vm: State,
    first: Plan,
) -> Result<State, Failure> {
    let (vmid, node) = (vm.vmid, vm.node.clone());
    let mut changed = false;
    let done = carry_out(context, desired, guard, vm, first, &mut changed).await;
    done.map_err(|failure| done_if(changed, failure, vmid, &node))
}

/// The same; `changed` says afterwards, also after a failure, whether anything was changed.
async fn carry_out(
    context: &Context<'_>,
    desired: &Desired,
    guard: Option<&Guard>,
    vm: State,
    first: Plan,
    changed: &mut bool,
) -> Result<State, Failure> {
    let (mut vm, mut plan) = (vm, first);
    for attempt in 1.. {
        refuse(&plan, &vm.object())?;
        if plan.is_empty() {
            break;
        }
        requirements::check(context, &vm.node, &Needs::of(&plan)).await?;
        let moves = !plan.moves.is_empty();
        let done = if moves {
            move_disks(context, desired, &vm, &plan, changed).await
        } else {
            steps(context, &vm, &plan, changed).await
        };
        let error = match done {
            Ok(()) if moves => None,
            Ok(()) => {
                vm = State::read(context, &vm.node, vm.vmid).await?;
                break;
            }
            Err(error) => Some(error),
        };
        let Some(error) = error else {
            vm = State::read(context, &vm.node, vm.vmid).await?;
            check(guard, &vm, false)?;
            plan = self::plan(context, desired, &vm).await?;
            if !plan.moves.is_empty() && attempt >= ATTEMPTS {
                let msg = format!(
                    "{} has disks on other storages again and again after they were moved",
                    vm.object()
                );
                return Err(
                    Failure::new("conflict", msg).hint("does somebody else move them back?")
                );
            }
            continue;
        };
        let unplugged = is_unplug_problem(&error);
        let unsettled = error.may_have_happened() || is_conflict(&error) || unplugged;
        if !unsettled || attempt >= ATTEMPTS || context.deadline.expired() {
            *changed |= error.may_have_happened();
            return Err(failed("change", &vm.object(), error));
        }
        settle(context, &vm).await?;
        vm = State::read(context, &vm.node, vm.vmid).await?;
        check(guard, &vm, error.may_have_happened())?;
        plan = self::plan(context, desired, &vm).await?;
        if unplugged && plan.set.keys().any(|key| key != "boot") {
            return Err(failed("change", &vm.object(), error));
        }
    }
    Ok(vm)
}

/// Check the guard on a VM that was read again, `lost` when that was because of an answer that did not come.
fn check(guard: Option<&Guard>, vm: &State, lost: bool) -> Result<(), Failure> {
    let Some(guard) = guard else { return Ok(()) };
    guard.check(vm).map_err(|refusal| {
        if lost {
            refusal.hint(
                "the answer to a change by this task was lost, so that may have been this task or another one",
            )
        } else {
            refusal
        }
    })
}

/// Move disks to other storages, the first one guarded by the digest.
async fn move_disks(
    context: &Context<'_>,
    desired: &Desired,
    vm: &State,
    plan: &Plan,
    changed: &mut bool,
) -> Result<(), Error> {
    let path = format!("/nodes/{}/qemu/{}/move_disk", vm.node, vm.vmid);
    let mut digest = vm.digest.clone();
    for (disk, storage) in &plan.moves {
        let object = format!("{disk} of {}", vm.object());
        context.report_step("move", &object);
        let mut params = Params::new()
            .with("disk", disk)
            .with("storage", storage)
            .with("delete", u8::from(desired.delete_volumes));
        if let Some(digest) = digest.take() {
            params.set("digest", digest);
        }
        let watch = context.watcher("move", &object);
        context
            .client
            .post_task(&path, &params, context.deadline, watch)
            .await?;
        *changed = true;
    }
    Ok(())
}

/// Carry the plan out; `changed` says afterwards, also after an error, whether anything was.
async fn steps(
    context: &Context<'_>,
    vm: &State,
    plan: &Plan,
    changed: &mut bool,
) -> Result<(), Error> {
    let object = vm.object();
    let config = format!("/nodes/{}/qemu/{}/config", vm.node, vm.vmid);
    let mut digest = vm.digest.clone();
    let mut guarded = |mut params: Params| {
        if let Some(digest) = digest.take() {
            params.set("digest", digest);
        }
        params
    };
    if !plan.eject.is_empty() {
        context.report_step("eject", &object);
        let mut params: Params = plan
            .eject
            .iter()
            .map(|key| (key.as_str(), "none,media=cdrom"))
            .collect();
        // Tags may be a lock that others wait for: they change with the first write, the one that the digest guards.
        if let Some(tags) = plan.set.get("tags") {
            params.set("tags", tags);
        } else if plan.delete.contains("tags") {
            params.set("delete", "tags");
        }
        context
            .client
            .put(&config, &guarded(params), context.deadline)
            .await?;
        *changed = true;
    }
    let left = |key: &&str| plan.eject.is_empty() || *key != "tags";
    let delete: Vec<&str> = plan
        .delete
        .iter()
        .map(String::as_str)
        .filter(left)
        .collect();
    let set: Vec<&str> = plan.set.keys().map(String::as_str).filter(left).collect();
    if !set.is_empty() || !delete.is_empty() {
        context.report_step("configure", &object);
        let mut params: Params = set.iter().map(|key| (*key, &plan.set[*key])).collect();
        if !delete.is_empty() {
            params.set("delete", delete.join(","));
            if plan.destroys {
                params.set("force", "1");
            }
        }
        if plan.allocates {
            // Allocating may take longer than the 30 s after which PVE stops waiting for a PUT.
            let watch = context.watcher("configure", &object);
            context
                .client
                .post_task(&config, &guarded(params), context.deadline, watch)
                .await?;
        } else {
            context
                .client
                .put(&config, &guarded(params), context.deadline)
                .await?;
        }
        *changed = true;
    }
    for (disk, bytes) in &plan.grow {
        context.report_step("resize", &object);
        let size = pve_client::property::format_size(*bytes);
        let params = guarded(Params::new().with("disk", disk).with("size", size));
        let path = format!("/nodes/{}/qemu/{}/resize", vm.node, vm.vmid);
        let answer = context.client.put(&path, &params, context.deadline).await?;
        if let Some(upid) = answer.as_str() {
            context
                .client
                .task(upid, context.deadline, context.watcher("resize", &object))
                .await?;
        }
        *changed = true;
    }
    if let Some(pool) = &plan.pool {
        join_pool(context, pool, vm.vmid).await?;
        *changed = true;
    }
    if let Some(boot) = &plan.boot {
        let params = guarded(Params::new().with("boot", boot));
        context
            .client
            .vm_configure(&vm.node, vm.vmid, &params, context.deadline)
            .await?;
    }
    Ok(())
}

async fn in_pool(context: &Context<'_>, pool: &str, vmid: u32) -> Result<bool, Failure> {
    let (path, query) = pool_path(pool);
    let query: Vec<(&str, String)> = query.map(|pool| ("poolid", pool)).into_iter().collect();
    let answer = context.client.get(&path, &query, context.deadline).await;
    let answer = answer.map_err(|e| {
        // Whoever may not see the pool is told so, and not that there is none.
        let missing = e
            .pve_message()
            .is_some_and(|text| text.contains("does not exist"));
        let failure = failed("read the pool", pool, e);
        match missing {
            true => failure.hint(format!(
                "make the pool first: pvesh create /pools --poolid {pool}"
            )),
            false => failure,
        }
    })?;
    // Asked for by parameter, the pool comes in a list.
    let members = answer
        .get("members")
        .or_else(|| answer.get(0)?.get("members"))
        .and_then(|m| m.as_array());
    let id = |member: &serde_json::Value| member.get("vmid").and_then(crate::config::text::scalar);
    Ok(members
        .into_iter()
        .flatten()
        .any(|member| id(member) == Some(vmid.to_string())))
}

/// Move the VM into the pool. Servers that know `allow-move` want it for a VM of another pool; older ones do not know it.
async fn join_pool(context: &Context<'_>, pool: &str, vmid: u32) -> Result<(), Error> {
    let (path, parameter) = pool_path(pool);
    let mut params = Params::new().with("vms", vmid);
    if let Some(pool) = parameter {
        params.set("poolid", pool);
    }
    match context.client.put(&path, &params, context.deadline).await {
        Err(error)
            if error
                .pve_message()
                .is_some_and(|text| text.contains("allow-move")) =>
        {
            context
                .client
                .put(&path, &params.with("allow-move", 1), context.deadline)
                .await
                .map(|_| ())
        }
        other => other.map(|_| ()),
    }
}

/// The path of a pool, and the parameter that names it where the path cannot: nested pools have a slash.
fn pool_path(pool: &str) -> (String, Option<String>) {
    let plain = pool
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if plain {
        (format!("/pools/{pool}"), None)
    } else {
        ("/pools".into(), Some(pool.to_owned()))
    }
}

/// Wait until no task of PVE's works on the VM: one of them may be ours, whose answer was lost.
pub async fn settle(context: &Context<'_>, vm: &State) -> Result<(), Failure> {
    let path = format!("/nodes/{}/tasks", vm.node);
    let query = [
        ("source", "active".to_owned()),
        ("vmid", vm.vmid.to_string()),
    ];
    loop {
        let tasks = context.client.get(&path, &query, context.deadline).await;
        let tasks = tasks.map_err(|e| failed("list the tasks of", &vm.object(), e))?;
        let slept = context.deadline.sleep(PAUSE).await;
        if tasks.as_array().is_none_or(Vec::is_empty) {
            return Ok(());
        }
        if !slept {
            return Err(context
                .deadline
                .expired_error(format!("other tasks of {} to end", vm.object()), PAUSE)
                .into());
        }
    }
}

/// Whether somebody else changed the VM since it was read.
fn is_conflict(error: &Error) -> bool {
    error.pve_message().is_some_and(|text| {
        text.contains("file change by other user") || text.contains("file changed by other user")
    })
}

/// Whether PVE could not unplug something from the running VM. It says 400 then, but keeps the change as pending.
fn is_unplug_problem(error: &Error) -> bool {
    error
        .errors()
        .is_some_and(|errors| errors.values().any(|text| text.contains("hotplug problem")))
}
