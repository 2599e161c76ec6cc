//! A machine whose installation begins, or begins again.

use ansible_module::{Failure, Outcome};
use proxmox_nixos_vm::ownership::Ownership;
use pve_module::record::{Identity, Phase, Record};
use serde_json::Value;

use crate::context::Context;
use crate::error::StepError;
use crate::host_keys;
use crate::keys;
use crate::module_args::Args;
use crate::state::State;
use crate::steps::disk_image;
use crate::steps::published::unfinished;
use crate::steps::seed;
use crate::steps::vm::identity::identify;
use crate::steps::{change, host_key, image, keep, run as this_run, summed};
use crate::store::Installation;

/// A machine whose installation begins, or begins again. It is stopped if it has to boot something else than it did.
///
/// In one piece, since a run that is cut off relies on the order of the writes.
pub async fn again(
    context: &Context<'_>,
    state: &State,
    found: &Record,
) -> Result<Outcome, Failure> {
    let run = this_run(context)?;
    let settings = context.settings();
    let check = context.task.check_mode;
    let (vmid, node) = (state.vmid(), state.node(context));
    let by_image = found.image.is_some();
    let source = match &found.image {
        // The disk is there, and it does not matter what became of the image.
        Some(image) if found.phase != Phase::Creating => image.clone(),
        Some(_) => disk_image::stored(context, &node).await?.volid,
        None => image::volid(context, &node).await?,
    };
    let installation = context.store.installation(&found.installation);
    if !check {
        host_key::host_key_is_here(context, state, found, &installation)?;
        host_keys::make(&installation, &context.options.host, settings)?;
        // That an earlier run ended well says nothing of the disk after this one.
        installation.remove(&["closure".to_owned()])?;
    }
    let phase = match found.phase {
        Phase::Installing | Phase::Reinstalling => found.phase,
        _ => Phase::Provisioning,
    };
    let phases = [found.phase, phase];
    let disk = state
        .facts
        .vm
        .as_ref()
        .and_then(|vm| vm.layout.disk.clone());
    let config = |key: &str| state.vm.as_ref()?.get("config")?.get(key)?.as_str();
    let identity = Identity::of(config("smbios1"), config("vmgenid"));
    let record = Record {
        generation: identity.generation,
        phase,
        run: run.id.clone(),
        disk: found.disk.clone().or(disk),
        drives: Some(settings.drives()),
        ..found.clone()
    };
    let args = match found.reinstall {
        Some(_) => settings.reinstalled(phase, Some(&source)),
        None => settings.vm(phase, Some(&source)),
    };
    let seed_known = installation.read(keys::CLIENT).is_some() || !check;
    let running = state.facts.vm.as_ref().is_some_and(|vm| vm.running);
    // What another run was installing is stopped in any case, lest two of them write to the disk.
    let stops = running
        && (phase == Phase::Installing
            || boots_anew(context, state, &installation, &args, seed_known).await?);
    if stops && by_image {
        // Its system runs, and does not answer: somebody may use it by now.
        let object = state.object().to_owned();
        return Err(StepError::InUse { object, vmid }.into());
    }
    let mut first = Args::new();
    let mut record = record;
    if identity.uuid.as_deref() != Some(found.uuid.as_str()) {
        // A clone whose run was cut off before it got its own UUID.
        first.insert("config".into(), Value::Object(settings.config()));
        identify(&mut first, &mut record);
    }
    // First of all the machine is this run's: any other run stops at its next write.
    let mut outcomes = vec![change(context, vmid, first, &phases, Some(record.clone())).await?];
    let record = Record {
        installer: (!by_image).then(|| source.clone()),
        image: by_image.then(|| source.clone()),
        installer_key: keys::public(&installation, keys::INSTALLER)
            .or(found.installer_key.clone())
            .filter(|_| !by_image),
        host_key: keys::installed(&installation)
            .into_iter()
            .next()
            .or(found.host_key.clone()),
        ..record
    };
    if stops {
        let mut stop = Args::new();
        stop.insert("state".into(), "stopped".into());
        stop.insert("force".into(), true.into());
        outcomes.push(change(context, vmid, stop, &phases, None).await?);
    }
    outcomes.push(change(context, vmid, args, &phases, Some(record.clone())).await?);
    if !check {
        keep(state, &installation, &record)?;
    }
    if seed_known {
        outcomes.push(seed::attach(context, &installation, vmid, &node, check).await?);
    }
    let said: Vec<&str> = outcomes
        .iter()
        .filter(|o| o.changed)
        .map(|o| o.msg.as_str())
        .collect();
    let msg = match said.is_empty() {
        true if by_image => format!("VM {vmid} is as described, with its seed"),
        true => format!("VM {vmid} is as described, with its installer and its seed"),
        false => said.join("; "),
    };
    let facts = unfinished(context, vmid, &node, &installation);
    Ok(summed(msg, &outcomes).fact("facts", facts))
}

/// Whether the VM differs from its description in what it boots from or with, the seed among it.
async fn boots_anew(
    context: &Context<'_>,
    state: &State,
    installation: &Installation,
    args: &Args,
    seed_known: bool,
) -> Result<bool, Failure> {
    let ownership = Ownership {
        add_tags: true,
        rename: true,
        ..Ownership::default()
    };
    let hardware = context.vm(args.clone(), ownership, true).await?;
    if needs_stop(&hardware) || !seed_known {
        return Ok(true);
    }
    let (vmid, node) = (state.vmid(), state.node(context));
    let seed = seed::attach(context, installation, vmid, &node, true).await?;
    Ok(seed.changed)
}

/// Whether a difference is one that the machine boots from or with: everything but notes, tags and the like.
fn needs_stop(outcome: &Outcome) -> bool {
    const AT_ONCE: [&str; 9] = [
        "ha",
        "description",
        "tags",
        "onboot",
        "startup",
        "protection",
        "hookscript",
        "pool",
        "status",
    ];
    let Some(diff) = &outcome.diff else {
        return false;
    };
    let empty = Args::new();
    let before = diff.before.as_object().unwrap_or(&empty);
    let after = diff.after.as_object().unwrap_or(&empty);
    before
        .keys()
        .chain(after.keys())
        .any(|key| !AT_ONCE.contains(&key.as_str()) && before.get(key) != after.get(key))
}
