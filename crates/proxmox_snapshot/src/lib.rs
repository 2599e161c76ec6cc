//! The Ansible module `proxmox_snapshot`: a snapshot of a VM, present or absent, and the way back to it.

mod apply;
mod desired;
mod docs;
mod error;
mod options;
mod plan;
mod proxmox_snap;
mod report;
mod run;
mod state;

use ansible_module::{Documentation, Failure, Module, Outcome, Rule, Task};
use pve_module::Connection;

pub use options::{Options, State};

/// The module.
pub struct ProxmoxSnapshot;

impl Module for ProxmoxSnapshot {
    const NAME: &'static str = "proxmox_snapshot";
    type Options = Options;

    fn documentation() -> Documentation {
        docs::documentation()
    }

    fn rules() -> Vec<Rule> {
        let mut rules = Connection::rules();
        rules.push(Rule::RequiredOneOf(&["vmid", "name"]));
        rules
    }

    fn instead(option: &str) -> Option<&'static str> {
        proxmox_snap::instead(option)
    }

    async fn run(options: Options, task: Task) -> Result<Outcome, Failure> {
        run::run(options, task).await
    }
}
