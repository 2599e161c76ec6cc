//! Step 3: the VM is as described. Before the end of the installation it has its installer and its seed; afterwards only what the user
//! set is converged.

mod adopt;
mod again;
mod create;
mod finished;

use ansible_module::{Failure, Outcome};
use pve_module::record::Phase;
use serde_json::Value;

use crate::context::Context;
use crate::facts::Decision;
use crate::keys;
use crate::known_hosts;
use crate::options::Options;
use crate::state::{State, address};
use crate::steps::{expect, out_of_turn, reinstall, run as this_run};
use crate::store::Installation;

use adopt::adopt;
pub use again::again;
use create::create;
pub use finished::finished;

/// Converge the machine.
///
/// # Errors
/// A decision against it, and those of the modules that are called.
pub async fn run(context: &Context<'_>, mut state: State) -> Result<Outcome, Failure> {
    let decision = state.decide(context).await?;
    match &decision {
        Decision::Create => create(context, &state).await,
        Decision::Install(record) => again(context, &state, record).await,
        Decision::Reinstall(record) => reinstall::run(context, &state, record).await,
        Decision::Converge(record) => {
            finished(context, &state, record, context.task.check_mode).await
        }
        Decision::Adopt => adopt(context, &state, context.task.check_mode).await,
        Decision::Finalize(_) => Ok(Outcome::unchanged(
            "the installation has ended; the step finalize converges the VM",
        )),
        Decision::Ask => Err(out_of_turn(&state, &decision, "it was to be converged")),
    }
}

/// The facts, for later plays, of a machine that is not finished yet.
pub(super) fn facts(
    context: &Context<'_>,
    vmid: u32,
    node: &str,
    installation: &Installation,
) -> Value {
    let address = context.settings().given_address();
    super::decide::published(
        context,
        vmid,
        node,
        address,
        &keys::installed(installation),
        None,
    )
}

/// The seed of this installation, on the VM with this number.
pub(super) async fn attach_seed(
    context: &Context<'_>,
    installation: &Installation,
    vmid: u32,
    node: &str,
    check: bool,
) -> Result<Outcome, Failure> {
    let settings = context.settings();
    let client = installation
        .read(&format!("{}.pub", keys::CLIENT))
        .unwrap_or_default();
    let mut keys = settings.authorized_keys.clone();
    keys.push(client);
    let args = settings.seed(&keys, &installation.path(keys::INSTALLER));
    let phases = [
        Phase::Creating,
        Phase::Provisioning,
        Phase::Reinstalling,
        Phase::Installing,
    ];
    let guard = expect(this_run(context)?, &phases);
    context.drive(args, vmid, node, Some(&guard), check).await
}

/// The names of the machine in `known_hosts`. An address from DHCP may change; ssh finds the key by the inventory's name too, as
/// `HostKeyAlias`.
pub fn names(options: &Options, address: Option<String>) -> Option<Vec<String>> {
    let settings = &options.settings;
    let mut names: Vec<String> = address
        .map(|address| known_hosts::name(&address, settings.ssh_port))
        .into_iter()
        .collect();
    if settings.ip.as_deref() == Some("dhcp") {
        names.push(options.host.clone());
    }
    (!names.is_empty()).then_some(names)
}

/// The address of a finished machine that runs, if it is known.
///
/// # Errors
/// Those of `wait_for_address`.
pub async fn address_of(context: &Context<'_>, state: &State) -> Result<Option<String>, Failure> {
    let running = state.facts.vm.as_ref().is_some_and(|vm| vm.running);
    if context.settings().asks_for_address() && !running {
        return Ok(None);
    }
    address(context, state.vmid(), &context.boot_deadline())
        .await
        .map(Some)
}
