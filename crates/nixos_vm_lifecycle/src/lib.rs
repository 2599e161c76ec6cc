//! The Ansible module `nixos_vm_lifecycle`: what the role `nixos_vm` does with a machine, decided here.
//!
//! `options` are the role's variables, `state` reads what is, `decide` (pure) says what to do, `steps/` does it by calling the other
//! modules as libraries. `store`, `keys`, `known_hosts` and `claims` are what the controller keeps.

mod address_mistakes;
mod boot_watch;
pub mod build;
mod capacity;
mod claims;
mod cluster;
mod context;
mod decide;
#[cfg(test)]
mod decide_tests;
mod docs;
mod error;
mod facts;
mod fixed_variables;
mod host_claims;
mod host_keys;
mod kept;
mod keys;
mod known_hosts;
mod module_args;
pub mod options;
mod placement;
mod preflight;
mod privileges;
mod probe;
mod reinstall;
mod state;
mod steps;
mod store;
mod system_facts;
mod vm_layout;

use ansible_module::{Documentation, Failure, Module, Outcome, Task, to_dict};
use nixos_anywhere_install::{NixosAnywhereInstall, secrets_in_uri};
use proxmox_iso::ProxmoxIso;
use serde_json::{Map, Value};

use crate::context::Context;
use crate::facts::Decision;
use crate::options::{Options, Step};
use crate::state::State;

/// The module.
pub struct NixosVmLifecycle;

impl Module for NixosVmLifecycle {
    const NAME: &'static str = "nixos_vm_lifecycle";
    const VARIABLES: Option<(&'static str, &'static str)> = Some(("settings", options::PREFIX));
    type Options = Options;

    /// What a new user has not filled in yet, all of it: the types alone would name the API first, and the rest one run later.
    fn mistakes(arguments: &Map<String, Value>) -> Vec<String> {
        if arguments.get("step").and_then(Value::as_str) == Some(Step::Keys.name()) {
            return Vec::new();
        }
        let settings = arguments.get("settings").and_then(Value::as_object);
        options::not_filled_in(settings.unwrap_or(&Map::new()))
    }

    /// Those in addresses, and in the options that are passed on to other modules.
    fn secrets(arguments: &Map<String, Value>) -> Vec<String> {
        let Some(settings) = arguments.get("settings").and_then(Value::as_object) else {
            return Vec::new();
        };
        let addresses = [
            "installer_iso",
            "installer_checksum",
            "disk_image",
            "disk_image_checksum",
        ];
        let texts = addresses
            .iter()
            .filter_map(|name| settings.get(*name)?.as_str());
        let mut found: Vec<String> = texts.flat_map(proxmox_iso::secrets_in_address).collect();
        let flakes = ["flake", "disk_image_flake", "installer_flake"].into_iter();
        let flakes = flakes.filter_map(|name| settings.get(name)?.as_str());
        found.extend(flakes.flat_map(secrets_in_uri));
        let options = |name: &str| to_dict(settings.get(name)?).ok();
        for passed in ["iso_options", "host_iso_options"]
            .map(options)
            .into_iter()
            .flatten()
        {
            found.extend(ProxmoxIso::secrets(&passed));
        }
        for passed in ["install_options", "host_install_options"]
            .map(options)
            .into_iter()
            .flatten()
        {
            found.extend(NixosAnywhereInstall::secrets(&passed));
        }
        found
    }

    fn documentation() -> Documentation {
        docs::documentation()
    }

    async fn run(mut options: Options, mut task: Task) -> Result<Outcome, Failure> {
        if options.step == Step::Keys {
            return steps::keys::run(&options, &task).await;
        }
        if options.step == Step::Plan {
            task.check_mode = true;
            // A deployment is built only if its differences are asked for.
            task.diff_mode = options.settings.plan_build;
            // The steps need one; that of a plan is stored nowhere.
            options.run = Some(steps::decide::new_run(&Decision::Create)?);
        }
        let context = Context::new(&options, &task)?;
        if options.step == Step::Install {
            return steps::install::run(&context).await;
        }
        let mut state = State::read(&context).await?;
        if state.vm.is_none()
            && matches!(options.step, Step::Image | Step::Upload | Step::Provision)
        {
            state.placed = placement::choose(&context).await?;
        }
        if state.vm.is_some() && !task.check_mode {
            placement::forget(&context)?;
        }
        let node = state.node(&context);
        if !matches!(options.step, Step::Decide | Step::Plan | Step::Destroy) {
            // Hosts of this play that began later may claim the same by now.
            host_claims::check(&context, &state.cluster)?;
        }
        if matches!(options.step, Step::Provision | Step::Boot | Step::Finalize) {
            state.restore(&context).await?;
        }
        match options.step {
            Step::Plan => steps::plan::run(&context, state).await,
            Step::Image => steps::image::run(&context, &node).await,
            Step::Upload => steps::upload::run(&context, &node).await,
            Step::Provision => steps::provision::run(&context, state).await,
            Step::Boot => steps::boot::run(&context, state).await,
            Step::Finalize => steps::finalize::run(&context, state).await,
            Step::Deploy => steps::deploy::run(&context, state).await,
            Step::Destroy => steps::destroy::run(&context, state).await,
            Step::Decide | Step::Install | Step::Keys => steps::decide::run(&context, state).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_known_before_the_variables_are_checked() {
        let arguments = json!({"settings": {
            "installer_iso": "https://user:hunter22@example.org/a.iso",
            "flake": "git+https://user:hunter44@example.org/infra#web",
            "host_iso_options": {"checksum": "https://user:hunter33@example.org/sums"},
            "install_options": {"nix_options": {"access-tokens": "github.com=ghp_1"}},
            "host_install_options": {"nix_options": "{\"access-tokens\": \"github.com=ghp_2\"}"},
            "vm_options": "not a dict",
        }});
        let secrets = NixosVmLifecycle::secrets(arguments.as_object().unwrap());
        for secret in ["hunter22", "hunter33", "hunter44", "ghp_1", "ghp_2"] {
            assert!(secrets.iter().any(|one| one == secret), "{secrets:?}");
        }
    }
}
