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

/// Check a value against a named format. `path` names the value in nested errors. Unknown formats accept anything.
pub fn check(path: &str, format: &str, value: &str) -> Result<(), String> {
    let looks = |ok: bool, what: &str| {
        if ok {
            Ok(())
        } else {
            Err(format!("value does not look like a valid {what}"))
        }
    };
    if let Some(single) = format.strip_suffix("-list")
        && !matches!(format, "address-list")
    {
        return list(value)
            .into_iter()
            .try_for_each(|item| check(path, single, item));
    }
    match format {
        "pve-vmid" => looks(
            value.len() >= 3
                && value.len() <= 9
                && !value.starts_with('0')
                && value.bytes().all(|b| b.is_ascii_digit()),
            "VM ID",
        ),
        "pve-node" => looks(is_label(value), "node name"),
        "dns-name" => looks(
            !value.is_empty() && value.split('.').all(is_label),
            "DNS name",
        ),
        "pve-tag" => {
            let first = value.chars().next().unwrap_or(' ');
            let ok = (first.is_ascii_alphanumeric() || first == '_')
                && value
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_-+.".contains(c));
            if ok {
                Ok(())
            } else {
                Err("invalid characters in tag".into())
            }
        }
        "urlencoded" => {
            let bytes = value.as_bytes();
            let mut i = 0;
            while i < bytes.len() {
                let ok = bytes[i].is_ascii_alphanumeric() || b"-_.!~*'()".contains(&bytes[i]);
                let escape = bytes[i] == b'%'
                    && bytes.len() > i + 2
                    && bytes[i + 1].is_ascii_hexdigit()
                    && bytes[i + 2].is_ascii_hexdigit();
                if !ok && !escape {
                    return Err(format!("invalid urlencoded string: {value}"));
                }
                i += if escape { 3 } else { 1 };
            }
            Ok(())
        }
        "address-list" => list(value).into_iter().try_for_each(|item| {
            looks(
                is_ip(item) || item.split('.').all(is_label),
                "IP address or hostname",
            )
        }),
        "pve-storage-id" => {
            if is_id(value, "-_.") {
                Ok(())
            } else {
                Err(format!("storage ID '{value}' contains illegal characters"))
            }
        }
        "pve-configid" => {
            if is_id(value, "-_") {
                Ok(())
            } else {
                Err(format!("invalid configuration ID '{value}'"))
            }
        }
        "pve-poolid" => {
            let ok = value.split('/').all(|part| {
                !part.is_empty()
                    && part
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
            });
            if ok {
                Ok(())
            } else {
                Err(format!(
                    "value '{value}' does not look like a valid pool ID"
                ))
            }
        }
        "pve-realm" => {
            if is_id(value, "-_.") {
                Ok(())
            } else {
                Err("value does not look like a valid realm".into())
            }
        }
        "pve-volume-id" => volume_id(value),
        "pve-volume-id-or-qm-path" | "pve-volume-id-or-absolute-path" => {
            if matches!(value, "none" | "cdrom") || value.starts_with('/') {
                Ok(())
            } else {
                volume_id(value)
            }
        }
        "disk-size" => {
            if crate::disk::parse_size(value).is_some() {
                Ok(())
            } else {
                Err(format!(
                    "value does not look like a valid disk size: {value}"
                ))
            }
        }
        "mac-addr" => {
            let parts: Vec<&str> = value.split(':').collect();
            let hex = parts.len() == 6
                && parts
                    .iter()
                    .all(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()));
            looks(
                hex && u8::from_str_radix(parts[0], 16).is_ok_and(|first| first & 1 == 0),
                "unicast MAC address",
            )
        }
        "pve-bridge-id" => {
            if value
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
                && !value.is_empty()
            {
                Ok(())
            } else {
                Err("value contains invalid characters".into())
            }
        }
        "pve-storage-content" => {
            let known = [
                "images", "rootdir", "vztmpl", "iso", "backup", "snippets", "import", "none",
            ];
            if known.contains(&value) {
                Ok(())
            } else {
                Err(format!("invalid content type '{value}'"))
            }
        }
        "pve-qm-boot" => {
            if let Some(order) = value.strip_prefix("order=") {
                list(order).into_iter().try_for_each(|device| {
                    if is_boot_device(device) {
                        Ok(())
                    } else {
                        Err(format!("invalid boot device '{device}'"))
                    }
                })
            } else {
                let text = value.strip_prefix("legacy=").unwrap_or(value);
                if !text.is_empty() && text.len() <= 4 && text.chars().all(|c| "acdn".contains(c)) {
                    Ok(())
                } else {
                    Err(format!(
                        "format error\n{path}.legacy: value does not match the regex pattern"
                    ))
                }
            }
        }
        "pve-hotplug-features" => {
            if value == "0" || value == "1" {
                return Ok(());
            }
            list(value).into_iter().try_for_each(|item| {
                if matches!(
                    item,
                    "network" | "disk" | "cpu" | "memory" | "usb" | "cloudinit"
                ) {
                    Ok(())
                } else {
                    Err(format!("invalid hotplug feature '{item}'"))
                }
            })
        }
        "pve-startup-order" => {
            let ok = value.split(',').all(|part| {
                let number = part
                    .trim_start_matches("order=")
                    .trim_start_matches("up=")
                    .trim_start_matches("down=");
                !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
            });
            if ok {
                Ok(())
            } else {
                Err(format!("unable to parse startup options '{value}'"))
            }
        }
        "pve-qm-ipconfig" => ipconfig(path, value),
        "pve-qm-cicustom" => keyed(path, value, |key, value| match key {
            "meta" | "network" | "user" | "vendor" => {
                volume_id(value).map_err(|text| format!("invalid format - {text}\n"))
            }
            _ => Err(UNKNOWN.into()),
        }),
        _ => Ok(()),
    }
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
