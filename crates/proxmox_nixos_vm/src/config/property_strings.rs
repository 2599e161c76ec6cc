//! Options that are property strings: a dict of their keys becomes PVE's text, and a text is checked key by key.

use pve_client::property::PropertyString;
use pve_schema::Kind::{self, Choice};
use pve_schema::{Properties, parameter};
use serde_json::{Map, Value};

use crate::config::{dict, kind, text};

/// The keys of the option `name`, if it is a property string whose keys are known.
fn properties_of(name: &str) -> Option<&'static Properties> {
    match parameter(name)?.kind {
        Kind::Properties(properties) if !properties.keys.is_empty() => Some(properties),
        _ => None,
    }
}

/// PVE's text for the option `name`, which is given as a text, a number, a boolean or a dict of its parts.
///
/// # Errors
/// What is wrong, beginning with the option's name.
pub fn option_text(name: &str, value: &Value) -> Result<String, String> {
    let named = |problem: String| format!("{name}: {problem}");
    match (value, properties_of(name)) {
        (Value::Object(map), Some(format)) => to_text(format, map).map_err(named),
        _ => text::scalar(value).ok_or_else(|| {
            let dict = if properties_of(name).is_some() {
                " or a dict"
            } else {
                ""
            };
            let example = match parameter(name).and_then(|row| row.example) {
                Some(example) => format!(", such as {example}"),
                None => String::new(),
            };
            named(format!("expected text{dict}{example} (got {value})"))
        }),
    }
}

/// Refuse a text that the option `name` cannot have.
///
/// # Errors
/// What is wrong, beginning with the option's name.
pub fn check(name: &str, text: &str) -> Result<(), String> {
    match properties_of(name) {
        Some(format) if !text.is_empty() => {
            check_text(format, text).map_err(|problem| format!("{name}: {problem}"))
        }
        _ => Ok(()),
    }
}

/// PVE's text for a dict of keys.
fn to_text(format: &Properties, map: &Map<String, Value>) -> Result<String, String> {
    let known: Vec<&str> = format.keys.iter().map(|key| key.name).collect();
    let mut parts = PropertyString::new(format.default_key);
    for (name, value) in map.iter().filter(|(_, value)| !value.is_null()) {
        let dashed = name.replace('_', "-");
        let name = match known.contains(&dashed.as_str()) {
            true => &dashed,
            false => name,
        };
        dict::check_key(name, &known)?;
        let value = match (kind_of(format, name), value) {
            // YAML reads `videostreaming: off` as false.
            (Some(Choice(choices)), Value::Bool(false)) if choices.contains(&"off") => "off".into(),
            _ => dict::part(name, value)?,
        };
        if parts.get(name).is_some() {
            return Err(format!("{name} is given twice, in two spellings"));
        }
        parts.set(name, value);
    }
    if parts.iter().next().is_none() {
        return Err(format!("the dict is empty; expected {}", known.join(", ")));
    }
    Ok(parts.to_string())
}

fn kind_of(format: &Properties, name: &str) -> Option<&'static Kind> {
    let mut keys = format.keys.iter();
    keys.find(|key| key.name == name).map(|key| &key.kind)
}

fn check_text(format: &Properties, text: &str) -> Result<(), String> {
    let parts =
        PropertyString::parse(text, format.default_key).map_err(|error| error.to_string())?;
    for (name, value) in parts.iter() {
        match kind_of(format, name) {
            Some(kind) => kind::check(kind, value)
                .map_err(|expected| format!("{name} must be {expected} (got '{value}')"))?,
            None => refuse_misspelling(format, name)?,
        }
    }
    for (name, _) in parts.iter() {
        let mut keys = format.keys.iter();
        let Some(needed) = keys
            .find(|key| key.name == name)
            .and_then(|key| key.needs_fixed)
        else {
            continue;
        };
        match parts.get(needed) {
            None => return Err(format!("{name} requires {needed}")),
            Some(value @ ("dhcp" | "auto")) => {
                return Err(format!("{name} needs a fixed {needed} (got '{value}')"));
            }
            Some(_) => {}
        }
    }
    let has = |name: &&&str| parts.get(name).is_some();
    match format.one_of.iter().filter(has).count() {
        0 if !format.one_of.is_empty() => {
            Err(format!("{} is required", format.one_of.join(" or ")))
        }
        2.. => Err(format!(
            "{} are mutually exclusive",
            format.one_of.join(" and ")
        )),
        _ => Ok(()),
    }
}

/// Refuse another spelling of a part's name. A later PVE may have parts that are not known here.
fn refuse_misspelling(format: &Properties, name: &str) -> Result<(), String> {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    let meant = format
        .keys
        .iter()
        .find(|key| plain(key.name) == plain(name));
    match meant {
        Some(key) => Err(format!(
            "{name} is not one of its keys; did you mean {}?",
            key.name
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn whole(name: &str, value: &Value) -> Result<String, String> {
        let text = option_text(name, value)?;
        check(name, &text).map(|()| text)
    }

    #[test]
    fn dicts_become_texts() {
        for (name, value, expected) in [
            (
                "hostpci0",
                json!({"mapping": "gpu", "pcie": true}),
                "mapping=gpu,pcie=1",
            ),
            (
                "hostpci1",
                json!({"host": ["01:00.0", "01:00.1"], "x_vga": true, "rombar": null}),
                "01:00.0;01:00.1,x-vga=1",
            ),
            ("hostpci0", json!("mapping=gpu"), "mapping=gpu"),
            (
                "usb0",
                json!({"mapping": "key", "usb3": "1"}),
                "mapping=key,usb3=1",
            ),
            ("usb0", json!({"host": "spice"}), "spice"),
            (
                "agent",
                json!({"enabled": true, "fstrim_cloned_disks": true, "type": "virtio"}),
                "1,fstrim_cloned_disks=1,type=virtio",
            ),
            (
                "cpu",
                json!({"cputype": "host", "flags": ["+aes", "-pcid"]}),
                "host,flags=+aes;-pcid",
            ),
            (
                "rng0",
                json!({"source": "/dev/urandom", "max_bytes": 1024}),
                "/dev/urandom,max_bytes=1024",
            ),
            ("startup", json!({"order": 1, "up": 30}), "1,up=30"),
            ("vga", json!({"type": "qxl", "memory": 32}), "qxl,memory=32"),
            (
                "watchdog",
                json!({"model": "i6300esb", "action": "reset"}),
                "i6300esb,action=reset",
            ),
            (
                "audio0",
                json!({"device": "ich9-intel-hda", "driver": "spice"}),
                "device=ich9-intel-hda,driver=spice",
            ),
            (
                "numa0",
                json!({"cpus": ["0-1", 4], "memory": 128}),
                "cpus=0-1;4,memory=128",
            ),
            (
                "ipconfig0",
                json!({"ip": "192.0.2.1/24", "gw": "192.0.2.254"}),
                "ip=192.0.2.1/24,gw=192.0.2.254",
            ),
            (
                "machine",
                json!({"type": "q35", "viommu": "intel"}),
                "q35,viommu=intel",
            ),
            (
                "spice_enhancements",
                json!({"videostreaming": false}),
                "videostreaming=off",
            ),
        ] {
            assert_eq!(whole(name, &value).as_deref(), Ok(expected), "{value}");
        }
    }

    #[test]
    fn texts_that_pve_takes_pass() {
        for (name, text) in [
            ("agent", "enabled=1,guest-fsfreeze=off"),
            ("cpu", "flags=+aes;+pcid,cputype=host"),
            ("cpu", "custom-foo,phys-bits=host"),
            ("cpu", "Later-v9,hv-vendor-id=proxmox,guest-phys-bits=40"),
            ("hostpci0", "0000:01:00,pcie=1,vendor-id=0x10de"),
            ("ipconfig31", "ip=dhcp,ip6=auto"),
            ("machine", "pc-i440fx-9.2+pve1"),
            ("machine", "type=pc-q35-8.1.pxe,viommu=virtio"),
            ("machine", "virt-9.0"),
            ("memory", "current=2048"),
            ("numa7", "cpus=0-3;8,hostnodes=0,policy=bind"),
            (
                "smbios1",
                "uuid=6CFF0931-1cb7-4535-800e-09aaaede1e6d,serial=eA==,base64=1",
            ),
            ("startup", "2"),
            ("startup", "up=30"),
            ("usb1", "host=1-2.3,usb3=yes"),
            ("usb1", "0x1234:5678"),
            ("vga", "memory=32"),
            ("vga", ""),
            // What a later PVE may have.
            ("vga", "std,brightness=3"),
            ("args", "-device x"),
        ] {
            check(name, text).unwrap();
        }
    }

    #[test]
    fn what_pve_refuses_is_named() {
        for (name, value, part) in [
            (
                "hostpci0",
                json!({"pcie": true}),
                "mapping or host is required",
            ),
            (
                "hostpci0",
                json!({"mapping": "aa", "host": "01:00"}),
                "mutually exclusive",
            ),
            (
                "hostpci0",
                json!({"mapping": "gpu,x-vga=1"}),
                "contains ','",
            ),
            ("hostpci0", json!({"maping": "gpu"}), "maping"),
            ("hostpci0", json!("gpu"), "host must be PCI addresses"),
            ("hostpci0", json!(true), "(got '1')"),
            (
                "hostpci0",
                json!("mapping=gpu,x_vga=1"),
                "did you mean x-vga?",
            ),
            (
                "hostpci0",
                json!(["gpu"]),
                "expected text or a dict, such as mapping=NAME",
            ),
            (
                "serial0",
                json!({"socket": true}),
                "expected text, such as socket",
            ),
            ("usb0", json!({"host": {"a": 1}}), "host: expected text"),
            ("usb0", json!(true), "host must be spice, "),
            ("rng0", json!(true), "source must be one of /dev/urandom, "),
            ("rng0", json!("urandom"), "(got 'urandom')"),
            ("agent", json!("virtio"), "enabled must be a boolean"),
            ("agent", json!({"type": "isa"}), "enabled is required"),
            ("agent", json!({}), "the dict is empty"),
            ("cpu", json!("host,flags=+aes,+pcid"), "joined by ';'"),
            (
                "cpu",
                json!("host,flags=aes"),
                "flags must be +FLAG or -FLAG",
            ),
            ("cpu", json!("flags=+aes"), "cputype is required"),
            (
                "cpu",
                json!("host,phys-bits=65"),
                "phys-bits must be host or a number between 8 and 64",
            ),
            (
                "cpu",
                json!("host,hv-vendor-id=a-b"),
                "hv-vendor-id must be 1 to 12 letters and digits",
            ),
            (
                "cpu",
                json!({"cputype": "host", "reported-model": "kvm64"}),
                "reported-model must be left out",
            ),
            ("machine", json!("i440fx"), "type must be pc, q35, virt"),
            ("machine", json!("pc-q35"), "type must be"),
            (
                "memory",
                json!("2G"),
                "current must be a whole number, at least 16",
            ),
            (
                "startup",
                json!("order=1,up=x"),
                "up must be a whole number",
            ),
            ("startup", json!("True"), "order must be"),
            ("vga", json!("nvidia"), "type must be one of cirrus, "),
            (
                "vga",
                json!("qxl,memory=1"),
                "memory must be between 4 and 512",
            ),
            (
                "watchdog",
                json!("i6300,action=boom"),
                "model must be one of i6300esb, ib700",
            ),
            ("ipconfig0", json!("ip=10.0.0.1"), "with its prefix"),
            ("ipconfig0", json!("dhcp"), "without a key"),
            (
                "ipconfig0",
                json!("ip=dhcp,gw=192.0.2.1"),
                "gw needs a fixed ip (got 'dhcp')",
            ),
            (
                "ipconfig0",
                json!({"ip": "192.0.2.2/24", "gw6": "2001:db8::1"}),
                "gw6 requires ip6",
            ),
        ] {
            let error = whole(name, &value).unwrap_err();
            assert!(
                error.starts_with(&format!("{name}: ")) && error.contains(part),
                "{part} in: {error}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_value_never_becomes_another_option(value in ".*") {
            if let Ok(text) = option_text("hostpci0", &json!({"mapping": value})) {
                let parsed = PropertyString::parse(&text, Some("host")).unwrap();
                prop_assert_eq!(parsed.iter().count(), 1);
                prop_assert_eq!(parsed.get("mapping"), Some(value.as_str()));
            }
        }
    }
}
