//! Whether a network configuration is one that cloud-init renders: by the rules of its parser
//! (cloudinit/net/network_state.py) and schemas (schema-network-config-v1.json and -v2.json).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value};

use crate::findings::Findings;

/// The types of version 1 and what each must have.
const TYPES: [(&str, &[&str]); 8] = [
    ("physical", &["name"]),
    ("loopback", &["name"]),
    ("infiniband", &["name"]),
    ("bond", &["name", "bond_interfaces"]),
    ("bridge", &["name", "bridge_interfaces"]),
    ("vlan", &["name", "vlan_id", "vlan_link"]),
    ("nameserver", &["address"]),
    ("route", &["destination"]),
];
const SUBNETS: [&str; 10] = [
    "dhcp",
    "dhcp4",
    "dhcp6",
    "static",
    "static6",
    "manual",
    "ipv6_slaac",
    "ipv6_dhcpv6-stateful",
    "ipv6_dhcpv6-stateless",
    "none",
];
/// The longest name of a device in Linux.
const LONGEST_NAME: usize = 15;

pub(crate) fn check(config: &Map<String, Value>) -> Findings {
    let mut findings = Findings::default();
    match config.get("version") {
        Some(Value::Number(n)) if n.as_u64() == Some(1) => version_1(config, &mut findings),
        Some(Value::Number(n)) if n.as_u64() == Some(2) => version_2(config, &mut findings),
        None => findings.refuse(
            &["version"],
            "is required: 1 or 2; cloud-init ignores a configuration without it",
        ),
        Some(Value::String(text)) if ["1", "2"].contains(&text.trim()) => findings.refuse(
            &["version"],
            format!(
                "must be a number (got the text '{}'); cloud-init ignores the configuration otherwise",
                text.trim()
            ),
        ),
        Some(other) => {
            let got = match other {
                Value::Number(number) => format!(" (got {number})"),
                _ => String::new(),
            };
            findings.refuse(&["version"], format!("must be 1 or 2{got}"));
        }
    }
    findings
}

fn version_1(config: &Map<String, Value>, findings: &mut Findings) {
    let entries = match config.get("config") {
        Some(Value::Array(entries)) => entries,
        // The one other value: no network at all.
        Some(Value::String(text)) if text == "disabled" => return,
        Some(_) => return findings.refuse(&["config"], "must be a list"),
        None => return findings.refuse(&["config"], "is required with version 1: a list"),
    };
    for (n, entry) in entries.iter().enumerate() {
        let n = n.to_string();
        let path = ["config", n.as_str()];
        let Value::Object(entry) = entry else {
            findings.refuse(&path, "must be a mapping with type");
            continue;
        };
        let kind = entry.get("type").and_then(Value::as_str);
        let Some((kind, required)) = TYPES.iter().find(|(known, _)| kind == Some(*known)) else {
            let known: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
            findings.refuse(
                &["config", &n, "type"],
                format!("must be one of {}", known.join(", ")),
            );
            continue;
        };
        for key in *required {
            let has = |key: &str| entry.contains_key(key);
            if !has(key) && (*key != "destination" || !has("network")) {
                findings.refuse(&path, format!("a {kind} needs {key}"));
            }
        }
        if let Some(name) = entry.get("name") {
            match name {
                Value::String(name) if *kind == "physical" && name.len() > LONGEST_NAME => findings
                    .refuse(
                        &["config", &n, "name"],
                        format!("must have at most {LONGEST_NAME} characters"),
                    ),
                Value::String(_) => {}
                _ => findings.refuse(&["config", &n, "name"], "must be a text"),
            }
        }
        mac(
            &["config", &n, "mac_address"],
            entry.get("mac_address"),
            findings,
        );
        if *kind == "nameserver" {
            for address in texts(entry.get("address")) {
                if address.parse::<IpAddr>().is_err() {
                    findings.refuse(&["config", &n, "address"], "must be IP addresses");
                }
            }
        }
        if *kind == "route" {
            route_1(&path, entry, findings);
        }
        match entry.get("subnets") {
            None | Some(Value::Null) => {}
            Some(Value::Array(subnets)) => {
                for (m, subnet) in subnets.iter().enumerate() {
                    let m = m.to_string();
                    self::subnet(&["config", &n, "subnets", &m], subnet, findings);
                }
            }
            Some(_) => findings.refuse(&["config", &n, "subnets"], "must be a list"),
        }
    }
}

fn subnet(path: &[&str], subnet: &Value, findings: &mut Findings) {
    let Value::Object(subnet) = subnet else {
        return findings.refuse(path, "must be a mapping with type");
    };
    let at = |key: &'static str| [path, &[key]].concat();
    let kind = match subnet.get("type").and_then(Value::as_str) {
        Some(kind) if SUBNETS.contains(&kind) => kind,
        _ => {
            return findings.refuse(
                &at("type"),
                format!("must be one of {}", SUBNETS[..9].join(", ")),
            );
        }
    };
    if ["static", "static6"].contains(&kind) {
        match subnet.get("address") {
            Some(Value::String(address)) => {
                let (address, prefix) = address
                    .split_once('/')
                    .map_or((address.as_str(), None), |(a, p)| (a, Some(p)));
                let bare = prefix.is_none()
                    && !subnet.contains_key("netmask")
                    && !subnet.contains_key("prefix");
                if !is_network(address, prefix) {
                    findings.refuse(
                        &at("address"),
                        "must be an IP address with a prefix length (192.0.2.11/24)",
                    );
                } else if bare {
                    findings.warn(
                        &at("address"),
                        "has neither a prefix length nor a netmask; cloud-init takes /24 or /64",
                    );
                }
            }
            Some(_) => findings.refuse(&at("address"), "must be a text"),
            None => findings.refuse(path, format!("a subnet of type {kind} needs address")),
        }
    }
    address(&at("gateway"), subnet.get("gateway"), findings);
    for (n, route) in array(subnet.get("routes")) {
        if let Value::Object(route) = route {
            route_1(&[path, &["routes", &n]].concat(), route, findings);
        }
    }
}

fn route_1(path: &[&str], route: &Map<String, Value>, findings: &mut Findings) {
    let to = route
        .get("destination")
        .or(route.get("network"))
        .and_then(Value::as_str);
    if let Some(to) = to {
        let (network, prefix) = to.split_once('/').map_or((to, None), |(a, p)| (a, Some(p)));
        if !is_network(network, prefix) {
            findings.refuse(path, "destination must be a network (192.0.2.0/24)");
        }
    }
    address(
        &[path, &["gateway"]].concat(),
        route.get("gateway"),
        findings,
    );
}

fn version_2(config: &Map<String, Value>, findings: &mut Findings) {
    const KINDS: [&str; 4] = ["ethernets", "bonds", "bridges", "vlans"];
    for (kind, devices) in config {
        if ["version", "renderer"].contains(&kind.as_str()) {
            continue;
        }
        if !KINDS.contains(&kind.as_str()) {
            const NETPLAN: [&str; 6] = [
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
                    format!("is not a kind of device of version 2 ({}); cloud-init would refuse the whole", KINDS.join(", ")),
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
                Value::Object(device) => self::device(kind, name, device, findings),
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
    match device.get("match") {
        None | Some(Value::Null) => {}
        Some(Value::Object(by)) => mac(
            &[kind, name, "match", "macaddress"],
            by.get("macaddress"),
            findings,
        ),
        Some(_) => findings.refuse(&at("match"), "must be a mapping"),
    }
    mac(&at("macaddress"), device.get("macaddress"), findings);
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
    match device.get("addresses") {
        None | Some(Value::Null) => {}
        Some(Value::Array(addresses)) => {
            for (n, given) in addresses.iter().enumerate() {
                let n = n.to_string();
                let path = [kind, name, "addresses", &n];
                // Netplan takes a mapping of an address to its options.
                let text = match given {
                    Value::String(text) => Some(text.as_str()),
                    Value::Object(map) => map.keys().next().map(String::as_str),
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
        Some(_) => findings.refuse(&at("addresses"), "must be a list"),
    }
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
    match device.get("routes") {
        None | Some(Value::Null) => {}
        Some(Value::Array(routes)) => {
            for (n, route) in routes.iter().enumerate() {
                route_2(&[kind, name, "routes", &n.to_string()], route, findings);
            }
        }
        Some(_) => findings.refuse(&at("routes"), "must be a list"),
    }
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
            &at("nameservers"),
            "must be a mapping with addresses and search",
        ),
    }
    if kind == "vlans" {
        for key in ["id", "link"] {
            if !device.contains_key(key) {
                findings.refuse(&[kind, name], format!("a VLAN needs {key}"));
            }
        }
    }
    if matches!(kind, "bonds" | "bridges")
        && !matches!(device.get("interfaces"), None | Some(Value::Array(_)))
    {
        findings.refuse(&at("interfaces"), "must be a list");
    }
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
        Some("default") => {}
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
    if via.is_none() && route.get("scope").is_none() && route.get("type").is_none() {
        findings.refuse(path, "needs via: the gateway's address");
    }
}

fn array(list: Option<&Value>) -> impl Iterator<Item = (String, &Value)> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    items.enumerate().map(|(n, item)| (n.to_string(), item))
}

fn texts(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| item.as_str().unwrap_or_default())
            .collect(),
        Some(Value::String(text)) => vec![text],
        _ => Vec::new(),
    }
}

/// An address or network, and its prefix length or netmask.
fn is_network(address: &str, prefix: Option<&str>) -> bool {
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

fn address(path: &[&str], value: Option<&Value>, findings: &mut Findings) {
    match value {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) if text.parse::<IpAddr>().is_ok() => {}
        Some(_) => findings.refuse(path, "must be an IP address"),
    }
}

fn mac(path: &[&str], value: Option<&Value>, findings: &mut Findings) {
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
