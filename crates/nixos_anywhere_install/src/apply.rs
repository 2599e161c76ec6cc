//! Install.

use std::path::Path;

use ansible_module::{Diff, Failure, Outcome, Progress, Task};
use deadline::Deadline;
use guest_ssh::{Attempt, Connection, Guest, Kind, Login, Target};
use serde_json::json;

use crate::commands::programs::Programs;
use crate::commands::tools::{self, Tools};
use crate::error::{Error, ssh_failure};
use crate::files::workspace::Workspace;
use crate::machine::room::Room;
use crate::machine::{caches, release};
use crate::options::{Options, Phase};
use crate::output::log::Log;
use crate::output::text::printable;
use crate::output::watch::Watch;
use crate::plan::{self, Decision, Source};
use crate::preflight::{Mistake, preflight, refuse};
use crate::state;

/// `state: installed`.
pub(crate) async fn install(
    options: &Options,
    task: &Task,
    deadline: &Deadline,
) -> Result<Outcome, Failure> {
    let mistakes = preflight(options);
    if !mistakes.iter().all(Mistake::deferrable) {
        refuse(&mistakes)?;
    }
    let target = state::target(options)?;
    let progress = task.progress(options.progress_path.as_deref());
    let directories = tools::directories(options.tools_path.as_deref());
    let machine = Machine {
        target: &target,
        options,
        task,
        progress: &progress,
        deadline,
    };
    let Attempt { guest, connection } = match machine.reach(&mistakes).await? {
        Reached::Machine(found) => *found,
        Reached::NotYet(outcome) => return Ok(*outcome),
    };
    let decision = plan::decide(&guest, options)
        .map_err(|error| Failure::from(error).with("guest", &guest))?;
    if decision == Decision::Nothing {
        let msg = format!("{} is installed already", target.address());
        return Ok(Outcome::unchanged(msg)
            .with("closure", guest.system.clone())
            .with("guest", guest));
    }
    // What would stop it later is found before anything is done.
    refuse(&mistakes)?;
    let tools = Tools::find(options, &directories)?;
    let room = machine.check(&connection, &decision).await?;
    if task.check_mode {
        return Ok(
            Outcome::changed(format!("would install on {}", target.address()))
                .diff(difference(options, &guest, None))
                .with("guest", guest),
        );
    }
    if guest.kind == Kind::Installer {
        release::await_other_installation(&connection, &progress, options.host(), deadline).await?;
    }
    // A kexec ends the connection, and an installation needs none of ours.
    drop(connection);

    let workspace = Workspace::create(options, &target, &directories)?;
    let log = Log::open(options.log_path.as_deref())?;
    let mut run = Run {
        programs: Programs {
            options,
            deadline,
            private: workspace.private(),
            directories: &directories,
            tools: &tools,
            connect_timeout: None,
            watch: Watch::new(log, progress.clone(), options.host.as_deref()),
        },
        workspace: &workspace,
        task,
        progress,
        room: (decision == Decision::Install).then_some(room),
    };
    let result = run.all(&target, &decision).await;
    run.report(result, &target, guest)
}

/// The machine before the installation.
struct Machine<'a> {
    target: &'a Target,
    options: &'a Options,
    task: &'a Task,
    progress: &'a Progress,
    deadline: &'a Deadline,
}

/// Whether there is a machine to install on.
enum Reached {
    Machine(Box<Attempt>),
    /// In check mode: what a run would do once there is one.
    NotYet(Box<Outcome>),
}

impl Machine<'_> {
    /// Reach it. With a mistake in the options, all that is left to find out is whether it is installed already.
    async fn reach(&self, mistakes: &[Mistake]) -> Result<Reached, Failure> {
        let found = match mistakes.is_empty() {
            true => state::reach_now(self.target, self.task, self.progress, self.deadline).await,
            false => state::probe_once(self.target, self.deadline).await,
        };
        match found {
            Ok(found) => Ok(Reached::Machine(Box::new(found))),
            Err(error) if state::absent(&error) && !mistakes.is_empty() => {
                refuse(mistakes)?;
                Err(ssh_failure(error))
            }
            Err(error) if self.task.check_mode && state::absent(&error) => {
                let msg = format!("would install once it can be reached ({error})");
                let outcome = Outcome::changed(msg).with("guest", state::unreachable());
                Ok(Reached::NotYet(Box::new(outcome)))
            }
            Err(error) => Err(ssh_failure(error)),
        }
    }

    /// Refuse it for what would stop the installation late. Returns what room it has.
    async fn check(&self, connection: &Connection, decision: &Decision) -> Result<Room, Failure> {
        release::may_be_root(connection, self.deadline).await?;
        if *decision == Decision::Install {
            release::ready(connection, self.options, self.deadline).await?;
        }
        let room = release::room(connection, self.deadline).await?;
        if *decision == Decision::KexecThenInstall
            && let Some(doubt) = room.too_little_for_kexec()
        {
            self.task.warn(doubt);
        }
        if *decision == Decision::Install {
            for uri in caches::unreachable(connection, self.options, self.deadline).await {
                self.task.warn(format!(
                    "binary cache {}: accepts no connection from {}, and each Nix command there waits for it; \
                     to fetch nothing there, set build_on: local and substitute_on_destination: false",
                    printable(&uri),
                    connection.address()
                ));
            }
        }
        Ok(room)
    }
}

/// What nixos-anywhere wrote of the machine's hardware, if it was asked to.
fn hardware_config(options: &Options, task: &Task) -> Option<String> {
    let path = &options.generate_hardware_config.as_ref()?.path;
    match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) => {
            task.warn(format!("cannot read {}: {error}", path.display()));
            None
        }
    }
}

fn difference(options: &Options, guest: &Guest, closure: Option<&str>) -> Diff {
    let source = match (&options.flake, &options.store_paths) {
        (Some(flake), _) => flake.clone(),
        (None, Some(paths)) => paths.system.display().to_string(),
        (None, None) => String::new(),
    };
    let after = match options.phases.contains(&Phase::Install) {
        true => json!({"kind": "installed", "from": source, "system": closure}),
        false => json!({"kind": guest.kind, "system": guest.system, "done": plan::done(options)}),
    };
    Diff::new(json!({"kind": guest.kind, "system": guest.system}), after).header(options.host())
}

/// What an installation came to.
struct Installed {
    closure: Option<String>,
    /// Whether the new system was unmounted by us.
    released: bool,
    /// What kept it from being unmounted.
    held: Option<String>,
}

/// One installation that goes on.
struct Run<'a> {
    programs: Programs<'a>,
    workspace: &'a Workspace,
    task: &'a Task,
    progress: Progress,
    /// What the installer has; none if another one is booted first.
    room: Option<Room>,
}

impl Run<'_> {
    /// Warn of what is too small for what was built.
    async fn room_for(&self, room: &Room, disko: &Path, system: &Path) {
        let phases = &self.programs.options.phases;
        let sizes = self.programs.closure_sizes(&[disko, system]).await;
        let needed = |phase, index: usize| match phases.contains(&phase) {
            true => sizes[index],
            false => None,
        };
        let (disko, system) = (needed(Phase::Disko, 0), needed(Phase::Install, 1));
        for doubt in room.doubts(disko, system) {
            self.task.warn(doubt);
        }
    }

    /// The result of the installation.
    fn report(
        mut self,
        result: Result<Installed, Failure>,
        target: &Target,
        guest: Guest,
    ) -> Result<Outcome, Failure> {
        let options = self.programs.options;
        self.programs.watch.end();
        let phases = self.programs.watch.phases();
        match result {
            Ok(installed) => {
                if let Some(reason) = &installed.held {
                    self.task.warn(format!(
                        "installed, but not everything could be unmounted on {}: {reason}",
                        options.host()
                    ));
                }
                let hardware = hardware_config(options, self.task);
                let closure = installed.closure;
                let msg = format!("{} {}", plan::done(options), target.address());
                let mut outcome = Outcome::changed(msg);
                if let Some(hardware) = hardware {
                    outcome = outcome.with("hardware_config", hardware);
                }
                Ok(outcome
                    .diff(difference(options, &guest, closure.as_deref()))
                    .with("guest", guest)
                    .with("closure", closure)
                    .with("phases", phases)
                    .with("released", installed.held.is_none() && installed.released)
                    .with("log_path", &options.log_path))
            }
            Err(failure) => Err(failure
                .object(options.host())
                .with("changed", self.programs.watch.touched())
                .with("guest", guest)
                .with("phases", phases)
                .with("log_path", &options.log_path)),
        }
    }

    async fn all(&mut self, target: &Target, decision: &Decision) -> Result<Installed, Failure> {
        let (options, deadline) = (self.programs.options, self.programs.deadline);
        self.programs.caches(self.task).await;
        self.programs.controllers_room(self.task);
        let source = self.programs.source().await?;
        if let (Some(room), Source::Paths { disko, system }) = (&self.room, &source) {
            self.room_for(room, disko, system).await;
        }
        let ended = self.programs.nixos_anywhere(self.workspace, &source).await;
        // What follows needs neither the login key's copy nor the new system's keys.
        self.workspace.private().clear();
        ended?;
        self.programs.watch.end();
        let built = match &source {
            Source::Paths { system, .. } => Some(system.display().to_string()),
            Source::Flake(_) => None,
        };
        // Without the phase install what is mounted is left for it, and nothing was installed.
        let installs = options.phases.contains(&Phase::Install);
        if options.phases.contains(&Phase::Reboot) || !installs {
            return Ok(Installed {
                closure: built.filter(|_| installs),
                released: false,
                held: None,
            });
        }
        self.programs
            .watch
            .begin("Verifying and releasing the disks");
        let target = after(target, options, decision);
        let Attempt { connection, .. } =
            state::reach_now(&target, self.task, &self.progress, deadline)
                .await
                .map_err(ssh_failure)?;
        let found = release::closure(&connection, deadline).await?;
        if let Some(built) = &built
            && *built != found
        {
            let built = built.clone();
            return Err(Error::WrongSystem { found, built }.into());
        }
        let held = release::release(&connection, deadline).await.err();
        Ok(Installed {
            closure: Some(found),
            released: true,
            held,
        })
    }
}

/// Where and as whom the machine is reached once nixos-anywhere is through with it.
fn after(target: &Target, options: &Options, decision: &Decision) -> Target {
    let mut target = target.clone();
    if *decision == Decision::KexecThenInstall {
        target.port = options.post_kexec_port;
        for system in &mut target.systems {
            system.login = Login {
                user: "root".into(),
                identity: system.login.identity.clone(),
            };
        }
    }
    target
}
