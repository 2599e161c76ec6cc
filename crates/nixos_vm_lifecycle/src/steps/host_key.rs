//! The SSH host key of a machine that is installed anew: it is read from the running machine, for the new system.

use std::path::Path;

use ansible_module::Failure;
use deadline::Deadline;
use guest_ssh::{Connection, Identity, Label, Login, PublicKey, System, Target};
use nixos_anywhere_install::{as_root, ssh_failure};
use pve_module::record::{Phase, Record};
use serde_json::Value;

use crate::context::Context;
use crate::error::{LocalError, StepError};
use crate::host_keys;
use crate::keys::{self, Given};
use crate::module_args::Args;
use crate::options::{KeyType, ReinstallHostKey};
use crate::state::{State, address};
use crate::store::Installation;

/// How long the machine may take to say its host key.
const QUESTION: std::time::Duration = std::time::Duration::from_secs(60);

/// The file that says that all host keys of the machine are kept.
pub const KEPT: &str = "host_keys_kept";

/// Whether the machine's host key has to be read from it.
fn asks_for_key(context: &Context<'_>) -> bool {
    let settings = context.settings();
    let given = host_keys::given(settings, &context.options.host);
    settings.reinstall_host_key == ReinstallHostKey::Keep
        && given.is_ok_and(|given| given.is_empty())
}

/// Forget the machine's present host keys if the new system shall have another one, which an earlier run did not know.
pub fn forget_unwanted(
    context: &Context<'_>,
    installation: &Installation,
) -> Result<(), LocalError> {
    if context.settings().reinstall_host_key == ReinstallHostKey::Keep {
        return Ok(());
    }
    let mut files = vec![KEPT.to_owned()];
    for kind in KeyType::ALL {
        let private = keys::host_key(kind);
        files.push(format!("{private}.pub"));
        files.push(private);
    }
    installation.remove(&files).map(drop)
}

/// Have the machine's present host keys for the new system.
pub async fn keep_host_key(
    context: &Context<'_>,
    state: &State,
    record: &Record,
    installation: &Installation,
) -> Result<(), Failure> {
    // A run that was cut off between two of them had not kept all.
    if installation.read(KEPT).is_some() || !asks_for_key(context) {
        return Ok(());
    }
    for given in host_keys_of(context, state, record, true).await? {
        keys::adopt(installation, &given, &mut Vec::new())?;
    }
    let kept = keys::installed(installation);
    match record
        .host_key
        .as_ref()
        .is_none_or(|key| kept.contains(key))
    {
        true => Ok(installation.write(KEPT, "all")?),
        false => Err(unreadable(context, state, "the machine has another one").into()),
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
) -> Result<(), StepError> {
    let kept = || {
        record
            .host_key
            .as_ref()
            .is_none_or(|key| keys::installed(installation).contains(key))
    };
    if record.reinstall.is_none() || !asks_for_key(context) || kept() {
        return Ok(());
    }
    Err(StepError::HostKeyElsewhere {
        object: state.object().to_owned(),
    })
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
        return Err(unreadable(context, state, "it does not run").into());
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
        jump: context.jump()?,
        systems: vec![System {
            label: Label::Installed,
            keys: known
                .iter()
                .filter_map(|key| key.parse::<PublicKey>().ok())
                .collect(),
            login: Login {
                user: settings.ssh_user.clone(),
                identity: file.map_or(Identity::Agent, |file| Identity::File(file.into())),
            },
        }],
    };
    let connection = Connection::open(&target, &deadline)
        .await
        .map_err(|error| unreadable(context, state, &ssh_failure(error).msg))?;
    let script = script(
        &KeyType::ALL.map(|kind| keys::path_in_system(settings, kind)),
        read,
    );
    let what = "the question for its host key";
    let output = as_root(&connection, what, &script, &deadline)
        .await
        .map_err(|failure| unreadable(context, state, &failure.msg))?;
    let keys = parse(&output.text(), &target.host);
    match output.ok() && !keys.is_empty() {
        true => Ok(keys),
        false => Err(unreadable(context, state, output.failure().trim()).into()),
    }
}

fn unreadable(context: &Context<'_>, state: &State, why: &str) -> StepError {
    StepError::HostKeyUnreadable {
        object: state.object().to_owned(),
        host: context.options.host.clone(),
        why: why.to_owned(),
    }
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
