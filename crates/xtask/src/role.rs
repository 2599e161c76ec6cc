//! `roles/nixos_vm/meta/argument_specs.yml`: the variables of the role, which are the suboptions of `settings` of the module
//! `nixos_vm_lifecycle` with a prefix.

use ansible_module::{Module, docs, yaml};
use anyhow::Context;
use nixos_vm_lifecycle::NixosVmLifecycle;
use nixos_vm_lifecycle::options::PREFIX;
use pve_module::Connection;
use serde_json::{Map, Value, json};

/// Where the file is.
pub const PATH: &str = "roles/nixos_vm/meta/argument_specs.yml";

/// The variables that removing a machine goes by, beside those of the connection.
const OF_DESTROY: [&str; 9] = [
    "name",
    "vmid",
    "node",
    "iso_storage",
    "seed_drive",
    "state_root",
    "state_dir",
    "known_hosts",
    "confirm_destroy",
];

/// The variables, and suboptions, whose values are secrets.
const SECRETS: [&str; 7] = [
    "api_password",
    "api_token_secret",
    "content",
    "installer_token",
    "private",
    "ssh_private_key",
    "user_data",
];

/// The specs, as a value.
pub fn specs() -> anyhow::Result<Value> {
    let docs: Value = serde_yaml_ng::from_str(&docs::<NixosVmLifecycle>()?)?;
    let settings = docs["DOCUMENTATION"]["options"]["settings"]["suboptions"]
        .as_object()
        .with_context(|| format!("{} has no settings", NixosVmLifecycle::NAME))?;
    let connection = Connection::names();
    let of_destroy =
        |name: &String| OF_DESTROY.contains(&name.as_str()) || connection.contains(name);
    let options = |chosen: &dyn Fn(&String) -> bool| {
        settings
            .iter()
            .filter(|(name, _)| chosen(name))
            .map(|(name, option)| (format!("{PREFIX}{name}"), spec(name, option)))
            .collect::<Map<_, _>>()
    };
    Ok(json!({"argument_specs": {
        "main": {
            "short_description": "Turn an inventory entry into a running NixOS virtual machine on Proxmox VE",
            "description": [
                "Takes the host from nothing to an installed, running machine in six steps, each of them a tag C(image), C(upload), \
                 C(provision), C(boot), C(install), C(finalize).",
                "Every task runs on the controller. A second run changes nothing; an interrupted run is resumed where it was cut off.",
                "Nothing is ever installed onto a VM that this role did not make for this host, or whose installation has ended.",
            ],
            "author": "the nixos-proxmox authors",
            "options": options(&|_| true),
        },
        "deploy": {
            "short_description": "Deploy the flake to a finished machine",
            "description": [
                "Has the machine switch to what the flake builds now, and back again if it cannot be reached then. Machines that are not \
                 finished are refused.",
            ],
            "author": "the nixos-proxmox authors",
            "options": options(&|_| true),
        },
        "plan": {
            "short_description": "Report what a run would do to all machines",
            "description": [
                "Plans every host and reports what differs, why a run would be refused, what several hosts claim, and what nodes and storages \
                 have left. Changes nothing.",
            ],
            "author": "the nixos-proxmox authors",
            "options": options(&|_| true),
        },
        "destroy": {
            "short_description": "Destroy a machine with all of its data",
            "description":
                ["Removes the VM, its disks, its seed, and what the controller keeps of it. The installer ISO stays."],
            "author": "the nixos-proxmox authors",
            "options": options(&of_destroy),
        },
    }}))
}

/// An option as argument specs write it: `options` for `suboptions`, and the environment in words.
fn spec(name: &str, option: &Value) -> Value {
    let mut made = Map::new();
    for (key, value) in option.as_object().into_iter().flatten() {
        match key.as_str() {
            // The environment may supply it.
            "required" if option["description"].to_string().contains("E(") => {}
            "suboptions" => {
                let inner = value.as_object().into_iter().flatten();
                let inner: Map<String, Value> = inner
                    .map(|(name, option)| (name.clone(), spec(name, option)))
                    .collect();
                made.insert("options".into(), inner.into());
            }
            "description" => {
                let text = value
                    .to_string()
                    .replace("O(settings.", "O(")
                    .replace("O(", &format!("O({PREFIX}"));
                made.insert(
                    "description".into(),
                    serde_json::from_str(&text).unwrap_or_default(),
                );
            }
            _ => {
                made.insert(key.clone(), value.clone());
            }
        }
    }
    if SECRETS.contains(&name) {
        made.insert("no_log".into(), true.into());
    }
    made.into()
}

/// The file.
pub fn text() -> anyhow::Result<String> {
    Ok(format!(
        "---\n# Generated by `cargo xtask docs` from the options of nixos_vm_lifecycle; do not edit.\n{}",
        yaml::render(&specs()?)
    ))
}
