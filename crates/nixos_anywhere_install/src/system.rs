//! A system that is built and copied to a machine but not installed: what the module `nixos_deploy` needs of Nix.
//!
//! It takes the options of this module, so that Nix is called the same way for an installation and for what comes after it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ansible_module::{Failure, Task};
use deadline::Deadline;
use guest_ssh::Target;

use crate::commands::programs::Programs;
use crate::commands::tools::{self, Tools};
use crate::error::Error;
use crate::files::workspace::Workspace;
use crate::options::Options;
use crate::output::log::Log;
use crate::output::phases::{BUILD, EVALUATE};
use crate::output::watch::Watch;
use crate::state;
use crate::values::flake::FlakeRef;

/// The phase in which a system is copied to the machine.
const COPY: &str = "Copying the system";

/// The programs and files of one task. They are removed when this is dropped.
pub struct Controller {
    options: Options,
    deadline: Deadline,
    directories: Vec<PathBuf>,
    tools: Tools,
    workspace: Workspace,
    target: Target,
}

/// The Nix of a [`Controller`].
pub struct Nix<'a> {
    programs: Programs<'a>,
    workspace: &'a Workspace,
}

impl Controller {
    /// Find Nix, and prepare an `ssh` that verifies the machine's host key.
    ///
    /// # Errors
    /// Kinds `tool_missing`, and `file` for a key that cannot be read. Mistakes in the options are those of
    /// [`crate::preflight_of_system`].
    pub fn prepare(options: Options, deadline: Deadline) -> Result<Self, Failure> {
        let target = state::target(&options)?;
        let directories = tools::directories(options.tools_path.as_deref());
        let tools = Tools::nix_alone(&directories)?;
        let workspace = Workspace::create(&options, &target, &directories)?;
        Ok(Self {
            options,
            deadline,
            directories,
            tools,
            workspace,
            target,
        })
    }

    /// The machine, known by its host keys.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Its Nix, which writes to the task's log and progress.
    ///
    /// # Errors
    /// Kind `file` if the log cannot be written.
    pub fn nix(&self, task: &Task) -> Result<Nix<'_>, Failure> {
        let progress = task.progress(self.options.progress_path.as_deref());
        let log = Log::open(self.options.log_path.as_deref())?;
        Ok(Nix {
            programs: Programs {
                options: &self.options,
                deadline: &self.deadline,
                private: self.workspace.private(),
                directories: &self.directories,
                tools: &self.tools,
                connect_timeout: None,
                watch: Watch::new(log, progress, self.options.host.as_deref()),
            },
            workspace: &self.workspace,
        })
    }
}

impl Nix<'_> {
    /// The store path that the flake's system has or will have. Nothing is built but what its evaluation imports.
    ///
    /// # Errors
    /// Kind `evaluation`: what Nix said.
    pub async fn evaluate(&mut self) -> Result<PathBuf, Failure> {
        let installable = format!("{}.outPath", self.installable()?);
        self.programs.watch.begin(EVALUATE);
        let path = self.programs.out_path(&installable).await;
        self.programs.watch.end();
        Ok(path?)
    }

    /// Build the flake's system on the controller.
    ///
    /// # Errors
    /// Kind `tool_failed`: what Nix said.
    pub async fn build(&mut self, task: &Task) -> Result<PathBuf, Failure> {
        let installable = self.installable()?;
        self.programs.caches(task).await;
        self.programs.controllers_room(task);
        self.programs.watch.begin(BUILD);
        let built = self.programs.build(&[installable]).await;
        self.programs.watch.end();
        let [system] = built?;
        Ok(system)
    }

    /// Every store path in the closure of `path`, with its size in bytes; none if Nix does not say.
    pub async fn closure(&self, path: &Path) -> Option<BTreeMap<String, u64>> {
        self.programs.closure(path).await.map(|text| sizes(&text))
    }

    /// Copy the closure of `system` to the machine.
    ///
    /// # Errors
    /// Kinds `connection_lost` and `tool_failed`.
    pub async fn copy(&mut self, system: &Path) -> Result<(), Failure> {
        self.programs.watch.begin(COPY);
        let copied = self.programs.copy(self.workspace, system).await;
        self.programs.watch.end();
        Ok(copied?)
    }

    fn installable(&self) -> Result<String, Error> {
        let flake = self.programs.options.flake.as_deref().unwrap_or_default();
        let flake = FlakeRef::parse(flake).map_err(Error::InvalidFlake)?;
        Ok(flake.installable("toplevel"))
    }
}

/// The lines of `nix path-info --size`: a path, blanks, a number. What does not look like that is left out.
pub fn sizes(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (path, size) = (words.next()?, words.next()?.parse().ok()?);
            Some((store_path(path)?, size))
        })
        .collect()
}

/// A text that the machine sent, if it is an absolute path of the characters that Nix allows in store paths. It can stand in a script.
pub fn store_path(text: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/+-._?=".contains(c);
    let is_path = text.starts_with('/') && text.len() <= 400 && text.chars().all(plain);
    is_path.then(|| text.to_owned())
}
