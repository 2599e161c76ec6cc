//! High availability, the last thing that is done to a VM: HA acts by itself from then on.

use ansible_module::Failure;
use pve_module::Lock;
use serde_json::Value;

use crate::apply;
use crate::apply::power::PowerChange;
use crate::cluster::locks;
use crate::context::done_if;
use crate::driver::Driver;
use crate::options::{Ha, State as Target};
use crate::plan::Plan;
use crate::plan::ha::{self, Subject};
use crate::precheck;
use crate::state::State;

/// What is to be done, for which VM.
pub(super) struct Due<'a> {
    want: &'a Ha,
    vm: Subject,
    plan: ha::Plan,
}

impl Due<'_> {
    /// Whether anything of HA must be changed.
    pub(super) fn is_due(&self) -> bool {
        !self.plan.steps.is_empty()
    }

    /// Show it in the diff of the VM.
    pub(super) fn show(&self, plan: &mut Plan) {
        let sides = [
            (&mut plan.before, &self.plan.before),
            (&mut plan.after, &self.plan.after),
        ];
        for (side, value) in sides {
            side.extend(
                value
                    .clone()
                    .map(|value| ("ha".to_owned(), Value::Object(value))),
            );
        }
    }
}

impl Driver<'_> {
    /// Plan what HA is to do with the VM, or with the one that is about to be made. What cannot be is among the plan's refusals.
    ///
    /// # Errors
    /// A missing privilege, an installation that is under way, and the API's.
    pub(super) async fn plan_ha(
        &self,
        vm: Option<&State>,
        plan: &mut Plan,
    ) -> Result<Option<Due<'_>>, Failure> {
        let Some(want) = &self.desired.ha else {
            return Ok(None);
        };
        let known = self.read_ha(want, vm).await?;
        let subject = self.subject(vm);
        let due = ha::plan(want, subject, &known);
        precheck::ha::refuse_installing(&due, self.desired, vm, &self.described())?;
        plan.refusals.extend(due.refusals.iter().cloned());
        if !due.steps.is_empty() {
            precheck::ha::privileges(self.context, &["Sys.Console"]).await?;
        }
        Ok(Some(Due {
            want,
            vm: subject,
            plan: due,
        }))
    }

    /// Read what HA knows; the failure for lack of a privilege names at once what else is missing.
    async fn read_ha(&self, want: &Ha, vm: Option<&State>) -> Result<ha::Known, Failure> {
        let vmid = vm.map(|vm| vm.vmid);
        match apply::ha::read(self.context, want, vmid).await {
            Err(failure) if failure.kind == ansible_module::FailureKind::PermissionDenied => {
                precheck::ha::privileges(self.context, &["Sys.Audit", "Sys.Console"]).await?;
                Err(failure)
            }
            read => read,
        }
    }

    /// The VM as the task leaves it.
    fn subject(&self, vm: Option<&State>) -> Subject {
        let running = vm.is_some_and(State::running);
        let renew = self.options.restart && vm.is_some_and(|vm| !vm.pending.is_empty());
        let state = match vm {
            None if self.options.state != Target::Started => Target::Present,
            _ => self.options.state,
        };
        let switch = PowerChange::needed(state, running, renew);
        let runs = switch.map_or(running, |change| change.status() == "running");
        Subject {
            vmid: vm.map(|vm| vm.vmid),
            runs,
            switched: runs != running,
        }
    }

    /// Warn of VMs that the rule is to have and HA does not know.
    pub(super) fn warn_of_waiting(&self, due: &Due<'_>) {
        if due.plan.waits.is_empty() {
            return;
        }
        let waits = due.plan.waits.join(", ");
        let rule = due.want.rule.as_deref().unwrap_or_default();
        self.context.task.warn(format!(
            "ha.resources: HA does not know {waits} yet, so the rule {rule} is without; their own tasks bring them into it"
        ));
    }

    /// Change HA. `changed` is whether the task has changed anything before.
    pub(super) async fn apply_ha(
        &self,
        vm: &State,
        due: &Due<'_>,
        changed: bool,
    ) -> Result<(), Failure> {
        let mut changed = changed;
        let done = self.change_under_lock(vm, due, &mut changed).await;
        done.map_err(|failure| done_if(changed, failure, vm.vmid, &vm.node))
    }

    async fn change_under_lock(
        &self,
        vm: &State,
        due: &Due<'_>,
        changed: &mut bool,
    ) -> Result<(), Failure> {
        let _turn = Lock::acquire(&locks::ha(&self.cluster()), self.context.deadline).await?;
        // Tasks of this controller may have added other VMs to the rule since.
        let plan = match due.want.rule {
            Some(_) => {
                let known = apply::ha::read(self.context, due.want, Some(vm.vmid)).await?;
                ha::plan(due.want, due.vm, &known)
            }
            None => due.plan.clone(),
        };
        apply::ha::apply(self.context, due.want, due.vm, &vm.object(), plan, changed).await
    }
}
