//! The Ansible module `cloudinit_drive`: a VM's cloud-init drive, present with
//! this content, or absent without a trace.

mod apply;
mod content;
mod docs;
mod error;
mod holders;
mod options;
mod password;
mod plan;
mod report;
mod run;
mod state;

use ansible_module::{Documentation, Failure, Module, Outcome, Rule, Task};
use pve_module::Connection;

pub use crate::options::Options;
pub use crate::run::run;

/// The module.
pub struct CloudinitDrive;

impl Module for CloudinitDrive {
    const NAME: &'static str = "cloudinit_drive";
    type Options = Options;

    fn documentation() -> Documentation {
        docs::documentation()
    }

    fn rules() -> Vec<Rule> {
        let mut rules = Connection::rules();
        rules.extend([
            Rule::RequiredIf {
                option: "state",
                value: "present",
                options: &["storage"],
                one_is_enough: false,
            },
            Rule::MutuallyExclusive(&["network_config", "ipconfig"]),
        ]);
        rules
    }

    async fn run(options: Options, task: Task) -> Result<Outcome, Failure> {
        run(options, task, None).await
    }
}
