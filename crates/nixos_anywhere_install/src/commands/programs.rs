//! Run nix and nixos-anywhere, and say what became of them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use ansible_module::Task;
use deadline::Deadline;
use tokio::time::Instant;

use super::nix;
use super::nixos_anywhere::{self, Files};
use crate::commands::caches::{self, Caches};
use crate::commands::child::{self, Ending, Listener, Program, Stop, Work};
use crate::commands::tools::{self, Tools};
use crate::error::{Error, InPhase};
use crate::files::private::Private;
use crate::files::workspace::Workspace;
use crate::machine::room;
use crate::options::Options;
use crate::output::phases::BUILD;
use crate::output::text::printable;
use crate::output::watch::Watch;
use crate::plan::{self, Source};
use crate::values::flake::FlakeRef;

/// How long Nix may take to answer a question about its settings or its store.
const QUESTION: Duration = Duration::from_secs(10);

/// The most that is kept of an answer, in bytes.
const LONGEST_ANSWER: usize = 1 << 20;

/// What the programs of one task share.
pub(crate) struct Programs<'a> {
    pub(crate) options: &'a Options,
    pub(crate) deadline: &'a Deadline,
    /// Its guard ends them should this module be killed.
    pub(crate) private: &'a Private,
    /// For their PATH.
    pub(crate) directories: &'a [PathBuf],
    pub(crate) tools: &'a Tools,
    /// How many seconds Nix waits for a connection; none to leave that to its own settings.
    pub(crate) connect_timeout: Option<u64>,
    /// Hears what they say.
    pub(crate) watch: Watch,
}

/// Where Nix keeps what it builds.
const STORE: &str = "/nix/store";

impl Programs<'_> {
    /// Warn of binary caches that do not answer, and have Nix wait less for them. Only a flake needs any.
    pub(crate) async fn caches(&mut self, task: &Task) {
        if self.options.flake.is_none() {
            return;
        }
        let Some(text) = self.ask(nix::settings(self.options)).await else {
            return;
        };
        let caches = Caches::parse(&text);
        self.connect_timeout = caches::connect_timeout(&caches, self.options);
        for uri in caches.unreachable().await {
            task.warn(format!(
                "binary cache {}: accepts no connection from this controller, and each Nix command waits for it; \
                 to leave it out, set nix_options: {{substituters: [...]}}",
                printable(&uri)
            ));
        }
    }

    /// Warn of a controller with little room for what is built on it.
    pub(crate) fn controllers_room(&self, task: &Task) {
        let builds = self.options.flake.is_some() && plan::built_here(self.options);
        let doubt = builds.then(|| room::too_little_to_build(room::free(STORE)));
        if let Some(doubt) = doubt.flatten() {
            task.warn(doubt);
        }
    }

    /// The sizes of the closures of built paths, in bytes.
    pub(crate) async fn closure_sizes(&self, paths: &[&Path]) -> Vec<Option<u64>> {
        let text = self.ask(nix::closure_sizes(paths, self.options)).await;
        let text = text.unwrap_or_default();
        let size = |path: &&Path| room::closure_size(&text, path);
        paths.iter().map(size).collect()
    }

    /// What Nix gets besides the module's own environment.
    fn environment(&self) -> Vec<(&'static str, Option<OsString>)> {
        self.with_settings(vec![("PATH", Some(tools::joined(self.directories)))])
    }

    /// `environment` with Nix's settings.
    fn with_settings(
        &self,
        mut environment: Vec<(&'static str, Option<OsString>)>,
    ) -> Vec<(&'static str, Option<OsString>)> {
        if let Some(config) = nix::config(self.options, self.connect_timeout) {
            environment.push(("NIX_CONFIG", Some(config)));
        }
        environment
    }

    /// What Nix prints in answer to a question that takes no time; none if it fails.
    async fn ask(&self, arguments: Vec<OsString>) -> Option<String> {
        let program = Program {
            path: &self.tools.nix,
            arguments: &arguments,
            environment: &self.environment(),
            private: self.private,
        };
        let mut answer = Answer::default();
        let deadline = self.deadline.shorter(QUESTION);
        match child::run(&program, "a question", &deadline, &mut answer).await {
            Ok(Ending::Exited(status)) if status.success() => Some(answer.0),
            _ => None,
        }
    }

    /// What is to be installed: built here, unless it is to be built elsewhere.
    pub(crate) async fn source(&mut self) -> Result<Source, Error> {
        if let Some(paths) = &self.options.store_paths {
            let existing = |path: &Path| {
                path.canonicalize().map_err(|error| Error::StorePath {
                    path: path.to_owned(),
                    error,
                })
            };
            return Ok(Source::Paths {
                disko: existing(&paths.disko)?,
                system: existing(&paths.system)?,
            });
        }
        let text = self.options.flake.as_deref().unwrap_or_default();
        let flake = FlakeRef::parse(text).map_err(Error::InvalidFlake)?;
        if !plan::built_here(self.options) {
            let flake = flake.for_nixos_anywhere().map_err(Error::InvalidFlake)?;
            return Ok(Source::Flake(flake));
        }
        self.watch.begin(BUILD);
        let installables = plan::installables(&flake, self.options);
        let [system, disko] = self.build(&installables).await?;
        self.watch.end();
        Ok(Source::Paths { disko, system })
    }

    /// A command as a person would repeat it.
    fn command(&self, words: &str, installables: &[String]) -> String {
        let inputs = nix::overridden(self.options);
        let inputs = inputs
            .iter()
            .map(|(name, uri)| format!(" --override-input {name} {uri}"));
        format!(
            "{words}{} {}",
            inputs.collect::<String>(),
            installables.join(" ")
        )
    }

    /// Have Nix evaluate installables, without building them.
    ///
    /// # Errors
    /// Kind `evaluation`: what Nix said; and those of running it.
    pub(crate) async fn evaluate(&mut self, installables: &[String]) -> Result<(), Error> {
        let what = self.command("nix path-info --derivation", installables);
        self.watch.note(&format!("$ {what}"));
        let arguments = nix::evaluate(installables, self.options);
        let environment = self.environment();
        let nix = self.tools.nix.clone();
        let run = self.run(&nix, &arguments, &environment, &what).await;
        run.map_err(Error::of_evaluation)
    }

    /// Have Nix build installables at once, so that it evaluates their flake once. It prints their paths in their order.
    pub(crate) async fn build<const N: usize>(
        &mut self,
        installables: &[String; N],
    ) -> Result<[PathBuf; N], Error> {
        let what = self.command("nix build", installables);
        self.watch.note(&format!("$ {what}"));
        let arguments = nix::build(installables, self.options);
        let environment = self.environment();
        self.watch.printed_paths();
        let nix = self.tools.nix.clone();
        self.run(&nix, &arguments, &environment, &what).await?;
        self.watch
            .printed_paths()
            .try_into()
            .map_err(|paths: Vec<_>| Error::StorePathCount {
                what,
                named: paths.len(),
                expected: N,
                output: self.watch.tail(),
            })
    }

    /// Have Nix evaluate an installable that is a store path as text.
    ///
    /// # Errors
    /// Kind `evaluation`: what Nix said.
    pub(crate) async fn out_path(&mut self, installable: &str) -> Result<PathBuf, Error> {
        let what = format!("nix eval {installable}");
        self.watch.note(&format!("$ {what}"));
        let arguments = nix::eval(installable, self.options);
        let environment = self.environment();
        self.watch.printed_paths();
        let nix = self.tools.nix.clone();
        let run = self.run(&nix, &arguments, &environment, &what).await;
        run.map_err(Error::of_evaluation)?;
        let path = self.watch.printed_paths().pop();
        path.ok_or_else(|| Error::NoStorePath {
            what,
            output: self.watch.tail(),
        })
    }

    /// The store paths in the closure of a path, a line each, with their sizes; none if Nix does not say.
    pub(crate) async fn closure(&self, path: &Path) -> Option<String> {
        let answer = self.ask(nix::closure(path, self.options)).await;
        // One that was cut off would look like packages that are gone.
        answer.filter(|text| text.len() < LONGEST_ANSWER)
    }

    /// Copy the closure of `system` to the machine with the `ssh` of `workspace`.
    pub(crate) async fn copy(&mut self, workspace: &Workspace, system: &Path) -> Result<(), Error> {
        self.watch.note("$ nix copy");
        self.watch
            .follow(workspace.channel(), workspace.jump_channel());
        let arguments = nix::copy(system, self.options);
        let mut environment = self.with_settings(workspace.environment(self.directories));
        let ssh = nix::ssh_options(self.options, workspace.key.as_deref());
        environment.push(("NIX_SSHOPTS", Some(ssh)));
        let nix = self.tools.nix.clone();
        self.run(&nix, &arguments, &environment, "nix copy").await
    }

    /// Run nixos-anywhere with the files of `workspace`.
    pub(crate) async fn nixos_anywhere(
        &mut self,
        workspace: &Workspace,
        source: &Source,
    ) -> Result<(), Error> {
        let files = Files {
            key: workspace.key.as_deref(),
            extra: workspace.extra.as_deref(),
        };
        self.watch.note("$ nixos-anywhere");
        self.watch
            .follow(workspace.channel(), workspace.jump_channel());
        let (program, mut arguments) = self.tools.nixos_anywhere.clone();
        arguments.extend(nixos_anywhere::arguments(self.options, source, &files));
        let environment = self.with_settings(workspace.environment(self.directories));
        self.run(&program, &arguments, &environment, "nixos-anywhere")
            .await
    }

    /// Run a program to its successful end.
    async fn run(
        &mut self,
        path: &Path,
        arguments: &[OsString],
        environment: &[(&'static str, Option<OsString>)],
        what: &str,
    ) -> Result<(), Error> {
        let program = Program {
            path,
            arguments,
            environment,
            private: self.private,
        };
        let ending = child::run(&program, what, self.deadline, &mut self.watch)
            .await
            .map_err(|error| Error::CannotStart {
                what: what.to_owned(),
                error,
            })?;
        self.watch.complete_log();
        let phase = InPhase(self.watch.current().map(str::to_owned));
        let what = match &self.options.host {
            Some(host) => format!("{what} for {host}"),
            None => what.to_owned(),
        };
        let output = self.watch.tail();
        match ending {
            Ending::Exited(status) if status.success() => Ok(()),
            Ending::Exited(status) => Err(self.failed(what, phase, status)),
            Ending::Stopped(Stop { kind, reason, hint }) => Err(Error::Stopped {
                what,
                phase,
                kind,
                reason,
                output,
                hint,
            }),
            Ending::Expired(expired) => Err(Error::TimedOut {
                what,
                phase,
                expired,
                output,
            }),
        }
    }

    /// The failure of a program that ended with this status.
    fn failed(&self, what: String, phase: InPhase, status: ExitStatus) -> Error {
        let end = match status.code() {
            Some(code) => format!("ended with exit status {code}"),
            None => format!("was killed ({status})"),
        };
        let output = self.watch.tail();
        if let Some(reason) = self.watch.lost() {
            return Error::ConnectionLost {
                what,
                end,
                phase,
                reason: reason.to_string(),
                output,
            };
        }
        Error::ToolFailed {
            hint: hint(self.watch.current(), self.watch.step(), &what),
            what,
            end,
            phase,
            last: self.watch.last().unwrap_or("it said nothing").to_owned(),
            status: status.code().and_then(|code| u16::try_from(code).ok()),
            output,
            evaluates: false,
        }
    }
}

/// Keeps what a program prints on standard output.
#[derive(Default)]
struct Answer(String);

impl Listener for Answer {
    fn line(&mut self, stdout: bool, line: &str) -> Option<Stop> {
        if stdout && self.0.len() < LONGEST_ANSWER {
            self.0 += line;
            self.0.push('\n');
        }
        None
    }

    fn poll(&mut self) -> Option<Stop> {
        None
    }

    fn ended(&mut self, _: bool) -> Option<Stop> {
        None
    }

    fn tick(&mut self, _: Duration, _: Work) {}

    fn limit(&self) -> Option<(Instant, Stop)> {
        None
    }
}

/// What to do about a failure, by where it happened.
fn hint(phase: Option<&str>, step: Option<&str>, what: &str) -> &'static str {
    match phase {
        _ if ["nix build", "nix path-info", "nix eval"]
            .iter()
            .any(|command| what.starts_with(command)) =>
        {
            "nothing was done to the machine; the same command on the controller shows the whole error"
        }
        _ if what.starts_with("nix copy") => {
            "the running system was not changed; check on the machine that the user is one of nix.settings.trusted-users and that the disk has room"
        }
        Some("Formatting hard drive with disko") => {
            "compare the disks in the disko configuration with those of the machine (lsblk)"
        }
        Some("Uploading the system closure" | "Building the system closure") => {
            "the new root may be too small, or the connection too weak"
        }
        Some("Installing NixOS") => "the machine's output above says what nixos-install met",
        // Disko's script is built and copied in this phase too.
        Some("Gathering machine facts") if step.is_some() => {
            "nix failed after the facts were gathered; its output is in detail, and all of it in log_path"
        }
        Some("Gathering machine facts") => "the machine must be a Linux with tar, cpio and setsid",
        Some("Switching system into kexec") => {
            "the machine must reach the kexec installer's URL, or give kexec a local tarball"
        }
        _ => "the output is in detail, and all of it in log_path if that was given",
    }
}
