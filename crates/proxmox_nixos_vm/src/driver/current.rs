//! `state: current`: report the VM and change nothing.

use ansible_module::{Failure, Outcome};

use crate::driver::Driver;
use crate::driver::report::outcome;
use crate::error::Error;

impl Driver<'_> {
    pub(super) async fn report_current(&self) -> Result<Outcome, Failure> {
        Ok(match self.locate().await? {
            Some(vm) => {
                let msg = format!("{} on {} is {}", vm.object(), vm.node, vm.status);
                self.described_by_guest(&vm, outcome(false, msg, vm.values(), &[]))
                    .await?
            }
            None if self.options.wait_for_address => {
                let not_found = Error::NotFound {
                    object: self.described(),
                    consequence: ", so it has no address",
                    hint: "make it first, with state: started",
                };
                return Err(not_found.into());
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
