//! `state: current`: report the VM and change nothing.

use ansible_module::{Failure, FailureKind, Outcome};

use crate::driver::Driver;
use crate::driver::report::outcome;

impl Driver<'_> {
    pub(super) async fn report_current(&self) -> Result<Outcome, Failure> {
        Ok(match self.locate().await? {
            Some(vm) => {
                let msg = format!("{} on {} is {}", vm.object(), vm.node, vm.status);
                self.described_by_guest(&vm, outcome(false, msg, vm.values(), &[]))
                    .await?
            }
            None if self.options.wait_for_address => {
                let msg = format!("{} does not exist, so it has no address", self.described());
                return Err(Failure::new(FailureKind::NotFound, msg)
                    .object(self.described())
                    .hint("make it first, with state: started"));
            }
            None => outcome(
                false,
                format!("{} does not exist", self.described()),
                self.missing(),
                &[],
            ),
        })
    }
}
