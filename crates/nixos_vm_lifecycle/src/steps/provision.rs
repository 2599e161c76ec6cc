//! Step 3: the VM is as described. Before the end of the installation it has its installer and its seed; afterwards only what the user
//! set is converged.

use ansible_module::{Failure, FailureKind, Outcome};
use guest_ssh::PublicKey;
use proxmox_nixos_vm::ownership::Ownership;
use pve_module::random;
use pve_module::record::{Identity, Phase, Record};
use serde_json::{Value, json};

use super::{change, image, keep, out_of_turn, reinstall, run as this_run, summed};
use crate::context::Context;
use crate::decide::{Decision, Recorded};
use crate::keys;
use crate::known_hosts;
use crate::module_args::Args;
use crate::options::{Options, Run};
use crate::preflight;
use crate::state::{State, address, number};
use crate::store::Installation;

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

/// A new VM: the controller knows of it before Proxmox VE does, so that nothing is lost whenever this ends.
async fn create(context: &Context<'_>, state: &State) -> Result<Outcome, Failure> {
    let run = this_run(context)?;
    let settings = context.settings();
    let node = state.node(context);
    if context.task.check_mode {
        let args = preflight::without_installer(settings.vm(Phase::Provisioning, None), settings);
        return context.vm(args, Ownership::default(), true).await;
    }
    let installer = image::volid(context, &node).await?;
    for gone in &state.gone {
        // The VM is gone, and its keys are of no use to anybody.
        if !gone.installation.held() {
            gone.installation.forget()?;
        }
    }
    let installation = context.store.installation(&run.installation);
    let _held = installation.hold()?;
    keys::make(&installation, &context.options.host, settings)?;
    let mut record = Record {
        installation: run.installation.clone(),
        host: context.options.host.clone(),
        // Not the one that is asked for: it is somebody else's if Proxmox VE refuses it.
        vmid: 0,
        uuid: random::uuid()?,
        generation: None,
        phase: Phase::Creating,
        run: run.id.clone(),
        disk: None,
        drives: Some(settings.drives()),
        installer: Some(installer.clone()),
        installer_key: keys::public(&installation, keys::INSTALLER),
        host_key: keys::installed(&installation).into_iter().next(),
        reinstall: None,
    };
    let mut args = settings.vm(Phase::Provisioning, Some(&installer));
    identify(&mut args, &mut record);
    keep(state, &installation, &record)?;
    let ownership = Ownership {
        write: Some(Record {
            vmid: 0,
            ..record.clone()
        }),
        new: true,
        ..Ownership::default()
    };
    args.insert("state".into(), "present".into());
    let made = context.vm(args, ownership, false).await?;
    record.vmid = number(&made.values, "vmid");
    let node = made
        .values
        .get("node")
        .and_then(Value::as_str)
        .unwrap_or(&node)
        .to_owned();
    // Now the disk has a volume, and the VM an identity that PVE may have completed.
    let config = |key: &str| made.values.get("config")?.get(key)?.as_str();
    let identity = Identity::of(config("smbios1"), config("vmgenid"));
    record.generation = identity.generation.clone();
    if identity.uuid.as_deref() != Some(record.uuid.as_str()) {
        return Err(Failure::new(
            FailureKind::NotOurs,
            format!("VM {}: appeared while it was being made, and is not the one that was asked for; nothing was done to it", record.vmid),
        )
        .object(format!("VM {}", record.vmid))
        .hint("run the play again: it decides by what it finds"));
    }
    let disk =
        config(&settings.boot_disk()).map(|text| text.split(',').next().unwrap_or(text).to_owned());
    record.disk = disk;
    record.phase = Phase::Provisioning;
    keep(state, &installation, &record)?;
    let recorded = change(
        context,
        record.vmid,
        Args::new(),
        &[Phase::Creating, Phase::Provisioning],
        Some(record.clone()),
    )
    .await?;
    let seed = attach_seed(context, &installation, record.vmid, &node, false).await?;
    let vmid = record.vmid;
    let msg = format!("{}; {}", made.msg, seed.msg);
    let facts = facts(context, vmid, &node, &installation);
    Ok(summed(msg, &[made, recorded, seed]).fact("facts", facts))
}

/// A machine whose installation begins, or begins again. It is stopped if it has to boot something else than it did.
pub(super) async fn again(
    context: &Context<'_>,
    state: &State,
    found: &Record,
) -> Result<Outcome, Failure> {
    let run = this_run(context)?;
    let settings = context.settings();
    let check = context.task.check_mode;
    let (vmid, node) = (state.vmid(), state.node(context));
    let installer = image::volid(context, &node).await?;
    let installation = context.store.installation(&found.installation);
    if !check {
        reinstall::host_key_is_here(context, state, found, &installation)?;
        keys::make(&installation, &context.options.host, settings)?;
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
    // First of all the machine is this run's: any other run stops at its next write.
    let mut outcomes =
        vec![change(context, vmid, Args::new(), &phases, Some(record.clone())).await?];
    let record = Record {
        installer: Some(installer.clone()),
        installer_key: keys::public(&installation, keys::INSTALLER).or(found.installer_key.clone()),
        host_key: keys::installed(&installation)
            .into_iter()
            .next()
            .or(found.host_key.clone()),
        ..record
    };
    let args = match record.reinstall {
        Some(_) => settings.vm_with_boot_disk_only(phase, Some(&installer)),
        None => settings.vm(phase, Some(&installer)),
    };
    let seed_known = installation.read(keys::CLIENT).is_some() || !check;
    if state.facts.vm.as_ref().is_some_and(|vm| vm.running) {
        let hardware = context
            .vm(
                args.clone(),
                Ownership {
                    add_tags: true,
                    rename: true,
                    ..Ownership::default()
                },
                true,
            )
            .await?;
        let boots_anew = hardware.diff.is_some() && needs_stop(&hardware);
        let seed = match seed_known {
            true => attach_seed(context, &installation, vmid, &node, true).await?,
            false => Outcome::changed("the seed would be made anew"),
        };
        // What another run was installing is stopped in any case, lest two of them write to the disk.
        if phase == Phase::Installing || boots_anew || seed.changed {
            let mut stop = Args::new();
            stop.insert("state".into(), "stopped".into());
            stop.insert("force".into(), true.into());
            outcomes.push(change(context, vmid, stop, &phases, None).await?);
        }
    }
    outcomes.push(change(context, vmid, args, &phases, Some(record.clone())).await?);
    if !check {
        keep(state, &installation, &record)?;
    }
    if seed_known {
        outcomes.push(attach_seed(context, &installation, vmid, &node, check).await?);
    }
    let said: Vec<&str> = outcomes
        .iter()
        .filter(|o| o.changed)
        .map(|o| o.msg.as_str())
        .collect();
    let msg = match said.is_empty() {
        true => format!("VM {vmid} is as described, with its installer and its seed"),
        false => said.join("; "),
    };
    let facts = facts(context, vmid, &node, &installation);
    Ok(summed(msg, &outcomes).fact("facts", facts))
}

/// The facts, for later plays, of a machine that is not finished yet.
fn facts(context: &Context<'_>, vmid: u32, node: &str, installation: &Installation) -> Value {
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

/// Whether a difference is one that the machine boots from or with: everything but notes, tags and the like.
fn needs_stop(outcome: &Outcome) -> bool {
    const AT_ONCE: [&str; 8] = [
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

/// The seed of this installation, on the VM with this number.
async fn attach_seed(
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
    let guard = super::expect(this_run(context)?, &phases);
    context.drive(args, vmid, node, Some(&guard), check).await
}

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
    let guard = Record::find(&notes(state)).map(|_| super::expect(&run, &[record.phase]));
    let ownership = Ownership {
        expect: guard.clone(),
        // The same record, which somebody may have removed from the notes.
        write: Some(record.clone()),
        add_tags: true,
        rename: true,
        ..Ownership::default()
    };
    let mut outcomes = vec![context.vm(args, ownership, check).await?];
    if record.phase == Phase::Done
        && let Some(drive) = settings.kept_drive()
    {
        outcomes.push(
            context
                .drive(drive, vmid, &state.node(context), guard.as_ref(), check)
                .await?,
        );
    }
    let known = record_host_key(context, state, record, check).await?;
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

fn notes(state: &State) -> String {
    let notes = state
        .vm
        .as_ref()
        .and_then(|vm| vm.get("config")?.get("description")?.as_str());
    notes.unwrap_or_default().to_owned()
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
    let Some(names) = names(context.options, context.settings().given_address()) else {
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

/// A VM that somebody else made, and the user asked to manage: what the user set is converged, notes and tags are added to, and a
/// record is written, so that nothing is ever installed onto it.
pub async fn adopt(context: &Context<'_>, state: &State, check: bool) -> Result<Outcome, Failure> {
    let run = this_run(context)?;
    let vmid = state.vmid();
    let config = |key: &str| state.vm.as_ref()?.get("config")?.get(key)?.as_str();
    let identity = Identity::of(config("smbios1"), config("vmgenid"));
    let Some(uuid) = identity.uuid else {
        return Err(Failure::new(
            FailureKind::NotOurs,
            format!("VM {vmid}: has no SMBIOS UUID, so it cannot be distinguished from a clone"),
        )
        .object(format!("VM {vmid}"))
        .hint(format!(
            "give it one: qm set {vmid} --smbios1 uuid=$(uuidgen)"
        )));
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
        let there = pve_module::record::without_record(&notes(state));
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
    for (old, known) in context.store.all() {
        if known.cluster == state.cluster
            && known.record.vmid == vmid
            && known.record.uuid == record.uuid
        {
            old.forget()?;
        }
    }
    let installation = context.store.installation(&installation);
    let facts = facts(context, vmid, &state.node(context), &installation);
    Ok(outcome.fact("facts", facts))
}

/// Give a new VM the identity that its record names, beside what the user set there.
fn identify(args: &mut Args, record: &mut Record) {
    let config = args.entry("config").or_insert_with(|| json!({}));
    let Some(config) = config.as_object_mut() else {
        return;
    };
    let given = config
        .get("smbios1")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let own = Identity::of(Some(&given), config.get("vmgenid").and_then(Value::as_str));
    match own.uuid {
        Some(uuid) => record.uuid = uuid,
        None => {
            let rest = if given.is_empty() {
                String::new()
            } else {
                format!(",{given}")
            };
            config.insert(
                "smbios1".into(),
                format!("uuid={}{rest}", record.uuid).into(),
            );
        }
    }
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
