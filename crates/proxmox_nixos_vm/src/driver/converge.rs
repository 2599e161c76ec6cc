//! Every other state: find the VM, or make it once, however many tasks and controllers do so at the same time.

use std::collections::BTreeSet;
use std::time::Duration;

use ansible_module::{Failure, FailureKind, Outcome};
use deadline::Deadline;
use pve_module::{Inventory, Lock, Seen};

use crate::apply::rivals;
use crate::cluster::creation_log::CreationLog;
use crate::cluster::survey::{Since, Survey};
use crate::cluster::{creation_progress, locks, vmid};
use crate::context::{Context, done, failed};
use crate::driver::Driver;
use crate::error::Error;
use crate::plan::Plan;
use crate::response_cache;
use crate::state::State;

/// The result of one search for the VM.
pub(super) enum Next {
    /// The VM exists.
    Exists(State),
    /// Check mode: the VM does not exist, and this would be done.
    WouldCreate(Outcome),
    /// The VM was just made by this action (`create` or `clone`) and this plan.
    Created(State, &'static str, Plan),
    /// Something has changed, or was waited for: search again.
    SearchAgain,
}

/// What is remembered from one survey of the cluster to the next.
struct Search {
    /// The nodes that were up at the first survey.
    nodes: Vec<String>,
    /// VMs that PVE was making then, for whatever task.
    making: BTreeSet<u32>,
    /// Those of them that will never be complete.
    cut_off: BTreeSet<u32>,
    /// How old the answers may be that the next survey uses.
    since: Since,
    /// Whether a migration of the VM was waited for.
    migrated: bool,
    /// Whether the first survey showed several VMs of that name. None of them is new then.
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
/// The pause between two surveys of the cluster.
const LOOK: Duration = Duration::from_millis(500);
/// How often a VMID that is taken is looked for before it is somebody else's.
const TAKEN_LOOKS: u32 = 6;
/// How often the VM is made again after it had to give way to one that is gone by now.
const ATTEMPTS: u32 = 5;

impl Driver<'_> {
    /// Find the VM or make it, then bring it to what is described.
    ///
    /// # Errors
    /// Kind `conflict` when other tasks made the VM too, again and again; otherwise as the steps report it.
    pub(super) async fn converge(&self) -> Result<Outcome, Failure> {
        let log = CreationLog::new(&self.cluster(), self.context.client.caller());
        let listed = Inventory::list(self.context.client, self.context.deadline).await?;
        if let Some(vm) = self.certain(&listed).await? {
            self.refuse_existing(&vm)?;
            return self.reconcile(vm, None).await;
        }
        let mut search = Search {
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
                match self.find_or_make(&context, &log, &mut search).await? {
                    Next::SearchAgain => search.since = Since::now(),
                    next => break next,
                }
            };
            let (vm, action, plan) = match next {
                Next::WouldCreate(outcome) => return Ok(outcome),
                Next::Exists(vm) => {
                    drop(own);
                    self.refuse_existing(&vm)?;
                    return self.reconcile(vm, None).await;
                }
                Next::Created(vm, action, plan) => (vm, action, plan),
                Next::SearchAgain => continue,
            };
            let (vmid, node) = (vm.vmid, vm.node.clone());
            let stays = self
                .outlasts_rivals(&context, &log, &search, &vm, &plan)
                .await;
            if stays.map_err(|failure| done(failure, vmid, &node))? {
                drop(own);
                return self
                    .reconcile(vm, Some((action, plan)))
                    .await
                    .map_err(|failure| done(failure, vmid, &node));
            }
            search.since = Since::now();
        }
        let made_by_others_too = Error::MadeByOthersToo {
            object: self.described(),
            attempts: ATTEMPTS,
        };
        Err(made_by_others_too.into())
    }

    /// Refuse a VM that appeared where only a new one is wanted.
    fn refuse_existing(&self, vm: &State) -> Result<(), Error> {
        match self.desired.new {
            true => Err(Error::Appeared {
                object: vm.object(),
            }),
            false => Ok(()),
        }
    }

    /// Search for the VM, and make it if there is none. Tasks of this controller do so in turn, so that they share a survey.
    async fn find_or_make(
        &self,
        context: &Context<'_>,
        log: &CreationLog,
        search: &mut Search,
    ) -> Result<Next, Failure> {
        let (vmid, name) = (self.options.vmid, self.options.name.as_deref());
        let turn = Lock::acquire(&locks::turn(&self.cluster()), context.deadline).await?;
        // What another controller makes meanwhile is found afterwards.
        let recent = response_cache::now().saturating_sub(RECENT);
        search.since.list = search.since.list.max(recent);
        let survey = Survey::read(context, log, &search.nodes, search.since, name).await?;
        let inventory = &survey.inventory;
        if vmid
            .and_then(|vmid| inventory.by_vmid(vmid))
            .is_some_and(creation_progress::is_in_the_making)
        {
            // It has no name yet, and nobody else has to wait for it.
            drop(turn);
            creation_progress::await_creation(context, inventory, vmid).await?;
            return Ok(Next::SearchAgain);
        }
        let found = match self.identify(inventory) {
            Err(failure)
                if failure.kind == FailureKind::Ambiguous
                    && (!search.ambiguous || is_young(&survey, name)) =>
            {
                drop(turn);
                if search.patience.sleep(LOOK).await {
                    return Ok(Next::SearchAgain);
                }
                return Err(failure);
            }
            found => found?,
        };
        let Some(turn) = self
            .await_making(context, log, search, inventory, found.as_ref(), turn)
            .await?
        else {
            return Ok(Next::SearchAgain);
        };
        if let Some(seen) = found {
            drop(turn);
            return self.read_found(search, &survey, &seen).await;
        }
        inventory.refuse_if_offline(vmid, name)?;
        if inventory.vms.is_empty() {
            pve_module::check_vms_visible(context.client, context.deadline).await?;
        }
        self.may_create()?;
        self.desired.guard.check_missing(&self.described())?;
        self.refuse_if_out_of_sight(context, log, inventory).await?;
        self.new_vm(context, log, inventory, turn).await
    }

    /// Read the VM that was found, unless its name or place may be about to change.
    async fn read_found(
        &self,
        search: &mut Search,
        survey: &Survey,
        seen: &Seen,
    ) -> Result<Next, Failure> {
        let (vmid, name) = (self.options.vmid, self.options.name.as_deref());
        // Its task looks for others of its name as soon as it is complete.
        let found = Some(seen.vm.vmid);
        if vmid.is_none()
            && search.unsettled != found
            && survey.young.contains(&seen.vm.vmid)
            && search.patience.sleep(LOOK).await
        {
            search.unsettled = found;
            return Ok(Next::SearchAgain);
        }
        if !search.migrated && self.await_migration(seen).await {
            search.migrated = true;
            return Ok(Next::SearchAgain);
        }
        self.warn_if_elsewhere(seen.vm.vmid, &seen.node);
        match State::read(self.context, &seen.node, seen.vm.vmid).await {
            // Found by a name that it does not have: its VMID is another VM's by now, or it was renamed.
            Ok(vm)
                if vmid.is_none()
                    && name.is_some_and(|name| !vm.name().eq_ignore_ascii_case(name))
                    && search.patience.sleep(LOOK).await =>
            {
                Ok(Next::SearchAgain)
            }
            Ok(vm) => Ok(Next::Exists(vm)),
            // It has gone, or moved, since the list was made.
            Err(failure) if failure.kind == FailureKind::NotFound => Ok(Next::SearchAgain),
            Err(failure) => Err(failure),
        }
    }

    /// Wait for VMs in the making that may be the one that is meant. Returns the turn if there are none: nobody else has to wait too.
    async fn await_making(
        &self,
        context: &Context<'_>,
        log: &CreationLog,
        search: &mut Search,
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
            let may_be_it = search.making.contains(&vmid) || asked_for == Some(vmid);
            if !may_be_it
                || search.cut_off.contains(&vmid)
                || !creation_progress::is_orphan(&self.cluster(), vmid).await
            {
                continue;
            }
            drop(turn.take());
            if creation_progress::await_making(context, seen).await? {
                search.making.remove(&vmid);
                return Ok(None);
            }
            let lock = seen.vm.lock.as_deref().unwrap_or_default();
            let left = Error::cut_off(&seen.node, vmid, lock);
            let hint = left.hint().unwrap_or_default();
            context.task.warn(format!("{left}; {hint}"));
            search.cut_off.insert(vmid);
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
            let invisible = Error::Invisible {
                object: format!("VM {vmid}"),
                vmid,
                name: name.to_owned(),
                caller: context.client.caller().to_owned(),
            };
            return Err(invisible.into());
        }
        log.forget(context, name).await
    }

    /// The VMID that the user gave was taken. Perhaps by another task that makes the same VM, or made it just now.
    pub(super) async fn taken(&self, error: pve_client::Error) -> Result<Next, Failure> {
        for _ in 0..TAKEN_LOOKS {
            let listed = Inventory::list(self.context.client, self.context.deadline).await?;
            let seen = self.options.vmid.and_then(|vmid| listed.by_vmid(vmid));
            if seen.is_some() {
                return Ok(Next::SearchAgain);
            }
            if !self.context.deadline.sleep(LOOK).await {
                break;
            }
        }
        let hint = "the VMID belongs to a container, or to a VM that the token may not see; choose another";
        Err(failed("create", &self.described())(error).hint(hint))
    }

    /// Whether the VM that was just made is the only one of its name, or becomes it.
    async fn outlasts_rivals(
        &self,
        context: &Context<'_>,
        log: &CreationLog,
        search: &Search,
        vm: &State,
        plan: &Plan,
    ) -> Result<bool, Failure> {
        let name = vm.name();
        let survey = Survey::read(context, log, &search.nodes, Since::now(), Some(&name)).await?;
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
}

/// Whether one of the VMs of that name is so new that it may be about to give way to another one.
fn is_young(survey: &Survey, name: Option<&str>) -> bool {
    let named = survey.inventory.by_name(name.unwrap_or_default());
    named
        .iter()
        .any(|seen| survey.young.contains(&seen.vm.vmid))
}
