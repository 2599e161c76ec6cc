//! The options of `community.proxmox.proxmox_snap` 2.1.0, for playbooks that move over from it. `docs/moving-over.md` is held against this
//! table by a test.

use pve_module::Fate::{self, Differs, Instead, Kept};

/// Every option of `proxmox_snap`; those of its connection are in the table of `proxmox_kvm`.
const OPTIONS: [(&str, Fate); 11] = [
    (
        "api_otp",
        Instead("an API token, which needs no one-time password"),
    ),
    (
        "description",
        Differs("also changes the description of an existing snapshot"),
    ),
    ("force", Kept),
    ("hostname", Instead("name")),
    (
        "retention",
        Differs(
            "requires retention_prefix, which limits what is deleted; '' deletes any snapshot, as proxmox_snap does",
        ),
    ),
    ("snapname", Kept),
    (
        "state",
        Differs(
            "present, absent, rolled_back; rollback is an alias of rolled_back; check mode reports changes",
        ),
    ),
    (
        "timeout",
        Differs("limits the whole task; the default is 300 seconds, not 30"),
    ),
    (
        "unbind",
        Instead("nothing: it is for containers, and this module is for VMs"),
    ),
    (
        "vmid",
        Differs("a number; the VM must exist, unless state is absent"),
    ),
    ("vmstate", Kept),
];

/// What takes the place of an option that `proxmox_snap` has and this module does not.
pub fn instead(option: &str) -> Option<&'static str> {
    Fate::instead(&OPTIONS, option)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of the document's table must be these.
    #[test]
    fn the_document_says_the_same() {
        let document = include_str!("../../../docs/moving-over.md");
        let (_, section) = document
            .split_once("\n## The options of proxmox_snap\n")
            .expect("the section");
        for (name, fate) in OPTIONS {
            let row = fate.row(name);
            assert!(section.contains(&row), "docs/moving-over.md lacks: {row}");
        }
    }

    #[test]
    fn the_table_is_true_of_the_options() {
        let schema = schemars::schema_for!(crate::options::Options).to_value();
        let ours = schema["properties"].as_object().unwrap();
        for (name, fate) in OPTIONS {
            let exists = ours.contains_key(name);
            assert_eq!(exists, !matches!(fate, Instead(_)), "{name}");
            assert_eq!(instead(name).is_some(), !exists, "{name}");
        }
    }
}
