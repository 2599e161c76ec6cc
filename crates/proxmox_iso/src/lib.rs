//! The Ansible module `proxmox_iso`: an ISO image present on, or absent from, a storage. Other modules
//! call [`run`] and [`resolve`].

mod absent;
mod address;
mod apply;
mod cache;
mod checksum;
mod checksum_file;
mod compression;
mod content;
mod converge;
mod docs;
mod error;
mod fetch;
mod glob;
mod local;
mod measure;
mod names;
mod options;
mod plan;
mod precheck;
mod present;
mod record;
mod release;
mod report;
mod response_cache;
mod send;
mod source;
mod state;
mod transfer_progress;
mod unpack;
mod wanted;

use ansible_module::{Documentation, Failure, Module, Outcome, Rule, Task};
use pve_module::Connection;
use serde_json::{Map, Value};

pub use names::rename_options;
pub use options::{DownloadBy, GithubRelease, Options, State};
pub use run::{Resolved, resolve, run};
pub use source::secrets_in_address;

mod run;

/// The module.
pub struct ProxmoxIso;

impl Module for ProxmoxIso {
    const NAME: &'static str = "proxmox_iso";
    type Options = Options;

    fn documentation() -> Documentation {
        docs::documentation()
    }

    fn rules() -> Vec<Rule> {
        let mut rules = Connection::rules();
        rules.push(Rule::MutuallyExclusive(&["src", "url", "github_release"]));
        rules.push(Rule::RequiredIf {
            option: "state",
            value: "present",
            options: &["src", "url", "github_release"],
            one_is_enough: true,
        });
        rules.push(Rule::RequiredIf {
            option: "state",
            value: "absent",
            options: &["name", "src", "url"],
            one_is_enough: true,
        });
        rules
    }

    fn secrets(params: &Map<String, Value>) -> Vec<String> {
        source::secrets_in_options(params)
    }

    async fn run(options: Options, task: Task) -> Result<Outcome, Failure> {
        run(options, task).await
    }
}
