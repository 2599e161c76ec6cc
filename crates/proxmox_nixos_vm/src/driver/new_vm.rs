//! A VM that does not exist: whether it may be made, where, and from what.

use ansible_module::{Diff, Failure, Outcome};
use pve_module::{Inventory, Lock};
use serde_json::json;

use crate::apply::create::{self, Created, Creation, Request};
use crate::apply::{clone, update};
use crate::cluster::creation_log::CreationLog;
use crate::cluster::placement;
use crate::context::{Context, done};
use crate::driver::converge::Next;
use crate::driver::report::outcome;
use crate::driver::{Driver, Wish};
use crate::error::Error;
use crate::options::{Clone, State as Target};
use crate::plan::{self, Plan};
use crate::precheck::requirements::Needs;
use crate::precheck::{hardware, privileges, tags};
use crate::state::State;

impl Driver<'_> {
    pub(super) fn may_create(&self) -> Result<(), Error> {
        let missing = |hint| Error::NotFound {
            object: self.described(),
            consequence: "",
            hint,
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

    /// Create the VM.
    pub(super) async fn new_vm(
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
        let mut plan = match &source {
            Some((_, template)) => clone::plan(self.desired, template),
            None => plan::create(self.desired),
        };
        let object = self.described();
        let ha = self.plan_ha(None, &mut plan).await?;
        hardware::check(self.context, &plan, None, &object)?;
        update::refuse(&plan, &object)?;
        let from = source.as_ref().map(|(_, template)| template);
        if !self.options.force {
            hardware::refuse_disks_of_others(&plan, self.options.vmid, from, &object)?;
        }
        privileges::check(&plan, context.client.caller(), &object)?;
        tags::check(context, &mut plan, &object).await?;
        let node = self.options.node.as_deref();
        let node = node.or(source.as_ref().map(|(_, template)| template.node.as_str()));
        let name = self.options.name.as_deref().unwrap_or_default();
        let cluster = self.cluster();
        let newcomer = self.newcomer(&cluster, &plan, placement::MADE_NOW);
        let needs = Needs::of(&plan);
        let node = placement::choose(context, inventory, node, &needs, &newcomer).await?;
        let action = if source.is_some() { "clone" } else { "create" };
        if context.task.check_mode {
            if let Some(ha) = &ha {
                ha.show(&mut plan);
                self.warn_of_waiting(ha);
            }
            let changes_ha = ha.is_some_and(|ha| ha.is_due());
            let outcome = self.would_create(action, &plan, &node, changes_ha);
            return Ok(Next::WouldCreate(outcome));
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
            cluster: &cluster,
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

    fn newcomer<'b>(&'b self, cluster: &'b str, plan: &Plan, hold: u64) -> placement::Newcomer<'b> {
        placement::Newcomer {
            cluster,
            name: self.options.name.as_deref().unwrap_or_default(),
            memory: plan.memory(),
            nodes: self.options.nodes.as_deref().unwrap_or_default(),
            apart_from: self.options.apart_from.as_deref().unwrap_or_default(),
            hold,
        }
    }

    /// Choose a node for the VM, which is made later.
    pub(super) async fn place(&self, wish: &Wish<'_>) -> Result<String, Failure> {
        let client = self.context.client;
        let inventory = Inventory::list(client, self.context.deadline).await?;
        let plan = plan::create(self.desired);
        let cluster = self.cluster();
        let newcomer = self.newcomer(&cluster, &plan, wish.hold.as_secs());
        let mut needs = Needs::of(&plan);
        if let Some(storage) = wish.iso_storage {
            needs.file_storage(storage, "iso");
        }
        if let Some(storage) = wish.import_storage {
            needs.file_storage(storage, "import");
        }
        if let Some(node) = wish.before.filter(|node| newcomer.may_come_to(node)) {
            let kept =
                placement::choose(self.context, &inventory, Some(node), &needs, &newcomer).await;
            if let Ok(node) = kept {
                return Ok(node);
            }
        }
        let node = self.options.node.as_deref();
        placement::choose(self.context, &inventory, node, &needs, &newcomer).await
    }

    fn would_create(
        &self,
        action: &'static str,
        plan: &Plan,
        node: &str,
        changes_ha: bool,
    ) -> Outcome {
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
        actions.extend(changes_ha.then_some("ha"));
        let mut values = self.missing();
        values.insert("node".into(), node.into());
        let msg = format!(
            "would {action} {} on {node}{}{}",
            self.described(),
            more.map_or("", |(_, words)| words),
            if changes_ha { "; change ha" } else { "" }
        );
        outcome(true, msg, values, &actions)
            .diff(Diff::new(json!({}), after).header(self.described()))
    }
}
