//! Carrying out a plan on a VM that exists.

use std::time::Duration;

use ansible_module::Failure;
use pve_client::{Error as ApiError, Params};

use crate::apply::pool;
use crate::context::{Context, done_if, failed};
use crate::desired::Desired;
use crate::error::Error;
use crate::guard::Guard;
use crate::plan::{self, Plan};
use crate::precheck::requirements::{self, Needs};
use crate::state::State;

/// How often a plan is made anew because somebody else changed the VM meanwhile, or an answer was lost.
const ATTEMPTS: u32 = 5;
/// The pause before the VM is read again after a lost answer.
const PAUSE: Duration = Duration::from_millis(500);

/// The plan for a VM as it is now.
pub async fn plan(context: &Context<'_>, desired: &Desired, vm: &State) -> Result<Plan, Failure> {
    let in_pool = match &desired.pool {
        Some(pool) => pool::contains(context, pool, vm.vmid).await?,
        None => true,
    };
    let mut desired = desired.clone();
    desired.record = desired.record_for(vm.vmid);
    Ok(plan::update(&desired, &vm.config, vm.running(), in_pool))
}

/// Refuse what the plan refuses.
pub fn refuse(plan: &Plan, object: &str) -> Result<(), Error> {
    if plan.refusals.is_empty() {
        return Ok(());
    }
    Err(Error::Refused {
        object: object.to_owned(),
        problems: plan.refusals.clone(),
    })
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
            Steps::new(context, &vm, &plan).run(changed).await
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
                let object = vm.object();
                return Err(Error::DisksMovedBack { object }.into());
            }
            continue;
        };
        let unplugged = is_unplug_problem(&error);
        let unsettled = error.may_have_happened() || is_conflict(&error) || unplugged;
        if !unsettled || attempt >= ATTEMPTS || context.deadline.expired() {
            *changed |= error.may_have_happened();
            return Err(failed("change", &vm.object())(error));
        }
        await_tasks(context, &vm).await?;
        vm = State::read(context, &vm.node, vm.vmid).await?;
        check(guard, &vm, error.may_have_happened())?;
        plan = self::plan(context, desired, &vm).await?;
        if unplugged && plan.set.keys().any(|key| key != "boot") {
            return Err(failed("change", &vm.object())(error));
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
) -> Result<(), ApiError> {
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

/// The requests that carry out a plan. The first one has the digest of the configuration that was planned for, so that PVE
/// refuses it if somebody else was faster.
struct Steps<'a> {
    context: &'a Context<'a>,
    vm: &'a State,
    plan: &'a Plan,
    /// The digest, until a request has taken it.
    digest: Option<String>,
    object: String,
}

impl<'a> Steps<'a> {
    fn new(context: &'a Context<'a>, vm: &'a State, plan: &'a Plan) -> Self {
        Self {
            context,
            vm,
            plan,
            digest: vm.digest.clone(),
            object: vm.object(),
        }
    }

    /// Carry the plan out; `changed` is afterwards, also after an error, whether anything was changed.
    async fn run(mut self, changed: &mut bool) -> Result<(), ApiError> {
        if !self.plan.eject.is_empty() {
            self.eject().await?;
            *changed = true;
        }
        *changed |= self.configure().await?;
        for (disk, bytes) in &self.plan.grow {
            self.resize(disk, *bytes).await?;
            *changed = true;
        }
        if let Some(pool) = &self.plan.pool {
            pool::add(self.context, pool, self.vm.vmid).await?;
            *changed = true;
        }
        if let Some(boot) = &self.plan.boot {
            let params = self.guarded(Params::new().with("boot", boot));
            let (node, vmid) = (&self.vm.node, self.vm.vmid);
            self.context
                .client
                .vm_configure(node, vmid, &params, self.context.deadline)
                .await?;
        }
        Ok(())
    }

    fn guarded(&mut self, mut params: Params) -> Params {
        if let Some(digest) = self.digest.take() {
            params.set("digest", digest);
        }
        params
    }

    fn path(&self, action: &str) -> String {
        format!("/nodes/{}/qemu/{}/{action}", self.vm.node, self.vm.vmid)
    }

    /// Take the media out of CD-ROM drives that are removed next.
    async fn eject(&mut self) -> Result<(), ApiError> {
        self.context.report_step("eject", &self.object);
        let mut params: Params = self
            .plan
            .eject
            .iter()
            .map(|key| (key.as_str(), "none,media=cdrom"))
            .collect();
        // Tags may be a lock that others wait for: they change with the first write, the one that the digest guards.
        if let Some(tags) = self.plan.set.get("tags") {
            params.set("tags", tags);
        } else if self.plan.delete.contains("tags") {
            params.set("delete", "tags");
        }
        let params = self.guarded(params);
        let (client, deadline) = (self.context.client, self.context.deadline);
        client.put(&self.path("config"), &params, deadline).await?;
        Ok(())
    }

    /// Set and remove options. Returns whether there were any.
    async fn configure(&mut self) -> Result<bool, ApiError> {
        let plan = self.plan;
        let left = |key: &&str| plan.eject.is_empty() || *key != "tags";
        let delete = plan.delete.iter().map(String::as_str).filter(left);
        let delete: Vec<&str> = delete.collect();
        let set: Vec<&str> = plan.set.keys().map(String::as_str).filter(left).collect();
        if set.is_empty() && delete.is_empty() {
            return Ok(false);
        }
        self.context.report_step("configure", &self.object);
        let mut params: Params = set.iter().map(|key| (*key, &plan.set[*key])).collect();
        if !delete.is_empty() {
            params.set("delete", delete.join(","));
            if plan.destroys {
                params.set("force", "1");
            }
        }
        let (path, params) = (self.path("config"), self.guarded(params));
        let (client, deadline) = (self.context.client, self.context.deadline);
        if plan.allocates {
            // Allocating may take longer than the 30 s after which PVE stops waiting for a PUT.
            let watch = self.context.watcher("configure", &self.object);
            client.post_task(&path, &params, deadline, watch).await?;
        } else {
            client.put(&path, &params, deadline).await?;
        }
        Ok(true)
    }

    /// Grow a disk to a size in bytes.
    async fn resize(&mut self, disk: &str, bytes: u64) -> Result<(), ApiError> {
        self.context.report_step("resize", &self.object);
        let size = pve_client::property::format_size(bytes);
        let params = self.guarded(Params::new().with("disk", disk).with("size", size));
        let (client, deadline) = (self.context.client, self.context.deadline);
        let answer = client.put(&self.path("resize"), &params, deadline).await?;
        if let Some(upid) = answer.as_str() {
            let watch = self.context.watcher("resize", &self.object);
            client.task(upid, deadline, watch).await?;
        }
        Ok(())
    }
}

/// Wait until no task of PVE's works on the VM: one of them may be ours, whose answer was lost.
pub async fn await_tasks(context: &Context<'_>, vm: &State) -> Result<(), Failure> {
    let (client, deadline) = (context.client, context.deadline);
    loop {
        let running = client
            .running_tasks(&vm.node, Some(vm.vmid), deadline)
            .await;
        let running = running.map_err(failed("list the tasks of", &vm.object()))?;
        let slept = deadline.sleep(PAUSE).await;
        if running.is_empty() {
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
fn is_conflict(error: &ApiError) -> bool {
    error.pve_message().is_some_and(|text| {
        text.contains("file change by other user") || text.contains("file changed by other user")
    })
}

/// Whether PVE could not unplug something from the running VM. It says 400 then, but keeps the change as pending.
fn is_unplug_problem(error: &ApiError) -> bool {
    error
        .errors()
        .is_some_and(|errors| errors.values().any(|text| text.contains("hotplug problem")))
}
