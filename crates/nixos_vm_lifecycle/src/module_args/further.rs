//! The further options of each module, which the user gives by the module's own names.

use serde_json::{Map, Value};

use crate::options::Settings;

/// A dict of options.
pub type Args = Map<String, Value>;

/// The further options of each module, those of the host over those of the group.
pub struct Further {
    /// Of `proxmox_nixos_vm`.
    pub vm: Args,
    /// Of `cloudinit_drive`.
    pub seed: Args,
    /// Of `proxmox_iso`.
    pub iso: Args,
    /// Of `nixos_anywhere_install`.
    pub install: Args,
}

impl Further {
    /// What is wrong with them: options that the role decides itself.
    pub fn decided_here(&self) -> Vec<String> {
        let refuse = |variable: &str, args: &Args, decided: &[&str]| -> Vec<String> {
            let keys = args.keys().filter(|key| decided.contains(&key.as_str()));
            keys.map(|key| format!("nixos_vm_{variable}.{key}: is decided by the role; leave it out, or set the role's own variable for it"))
                .collect()
        };
        [
            refuse(
                "vm_options",
                &self.vm,
                &[
                    "state",
                    "name",
                    "vmid",
                    "node",
                    "boot",
                    "force",
                    "restart",
                    "remove_disks",
                    "guard_tag",
                    "only_if_tagged",
                    "unless_tagged",
                    "guest_facts",
                    "wait_for_address",
                    "address_family",
                    "progress_path",
                ],
            ),
            refuse(
                "seed_options",
                &self.seed,
                &[
                    "state",
                    "kind",
                    "vmid",
                    "node",
                    "drive",
                    "storage",
                    "ssh_host_keys",
                    "ssh_authorized_keys",
                ],
            ),
            refuse(
                "iso_options",
                &self.iso,
                &[
                    "state",
                    "content",
                    "node",
                    "storage",
                    "src",
                    "url",
                    "progress_path",
                ],
            ),
            refuse(
                "install_options",
                &self.install,
                &[
                    "state",
                    "host",
                    "port",
                    "user",
                    "private_key_file",
                    "host_keys",
                    "installed_host_keys",
                    "jump_host",
                    "jump_host_keys",
                    "jump_host_private_key_file",
                    "flake",
                    "override_inputs",
                    "store_paths",
                    "closure",
                    "extra_files",
                    "log_path",
                    "progress_path",
                ],
            ),
        ]
        .concat()
    }
}

impl Settings {
    /// The further options of the modules.
    pub fn further(&self) -> Further {
        Further {
            vm: merged(&self.vm_options, &self.host_vm_options),
            seed: merged(&self.seed_options, &self.host_seed_options),
            iso: merged(&self.iso_options, &self.host_iso_options),
            install: merged(&self.install_options, &self.host_install_options),
        }
    }
}

/// A dict of the group with the host's over it; dicts within are merged too.
fn merged(group: &Option<Args>, host: &Option<Args>) -> Args {
    let mut all = group.clone().unwrap_or_default();
    for (key, value) in host.iter().flatten() {
        merge(all.entry(key.clone()).or_insert(Value::Null), value);
    }
    all
}

fn merge(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                merge(under.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over.clone(),
    }
}
