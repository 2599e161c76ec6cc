//! `state: built`: everything of an installation that needs no machine.

use ansible_module::{Failure, Outcome, Task};
use deadline::Deadline;
use serde_json::json;

use crate::commands::programs::Programs;
use crate::commands::tools::{self, Tools};
use crate::error::Error;
use crate::files::private::Private;
use crate::options::Options;
use crate::output::log::Log;
use crate::output::watch::Watch;
use crate::plan::{self, Source};
use crate::preflight::{preflight, refuse};
use crate::values::flake::FlakeRef;

/// Find every mistake in the options of the whole installation, then build the system and disko's
/// script if they are to be built here. In check mode, evaluate them, and say what would be built.
///
/// # Errors
/// Kind `invalid_option` or `tool_missing` before anything else, `tool_failed` when it cannot be
/// built.
pub(crate) async fn built(
    options: &Options,
    task: &Task,
    deadline: &Deadline,
) -> Result<Outcome, Failure> {
    refuse(&preflight(options))?;
    let directories = tools::directories(options.tools_path.as_deref());
    let tools = Tools::find(options, &directories)?;
    let installables = match &options.flake {
        Some(flake) => {
            let flake = FlakeRef::parse(flake).map_err(Error::InvalidFlake)?;
            plan::installables(&flake, options).to_vec()
        }
        None => Vec::new(),
    };
    let private = Private::create(None).map_err(Error::TemporaryDirectory)?;
    let progress = task.progress(options.progress_path.as_deref());
    let log = Log::open(options.log_path.as_deref())?;
    let mut programs = Programs {
        options,
        deadline,
        private: &private,
        directories: &directories,
        tools: &tools,
        connect_timeout: None,
        watch: Watch::new(log, progress, options.host.as_deref()),
    };
    // What nixos-anywhere finds out about the machine may be a part of the configuration, which does not evaluate without it.
    if task.check_mode && options.generate_hardware_config.is_none() && !installables.is_empty() {
        programs.evaluate(&installables).await?;
    }
    if let Some(flake) = options
        .flake
        .as_ref()
        .filter(|_| !plan::built_here(options))
    {
        let msg = format!("{flake} is not built on the controller but with its installation");
        return Ok(Outcome::unchanged(msg).with("store_paths", None::<String>));
    }
    if task.check_mode && !installables.is_empty() {
        let msg = format!("would build {}", installables.join(" and "));
        return Ok(Outcome::unchanged(msg).with("installables", installables));
    }
    programs.caches(task).await;
    programs.controllers_room(task);
    let result = programs.source().await;
    let mut size = None;
    if let Ok(Source::Paths { system, .. }) = &result {
        size = programs.closure_sizes(&[system]).await.remove(0);
    }
    programs.watch.end();
    let phases = programs.watch.phases();
    match result {
        Ok(Source::Paths { disko, system }) => {
            Ok(Outcome::unchanged(format!("{} is built", system.display()))
                .with("store_paths", json!({"disko": disko, "system": system}))
                .with("closure", json!(system))
                .with("closure_size", size)
                .with("installables", installables)
                .with("phases", phases)
                .with("log_path", &options.log_path))
        }
        Ok(Source::Flake(flake)) => Err(Error::NotBuilt(flake).into()),
        Err(error) => Err(Failure::from(error)
            .with("phases", phases)
            .with("log_path", &options.log_path)),
    }
}
