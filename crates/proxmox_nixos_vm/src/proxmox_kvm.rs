//! The options of `community.proxmox.proxmox_kvm` 2.1.0, for playbooks that move over from it. `docs/moving-over.md` is held against
//! this table by a test.

use pve_module::Fate::{self, Differs, Instead, Kept};

/// Every option of `proxmox_kvm`, with those of its connection.
const OPTIONS: [(&str, Fate); 104] = [
    ("acpi", Instead("config: {acpi: ...}")),
    ("agent", Kept),
    ("allow_ksm", Instead("config: {allow-ksm: ...}")),
    ("api_host", Kept),
    (
        "api_otp",
        Instead("an API token, which needs no one-time password"),
    ),
    ("api_password", Kept),
    ("api_port", Kept),
    ("api_timeout", Differs("60 seconds, not 5, without it")),
    ("api_token_id", Kept),
    ("api_token_secret", Kept),
    (
        "api_user",
        Differs("no default; a full api_token_id needs none"),
    ),
    (
        "archive",
        Instead(
            "restore the backup with qmrestore first; the VM is then found by its name or vmid",
        ),
    ),
    ("args", Instead("config: {args: ...}")),
    (
        "audio",
        Instead("config: {audio0: 'device=...,driver=...'}"),
    ),
    ("autostart", Instead("onboot (PVE ignores autostart)")),
    ("balloon", Kept),
    ("bios", Kept),
    (
        "boot",
        Differs("order=scsi0;net0; the legacy letters (cdn) are refused"),
    ),
    ("bootdisk", Instead("boot: order=scsi0")),
    ("ca_path", Differs("the only authorities that are trusted")),
    (
        "cicustom",
        Instead("config: {cicustom: ...}, or the module cloudinit_drive"),
    ),
    ("cipassword", Instead("the module cloudinit_drive")),
    ("citype", Instead("config: {citype: ...}")),
    ("ciupgrade", Instead("the module cloudinit_drive")),
    ("ciuser", Instead("the module cloudinit_drive")),
    (
        "clone",
        Differs(
            "the template's name, or a dict with name or vmid, full, storage, format; the new VM's name is name; only templates",
        ),
    ),
    ("cores", Kept),
    ("cpu", Kept),
    ("cpulimit", Instead("config: {cpulimit: ...}")),
    ("cpuunits", Instead("config: {cpuunits: ...}")),
    (
        "delete",
        Instead("config: {OPTION: null}, or remove_disks for drives"),
    ),
    ("description", Kept),
    (
        "destroy_unreferenced_disks",
        Instead("nothing: volumes that are not in the configuration are left alone"),
    ),
    (
        "digest",
        Instead("nothing: the module guards its changes with it itself"),
    ),
    (
        "efidisk0",
        Differs("a size is not needed; PVE's text is taken too"),
    ),
    (
        "force",
        Differs("what it does depends on state; see its documentation"),
    ),
    (
        "format",
        Instead("format in the drive, or in clone: {name: ..., full: true, format: ...}"),
    ),
    ("freeze", Instead("config: {freeze: ...}")),
    (
        "full",
        Instead("clone: {name: ..., full: true}; without it the clone is linked"),
    ),
    ("hookscript", Instead("config: {hookscript: ...}")),
    ("hostpci", Kept),
    ("hotplug", Kept),
    ("hugepages", Instead("config: {hugepages: ...}")),
    ("ide", Kept),
    ("ipconfig", Instead("the module cloudinit_drive")),
    ("keyboard", Instead("config: {keyboard: ...}")),
    ("kvm", Instead("config: {kvm: ...}")),
    ("localtime", Instead("config: {localtime: ...}")),
    (
        "lock",
        Instead("nothing: only PVE sets locks (qm unlock removes one)"),
    ),
    ("machine", Kept),
    ("memory", Kept),
    (
        "migrate",
        Differs(
            "to node, online, with local disks; a VM that PVE would not migrate is refused before",
        ),
    ),
    (
        "migrate_downtime",
        Instead("config: {migrate_downtime: ...}"),
    ),
    ("migrate_speed", Instead("config: {migrate_speed: ...}")),
    ("name", Differs("two VMs of one name are an error")),
    ("nameservers", Instead("the module cloudinit_drive")),
    (
        "net",
        Differs("a NIC keeps its MAC address unless another one is given"),
    ),
    ("newid", Instead("vmid, the new VM's ID")),
    (
        "node",
        Differs(
            "may be left out: the online node with the most free memory that has what the VM needs",
        ),
    ),
    (
        "numa",
        Differs("a boolean, proxmox_kvm's numa_enabled; nodes: config: {numa0: ...}"),
    ),
    ("numa_enabled", Instead("numa")),
    ("onboot", Kept),
    ("ostype", Kept),
    ("parallel", Instead("config: {parallel0: ...}")),
    ("pool", Differs("an existing VM is moved to it")),
    ("protection", Kept),
    (
        "purge",
        Instead("nothing: state: absent removes the VM from backup jobs, replication and HA too"),
    ),
    ("reboot", Instead("config: {reboot: ...}")),
    (
        "revert",
        Instead("nothing: pending changes are reported in the result"),
    ),
    ("rng0", Kept),
    ("sata", Kept),
    ("scsi", Kept),
    ("scsihw", Kept),
    ("searchdomains", Instead("the module cloudinit_drive")),
    ("serial", Kept),
    ("shares", Instead("config: {shares: ...}")),
    (
        "skiplock",
        Instead("nothing: locks are waited for (qm unlock removes a stale one)"),
    ),
    ("smbios", Instead("config: {smbios1: ...}")),
    (
        "snapname",
        Instead("nothing: clones are made of templates, which have no snapshots"),
    ),
    ("sockets", Kept),
    (
        "spice_enhancements",
        Instead("config: {spice_enhancements: ...}"),
    ),
    ("sshkeys", Instead("the module cloudinit_drive")),
    ("startdate", Instead("config: {startdate: ...}")),
    ("startup", Kept),
    (
        "state",
        Differs(
            "present, started, stopped, restarted, template, absent, current; not paused and hibernated",
        ),
    ),
    (
        "storage",
        Instead("storage in each drive, or in clone: {name: ..., full: true, storage: ...}"),
    ),
    ("tablet", Kept),
    (
        "tags",
        Differs("the list is all tags; without it they are left alone"),
    ),
    ("target", Instead("node")),
    ("tdf", Instead("config: {tdf: ...}")),
    ("template", Instead("state: template")),
    (
        "timeout",
        Differs("limits the whole task; the default is 300 seconds, not 30 for each step"),
    ),
    (
        "tpmstate0",
        Differs("without version it is PVE's default, v1.2, not 2.0; PVE's text is taken too"),
    ),
    (
        "update",
        Instead("nothing: an existing VM always becomes as described"),
    ),
    (
        "update_unsafe",
        Instead(
            "nothing: drives and NICs always become as described, and keep their volumes and MAC addresses",
        ),
    ),
    ("usb", Kept),
    (
        "validate_certs",
        Differs("tls_fingerprint is the safe way to use a self-signed certificate"),
    ),
    ("vcpus", Instead("config: {vcpus: ...}")),
    ("vga", Kept),
    ("virtio", Kept),
    ("virtiofs", Instead("config: {virtiofs0: ...}")),
    (
        "vmid",
        Differs("may be left out: the VM is found by its name"),
    ),
    ("watchdog", Instead("config: {watchdog: ...}")),
    (
        "with_local_disks",
        Instead("nothing: migrate takes local disks along"),
    ),
];

/// What takes the place of an option that `proxmox_kvm` has and this module does not.
pub fn instead(option: &str) -> Option<&'static str> {
    Fate::instead(&OPTIONS, option)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of the documents' table must be these.
    #[test]
    fn the_document_says_the_same() {
        let document = include_str!("../../../docs/moving-over.md");
        let mut kept: Vec<&str> = Vec::new();
        for (name, fate) in OPTIONS {
            // Those that stay as they are have no rows.
            if fate == Kept {
                kept.push(name);
                continue;
            }
            let row = fate.row(name);
            assert!(document.contains(&row), "docs/moving-over.md lacks: {row}");
        }
        let kept = kept
            .iter()
            .map(|name| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", ");
        let unwrapped = document.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            unwrapped.contains(&kept),
            "docs/moving-over.md lacks: {kept}"
        );
    }

    #[test]
    fn the_table_is_true_of_the_options() {
        let schema = schemars::schema_for!(crate::options::Options).to_value();
        let ours = schema["properties"].as_object().unwrap();
        for (name, fate) in OPTIONS {
            let exists = ours.contains_key(name);
            assert_eq!(exists, !matches!(fate, Instead(_)), "{name}");
            assert_eq!(instead(name).is_some(), !exists, "{name}");
            if let Instead(what) = fate
                && let Some(rest) = what.strip_prefix("config: {")
            {
                let key = rest.split(':').next().unwrap();
                if key != "OPTION" {
                    crate::config::known_options::known(key)
                        .unwrap_or_else(|e| panic!("{key} {e}"));
                }
            }
        }
        let mut names: Vec<&str> = OPTIONS.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), OPTIONS.len());
    }
}
