//! Keys: the machine's SSH host keys before it exists, and what is made of their public halves.

use std::fs;
use std::time::Duration;

use ansible_module::{Diff, Failure, Outcome, Task};
use deadline::Deadline;
use pve_module::Lock;
use pve_module::record::Phase;

use crate::context::store;
use crate::error::StepError;
use crate::host_keys::{HostKeys, age};
use crate::known_hosts;
use crate::known_hosts::names;
use crate::options::Options;

/// How long another run at the same directory is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// Make the keys that are missing.
///
/// # Errors
/// Kind `preflight` with every mistake, and those of files and programs.
pub async fn run(options: &Options, task: &Task) -> Result<Outcome, Failure> {
    let settings = &options.settings;
    let refused = |mistakes| StepError::preflight(&options.host, mistakes);
    let mut mistakes = task.unknown.clone();
    mistakes.extend(settings.relative_places());
    let keys = HostKeys::new(settings, &options.host);
    if keys.is_none() {
        mistakes.push(
            "nixos_vm_host_keys_dir: is required; name a directory for the host keys, such as {{ inventory_dir }}/host_keys".into(),
        );
    }
    mistakes.extend(keys.iter().flat_map(|keys| keys.mistakes(settings)));
    let (Some(keys), true) = (keys, mistakes.is_empty()) else {
        return Err(refused(mistakes).into());
    };
    let deadline = Deadline::after(PATIENCE);
    let _lock = match task.check_mode {
        true => None,
        false => {
            Some(Lock::acquire(&format!("host keys {}", keys.dir().display()), &deadline).await?)
        }
    };
    let plan = keys.plan(settings).map_err(refused)?;
    let (before, after) = plan.difference();
    let diff = Diff::new(before, after).header(&options.host);
    if task.check_mode {
        let msg = match plan.changes() {
            true => format!("would make host keys of {}", options.host),
            false => format!("{} has its host keys", options.host),
        };
        let outcome = Outcome::unchanged(msg)
            .diff(diff)
            .with("host_keys_dir", keys.dir());
        return Ok(Outcome {
            changed: plan.changes(),
            ..outcome
        });
    }
    warn_of_repository(&keys, options, !plan.make.is_empty(), task);
    let public = keys.apply(&plan, settings)?;
    let recipient = public.iter().find_map(|key| age::recipient(key));
    let installed = other_installed_key(options, &public);
    if installed.is_some() {
        task.warn(format!(
            "{}: was installed with another host key, which it keeps until its next installation; the rule for sops has the recipients of \
             both keys, and known_hosts is left as it is",
            options.host
        ));
    }
    let of_installed = installed.as_deref().and_then(age::recipient);
    let own: Vec<String> = recipient.iter().cloned().chain(of_installed).collect();
    let rules = keys.write_rules(&own, settings)?;
    let lines = match installed {
        Some(_) => false,
        None => write_known_hosts(&keys, options, &public, &deadline).await?,
    };
    let changed = plan.changes() || rules || lines;
    let msg = match changed {
        true => format!("wrote host keys of {}", options.host),
        false => format!("{} has its host keys", options.host),
    };
    let outcome = Outcome::unchanged(msg)
        .diff(diff)
        .with("host_keys", public)
        .with("age_recipient", recipient)
        .with("host_keys_dir", keys.dir());
    Ok(Outcome { changed, ..outcome })
}

/// The host key of the machine as it is installed, if it is not one of these. A key counts from the installation on that brings it.
fn other_installed_key(options: &Options, public: &[String]) -> Option<String> {
    store(options).all().into_iter().find_map(|(_, known)| {
        let record = known.record;
        let key = record.host_key.filter(|key| !public.contains(key))?;
        (record.host == options.host && record.phase == Phase::Done).then_some(key)
    })
}

/// Write the lines of this host to the `known_hosts` of the directory; returns whether it changed.
async fn write_known_hosts(
    keys: &HostKeys,
    options: &Options,
    public: &[String],
    deadline: &Deadline,
) -> Result<bool, Failure> {
    let Some(names) = names(options, options.settings.given_address()) else {
        return Ok(false);
    };
    let path = keys.dir().join("known_hosts");
    known_hosts::edit(&path, deadline, |text| {
        known_hosts::with(text, &names, public)
    })
    .await
}

/// Warn of private keys that Git would take as they are.
fn warn_of_repository(keys: &HostKeys, options: &Options, makes: bool, task: &Task) {
    let password = options.settings.host_keys_vault_password_file.as_ref();
    let encrypted = password.is_some_and(|path| !path.as_os_str().is_empty());
    let dir = fs::canonicalize(keys.dir()).unwrap_or_else(|_| keys.dir().to_owned());
    if makes && !encrypted && dir.ancestors().any(|dir| dir.join(".git").exists()) {
        task.warn(format!(
            "nixos_vm_host_keys_dir: {} is in a Git repository, and the private keys in it are not encrypted; set \
             nixos_vm_host_keys_vault_password_file, or have Git ignore them",
            keys.dir().display()
        ));
    }
}
