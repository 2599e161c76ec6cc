//! Version 1: a list of entries, each of a type.

use serde_json::{Map, Value};

use super::keys::{ENTRY, ENTRY_INSTEAD, LONGEST_NAME, SUBNET, SUBNET_INSTEAD, SUBNETS, TYPES};
use super::values::{address, addresses, array, is_network, mac, misspelt, netmask, number, vlan};
use crate::findings::Findings;

pub(super) fn version_1(config: &Map<String, Value>, findings: &mut Findings) {
    let entries = match config.get("config") {
        Some(Value::Array(entries)) => entries,
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
        misspelt(&path, entry, &ENTRY, &ENTRY_INSTEAD, findings);
        for key in *required {
            let has = |key: &str| entry.contains_key(key);
            if !has(key) && (*key != "destination" || !has("network")) {
                findings.refuse(&path, format!("a {kind} needs {key}"));
            }
        }
        let names: Vec<&Value> = entries
            .iter()
            .filter_map(|entry| entry.get("name"))
            .collect();
        entry_1(&n, kind, entry, &names, findings);
    }
}

/// An entry of version 1; `names` are those of all entries.
fn entry_1(
    n: &str,
    kind: &str,
    entry: &Map<String, Value>,
    names: &[&Value],
    findings: &mut Findings,
) {
    let path = ["config", n];
    if let Some(name) = entry.get("name") {
        match name {
            Value::String(name) if kind == "physical" && name.len() > LONGEST_NAME => findings
                .refuse(
                    &["config", n, "name"],
                    format!("must have at most {LONGEST_NAME} characters"),
                ),
            Value::String(_) => {}
            _ => findings.refuse(&["config", n, "name"], "must be a text"),
        }
    }
    mac(
        &["config", n, "mac_address"],
        entry.get("mac_address"),
        findings,
    );
    if kind == "nameserver" {
        addresses(&["config", n, "address"], entry.get("address"), findings);
        if let Some(nic) = entry.get("interface").filter(|nic| !names.contains(nic)) {
            let nic = nic.as_str().unwrap_or_default();
            findings.refuse(
                &["config", n, "interface"],
                format!(
                    "'{nic}' is not the name of an entry, so cloud-init would reject the whole configuration"
                ),
            );
        }
    }
    if kind == "vlan" {
        vlan(&["config", n, "vlan_id"], entry.get("vlan_id"), findings);
    }
    number(&["config", n, "mtu"], entry.get("mtu"), findings);
    for key in ["bond_interfaces", "bridge_interfaces"] {
        if !matches!(entry.get(key), None | Some(Value::Array(_))) {
            findings.refuse(&["config", n, key], "must be a list");
        }
    }
    if kind == "route" {
        route_1(&path, entry, findings);
    }
    match entry.get("subnets") {
        None | Some(Value::Null) => {}
        Some(Value::Array(subnets)) => {
            for (m, subnet) in subnets.iter().enumerate() {
                let m = m.to_string();
                self::subnet(&["config", n, "subnets", &m], subnet, findings);
            }
        }
        Some(_) => findings.refuse(&["config", n, "subnets"], "must be a list"),
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
    misspelt(path, subnet, &SUBNET, &SUBNET_INSTEAD, findings);
    if ["static", "static6"].contains(&kind) {
        netmask(&at("netmask"), subnet.get("netmask"), findings);
        addresses(
            &at("dns_nameservers"),
            subnet.get("dns_nameservers"),
            findings,
        );
        match subnet.get("address").or(subnet.get("ip_address")) {
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
    if !matches!(subnet.get("routes"), None | Some(Value::Array(_))) {
        findings.refuse(&at("routes"), "must be a list");
    }
    for (n, route) in array(subnet.get("routes")) {
        let path = [path, &["routes", &n]].concat();
        match route {
            Value::Object(route)
                if route.contains_key("destination") || route.contains_key("network") =>
            {
                route_1(&path, route, findings);
            }
            _ => findings.refuse(&path, "needs destination or network, and gateway"),
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
    netmask(
        &[path, &["netmask"]].concat(),
        route.get("netmask"),
        findings,
    );
    number(&[path, &["metric"]].concat(), route.get("metric"), findings);
}
