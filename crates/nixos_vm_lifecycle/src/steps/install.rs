//! Step 5: the user's flake is installed on the VM's disk.

use std::path::Path;
use std::time::Duration;

use ansible_module::{Failure, Outcome};
use deadline::Deadline;
use pve_module::record::{Phase, Record};
use serde_json::{Value, json};

use super::{change, keep, out_of_turn};
use crate::build::Build;
use crate::context::{Context, ssh_failed, text};
use crate::error::{LocalError, StepError};
use crate::facts::{Answer, Decision};
use crate::host_claims;
use crate::keys;
use crate::module_args::Args;
use crate::options::{KeyType, Run, Settings};
use crate::probe::Probe;
use crate::reinstall;
use crate::state::{State, address};
use crate::store::Installation;
use crate::system_facts;

/// Install. In one piece, since a run that is cut off relies on the order of what is done.
///
/// # Errors
/// A decision against it, and those of `nixos_anywhere_install`. Nothing is written to the disk before the record says so.
pub async fn run(context: &Context<'_>) -> Result<Outcome, Failure> {
    let settings = context.settings();
    if context.task.check_mode {
        let flake = settings.flake.as_deref().unwrap_or_default();
        return Ok(Outcome::changed(format!(
            "would install {flake} with nixos-anywhere"
        )));
    }
    // What cannot be built, and programs that are missing, cost nothing yet. It may take an hour: the machine is read after it.
    let run = super::run(context)?;
    let store_paths = built(context, run).await?;
    let mut state = State::read(context).await?;
    host_claims::check(context, &state.cluster)?;
    state.restore(context).await?;
    let decision = state.decide(context).await?;
    let found = match &decision {
        Decision::Install(record) if record.phase != Phase::Creating => record.clone(),
        Decision::Finalize(record) => {
            return end(context, &state, record.clone(), Vec::new()).await;
        }
        _ => return Err(out_of_turn(&state, &decision, "it was to be installed")),
    };
    if !settings.boot_disk_is_new() {
        return Err(not_new(settings).into());
    }
    let vmid = state.vmid();
    let installation = context.store.installation(&found.installation);
    let address = address(context, vmid, &context.boot_deadline()).await?;
    let probe = Probe {
        installed: Vec::new(),
        ..state.probe(context, address.clone())?
    };
    let answer = probe.ask(&context.boot_deadline()).await;
    match answer.map_err(ssh_failed)? {
        Answer::Installer => {}
        answer => return Err(no_installer(&state, &answer).into()),
    }
    installation.remove(&["closure".to_owned()])?;
    // From here on the disk may be half written. The record says so first, and should the machine lose its power now, it boots the
    // installer again rather than such a disk.
    let record = Record {
        phase: Phase::Installing,
        run: run.id.clone(),
        ..found.clone()
    };
    let mut order = Args::new();
    order.insert("boot".into(), settings.boot_order(Phase::Installing).into());
    let phases = [found.phase, Phase::Installing];
    change(context, vmid, order, &phases, Some(record.clone())).await?;
    keep(&state, &installation, &record)?;
    if record.reinstall.is_some() {
        // As late as possible: the installer reaches whatever is attached by now.
        reinstall::alone(&State::read(context).await?.facts)?;
    }
    let mut args = settings.install(store_paths.as_ref());
    args.extend(super::boot::installer_login(
        context,
        &installation,
        &address,
    ));
    args.insert("log_path".into(), json!(installation.path("install.log")));
    let mut files = args
        .get("extra_files")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    // The machine's host key may be one of these files; it is the installation's by now.
    let own = host_key_files(settings, &installation);
    let is_own = |file: &Value| {
        own.iter()
            .any(|key| keys::clean(&path(key)) == keys::clean(&path(file)))
    };
    files.retain(|file| !is_own(file));
    files.extend(own);
    args.insert("extra_files".into(), files.into());
    let installed = context.install(args, false).await?;
    installation.write("closure", &text(&installed, "closure"))?;
    let phases = installed.values.get("phases").cloned();
    let mut outcome = end(context, &state, record, vec![installed.msg]).await?;
    outcome
        .values
        .extend(phases.map(|phases| ("phases".to_owned(), phases)));
    Ok(outcome.with("log_path", installation.path("install.log")))
}

/// Note that the installation ended, unless another run has taken the machine over.
async fn end(
    context: &Context<'_>,
    state: &State,
    found: Record,
    mut said: Vec<String>,
) -> Result<Outcome, Failure> {
    let installation = context.store.installation(&found.installation);
    let record = Record {
        phase: Phase::Installed,
        run: super::run(context)?.id.clone(),
        ..found.clone()
    };
    let phases = [found.phase, Phase::Installed];
    change(
        context,
        state.vmid(),
        Args::new(),
        &phases,
        Some(record.clone()),
    )
    .await?;
    keep(state, &installation, &record)?;
    if said.is_empty() {
        said.push("an earlier run had finished the installation".into());
    }
    Ok(Outcome::changed(said.join("; ")))
}

/// What builds the configuration on the controller, if it is built there: with the facts of the inventory, for which `facts` is a
/// directory.
///
/// # Errors
/// Kind `file`.
pub fn built_args(settings: &Settings, facts: &Path) -> Result<Args, LocalError> {
    let mut args = settings.install(None);
    system_facts::wrap(settings, &mut args, facts)?;
    args.insert("state".into(), "built".into());
    // Not of a build, and checked by the installation itself.
    for key in ["debug", "ssh_options"] {
        args.shift_remove(key);
    }
    Ok(args)
}

/// The paths of the build that ran beside the steps before, or else those of one that runs now; null if nothing is built here.
/// Wait for the build beside the play, or build: the store paths of what is built on the controller.
///
/// # Errors
/// Those of Nix.
pub async fn built(context: &Context<'_>, run: &Run) -> Result<Option<Value>, Failure> {
    let settings = context.settings();
    let installation = context.store.installation(&run.installation);
    let beside = Build::of(&installation, &run.id);
    let deadline = Deadline::after(Duration::from_secs(settings.install_timeout));
    let progress = context
        .task
        .progress(context.options.progress_path.as_deref());
    let mut result = match beside.wait(&progress, &deadline).await? {
        Some(result) => {
            let warnings = result.get("warnings").and_then(Value::as_array);
            for warning in warnings.into_iter().flatten().filter_map(Value::as_str) {
                context.task.warn(warning);
            }
            result
        }
        None => {
            let args = built_args(settings, &installation.path(system_facts::DIR))?;
            context.install(args, false).await?.values
        }
    };
    Ok(result
        .remove("store_paths")
        .filter(|paths| !paths.is_null()))
}

fn host_key_files(settings: &Settings, installation: &Installation) -> Vec<Value> {
    let mut files = Vec::new();
    for key in KeyType::ALL {
        let name = keys::host_key(key);
        if installation.read(&name).is_none() {
            continue;
        }
        let path = keys::path_in_system(settings, key);
        files.push(json!({"path": path, "src": installation.path(&name), "mode": "0600"}));
        let public = installation.path(&format!("{name}.pub"));
        files.push(json!({"path": format!("{path}.pub"), "src": public, "mode": "0644"}));
    }
    files
}

fn path(file: &Value) -> String {
    let path = file.get("path").and_then(Value::as_str);
    path.unwrap_or_default().to_owned()
}

/// The refusal of a boot disk that exists already.
pub fn not_new(settings: &Settings) -> StepError {
    StepError::DiskExists {
        disk: settings.boot_disk(),
    }
}

fn no_installer(state: &State, answer: &Answer) -> StepError {
    let answer = match answer {
        Answer::Installed => "the installed system answers".to_owned(),
        Answer::Foreign(what) => format!("another system answers ({what})"),
        Answer::Silent(why) => format!("it does not answer ({why})"),
        Answer::NotAsked | Answer::Installer => "it was not asked".to_owned(),
    };
    StepError::NoInstaller {
        object: state.facts.name.clone(),
        answer,
    }
}
