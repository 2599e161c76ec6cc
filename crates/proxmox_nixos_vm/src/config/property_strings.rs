//! PVE's options that are property strings: their parts, and what each part can be (its API's schema, PVE 9.2, and the formats
//! that qemu-server registers by name). A part that is not listed is left to PVE, which may be a later one.

use std::net::{Ipv4Addr, Ipv6Addr};

use pve_client::property::{self, PropertyString};
use serde_json::{Map, Value};

use crate::config::{dict, text};

/// What a part can be.
pub enum Kind {
    /// A boolean in any of PVE's spellings.
    Flag,
    /// A whole number between these.
    Integer(u64, u64),
    /// A number, not negative.
    Number,
    /// One of these.
    Choice(&'static [&'static str]),
    /// A text, with what is expected in words.
    Text(fn(&str) -> bool, &'static str),
    /// A text that only PVE knows more about.
    Any,
}

use Kind::{Any, Choice, Flag, Integer, Number, Text};

/// An option that is a property string.
pub struct Format {
    /// The option's name. One that ends in `*` has a number in its place.
    option: &'static str,
    /// The part that PVE writes without a name.
    default: Option<&'static str>,
    parts: &'static [(&'static str, Kind)],
    /// Parts of which one is required.
    one_of: &'static [&'static str],
}

/// An [`Kind::Integer`] without an upper bound.
pub const MOST: u64 = u64::MAX;
const HEX_ID: Kind = Text(is_hex_id, "0x and 4 hex digits");
/// Numbers and ranges, such as CPUs and VLANs.
pub const RANGES: Kind = Text(is_ranges, "numbers and ranges joined by ';', such as 0-3;8");
const SMBIOS: Kind = Text(
    is_smbios,
    "letters and digits, or Base64 together with base64=1",
);

const FORMATS: [Format; 16] = [
    Format {
        option: "agent",
        default: Some("enabled"),
        parts: &[
            ("enabled", Flag),
            ("freeze-fs", Flag),
            ("freeze-fs-on-backup", Flag),
            ("fstrim_cloned_disks", Flag),
            ("guest-fsfreeze", Flag),
            ("type", Choice(&["virtio", "isa"])),
        ],
        one_of: &["enabled"],
    },
    Format {
        option: "audio0",
        default: None,
        parts: &[
            ("device", Choice(&["ich9-intel-hda", "intel-hda", "AC97"])),
            ("driver", Choice(&["spice", "none"])),
        ],
        one_of: &["device"],
    },
    Format {
        option: "cpu",
        default: Some("cputype"),
        parts: &[
            (
                "cputype",
                Text(is_cpu_type, "a CPU type such as host or x86-64-v2-AES"),
            ),
            ("flags", Text(is_cpu_flags, "+FLAG or -FLAG, joined by ';'")),
            ("guest-phys-bits", Integer(32, 64)),
            ("hidden", Flag),
            ("hv-vendor-id", Any),
            ("level", Integer(0, 4_294_967_295)),
            ("phys-bits", Any),
            ("reported-model", Any),
        ],
        one_of: &[],
    },
    Format {
        option: "hostpci*",
        default: Some("host"),
        parts: &[
            (
                "host",
                Text(is_pci, "PCI addresses such as 0000:01:00.0, joined by ';'"),
            ),
            ("mapping", Text(is_mapping, "the name of a mapping")),
            ("device-id", HEX_ID),
            ("driver", Any),
            ("legacy-igd", Flag),
            ("mdev", Any),
            ("pcie", Flag),
            ("rombar", Flag),
            ("romfile", Any),
            ("sub-device-id", HEX_ID),
            ("sub-vendor-id", HEX_ID),
            ("vendor-id", HEX_ID),
            ("x-vga", Flag),
        ],
        one_of: &["mapping", "host"],
    },
    Format {
        option: "ipconfig*",
        default: None,
        parts: &[
            (
                "ip",
                Text(
                    is_ip4_config,
                    "dhcp or an IPv4 address with its prefix, such as 192.0.2.10/24",
                ),
            ),
            (
                "gw",
                Text(|ip| ip.parse::<Ipv4Addr>().is_ok(), "an IPv4 address"),
            ),
            (
                "ip6",
                Text(
                    is_ip6_config,
                    "dhcp, auto or an IPv6 address with its prefix, such as 2001:db8::10/64",
                ),
            ),
            (
                "gw6",
                Text(|ip| ip.parse::<Ipv6Addr>().is_ok(), "an IPv6 address"),
            ),
        ],
        one_of: &[],
    },
    Format {
        option: "ivshmem",
        default: None,
        parts: &[("size", Integer(1, MOST)), ("name", Any)],
        one_of: &["size"],
    },
    Format {
        option: "machine",
        default: Some("type"),
        parts: &[
            (
                "type",
                Text(
                    is_machine,
                    "pc, q35, virt, or one with a version such as pc-q35-9.2",
                ),
            ),
            ("aw-bits", Integer(32, 64)),
            ("enable-s3", Flag),
            ("enable-s4", Flag),
            ("viommu", Choice(&["intel", "virtio"])),
        ],
        one_of: &[],
    },
    Format {
        option: "memory",
        default: Some("current"),
        parts: &[("current", Integer(16, MOST))],
        one_of: &["current"],
    },
    Format {
        option: "numa*",
        default: None,
        parts: &[
            ("cpus", RANGES),
            ("hostnodes", RANGES),
            ("memory", Number),
            ("policy", Choice(&["preferred", "bind", "interleave"])),
        ],
        one_of: &["cpus"],
    },
    Format {
        option: "rng0",
        default: Some("source"),
        parts: &[
            (
                "source",
                Choice(&["/dev/urandom", "/dev/random", "/dev/hwrng"]),
            ),
            ("max_bytes", Integer(0, MOST)),
            ("period", Integer(0, MOST)),
        ],
        one_of: &["source"],
    },
    Format {
        option: "smbios1",
        default: None,
        parts: &[
            ("base64", Flag),
            ("family", SMBIOS),
            ("manufacturer", SMBIOS),
            ("product", SMBIOS),
            ("serial", SMBIOS),
            ("sku", SMBIOS),
            ("uuid", Text(is_uuid, "a UUID")),
            ("version", SMBIOS),
        ],
        one_of: &[],
    },
    Format {
        option: "spice_enhancements",
        default: None,
        parts: &[
            ("foldersharing", Flag),
            ("videostreaming", Choice(&["off", "all", "filter"])),
        ],
        one_of: &[],
    },
    Format {
        option: "startup",
        default: Some("order"),
        parts: &[
            ("order", Integer(0, MOST)),
            ("up", Integer(0, MOST)),
            ("down", Integer(0, MOST)),
        ],
        one_of: &[],
    },
    Format {
        option: "usb*",
        default: Some("host"),
        parts: &[
            (
                "host",
                Text(
                    is_usb,
                    "spice, VENDOR:PRODUCT such as 1a2b:3c4d, or BUS-PORT such as 1-2.3",
                ),
            ),
            ("mapping", Text(is_mapping, "the name of a mapping")),
            ("usb3", Flag),
        ],
        one_of: &["mapping", "host"],
    },
    Format {
        option: "vga",
        default: Some("type"),
        parts: &[
            (
                "type",
                Choice(&[
                    "cirrus",
                    "qxl",
                    "qxl2",
                    "qxl3",
                    "qxl4",
                    "none",
                    "serial0",
                    "serial1",
                    "serial2",
                    "serial3",
                    "std",
                    "virtio",
                    "virtio-gl",
                    "vmware",
                ]),
            ),
            ("clipboard", Choice(&["vnc"])),
            ("memory", Integer(4, 512)),
        ],
        one_of: &[],
    },
    Format {
        option: "watchdog",
        default: Some("model"),
        parts: &[
            ("model", Choice(&["i6300esb", "ib700"])),
            (
                "action",
                Choice(&["reset", "shutdown", "poweroff", "pause", "debug", "none"]),
            ),
        ],
        one_of: &[],
    },
];

/// The format of the option `name`, if it is a property string.
fn of(name: &str) -> Option<&'static Format> {
    FORMATS
        .iter()
        .find(|format| match format.option.strip_suffix('*') {
            Some(stem) => name.strip_prefix(stem).is_some_and(text::is_index),
            None => format.option == name,
        })
}

/// PVE's text for the option `name`, which is given as a text, a number, a boolean or a dict of its parts.
///
/// # Errors
/// What is wrong, beginning with the option's name.
pub fn option_text(name: &str, value: &Value) -> Result<String, String> {
    let named = |problem: String| format!("{name}: {problem}");
    match (value, of(name)) {
        (Value::Object(map), Some(format)) => format.text(map).map_err(named),
        _ => text::scalar(value).ok_or_else(|| {
            let dict = if of(name).is_some() { " or a dict" } else { "" };
            let example = match example(name) {
                Some(example) => format!(", such as {example}"),
                None => String::new(),
            };
            named(format!("expected text{dict}{example} (got {value})"))
        }),
    }
}

fn example(name: &str) -> Option<&'static str> {
    Some(match name.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "agent" => "enabled=1",
        "audio" => "device=ich9-intel-hda",
        "cpu" => "host,flags=+aes",
        "hostpci" => "mapping=NAME,pcie=1",
        "ipconfig" => "ip=dhcp",
        "machine" => "q35",
        "numa" => "cpus=0-1,memory=1024",
        "rng" => "source=/dev/urandom",
        "serial" => "socket",
        "startup" => "order=1,up=30",
        "usb" => "mapping=NAME",
        "watchdog" => "i6300esb,action=reset",
        _ => return None,
    })
}

/// Refuse a text that the option `name` cannot have.
///
/// # Errors
/// What is wrong, beginning with the option's name.
pub fn check(name: &str, text: &str) -> Result<(), String> {
    match of(name) {
        Some(format) if !text.is_empty() => format
            .check(text)
            .map_err(|problem| format!("{name}: {problem}")),
        _ => Ok(()),
    }
}

impl Format {
    fn text(&self, map: &Map<String, Value>) -> Result<String, String> {
        let known: Vec<&str> = self.parts.iter().map(|(part, _)| *part).collect();
        let mut parts = PropertyString::new(self.default);
        for (name, value) in map.iter().filter(|(_, value)| !value.is_null()) {
            let dashed = name.replace('_', "-");
            let name = match known.contains(&dashed.as_str()) {
                true => &dashed,
                false => name,
            };
            dict::check_key(name, &known)?;
            let value = match (self.kind(name), value) {
                // YAML reads `videostreaming: off` as false.
                (Some(Choice(choices)), Value::Bool(false)) if choices.contains(&"off") => {
                    "off".into()
                }
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

    fn kind(&self, name: &str) -> Option<&Kind> {
        self.parts
            .iter()
            .find(|(part, _)| *part == name)
            .map(|(_, kind)| kind)
    }

    fn check(&self, text: &str) -> Result<(), String> {
        let parts = PropertyString::parse(text, self.default).map_err(|error| error.to_string())?;
        for (name, value) in parts.iter() {
            match self.kind(name) {
                Some(kind) => kind
                    .check(value)
                    .map_err(|expected| format!("{name} must be {expected} (got '{value}')"))?,
                None => self.refuse_misspelling(name)?,
            }
        }
        let has = |name: &&&str| parts.get(name).is_some();
        match self.one_of.iter().filter(has).count() {
            0 if !self.one_of.is_empty() => {
                Err(format!("{} is required", self.one_of.join(" or ")))
            }
            2.. => Err(format!(
                "{} are mutually exclusive",
                self.one_of.join(" and ")
            )),
            _ => Ok(()),
        }
    }

    /// Refuse another spelling of a part's name. A later PVE may have parts that are not known here.
    fn refuse_misspelling(&self, name: &str) -> Result<(), String> {
        let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
        let meant = self
            .parts
            .iter()
            .find(|(part, _)| plain(part) == plain(name));
        match meant {
            Some((meant, _)) => Err(format!(
                "{name} is not one of its keys; did you mean {meant}?"
            )),
            None => Ok(()),
        }
    }
}

impl Kind {
    /// Refuse a value that is not of this kind. The error is what is expected.
    pub fn check(&self, value: &str) -> Result<(), String> {
        let (is, expected) = match self {
            Flag => (
                property::parse_bool(value).is_some(),
                "a boolean (1 or 0)".to_owned(),
            ),
            Integer(least, MOST) => (
                value.parse::<u64>().is_ok_and(|number| number >= *least),
                match least {
                    0 => "a whole number".to_owned(),
                    least => format!("a whole number, at least {least}"),
                },
            ),
            Integer(least, most) => (
                value
                    .parse::<u64>()
                    .is_ok_and(|number| (*least..=*most).contains(&number)),
                format!("between {least} and {most}"),
            ),
            Number => (
                value.parse::<f64>().is_ok_and(|number| number >= 0.0),
                "a number".to_owned(),
            ),
            Choice(choices) => (
                choices.contains(&value),
                format!("one of {}", choices.join(", ")),
            ),
            Text(is, expected) => (is(value), (*expected).to_owned()),
            Any => (true, String::new()),
        };
        match is {
            true => Ok(()),
            false => Err(expected),
        }
    }
}

fn all(text: &str, is: fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(is)
}

fn is_hex(text: &str) -> bool {
    all(text, |c| c.is_ascii_hexdigit())
}

fn is_digits(text: &str) -> bool {
    all(text, |c| c.is_ascii_digit())
}

fn is_hex_id(text: &str) -> bool {
    text.strip_prefix("0x")
        .is_some_and(|hex| hex.len() == 4 && is_hex(hex))
}

fn is_ranges(text: &str) -> bool {
    text.split(';').all(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, "0"));
        is_digits(first) && is_digits(last)
    })
}

/// PVE::QemuServer::CPUConfig: models are letters, digits, `-`, `_` and `.`; custom ones begin with `custom-`.
fn is_cpu_type(text: &str) -> bool {
    all(text, |c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn is_cpu_flags(text: &str) -> bool {
    text.split(';').all(|flag| {
        flag.strip_prefix(['+', '-'])
            .is_some_and(|name| all(name, |c| c.is_ascii_alphanumeric() || "-_.".contains(c)))
    })
}

/// PVE::QemuServer::PCI, `$PCIRE`.
fn is_pci(text: &str) -> bool {
    text.split(';').all(|address| {
        let (slot, function) = address.split_once('.').unwrap_or((address, "0"));
        let parts: Vec<&str> = slot.split(':').collect();
        let (domain, rest) = match parts.as_slice() {
            [bus, device] => ("0000", [*bus, *device]),
            [domain, bus, device] => (*domain, [*bus, *device]),
            _ => return false,
        };
        domain.len() >= 4
            && is_hex(domain)
            && rest.iter().all(|part| part.len() == 2 && is_hex(part))
            && function.len() == 1
            && is_hex(function)
    })
}

fn is_mapping(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.len() > 1
        && all(text, |c| c.is_ascii_alphanumeric() || "-_".contains(c))
}

fn is_usb(text: &str) -> bool {
    let id = |text: &str| {
        let hex = text.strip_prefix("0x").unwrap_or(text);
        hex.len() == 4 && is_hex(hex)
    };
    let device = text
        .split_once(':')
        .is_some_and(|(vendor, product)| id(vendor) && id(product));
    let port = text
        .split_once('-')
        .is_some_and(|(bus, port)| is_digits(bus) && port.split('.').all(is_digits));
    text.eq_ignore_ascii_case("spice") || device || port
}

fn is_ip4_config(text: &str) -> bool {
    let address = text.split_once('/').is_some_and(|(ip, bits)| {
        ip.parse::<Ipv4Addr>().is_ok() && bits.parse::<u8>().is_ok_and(|bits| bits <= 32)
    });
    text == "dhcp" || address
}

fn is_ip6_config(text: &str) -> bool {
    let address = text.split_once('/').is_some_and(|(ip, bits)| {
        ip.parse::<Ipv6Addr>().is_ok() && bits.parse::<u8>().is_ok_and(|bits| bits <= 128)
    });
    matches!(text, "dhcp" | "auto") || address
}

/// The pattern of `machine.type`: a name alone, or with a version, PVE's revision and `.pxe`.
fn is_machine(text: &str) -> bool {
    if matches!(text, "pc" | "q35" | "virt") {
        return true;
    }
    let prefixes = ["pc-i440fx-", "pc-q35-", "pc-", "virt-"];
    let Some(version) = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix)) else {
        return false;
    };
    let version = version.strip_suffix(".pxe").unwrap_or(version);
    let (version, revision) = version.split_once("+pve").unwrap_or((version, "0"));
    version.contains('.') && version.split('.').all(is_digits) && is_digits(revision)
}

fn is_smbios(text: &str) -> bool {
    let text = text.trim_end_matches('=');
    all(text, |c| c.is_ascii_alphanumeric() || "+/".contains(c))
}

fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.split('-').all(is_hex)
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
