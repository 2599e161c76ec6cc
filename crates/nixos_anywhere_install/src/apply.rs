//! Install.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use ansible_module::{Diff, Failure, Outcome, Progress, Task};
use deadline::Deadline;
use guest_ssh::{Attempt, Guest, Login, Target};
use serde_json::json;

use crate::child::{Ending, Program, run};
use crate::log::Log;
use crate::options::{Options, Phase};
use crate::plan::{self, Decision, Files, FlakeRef, Source};
use crate::watch::Watch;
use crate::workspace::Workspace;
use crate::{release, state, tools};

/// `state: installed`.
pub(crate) async fn install(
    options: &Options,
    task: &Task,
    deadline: &Deadline,
) -> Result<Outcome, Failure> {
    plan::check(options)?;
    let target = state::target(options)?;
    let progress = task.progress(options.progress_path.as_deref());
    let Attempt { guest, connection } =
        match state::reach_now(&target, task, &progress, deadline).await {
            Ok(found) => found,
            Err(error) if task.check_mode && state::absent(&error) => {
                let msg = format!("would install once it can be reached ({error})");
                return Ok(Outcome::changed(msg).with("guest", state::unreachable()));
            }
            Err(error) => return Err(state::ssh_failure(error)),
        };
    let decision = plan::decide(&guest, options)?;
    if decision == Decision::Nothing {
        let msg = format!("{} is installed already", target.address());
        return Ok(Outcome::unchanged(msg)
            .with("closure", guest.system.clone())
            .with("guest", guest));
    }
    if task.check_mode {
        return Ok(
            Outcome::changed(format!("would install on {}", target.address()))
                .diff(difference(options, &guest, None))
                .with("guest", guest),
        );
    }
    // A kexec ends the connection, and an installation needs none of ours.
    drop(connection);

    let directories = tools::directories(options.tools_path.as_deref());
    let nix = tools::find(Path::new("nix"), &directories)?;
    let nixos_anywhere = tools::find(&options.nixos_anywhere, &directories)?;
    let workspace = Workspace::create(options, &target, &directories)?;
    let log = Log::open(options.log_path.as_deref())?;
    let mut run = Run {
        options,
        deadline,
        workspace: &workspace,
        directories: &directories,
        task,
        progress: progress.clone(),
        watch: Watch::new(log, progress, &options.host),
    };
    let result = run.all(&nix, &nixos_anywhere, &target, &decision).await;
    run.watch.end();
    let phases = run.watch.phases();
    match result {
        Ok(installed) => {
            if let Some(reason) = &installed.held {
                task.warn(format!(
                    "installed, but not everything could be unmounted on {}: {reason}",
                    options.host
                ));
            }
            let closure = installed.closure;
            let msg = format!("installed on {}", target.address());
            Ok(Outcome::changed(msg)
                .diff(difference(options, &guest, closure.as_deref()))
                .with("guest", guest)
                .with("closure", closure)
                .with("phases", phases)
                .with("released", installed.held.is_none() && installed.released)
                .with("log_path", &options.log_path))
        }
        Err(failure) => Err(failure
            .object(options.host.clone())
            .with("changed", run.touched())
            .with("guest", guest)
            .with("phases", phases)
            .with("log_path", &options.log_path)),
    }
}

fn difference(options: &Options, guest: &Guest, closure: Option<&str>) -> Diff {
    let source = match (&options.flake, &options.store_paths) {
        (Some(flake), _) => flake.clone(),
        (None, Some(paths)) => paths.system.display().to_string(),
        (None, None) => String::new(),
    };
    Diff::new(
        json!({"kind": guest.kind, "system": guest.system}),
        json!({"kind": "installed", "from": source, "system": closure}),
    )
    .header(options.host.clone())
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
    options: &'a Options,
    deadline: &'a Deadline,
    workspace: &'a Workspace,
    directories: &'a [PathBuf],
    task: &'a Task,
    progress: Progress,
    watch: Watch,
}

impl Run<'_> {
    /// Whether the machine is not what it was.
    fn touched(&self) -> bool {
        self.watch.reached("Switching system into kexec")
            || self.watch.reached("Formatting hard drive with disko")
    }

    async fn all(
        &mut self,
        nix: &Path,
        nixos_anywhere: &Path,
        target: &Target,
        decision: &Decision,
    ) -> Result<Installed, Failure> {
        let source = self.source(nix).await?;
        self.nixos_anywhere(nixos_anywhere, &source).await?;
        self.watch.end();
        let built = match &source {
            Source::Paths { system, .. } => Some(system.display().to_string()),
            Source::Flake(_) => None,
        };
        if self.options.phases.contains(&Phase::Reboot) {
            return Ok(Installed {
                closure: built,
                released: false,
                held: None,
            });
        }
        self.watch.begin("Verifying and releasing the disks");
        let target = after(target, self.options, decision);
        let Attempt { connection, .. } =
            state::reach_now(&target, self.task, &self.progress, self.deadline)
                .await
                .map_err(state::ssh_failure)?;
        let closure = match self.options.phases.contains(&Phase::Install) {
            true => Some(release::closure(&connection, self.deadline).await?),
            false => None,
        };
        if let (Some(built), Some(found)) = (&built, &closure)
            && built != found
        {
            return Err(Failure::new(
                "wrong_system",
                format!("{found} was installed instead of {built}"),
            ));
        }
        let held = release::release(&connection, self.deadline).await.err();
        Ok(Installed {
            closure,
            released: true,
            held,
        })
    }

    /// Build the configuration if it is to be built here.
    async fn source(&mut self, nix: &Path) -> Result<Source, Failure> {
        if let Some(paths) = &self.options.store_paths {
            let existing = |path: &Path| {
                path.canonicalize().map_err(|error| {
                    let msg = format!("store_paths: {}: {error}", path.display());
                    Failure::new("invalid_option", msg)
                })
            };
            return Ok(Source::Paths {
                disko: existing(&paths.disko)?,
                system: existing(&paths.system)?,
            });
        }
        let text = self.options.flake.as_deref().unwrap_or_default();
        if !plan::built_here(self.options) {
            return Ok(Source::Flake(text.to_owned()));
        }
        let flake = FlakeRef::parse(text)?;
        self.watch.begin("Building the configuration");
        let system = self.build(nix, &flake.installable("toplevel")).await?;
        let disko = plan::disko_attribute(self.options.disko_mode);
        let disko = self.build(nix, &flake.installable(&disko)).await?;
        self.watch.end();
        Ok(Source::Paths { disko, system })
    }

    async fn build(&mut self, nix: &Path, installable: &str) -> Result<PathBuf, Failure> {
        self.watch.note(&format!("$ nix build {installable}"));
        let arguments = plan::build_arguments(installable, self.options);
        let environment = [("PATH", Some(tools::joined(self.directories)))];
        let what = format!("nix build {installable}");
        self.watch.capture();
        self.run(nix, &arguments, &environment, &what).await?;
        let stdout = self.watch.captured();
        match stdout.lines().rfind(|line| line.starts_with('/')) {
            Some(path) => Ok(PathBuf::from(path)),
            None => Err(Failure::new("build", format!("{what} named no store path"))
                .detail(self.watch.tail())
                .hint("nix 2.20 or newer is needed")),
        }
    }

    async fn nixos_anywhere(&mut self, program: &Path, source: &Source) -> Result<(), Failure> {
        let files = Files {
            key: self.workspace.key.as_deref(),
            extra: self.workspace.extra.as_deref(),
        };
        self.watch.note("$ nixos-anywhere");
        let arguments = plan::arguments(self.options, source, &files);
        let environment = self.workspace.environment(self.directories);
        self.run(program, &arguments, &environment, "nixos-anywhere")
            .await
    }

    /// Run a program to its successful end.
    async fn run(
        &mut self,
        path: &Path,
        arguments: &[OsString],
        environment: &[(&'static str, Option<OsString>)],
        what: &str,
    ) -> Result<(), Failure> {
        let program = Program {
            path,
            arguments,
            environment,
            private: self.workspace.root(),
        };
        let ending = run(&program, what, self.deadline, &mut self.watch)
            .await
            .map_err(|error| Failure::new("tool", format!("cannot start {what}: {error}")))?;
        let phase = match self.watch.current() {
            Some(phase) => format!(" in the phase \"{phase}\""),
            None => String::new(),
        };
        let host = &self.options.host;
        match ending {
            Ending::Exited(status) if status.success() => Ok(()),
            Ending::Exited(status) => {
                let how = match status.code() {
                    Some(code) => format!("ended with exit status {code}"),
                    None => format!("was killed ({status})"),
                };
                let last = self.watch.last().unwrap_or("it said nothing");
                let msg = format!("{what} for {host} {how}{phase}: {last}");
                let mut failure = Failure::new("tool_failed", msg).detail(self.watch.tail());
                failure.status = status.code().and_then(|code| u16::try_from(code).ok());
                Err(failure.hint(hint(self.watch.current(), what)))
            }
            Ending::Stopped(stop) => {
                let msg = format!("{what} for {host} was ended{phase}: {}", stop.reason);
                let failure = Failure::new(stop.kind, msg).detail(self.watch.tail());
                Err(match stop.hint {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                })
            }
            Ending::Expired(expired) => {
                let msg = format!("{what} for {host} was ended{phase}: {expired}");
                Err(Failure::new("timeout", msg)
                    .detail(self.watch.tail())
                    .hint("raise timeout if the installation needs longer"))
            }
        }
    }
}

/// What to do about a failure, by where it happened.
fn hint(phase: Option<&str>, what: &str) -> &'static str {
    match phase {
        _ if what.starts_with("nix build") => {
            "nothing was done to the machine; the same command on the controller shows the whole error"
        }
        Some("Formatting hard drive with disko") => {
            "compare the disks in the disko configuration with those of the machine (lsblk)"
        }
        Some("Uploading the system closure" | "Building the system closure") => {
            "the new root may be too small, or the connection too weak"
        }
        Some("Installing NixOS") => "the machine's output above says what nixos-install met",
        Some("Gathering machine facts") => "the machine must be a Linux with tar, cpio and setsid",
        Some("Switching system into kexec") => {
            "the machine must reach the kexec installer's URL, or give kexec a local tarball"
        }
        _ => "the output is in detail, and all of it in log_path if that was given",
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
