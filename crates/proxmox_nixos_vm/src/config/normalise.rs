//! When two texts of one PVE option mean the same.

use std::collections::{BTreeMap, BTreeSet};

use pve_client::property::{self, PropertyString};

/// Options whose absence from a VM's configuration means this value (PVE's schema).
const DEFAULTS: [(&str, &str); 32] = [
    ("acpi", "1"),
    ("agent", "0"),
    ("allow-ksm", "1"),
    ("arch", "x86_64"),
    ("autostart", "0"),
    ("bios", "seabios"),
    ("ciupgrade", "1"),
    ("cores", "1"),
    ("cpu", "kvm64"),
    ("cpulimit", "0"),
    ("freeze", "0"),
    ("hotplug", "network,disk,usb"),
    ("keephugepages", "0"),
    ("kvm", "1"),
    ("machine", "pc"),
    ("memory", "512"),
    ("migrate_downtime", "0.1"),
    ("migrate_speed", "0"),
    ("numa", "0"),
    ("onboot", "0"),
    ("ostype", "other"),
    ("protection", "0"),
    ("reboot", "1"),
    ("scsihw", "lsi"),
    ("shares", "1000"),
    ("sockets", "1"),
    ("startdate", "now"),
    ("tablet", "1"),
    ("tdf", "0"),
    ("template", "0"),
    ("vcpus", "0"),
    ("vga", "std"),
];

/// Options that are booleans.
const BOOLEANS: [&str; 15] = [
    "acpi",
    "allow-ksm",
    "autostart",
    "ciupgrade",
    "freeze",
    "keephugepages",
    "kvm",
    "localtime",
    "numa",
    "onboot",
    "protection",
    "reboot",
    "tablet",
    "tdf",
    "template",
];

/// Options that are property strings: their default key, and what the absence of a part means.
/// A name ending in `*` has an index in its place.
type Parts = (
    &'static str,
    Option<&'static str>,
    &'static [(&'static str, &'static str)],
);
const PROPERTIES: [Parts; 16] = [
    (
        "agent",
        Some("enabled"),
        &[
            ("enabled", "0"),
            ("fstrim_cloned_disks", "0"),
            ("type", "virtio"),
            ("freeze-fs", "1"),
        ],
    ),
    ("amd-sev", Some("type"), &[]),
    ("audio*", None, &[("driver", "spice")]),
    ("cpu", Some("cputype"), &[("hidden", "0")]),
    (
        "hostpci*",
        Some("host"),
        &[
            ("pcie", "0"),
            ("rombar", "1"),
            ("x-vga", "0"),
            ("legacy-igd", "0"),
        ],
    ),
    ("ipconfig*", None, &[]),
    ("machine", Some("type"), &[]),
    ("memory", Some("current"), &[]),
    ("numa*", None, &[]),
    (
        "rng*",
        Some("source"),
        &[("max_bytes", "1024"), ("period", "1000")],
    ),
    ("smbios1", None, &[("base64", "0")]),
    (
        "spice_enhancements",
        None,
        &[("foldersharing", "0"), ("videostreaming", "off")],
    ),
    ("startup", Some("order"), &[]),
    ("usb*", Some("host"), &[("usb3", "0")]),
    ("vga", Some("type"), &[("type", "std")]),
    ("watchdog", Some("model"), &[]),
];

/// Whether `name` is a boolean of PVE's configuration.
pub fn is_boolean(name: &str) -> bool {
    BOOLEANS.contains(&name)
}

/// What the absence of the option `name` means, if that is a value.
pub fn default(name: &str) -> Option<&'static str> {
    DEFAULTS.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
}

/// Whether `want` is what the configuration already says for the option `name`.
pub fn same(name: &str, want: &str, have: Option<&str>) -> bool {
    let Some(have) = have.or(default(name)) else {
        return want.is_empty();
    };
    if want == have {
        return true;
    }
    match name {
        "tags" => tags(want) == tags(have),
        "boot" => boot(want) == boot(have),
        "hotplug" => hotplug(want) == hotplug(have),
        // PVE keeps every line of a description with its newline.
        "description" => want.trim_end_matches('\n') == have.trim_end_matches('\n'),
        _ if is_boolean(name) => {
            property::parse_bool(want).is_some()
                && property::parse_bool(want) == property::parse_bool(have)
        }
        _ => match properties(name) {
            Some(parts) => same_parts(parts, want, have),
            None => number(want).is_some() && number(want) == number(have),
        },
    }
}

/// Whether the configuration says that PVE removes neither the VM nor a drive of it.
pub fn is_protected(config: &BTreeMap<String, String>) -> bool {
    same(
        "protection",
        "1",
        config.get("protection").map(String::as_str),
    )
}

/// The tags in a text, as PVE keeps them: split at `;`, `,` and blanks, lower-cased, sorted, each once.
pub fn tags(text: &str) -> BTreeSet<String> {
    text.split([';', ',', ' ', '\t', '\n', '\0'])
        .filter(|tag| !tag.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// The devices of a boot order, or nothing if the text is of the old kind (`cdn`).
pub fn boot(text: &str) -> Option<Vec<&str>> {
    let text = text.trim();
    let order = match text.strip_prefix("order=") {
        Some(order) => order,
        None if text.is_empty() => "",
        None => return None,
    };
    Some(order.split(';').filter(|d| !d.is_empty()).collect())
}

/// The text of a boot order.
pub fn boot_text<S: AsRef<str>>(devices: &[S]) -> String {
    let devices: Vec<&str> = devices.iter().map(AsRef::as_ref).collect();
    format!("order={}", devices.join(";"))
}

/// What is hot-plugged: `1` means PVE's default, `0` nothing.
fn hotplug(text: &str) -> BTreeSet<&str> {
    match text {
        "0" => BTreeSet::new(),
        "1" => "network,disk,usb".split(',').collect(),
        list => list
            .split([',', ';', ' '])
            .filter(|f| !f.is_empty())
            .collect(),
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

fn properties(name: &str) -> Option<&'static Parts> {
    PROPERTIES
        .iter()
        .find(|(pattern, _, _)| match pattern.strip_suffix('*') {
            Some(stem) => name
                .strip_prefix(stem)
                .is_some_and(crate::config::text::is_index),
            None => *pattern == name,
        })
}

/// The parts by PVE's own names.
fn without_aliases(name: &str, mut parts: PropertyString) -> PropertyString {
    if name == "agent" {
        for alias in ["freeze-fs-on-backup", "guest-fsfreeze"] {
            if let Some(value) = parts.remove(alias) {
                parts.set("freeze-fs", value);
            }
        }
    }
    parts
}

/// Whether two values of a part of the option `name` mean the same.
fn same_value(name: &str, key: &str, a: &str, b: &str) -> bool {
    let set = |text: &str, item: fn(&str) -> String| -> BTreeSet<String> {
        text.split(';').map(|part| item(part.trim())).collect()
    };
    let both = |item: fn(&str) -> String| set(a, item) == set(b, item);
    let hex = |text: &str| {
        let text = text.to_ascii_lowercase();
        text.strip_prefix("0x").unwrap_or(&text).to_owned()
    };
    match (name, key) {
        ("cpu", "flags") => both(str::to_owned),
        ("hostpci*", "host") => both(pci_address),
        ("hostpci*", key) if key.ends_with("-id") => hex(a) == hex(b),
        ("usb*", "host") => {
            let device = |text: &str| text.split(':').map(hex).collect::<Vec<_>>();
            device(a) == device(b)
        }
        ("numa*", "cpus" | "hostnodes") => both(str::to_owned),
        ("smbios1", "uuid") => a.eq_ignore_ascii_case(b),
        _ => property::same_value(key, a, b) || number(a).is_some() && number(a) == number(b),
    }
}

/// A PCI address in one spelling: with its domain, in lower case.
fn pci_address(text: &str) -> String {
    let text = text.to_ascii_lowercase();
    match text.matches(':').count() {
        1 => format!("0000:{text}"),
        _ => text,
    }
}

fn same_parts((name, default_key, defaults): &Parts, want: &str, have: &str) -> bool {
    let parse =
        |text| PropertyString::parse(text, *default_key).map(|parts| without_aliases(name, parts));
    let (Ok(want), Ok(have)) = (parse(want), parse(have)) else {
        return false;
    };
    let value = |parts: &PropertyString, key: &str| {
        let default = || {
            defaults
                .iter()
                .find(|(k, _)| *k == key)
                .map(|(_, v)| (*v).to_owned())
        };
        parts.get(key).map(str::to_owned).or_else(default)
    };
    let keys = want
        .iter()
        .chain(have.iter())
        .map(|(key, _)| key.to_owned());
    keys.into_iter().collect::<BTreeSet<_>>().iter().all(|key| {
        match (value(&want, key), value(&have, key)) {
            (Some(a), Some(b)) => same_value(name, key, &a, &b),
            // PVE makes up the UUID; a description without one leaves it.
            (None, Some(_)) => *name == "smbios1" && key == "uuid",
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_meaning_are_the_same() {
        for (name, want, have) in [
            ("agent", "1", Some("enabled=1")),
            ("agent", "enabled=1,type=virtio", Some("1")),
            ("agent", "0", None),
            ("boot", "order=scsi0;ide2", Some("order=scsi0;ide2")),
            ("boot", "order=", Some(" ")),
            ("cores", "1", None),
            ("cpu", "host", Some("cputype=host")),
            (
                "cpu",
                "host,flags=+pcid;+aes",
                Some("host,flags=+aes;+pcid"),
            ),
            (
                "cpu",
                "flags=+aes,cputype=host,hidden=0",
                Some("host,flags=+aes"),
            ),
            ("cpu", "kvm64", None),
            (
                "hostpci0",
                "0000:01:00.0,pcie=on",
                Some("host=01:00.0,pcie=1"),
            ),
            ("hostpci0", "01:00.1;01:00.0", Some("01:00.0;01:00.1")),
            (
                "hostpci0",
                "0A:00,vendor-id=0x10DE",
                Some("0a:00,vendor-id=0x10de"),
            ),
            ("usb0", "host=0x1A2B:3c4d", Some("1a2b:3C4D")),
            ("usb0", "spice,usb3=no", Some("SPICE")),
            (
                "numa0",
                "cpus=0;1,memory=512",
                Some("cpus=1;0,memory=512.0"),
            ),
            ("machine", "pc", None),
            ("machine", "type=q35", Some("q35")),
            ("agent", "1,guest-fsfreeze=0", Some("1,freeze-fs=0")),
            (
                "smbios1",
                "uuid=6CFF0931-1cb7-4535-800e-09aaaede1e6d",
                Some("uuid=6cff0931-1cb7-4535-800e-09aaaede1e6d"),
            ),
            ("arch", "x86_64", None),
            ("cpulimit", "2", Some("2.0")),
            ("description", "a\nb", Some("a\nb\n")),
            ("description", "", None),
            ("hotplug", "1", None),
            ("hotplug", "usb,disk,network", Some("network,disk,usb")),
            ("hotplug", "0", Some("0")),
            ("memory", "2048", Some("current=2048")),
            ("memory", "512", None),
            ("onboot", "0", None),
            ("onboot", "yes", Some("1")),
            (
                "rng0",
                "source=/dev/urandom,max_bytes=1024",
                Some("/dev/urandom"),
            ),
            (
                "smbios1",
                "serial=x",
                Some("uuid=6cff0931-1cb7-4535-800e-09aaaede1e6d,serial=x"),
            ),
            ("startup", "order=1,up=30", Some("up=30,order=1")),
            ("tags", "b;A", Some("a;b")),
            ("tags", "", None),
            ("vga", "type=serial0", Some("serial0")),
        ] {
            assert!(same(name, want, have), "{name}: {want} and {have:?}");
        }
    }

    #[test]
    fn differences_are_seen() {
        for (name, want, have) in [
            ("agent", "1", None),
            ("agent", "1,fstrim_cloned_disks=1", Some("1")),
            ("balloon", "0", None),
            ("boot", "order=scsi0;ide2", Some("order=ide2;scsi0")),
            ("boot", "order=scsi0", Some("cdn")),
            ("cpu", "host", None),
            ("cpu", "host,flags=+aes", Some("host,flags=-aes")),
            ("hostpci0", "01:00.0", Some("01:00.1")),
            ("hostpci0", "01:00.0", Some("0001:01:00.0")),
            ("cpu", "host", Some("host,flags=+aes")),
            ("memory", "2048", Some("1024")),
            ("name", "a", Some("A")),
            ("smbios1", "uuid=6cff0931-1cb7-4535-800e-09aaaede1e6d", None),
            (
                "smbios1",
                "serial=y",
                Some("uuid=6cff0931-1cb7-4535-800e-09aaaede1e6d,serial=x"),
            ),
            ("tags", "", Some("a")),
            ("vga", "serial0", None),
        ] {
            assert!(!same(name, want, have), "{name}: {want} and {have:?}");
        }
    }
}
