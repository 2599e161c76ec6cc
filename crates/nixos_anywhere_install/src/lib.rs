//! Install a NixOS flake on a reachable machine with nixos-anywhere, once.

mod apply;
mod built;
mod child;
mod documentation;
mod log;
mod options;
mod plan;
mod programs;
mod release;
mod stage;
mod state;
mod tools;
mod watch;
mod workspace;

use std::time::Duration;

use ansible_module::{Documentation, Failure, Module, Outcome, Rule, Task};
use deadline::Deadline;

#[cfg(fuzzing)]
pub use child::hear;
pub use options::Options;
use options::State;

/// The Ansible module `nixos_anywhere_install`.
pub struct NixosAnywhereInstall;

impl Module for NixosAnywhereInstall {
    const NAME: &'static str = "nixos_anywhere_install";
    type Options = Options;

    fn documentation() -> Documentation {
        documentation::documentation()
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

    async fn run(options: Options, task: Task) -> Result<Outcome, Failure> {
        let deadline = Deadline::after(Duration::from_secs(options.timeout));
        match options.state {
            State::Probed => state::probe(&options, &task, &deadline).await,
            State::Built => built::built(&options, &task, &deadline).await,
            State::Installed => apply::install(&options, &task, &deadline).await,
            State::Verified => state::verify(&options, &task, &deadline).await,
        }
    }
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
