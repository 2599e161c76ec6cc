//! A module's life: arguments in, work, one line of JSON out.

use crate::FailureKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::arguments::Arguments;
use crate::reply::Reply;
use crate::spec::Spec;
use crate::task::Task;
use crate::validate::{typed, validate};
use crate::watch::Waiting;
use crate::{Failure, Module, Outcome, mask, panics, watch};

/// Run the module `M` as Ansible starts it: `NAME ARGUMENT_FILE`. Prints the result and returns
/// the exit code, 0 or 1. Never reads from stdin.
pub fn main<M: Module>() -> ExitCode {
    run::<M>(Waiting::Parent)
}

/// Like [`main`], for a process that is left to itself: in a session of its own it outlives the process that started it, its terminal and
/// the play. Signals end it.
pub fn main_detached<M: Module>() -> ExitCode {
    // It fails only for the leader of a group of processes, which whoever starts this does not make it.
    let _ = rustix::process::setsid();
    run::<M>(Waiting::Nobody)
}

fn run<M: Module>(waiting: Waiting) -> ExitCode {
    let reply = Arc::new(Reply::new(M::NAME));
    panics::install(reply.clone());
    let outcome = catch_unwind(AssertUnwindSafe(|| task::<M>(&reply, waiting)));
    let succeeded = reply.answer(outcome.unwrap_or_else(|_| Err(panics::caught(M::NAME))));
    ExitCode::from(u8::from(!succeeded))
}

fn task<M: Module>(reply: &Arc<Reply>, waiting: Waiting) -> Result<Outcome, Failure> {
    let path = std::env::args_os().nth(1).map(PathBuf::from);
    let mut arguments = Arguments::read(&path.unwrap_or_else(|| "(none given)".into()))?;
    let interrupted = watch::start(reply.clone(), waiting)
        .map_err(|e| Failure::new(FailureKind::Internal, format!("cannot start a thread: {e}")))?;
    let (options, unknown) = options::<M>(&mut arguments, reply)?;
    let mut task = Task::new(&arguments, reply.secrets.clone());
    task.unknown = unknown;
    reply.task(task.clone());
    work::<M>(options, task, interrupted)
}

/// The arguments, checked, as the module's own type; and, of a module with [`Module::VARIABLES`], what is said of unknown ones.
fn options<M: Module>(
    arguments: &mut Arguments,
    reply: &Reply,
) -> Result<(M::Options, Vec<String>), Failure> {
    let spec = Spec::of::<M::Options>();
    arguments
        .secrets
        .iter()
        .for_each(|secret| reply.secrets.add(secret));
    let public = mask::Public::of(&spec, &arguments.params);
    reply.secrets.add_options(&spec, &arguments.params, &public);
    let mistakes = M::mistakes(&arguments.params);
    let checked = validate(&spec, &M::rules(), &mut arguments.params);
    // As they are now: a text may have become a list, or a dict a text.
    reply.secrets.add_options(&spec, &arguments.params, &public);
    if let Some((option, prefix)) = M::VARIABLES {
        let top = format!("{option}.");
        reply
            .secrets
            .rename_options(|name| match name.strip_prefix(&top) {
                Some(rest) => format!("{prefix}{rest}"),
                None => name,
            });
    }
    M::secrets(&arguments.params)
        .iter()
        .for_each(|secret| reply.secrets.add(secret));
    checked
        .secrets
        .iter()
        .for_each(|secret| reply.secrets.add(secret));
    let name = arguments.module_name.as_deref().unwrap_or(M::NAME);
    let mut variables = Vec::new();
    let error = match M::VARIABLES {
        Some((option, prefix)) => {
            let mut errors = checked.variables(option, prefix);
            let unknown = checked.unknown_variables(option, prefix);
            let failed = !errors.is_empty();
            errors.extend(unknown.clone());
            errors.extend(mistakes);
            variables = unknown;
            failed.then(|| errors.join("; "))
        }
        None => checked.error(name, arguments.ignore_unknown),
    };
    let shown = mask::invocation(&spec, &arguments.params);
    let hints = checked.unsupported().filter_map(|name| {
        let instead = M::instead(name)?;
        Some(format!("instead of {name}: {instead}"))
    });
    let hints: Vec<String> = hints.collect();
    reply.asked(arguments, shown, checked.warnings);
    if let Some(error) = error {
        let failure = Failure::new(FailureKind::InvalidOption, error);
        return Err(match hints.is_empty() {
            true => failure,
            false => failure.hint(hints.join("; ")),
        });
    }
    let options = typed(std::mem::take(&mut arguments.params), &spec)?;
    Ok((options, variables))
}

/// The options that the arguments in `json` are for the module `M`, or the answer that refuses
/// them. For fuzz targets.
#[cfg(fuzzing)]
pub fn arguments<M: Module>(
    json: serde_json::Map<String, serde_json::Value>,
) -> Result<M::Options, String> {
    let mut arguments = Arguments::of(json);
    let reply = Reply::new(M::NAME);
    options::<M>(&mut arguments, &reply)
        .map(|(options, _)| options)
        .map_err(|failure| reply.text(Err(failure)))
}

/// Run the module until it ends or must end.
fn work<M: Module>(
    options: M::Options,
    task: Task,
    interrupted: oneshot::Receiver<Failure>,
) -> Result<Outcome, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| {
            Failure::new(
                FailureKind::Internal,
                format!("cannot start the runtime: {e}"),
            )
        })?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            biased;
            Ok(failure) = interrupted => Err(failure),
            outcome = M::run(options, task) => outcome,
        }
    });
    // Blocking work that is still under way ends with the process.
    runtime.shutdown_background();
    outcome
}

#[cfg(test)]
#[path = "hostile_tests.rs"]
mod tests;
