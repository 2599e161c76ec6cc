//! A finished machine is prepared for being installed anew: its host key is kept, it is shut down, every disk but the boot disk is
//! detached, and it gets the installer. Nothing is written to a disk before the record says that it is being installed.

use std::path::Path;

use ansible_module::{Diff, Failure, FailureKind, Outcome};
use deadline::Deadline;
use guest_ssh::{Connection, Identity as LoginIdentity, Label, Login, PublicKey, System, Target};
use nixos_anywhere_install::ssh_failure;
use proxmox_nixos_vm::ownership::{Expect, Ownership};
use pve_module::record::{Identity, Phase, Record, Reinstall};
use serde_json::{Value, json};

use super::{change, keep, provision, summed};
use crate::context::Context;
use crate::keys::{self, Given};
use crate::module_args::Args;
use crate::options::{KeyType, ReinstallHostKey};
use crate::reinstall;
use crate::state::{State, address};
use crate::store::Installation;

/// How long the machine may take to say its host key.
const QUESTION: std::time::Duration = std::time::Duration::from_secs(60);

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
    let (record, begun) = begin(context, state, found, &installation).await?;
    keep_host_key(context, state, &record, &installation).await?;
    let vmid = state.vmid();
    let phases = [Phase::Reinstalling];
    // The data on the other disks is to be whole: it is shut down in its own time.
    let mut stop = Args::new();
    stop.insert("state".into(), "stopped".into());
    stop.insert("timeout".into(), context.settings().boot_timeout.into());
    let stopped = change(context, vmid, stop, &phases, None).await.map_err(|failure| {
        failure.hint(format!(
            "shut it down yourself, and run the play again; nothing was done to its disks (qm shutdown {vmid})"
        ))
    })?;
    let mut outcomes = vec![begun, stopped];
    outcomes.extend(detach(context, vmid, &record).await?);
    let mut state = State::read(context).await?;
    if let Some(vm) = &state.facts.vm {
        reinstall::alone(&state.facts, vm)?;
    }
    outcomes.push(provision::again(context, &state, &record).await?);
    state = State::read(context).await?;
    // What the VM has now is what may be installed: the record says so last of all.
    let record = match state.decide(context).await?.record() {
        Some(record) => Record {
            phase: Phase::Installing,
            ..record.clone()
        },
        None => record,
    };
    if let Some(vm) = &state.facts.vm {
        reinstall::alone(&state.facts, vm)?;
    }
    let phases = [Phase::Reinstalling, Phase::Installing];
    outcomes.push(change(context, vmid, Args::new(), &phases, Some(record.clone())).await?);
    keep(&state, &installation, &record)?;
    let facts = outcomes
        .iter()
        .find_map(|outcome| outcome.values.get("facts").cloned());
    let object = state
        .facts
        .vm
        .as_ref()
        .map_or(String::new(), |vm| vm.object.clone());
    let msg =
        format!("{object}: is shut down, its other disks are detached, and it has its installer");
    let mut outcome = summed(msg, &outcomes);
    outcome.changed = true;
    outcome
        .values
        .extend(facts.map(|facts| ("facts".to_owned(), facts)));
    Ok(outcome)
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
        vm.map_or(&state.facts.name, |vm| &vm.object),
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
    .header(vm.map_or(&state.facts.name, |vm| &vm.object))
}

/// Record that the machine is being installed anew, which makes it this run's. From here on any run goes on with it.
async fn begin(
    context: &Context<'_>,
    state: &State,
    found: &Record,
    installation: &Installation,
) -> Result<(Record, Outcome), Failure> {
    let run = super::run(context)?;
    let settings = context.settings();
    let Some(vm) = &state.facts.vm else {
        return Err(Failure::new(
            FailureKind::NotFound,
            format!("{}: does not exist", state.facts.name),
        ));
    };
    let config = |key: &str| state.vm.as_ref()?.get("config")?.get(key)?.as_str();
    let (record, expect) = if found.phase == Phase::Reinstalling {
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
    };
    let mut args = Args::new();
    args.insert("vmid".into(), vm.vmid.into());
    args.insert("state".into(), "present".into());
    let ownership = Ownership {
        expect: Some(expect),
        write: Some(record.clone()),
        ..Ownership::default()
    };
    let outcome = context.vm(args, ownership, false).await?;
    keep(state, installation, &record)?;
    Ok((record, outcome))
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
    let missing = missing(config, detached.unwrap_or_default()).map_err(|why| {
        let object = state
            .facts
            .vm
            .as_ref()
            .map_or(&state.facts.name, |vm| &vm.object);
        let msg = format!(
            "{object}: is installed, but {why}, so not all of its disks can be attached again"
        );
        Failure::new(FailureKind::NotAsLeft, msg)
            .object(object)
            .hint("attach the disk by hand where it was (qm set), and run the play again")
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

/// The volume of a drive.
fn volume(value: &str) -> &str {
    value
        .split(',')
        .next()
        .unwrap_or_default()
        .trim_start_matches("file=")
}

/// Which of the detached disks are not attached. Each has to be among the VM's unused volumes: that proves that it is still its own.
fn missing(config: &Args, detached: &[(String, String)]) -> Result<Vec<(String, String)>, String> {
    let text = |key: &str| config.get(key).and_then(Value::as_str);
    let mut missing = Vec::new();
    for (key, value) in detached {
        match text(key) {
            Some(now) if volume(now) == volume(value) => {}
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

/// Whether the machine's host key has to be read from it.
fn asks_for_key(context: &Context<'_>) -> bool {
    let settings = context.settings();
    let given = keys::given(settings, &context.options.host);
    settings.reinstall_host_key == ReinstallHostKey::Keep
        && given.is_ok_and(|given| given.is_empty())
}

/// Have the machine's present host keys for the new system.
async fn keep_host_key(
    context: &Context<'_>,
    state: &State,
    record: &Record,
    installation: &Installation,
) -> Result<(), Failure> {
    let has = |key: &String| {
        let kinds = KeyType::ALL.into_iter().map(keys::host_key);
        let mut both = kinds.filter(|name| installation.read(name).is_some());
        both.any(|name| keys::public(installation, &name).as_ref() == Some(key))
    };
    let kept = record.host_key.as_ref().is_some_and(has);
    if kept || !asks_for_key(context) {
        return Ok(());
    }
    for given in host_keys_of(context, state, record, true).await? {
        keys::adopt(installation, &given, &mut Vec::new())?;
    }
    match record.host_key.as_ref().is_none_or(has) {
        true => Ok(()),
        false => Err(unreadable(context, state, "the machine has another one")),
    }
}

/// Refuse to go on with a reinstallation from a controller that does not have the host key that is to be kept.
///
/// # Errors
/// Kind `host_key`.
pub fn host_key_is_here(
    context: &Context<'_>,
    state: &State,
    record: &Record,
    installation: &Installation,
) -> Result<(), Failure> {
    let kept = || {
        record
            .host_key
            .as_ref()
            .is_none_or(|key| keys::installed(installation).contains(key))
    };
    if record.reinstall.is_none() || !asks_for_key(context) || kept() {
        return Ok(());
    }
    let why = "another controller began to install it anew, and has the key";
    Err(unreadable(context, state, why)
        .hint("go on from that controller, or set nixos_vm_reinstall_host_key: new"))
}

/// Whether the machine's host key can be read, before anything is done.
///
/// # Errors
/// Kind `host_key`.
pub async fn check_host_key(
    context: &Context<'_>,
    state: &State,
    record: &Record,
) -> Result<(), Failure> {
    if record.phase == Phase::Done && asks_for_key(context) {
        host_keys_of(context, state, record, false).await?;
    }
    Ok(())
}

/// The private host keys of the running machine, which is known by its public one; without their texts unless `read`.
async fn host_keys_of(
    context: &Context<'_>,
    state: &State,
    record: &Record,
    read: bool,
) -> Result<Vec<Given>, Failure> {
    let settings = context.settings();
    if !state.facts.vm.as_ref().is_some_and(|vm| vm.running) {
        return Err(unreadable(context, state, "it does not run"));
    }
    let deadline = Deadline::after(QUESTION);
    let mut login = Args::new();
    let _file = super::login_key(context, &mut login)?;
    let file = login.get("private_key_file").and_then(Value::as_str);
    let mut known: Vec<String> = record.host_key.clone().into_iter().collect();
    known.extend(state.installation.iter().flat_map(keys::installed));
    let target = Target {
        host: address(context, state.vmid(), &deadline).await?,
        port: settings.ssh_port,
        systems: vec![System {
            label: Label::Installed,
            keys: known
                .iter()
                .filter_map(|key| key.parse::<PublicKey>().ok())
                .collect(),
            login: Login {
                user: settings.ssh_user.clone(),
                identity: file.map_or(LoginIdentity::Agent, |file| {
                    LoginIdentity::File(file.into())
                }),
            },
        }],
    };
    let failed = |error| unreadable(context, state, &ssh_failure(error).msg);
    let connection = Connection::open(&target, &deadline).await.map_err(failed)?;
    let shell = match settings.ssh_user.as_str() {
        "root" => "exec sh",
        _ => "exec sudo -n sh",
    };
    let script = script(
        &KeyType::ALL.map(|kind| keys::path_in_system(settings, kind)),
        read,
    );
    let output = connection
        .exec(
            "the question for its host key",
            shell,
            script.as_bytes(),
            &deadline,
        )
        .await
        .map_err(failed)?;
    let keys = parse(&output.text(), &target.host);
    match output.ok() && !keys.is_empty() {
        true => Ok(keys),
        false => Err(unreadable(context, state, output.failure().trim())),
    }
}

fn unreadable(context: &Context<'_>, state: &State, why: &str) -> Failure {
    let object = state
        .facts
        .vm
        .as_ref()
        .map_or(&state.facts.name, |vm| &vm.object);
    Failure::new(
        FailureKind::HostKey,
        format!(
            "{object}: its SSH host key, which the new system is to have, cannot be read: {why}"
        ),
    )
    .object(object)
    .hint(format!(
        "start {}, or set nixos_vm_reinstall_host_key: new to give the new system another one",
        context.options.host
    ))
}

/// What begins the text of a key of this kind.
const MARK: &str = "nixos-proxmox host key ";

/// Prints the private host keys at these paths or in /etc/ssh.
fn script(paths: &[String], read: bool) -> String {
    let mut script = String::new();
    for path in paths {
        let name = Path::new(path)
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let path = path.replace('\'', r"'\''");
        let cat = if read {
            r#"cat "$file""#
        } else {
            r#"[ -r "$file" ]"#
        };
        script.push_str(&format!(
            "for file in '{path}' '/etc/ssh/{name}'; do\n  [ -f \"$file\" ] || continue\n  echo '{MARK}{name}'\n  {cat} || exit 1\n  break\ndone\n"
        ));
    }
    script
}

/// The keys that the script prints.
fn parse(text: &str, host: &str) -> Vec<Given> {
    let found = text.split(MARK).skip(1).filter_map(|part| {
        let (name, private) = part.split_once('\n')?;
        let key = KeyType::ALL
            .into_iter()
            .find(|kind| name.trim() == format!("ssh_host_{}_key", kind.name()))?;
        Some(Given {
            origin: format!("the host key of {host}"),
            private: private.to_owned(),
            key: Some(key),
        })
    });
    found.collect()
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
        assert_eq!(missing(&config(&unused), &detached).unwrap(), detached);
        let one = config(&[("scsi1", "lvm:vm-101-disk-1,discard=on"), unused[1]]);
        assert_eq!(missing(&one, &detached).unwrap(), [detached[1].clone()]);
        for (config, why) in [
            (
                config(&[unused[0]]),
                "lvm:vm-101-disk-2, which was virtio3, is not among its unused volumes any more",
            ),
            (
                config(&[("scsi1", "lvm:vm-101-disk-7"), unused[0], unused[1]]),
                "scsi1 is lvm:vm-101-disk-7 by now, and was lvm:vm-101-disk-1",
            ),
        ] {
            assert_eq!(missing(&config, &detached).unwrap_err(), why);
        }
    }

    #[test]
    fn the_machine_prints_its_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| format!("{}/it's/{name}", dir.path().display());
        std::fs::create_dir(dir.path().join("it's")).unwrap();
        std::fs::write(path("ssh_host_rsa_key"), "-----BEGIN\nx\n").unwrap();
        let script = script(&[path("ssh_host_rsa_key"), path("ssh_host_none_key")], true);
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        let keys = parse(&String::from_utf8(output.stdout).unwrap(), "web1");
        assert_eq!(
            (keys.len(), keys[0].key, keys[0].private.as_str()),
            (1, Some(KeyType::Rsa), "-----BEGIN\nx\n")
        );
        assert!(parse("", "web1").is_empty());
    }
}
