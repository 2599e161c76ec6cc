//! A finished machine is prepared for being installed anew: its host key is kept, it is shut down, every disk but the boot disk is
//! detached, and it gets the installer. Nothing is written to a disk before the record says that it is being installed.

use ansible_module::{Diff, Failure, Outcome};
use proxmox_nixos_vm::ownership::{Expect, Ownership};
use pve_module::record::{Identity, Phase, Record, Reinstall, without_record};
use serde_json::{Value, json};

use super::{change, host_key, install, keep, out_of_turn, summed, vm};
use crate::context::Context;
use crate::error::StepError;
use crate::facts::Decision;
use crate::module_args::{Args, high_availability};
use crate::options::Run;
use crate::reinstall;
use crate::state::State;
use crate::store::Installation;
use crate::vm_layout::volume;

/// Prepare it.
///
/// # Errors
/// Kind `not_as_left` if a disk is still attached, kind `host_key` if the key cannot be kept, and those of the modules that are called.
pub async fn run(context: &Context<'_>, state: &State, found: &Record) -> Result<Outcome, Failure> {
    if context.task.check_mode {
        let msg = summary(state, found, "would be");
        return Ok(Outcome::changed(msg).diff(difference(state)));
    }
    let run = super::run(context)?;
    let installation = context.store.installation(&run.installation);
    let _held = installation.hold()?;
    // What cannot be built costs nothing yet. It may take an hour: the machine is read after it.
    install::built(context, run).await?;
    let mut now = State::read(context).await?;
    if now.decide(context).await? != Decision::Reinstall(found.clone()) {
        return Err(out_of_turn(
            &now,
            &Decision::Reinstall(found.clone()),
            "it was to be installed anew",
        ));
    }
    let state = &now;
    let (record, begun) = begin(context, state, found, &installation).await?;
    host_key::forget_unwanted(context, &installation)?;
    host_key::keep_host_key(context, state, &record, &installation).await?;
    let vmid = state.vmid();
    let phases = [Phase::Reinstalling];
    // The data on the other disks is to be whole: it is shut down in its own time.
    let mut stop = Args::new();
    stop.insert("state".into(), "stopped".into());
    stop.insert("timeout".into(), context.settings().boot_timeout.into());
    let stopped = change(context, vmid, stop, &phases, None).await.map_err(|failure| {
        failure.hint(format!(
            "shut it down yourself, and run the play again; nothing was done to its disks (qm shutdown {vmid}). From now on every run \
             of the play goes on with the reinstallation; to cancel it, remove the record (the last line of its notes) and set \
             nixos_vm_adopt: true"
        ))
    })?;
    let mut outcomes = vec![begun, stopped];
    outcomes.extend(detach(context, vmid, &record).await?);
    let mut state = State::read(context).await?;
    reinstall::alone(&state.facts)?;
    outcomes.push(vm::again(context, &state, &record).await?);
    state = State::read(context).await?;
    // What the VM has now is what may be installed: the record says so last of all.
    let record = match state.decide(context).await?.record() {
        Some(record) => Record {
            phase: Phase::Installing,
            ..record.clone()
        },
        None => record,
    };
    reinstall::alone(&state.facts)?;
    let phases = [Phase::Reinstalling, Phase::Installing];
    outcomes.push(change(context, vmid, Args::new(), &phases, Some(record.clone())).await?);
    keep(&state, &installation, &record)?;
    let facts = outcomes
        .iter()
        .find_map(|outcome| outcome.values.get("facts").cloned());
    let object = state.object();
    let msg =
        format!("{object}: is shut down, its other disks are detached, and it has its installer");
    let mut outcome = summed(msg, &outcomes);
    outcome.changed = true;
    outcome
        .values
        .extend(facts.map(|facts| ("facts".to_owned(), facts)));
    Ok(outcome)
}

/// The longest notes that Proxmox VE keeps (PVE::API2::Qemu, `description`).
const LONGEST_NOTES: usize = 8192;

/// What a record grows by until the machine is finished: the installer and two public keys.
const GROWTH: usize = 900;

/// Plan what is done to the VM before the installation, so that it is not refused when the machine is shut down already.
///
/// # Errors
/// Those of `proxmox_nixos_vm`, and kind `refused` if the record would not fit into the notes.
pub async fn check(context: &Context<'_>, state: &State, found: &Record) -> Result<(), Failure> {
    // As long as the one that will be written.
    let run = Run {
        installation: found.installation.clone(),
        id: found.run.clone(),
        found: None,
    };
    let (record, _) = record(context, state, found, &run)?;
    let notes = without_record(state.notes());
    if notes.len() + record.to_string().len() + GROWTH > LONGEST_NOTES {
        return Err(StepError::NotesFull { vmid: record.vmid }.into());
    }
    let mut phases = vec![Phase::Reinstalling];
    // Its other disks and devices, while they are there to be compared.
    if found.phase == Phase::Done {
        phases.push(Phase::Installed);
    }
    for phase in phases {
        let mut args = context.settings().reinstalled(phase, None);
        // It names the installer's drive, which is not there yet.
        args.shift_remove("boot");
        if phase == Phase::Installed {
            let ha = high_availability(context.settings(), true);
            args.extend(ha.map(|ha| ("ha".to_owned(), ha)));
        }
        args.insert("vmid".into(), record.vmid.into());
        args.insert("state".into(), "present".into());
        let ownership = Ownership {
            add_tags: true,
            rename: true,
            ..Ownership::default()
        };
        context.vm(args, ownership, true).await?;
    }
    Ok(())
}

/// What is done to the machine, or `would be`.
pub fn summary(state: &State, found: &Record, verb: &str) -> String {
    let vm = state.facts.vm.as_ref();
    let others = vm.map_or(&[][..], |vm| vm.beside.disks.as_slice());
    let keys: Vec<&str> = others.iter().map(|(key, _)| key.as_str()).collect();
    let detached = match keys.is_empty() {
        true => String::new(),
        false => format!(
            "; {} stay as they are, detached until it is installed",
            keys.join(", ")
        ),
    };
    let disk = vm.and_then(|vm| vm.layout.disk.as_deref());
    format!(
        "{}: {verb} installed anew, and everything on its boot disk {} is lost{detached}",
        state.object(),
        disk.or(found.disk.as_deref()).unwrap_or_default()
    )
}

/// The disks and the system, before and after.
fn difference(state: &State) -> Diff {
    let vm = state.facts.vm.as_ref();
    let disks: Args = vm
        .into_iter()
        .flat_map(|vm| &vm.beside.disks)
        .map(|(key, value)| (key.clone(), value.clone().into()))
        .collect();
    let disk = vm.and_then(|vm| vm.layout.disk.clone());
    Diff::new(
        json!({"boot disk": disk, "system": "as it is", "other disks": disks}),
        json!({"boot disk": disk, "system": "installed anew", "other disks": disks}),
    )
    .header(state.object())
}

/// Record that the machine is being installed anew, which makes it this run's. From here on any run of this controller goes on with it.
async fn begin(
    context: &Context<'_>,
    state: &State,
    found: &Record,
    installation: &Installation,
) -> Result<(Record, Outcome), Failure> {
    let (record, expect) = record(context, state, found, super::run(context)?)?;
    let mut args = Args::new();
    args.insert("vmid".into(), record.vmid.into());
    args.insert("state".into(), "present".into());
    let ownership = Ownership {
        expect: Some(expect),
        write: Some(record.clone()),
        ..Ownership::default()
    };
    // First of all here: who finds the notes and not this copy is another controller, which does not go on by itself.
    keep(state, installation, &record)?;
    let outcome = context.vm(args, ownership, false).await?;
    Ok((record, outcome))
}

/// The record of the reinstallation, and what the VM's record has to be before.
fn record(
    context: &Context<'_>,
    state: &State,
    found: &Record,
    run: &Run,
) -> Result<(Record, Expect), StepError> {
    let settings = context.settings();
    let Some(vm) = &state.facts.vm else {
        return Err(StepError::NoVm {
            object: state.facts.name.clone(),
        });
    };
    let config = |key: &str| state.vm.as_ref()?.get("config")?.get(key)?.as_str();
    Ok(if found.phase == Phase::Reinstalling {
        let record = Record {
            run: run.id.clone(),
            ..found.clone()
        };
        (record, super::expect(run, &[Phase::Reinstalling]))
    } else {
        let record = Record {
            installation: run.installation.clone(),
            generation: Identity::of(config("smbios1"), config("vmgenid")).generation,
            phase: Phase::Reinstalling,
            run: run.id.clone(),
            disk: vm.layout.disk.clone(),
            drives: Some(settings.drives()),
            installer: None,
            image: None,
            template: None,
            installer_key: None,
            reinstall: Some(Reinstall {
                confirmed: reinstall::confirmation(&state.facts, found).unwrap_or_default(),
                detached: vm.beside.disks.clone(),
            }),
            ..found.clone()
        };
        let expect = Expect {
            installation: found.installation.clone(),
            runs: vec![found.run.clone()],
            phases: vec![Phase::Done],
        };
        (record, expect)
    })
}

/// Detach the disks that the record names and that are still attached. Their volumes are kept as unused ones.
async fn detach(
    context: &Context<'_>,
    vmid: u32,
    record: &Record,
) -> Result<Option<Outcome>, Failure> {
    let detached = record
        .reinstall
        .iter()
        .flat_map(|reinstall| &reinstall.detached);
    let keys: Vec<&String> = detached.map(|(key, _)| key).collect();
    if keys.is_empty() {
        return Ok(None);
    }
    let mut args = Args::new();
    args.insert("remove_disks".into(), json!(keys));
    args.insert("delete_disks".into(), false.into());
    change(context, vmid, args, &[Phase::Reinstalling], None)
        .await
        .map(Some)
}

/// Attach the disks again that were detached for the reinstallation.
///
/// # Errors
/// Kind `not_as_left` if a disk's place or its volume is taken or gone, and those of `proxmox_nixos_vm`.
pub async fn attach(
    context: &Context<'_>,
    state: &State,
    record: &Record,
) -> Result<Option<Outcome>, Failure> {
    let empty = Args::new();
    let config = state
        .vm
        .as_ref()
        .and_then(|vm| vm.get("config")?.as_object())
        .unwrap_or(&empty);
    let detached = record
        .reinstall
        .as_ref()
        .map(|reinstall| reinstall.detached.as_slice());
    let detached = detached.unwrap_or_default();
    for (key, now) in replaced(config, detached) {
        context.task.warn(format!(
            "{}: its disk {key} is {now}, another volume than before the reinstallation; it stays so",
            state.object()
        ));
    }
    let missing =
        missing(config, state.vmid(), detached).map_err(|why| StepError::DisksNotAttached {
            object: state.object().to_owned(),
            why,
        })?;
    if missing.is_empty() {
        return Ok(None);
    }
    let mut args = Args::new();
    for (key, value) in missing {
        let bus = key
            .trim_end_matches(|c: char| c.is_ascii_digit())
            .to_owned();
        let drives = args.entry(bus).or_insert_with(|| json!({}));
        if let Some(drives) = drives.as_object_mut() {
            drives.insert(key, value.into());
        }
    }
    change(context, state.vmid(), args, &[Phase::Installed], None)
        .await
        .map(Some)
}

/// The detached disks in whose places somebody attached others: moved ones, or new ones for those that were lost.
fn replaced(config: &Args, detached: &[(String, String)]) -> Vec<(String, String)> {
    let other = |(key, value): &(String, String)| {
        let now = volume(config.get(key)?.as_str()?);
        (now != volume(value)).then(|| (key.clone(), now.to_owned()))
    };
    detached.iter().filter_map(other).collect()
}

/// Which of the detached disks are not attached. Each has to be among the VM's unused volumes: that proves that it is still its own.
/// Another volume of the VM in its place is left there.
fn missing(
    config: &Args,
    vmid: u32,
    detached: &[(String, String)],
) -> Result<Vec<(String, String)>, String> {
    let text = |key: &str| config.get(key).and_then(Value::as_str);
    let mut missing = Vec::new();
    for (key, value) in detached {
        match text(key) {
            Some(now) if volume(now) == volume(value) || reinstall::is_own(now, vmid) => {}
            Some(now) => return Err(format!("{key} is {now} by now, and was {}", volume(value))),
            None => {
                let unused = |(key, now): (&String, &Value)| {
                    key.starts_with("unused") && now.as_str().map(volume) == Some(volume(value))
                };
                if !config.iter().any(unused) {
                    return Err(format!(
                        "{}, which was {key}, is not among its unused volumes any more",
                        volume(value)
                    ));
                }
                missing.push((key.clone(), value.clone()));
            }
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Args {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).into()))
            .collect()
    }

    #[test]
    fn only_volumes_that_are_still_the_vms_are_attached() {
        let disk = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let detached = [
            disk("scsi1", "lvm:vm-101-disk-1,discard=on"),
            disk("virtio3", "lvm:vm-101-disk-2"),
        ];
        let unused = [
            ("unused0", "lvm:vm-101-disk-1"),
            ("unused1", "lvm:vm-101-disk-2"),
        ];
        let missing = |config: &Args| missing(config, 101, &detached);
        assert_eq!(missing(&config(&unused)).unwrap(), detached);
        let one = config(&[("scsi1", "lvm:vm-101-disk-1,discard=on"), unused[1]]);
        assert_eq!(missing(&one).unwrap(), [detached[1].clone()]);
        assert!(replaced(&one, &detached).is_empty());
        let moved = config(&[("scsi1", "zfs:vm-101-disk-7"), unused[0], unused[1]]);
        assert_eq!(missing(&moved).unwrap(), [detached[1].clone()]);
        assert_eq!(
            replaced(&moved, &detached),
            [("scsi1".into(), "zfs:vm-101-disk-7".into())]
        );
        for (config, why) in [
            (
                config(&[unused[0]]),
                "lvm:vm-101-disk-2, which was virtio3, is not among its unused volumes any more",
            ),
            (
                config(&[("scsi1", "lvm:vm-102-disk-7"), unused[0], unused[1]]),
                "scsi1 is lvm:vm-102-disk-7 by now, and was lvm:vm-101-disk-1",
            ),
        ] {
            assert_eq!(missing(&config).unwrap_err(), why);
        }
    }
}
