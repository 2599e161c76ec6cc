//! One task from its options to its result.

use std::time::Duration;

use ansible_module::{Diff, Failure, Outcome, Task};
use deadline::Deadline;
use pve_module::{Inventory, Lock, Seen};
use serde_json::{Map, Value, json};

use crate::create::{self, Creation, Request};
use crate::drive;
use crate::find;
use crate::options::{Options, State as Asked};
use crate::ownership::Ownership;
use crate::plan::{self, Plan};
use crate::precheck::{self, Needs};
use crate::site::{Site, done, done_if};
use crate::state::{self, State};
use crate::vmid::VmidRange;
use crate::wanted::Wanted;
use crate::{agent, clone, destroy, migrate, place, power, rights, template, text, update};

/// What is done to a VM's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    Start,
    Shutdown,
    Restart,
}

/// Do the task.
pub async fn run(options: Options, task: Task, ownership: Ownership) -> Result<Outcome, Failure> {
    // Refused below, but not shown for that.
    let misplaced = options
        .config
        .as_ref()
        .and_then(|config| config.get("cipassword"));
    if let Some(password) = misplaced.and_then(text::scalar) {
        task.secret(&password);
    }
    let wanted = Wanted::from_options(&options)
        .map_err(|mistakes| Failure::new("invalid_option", mistakes))?
        .owned(ownership);
    let range = options.vmid_range.as_deref().map(VmidRange::parse);
    let range = range
        .transpose()
        .map_err(|mistake| Failure::new("invalid_option", mistake))?;
    let client = options.connection.client()?;
    let deadline = Deadline::after(Duration::from_secs(options.timeout));
    let progress = task.progress(options.progress_path.as_deref());
    let site = Site {
        client: &client,
        deadline: &deadline,
        progress: &progress,
        task: &task,
    };
    let job = Job {
        site: &site,
        options: &options,
        wanted: &wanted,
        range,
    };
    match options.state {
        Asked::Current => job.look().await,
        Asked::Absent => job.remove().await,
        Asked::Present | Asked::Started | Asked::Stopped | Asked::Restarted | Asked::Template => {
            job.converge().await
        }
    }
}

/// What a look for the VM found.
enum Located {
    /// The VM, as it is now.
    There(State),
    /// All that there is, and the VM is not among it.
    Missing(Inventory),
}

struct Job<'a> {
    site: &'a Site<'a>,
    options: &'a Options,
    wanted: &'a Wanted,
    range: Option<VmidRange>,
}

impl Job<'_> {
    /// The API's hosts, which tell locks of one cluster from those of another.
    fn cluster(&self) -> String {
        let connection = &self.options.connection;
        format!("{}:{}", connection.api_host.join(","), connection.api_port)
    }

    /// Find the VM by few requests if that tells it for certain, else by a look at every node.
    async fn locate(&self) -> Result<Located, Failure> {
        if let Some(vm) = self.at_a_glance().await? {
            return Ok(Located::There(vm));
        }
        self.locate_thoroughly().await
    }

    /// Find the VM by a look at every node.
    async fn locate_thoroughly(&self) -> Result<Located, Failure> {
        let (inventory, found) = self.find().await?;
        Ok(match found {
            Some(seen) => Located::There(State::of(self.site, &seen).await?),
            None => Located::Missing(inventory),
        })
    }

    /// The VM that the list of the whole cluster shows, if it is an ordinary one and as that list says.
    async fn at_a_glance(&self) -> Result<Option<State>, Failure> {
        let (vmid, name) = (self.options.vmid, self.options.name.as_deref());
        let seen = pve_module::glance(self.site.client, vmid, name, self.site.deadline).await?;
        let Some(seen) = seen else {
            return Ok(None);
        };
        // Whatever goes wrong here is told by the thorough look.
        let Ok(vm) = State::read(self.site, &seen.node, seen.vm.vmid).await else {
            return Ok(None);
        };
        let renamed = name.is_some_and(|name| !vm.name().eq_ignore_ascii_case(name));
        if renamed || vm.is_template() || vm.config.contains_key("lock") {
            return Ok(None);
        }
        self.warn_if_elsewhere(vm.vmid, &vm.node);
        Ok(Some(vm))
    }

    fn warn_if_elsewhere(&self, vmid: u32, is_on: &str) {
        if let Some(node) = &self.options.node
            && is_on != node
            && !self.migrates()
        {
            self.site.task.warn(format!(
                "VM {vmid} is on node {is_on} and not on {node}; it is managed where it is"
            ));
        }
    }

    /// Refuse to attach a disk whose name says that it is another VM's, which may be running with it. `own` is the VMID if it is
    /// known already, `from` the VM that is changed or cloned.
    fn refuse_others_disks(
        &self,
        plan: &Plan,
        own: Option<u32>,
        from: Option<&State>,
    ) -> Result<(), Failure> {
        let new = |key: &str| from.is_none_or(|vm| !vm.config.contains_key(key));
        let taken = plan.set.iter().filter(|(key, _)| new(key));
        let mut taken = taken.filter_map(|(key, text)| Some((key, text, drive::owner(key, text)?)));
        let Some((key, text, owner)) = taken.find(|(.., owner)| Some(*owner) != own) else {
            return Ok(());
        };
        if self.options.force {
            return Ok(());
        }
        let object = self.described();
        let msg = format!("{key}: {text} is a disk of VM {owner}, not of {object}");
        Err(Failure::new("refused", msg).object(object).hint(
            "two VMs ruin a disk that they share; hand it over with qm disk move ... --target-vmid, begin with a copy of it \
             (import_from), or set force: true",
        ))
    }

    /// Check mode cannot know whether a lock that a run would wait for will go.
    fn warn_if_locked(&self, vm: &State) {
        if let Some(lock) = vm.config.get("lock")
            && self.site.task.check_mode
        {
            self.site.task.warn(format!(
                "{} is locked ({lock}); a run waits for that to end",
                vm.object()
            ));
        }
    }

    /// Whether a VM on another node is to be migrated.
    fn migrates(&self) -> bool {
        self.options.migrate && !matches!(self.options.state, Asked::Absent | Asked::Current)
    }

    async fn find(&self) -> Result<(Inventory, Option<Seen>), Failure> {
        let (client, deadline) = (self.site.client, self.site.deadline);
        let mut inventory = Inventory::read(client, deadline).await?;
        if find::await_creation(self.site, &inventory, self.options.vmid).await? {
            inventory = Inventory::read(client, deadline).await?;
        }
        let mut found = self.identify(&inventory)?;
        if let Some(seen) = &found
            && seen.vm.lock.as_deref() == Some("migrate")
        {
            let object = format!("VM {}", seen.vm.vmid);
            // What becomes of it is its own task's business; where the VM is then is ours.
            let moved = migrate::await_task(self.site, &seen.node, seen.vm.vmid, &object).await;
            if !matches!(moved, Ok(false)) {
                inventory = Inventory::read(client, deadline).await?;
                found = self.identify(&inventory)?;
            }
        }
        if found.is_none() {
            let (vmid, name) = (self.options.vmid, self.options.name.as_deref());
            inventory
                .refuse_if_offline(client, vmid, name, deadline)
                .await?;
        }
        if inventory.vms.is_empty() {
            find::may_look(self.site).await?;
        }
        if let Some(seen) = &found {
            self.warn_if_elsewhere(seen.vm.vmid, &seen.node);
        }
        Ok((inventory, found))
    }

    fn identify(&self, inventory: &Inventory) -> Result<Option<Seen>, Failure> {
        let (vmid, name) = (self.options.vmid, self.options.name.as_deref());
        let force = self.options.force;
        let rename = force
            && matches!(
                self.options.state,
                Asked::Present | Asked::Started | Asked::Template
            );
        let templates = match self.options.state {
            Asked::Current | Asked::Template => true,
            Asked::Absent => force,
            _ => false,
        };
        find::identify(inventory, vmid, name, rename, templates).map(|found| found.cloned())
    }

    /// What to call the VM when there is none.
    fn described(&self) -> String {
        match (&self.options.name, self.options.vmid) {
            (Some(name), _) => format!("VM {name}"),
            (None, Some(vmid)) => format!("VM {vmid}"),
            (None, None) => "the VM".into(),
        }
    }

    fn missing(&self) -> Map<String, Value> {
        state::missing(self.options.name.as_deref(), self.options.vmid)
    }

    async fn look(&self) -> Result<Outcome, Failure> {
        Ok(match self.locate().await? {
            Located::There(vm) => {
                let msg = format!("{} on {} is {}", vm.object(), vm.node, vm.status);
                self.described_by_guest(&vm, outcome(false, msg, vm.values(), &[]))
                    .await?
            }
            Located::Missing(_) if self.options.wait_for_address => {
                let msg = format!("{} does not exist, so it has no address", self.described());
                return Err(Failure::new("not_found", msg)
                    .object(self.described())
                    .hint("make it first, with state: started"));
            }
            Located::Missing(_) => outcome(
                false,
                format!("{} does not exist", self.described()),
                self.missing(),
                &[],
            ),
        })
    }

    async fn remove(&self) -> Result<Outcome, Failure> {
        // The list of the whole cluster may not know yet that another VM has been given the same name.
        let Located::There(vm) = self.locate_thoroughly().await? else {
            let msg = format!("{} does not exist", self.described());
            return Ok(outcome(false, msg, self.missing(), &[]));
        };
        self.wanted.guard.check(&vm)?;
        if let Some(refusal) = destroy::refusal(&vm, self.options.force) {
            return Err(refusal);
        }
        if !self.site.task.check_mode {
            destroy::destroy(self.site, &vm).await?;
        }
        self.warn_if_locked(&vm);
        let did = if self.site.task.check_mode {
            "would remove"
        } else {
            "removed"
        };
        let msg = format!("{did} {} from {}", vm.object(), vm.node);
        let before = vm.values();
        let shown = json!({"vmid": vm.vmid, "name": vm.name(), "status": before["status"], "config": before["config"]});
        let diff = Diff::new(shown, json!({})).header(vm.object());
        let values = state::missing(Some(&vm.name()), Some(vm.vmid));
        Ok(outcome(true, msg, values, &["remove"]).diff(diff))
    }

    async fn converge(&self) -> Result<Outcome, Failure> {
        match self.locate().await? {
            Located::There(vm) => {
                self.refuse_existing(&vm)?;
                self.settle(vm, None).await
            }
            Located::Missing(inventory) => self.new_vm(inventory).await,
        }
    }

    /// Refuse a VM that appeared where only a new one is wanted.
    fn refuse_existing(&self, vm: &State) -> Result<(), Failure> {
        if !self.wanted.new {
            return Ok(());
        }
        let object = vm.object();
        let msg =
            format!("{object} appeared meanwhile, made by somebody else; nothing was done to it");
        Err(Failure::new("exists", msg)
            .object(object)
            .hint("run the play again: it decides by what it finds"))
    }

    /// Create the VM, and go on with it as with any other.
    async fn new_vm(&self, inventory: Inventory) -> Result<Outcome, Failure> {
        self.may_create()?;
        self.wanted.guard.check_missing(&self.described())?;
        let source = match &self.options.clone {
            Some(of) => {
                let template = clone::source(&inventory, of)?;
                Some((of, State::of(self.site, &template).await?))
            }
            None => None,
        };
        let plan = match &source {
            Some((_, template)) => clone::plan(self.wanted, template),
            None => plan::create(self.wanted),
        };
        update::refuse(&plan, &self.described())?;
        let from = source.as_ref().map(|(_, template)| template);
        self.refuse_others_disks(&plan, self.options.vmid, from)?;
        rights::check(&plan, self.site.client.caller(), &self.described())?;
        let node = self.options.node.as_deref();
        let node = node.or(source.as_ref().map(|(_, template)| template.node.as_str()));
        let name = self.options.name.as_deref().unwrap_or_default();
        let newcomer = place::Newcomer {
            cluster: &self.cluster(),
            name,
            memory: plan.memory(),
        };
        let needs = Needs::of(&plan);
        let node = place::choose(self.site, &inventory, node, &needs, &newcomer).await?;
        let action = if source.is_some() { "clone" } else { "create" };
        if self.site.task.check_mode {
            return Ok(self.would_create(action, &plan, &node));
        }
        // Two tasks of this controller that want the same VM must not make two.
        let lock = Lock::acquire(
            &format!("name {} {name}", self.cluster()),
            self.site.deadline,
        )
        .await?;
        let (mut inventory, mut found) = self.find().await?;
        if found.is_none() && find::await_orphans(self.site, &inventory, &self.cluster()).await? {
            (inventory, found) = self.find().await?;
        }
        drop(inventory);
        if let Some(seen) = found {
            let vm = State::of(self.site, &seen).await?;
            self.refuse_existing(&vm)?;
            return self.settle(vm, None).await;
        }
        let request = match &source {
            Some((of, template)) => {
                let params = clone::params(of, template, name, &node, self.wanted);
                Request::Clone(template, params)
            }
            None => Request::New(&plan),
        };
        let creation = Creation {
            node: &node,
            vmid: self.options.vmid,
            range: self.range,
            request,
            cluster: &self.cluster(),
            wanted: self.wanted,
        };
        let vmid = create::create(self.site, &creation).await?;
        drop(lock);
        let vm = State::read(self.site, &node, vmid)
            .await
            .map_err(|failure| done(failure, vmid, &node))?;
        self.settle(vm, Some((action, plan)))
            .await
            .map_err(|failure| done(failure, vmid, &node))
    }

    fn may_create(&self) -> Result<(), Failure> {
        let described = self.described();
        let missing = |hint: &str| {
            Failure::new("not_found", format!("{described} does not exist"))
                .object(described.clone())
                .hint(hint)
        };
        match self.options.state {
            Asked::Stopped | Asked::Restarted => {
                Err(missing("create it first with state: present"))
            }
            Asked::Started if !self.wanted.describes_hardware() && self.options.clone.is_none() => {
                Err(missing(
                    "create it first with state: present, or describe its drives, network or memory here",
                ))
            }
            Asked::Present if self.options.wait_for_address && !self.site.task.check_mode => {
                Err(missing(
                    "make it with state: started; with state: present it would be stopped, and wait_for_address in vain",
                ))
            }
            _ if self.options.name.is_none() => Err(missing("give it a name to create it")),
            _ => Ok(()),
        }
    }

    fn would_create(&self, action: &'static str, plan: &Plan, node: &str) -> Outcome {
        let starts = self.options.state == Asked::Started;
        let mut after = plan.after.clone();
        after.insert(
            "status".into(),
            if starts { "running" } else { "stopped" }.into(),
        );
        let mut actions = vec![action];
        let more = match self.options.state {
            Asked::Started => Some(("start", " and start it")),
            Asked::Template => Some(("template", " and make it a template")),
            _ => None,
        };
        actions.extend(more.map(|(action, _)| action));
        let mut values = self.missing();
        values.insert("node".into(), node.into());
        let msg = format!(
            "would {action} {} on {node}{}",
            self.described(),
            more.map_or("", |(_, words)| words)
        );
        outcome(true, msg, values, &actions)
            .diff(Diff::new(json!({}), after).header(self.described()))
    }

    /// Bring an existing VM to what is described; `created` is how it was just made, and the plan for that.
    async fn settle(
        &self,
        mut vm: State,
        created: Option<(&'static str, Plan)>,
    ) -> Result<Outcome, Failure> {
        let check = self.site.task.check_mode;
        // The tags of a VM that was just made are the ones it shall have.
        let guard = created.is_none().then_some(&self.wanted.guard);
        if let Some(guard) = guard {
            guard.check(&vm)?;
        }
        let was = vm.status.clone();
        let mut plan = update::plan(self.site, self.wanted, &vm).await?;
        update::refuse(&plan, &vm.object())?;
        self.refuse_others_disks(&plan, Some(vm.vmid), Some(&vm))?;
        // A check cannot know whether an earlier task would have started it.
        if self.options.wait_for_address
            && self.options.state == Asked::Present
            && !vm.running()
            && !check
        {
            return Err(agent::not_running(&vm));
        }
        rights::check(&plan, self.site.client.caller(), &vm.object())?;
        let mut actions = Vec::new();
        actions.extend(created.as_ref().map(|(action, _)| *action));
        let convert = self.options.state == Asked::Template && !vm.is_template();
        if convert {
            template::may_convert(&vm)?;
        }
        let due = match &self.options.node {
            Some(node) if self.migrates() => migrate::due(self.site, &vm, node).await?,
            _ => None,
        };
        if let Some(due) = &due {
            actions.push("migrate");
            if !check {
                vm = migrate::carry_out(self.site, &vm, due).await?;
                let planned = update::plan(self.site, self.wanted, &vm).await;
                plan = planned.map_err(|failure| done(failure, vm.vmid, &vm.node))?;
            }
        }
        if !plan.is_empty() {
            actions.push("change");
            if check {
                let node = due.as_ref().map_or(&vm.node, |due| &due.to);
                precheck::check(self.site, node, &Needs::of(&plan)).await?;
            } else {
                let (vmid, node) = (vm.vmid, vm.node.clone());
                let updated = update::apply(self.site, self.wanted, guard, vm, plan.clone()).await;
                vm = updated.map_err(|f| done_if(due.is_some(), f, vmid, &node))?;
            }
        }
        let power = power_plan(
            self.options.state,
            vm.running(),
            self.options.restart && !vm.pending.is_empty(),
        );
        if let Some(power) = power {
            actions.push(match power {
                Power::Start => "start",
                Power::Shutdown => "shut down",
                Power::Restart => "restart",
            });
            if !check {
                let (vmid, node) = (vm.vmid, vm.node.clone());
                let changed = actions.len() > 1;
                let switched = self.switch(vm, power).await;
                vm = switched.map_err(|f| done_if(changed, f, vmid, &node))?;
            }
        }
        if convert {
            actions.push("template");
            if !check {
                let (vmid, node) = (vm.vmid, vm.node.clone());
                let changed = actions.len() > 1;
                let converted = template::convert(self.site, vm).await;
                vm = converted.map_err(|f| done_if(changed, f, vmid, &node))?;
            }
        }
        let will_be = match power {
            Some(Power::Start | Power::Restart) => "running",
            Some(Power::Shutdown) => "stopped",
            None => was.as_str(),
        };
        let changed = !actions.is_empty();
        if changed {
            self.warn_if_locked(&vm);
        }
        let msg = message(&vm, check, &actions, &plan, due.as_ref());
        let created = created.map(|(_, plan)| plan);
        if let Some(due) = due {
            plan.before.insert("node".into(), due.from.into());
            plan.after.insert("node".into(), due.to.into());
        }
        if self.options.state == Asked::Template {
            plan.before.insert("template".into(), (!convert).into());
            plan.after.insert("template".into(), true.into());
        }
        let diff = difference(&vm, created, plan, &was, will_be);
        let result = outcome(changed, msg, vm.values(), &actions).diff(diff);
        // The agent of a guest that was started a moment ago cannot be up, unless it is waited for.
        if check || (power.is_some() && !self.options.wait_for_address) {
            return Ok(result);
        }
        let described = self.described_by_guest(&vm, result).await;
        described.map_err(|f| done_if(changed, f, vm.vmid, &vm.node))
    }

    /// The result with what the guest's agent says, if that is asked for and it says anything.
    async fn described_by_guest(&self, vm: &State, result: Outcome) -> Result<Outcome, Failure> {
        let facts = if self.options.wait_for_address {
            Some(agent::with_address(self.site, vm).await?)
        } else if self.options.guest_facts {
            agent::facts(self.site, vm).await
        } else {
            None
        };
        Ok(match facts {
            Some(facts) => result.with("guest_agent", facts),
            None => result,
        })
    }

    async fn switch(&self, vm: State, power: Power) -> Result<State, Failure> {
        match power {
            Power::Start => power::start(self.site, &vm).await?,
            Power::Shutdown => power::shutdown(self.site, &vm, self.options.force).await?,
            Power::Restart => {
                power::shutdown(self.site, &vm, self.options.force).await?;
                power::start(self.site, &vm)
                    .await
                    .map_err(|failure| done(failure, vm.vmid, &vm.node))?;
            }
        }
        State::read(self.site, &vm.node, vm.vmid).await
    }
}

/// What the state asked for means for a VM that runs or not, and whose pending changes shall be brought into effect.
fn power_plan(asked: Asked, running: bool, renew: bool) -> Option<Power> {
    match (asked, running) {
        (Asked::Started | Asked::Restarted, false) => Some(Power::Start),
        (Asked::Restarted, true) => Some(Power::Restart),
        (Asked::Present | Asked::Started, true) if renew => Some(Power::Restart),
        (Asked::Stopped, true) => Some(Power::Shutdown),
        _ => None,
    }
}

fn message(
    vm: &State,
    check: bool,
    actions: &[&str],
    plan: &Plan,
    due: Option<&migrate::Move>,
) -> String {
    let object = format!("{} on {}", vm.object(), vm.node);
    if actions.is_empty() {
        return format!("{object} is as described");
    }
    let said: Vec<String> = actions
        .iter()
        .map(|action| match (*action, check) {
            ("migrate", true) => format!("migrate to {}", due.map_or("", |due| &due.to)),
            ("migrate", false) => format!("migrated from {}", due.map_or("", |due| &due.from)),
            ("change", true) => format!("change {}", plan.changed_names().join(", ")),
            ("change", false) => format!("changed {}", plan.changed_names().join(", ")),
            ("template", true) => "make it a template".into(),
            ("template", false) => "made it a template".into(),
            ("shut down", _) | (_, true) => (*action).to_owned(),
            (verb, false) => format!("{}ed", verb.trim_end_matches('e')),
        })
        .collect();
    format!(
        "{object}: {}{}",
        if check { "would " } else { "" },
        said.join("; ")
    )
}

fn difference(vm: &State, created: Option<Plan>, plan: Plan, was: &str, will_be: &str) -> Diff {
    let made = created.is_some();
    let (mut before, mut after) = match created {
        Some(made) => (
            Map::new(),
            made.after.into_iter().chain(plan.after).collect(),
        ),
        None => (plan.before, plan.after),
    };
    if !made && (!before.is_empty() || was != will_be) {
        before.insert("status".into(), was.into());
    }
    after.insert("status".into(), will_be.into());
    if before.is_empty() && was == will_be && after.len() == 1 {
        after.clear();
    }
    Diff::new(before, after).header(vm.object())
}

fn outcome(changed: bool, msg: String, values: Map<String, Value>, actions: &[&str]) -> Outcome {
    let mut outcome = if changed {
        Outcome::changed(msg)
    } else {
        Outcome::unchanged(msg)
    };
    outcome.values = values;
    outcome.with("actions", actions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_follows_the_state_asked_for() {
        for (asked, running, renew, expected) in [
            (Asked::Present, false, false, None),
            (Asked::Present, true, false, None),
            (Asked::Present, true, true, Some(Power::Restart)),
            (Asked::Started, false, false, Some(Power::Start)),
            (Asked::Started, true, false, None),
            (Asked::Started, true, true, Some(Power::Restart)),
            (Asked::Stopped, true, true, Some(Power::Shutdown)),
            (Asked::Stopped, false, false, None),
            (Asked::Restarted, true, false, Some(Power::Restart)),
            (Asked::Restarted, false, false, Some(Power::Start)),
            (Asked::Template, false, true, None),
        ] {
            assert_eq!(
                power_plan(asked, running, renew),
                expected,
                "{asked:?} {running} {renew}"
            );
        }
    }
}
