//! Normal forms of PVE's texts, and when two texts of one option are the same.

use std::collections::{BTreeMap, BTreeSet};

use pve_client::property::{self, PropertyString};
use pve_schema::{Kind, Properties, parameter};

/// Whether `name` is a boolean of PVE's configuration.
pub fn is_boolean(name: &str) -> bool {
    matches!(parameter(name), Some(row) if matches!(row.kind, Kind::Flag))
}

/// What the absence of the option `name` means, if that is a value.
pub fn default(name: &str) -> Option<&'static str> {
    parameter(name)?.default
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
        _ => match parameter(name).map(|row| (row.name, &row.kind)) {
            Some((row, Kind::Properties(properties))) => same_parts(row, properties, want, have),
            _ => number(want).is_some() && number(want) == number(have),
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

/// What PVE splits a list of tags at.
const TAG_SEPARATORS: [char; 6] = [';', ',', ' ', '\t', '\n', '\0'];

/// The tags in a text, to be compared: lower-cased, sorted, each once.
pub fn tags(text: &str) -> BTreeSet<String> {
    text.split(TAG_SEPARATORS)
        .filter(|tag| !tag.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// The tags that there are, as they are, and those of `more` that are not among them, as they are written there: whether case counts
/// is the cluster's to say (`tag-style`).
pub fn tags_with(have: &str, more: &str) -> String {
    let mut seen = BTreeSet::new();
    let all = have
        .split(TAG_SEPARATORS)
        .chain(more.split(TAG_SEPARATORS))
        .filter(|tag| !tag.is_empty() && seen.insert(tag.to_lowercase()));
    all.collect::<Vec<_>>().join(";")
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

/// The parts by PVE's own names.
fn without_aliases(properties: &Properties, mut parts: PropertyString) -> PropertyString {
    for key in properties.keys {
        if let Some(name) = key.alias_of
            && let Some(value) = parts.remove(key.name)
        {
            parts.set(name, value);
        }
    }
    parts
}

/// Whether two texts of the parameter `name` (as its row names it) have the same parts.
fn same_parts(name: &str, properties: &Properties, want: &str, have: &str) -> bool {
    let parse = |text| {
        PropertyString::parse(text, properties.default_key)
            .map(|parts| without_aliases(properties, parts))
    };
    let (Ok(want), Ok(have)) = (parse(want), parse(have)) else {
        return false;
    };
    let value = |parts: &PropertyString, key: &str| {
        let default = || {
            let key = properties.keys.iter().find(|known| known.name == key)?;
            key.default.map(str::to_owned)
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
            (None, Some(_)) => name == "smbios1" && key == "uuid",
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
