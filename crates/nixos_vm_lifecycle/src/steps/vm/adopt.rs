//! A VM that somebody else made, and the user asked to manage.

use ansible_module::{Failure, Outcome};
use proxmox_nixos_vm::ownership::Ownership;
use pve_module::record::{Identity, Phase, Record};
use serde_json::Value;

use crate::context::Context;
use crate::error::StepError;
use crate::facts::Recorded;
use crate::kept;
use crate::state::State;
use crate::steps::published::unfinished;
use crate::steps::run as this_run;

/// A VM that somebody else made, and the user asked to manage: what the user set is converged, notes and tags are added to, and a
/// record is written, so that nothing is ever installed onto it.
pub async fn adopt(context: &Context<'_>, state: &State, check: bool) -> Result<Outcome, Failure> {
    let run = this_run(context)?;
    let vmid = state.vmid();
    let config = |key: &str| state.vm.as_ref()?.get("config")?.get(key)?.as_str();
    let identity = Identity::of(config("smbios1"), config("vmgenid"));
    let Some(uuid) = identity.uuid else {
        return Err(StepError::NoUuid { vmid }.into());
    };
    let record = Record {
        installation: run.installation.clone(),
        host: context.options.host.clone(),
        vmid,
        uuid,
        generation: identity.generation,
        phase: Phase::Adopted,
        run: run.id.clone(),
        disk: None,
        drives: None,
        installer: None,
        installer_key: None,
        // Of a machine that another inventory host had, its key stays known.
        host_key: match state.facts.vm.as_ref().map(|vm| &vm.record) {
            Some(Recorded::Ours(record) | Recorded::RolledBack(record)) => record.host_key.clone(),
            _ => None,
        },
        image: None,
        template: None,
        reinstall: None,
    };
    let mut args = context
        .settings()
        .finished(Phase::Adopted, |key| config(key).is_some());
    args.insert("vmid".into(), vmid.into());
    args.shift_remove("name");
    // Notes are added to, once.
    if let Some(given) = args
        .get("description")
        .and_then(Value::as_str)
        .map(str::to_owned)
    {
        let there = pve_module::record::without_record(state.notes());
        let text = match there.contains(given.trim()) {
            true => there,
            false => format!("{there}\n\n{given}").trim().to_owned(),
        };
        args.insert("description".into(), text.into());
    }
    let installation = record.installation.clone();
    let ownership = Ownership {
        write: Some(record.clone()),
        add_tags: true,
        ..Ownership::default()
    };
    let outcome = context.vm(args, ownership, check).await?;
    if check {
        return Ok(outcome);
    }
    // What this controller kept of an installation on it is over.
    for (old, _) in kept::others(&context.store, &state.cluster, &record) {
        old.forget()?;
    }
    let installation = context.store.installation(&installation);
    let facts = unfinished(context, vmid, &state.node(context), &installation);
    Ok(outcome.fact("facts", facts))
}
