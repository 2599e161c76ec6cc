//! What PVE's configuration of a VM can have, as its API's schema says (PVE 9.2). PVE refuses every other name, but only when it is
//! asked to write it, so that check mode would not know.

use crate::config::text;

/// Options, in order of their names. One that ends in `*` has a number in its place.
const OPTIONS: [&str; 75] = [
    "acpi",
    "affinity",
    "agent",
    "allow-ksm",
    "amd-sev",
    "arch",
    "args",
    "audio0",
    "autostart",
    "balloon",
    "bios",
    "boot",
    "cicustom",
    "citype",
    "ciupgrade",
    "ciuser",
    "cores",
    "cpu",
    "cpulimit",
    "cpuunits",
    "description",
    "efidisk0",
    "freeze",
    "hookscript",
    "hostpci*",
    "hotplug",
    "hugepages",
    "ide*",
    "intel-tdx",
    "ipconfig*",
    "ivshmem",
    "keephugepages",
    "keyboard",
    "kvm",
    "localtime",
    "machine",
    "memory",
    "migrate_downtime",
    "migrate_speed",
    "name",
    "nameserver",
    "net*",
    "numa",
    "numa*",
    "onboot",
    "ostype",
    "parallel*",
    "protection",
    "reboot",
    "rng0",
    "sata*",
    "scsi*",
    "scsihw",
    "searchdomain",
    "serial*",
    "shares",
    "smbios1",
    "smp",
    "sockets",
    "spice_enhancements",
    "startdate",
    "startup",
    "tablet",
    "tags",
    "tdf",
    "tpmstate0",
    "usb*",
    "vcpus",
    "vga",
    "virtio*",
    "virtiofs*",
    "vmgenid",
    "vmstatestorage",
    "watchdog",
    "unused*",
];

/// Values of options that are one of a few.
const CHOICES: [(&str, &[&str]); 7] = [
    ("arch", &["x86_64", "aarch64"]),
    ("bios", &["seabios", "ovmf"]),
    ("citype", &["configdrive2", "nocloud", "opennebula"]),
    ("hugepages", &["any", "2", "1024"]),
    (
        "keyboard",
        &[
            "de", "de-ch", "da", "en-gb", "en-us", "es", "fi", "fr", "fr-be", "fr-ca", "fr-ch",
            "hu", "is", "it", "ja", "lt", "mk", "nl", "no", "pl", "pt", "pt-br", "sv", "sl", "tr",
        ],
    ),
    (
        "ostype",
        &[
            "other", "wxp", "w2k", "w2k3", "w2k8", "wvista", "win7", "win8", "win10", "win11",
            "l24", "l26", "solaris",
        ],
    ),
    (
        "scsihw",
        &[
            "lsi",
            "lsi53c810",
            "virtio-scsi-pci",
            "virtio-scsi-single",
            "megasas",
            "pvscsi",
        ],
    ),
];

/// Refuse a name that PVE's configuration does not have, with the one that may be meant.
pub fn known(name: &str) -> Result<(), String> {
    let is = |option: &&str| match option.strip_suffix('*') {
        Some(stem) => name.strip_prefix(stem).is_some_and(text::is_index),
        None => *option == name,
    };
    if OPTIONS.iter().any(is) {
        return Ok(());
    }
    let plain = |text: &str| {
        let text = text.to_ascii_lowercase().replace(['-', '_', '*'], "");
        text.strip_suffix('s').unwrap_or(&text).to_owned()
    };
    let same = |option: &str| plain(option) == plain(name);
    let meant = OPTIONS.iter().find(|option| same(option));
    Err(match meant {
        Some(meant) if meant.ends_with('*') => {
            let stem = meant.trim_end_matches('*');
            format!("is not an option of PVE's VM configuration; did you mean {stem}0?")
        }
        Some(meant) => format!("is not an option of PVE's VM configuration; did you mean {meant}?"),
        None => "is not an option of PVE's VM configuration (PVE 9.2)".into(),
    })
}

/// Refuse a value that is not one of those that the option can have.
pub fn choice(name: &str, value: &str) -> Result<(), String> {
    match CHOICES.iter().find(|(known, _)| *known == name) {
        Some((_, choices)) if !value.is_empty() && !choices.contains(&value) => Err(format!(
            "{name}: must be one of {} (got '{value}')",
            choices.join(", ")
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_pves() {
        for name in [
            "args",
            "hostpci3",
            "numa",
            "numa1",
            "ipconfig0",
            "allow-ksm",
            "virtiofs9",
            "vmstatestorage",
        ] {
            known(name).unwrap();
        }
        for (name, meant) in [
            ("Args", "did you mean args?"),
            ("allow_ksm", "did you mean allow-ksm?"),
            ("nameservers", "did you mean nameserver?"),
            ("searchdomains", "did you mean searchdomain?"),
            ("hostpci", "did you mean hostpci0?"),
            ("vcpu", "did you mean vcpus?"),
            ("hookscript0", "(PVE 9.2)"),
            ("scsi-1", "(PVE 9.2)"),
        ] {
            let error = known(name).unwrap_err();
            assert!(error.ends_with(meant), "{name}: {error}");
        }
        choice("ostype", "l26").unwrap();
        choice("cores", "7").unwrap();
        assert!(
            choice("ostype", "linux")
                .unwrap_err()
                .starts_with("ostype: must be one of other, ")
        );
    }
}
