//! One task from its options to its result: build, look, plan, stop there in check mode, apply.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ansible_module::{Failure, Outcome, Task};
use deadline::Deadline;
use guest_ssh::Connection;
use nixos_anywhere_install::{
    Controller, Mistake, Nix, as_root, preflight_of_system, printable, refuse, ssh_failure,
    store_path,
};
use serde_json::json;

use crate::apply::{self, Activation};
use crate::error::Error;
use crate::options::{Action, Options, Reboot};
use crate::packages::Comparison;
use crate::plan::{Plan, Step, Wanted, plan};
use crate::report;
use crate::state::{self, BOOT_PARTS, BootParts, Machine};

/// The program in a system that activates it.
const SWITCH_PROGRAM: &str = "bin/switch-to-configuration";

/// Do the task.
///
/// # Errors
/// Kind `invalid_option` before anything is built, those of Nix before the machine is changed, and those of the activation.
pub async fn run(options: &Options, task: &Task) -> Result<Outcome, Failure> {
    let install = install_options(options)?;
    check(options, &install)?;
    let deadline = Deadline::after(Duration::from_secs(options.timeout));
    let controller = Controller::prepare(install, deadline)?;
    let target = controller.target();
    let mut nix = controller.nix(task)?;
    // Reached before it is built: minutes of building are of no use for a machine that does not answer.
    let (mut connection, mut machine) = state::look(options, target, &deadline).await?;
    let progress = task.progress(options.progress_path.as_deref());
    let activation = Activation {
        options,
        target,
        deadline: &deadline,
        progress: &progress,
    };
    if machine.deploying && task.check_mode {
        task.warn(format!(
            "{}: another deployment of it is under way; the task would wait for its end",
            options.host
        ));
    } else if machine.deploying {
        activation.quiet(&connection).await?;
        (connection, machine) = state::look(options, target, &deadline).await?;
    }
    let build = !task.check_mode || task.diff_mode;
    let wanted = wanted(options, &machine, &mut nix, task, build).await?;
    let plan = plan(&machine, &wanted, options.action, options.reboot);
    warn_of_another_host(&machine, &wanted, task);
    if plan.steps.is_empty() {
        return Ok(report::unchanged(options, &machine, &wanted, &plan));
    }
    let closures = closures(&connection, &machine, &wanted, &nix, &deadline).await;
    if task.check_mode {
        return Ok(report::would_change(
            options,
            &machine,
            &wanted,
            &plan,
            closures.as_ref(),
        ));
    }
    Run {
        activation,
        nix: &mut nix,
        closures,
    }
    .converge(connection, machine, wanted, plan)
    .await
}

/// The mistakes that can be found without the machine, in the words of this module's options.
fn check(options: &Options, install: &nixos_anywhere_install::Options) -> Result<(), Failure> {
    let mut mistakes = preflight_of_system(install);
    for mistake in &mut mistakes {
        if mistake.option == "installed_host_keys" {
            mistake.option = "host_keys".into();
        }
    }
    if options.host_keys.is_empty() {
        mistakes.push(Mistake::new(
            "host_keys",
            "at least one key is required (got an empty list)",
        ));
    }
    if options.reboot == Reboot::IfNeeded
        && matches!(options.action, Action::Test | Action::DryActivate)
    {
        let problem = "if_needed is not supported with this action, because a restart boots the old system; use switch or boot";
        mistakes.push(Mistake::new("reboot", problem));
    }
    for (option, seconds) in [
        ("activation_timeout", options.activation_timeout),
        ("confirm_timeout", options.confirm_timeout),
        ("reboot_timeout", options.reboot_timeout),
    ] {
        if seconds == 0 {
            mistakes.push(Mistake::new(option, "must be at least 1 second (got 0)"));
        }
    }
    refuse(&mistakes)
}

/// The options of an installation that Nix is run with.
fn install_options(options: &Options) -> Result<nixos_anywhere_install::Options, Error> {
    let value = json!({
        "host": options.host, "port": options.port, "user": options.user, "private_key_file": options.private_key_file,
        "installed_host_keys": options.host_keys, "jump_host": options.jump_host, "jump_host_keys": options.jump_host_keys,
        "jump_host_private_key_file": options.jump_host_private_key_file, "flake": options.flake, "tools_path": options.tools_path,
        "nix_options": options.nix_options, "override_inputs": options.override_inputs, "show_trace": options.show_trace, "log_path": options.log_path,
        "substitute_on_destination": options.substitute_on_destination, "progress_path": options.progress_path,
        "timeout": options.timeout,
    });
    Ok(serde_json::from_value(value)?)
}

/// Find out which system is to be deployed; build it if `build` says so.
async fn wanted(
    options: &Options,
    machine: &Machine,
    nix: &mut Nix<'_>,
    task: &Task,
    build: bool,
) -> Result<Wanted, Failure> {
    if let Some(generation) = &options.generation {
        let (number, system) = machine.generation_of(generation)?;
        return Ok(Wanted {
            system,
            generation: Some(number),
            parts: None,
        });
    }
    let path = match &options.store_path {
        Some(path) => given(path)?,
        None if build => nix.build(task).await?,
        None => nix.evaluate().await?,
    };
    let system = path.to_str().and_then(store_path);
    let system = system.ok_or_else(|| Error::NotInStore(path.clone()))?;
    let there = path.exists();
    if there && !path.join(SWITCH_PROGRAM).exists() {
        let program = SWITCH_PROGRAM;
        return Err(Error::NotASystem { system, program }.into());
    }
    Ok(Wanted {
        system,
        generation: None,
        parts: there.then(|| parts(&path)),
    })
}

/// The path of the option store_path, without links such as `result`.
fn given(path: &Path) -> Result<PathBuf, Error> {
    path.canonicalize().map_err(|error| Error::StorePath {
        path: path.to_owned(),
        error,
    })
}

/// What a system in this computer's store boots with.
fn parts(system: &Path) -> BootParts {
    BOOT_PARTS.map(|part| store_path(system.join(part).canonicalize().ok()?.to_str()?))
}

/// A system for another host is not refused, since a host may be renamed like that.
fn warn_of_another_host(machine: &Machine, wanted: &Wanted, task: &Task) {
    let Ok(name) = fs::read_to_string(Path::new(&wanted.system).join("etc/hostname")) else {
        return;
    };
    let (name, old) = (name.trim(), machine.hostname.as_str());
    let short = old.split('.').next().unwrap_or(old);
    if !name.is_empty() && name != short && name != old {
        task.warn(format!(
            "the new system's host name is {}, the machine's is {old}; check that the configuration is this machine's",
            printable(name)
        ));
    }
}

/// What differs between both closures, if Nix lists them on the machine and on the controller.
async fn closures(
    connection: &Connection,
    machine: &Machine,
    wanted: &Wanted,
    nix: &Nix<'_>,
    deadline: &Deadline,
) -> Option<Comparison> {
    let before = state::closure(connection, &machine.current, deadline).await?;
    let after = match wanted.generation {
        Some(_) => state::closure(connection, &wanted.system, deadline).await?,
        None => nix.closure(Path::new(&wanted.system)).await?,
    };
    Some(Comparison::new(&before, &after))
}

/// A task that changes something.
struct Run<'a, 'b> {
    activation: Activation<'a>,
    nix: &'a mut Nix<'b>,
    closures: Option<Comparison>,
}

impl Run<'_, '_> {
    async fn converge(
        self,
        connection: Connection,
        before: Machine,
        mut wanted: Wanted,
        mut plan: Plan,
    ) -> Result<Outcome, Failure> {
        let options = self.activation.options;
        let deadline = self.activation.deadline;
        if plan.steps.contains(&Step::Copy) {
            self.nix.copy(Path::new(&wanted.system)).await?;
        }
        if options.action == Action::DryActivate {
            let output = apply::dry_activate(&connection, &wanted, options, deadline).await?;
            return Ok(report::dry(
                options,
                &before,
                &wanted,
                &plan,
                self.closures.as_ref(),
                &output,
            ));
        }
        let mut output = String::new();
        let mut now = before.clone();
        if plan.steps.contains(&Step::Activate) {
            self.enough_time()?;
            self.activation.quiet(&connection).await?;
            output = self.activation.activate(&connection, &wanted).await?;
            now = apply::verified(&self.activation, &wanted, options.action).await?;
        }
        if plan.reboot_required.is_none() && options.action != Action::Test {
            wanted.parts = parts_there(
                &connection_of(&self.activation).await?,
                &wanted.system,
                deadline,
            )
            .await;
            let again = self::plan(&now, &wanted, options.action, options.reboot);
            plan.reboot_required = again.reboot_required;
            if again.steps.contains(&Step::Reboot) {
                plan.steps.push(Step::Reboot);
            }
        }
        if plan.steps.contains(&Step::Reboot) {
            let connection = connection_of(&self.activation).await?;
            // Not while another task writes the boot loader.
            self.activation.quiet(&connection).await?;
            now = self
                .activation
                .reboot(&connection, &now, &wanted.system)
                .await?;
            plan.reboot_required = Some(false);
        }
        Ok(report::done(
            options,
            &before,
            &now,
            &wanted,
            &plan,
            self.closures.as_ref(),
        )
        .with("output", report::lines(&output)))
    }

    /// Nothing is activated whose confirmation the time limit would cut off.
    fn enough_time(&self) -> Result<(), Error> {
        let (options, left) = (
            self.activation.options,
            self.activation.deadline.remaining(),
        );
        let needed = options.confirm_timeout;
        if left >= Duration::from_secs(needed) {
            return Ok(());
        }
        Err(Error::NotEnoughTime {
            host: options.host.clone(),
            left,
            needed,
        })
    }
}

async fn connection_of(activation: &Activation<'_>) -> Result<Connection, Failure> {
    let opened = Connection::open(activation.target, activation.deadline).await;
    opened.map_err(|error| ssh_failure(error).with("changed", true))
}

/// What a system in the machine's store boots with; none if it does not say.
async fn parts_there(
    connection: &Connection,
    system: &str,
    deadline: &Deadline,
) -> Option<BootParts> {
    let mut script = String::new();
    for part in BOOT_PARTS {
        script += &format!("readlink -f '{system}/{part}' || echo\n");
    }
    let output = as_root(
        connection,
        "the script that reads what the new system boots with",
        &script,
        deadline,
    )
    .await
    .ok()?;
    let text = output.text();
    let mut lines = text.lines();
    output
        .ok()
        .then(|| BOOT_PARTS.map(|_| store_path(lines.next().unwrap_or_default())))
}
