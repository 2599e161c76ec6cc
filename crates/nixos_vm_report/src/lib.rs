//! The Ansible module `nixos_vm_report`: what a run would do to all machines, in one report.
//!
//! `host_plan` is what `nixos_vm_lifecycle` plans for one host, `report` (pure) puts the plans of all hosts together with `capacity` and
//! `conflicts`, and `text` and `html` render it.

mod capacity;
mod conflicts;
mod docs;
mod error;
pub mod host_plan;
mod html;
mod options;
mod report;
mod run;
mod size;
mod text;

use ansible_module::{Documentation, Failure, Module, Outcome, Task};

pub use options::{FailOn, Options};

/// The module.
pub struct NixosVmReport;

impl Module for NixosVmReport {
    const NAME: &'static str = "nixos_vm_report";
    type Options = Options;

    fn documentation() -> Documentation {
        docs::documentation()
    }

    async fn run(options: Options, task: Task) -> Result<Outcome, Failure> {
        Ok(run::run(&options, &task)?)
    }
}
