//! The Ansible module `proxmox_nixos_vm`: a virtual machine of Proxmox VE, as described.
//!
//! `options` are what users write, `desired` is that in PVE's terms, `cluster` and `state` read what there is, `plan` (pure)
//! compares, `apply` carries out, and `driver` calls these in order.

pub mod agent_addresses;
mod apply;
mod cluster;
mod config;
mod context;
mod desired;
mod docs;
mod driver;
mod error;
mod guard;
mod guest_agent;
#[cfg(test)]
mod hostile_tests;
pub mod options;
mod plan;
mod precheck;
mod proxmox_kvm;
mod response_cache;
mod state;

pub use driver::Wish;
pub use guard::ownership;
pub use guest_agent::is_enabled as agent_is_enabled;

use ansible_module::{Documentation, Failure, Module, Outcome, Rule, Task};
use pve_module::Connection;

use crate::ownership::Ownership;

/// The module.
pub struct ProxmoxNixosVm;

impl Module for ProxmoxNixosVm {
    const NAME: &'static str = "proxmox_nixos_vm";
    type Options = options::Options;

    fn documentation() -> Documentation {
        docs::documentation()
    }

    fn rules() -> Vec<Rule> {
        let mut rules = Connection::rules();
        rules.push(Rule::RequiredOneOf(&["name", "vmid"]));
        rules
    }

    fn instead(option: &str) -> Option<&'static str> {
        proxmox_kvm::instead(option)
    }

    async fn run(options: Self::Options, task: Task) -> Result<Outcome, Failure> {
        driver::run(options, task, Ownership::default()).await
    }
}

/// Do the task on a VM with such a record, or make one that has it.
///
/// # Errors
/// The module's own; kinds `guarded` and `taken_over` when the record says something else than expected.
pub async fn run_owned(
    options: options::Options,
    task: Task,
    ownership: Ownership,
) -> Result<Outcome, Failure> {
    driver::run(options, task, ownership).await
}

/// Choose a node for a VM of these options, which is made later. Other tasks of this controller count the VM there meanwhile, unless
/// this is a task in check mode.
///
/// # Errors
/// No node that is online has what the VM needs, with the reason for each.
pub async fn place(
    options: options::Options,
    task: Task,
    wish: Wish<'_>,
) -> Result<String, Failure> {
    driver::place(options, task, wish).await
}

/// The options of a NIC as a user writes it, by their names in PVE: `bridge`, `tag` and so on; none if it is not one.
pub fn nic_parts(
    key: &str,
    value: &serde_json::Value,
) -> Option<std::collections::BTreeMap<String, String>> {
    config::nic::Nic::parse(key, value)
        .ok()
        .map(|nic| nic.options)
}

/// Check the options by themselves, before anything is read.
///
/// # Errors
/// Every mistake, each a text that begins with the name of its option.
pub fn check(options: &options::Options) -> Result<(), Vec<String>> {
    desired::Desired::from_options(options).map(drop)
}
