//! Finding the VM that the options describe.

use ansible_module::Failure;
use pve_module::{Inventory, Seen, check_vms_visible};

use crate::apply::migrate;
use crate::cluster::{creation_progress, identify};
use crate::driver::Driver;
use crate::options::State as Target;
use crate::state::State;

impl Driver<'_> {
    /// Find the VM by few requests if that tells it for certain, else by a look at every node.
    pub(super) async fn locate(&self) -> Result<Option<State>, Failure> {
        let listed = Inventory::list(self.context.client, self.context.deadline).await?;
        if let Some(vm) = self.certain(&listed).await? {
            return Ok(Some(vm));
        }
        self.locate_among(listed).await
    }

    /// Find the VM by a look at every node.
    pub(super) async fn locate_thoroughly(&self) -> Result<Option<State>, Failure> {
        let listed = Inventory::list(self.context.client, self.context.deadline).await?;
        self.locate_among(listed).await
    }

    async fn locate_among(&self, listed: Inventory) -> Result<Option<State>, Failure> {
        Ok(match self.find(listed).await? {
            Some(seen) => Some(State::read(self.context, &seen.node, seen.vm.vmid).await?),
            None => None,
        })
    }

    /// The VM that the list of the whole cluster shows, if it is an ordinary one and as that list says.
    pub(super) async fn certain(&self, listed: &Inventory) -> Result<Option<State>, Failure> {
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

    pub(super) fn warn_if_elsewhere(&self, vmid: u32, is_on: &str) {
        if let Some(node) = &self.options.node
            && is_on != node
            && !self.migrates()
        {
            self.context.task.warn(format!(
                "VM {vmid} is on node {is_on} and not on {node}; it is managed where it is"
            ));
        }
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
            check_vms_visible(client, deadline).await?;
        }
        Ok(found)
    }

    /// Wait for a migration of the VM. Returns whether it may be elsewhere now.
    pub(super) async fn await_migration(&self, seen: &Seen) -> bool {
        if seen.vm.lock.as_deref() != Some("migrate") {
            return false;
        }
        let object = format!("VM {}", seen.vm.vmid);
        // What becomes of it is its own task's business; where the VM is then is ours.
        let moved = migrate::await_task(self.context, &seen.node, seen.vm.vmid, &object).await;
        !matches!(moved, Ok(false))
    }

    pub(super) fn identify(&self, inventory: &Inventory) -> Result<Option<Seen>, Failure> {
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
        let found = identify::identify(inventory, vmid, name, rename, templates)?;
        Ok(found.cloned())
    }
}
