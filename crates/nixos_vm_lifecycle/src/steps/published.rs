//! The facts that the role sets for later plays.

use ansible_module::Failure;
use serde_json::{Value, json};

use crate::context::Context;
use crate::keys;
use crate::state::{State, address};
use crate::store::Installation;

/// The facts that the role sets, by the names of its variables.
pub fn published(
    context: &Context<'_>,
    vmid: u32,
    node: &str,
    address: Option<String>,
    host_keys: &[String],
    closure: Option<String>,
) -> Value {
    let dhcp = context.settings().asks_for_address();
    json!({
        "vmid": vmid, "node": node, "address": address, "host_keys": host_keys, "closure": closure.unwrap_or_default(),
        "guest_address": if dhcp { address.clone() } else { None },
    })
}

/// The facts, for later plays, of a machine that is not finished yet.
pub fn unfinished(
    context: &Context<'_>,
    vmid: u32,
    node: &str,
    installation: &Installation,
) -> Value {
    let address = context.settings().given_address();
    published(
        context,
        vmid,
        node,
        address,
        &keys::installed(installation),
        None,
    )
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
