//! A finished machine: only what the user set is converged.

use ansible_module::{Failure, Outcome};
use guest_ssh::PublicKey;
use proxmox_nixos_vm::ownership::Ownership;
use pve_module::record::{Phase, Record};
use serde_json::Value;

use crate::context::Context;
use crate::kept;
use crate::keys;
use crate::known_hosts;
use crate::options::Run;
use crate::reinstall::counted;
use crate::state::State;
use crate::steps::{expect, host_key, keep, summed};

/// A finished machine.
///
/// # Errors
/// Those of `proxmox_nixos_vm` and `cloudinit_drive`.
pub async fn finished(
    context: &Context<'_>,
    state: &State,
    record: &Record,
    check: bool,
) -> Result<Outcome, Failure> {
    let settings = context.settings();
    let vmid = state.vmid();
    let has = |key: &str| {
        let config = state.vm.as_ref().and_then(|vm| vm.get("config"));
        config.and_then(|config| config.get(key)).is_some()
    };
    let mut args = settings.finished(record.phase, has);
    args.insert("vmid".into(), vmid.into());
    let run = Run {
        installation: record.installation.clone(),
        id: record.run.clone(),
        found: None,
    };
    let guard = Record::find(state.notes()).map(|_| expect(&run, &[record.phase]));
    let ownership = Ownership {
        expect: guard.clone(),
        // The same record, which somebody may have removed from the notes.
        write: Some(record.clone()),
        add_tags: true,
        rename: true,
        ..Ownership::default()
    };
    let by_image = record.image.is_some();
    let keep = async || match settings.kept_drive(record) {
        Some(drive) if record.phase == Phase::Done => {
            let node = state.node(context);
            let kept = context.drive(drive, vmid, &node, guard.as_ref(), check);
            kept.await.map(Some)
        }
        _ => Ok(None),
    };
    // A VM does not start without its seed ISO, which a rollback may name although it is gone.
    let seed = match by_image {
        true => keep().await?,
        false => None,
    };
    let runs = state.facts.vm.as_ref().is_some_and(|vm| vm.running);
    if runs && seed.as_ref().is_some_and(|seed| seed.changed) {
        context.task.warn(format!(
            "{}: its seed changed, which cloud-init applies at the next start of the VM",
            state.object()
        ));
    }
    let mut outcomes = vec![context.vm(args, ownership, check).await?];
    outcomes.extend(seed);
    if !by_image {
        outcomes.extend(keep().await?);
    }
    let known = record_host_key(context, state, record, check).await?;
    if !check {
        forget_unfinished(state, record)?;
        forget_not_begun(context, state, record)?;
    }
    let mut msg = outcomes[0].msg.clone();
    if known {
        msg.push_str("; its host key is recorded in ");
        msg.push_str(&context.known_hosts().display().to_string());
        outcomes.push(Outcome::changed(""));
    }
    warn_of_extras(context, state);
    warn_of_pending(context, state, &outcomes[0]);
    let values = outcomes[0].values.clone();
    let mut sum = summed(msg, &outcomes);
    for key in ["status", "pending", "restart_required"] {
        sum.values
            .extend(values.get(key).map(|value| (key.to_owned(), value.clone())));
    }
    Ok(sum)
}

/// Another controller finished what this one began: the keys for it are not needed here any more.
fn forget_unfinished(state: &State, record: &Record) -> Result<(), Failure> {
    let kept = state.facts.vm.as_ref().and_then(|vm| vm.kept);
    let (Some(installation), Some(true)) = (&state.installation, kept.map(Phase::unfinished))
    else {
        return Ok(());
    };
    let mut files = keys::temporary();
    files.push(crate::build::DIR.into());
    files.push(host_key::KEPT.into());
    installation.remove(&files)?;
    // It did not install what is there: the bare name of the host confirms nothing here.
    Ok(keep(state, installation, &counted(record.clone()))?)
}

/// A run of this controller was cut off between its copy of the record and the notes: nothing was begun.
fn forget_not_begun(context: &Context<'_>, state: &State, record: &Record) -> Result<(), Failure> {
    for (other, kept) in kept::others(&context.store, &state.cluster, record) {
        if kept.phase == Phase::Reinstalling && !other.held() {
            other.forget()?;
        }
    }
    Ok(())
}

/// Write the machine's host keys to `known_hosts`; returns whether the file lacked one. In check mode the file is not written.
async fn record_host_key(
    context: &Context<'_>,
    state: &State,
    record: &Record,
    check: bool,
) -> Result<bool, Failure> {
    // What this controller verified itself counts, whatever the notes say.
    let verified = state
        .installation
        .as_ref()
        .and_then(|installation| installation.known())
        .filter(|known| known.record.phase == Phase::Done)
        .and_then(|known| known.record.host_key);
    let record = Record {
        host_key: verified.or(record.host_key.clone()),
        ..record.clone()
    };
    let keys = match &state.installation {
        Some(installation) => keys::of(installation, &record),
        None => record.host_key.clone().into_iter().collect(),
    };
    // Whoever may edit the notes chooses the text.
    let keys: Vec<String> = keys
        .iter()
        .filter_map(|key| Some(key.parse::<PublicKey>().ok()?.to_string()))
        .collect();
    let Some(names) = known_hosts::names(context.options, context.settings().given_address())
    else {
        return Ok(false);
    };
    if keys.is_empty() || !known_hosts::lacks(&context.known_hosts(), &names, &keys) {
        return Ok(false);
    }
    if !check {
        known_hosts::edit(&context.known_hosts(), &context.boot_deadline(), |text| {
            known_hosts::with(text, &names, &keys)
        })
        .await?;
    }
    Ok(true)
}

/// Changes that Proxmox VE holds back until the machine is stopped and started.
fn warn_of_pending(context: &Context<'_>, state: &State, outcome: &Outcome) {
    let pending = outcome.values.get("pending").and_then(Value::as_array);
    let keys: Vec<&str> = pending
        .into_iter()
        .flatten()
        .filter_map(|change| change.get("key")?.as_str())
        .collect();
    if !keys.is_empty() {
        context.task.warn(format!(
            "{}: {} wait for a restart of the VM; set nixos_vm_restart: if_needed to have it restarted",
            state.facts.vm.as_ref().map_or("", |vm| vm.object.as_str()),
            keys.join(", ")
        ));
    }
}

/// Disks and NICs that the VM has and the description has not.
fn warn_of_extras(context: &Context<'_>, state: &State) {
    let settings = context.settings();
    let Some(config) = state
        .vm
        .as_ref()
        .and_then(|vm| vm.get("config")?.as_object().cloned())
    else {
        return;
    };
    let described = settings.vm(Phase::Done, None);
    let mut extras: Vec<String> = Vec::new();
    for (bus, given) in [
        ("scsi", settings.scsi.is_some()),
        ("virtio", settings.virtio.is_some()),
        ("sata", settings.sata.is_some()),
        ("net", settings.net.is_some()),
    ] {
        let known = described.get(bus).and_then(Value::as_object);
        for key in config.keys() {
            let of_bus = key
                .strip_prefix(bus)
                .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
            let cdrom = config[key]
                .as_str()
                .is_some_and(|text| text.contains("media=cdrom"));
            if given
                && of_bus
                && !cdrom
                && !known.is_some_and(|known| known.contains_key(key))
                && !settings.remove_disks.contains(key)
            {
                extras.push(key.clone());
            }
        }
    }
    if !extras.is_empty() {
        context.task.warn(format!(
            "{}: has {}, which the inventory does not describe; it is left alone (nixos_vm_remove_disks detaches disks, null in \
             nixos_vm_net removes a NIC)",
            state.facts.vm.as_ref().map_or("", |vm| vm.object.as_str()),
            extras.join(", ")
        ));
    }
}
