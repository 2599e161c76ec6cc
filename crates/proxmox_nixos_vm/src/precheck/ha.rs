//! What must hold before HA gets a VM: no installation is under way, and the caller may change HA.

use ansible_module::Failure;
use pve_module::record::{Binding, Identity, Record};

use crate::context::Context;
use crate::desired::Desired;
use crate::error::Error;
use crate::plan::ha::Plan;
use crate::state::State;

/// Refuse to have HA start or stop a VM that is being installed: it would do so in the middle. The record that the task itself writes
/// counts before the one in the notes.
///
/// # Errors
/// [`Error::Installing`].
pub fn refuse_installing(
    plan: &Plan,
    desired: &Desired,
    vm: Option<&State>,
    object: &str,
) -> Result<(), Error> {
    let record = desired.record.clone().or_else(|| found(vm?));
    match record.filter(|record| record.phase.unfinished()) {
        Some(record) if plan.acts => Err(Error::Installing {
            object: object.to_owned(),
            host: record.host,
            phase: record.phase,
        }),
        _ => Ok(()),
    }
}

/// The record in the notes, if it is this VM's.
fn found(vm: &State) -> Option<Record> {
    let text = |key: &str| vm.config.get(key).map(String::as_str);
    let record = Record::find(text("description")?)?;
    let identity = Identity::of(text("smbios1"), text("vmgenid"));
    (record.binding(vm.vmid, &identity) == Binding::Ours).then_some(record)
}

/// Refuse a caller who may not look at HA's resources (`Sys.Audit` on `/`), or not change them (`Sys.Console`): both are named if both
/// are missing. If that cannot be read, PVE says it later.
///
/// # Errors
/// Kind `permission_denied`.
pub async fn privileges(context: &Context<'_>, needed: &[&str]) -> Result<(), Failure> {
    let (client, query) = (context.client, [("path", "/".to_owned())]);
    let answer = client
        .get("/access/permissions", &query, context.deadline)
        .await;
    let Ok(held) = answer else { return Ok(()) };
    let held = held.get("/");
    let lacks = |privilege: &&&str| held.is_none_or(|held| held.get(**privilege).is_none());
    let lacking: Vec<&str> = needed.iter().filter(lacks).copied().collect();
    match lacking.is_empty() {
        true => Ok(()),
        false => {
            let lacking = lacking.join(",");
            Err(pve_module::permission_denied(client, "/", &lacking))
        }
    }
}
