//! Devices and other options that are property strings, described as dicts.

use pve_client::property::PropertyString;
use serde_json::{Map, Value};

use crate::{limits, text};

/// What a dict may say of a device: its stem, the part that PVE writes without a name, and all parts.
type Device = (&'static str, &'static str, &'static [&'static str]);
const DEVICES: [Device; 2] = [
    (
        "hostpci",
        "host",
        &[
            "host",
            "mapping",
            "pcie",
            "rombar",
            "romfile",
            "x-vga",
            "legacy-igd",
            "mdev",
            "driver",
            "vendor-id",
            "device-id",
            "sub-vendor-id",
            "sub-device-id",
        ],
    ),
    ("usb", "host", &["host", "mapping", "usb3"]),
];

/// PVE's text for the device `key` of the kind `kind`.
pub fn text(kind: &str, key: &str, value: &Value) -> Result<String, String> {
    match (value, DEVICES.iter().find(|(stem, ..)| *stem == kind)) {
        (Value::Object(map), Some((_, default, known))) => {
            from_dict(map, default, known).map_err(|problem| format!("{key}: {problem}"))
        }
        (Value::Object(_) | Value::Array(_) | Value::Null, _) => Err(format!(
            "{key}: expected text, such as {} (got {value})",
            match kind {
                "serial" => "socket",
                "usb" => "mapping=NAME",
                _ => "mapping=NAME,pcie=1",
            }
        )),
        (value, _) => Ok(text::scalar(value).unwrap_or_default()),
    }
}

fn from_dict(map: &Map<String, Value>, default: &str, known: &[&str]) -> Result<String, String> {
    let mut parts = PropertyString::new(Some(default));
    for (name, value) in map.iter().filter(|(_, value)| !value.is_null()) {
        let name = name.replace('_', "-");
        limits::key(&name, known)?;
        parts.set(&name, part(&name, value)?);
    }
    match (parts.get("host").is_some(), parts.get("mapping").is_some()) {
        (true, true) => Err("host and mapping are mutually exclusive".into()),
        (false, false) => Err("mapping (Datacenter, Resource Mappings) or host is required".into()),
        _ => Ok(parts.to_string()),
    }
}

/// The value of one part of a property string: a list is joined as PVE does, and nothing can become another part.
pub fn part(name: &str, value: &Value) -> Result<String, String> {
    let text = match value {
        Value::Array(items) if !items.is_empty() => {
            let items = items
                .iter()
                .map(|item| text::scalar(item).filter(|text| !text.is_empty()));
            let items = items.collect::<Option<Vec<_>>>();
            items.map(|items| items.join(";"))
        }
        value => text::scalar(value),
    };
    let text = text.ok_or_else(|| {
        format!("{name}: expected text, a number, a boolean or a list of these (got {value})")
    })?;
    if text.is_empty() {
        return Err(format!("{name}: the value is empty; leave it out"));
    }
    if let Some(c) = text.chars().find(|c| matches!(c, ',' | '\n' | '\r' | '\0')) {
        let instead = match c {
            ',' => format!(
                "; separate several values with ';' ({}), or give a list",
                text.replace(',', ";")
            ),
            _ => String::new(),
        };
        return Err(format!(
            "{name}: {text:?} contains {c:?}, which ends an option in PVE's text{instead}"
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn dicts_become_texts() {
        for (kind, value, expected) in [
            (
                "hostpci",
                json!({"mapping": "gpu", "pcie": true}),
                "mapping=gpu,pcie=1",
            ),
            (
                "hostpci",
                json!({"host": ["01:00.0", "01:00.1"], "x_vga": true, "rombar": null}),
                "01:00.0;01:00.1,x-vga=1",
            ),
            ("hostpci", json!("mapping=gpu"), "mapping=gpu"),
            (
                "usb",
                json!({"mapping": "key", "usb3": "1"}),
                "mapping=key,usb3=1",
            ),
            ("usb", json!({"host": "spice"}), "spice"),
            ("serial", json!("socket"), "socket"),
        ] {
            assert_eq!(text(kind, "x0", &value).as_deref(), Ok(expected), "{value}");
        }
        for (kind, value, part) in [
            ("hostpci", json!({"pcie": true}), "mapping (Datacenter"),
            (
                "hostpci",
                json!({"mapping": "a", "host": "01:00"}),
                "mutually exclusive",
            ),
            ("hostpci", json!({"mapping": "gpu,x-vga=1"}), "contains ','"),
            ("hostpci", json!({"maping": "gpu"}), "maping"),
            ("hostpci", json!(["gpu"]), "expected text"),
            ("serial", json!({"socket": true}), "such as socket"),
            ("usb", json!({"host": {"a": 1}}), "host: expected text"),
        ] {
            let error = text(kind, "x0", &value).unwrap_err();
            assert!(error.starts_with("x0: ") && error.contains(part), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_value_never_becomes_another_option(value in ".*") {
            if let Ok(text) = part("mapping", &json!(value)) {
                let whole = format!("mapping={text}");
                let parsed = PropertyString::parse(&whole, None).unwrap();
                prop_assert_eq!(parsed.iter().count(), 1);
                prop_assert_eq!(parsed.get("mapping"), Some(text.as_str()));
            }
        }
    }
}
