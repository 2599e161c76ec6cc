//! What PVE is known to refuse, said before anything is asked of it, so that check mode says it too. Only what its API schema
//! has had for years: anything else that PVE refuses is its own answer, of kind `invalid_parameter`.

use pve_schema::{Kind, Parameter, parameter, syntax};

use crate::config::{kind, property_strings};

/// Refuse a device that no VM can have, such as `scsi31`.
pub fn device(key: &str) -> Result<(), String> {
    let kind = key.trim_end_matches(|c: char| c.is_ascii_digit());
    let Some(count) = pve_schema::count(kind) else {
        return Ok(());
    };
    let index = key.strip_prefix(kind).filter(|rest| syntax::is_index(rest));
    match index.and_then(|index| index.parse::<u32>().ok()) {
        Some(index) if index < count => Ok(()),
        // `numa` is a parameter beside `numa0`.
        _ if parameter(key).is_some_and(|row| row.name == key) => Ok(()),
        _ => {
            let last = count - 1;
            Err(format!("{key} is not one of {kind}0 to {kind}{last}"))
        }
    }
}

/// Refuse a value that the option `name` cannot have.
pub fn value(name: &str, value: &str) -> Result<(), String> {
    let row = parameter(name);
    if let Some(least) = row.and_then(least)
        && row.is_some_and(|row| row.default != Some(value))
        && value.parse::<u64>().is_ok_and(|number| number < least)
    {
        return Err(format!("{name}: must be at least {least} (got {value})"));
    }
    if let Some(kind @ (Kind::Choice(_) | Kind::Text(..))) = row.map(|row| &row.kind)
        && !value.is_empty()
    {
        kind::check(kind, value)
            .map_err(|expected| format!("{name}: must be {expected} (got '{value}')"))?;
    }
    if let Some(row) = row
        && let kind @ (Kind::Integer(..) | Kind::Number) = &row.kind
        && !value.is_empty()
        && row.default != Some(value)
    {
        kind::check(kind, value)
            .map_err(|expected| format!("{name}: must be {expected} (got '{value}')"))?;
    }
    if is_structure(name, value) {
        return Err(format!(
            "{name}: expected text, not a dict or a list (got {value})"
        ));
    }
    property_strings::check(name, value)?;
    let length = value.chars().count();
    match row.and_then(|row| row.length) {
        Some(most) if length > most => Err(format!(
            "{name}: must have at most {most} characters (got {length} characters)"
        )),
        _ => Ok(()),
    }
}

/// The least value of an option that is a number, or whose default key is one.
fn least(row: &Parameter) -> Option<u64> {
    let kind = match row.kind {
        Kind::Properties(properties) => {
            let mut keys = properties.keys.iter();
            &keys
                .find(|key| Some(key.name) == properties.default_key)?
                .kind
        }
        ref kind => kind,
    };
    match kind {
        Kind::Integer(least, _) => Some(*least),
        _ => None,
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
    match syntax::is_tag(tag) {
        true => Ok(()),
        false => {
            let several = match tag.contains([';', ' ']) {
                true => "; write several as a list",
                false => "",
            };
            Err(format!(
                "'{tag}' is not a valid tag: it must begin with a letter, a digit or _, and continue with these, -, + and .{several}"
            ))
        }
    }
}

/// Refuse what cannot be the MAC address of a NIC.
pub fn mac(text: &str) -> Result<(), String> {
    if syntax::is_mac(text) {
        return Ok(());
    }
    Err(match syntax::is_any_mac(text) {
        true => format!("{text} is a multicast address; a NIC needs a unicast MAC"),
        false => format!("'{text}' is not a MAC address such as BC:24:11:00:00:01"),
    })
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
            ("description", &"ü".repeat(8192)),
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
            ("description", &"x".repeat(8193), "8193 characters"),
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
                mac(text).unwrap_err().contains("is not a MAC address"),
                "{text}"
            );
        }
        for text in ["-b", "ü", "a;b"] {
            let error = tag(text).unwrap_err();
            assert!(
                error.starts_with(&format!("'{text}' is not a valid tag")),
                "{error}"
            );
        }
        assert!(mac("01:24:11:00:00:01").unwrap_err().contains("multicast"));
    }
}
