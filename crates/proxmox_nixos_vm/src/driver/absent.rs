//! `state: absent`: remove the VM.

use ansible_module::{Diff, Failure, Outcome};
use serde_json::json;

use crate::apply::destroy;
use crate::cluster::creation_log::CreationLog;
use crate::driver::Driver;
use crate::driver::report::outcome;
use crate::state;

impl Driver<'_> {
    pub(super) async fn remove_vm(&self) -> Result<Outcome, Failure> {
        // The list of the whole cluster may not know yet that another VM has been given the same name.
        let Some(vm) = self.locate_thoroughly().await? else {
            let msg = format!("{} does not exist", self.described());
            return Ok(outcome(false, msg, self.missing(), &[]));
        };
        self.desired.guard.check(&vm)?;
        if let Some(refusal) = destroy::refusal(&vm, self.options.force) {
            return Err(refusal.into());
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
}
