//! Values and keys that both versions have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value};

use super::keys::{BOND_MODES, LAST_VLAN};
use crate::findings::Findings;
use crate::spelling::similar;

pub(super) fn parameters(
    path: &[&str],
    value: Option<&Value>,
    known: &[&str],
    findings: &mut Findings,
) {
    let parameters = match value {
        None | Some(Value::Null) => return,
        Some(Value::Object(parameters)) => parameters,
        Some(_) => return findings.refuse(path, "must be a mapping"),
    };
    for (key, value) in parameters {
        let path = [path, &[key]].concat();
        if !known.contains(&key.as_str()) {
            let plain = key
                .trim_start_matches("bond-")
                .trim_start_matches("bridge_");
            let hint = similar(plain, known.iter().copied())
                .map_or(String::new(), |known| format!("; did you mean {known}?"));
            findings.refuse(
                &path,
                format!(
                    "is not a parameter that cloud-init knows, so it would reject the whole configuration{hint}"
                ),
            );
        } else if key == "mode" && !BOND_MODES.iter().any(|mode| value == mode) {
            findings.refuse(&path, format!("must be one of {}", BOND_MODES.join(", ")));
        }
    }
}

/// Keys that would have no effect because they are spelt otherwise.
pub(super) fn misspelt(
    path: &[&str],
    map: &Map<String, Value>,
    known: &[&str],
    instead: &[(&str, &str)],
    findings: &mut Findings,
) {
    for key in map.keys().filter(|key| !known.contains(&key.as_str())) {
        let plain = key.to_ascii_lowercase();
        let meant = instead
            .iter()
            .find(|(other, _)| *other == plain)
            .map(|(_, known)| *known);
        if let Some(known) = meant.or_else(|| similar(key, known.iter().copied())) {
            findings.refuse(
                &[path, &[key]].concat(),
                format!("is not a key that cloud-init knows here; did you mean {known}?"),
            );
        }
    }
}

pub(super) fn array(list: Option<&Value>) -> impl Iterator<Item = (String, &Value)> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    items.enumerate().map(|(n, item)| (n.to_string(), item))
}

/// IP addresses: a list, or a text of them with blanks between.
pub(super) fn addresses(path: &[&str], value: Option<&Value>, findings: &mut Findings) {
    let is_address = |text: &str| text.parse::<IpAddr>().is_ok();
    let all = match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(items)) => items
            .iter()
            .all(|item| item.as_str().is_some_and(is_address)),
        Some(Value::String(text)) => text.split_whitespace().all(is_address),
        Some(_) => false,
    };
    if !all {
        findings.refuse(path, "must be IP addresses");
    }
}

/// A whole number, or a text of its digits.
pub(super) fn number(path: &[&str], value: Option<&Value>, findings: &mut Findings) {
    let is_number = match value {
        None | Some(Value::Null) => true,
        Some(Value::Number(number)) => number.is_u64(),
        Some(Value::String(text)) => text.parse::<u32>().is_ok(),
        Some(_) => false,
    };
    if !is_number {
        findings.refuse(path, "must be a number");
    }
}

pub(super) fn vlan(path: &[&str], value: Option<&Value>, findings: &mut Findings) {
    let id = match value {
        None => return,
        Some(Value::String(text)) => text.parse().ok(),
        Some(other) => other.as_u64(),
    };
    if id.is_none_or(|id| id > LAST_VLAN) {
        findings.refuse(path, format!("must be a number between 0 and {LAST_VLAN}"));
    }
}

/// A netmask, or the prefix length that is the same.
pub(super) fn netmask(path: &[&str], value: Option<&Value>, findings: &mut Findings) {
    let is_mask = match value {
        None | Some(Value::Null) => true,
        Some(Value::Number(number)) => number.as_u64().is_some_and(|n| n <= 128),
        Some(Value::String(text)) => match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(mask)) => {
                mask.to_bits().leading_ones() + mask.to_bits().trailing_zeros() >= 32
            }
            Ok(IpAddr::V6(mask)) => {
                mask.to_bits().leading_ones() + mask.to_bits().trailing_zeros() >= 128
            }
            Err(_) => text.parse::<u8>().is_ok_and(|n| n <= 128),
        },
        Some(_) => false,
    };
    if !is_mask {
        findings.refuse(path, "must be a netmask (255.255.255.0) or a prefix length");
    }
}

/// An address or network, and its prefix length or netmask.
pub(super) fn is_network(address: &str, prefix: Option<&str>) -> bool {
    let Ok(address) = address.trim().parse::<IpAddr>() else {
        return false;
    };
    let Some(prefix) = prefix else {
        return true;
    };
    match address {
        IpAddr::V4(_) => {
            prefix.parse::<u8>().is_ok_and(|n| n <= 32) || prefix.parse::<Ipv4Addr>().is_ok()
        }
        IpAddr::V6(_) => {
            prefix.parse::<u8>().is_ok_and(|n| n <= 128) || prefix.parse::<Ipv6Addr>().is_ok()
        }
    }
}

pub(super) fn address(path: &[&str], value: Option<&Value>, findings: &mut Findings) {
    match value {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) if text.parse::<IpAddr>().is_ok() => {}
        Some(_) => findings.refuse(path, "must be an IP address"),
    }
}

pub(super) fn mac(path: &[&str], value: Option<&Value>, findings: &mut Findings) {
    let is_mac = |text: &str| {
        // InfiniBand's have twenty bytes.
        let parts: Vec<&str> = text.split([':', '-']).collect();
        let byte = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
        matches!(parts.len(), 6 | 20) && parts.iter().all(byte)
    };
    match value {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) if is_mac(text) || text.contains(['*', '?', '[']) => {}
        Some(Value::Number(_)) => findings.refuse(
            path,
            "is a number: YAML reads a MAC address of digits as one to the base 60; quote it",
        ),
        Some(_) => findings.refuse(path, "must be a MAC address (bc:24:11:00:00:01)"),
    }
}
