//! The named value formats of PVE's schema that a client of this host can meet.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Formats whose empty value PVE lets through.
pub fn empty_is_fine(format: &str) -> bool {
    matches!(
        format,
        "pve-tag-list" | "urlencoded" | "pve-qm-boot" | "address-list" | "pve-configid-list"
    )
}

/// 0 or 1 of a boolean inside a property string, where words are allowed too.
pub fn boolean(value: &str) -> Option<String> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "on" | "yes" | "true" => Some("1".into()),
        "0" | "off" | "no" | "false" => Some("0".into()),
        _ => None,
    }
}

/// Split a `-list` value as PVE does.
pub fn list(value: &str) -> Vec<&str> {
    value
        .split([',', ';', ' ', '\t', '\n', '\0'])
        .filter(|item| !item.is_empty())
        .collect()
}

/// A check of one value. `path` names the value in nested errors.
type Check = fn(path: &str, value: &str) -> Result<(), String>;

/// The formats by PVE's names, with the checks that PVE registers for them.
const FORMATS: &[(&str, Check)] = &[
    ("address-list", |_, value| {
        let is_address = |item: &str| is_ip(item) || item.split('.').all(is_label);
        let items = list(value);
        looks(items.into_iter().all(is_address), "IP address or hostname")
    }),
    ("disk-size", |_, value| {
        let ok = crate::disk::parse_size(value).is_some();
        or(ok, || {
            format!("value does not look like a valid disk size: {value}")
        })
    }),
    ("dns-name", |_, value| {
        looks(
            !value.is_empty() && value.split('.').all(is_label),
            "DNS name",
        )
    }),
    ("mac-addr", |_, value| {
        looks(is_unicast_mac(value), "unicast MAC address")
    }),
    ("pve-bridge-id", |_, value| {
        let ok = has_only(value, "-_.");
        or(ok, || "value contains invalid characters".into())
    }),
    ("pve-configid", |_, value| {
        let ok = is_id(value, "-_");
        or(ok, || format!("invalid configuration ID '{value}'"))
    }),
    ("pve-hotplug-features", |_, value| hotplug_features(value)),
    ("pve-node", |_, value| looks(is_label(value), "node name")),
    ("pve-phys-bits", |_, value| {
        let is_number = is_digits(value) && value.len() <= 2;
        let bits = value.parse::<u8>().ok().filter(|_| is_number);
        let ok = value == "host" || bits.is_some_and(|bits| (8..=64).contains(&bits));
        or(ok, || {
            "value must be an integer between 8 and 64 or 'host'".into()
        })
    }),
    ("pve-poolid", |_, value| {
        let ok = value.split('/').all(|part| has_only(part, "-_."));
        or(ok, || {
            format!("value '{value}' does not look like a valid pool ID")
        })
    }),
    ("pve-qm-boot", boot_order),
    ("pve-qm-cicustom", |path, value| {
        keyed(path, value, |key, value| match key {
            "meta" | "network" | "user" | "vendor" => {
                volume_id(value).map_err(|text| format!("invalid format - {text}\n"))
            }
            _ => Err(UNKNOWN.into()),
        })
    }),
    ("pve-qm-ipconfig", ipconfig),
    ("pve-realm", |_, value| looks(is_id(value, "-_."), "realm")),
    ("pve-startup-order", |_, value| startup_order(value)),
    ("pve-storage-content", |_, value| {
        let known = [
            "images", "rootdir", "vztmpl", "iso", "backup", "snippets", "import", "none",
        ];
        or(known.contains(&value), || {
            format!("invalid content type '{value}'")
        })
    }),
    ("pve-storage-id", |_, value| {
        or(is_id(value, "-_."), || {
            format!("storage ID '{value}' contains illegal characters")
        })
    }),
    ("pve-tag", |_, value| {
        let first = value.chars().next().unwrap_or(' ');
        let ok = (first.is_ascii_alphanumeric() || first == '_') && has_only(value, "_-+.");
        or(ok, || "invalid characters in tag".into())
    }),
    ("pve-vmid", |_, value| {
        let ok = (3..=9).contains(&value.len()) && !value.starts_with('0') && is_digits(value);
        looks(ok, "VM ID")
    }),
    ("pve-volume-id", |_, value| volume_id(value)),
    ("pve-volume-id-or-absolute-path", volume_or_path),
    ("pve-volume-id-or-qm-path", volume_or_path),
    ("urlencoded", |_, value| {
        or(is_urlencoded(value), || {
            format!("invalid urlencoded string: {value}")
        })
    }),
];

/// Check a value against a named format. `path` names the value in nested errors. Unknown formats accept anything.
pub fn check(path: &str, format: &str, value: &str) -> Result<(), String> {
    if let Some((_, check)) = FORMATS.iter().find(|(name, _)| *name == format) {
        return check(path, value);
    }
    match format.strip_suffix("-list") {
        Some(single) => list(value)
            .into_iter()
            .try_for_each(|item| check(path, single, item)),
        None => Ok(()),
    }
}

fn or(ok: bool, error: impl FnOnce() -> String) -> Result<(), String> {
    match ok {
        true => Ok(()),
        false => Err(error()),
    }
}

fn looks(ok: bool, what: &str) -> Result<(), String> {
    or(ok, || format!("value does not look like a valid {what}"))
}

/// Whether a text is not empty and has only letters, digits and `extra`.
fn has_only(value: &str, extra: &str) -> bool {
    !value.is_empty()
        && value
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
}

fn is_digits(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit())
}

fn is_urlencoded(value: &str) -> bool {
    let bytes = value.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        let ok = bytes[i].is_ascii_alphanumeric() || b"-_.!~*'()".contains(&bytes[i]);
        let escape = bytes[i] == b'%'
            && bytes.len() > i + 2
            && bytes[i + 1].is_ascii_hexdigit()
            && bytes[i + 2].is_ascii_hexdigit();
        if !ok && !escape {
            return false;
        }
        i += if escape { 3 } else { 1 };
    }
    true
}

fn is_unicast_mac(value: &str) -> bool {
    let parts: Vec<&str> = value.split(':').collect();
    let is_octet = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
    parts.len() == 6
        && parts.iter().all(is_octet)
        && u8::from_str_radix(parts[0], 16).is_ok_and(|first| first & 1 == 0)
}

fn volume_or_path(_path: &str, value: &str) -> Result<(), String> {
    if matches!(value, "none" | "cdrom") || value.starts_with('/') {
        Ok(())
    } else {
        volume_id(value)
    }
}

fn boot_order(path: &str, value: &str) -> Result<(), String> {
    if let Some(order) = value.strip_prefix("order=") {
        return list(order).into_iter().try_for_each(|device| {
            or(is_boot_device(device), || {
                format!("invalid boot device '{device}'")
            })
        });
    }
    let text = value.strip_prefix("legacy=").unwrap_or(value);
    let ok = !text.is_empty() && text.len() <= 4 && text.chars().all(|c| "acdn".contains(c));
    or(ok, || {
        format!("format error\n{path}.legacy: value does not match the regex pattern")
    })
}

fn hotplug_features(value: &str) -> Result<(), String> {
    if value == "0" || value == "1" {
        return Ok(());
    }
    let known = ["network", "disk", "cpu", "memory", "usb", "cloudinit"];
    list(value).into_iter().try_for_each(|item| {
        or(known.contains(&item), || {
            format!("invalid hotplug feature '{item}'")
        })
    })
}

fn startup_order(value: &str) -> Result<(), String> {
    let is_part = |part: &str| {
        let number = part
            .trim_start_matches("order=")
            .trim_start_matches("up=")
            .trim_start_matches("down=");
        is_digits(number)
    };
    or(value.split(',').all(is_part), || {
        format!("unable to parse startup options '{value}'")
    })
}

const UNKNOWN: &str =
    "property is not defined in schema and the schema does not allow additional properties";

fn keyed(
    path: &str,
    value: &str,
    check: impl Fn(&str, &str) -> Result<(), String>,
) -> Result<(), String> {
    let mut texts = BTreeMap::new();
    for part in value.split(',').filter(|part| !part.is_empty()) {
        let Some((key, value)) = part.split_once('=') else {
            return Err("value without key, but schema does not define a default key".into());
        };
        if let Err(text) = check(key, value) {
            texts.insert(key.to_owned(), format!("{path}.{key}: {text}"));
        }
    }
    if texts.is_empty() {
        return Ok(());
    }
    Err(format!(
        "format error\n{}",
        texts.into_values().collect::<Vec<_>>().join("\n")
    ))
}

fn ipconfig(path: &str, value: &str) -> Result<(), String> {
    let cidr = |value: &str, max: u8, ok: fn(&str) -> bool| {
        value
            .split_once('/')
            .is_some_and(|(ip, bits)| ok(ip) && bits.parse::<u8>().is_ok_and(|bits| bits <= max))
    };
    let keys: BTreeMap<&str, &str> = value
        .split(',')
        .filter_map(|part| part.split_once('='))
        .collect();
    keyed(path, value, |key, value| {
        let (ok, what) = match key {
            "ip" => (
                value == "dhcp" || cidr(value, 32, is_ip4),
                "ipv4 network configuration",
            ),
            "ip6" => (
                matches!(value, "dhcp" | "auto") || cidr(value, 128, is_ip6),
                "ipv6 network configuration",
            ),
            "gw" => (is_ip4(value), "ipv4 address"),
            "gw6" => (is_ip6(value), "ipv6 address"),
            _ => return Err(UNKNOWN.into()),
        };
        if ok {
            Ok(())
        } else {
            Err(format!(
                "invalid format - value does not look like a valid {what}\n"
            ))
        }
    })?;
    for (gateway, address, family) in [("gw", "ip", "IPv4"), ("gw6", "ip6", "IPv6")] {
        if keys.contains_key(gateway) && !keys.contains_key(address) {
            return Err(format!(
                "format error\n{path}.{address}: missing property required by '{gateway}'"
            ));
        }
        if keys.contains_key(gateway)
            && keys
                .get(address)
                .is_some_and(|ip| matches!(*ip, "dhcp" | "auto"))
        {
            return Err(format!("gateway specified together with {family} DHCP"));
        }
    }
    Ok(())
}

fn is_ip4(value: &str) -> bool {
    value.parse::<Ipv4Addr>().is_ok()
}

fn is_ip6(value: &str) -> bool {
    value.parse::<Ipv6Addr>().is_ok()
}

fn is_ip(value: &str) -> bool {
    is_ip4(value) || is_ip6(value)
}

fn is_label(value: &str) -> bool {
    // No limit of 63: PVE takes longer names (seen with 70 characters).
    !value.is_empty()
        && value.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        && !value.starts_with('-')
        && !value.ends_with('-')
}

fn is_id(value: &str, extra: &str) -> bool {
    value.len() >= 2
        && value.starts_with(|c: char| c.is_ascii_alphabetic())
        && value
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
        && value.ends_with(|c: char| c.is_ascii_alphanumeric() || (extra == "-_"))
}

fn is_boot_device(device: &str) -> bool {
    let name = device.trim_end_matches(|c: char| c.is_ascii_digit());
    name != device
        && matches!(
            name,
            "ide" | "sata" | "scsi" | "virtio" | "net" | "hostpci" | "usb"
        )
}

fn volume_id(value: &str) -> Result<(), String> {
    match value.split_once(':') {
        Some((storage, name))
            if is_id(storage, "-_.") && !name.is_empty() && !name.contains(char::is_whitespace) =>
        {
            Ok(())
        }
        _ => Err(format!("unable to parse volume ID '{value}'")),
    }
}
