//! What PVE is known to refuse, said before anything is asked of it, so that check mode says it too. Only what its API schema
//! has had for years: anything else that PVE refuses is its own answer, of kind `invalid_parameter`.

use crate::config::{known_options, property_strings, text};

/// How many devices of a kind a VM can have.
const DEVICES: [(&str, u32); 8] = [
    ("hostpci", 16),
    ("ide", 4),
    ("net", 32),
    ("sata", 6),
    ("scsi", 31),
    ("serial", 4),
    ("usb", 14),
    ("virtio", 16),
];

/// PVE's longest description, in characters.
const DESCRIPTION: usize = 8192;

/// Refuse a device that no VM can have, such as `scsi31`.
pub fn device(key: &str) -> Result<(), String> {
    let kind = key.trim_end_matches(|c: char| c.is_ascii_digit());
    let Some((_, count)) = DEVICES.iter().find(|(known, _)| *known == kind) else {
        return Ok(());
    };
    let index = key.strip_prefix(kind).filter(|rest| text::is_index(rest));
    match index.and_then(|index| index.parse::<u32>().ok()) {
        Some(index) if index < *count => Ok(()),
        _ => {
            let last = count - 1;
            Err(format!("{key} is not one of {kind}0 to {kind}{last}"))
        }
    }
}

/// Refuse a value that the option `name` cannot have.
pub fn value(name: &str, value: &str) -> Result<(), String> {
    let least = match name {
        "cores" | "sockets" => 1,
        "memory" => 16,
        _ => 0,
    };
    if value.parse::<u64>().is_ok_and(|number| number < least) {
        return Err(format!("{name}: must be at least {least} (got {value})"));
    }
    known_options::choice(name, value)?;
    let is_serial = name.strip_prefix("serial").is_some_and(text::is_index);
    if is_serial && !value.is_empty() && value != "socket" && !value.starts_with("/dev/") {
        return Err(format!(
            "{name}: must be socket, or a device such as /dev/ttyS0 (got '{value}')"
        ));
    }
    if is_structure(name, value) {
        return Err(format!(
            "{name}: expected text, not a dict or a list (got {value})"
        ));
    }
    property_strings::check(name, value)?;
    match name {
        "description" if value.chars().count() > DESCRIPTION => Err(format!(
            "description has {} characters; {DESCRIPTION} is the most",
            value.chars().count()
        )),
        _ => Ok(()),
    }
}

/// Whether the value is what Ansible made of a dict or a list, where text was expected.
fn is_structure(name: &str, value: &str) -> bool {
    let within = |open: &str, close: char| value.starts_with(open) && value.ends_with(close);
    match name {
        // Notes may begin with a bracket; only Python writes these.
        "description" | "args" => within("{'", '}') || within("['", ']'),
        _ => within("{", '}') || within("[", ']'),
    }
}

/// Refuse what cannot be a tag (PVE's format `pve-tag`).
pub fn tag(tag: &str) -> Result<(), String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let rest = |c: char| word(c) || "-+.".contains(c);
    match tag.starts_with(word) && tag.chars().all(rest) {
        true => Ok(()),
        false => Err(format!(
            "'{tag}' is no tag; one begins with a letter, a digit or _, and goes on with these, -, + and ."
        )),
    }
}

/// Refuse what cannot be the MAC address of a card.
pub fn mac(text: &str) -> Result<(), String> {
    let octets: Vec<&str> = text.split(':').collect();
    let hex = |octet: &&str| octet.len() == 2 && octet.bytes().all(|b| b.is_ascii_hexdigit());
    let own = octets
        .first()
        .and_then(|octet| u8::from_str_radix(octet, 16).ok());
    match octets.len() == 6 && octets.iter().all(hex) {
        true if own.is_some_and(|octet| octet & 1 == 0) => Ok(()),
        true => Err(format!("{text} is a group's MAC address, not a card's")),
        false => Err(format!(
            "'{text}' is no MAC address such as BC:24:11:00:00:01"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pve_takes_passes() {
        for key in [
            "scsi0",
            "scsi30",
            "net31",
            "ide3",
            "virtio15",
            "efidisk0",
            "rng0",
            "hostpci15",
        ] {
            device(key).unwrap();
        }
        for (name, text) in [
            ("cores", "1"),
            ("memory", "16"),
            ("memory", "current=2048"),
            ("balloon", "0"),
            ("bios", "ovmf"),
            ("bios", ""),
            ("description", "[x] done"),
            ("description", "{\"a\": 1}"),
            ("description", &"ü".repeat(DESCRIPTION)),
        ] {
            value(name, text).unwrap();
        }
        mac("BC:24:11:00:00:0b").unwrap();
        for text in ["a", "_b-c+d.e", "9"] {
            tag(text).unwrap();
        }
    }

    #[test]
    fn what_pve_refuses_is_named() {
        for key in ["scsi31", "scsi01", "net32", "ide", "hostpci16"] {
            let error = device(key).unwrap_err();
            assert!(
                error.starts_with(&format!("{key} is not one of ")),
                "{error}"
            );
        }
        for (name, text, part) in [
            ("cores", "0", "cores: must be at least 1 (got 0)"),
            ("memory", "15", "memory: must be at least 16 (got 15)"),
            ("bios", "uefi", "seabios, ovmf"),
            ("cpu", "{'cputype': 'host'}", "cpu: expected text"),
            ("agent", "[1]", "agent: expected text"),
            ("description", "['a']", "description: expected text"),
            (
                "description",
                &"x".repeat(DESCRIPTION + 1),
                "8193 characters",
            ),
        ] {
            let error = value(name, text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        for text in [
            "",
            "BC-24-11-00-00-01",
            "BC:24:11:00:00",
            "+C:24:11:00:00:01",
        ] {
            assert!(
                mac(text).unwrap_err().contains("is no MAC address"),
                "{text}"
            );
        }
        for text in ["-b", "ü", "a;b"] {
            let error = tag(text).unwrap_err();
            assert!(error.starts_with(&format!("'{text}' is no tag")), "{error}");
        }
        assert!(mac("01:24:11:00:00:01").unwrap_err().contains("a group's"));
    }
}
