//! Run nix and nixos-anywhere, and say what became of them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use ansible_module::Failure;
use deadline::Deadline;

use crate::child::{self, Ending, Program};
use crate::flake::FlakeRef;
use crate::options::Options;
use crate::plan::{self, Files, Source};
use crate::private::Private;
use crate::tools::{self, Tools};
use crate::watch::{BUILD, Watch};
use crate::workspace::Workspace;

/// What the programs of one task share.
pub(crate) struct Programs<'a> {
    pub(crate) options: &'a Options,
    pub(crate) deadline: &'a Deadline,
    /// Its guard ends them should this module be killed.
    pub(crate) private: &'a Private,
    /// For their PATH.
    pub(crate) directories: &'a [PathBuf],
    pub(crate) tools: &'a Tools,
    /// Hears what they say.
    pub(crate) watch: Watch,
}

impl Programs<'_> {
    /// What is to be installed: built here, unless it is to be built elsewhere.
    pub(crate) async fn source(&mut self) -> Result<Source, Failure> {
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
        let flake = FlakeRef::parse(text).map_err(invalid_flake)?;
        if !plan::built_here(self.options) {
            let flake = flake.for_nixos_anywhere().map_err(invalid_flake)?;
            return Ok(Source::Flake(flake));
        }
        self.watch.begin(BUILD);
        let [system, disko] = plan::installables(&flake, self.options);
        let system = self.build(&system).await?;
        let disko = self.build(&disko).await?;
        self.watch.end();
        Ok(Source::Paths { disko, system })
    }

    /// Have Nix evaluate installables, without building them.
    ///
    /// # Errors
    /// Kind `evaluation`: what Nix said; and those of running it.
    pub(crate) async fn evaluate(&mut self, installables: &[String]) -> Result<(), Failure> {
        let what = format!("nix path-info --derivation {}", installables.join(" "));
        self.watch.note(&format!("$ {what}"));
        let arguments = plan::evaluation_arguments(installables, self.options);
        let environment = [("PATH", Some(tools::joined(self.directories)))];
        let nix = self.tools.nix.clone();
        let run = self.run(&nix, &arguments, &environment, &what).await;
        run.map_err(|failure| Failure {
            kind: match failure.kind {
                "tool_failed" => "evaluation",
                kind => kind,
            },
            ..failure
        })
    }

    async fn build(&mut self, installable: &str) -> Result<PathBuf, Failure> {
        self.watch.note(&format!("$ nix build {installable}"));
        let arguments = plan::build_arguments(installable, self.options);
        let environment = [("PATH", Some(tools::joined(self.directories)))];
        let what = format!("nix build {installable}");
        self.watch.printed_path();
        let nix = self.tools.nix.clone();
        self.run(&nix, &arguments, &environment, &what).await?;
        self.watch.printed_path().ok_or_else(|| {
            Failure::new("build", format!("{what} named no store path"))
                .detail(self.watch.tail())
                .hint("nix 2.20 or newer is needed")
        })
    }

    /// Run nixos-anywhere with the files of `workspace`.
    pub(crate) async fn nixos_anywhere(
        &mut self,
        workspace: &Workspace,
        source: &Source,
    ) -> Result<(), Failure> {
        let files = Files {
            key: workspace.key.as_deref(),
            extra: workspace.extra.as_deref(),
        };
        self.watch.note("$ nixos-anywhere");
        self.watch.follow(workspace.channel());
        let (program, mut arguments) = self.tools.nixos_anywhere.clone();
        arguments.extend(plan::arguments(self.options, source, &files));
        let environment = workspace.environment(self.directories);
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
    ) -> Result<(), Failure> {
        let program = Program {
            path,
            arguments,
            environment,
            private: self.private,
        };
        let ending = child::run(&program, what, self.deadline, &mut self.watch)
            .await
            .map_err(|error| Failure::new("tool", format!("cannot start {what}: {error}")))?;
        self.watch.complete_log();
        let phase = match self.watch.current() {
            Some(phase) => format!(" in the phase \"{phase}\""),
            None => String::new(),
        };
        let what = match &self.options.host {
            Some(host) => format!("{what} for {host}"),
            None => what.to_owned(),
        };
        match ending {
            Ending::Exited(status) if status.success() => Ok(()),
            Ending::Exited(status) => {
                let how = match status.code() {
                    Some(code) => format!("ended with exit status {code}"),
                    None => format!("was killed ({status})"),
                };
                if let Some(lost) = self.watch.lost() {
                    let msg =
                        format!("{what} {how}{phase}, because the connection was lost: {lost}");
                    let failure = Failure::new("connection_lost", msg).detail(self.watch.tail());
                    return Err(failure.hint("look at the machine's console and at the network"));
                }
                let last = self.watch.last().unwrap_or("it said nothing");
                let msg = format!("{what} {how}{phase}: {last}");
                let mut failure = Failure::new("tool_failed", msg).detail(self.watch.tail());
                failure.status = status.code().and_then(|code| u16::try_from(code).ok());
                Err(failure.hint(hint(self.watch.current(), self.watch.step(), &what)))
            }
            Ending::Stopped(stop) => {
                let msg = format!("{what} was ended{phase}: {}", stop.reason);
                let failure = Failure::new(stop.kind, msg).detail(self.watch.tail());
                Err(match stop.hint {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                })
            }
            Ending::Expired(expired) => {
                let msg = format!("{what} was ended{phase}: {expired}");
                Err(Failure::new("timeout", msg)
                    .detail(self.watch.tail())
                    .hint("raise timeout if the installation needs longer"))
            }
        }
    }
}

/// The failure for a flake reference that is none.
pub(crate) fn invalid_flake(problem: String) -> Failure {
    Failure::new("invalid_option", format!("flake: {problem}"))
}

/// What to do about a failure, by where it happened.
fn hint(phase: Option<&str>, step: Option<&str>, what: &str) -> &'static str {
    match phase {
        _ if what.starts_with("nix build") || what.starts_with("nix path-info") => {
            "nothing was done to the machine; the same command on the controller shows the whole error"
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
