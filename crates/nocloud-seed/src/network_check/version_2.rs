//! Version 2: netplan's format.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::keys::{BOND, BRIDGE, DEVICE, DEVICE_INSTEAD, LONGEST_NAME, MATCH_INSTEAD, OVERRIDES};
use super::values::{address, array, is_network, mac, misspelt, number, parameters, vlan};
use crate::findings::Findings;
use crate::ip_config::{mask4, mask6};

/// The ports that netplan makes in pairs for Open vSwitch: `ports: [[patch0-1, patch1-0]]`.
fn patch_ports(config: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let ports = config
        .get("openvswitch")
        .and_then(|settings| settings.get("ports")?.as_array());
    let pairs = ports.into_iter().flatten().filter_map(Value::as_array);
    pairs.flatten().filter_map(Value::as_str)
}

pub(super) fn version_2(config: &Map<String, Value>, findings: &mut Findings) {
    if let Some(renderer) = config.get("renderer")
        && !["networkd", "NetworkManager"]
            .iter()
            .any(|known| renderer == known)
    {
        findings.refuse(&["renderer"], "must be networkd or NetworkManager");
    }
    // A device may be named by what it is renamed to: outside of netplan cloud-init takes that one only.
    let devices = config.values().filter_map(Value::as_object).flatten();
    let names: Vec<&str> = devices
        .flat_map(|(name, device)| {
            let renamed = device.get("set-name").and_then(Value::as_str);
            std::iter::once(name.as_str()).chain(renamed)
        })
        .chain(patch_ports(config))
        .collect();
    const KINDS: [&str; 4] = ["ethernets", "bonds", "bridges", "vlans"];
    for (kind, devices) in config {
        if ["version", "renderer"].contains(&kind.as_str()) {
            continue;
        }
        if !KINDS.contains(&kind.as_str()) {
            // cloud-init passes all of it on to netplan.
            const NETPLAN: [&str; 8] = [
                "nm-devices",
                "openvswitch",
                "wifis",
                "tunnels",
                "vrfs",
                "modems",
                "dummy-devices",
                "virtual-ethernets",
            ];
            match NETPLAN.contains(&kind.as_str()) {
                true => findings.warn(&[kind], "is known to guests with netplan only"),
                false => findings.refuse(
                    &[kind],
                    format!("is not a kind of device of version 2 ({}); cloud-init would reject the whole configuration", KINDS.join(", ")),
                ),
            }
            continue;
        }
        let Value::Object(devices) = devices else {
            findings.refuse(&[kind], "must be a mapping of names to devices");
            continue;
        };
        for (name, device) in devices {
            match device {
                Value::Object(device) => {
                    self::device(kind, name, device, findings);
                    references(kind, name, device, &names, findings);
                }
                _ => findings.refuse(&[kind, name], "must be a mapping"),
            }
        }
    }
    if !KINDS.iter().any(|kind| config.contains_key(*kind)) {
        findings.warn(
            &[],
            "has no ethernets, bonds, bridges or vlans, so the guest has no network",
        );
    }
}

fn device(kind: &str, name: &str, device: &Map<String, Value>, findings: &mut Findings) {
    let at = |key: &'static str| [kind, name, key];
    misspelt(&[kind, name], device, &DEVICE, &DEVICE_INSTEAD, findings);
    match_by(kind, name, device, findings);
    number(&at("mtu"), device.get("mtu"), findings);
    mac(&at("macaddress"), device.get("macaddress"), findings);
    dhcp(kind, name, device, findings);
    device_addresses(kind, name, device, findings);
    gateways(kind, name, device, findings);
    routes(kind, name, device, findings);
    nameservers(kind, name, device, findings);
    if kind == "vlans" {
        for key in ["id", "link"] {
            if !device.contains_key(key) {
                findings.refuse(&[kind, name], format!("a VLAN needs {key}"));
            }
        }
        vlan(&at("id"), device.get("id"), findings);
    }
    if matches!(kind, "bonds" | "bridges") {
        let known: &[&str] = if kind == "bonds" { &BOND } else { &BRIDGE };
        parameters(&at("parameters"), device.get("parameters"), known, findings);
    }
}

/// Whether a device asks for addresses, and how.
fn dhcp(kind: &str, name: &str, device: &Map<String, Value>, findings: &mut Findings) {
    for key in ["dhcp4-overrides", "dhcp6-overrides"] {
        match device.get(key) {
            None | Some(Value::Null) => {}
            Some(Value::Object(overrides)) => {
                misspelt(&[kind, name, key], overrides, &OVERRIDES, &[], findings);
            }
            Some(_) => findings.refuse(&[kind, name, key], "must be a mapping"),
        }
    }
    for key in ["dhcp4", "dhcp6"] {
        let known = match device.get(key) {
            None | Some(Value::Null | Value::Bool(_)) => true,
            Some(Value::String(text)) => {
                ["yes", "no", "true", "false"].contains(&text.to_lowercase().as_str())
            }
            Some(_) => false,
        };
        if !known {
            findings.refuse(&[kind, name, key], "must be true or false");
        }
    }
}

/// The addresses of a device.
fn device_addresses(kind: &str, name: &str, device: &Map<String, Value>, findings: &mut Findings) {
    match device.get("addresses") {
        None | Some(Value::Null) => {}
        Some(Value::Array(addresses)) => {
            for (n, given) in addresses.iter().enumerate() {
                let n = n.to_string();
                let path = [kind, name, "addresses", &n];
                let text = match given {
                    Value::String(text) => Some(text.as_str()),
                    Value::Object(map) => {
                        findings.warn(
                            &path,
                            "options of an address are known to guests with netplan only; others set up no network",
                        );
                        map.keys().next().map(String::as_str)
                    }
                    _ => None,
                };
                if !text
                    .and_then(|text| text.split_once('/'))
                    .is_some_and(|(address, prefix)| is_network(address, Some(prefix)))
                {
                    findings.refuse(
                        &path,
                        "must be an IP address with a prefix length (192.0.2.11/24)",
                    );
                }
            }
        }
        Some(_) => findings.refuse(&[kind, name, "addresses"], "must be a list"),
    }
}

/// The default routes of a device, in the form that is older than `routes`.
fn gateways(kind: &str, name: &str, device: &Map<String, Value>, findings: &mut Findings) {
    for (key, is_v4) in [("gateway4", true), ("gateway6", false)] {
        let found = device
            .get(key)
            .and_then(Value::as_str)
            .map(str::parse::<IpAddr>);
        match (device.get(key), found) {
            (None, _) => {}
            (_, Some(Ok(address))) if address.is_ipv4() == is_v4 => {}
            _ => findings.refuse(
                &[kind, name, key],
                format!("must be an IPv{} address", if is_v4 { 4 } else { 6 }),
            ),
        }
    }
}

/// The routes of a device.
fn routes(kind: &str, name: &str, device: &Map<String, Value>, findings: &mut Findings) {
    match device.get("routes") {
        None | Some(Value::Null) => {}
        Some(Value::Array(routes)) => {
            for (n, route) in routes.iter().enumerate() {
                let path = [kind, name, "routes", &n.to_string()];
                route_2(&path, route, findings);
                if is_off_link(device, route) {
                    findings.warn(
                        &path,
                        "via is in none of the networks of addresses, so a guest with systemd-networkd or ifupdown does not \
                         set this route, on-link or not; use gateway4 or gateway6, or the option ipconfig",
                    );
                }
            }
        }
        Some(_) => findings.refuse(&[kind, name, "routes"], "must be a list"),
    }
}

/// The name servers of a device.
fn nameservers(kind: &str, name: &str, device: &Map<String, Value>, findings: &mut Findings) {
    match device.get("nameservers") {
        None | Some(Value::Null) => {}
        Some(Value::Object(names)) => {
            let path = [kind, name, "nameservers", "addresses"];
            match names.get("addresses") {
                None | Some(Value::Null) => {}
                Some(Value::Array(addresses)) => {
                    let is_address = |address: &Value| {
                        address
                            .as_str()
                            .is_some_and(|text| text.parse::<IpAddr>().is_ok())
                    };
                    if !addresses.iter().all(is_address) {
                        findings.refuse(&path, "must be IP addresses");
                    }
                }
                Some(_) => findings.refuse(&path, "must be a list"),
            }
            if !matches!(
                names.get("search"),
                None | Some(Value::Null | Value::Array(_))
            ) {
                findings.refuse(&[kind, name, "nameservers", "search"], "must be a list");
            }
        }
        Some(_) => findings.refuse(
            &[kind, name, "nameservers"],
            "must be a mapping with addresses and search",
        ),
    }
}

/// By what a NIC is found. Only Netplan finds it by more than its MAC address (`handle_ethernets` in network_state.py).
fn match_by(kind: &str, name: &str, device: &Map<String, Value>, findings: &mut Findings) {
    let at = |key: &'static str| [kind, name, key];
    let by = match device.get("match") {
        None | Some(Value::Null) => None,
        Some(Value::Object(by)) => {
            let path = at("match");
            misspelt(
                &path,
                by,
                &["name", "macaddress", "driver"],
                &MATCH_INSTEAD,
                findings,
            );
            mac(
                &[kind, name, "match", "macaddress"],
                by.get("macaddress"),
                findings,
            );
            Some(by)
        }
        Some(_) => return findings.refuse(&at("match"), "must be a mapping"),
    };
    let by_mac = by.is_some_and(|by| by.contains_key("macaddress"));
    let by_name = by
        .and_then(|by| by.get("name"))
        .is_some_and(|by| by != name);
    if !by_mac && (by_name || by.is_some_and(|by| by.contains_key("driver"))) {
        findings.warn(
            &at("match"),
            format!("is known to guests with netplan only; others look for a NIC called '{name}'; use macaddress"),
        );
    }
    let is_name = |name: &str| name.len() <= LONGEST_NAME && !name.contains(['/', ' ', ':']);
    match device.get("set-name") {
        None | Some(Value::Null) => {
            if by.is_none() && !is_name(name) {
                findings.refuse(
                    &[kind, name],
                    format!("is not the name of a NIC, which has at most {LONGEST_NAME} characters, without blanks, / and :"),
                );
            }
        }
        Some(Value::String(text)) if is_name(text) => {
            const NEEDS: &str = "needs match with macaddress, or nothing is renamed";
            match by {
                _ if by_mac => {}
                None => findings.refuse(&at("set-name"), NEEDS),
                Some(_) => findings.warn(&at("set-name"), format!("{NEEDS} except by netplan")),
            }
        }
        Some(_) => findings.refuse(
            &at("set-name"),
            format!("must be a name of at most {LONGEST_NAME} characters, without blanks, / and :"),
        ),
    }
}

/// The other devices that a device is made of.
fn references(
    kind: &str,
    name: &str,
    device: &Map<String, Value>,
    names: &[&str],
    findings: &mut Findings,
) {
    let unknown = |other: &Value| match other {
        Value::String(other) if names.contains(&other.as_str()) => None,
        Value::String(other) => Some(format!("'{other}' is not a device of this configuration")),
        _ => Some("must be the name of a device".to_owned()),
    };
    if kind == "vlans"
        && let Some(problem) = device.get("link").and_then(unknown)
    {
        findings.refuse(&[kind, name, "link"], problem);
    }
    let path = [kind, name, "interfaces"];
    match (kind, device.get("interfaces")) {
        ("bonds", None | Some(Value::Null)) => {
            findings.refuse(&[kind, name], "a bond needs interfaces: a list of devices");
        }
        ("bonds" | "bridges", Some(Value::Array(others))) => {
            if let Some(problem) = others.iter().find_map(unknown) {
                findings.refuse(&path, problem);
            }
        }
        ("bonds" | "bridges", Some(_)) => findings.refuse(&path, "must be a list"),
        _ => {}
    }
}

/// Whether a route goes over an address that none of the device's own addresses reaches.
fn is_off_link(device: &Map<String, Value>, route: &Value) -> bool {
    let ip = |text: &str| text.parse::<IpAddr>().ok();
    let Some(via) = route.get("via").and_then(Value::as_str).and_then(ip) else {
        return false;
    };
    let reaches = |address: &str| {
        let (address, prefix) = address.split_once('/')?;
        let prefix: u8 = prefix.parse().ok()?;
        Some(match (ip(address)?, via) {
            (IpAddr::V4(address), IpAddr::V4(via)) => {
                let mask = mask4(prefix).to_bits();
                prefix < 32 && address.to_bits() & mask == via.to_bits() & mask
            }
            (IpAddr::V6(address), IpAddr::V6(via)) => {
                let mask = mask6(prefix).to_bits();
                via.is_unicast_link_local()
                    || prefix < 128 && address.to_bits() & mask == via.to_bits() & mask
            }
            _ => false,
        })
    };
    // Who has an address from elsewhere, or a route to the gateway itself, may reach it.
    let has = |key: &str| {
        device
            .get(key)
            .is_some_and(|value| *value != Value::Bool(false))
    };
    let to_via = |route: &Value| {
        let to = route.get("to").and_then(Value::as_str).unwrap_or_default();
        to.split('/').next().and_then(ip) == Some(via)
    };
    let mut given = array(device.get("addresses"))
        .filter_map(|(_, address)| address.as_str())
        .peekable();
    given.peek().is_some()
        && !has(if via.is_ipv4() { "dhcp4" } else { "dhcp6" })
        && !array(device.get("routes")).any(|(_, route)| to_via(route))
        && !given.any(|address| reaches(address) == Some(true))
}

fn route_2(path: &[&str], route: &Value, findings: &mut Findings) {
    let Value::Object(route) = route else {
        return findings.refuse(path, "must be a mapping with to and via");
    };
    let (to, via) = (
        route.get("to").and_then(Value::as_str),
        route.get("via").and_then(Value::as_str),
    );
    match to {
        None => findings.refuse(
            path,
            "needs to: a network, or 0.0.0.0/0 or ::/0 for the default route",
        ),
        Some("default") => findings.warn(
            &[path, &["to"]].concat(),
            "is not known to older versions of cloud-init (22.4), which then set up no network; write 0.0.0.0/0 or ::/0",
        ),
        Some(to) => {
            let (network, prefix) = to.split_once('/').map_or((to, None), |(a, p)| (a, Some(p)));
            if !is_network(network, prefix) {
                findings.refuse(
                    &[path, &["to"]].concat(),
                    "must be a network (192.0.2.0/24) or default",
                );
            }
        }
    }
    address(&[path, &["via"]].concat(), route.get("via"), findings);
    let family = |text: &str| {
        text.split('/')
            .next()
            .and_then(|text| text.parse::<IpAddr>().ok())
            .map(|a| a.is_ipv4())
    };
    if let (Some(to), Some(via)) = (to.and_then(family), via.and_then(family))
        && to != via
    {
        findings.refuse(path, "to and via are of two address families");
    }
    number(&[path, &["metric"]].concat(), route.get("metric"), findings);
    if via.is_none() && route.get("scope").is_none() && route.get("type").is_none() {
        findings.refuse(path, "needs via: the gateway's address");
    }
}
