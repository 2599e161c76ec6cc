//! The variables, brought into the options of the other modules.

mod addresses;
mod disk_image;
mod further;
mod install;
mod iso;
mod jump;
mod seed;
#[cfg(test)]
mod tests;
mod vm;

use serde_json::Value;

use crate::options::Settings;

pub use addresses::{NicAddresses, drop_repetitions, keyed, normal, words_of};
pub use disk_image::disk_image_variable;
pub use further::Args;
pub use iso::iso_variable;
pub use vm::{bus_of, high_availability, protection};

/// The words of a confirmation: a list, or a text with commas.
pub fn words(confirmation: Option<&Value>) -> Vec<String> {
    let list = match confirmation {
        Some(Value::Array(list)) => list.clone(),
        Some(Value::Null) | None => Vec::new(),
        Some(one) => vec![one.clone()],
    };
    list.iter()
        .flat_map(|word| match word {
            Value::String(text) => text.split(',').map(|part| part.trim().to_owned()).collect(),
            Value::Number(number) => vec![number.to_string()],
            _ => Vec::new(),
        })
        .collect()
}

impl Settings {
    /// The places on the controller that are not absolute. Ansible runs modules in the playbook's directory, which is another one when
    /// the machine is destroyed.
    pub fn relative_places(&self) -> Vec<String> {
        [
            ("state_root", Some(&self.state_root)),
            ("state_dir", self.state_dir.as_ref()),
            ("known_hosts", self.known_hosts.as_ref()),
            ("host_keys_dir", self.host_keys_dir.as_ref()),
            (
                "host_keys_vault_password_file",
                self.host_keys_vault_password_file.as_ref(),
            ),
            ("system_facts_file", self.system_facts_file.as_ref()),
        ]
        .into_iter()
        .filter_map(|(variable, path)| {
            let path = path?;
            let anchored = path.is_absolute() || path.starts_with("~") || path.as_os_str().is_empty();
            (!anchored).then(|| {
                format!(
                    "nixos_vm_{variable}: must be an absolute path (got {}); begin it with {{{{ inventory_dir }}}} or ~",
                    path.display()
                )
            })
        })
        .collect()
    }

    /// The words of `nixos_vm_confirm_reinstall`.
    pub fn confirmed_reinstall(&self) -> Vec<String> {
        words(self.confirm_reinstall.as_ref())
    }
}
