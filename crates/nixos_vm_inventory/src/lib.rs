//! The Ansible module `nixos_vm_inventory`: the VMs of a cluster as the hosts, variables and groups of an inventory. The inventory plugin
//! runs its program; everything that has to be decided is decided here.
//!
//! `list` parses PVE's list of the VMs and applies the filters, `names` gives each VM the name of a host, `details` asks for what is known
//! of single VMs, `facts`, `address` and `known_hosts` make variables of it, and `report` puts hosts and groups together.

mod address;
mod details;
mod docs;
mod facts;
mod known_hosts;
mod list;
mod names;
mod options;
mod report;
mod run;

use ansible_module::{Documentation, Failure, Module, Outcome, Rule, Task};
use pve_module::Connection;

pub use options::{AddressSource, Family, Options};

/// The module.
pub struct NixosVmInventory;

impl Module for NixosVmInventory {
    const NAME: &'static str = "nixos_vm_inventory";
    type Options = Options;

    fn documentation() -> Documentation {
        docs::documentation()
    }

    fn rules() -> Vec<Rule> {
        Connection::rules()
    }

    async fn run(options: Options, task: Task) -> Result<Outcome, Failure> {
        run::run(options, task).await
    }
}
