//! The options of `nixos_vm_inventory`. Their doc comments are the documentation of the module and of the inventory plugin.

use std::path::PathBuf;

use pve_module::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the address of a host may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AddressSource {
    /// The guest agent of a running VM.
    Agent,
    /// The static addresses in the options C(ipconfigN) of the VM.
    Ipconfig,
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    #[default]
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// The options of the module.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Options {
    /// How to reach the PVE API.
    #[serde(flatten)]
    pub connection: Connection,

    /// List only VMs on these nodes. Without it, VMs on all nodes are listed.
    #[serde(default)]
    pub nodes: Vec<String>,

    /// List only VMs in these resource pools.
    #[serde(default)]
    pub pools: Vec<String>,

    /// List only VMs that have at least one of these tags.
    #[serde(default)]
    pub tags: Vec<String>,

    /// List templates, too. They are in the group C(all_templates) (with O(group_prefix)) and in no other.
    #[serde(default)]
    pub want_templates: bool,

    /// Read the configuration of each VM, in one request for each. Its options become variables named after O(facts_prefix), and the phase
    /// of machines that the role C(nixos_vm) created becomes a variable and a group.
    #[serde(default)]
    pub want_facts: bool,

    /// Read what QEMU reports of each running VM, in one request for each. VMs that are paused or not started up yet are in the groups
    /// C(all_paused) and C(all_prelaunch) (with O(group_prefix)), not in C(all_running).
    #[serde(default)]
    pub qemu_extended_statuses: bool,

    /// Where C(ansible_host) comes from. The first source that has an address is used. V(agent) takes one request for each running VM,
    /// V(ipconfig) one for each VM. With an empty list, C(ansible_host) is not set.
    #[serde(default = "default_address_sources")]
    pub address_sources: Vec<AddressSource>,

    /// The family of addresses to prefer for C(ansible_host). A host without such an address gets one of the other family.
    #[serde(default)]
    pub prefer_family: Family,

    /// How many requests about single VMs may be under way at the same time, from 1 to 64.
    #[serde(default = "default_concurrency")]
    pub facts_concurrency: u32,

    /// Longest wait for the guest agent of one VM, in seconds.
    #[serde(default = "default_agent_timeout")]
    pub agent_timeout: u64,

    /// Longest time for all requests about single VMs together, in seconds. What is not known by then is left out, with a warning.
    #[serde(default = "default_facts_timeout")]
    pub facts_timeout: u64,

    /// Prefix of the names of groups.
    #[serde(default = "default_prefix")]
    pub group_prefix: String,

    /// Prefix of the names of variables.
    #[serde(default = "default_prefix")]
    pub facts_prefix: String,

    /// Have C(ssh) check the host keys that the role C(nixos_vm) recorded on this controller. For a host whose file C(known_hosts) exists
    /// in O(state_root), C(ansible_ssh_common_args) names that file and requires a known key. Other hosts do not get the variable.
    #[serde(default = "default_true")]
    pub known_hosts: bool,

    /// The directory in which the role keeps what it knows of its hosts, the role's C(nixos_vm_state_root). Default is the role's own:
    /// C($XDG_STATE_HOME/nixos-proxmox), or C(~/.local/state/nixos-proxmox) if that variable is not set.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub state_root: Option<PathBuf>,

    /// Longest time for everything, in seconds.
    #[serde(default = "default_timeout")]
    pub timeout: u64,
}

fn default_address_sources() -> Vec<AddressSource> {
    vec![AddressSource::Agent]
}

fn default_concurrency() -> u32 {
    8
}

fn default_agent_timeout() -> u64 {
    3
}

fn default_facts_timeout() -> u64 {
    30
}

fn default_prefix() -> String {
    "proxmox_".into()
}

fn default_true() -> bool {
    true
}

fn default_timeout() -> u64 {
    90
}

impl Options {
    /// Whether the configuration of each VM is needed.
    pub(crate) fn needs_config(&self) -> bool {
        self.want_facts || self.address_sources.contains(&AddressSource::Ipconfig)
    }

    /// Where the role keeps what it knows of its hosts; none without a home.
    pub(crate) fn state_root(&self) -> Option<PathBuf> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let state = || {
            let of_home = || Some(PathBuf::from(variable("HOME")?).join(".local/state"));
            let state = variable("XDG_STATE_HOME").map(PathBuf::from);
            Some(state.or_else(of_home)?.join("nixos-proxmox"))
        };
        let root = self.state_root.clone().or_else(state)?;
        // ssh may be started in another directory.
        std::path::absolute(root).ok()
    }

    /// What is wrong with the values, by the options' names.
    pub(crate) fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if !(1..=64).contains(&self.facts_concurrency) {
            let got = self.facts_concurrency;
            mistakes.push(format!(
                "facts_concurrency: must be between 1 and 64 (got {got})"
            ));
        }
        for (name, seconds) in [
            ("agent_timeout", self.agent_timeout),
            ("facts_timeout", self.facts_timeout),
            ("timeout", self.timeout),
        ] {
            if seconds == 0 {
                mistakes.push(format!("{name}: must be at least 1 second (got 0)"));
            }
        }
        let root = self.state_root.as_ref().filter(|_| self.known_hosts);
        if let Some(root) = root.filter(|root| !crate::known_hosts::is_for_ssh(root)) {
            let root = root.display();
            mistakes.push(format!(
                "state_root: must have no quotes, \\ and $, which ssh takes for something else (got {root}); or set known_hosts: false"
            ));
        }
        for (name, prefix) in [
            ("group_prefix", &self.group_prefix),
            ("facts_prefix", &self.facts_prefix),
        ] {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let is_name =
                prefix.chars().all(is_part) && !prefix.starts_with(|c: char| c.is_ascii_digit());
            if !is_name {
                mistakes.push(format!(
                    "{name}: must be letters, digits and underscores, and not begin with a digit (got '{prefix}')"
                ));
            }
        }
        mistakes
    }
}

/// The options of a task that gives these, beside the connection. For tests.
#[cfg(test)]
pub(crate) fn given(more: serde_json::Value) -> Options {
    let mut options = serde_json::json!({"api_host": ["pve1"]});
    if let (Some(all), Some(more)) = (options.as_object_mut(), more.as_object()) {
        all.extend(more.clone());
    }
    serde_json::from_value(options).expect("the options are valid")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_that_make_no_sense_are_named() {
        assert!(given(json!({})).mistakes().is_empty());
        let options = given(
            json!({"facts_concurrency": 0, "agent_timeout": 0, "group_prefix": "a b", "facts_prefix": "1_"}),
        );
        let mistakes = options.mistakes();
        let objects: Vec<&str> = mistakes
            .iter()
            .filter_map(|text| text.split(':').next())
            .collect();
        assert_eq!(
            objects,
            [
                "facts_concurrency",
                "agent_timeout",
                "group_prefix",
                "facts_prefix"
            ]
        );
        assert!(
            given(json!({"group_prefix": "", "facts_prefix": ""}))
                .mistakes()
                .is_empty()
        );
    }
}
