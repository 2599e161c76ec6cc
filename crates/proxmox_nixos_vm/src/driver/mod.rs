//! One task from its options to its result.

use std::collections::BTreeSet;
use std::time::Duration;

use ansible_module::{Diff, Failure, Outcome, Task};
use deadline::Deadline;
use pve_module::{Inventory, Lock, Seen};
use serde_json::{Map, Value, json};

use crate::apply::clone;
use crate::apply::create;
use crate::apply::create::Created;
use crate::apply::create::Creation;
use crate::apply::create::Request;
use crate::apply::destroy;
use crate::apply::migrate;
use crate::apply::power;
use crate::apply::rivals;
use crate::apply::template;
use crate::apply::update;
use crate::cluster::creation_log::CreationLog;
use crate::cluster::creation_progress;
use crate::cluster::identify;
use crate::cluster::locks;
use crate::cluster::placement;
use crate::cluster::survey::Since;
use crate::cluster::survey::Survey;
use crate::cluster::vmid;
use crate::cluster::vmid::VmidRange;
use crate::config::drive;
use crate::config::text;
use crate::context::Context;
use crate::context::done;
use crate::context::done_if;
use crate::context::failed;
use crate::desired;
use crate::desired::Desired;
use crate::guard::ownership::Ownership;
use crate::guest_agent;
use crate::options::Clone;
use crate::options::Options;
use crate::options::State as Target;
use crate::plan;
use crate::plan::Plan;
use crate::precheck::privileges;
use crate::precheck::requirements;
use crate::precheck::requirements::Needs;
use crate::response_cache;
use crate::state;
use crate::state::State;

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
    let desired = Desired::from_options(&options)
        .map_err(|mistakes| Failure::new("invalid_option", mistakes))?
        .owned(ownership);
    let range = options.vmid_range.as_deref().map(VmidRange::parse);
    let range = range
        .transpose()
        .map_err(|mistake| Failure::new("invalid_option", mistake))?;
    let client = options.connection.client()?;
    let deadline = Deadline::after(Duration::from_secs(options.timeout));
    let progress = task.progress(options.progress_path.as_deref());
    let context = Context {
        client: &client,
        deadline: &deadline,
        progress: &progress,
        task: &task,
        cache: None,
    };
    let job = Job {
        context: &context,
        options: &options,
        desired: &desired,
        range,
    };
    let done = match options.state {
        Target::Current => job.look().await,
        Target::Absent => job.remove().await,
        Target::Present
        | Target::Started
        | Target::Stopped
        | Target::Restarted
        | Target::Template => job.converge().await,
    };
    match done {
        Err(failure) => Err(pve_module::explained(&client, &deadline, failure).await),
        done => done,
    }
}

/// What a look for the VM found.
enum Located {
    /// The VM, as it is now.
    There(State),
    /// There is no such VM.
    Missing,
}

/// What to go on with after a look at the cluster.
enum Next {
    /// The VM, which is there.
    Settle(State),
    /// Nothing: the VM would be made so.
    WouldCreate(Outcome),
    /// The VM, which was just made by this plan.
    Created(State, &'static str, Plan),
    /// Another look: something has changed, or had to be waited for.
    LookAgain,
}

/// What is remembered from one look at the cluster to the next.
struct Looks {
    /// The nodes that were up at the first look.
    nodes: Vec<String>,
    /// VMs that PVE was making then, for whatever task.
    making: BTreeSet<u32>,
    /// Those of them that will never be complete.
    cut_off: BTreeSet<u32>,
    /// When the last look may have been, at the earliest.
    since: Since,
    /// Whether a migration of the VM was waited for.
    migrated: bool,
    /// Whether the first look showed several VMs of that name, none of which is new then.
    ambiguous: bool,
    /// A VM of that name that another controller made just now, and that may be about to give way.
    unsettled: Option<u32>,
    /// Until when several young VMs of that name are waited for.
    patience: Deadline,
}

/// For how long two VMs of one name, of which one is new, are given time to become one: two controllers have made it at once.
const AMBIGUOUS: Duration = Duration::from_secs(30);
/// How old the list may be, in milliseconds, in which a VM is looked for before it is made.
const RECENT: u64 = 2000;
/// The pause between two looks at the cluster.
const LOOK: Duration = Duration::from_millis(500);
/// How often a VMID that is taken is looked for before it is somebody else's.
const TAKEN_LOOKS: u32 = 6;
/// How often the VM is made again after it had to give way to one that is gone by now.
const ATTEMPTS: u32 = 5;

struct Job<'a> {
    context: &'a Context<'a>,
    options: &'a Options,
    desired: &'a Desired,
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
        let listed = Inventory::list(self.context.client, self.context.deadline).await?;
        if let Some(vm) = self.certain(&listed).await? {
            return Ok(Located::There(vm));
        }
        self.locate_among(listed).await
    }

    /// Find the VM by a look at every node.
    async fn locate_thoroughly(&self) -> Result<Located, Failure> {
        let listed = Inventory::list(self.context.client, self.context.deadline).await?;
        self.locate_among(listed).await
    }

    async fn locate_among(&self, listed: Inventory) -> Result<Located, Failure> {
        Ok(match self.find(listed).await? {
            Some(seen) => {
                Located::There(State::read(self.context, &seen.node, seen.vm.vmid).await?)
            }
            None => Located::Missing,
        })
    }

    /// The VM that the list of the whole cluster shows, if it is an ordinary one and as that list says.
    async fn certain(&self, listed: &Inventory) -> Result<Option<State>, Failure> {
        let (vmid, name) = (self.options.vmid, self.options.name.as_deref());
        let Some(seen) = listed.certain(vmid, name) else {
            return Ok(None);
        };
        // Whatever goes wrong here is told by the thorough look.
        let Ok(vm) = State::read(self.context, &seen.node, seen.vm.vmid).await else {
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
            self.context.task.warn(format!(
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

    /// Refuse IDE drives that the machine does not have, and warn about firmware that forgets its settings.
    fn refuse_or_warn_about_hardware(
        &self,
        plan: &Plan,
        vm: Option<&State>,
    ) -> Result<(), Failure> {
        let have = vm.map(|vm| &vm.config);
        let value = |key: &str| {
            let before = have.and_then(|have| have.get(key));
            let before = before.filter(|_| !plan.delete.contains(key));
            plan.set.get(key).or(before).map(String::as_str)
        };
        let kept = have.into_iter().flat_map(|have| have.keys());
        let drives = plan
            .set
            .keys()
            .chain(kept)
            .filter(|key| !plan.delete.contains(*key));
        let changes = |key: &str| plan.set.contains_key(key);
        for key in drives.filter(|key| changes(key) || changes("machine") || changes("arch")) {
            if let Some(why) = desired::not_on_machine(key, value("machine"), value("arch")) {
                let object = self.described();
                return Err(
                    Failure::new("refused", format!("{object}: {key}: {why}")).object(object)
                );
            }
        }
        let forgets = value("bios") == Some("ovmf") && value("efidisk0").is_none();
        if forgets && (vm.is_none() || changes("bios") || plan.delete.contains("efidisk0")) {
            self.context.task.warn(format!(
                "{} has the firmware ovmf and no efidisk0: it forgets its boot entries with every stop; set for example \
                 efidisk0: {{storage: STORAGE, efitype: 4m}}",
                self.described()
            ));
        }
        Ok(())
    }

    /// Check mode cannot know whether a lock that a run would wait for will go.
    fn warn_if_locked(&self, vm: &State) {
        if let Some(lock) = vm.config.get("lock")
            && self.context.task.check_mode
        {
            self.context.task.warn(format!(
                "{} is locked ({lock}); a run waits for that to end",
                vm.object()
            ));
        }
    }

    /// Whether a VM on another node is to be migrated.
    fn migrates(&self) -> bool {
        self.options.migrate && !matches!(self.options.state, Target::Absent | Target::Current)
    }

    async fn find(&self, listed: Inventory) -> Result<Option<Seen>, Failure> {
        let (client, deadline) = (self.context.client, self.context.deadline);
        let (vmid, name) = (self.options.vmid, self.options.name.as_deref());
        let mut inventory = listed.refreshed(client, deadline).await?;
        if creation_progress::await_creation(self.context, &inventory, vmid).await? {
            inventory = Inventory::read(client, deadline).await?;
        }
        let mut found = self.identify(&inventory)?;
        if let Some(seen) = &found
            && self.await_migration(seen).await
        {
            inventory = Inventory::read(client, deadline).await?;
            found = self.identify(&inventory)?;
        }
        match &found {
            Some(seen) => self.warn_if_elsewhere(seen.vm.vmid, &seen.node),
            None => inventory.refuse_if_offline(vmid, name)?,
        }
        if inventory.vms.is_empty() {
            identify::may_look(self.context).await?;
        }
        Ok(found)
    }

    /// Wait for a migration of the VM. Returns whether it may be elsewhere now.
    async fn await_migration(&self, seen: &Seen) -> bool {
        if seen.vm.lock.as_deref() != Some("migrate") {
            return false;
        }
        let object = format!("VM {}", seen.vm.vmid);
        // What becomes of it is its own task's business; where the VM is then is ours.
        let moved = migrate::await_task(self.context, &seen.node, seen.vm.vmid, &object).await;
        !matches!(moved, Ok(false))
    }

    fn identify(&self, inventory: &Inventory) -> Result<Option<Seen>, Failure> {
        let (vmid, name) = (self.options.vmid, self.options.name.as_deref());
        let force = self.options.force;
        let rename = self.desired.rename
            || force
                && matches!(
                    self.options.state,
                    Target::Present | Target::Started | Target::Template
                );
        let templates = match self.options.state {
            Target::Current | Target::Template => true,
            Target::Absent => force,
            _ => false,
        };
        identify::identify(inventory, vmid, name, rename, templates).map(|found| found.cloned())
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
            Located::Missing if self.options.wait_for_address => {
                let msg = format!("{} does not exist, so it has no address", self.described());
                return Err(Failure::new("not_found", msg)
                    .object(self.described())
                    .hint("make it first, with state: started"));
            }
            Located::Missing => outcome(
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
        self.desired.guard.check(&vm)?;
        if let Some(refusal) = destroy::refusal(&vm, self.options.force) {
            return Err(refusal);
        }
        if !self.context.task.check_mode {
            destroy::destroy(self.context, &vm).await?;
            let log = CreationLog::new(&self.cluster(), self.context.client.caller());
            log.removed(self.context, vm.vmid, &vm.name()).await?;
        }
        self.warn_if_locked(&vm);
        let did = if self.context.task.check_mode {
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
        let log = CreationLog::new(&self.cluster(), self.context.client.caller());
        let listed = Inventory::list(self.context.client, self.context.deadline).await?;
        if let Some(vm) = self.certain(&listed).await? {
            self.refuse_existing(&vm)?;
            return self.settle(vm, None).await;
        }
        let mut looks = Looks {
            making: creation_progress::in_the_making(&listed),
            ambiguous: self
                .options
                .name
                .as_deref()
                .is_some_and(|name| listed.by_name(name).len() > 1),
            nodes: listed.online,
            cut_off: BTreeSet::new(),
            since: Since::at(log.cache.began),
            migrated: false,
            unsettled: None,
            patience: self.context.deadline.shorter(AMBIGUOUS),
        };
        // Two tasks of this controller that want the same VM must not make two.
        let own = match &self.options.name {
            Some(name) => {
                let name = locks::name(&self.cluster(), name);
                Some(Lock::acquire(&name, self.context.deadline).await?)
            }
            None => None,
        };
        let context = Context {
            cache: Some(&log.cache),
            ..*self.context
        };
        for _ in 0..ATTEMPTS {
            let next = loop {
                match self.look_and_make(&context, &log, &mut looks).await? {
                    Next::LookAgain => looks.since = Since::now(),
                    next => break next,
                }
            };
            let (vm, action, plan) = match next {
                Next::WouldCreate(outcome) => return Ok(outcome),
                Next::Settle(vm) => {
                    drop(own);
                    self.refuse_existing(&vm)?;
                    return self.settle(vm, None).await;
                }
                Next::Created(vm, action, plan) => (vm, action, plan),
                Next::LookAgain => continue,
            };
            let (vmid, node) = (vm.vmid, vm.node.clone());
            let stays = self
                .outlasts_rivals(&context, &log, &looks, &vm, &plan)
                .await;
            if stays.map_err(|failure| done(failure, vmid, &node))? {
                drop(own);
                return self
                    .settle(vm, Some((action, plan)))
                    .await
                    .map_err(|failure| done(failure, vmid, &node));
            }
            looks.since = Since::now();
        }
        let msg = format!(
            "{} was made and removed again {ATTEMPTS} times, because other tasks made it too",
            self.described()
        );
        Err(Failure::new("conflict", msg)
            .object(self.described())
            .hint("let one controller at a time make it"))
    }

    /// Refuse a VM that appeared where only a new one is wanted.
    fn refuse_existing(&self, vm: &State) -> Result<(), Failure> {
        if !self.desired.new {
            return Ok(());
        }
        let object = vm.object();
        let msg =
            format!("{object} appeared meanwhile, made by somebody else; nothing was done to it");
        Err(Failure::new("exists", msg)
            .object(object)
            .hint("run the play again: it decides by what it finds"))
    }

    /// Look for the VM, and make it if there is none. Tasks of this controller do so in turn, so that they need not look one by one.
    async fn look_and_make(
        &self,
        context: &Context<'_>,
        log: &CreationLog,
        looks: &mut Looks,
    ) -> Result<Next, Failure> {
        let (vmid, name) = (self.options.vmid, self.options.name.as_deref());
        let turn = Lock::acquire(&locks::turn(&self.cluster()), context.deadline).await?;
        // What another controller makes meanwhile is found afterwards.
        let recent = response_cache::now().saturating_sub(RECENT);
        looks.since.list = looks.since.list.max(recent);
        let survey = Survey::read(context, log, &looks.nodes, looks.since, name).await?;
        let inventory = &survey.inventory;
        if vmid
            .and_then(|vmid| inventory.by_vmid(vmid))
            .is_some_and(creation_progress::is_in_the_making)
        {
            // It has no name yet, and nobody else has to wait for it.
            drop(turn);
            creation_progress::await_creation(context, inventory, vmid).await?;
            return Ok(Next::LookAgain);
        }
        let found = match self.identify(inventory) {
            Err(failure)
                if failure.kind == "ambiguous" && (!looks.ambiguous || is_young(&survey, name)) =>
            {
                drop(turn);
                if looks.patience.sleep(LOOK).await {
                    return Ok(Next::LookAgain);
                }
                return Err(failure);
            }
            found => found?,
        };
        let Some(turn) = self
            .waits(context, log, looks, inventory, found.as_ref(), turn)
            .await?
        else {
            return Ok(Next::LookAgain);
        };
        if let Some(seen) = found {
            drop(turn);
            // Its task looks for others of its name as soon as it is complete.
            let found = Some(seen.vm.vmid);
            if vmid.is_none()
                && looks.unsettled != found
                && survey.young.contains(&seen.vm.vmid)
                && looks.patience.sleep(LOOK).await
            {
                looks.unsettled = found;
                return Ok(Next::LookAgain);
            }
            if !looks.migrated && self.await_migration(&seen).await {
                looks.migrated = true;
                return Ok(Next::LookAgain);
            }
            self.warn_if_elsewhere(seen.vm.vmid, &seen.node);
            return match State::read(self.context, &seen.node, seen.vm.vmid).await {
                // Found by a name that it does not have: its VMID is another VM's by now, or it was renamed.
                Ok(vm)
                    if vmid.is_none()
                        && name.is_some_and(|name| !vm.name().eq_ignore_ascii_case(name))
                        && looks.patience.sleep(LOOK).await =>
                {
                    Ok(Next::LookAgain)
                }
                Ok(vm) => Ok(Next::Settle(vm)),
                // It has gone, or moved, since the list was made.
                Err(failure) if failure.kind == "not_found" => Ok(Next::LookAgain),
                Err(failure) => Err(failure),
            };
        }
        inventory.refuse_if_offline(vmid, name)?;
        if inventory.vms.is_empty() {
            identify::may_look(context).await?;
        }
        self.may_create()?;
        self.desired.guard.check_missing(&self.described())?;
        self.refuse_if_out_of_sight(context, log, inventory).await?;
        self.new_vm(context, log, inventory, turn).await
    }

    /// Wait for VMs in the making that may be the one that is meant. Returns the turn if there are none: nobody else has to wait too.
    async fn waits(
        &self,
        context: &Context<'_>,
        log: &CreationLog,
        looks: &mut Looks,
        inventory: &Inventory,
        found: Option<&Seen>,
        turn: Lock,
    ) -> Result<Option<Lock>, Failure> {
        if found.is_some() {
            return Ok(Some(turn));
        }
        let asked_for = match &self.options.name {
            Some(name) => log.asked_for(context, name).await?,
            None => None,
        };
        let mut turn = Some(turn);
        for seen in inventory
            .vms
            .iter()
            .filter(|seen| creation_progress::is_in_the_making(seen))
        {
            let vmid = seen.vm.vmid;
            let may_be_it = looks.making.contains(&vmid) || asked_for == Some(vmid);
            if !may_be_it
                || looks.cut_off.contains(&vmid)
                || !creation_progress::is_orphan(&self.cluster(), vmid).await
            {
                continue;
            }
            drop(turn.take());
            if creation_progress::await_making(context, seen).await? {
                looks.making.remove(&vmid);
                return Ok(None);
            }
            let lock = seen.vm.lock.as_deref().unwrap_or_default();
            let left = creation_progress::cut_off(&seen.node, vmid, lock);
            let hint = left.hint.unwrap_or_default();
            context.task.warn(format!("{}; {hint}", left.msg));
            looks.cut_off.insert(vmid);
        }
        Ok(turn)
    }

    /// Refuse to make a VM that this controller has made before, and that is there although the token does not see it.
    async fn refuse_if_out_of_sight(
        &self,
        context: &Context<'_>,
        log: &CreationLog,
        inventory: &Inventory,
    ) -> Result<(), Failure> {
        let Some(name) = self.options.name.as_deref() else {
            return Ok(());
        };
        let Some(vmid) = log.asked_for(context, name).await? else {
            return Ok(());
        };
        let meant = self.options.vmid.is_none_or(|desired| desired == vmid);
        // Who sees it knows that it has another name now.
        if meant
            && inventory.by_vmid(vmid).is_none()
            && inventory.refuse_if_offline(Some(vmid), None).is_ok()
            && vmid::is_taken(context, vmid).await?
        {
            let object = format!("VM {vmid}");
            let caller = context.client.caller();
            let msg = format!(
                "{object}: this controller made it as {name}, and it still exists, but {caller} cannot see it"
            );
            return Err(Failure::new("permission_denied", msg).object(object).hint(format!(
                "grant VM.Audit on it again (see `pveum acl list` for an entry on /vms/{vmid}, which replaces what is granted on /vms).                  If {vmid} is another guest by now, set vmid to a free one"
            )));
        }
        log.forget(context, name).await
    }

    /// Create the VM.
    async fn new_vm(
        &self,
        context: &Context<'_>,
        log: &CreationLog,
        inventory: &Inventory,
        turn: Lock,
    ) -> Result<Next, Failure> {
        let source = match self.options.clone.as_ref().map(Clone::of) {
            Some(of) => {
                let template = clone::source(inventory, &of)?;
                let (node, vmid) = (&template.node, template.vm.vmid);
                Some((of, State::read_stopped(context, node, vmid).await?))
            }
            None => None,
        };
        let plan = match &source {
            Some((_, template)) => clone::plan(self.desired, template),
            None => plan::create(self.desired),
        };
        self.refuse_or_warn_about_hardware(&plan, None)?;
        update::refuse(&plan, &self.described())?;
        let from = source.as_ref().map(|(_, template)| template);
        self.refuse_others_disks(&plan, self.options.vmid, from)?;
        privileges::check(&plan, context.client.caller(), &self.described())?;
        let node = self.options.node.as_deref();
        let node = node.or(source.as_ref().map(|(_, template)| template.node.as_str()));
        let name = self.options.name.as_deref().unwrap_or_default();
        let newcomer = placement::Newcomer {
            cluster: &self.cluster(),
            name,
            memory: plan.memory(),
        };
        let needs = Needs::of(&plan);
        let node = placement::choose(context, inventory, node, &needs, &newcomer).await?;
        let action = if source.is_some() { "clone" } else { "create" };
        if context.task.check_mode {
            return Ok(Next::WouldCreate(self.would_create(action, &plan, &node)));
        }
        let request = match &source {
            Some((of, template)) => {
                let params = clone::params(of, template, name, &node, self.desired);
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
            desired: self.desired,
            name,
            log,
        };
        let (vmid, certain) = match create::create(context, &creation, turn).await? {
            Created::Made { vmid, certain } => (vmid, certain),
            Created::Taken(error) => return self.taken(error).await,
        };
        let mut vm = State::read_stopped(context, &node, vmid)
            .await
            .map_err(|failure| done(failure, vmid, &node))?;
        vm.made_here = certain;
        Ok(Next::Created(vm, action, plan))
    }

    /// The VMID that the user gave was taken. Perhaps by another task that makes the same VM, or made it just now.
    async fn taken(&self, error: pve_client::Error) -> Result<Next, Failure> {
        for _ in 0..TAKEN_LOOKS {
            let listed = Inventory::list(self.context.client, self.context.deadline).await?;
            let seen = self.options.vmid.and_then(|vmid| listed.by_vmid(vmid));
            if seen.is_some() {
                return Ok(Next::LookAgain);
            }
            if !self.context.deadline.sleep(LOOK).await {
                break;
            }
        }
        let hint = "the VMID belongs to a container, or to a VM that the token may not see; choose another";
        Err(failed("create", &self.described(), error).hint(hint))
    }

    /// Whether the VM that was just made is the only one of its name, or becomes it.
    async fn outlasts_rivals(
        &self,
        context: &Context<'_>,
        log: &CreationLog,
        looks: &Looks,
        vm: &State,
        plan: &Plan,
    ) -> Result<bool, Failure> {
        let name = vm.name();
        let survey = Survey::read(context, log, &looks.nodes, Since::now(), Some(&name)).await?;
        let named = survey.inventory.by_name(&name);
        let rivals: Vec<&Seen> = named
            .into_iter()
            .filter(|seen| seen.vm.vmid != vm.vmid)
            .collect();
        if rivals.is_empty() {
            return Ok(true);
        }
        let removable = self.options.vmid.is_none() && vm.made_here;
        let stays = rivals::stays(context, vm, plan, &rivals, !removable).await?;
        if !stays {
            log.removed(context, vm.vmid, &name).await?;
        }
        Ok(stays)
    }

    fn may_create(&self) -> Result<(), Failure> {
        let described = self.described();
        let missing = |hint: &str| {
            Failure::new("not_found", format!("{described} does not exist"))
                .object(described.clone())
                .hint(hint)
        };
        match self.options.state {
            Target::Stopped | Target::Restarted => {
                Err(missing("create it first with state: present"))
            }
            Target::Started
                if !self.desired.describes_hardware() && self.options.clone.is_none() =>
            {
                Err(missing(
                    "create it first with state: present, or describe its drives, network or memory here",
                ))
            }
            Target::Present if self.options.wait_for_address && !self.context.task.check_mode => {
                Err(missing(
                    "make it with state: started; with state: present it would be stopped, and wait_for_address in vain",
                ))
            }
            _ if self.options.name.is_none() => Err(missing("give it a name to create it")),
            _ => Ok(()),
        }
    }

    fn would_create(&self, action: &'static str, plan: &Plan, node: &str) -> Outcome {
        let starts = self.options.state == Target::Started;
        let mut after = plan.after.clone();
        after.insert(
            "status".into(),
            if starts { "running" } else { "stopped" }.into(),
        );
        let mut actions = vec![action];
        let more = match self.options.state {
            Target::Started => Some(("start", " and start it")),
            Target::Template => Some(("template", " and make it a template")),
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
        let check = self.context.task.check_mode;
        // The tags of a VM that was just made are the ones it shall have.
        let guard = created.is_none().then_some(&self.desired.guard);
        if let Some(guard) = guard {
            guard.check(&vm)?;
        }
        let was = vm.status.clone();
        let mut plan = update::plan(self.context, self.desired, &vm).await?;
        if created.is_none() {
            self.refuse_or_warn_about_hardware(&plan, Some(&vm))?;
        }
        update::refuse(&plan, &vm.object())?;
        self.refuse_others_disks(&plan, Some(vm.vmid), Some(&vm))?;
        // A check cannot know whether an earlier task would have started it.
        if self.options.wait_for_address
            && self.options.state == Target::Present
            && !vm.running()
            && !check
        {
            return Err(guest_agent::not_running(&vm));
        }
        privileges::check(&plan, self.context.client.caller(), &vm.object())?;
        let mut actions = Vec::new();
        actions.extend(created.as_ref().map(|(action, _)| *action));
        let convert = self.options.state == Target::Template && !vm.is_template();
        if convert {
            template::may_convert(&vm)?;
        }
        let due = match &self.options.node {
            Some(node) if self.migrates() => migrate::due(self.context, &vm, node).await?,
            _ => None,
        };
        if let Some(due) = &due {
            actions.push("migrate");
            if !check {
                vm = migrate::carry_out(self.context, &vm, due).await?;
                let planned = update::plan(self.context, self.desired, &vm).await;
                plan = planned.map_err(|failure| done(failure, vm.vmid, &vm.node))?;
            }
        }
        if !plan.is_empty() {
            actions.push("change");
            if check {
                let node = due.as_ref().map_or(&vm.node, |due| &due.to);
                requirements::check(self.context, node, &Needs::of(&plan)).await?;
            } else {
                let (vmid, node) = (vm.vmid, vm.node.clone());
                let updated =
                    update::apply(self.context, self.desired, guard, vm, plan.clone()).await;
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
                let converted = template::convert(self.context, vm).await;
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
        if self.options.state == Target::Template {
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
            Some(guest_agent::with_address(self.context, vm).await?)
        } else if self.options.guest_facts {
            guest_agent::facts(self.context, vm).await
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
            Power::Start => power::start(self.context, &vm).await?,
            Power::Shutdown => power::shutdown(self.context, &vm, self.options.force).await?,
            Power::Restart => {
                power::shutdown(self.context, &vm, self.options.force).await?;
                power::start(self.context, &vm)
                    .await
                    .map_err(|failure| done(failure, vm.vmid, &vm.node))?;
            }
        }
        State::read(self.context, &vm.node, vm.vmid).await
    }
}

/// Whether one of the VMs of that name is so new that it may be about to give way to another one.
fn is_young(survey: &Survey, name: Option<&str>) -> bool {
    let named = survey.inventory.by_name(name.unwrap_or_default());
    named
        .iter()
        .any(|seen| survey.young.contains(&seen.vm.vmid))
}

/// What the state asked for means for a VM that runs or not, and whose pending changes shall be brought into effect.
fn power_plan(target: Target, running: bool, renew: bool) -> Option<Power> {
    match (target, running) {
        (Target::Started | Target::Restarted, false) => Some(Power::Start),
        (Target::Restarted, true) => Some(Power::Restart),
        (Target::Present | Target::Started, true) if renew => Some(Power::Restart),
        (Target::Stopped, true) => Some(Power::Shutdown),
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
    let waiting: Vec<&str> = vm.pending.iter().map(|line| line.key.as_str()).collect();
    let waiting = match waiting.is_empty() {
        true => String::new(),
        false => format!(
            "; {} will take effect at its next stop and start (restart: true does that)",
            waiting.join(", ")
        ),
    };
    if actions.is_empty() {
        return format!("{object} is as described{waiting}");
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
    // In a check it is what waits already, and may be brought into effect by what would be done.
    let waiting = if check { "" } else { &waiting };
    format!(
        "{object}: {}{}{waiting}",
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
        for (target, running, renew, expected) in [
            (Target::Present, false, false, None),
            (Target::Present, true, false, None),
            (Target::Present, true, true, Some(Power::Restart)),
            (Target::Started, false, false, Some(Power::Start)),
            (Target::Started, true, false, None),
            (Target::Started, true, true, Some(Power::Restart)),
            (Target::Stopped, true, true, Some(Power::Shutdown)),
            (Target::Stopped, false, false, None),
            (Target::Restarted, true, false, Some(Power::Restart)),
            (Target::Restarted, false, false, Some(Power::Start)),
            (Target::Template, false, true, None),
        ] {
            assert_eq!(
                power_plan(target, running, renew),
                expected,
                "{target:?} {running} {renew}"
            );
        }
    }
}
