//! The Ansible module `nixos_deploy`: another system on an installed NixOS machine, or the old one again.
//!
//! `state` asks the machine what it runs, `plan` (pure) decides, `apply` copies and activates. On the machine `activate.sh` does the work
//! and puts the old system back unless `apply` confirms the new one over a new connection. `packages` (pure) compares closures. Nix is
//! run by the library of `nixos_anywhere_install`.

mod apply;
mod docs;
mod error;
mod options;
mod packages;
mod plan;
#[cfg(test)]
mod plan_tests;
mod report;
mod restart;
mod run;
mod state;

use ansible_module::{Documentation, Failure, Module, Outcome, Rule, Task};
use serde_json::{Map, Value};

pub use options::{Action, Options, Reboot};
pub use run::run;

/// The unit that activates a system. Its name is the lock: systemd starts no second one.
const UNIT: &str = "nixos-deploy.service";

/// The module.
pub struct NixosDeploy;

impl Module for NixosDeploy {
    const NAME: &'static str = "nixos_deploy";
    type Options = Options;

    fn documentation() -> Documentation {
        docs::documentation()
    }

    fn rules() -> Vec<Rule> {
        vec![
            Rule::MutuallyExclusive(&["flake", "store_path", "generation"]),
            Rule::RequiredOneOf(&["flake", "store_path", "generation"]),
        ]
    }

    fn secrets(params: &Map<String, Value>) -> Vec<String> {
        nixos_anywhere_install::NixosAnywhereInstall::secrets(params)
    }

    async fn run(options: Options, task: Task) -> Result<Outcome, Failure> {
        run::run(&options, &task).await
    }
}
