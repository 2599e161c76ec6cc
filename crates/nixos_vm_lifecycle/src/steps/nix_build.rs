//! Builds by Nix on the controller, which are quick when what they make is built.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use ansible_module::Failure;
use deadline::Deadline;
use nixos_anywhere_install::search_path;
use tokio::process::Command;

use crate::context::Context;
use crate::error::LocalError;

/// How long a build may take.
const LONGEST: Duration = Duration::from_secs(4 * 3600);

/// Something to build.
pub struct Build<'a> {
    /// What it is in messages.
    pub what: &'a str,
    /// `FLAKE#ATTRIBUTE`.
    pub installable: &'a str,
    /// Further options of `nix build`.
    pub options: &'a [&'a str],
}

impl Build<'_> {
    /// Build it; returns its store path. `fail` makes the error of what Nix says.
    ///
    /// # Errors
    /// Those that `fail` makes, and kind `timeout`.
    pub async fn run(
        &self,
        context: &Context<'_>,
        fail: impl Fn(String) -> LocalError,
    ) -> Result<PathBuf, Failure> {
        let path = search_path(context.settings().tools_path.as_deref());
        let mut command = Command::new("nix");
        command
            .env("PATH", path)
            .args([
                "--extra-experimental-features",
                "nix-command flakes",
                "build",
                "--no-link",
                "--print-out-paths",
            ])
            .args(self.options)
            .arg(self.installable)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let waited = format!("Nix to build {}", self.what);
        let output = Deadline::after(LONGEST)
            .run(waited, command.output())
            .await?;
        let output = output.map_err(|error| fail(format!("nix: {error}")))?;
        if !output.status.success() {
            return Err(fail(end_of(&output.stderr)).into());
        }
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(printed.lines().last().unwrap_or_default().into())
    }
}

/// The last lines of what Nix said.
fn end_of(stderr: &[u8]) -> String {
    let said = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// The files in a directory whose names have one of these endings.
pub fn files(dir: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let ends = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|extension| endings.contains(&extension))
    };
    entries.map(|entry| entry.path()).filter(ends).collect()
}
