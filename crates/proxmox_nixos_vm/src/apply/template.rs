//! Making a VM a template.

use std::time::Duration;

use ansible_module::Failure;
use pve_client::Params;

use crate::context::{Context, failed};
use crate::error::Error;
use crate::state::State;

/// The pause before the VM is read again after a lost answer.
const LOOK: Duration = Duration::from_millis(500);

/// Refuse to make a running VM a template, which PVE does not do either.
pub fn may_convert(vm: &State) -> Result<(), Error> {
    if !vm.running() {
        return Ok(());
    }
    Err(Error::RunningTemplate {
        object: vm.object(),
        node: vm.node.clone(),
    })
}

/// Make the VM a template. Returns it as it is afterwards.
pub async fn convert(context: &Context<'_>, vm: State) -> Result<State, Failure> {
    let object = vm.object();
    context.report_step("template", &object);
    let path = format!("/nodes/{}/qemu/{}/template", vm.node, vm.vmid);
    loop {
        let watch = context.watcher("template", &object);
        let lost = match context
            .client
            .post_task(&path, &Params::new(), context.deadline, watch)
            .await
        {
            Ok(_) => return State::read(context, &vm.node, vm.vmid).await,
            Err(error) if !error.may_have_happened() && !is_done(&error) => {
                return Err(failed("make a template of", &object)(error));
            }
            Err(error) => error,
        };
        // PVE refuses to do it twice, so it may be asked for again until it is done.
        let now = State::read(context, &vm.node, vm.vmid).await?;
        if now.is_template() {
            return Ok(now);
        }
        if !context.deadline.sleep(LOOK).await {
            return Err(failed("make a template of", &object)(lost));
        }
    }
}

fn is_done(error: &pve_client::Error) -> bool {
    error
        .pve_message()
        .is_some_and(|text| text.contains("convert a template to a template"))
}
