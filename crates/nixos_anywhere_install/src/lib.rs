//! The Ansible module `nixos_anywhere_install`: install a NixOS flake on a reachable machine, once.
//!
//! `options` are checked by `preflight`, `state` asks the machine what it runs, `plan` (pure) decides, `apply` installs and `built` only
//! builds. `commands/` runs Nix and nixos-anywhere, `output/` reads what they print, `machine/` asks the machine over SSH, `files/`
//! are those of one installation, and `values/` reads option values as people write them.

mod apply;
mod built;
mod commands;
mod docs;
mod error;
mod files;
#[cfg(fuzzing)]
pub mod fuzzing;
mod machine;
mod options;
mod output;
mod plan;
mod preflight;
mod state;
mod system;
mod values;

use std::time::Duration;

use ansible_module::{Documentation, Failure, Module, Outcome, Rule, Task};
use deadline::Deadline;
use serde_json::{Map, Value};

pub use commands::tools::search_path;
pub use error::ssh_failure;
pub use files::content::Content;
pub use machine::release::{as_root, may_be_root};
pub use options::{
    BuildOn, DiskKey, DiskoMode, Expect, ExtraFile, HardwareBackend, HardwareConfig, Options,
    Phase, State, StorePaths,
};
pub use output::text::printable;
pub use preflight::{Mistake, preflight, preflight_of_system, refuse};
pub use system::{Controller, Nix, sizes, store_path};
pub use values::flake::FlakeParts;
pub use values::host::problem as host_problem;
pub use values::jump::{JumpOptions, is_proxy_jump};
pub use values::nix_options::secrets_in_uri;

/// The Ansible module `nixos_anywhere_install`.
pub struct NixosAnywhereInstall;

impl Module for NixosAnywhereInstall {
    const NAME: &'static str = "nixos_anywhere_install";
    type Options = Options;

    fn documentation() -> Documentation {
        docs::documentation()
    }

    fn rules() -> Vec<Rule> {
        vec![
            Rule::MutuallyExclusive(&["flake", "store_paths"]),
            needs("probed", &["host"]),
            needs_one("probed", &["host_keys", "installed_host_keys"]),
            needs_one("built", &["flake", "store_paths"]),
            needs("installed", &["host"]),
            needs_one("installed", &["host_keys", "installed_host_keys"]),
            needs_one("installed", &["flake", "store_paths"]),
            needs("verified", &["host", "installed_host_keys"]),
        ]
    }

    fn secrets(params: &Map<String, Value>) -> Vec<String> {
        let mut found = values::nix_options::secrets(params);
        found.extend(secrets_in_flakes(params));
        found
    }

    async fn run(options: Options, task: Task) -> Result<Outcome, Failure> {
        match options.state {
            State::Probed => probed(&options, &task).await,
            State::Built => built(&options, &task).await,
            State::Installed => installed(&options, &task).await,
            State::Verified => verified(&options, &task).await,
        }
    }
}

/// The passwords and tokens in the places of flakes: in those that options name, and in those that replace inputs.
pub fn secrets_in_flakes(params: &Map<String, Value>) -> Vec<String> {
    let named = ["flake", "nixos_anywhere_flake"].into_iter();
    let named = named.filter_map(|name| params.get(name)?.as_str());
    let inputs = params.get("override_inputs").and_then(Value::as_object);
    let inputs = inputs
        .into_iter()
        .flat_map(Map::values)
        .filter_map(Value::as_str);
    named.chain(inputs).flat_map(secrets_in_uri).collect()
}

/// Reach the machine and report what it runs; with `expect`, wait until it is that.
///
/// # Errors
/// Kind `invalid_option` for a mistake in the options, else what kept the machine from being
/// reached (`host_key`, `login`, `timeout` ...).
pub async fn probed(options: &Options, task: &Task) -> Result<Outcome, Failure> {
    state::probe(options, task, &deadline(options)).await
}

/// Find the mistakes of a whole installation, and build the configuration on the controller.
///
/// # Errors
/// Kind `invalid_option` or `tool_missing` before anything is built, `tool_failed` when it cannot be.
pub async fn built(options: &Options, task: &Task) -> Result<Outcome, Failure> {
    built::built(options, task, &deadline(options)).await
}

/// Install the configuration, unless the machine is installed already.
///
/// # Errors
/// `values["changed"]` says whether the machine was changed.
pub async fn installed(options: &Options, task: &Task) -> Result<Outcome, Failure> {
    apply::install(options, task, &deadline(options)).await
}

/// Wait until the machine runs the installed system.
///
/// # Errors
/// Kind `failed_units` with `fail_on_failed_units`, else as [`probed`].
pub async fn verified(options: &Options, task: &Task) -> Result<Outcome, Failure> {
    state::verify(options, task, &deadline(options)).await
}

fn deadline(options: &Options) -> Deadline {
    Deadline::after(Duration::from_secs(options.timeout))
}

fn needs(state: &'static str, options: &'static [&'static str]) -> Rule {
    Rule::RequiredIf {
        option: "state",
        value: state,
        options,
        one_is_enough: false,
    }
}

fn needs_one(state: &'static str, options: &'static [&'static str]) -> Rule {
    Rule::RequiredIf {
        option: "state",
        value: state,
        options,
        one_is_enough: true,
    }
}
