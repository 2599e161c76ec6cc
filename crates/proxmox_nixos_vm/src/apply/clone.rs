//! Beginning a VM as a clone of a template.

use pve_client::Params;
use pve_module::{Inventory, Seen};

use crate::desired::Desired;
use crate::error::Error;
use crate::options::CloneOf;
use crate::plan::{self, Plan};
use crate::state::State;

/// The template that is meant.
///
/// # Errors
/// When there is none, several have the name, or it is an ordinary VM.
pub fn source(inventory: &Inventory, of: &CloneOf) -> Result<Seen, Error> {
    let (object, found) = match (of.vmid, of.name.as_deref().unwrap_or_default()) {
        (Some(vmid), _) => (format!("VM {vmid}"), inventory.by_vmid(vmid)),
        (None, name) => match inventory.by_name(name).as_slice() {
            [] => (format!("VM {name}"), None),
            [one] => (format!("VM {name}"), Some(*one)),
            several => {
                return Err(Error::AmbiguousTemplate {
                    name: name.to_owned(),
                    count: several.len(),
                });
            }
        },
    };
    match found {
        Some(seen) if seen.vm.template => Ok(seen.clone()),
        Some(seen) => Err(Error::NotATemplate {
            object,
            node: seen.node.clone(),
        }),
        None => Err(Error::NoTemplate { object }),
    }
}

/// What must still be done to a clone of the template.
pub fn plan(desired: &Desired, template: &State) -> Plan {
    let mut have = template.config.clone();
    have.retain(|key, _| key != "template" && !key.starts_with("unused"));
    plan::update(desired, &have, false, true)
}

/// The parameters of the call that clones.
pub fn params(of: &CloneOf, template: &State, name: &str, node: &str, desired: &Desired) -> Params {
    let mut params = Params::new()
        .with("name", name)
        .with("full", u8::from(of.full));
    let notes = template.config.get("description").map(String::as_str);
    let notes = desired.guard.with_clone_note(notes);
    for (key, value) in [
        ("storage", of.storage.as_deref()),
        ("format", of.format.as_deref()),
        ("pool", desired.pool.as_deref()),
        ("description", notes.as_deref()),
        ("target", Some(node).filter(|node| *node != template.node)),
    ] {
        if let Some(value) = value {
            params.set(key, value);
        }
    }
    params
}
