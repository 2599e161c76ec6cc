//! The steps, one file each.

pub mod boot;
pub mod decide;
pub mod deploy;
pub mod destroy;
pub mod disk_image;
pub mod finalize;
pub mod host_key;
pub mod image;
pub mod install;
pub mod keys;
pub mod nix_build;
pub mod plan;
pub mod provision;
pub mod published;
pub mod reinstall;
pub mod seed;
pub mod template;
pub mod upload;
pub mod verify;
pub mod vm;

use ansible_module::{Failure, Outcome};
use proxmox_nixos_vm::ownership::{Expect, Ownership};
use pve_module::record::{Phase, Record};
use serde_json::{Value, json};

use crate::context::Context;
use crate::error::{LocalError, StepError};
use crate::facts::Decision;
use crate::keys::{InMemory, key_file};
use crate::module_args::Args;
use crate::options::Run;
use crate::state::State;
use crate::store::{Installation, Known};

/// The run of this play, which `decide` began.
///
/// # Errors
/// Kind `invalid_option` when the task does not say it.
pub fn run<'a>(context: &Context<'a>) -> Result<&'a Run, StepError> {
    context.options.run.as_ref().ok_or(StepError::NoRun)
}

/// The guard of a write: the record as it was found or as this run writes it.
pub fn expect(run: &Run, phases: &[Phase]) -> Expect {
    let mut runs = vec![run.id.clone()];
    runs.extend(run.found.clone());
    Expect {
        installation: run.installation.clone(),
        runs,
        phases: phases.to_vec(),
    }
}

/// Change the VM with this number, whose record must be as `phases` say, and which gets `record` in its place.
///
/// # Errors
/// Kind `taken_over` when another run is at work, and those of `proxmox_nixos_vm`.
pub async fn change(
    context: &Context<'_>,
    vmid: u32,
    mut args: Args,
    phases: &[Phase],
    record: Option<Record>,
) -> Result<Outcome, Failure> {
    args.insert("vmid".into(), vmid.into());
    args.entry("state").or_insert("present".into());
    let ownership = Ownership {
        expect: Some(expect(run(context)?, phases)),
        write: record,
        add_tags: true,
        rename: true,
        ..Ownership::default()
    };
    context.vm(args, ownership, context.task.check_mode).await
}

/// Keep a copy of the record on the controller.
///
/// # Errors
/// Kind `file`.
pub fn keep(state: &State, installation: &Installation, record: &Record) -> Result<(), LocalError> {
    installation.keep(&Known {
        cluster: state.cluster.clone(),
        record: record.clone(),
    })
}

/// Add the key that logs in to the installed system. A key that is a text is a file for as long as what is returned lives.
///
/// # Errors
/// The system's.
pub fn login_key(context: &Context<'_>, args: &mut Args) -> Result<Option<InMemory>, LocalError> {
    let settings = context.settings();
    let text = settings.ssh_private_key.as_ref();
    if let Some(key) = text.filter(|key| !key.is_empty()) {
        let file = key_file(key)?;
        args.insert("private_key_file".into(), json!(file.path()));
        return Ok(Some(file));
    }
    let file = settings.ssh_private_key_file.as_ref();
    if let Some(key) = file.filter(|key| !key.as_os_str().is_empty()) {
        args.insert("private_key_file".into(), json!(key));
    }
    Ok(None)
}

/// Refuse a step whose turn it is not.
pub fn out_of_turn(state: &State, decision: &Decision, what: &'static str) -> Failure {
    StepError::OutOfTurn {
        object: state.object().to_owned(),
        what,
        phase: decision.record().map(|record| record.phase),
    }
    .into()
}

/// An outcome of this module with those of the modules that it called.
pub fn summed(msg: String, outcomes: &[Outcome]) -> Outcome {
    let changed = outcomes.iter().any(|outcome| outcome.changed);
    let mut sum = if changed {
        Outcome::changed(msg)
    } else {
        Outcome::unchanged(msg)
    };
    let diffs: Vec<&ansible_module::Diff> = outcomes
        .iter()
        .filter_map(|outcome| outcome.diff.as_ref())
        .collect();
    // One task has one difference: the last of one header counts for `after`, the first for `before`.
    if let (Some(first), Some(last)) = (diffs.first(), diffs.last()) {
        let mut diff = (*first).clone();
        if diffs.len() > 1 {
            let both = |side: fn(&ansible_module::Diff) -> &Value| {
                let mut all = Args::new();
                for diff in &diffs {
                    if let Some(map) = side(diff).as_object() {
                        for (key, value) in map {
                            all.insert(key.clone(), value.clone());
                        }
                    }
                }
                Value::Object(all)
            };
            diff.before = both(|diff| &diff.before);
            diff.after = both(|diff| &diff.after);
            diff.after_header.clone_from(&last.after_header);
        }
        sum.diff = Some(diff);
    }
    sum
}
