//! A VM that exists: bring it to what is described, or report in check mode what that would do.

use ansible_module::{Failure, Outcome};

use crate::apply::migrate::{self, Move};
use crate::apply::power::PowerChange;
use crate::apply::{template, update};
use crate::context::{done, done_if};
use crate::driver::Driver;
use crate::driver::ha::Due;
use crate::driver::report::{difference, message, outcome};
use crate::error::Error;
use crate::guard::Guard;
use crate::guest_agent;
use crate::options::State as Target;
use crate::plan::Plan;
use crate::precheck::requirements::{self, Needs};
use crate::precheck::{hardware, privileges, tags};
use crate::state::State;

/// What a task has done so far to a VM; in check mode, what it would have done.
struct Work {
    /// The VM as it was last read.
    vm: State,
    plan: Plan,
    /// The actions in the words of the result.
    actions: Vec<&'static str>,
}

impl Work {
    /// Replace the VM by the one that an action returns. If the action fails, `changed` is whether anything was done before.
    fn update(&mut self, changed: bool, done: Result<State, Failure>) -> Result<(), Failure> {
        let (vmid, node) = (self.vm.vmid, &self.vm.node);
        self.vm = done.map_err(|failure| done_if(changed, failure, vmid, node))?;
        Ok(())
    }
}

impl Driver<'_> {
    /// Bring an existing VM to what is described; `created` is how it was just made, and the plan for that.
    pub(super) async fn reconcile(
        &self,
        vm: State,
        created: Option<(&'static str, Plan)>,
    ) -> Result<Outcome, Failure> {
        let check = self.context.task.check_mode;
        // The tags of a VM that was just made are the ones it shall have.
        let guard = created.is_none().then_some(&self.desired.guard);
        if let Some(guard) = guard {
            guard.check(&vm)?;
        }
        let was = vm.status.clone();
        let mut plan = update::plan(self.context, self.desired, &vm).await?;
        let ha = self.plan_ha(Some(&vm), &mut plan).await?;
        self.refuse_plan(&plan, &vm, created.is_some())?;
        tags::check(self.context, &mut plan, &vm.object()).await?;
        let convert = self.options.state == Target::Template && !vm.is_template();
        if convert {
            template::may_convert(&vm)?;
        }
        let due = match &self.options.node {
            Some(node) if self.migrates() => migrate::due(self.context, &vm, node).await?,
            _ => None,
        };
        let actions = created.as_ref().map(|(action, _)| *action);
        let mut work = Work {
            vm,
            plan,
            actions: actions.into_iter().collect(),
        };
        if let Some(due) = &due {
            self.migrate(&mut work, due).await?;
        }
        self.change(&mut work, guard, due.as_ref()).await?;
        let power = self.change_power(&mut work).await?;
        if convert {
            self.convert(&mut work).await?;
        }
        self.change_ha(&mut work, ha.as_ref()).await?;
        let changed = !work.actions.is_empty();
        if changed {
            self.warn_if_locked(&work.vm);
        }
        let Work {
            vm,
            mut plan,
            actions,
        } = work;
        let will_be = power.map_or(was.as_str(), |change| change.status());
        let msg = message(&vm, check, &actions, &plan, due.as_ref());
        if let Some(due) = due {
            plan.before.insert("node".into(), due.from.into());
            plan.after.insert("node".into(), due.to.into());
        }
        if let Some(ha) = ha {
            ha.show(&mut plan);
        }
        if self.options.state == Target::Template {
            plan.before.insert("template".into(), (!convert).into());
            plan.after.insert("template".into(), true.into());
        }
        let created = created.map(|(_, plan)| plan);
        let diff = difference(&vm, created, plan, &was, will_be);
        let result = outcome(changed, msg, vm.values(), &actions).diff(diff);
        // The agent of a guest that was started a moment ago cannot be up, unless it is waited for.
        if check || (power.is_some() && !self.options.wait_for_address) {
            return Ok(result);
        }
        let described = self.described_by_guest(&vm, result).await;
        described.map_err(|f| done_if(changed, f, vm.vmid, &vm.node))
    }

    /// Refuse what must not, or cannot, be done to the VM.
    fn refuse_plan(&self, plan: &Plan, vm: &State, created: bool) -> Result<(), Failure> {
        if !created {
            hardware::check(self.context, plan, Some(vm), &self.described())?;
        }
        update::refuse(plan, &vm.object())?;
        if !self.options.force {
            let object = self.described();
            hardware::refuse_disks_of_others(plan, Some(vm.vmid), Some(vm), &object)?;
        }
        // A check cannot know whether an earlier task would have started it.
        if self.options.wait_for_address
            && self.options.state == Target::Present
            && !vm.running()
            && !self.context.task.check_mode
        {
            return Err(Error::not_running(vm).into());
        }
        privileges::check(plan, self.context.client.caller(), &vm.object())?;
        Ok(())
    }

    async fn migrate(&self, work: &mut Work, due: &Move) -> Result<(), Failure> {
        work.actions.push("migrate");
        if self.context.task.check_mode {
            return Ok(());
        }
        work.vm = migrate::carry_out(self.context, &work.vm, due).await?;
        let planned = update::plan(self.context, self.desired, &work.vm).await;
        work.plan = planned.map_err(|failure| done(failure, work.vm.vmid, &work.vm.node))?;
        Ok(())
    }

    async fn change(
        &self,
        work: &mut Work,
        guard: Option<&Guard>,
        due: Option<&Move>,
    ) -> Result<(), Failure> {
        if work.plan.is_empty() {
            return Ok(());
        }
        work.actions.push("change");
        if self.context.task.check_mode {
            let node = due.map_or(&work.vm.node, |due| &due.to);
            return requirements::check(self.context, node, &Needs::of(&work.plan)).await;
        }
        let (vm, plan) = (work.vm.clone(), work.plan.clone());
        let updated = update::apply(self.context, self.desired, guard, vm, plan).await;
        work.update(due.is_some(), updated)
    }

    /// Start, stop or restart the VM if need be. Returns what was done.
    async fn change_power(&self, work: &mut Work) -> Result<Option<PowerChange>, Failure> {
        let renew = self.options.restart && !work.vm.pending.is_empty();
        let change = PowerChange::needed(self.options.state, work.vm.running(), renew);
        let Some(change) = change else {
            return Ok(None);
        };
        let changed = !work.actions.is_empty();
        work.actions.push(change.action());
        if !self.context.task.check_mode {
            let switched = change
                .apply(self.context, &work.vm, self.options.force)
                .await;
            work.update(changed, switched)?;
        }
        Ok(Some(change))
    }

    async fn convert(&self, work: &mut Work) -> Result<(), Failure> {
        let changed = !work.actions.is_empty();
        work.actions.push("template");
        if self.context.task.check_mode {
            return Ok(());
        }
        let converted = template::convert(self.context, work.vm.clone()).await;
        work.update(changed, converted)
    }

    async fn change_ha(&self, work: &mut Work, due: Option<&Due<'_>>) -> Result<(), Failure> {
        let Some(due) = due else { return Ok(()) };
        self.warn_of_waiting(due);
        if !due.is_due() {
            return Ok(());
        }
        let changed = !work.actions.is_empty();
        work.actions.push("ha");
        if self.context.task.check_mode {
            return Ok(());
        }
        self.apply_ha(&work.vm, due, changed).await
    }

    /// Warn that the VM is locked: check mode cannot know whether a lock that a run would wait for will go.
    pub(super) fn warn_if_locked(&self, vm: &State) {
        if let Some(lock) = vm.config.get("lock")
            && self.context.task.check_mode
        {
            self.context.task.warn(format!(
                "{} is locked ({lock}); a run waits for that to end",
                vm.object()
            ));
        }
    }

    /// The result with what the guest's agent says, if that is asked for and it says anything.
    pub(super) async fn described_by_guest(
        &self,
        vm: &State,
        result: Outcome,
    ) -> Result<Outcome, Failure> {
        let family = self.options.address_family;
        let facts = if self.options.wait_for_address {
            Some(guest_agent::with_address(self.context, vm, family).await?)
        } else if self.options.guest_facts {
            guest_agent::facts(self.context, vm, family).await
        } else {
            None
        };
        Ok(match facts {
            Some(facts) => result.with("guest_agent", facts),
            None => result,
        })
    }
}
