//! Whether a network configuration is one that cloud-init renders: by the rules of its parser
//! (cloudinit/net/network_state.py) and schemas (schema-network-config-v1.json and -v2.json).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value};

use crate::findings::Findings;
use crate::network::{mask4, mask6};
use crate::spelling::similar;

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
/// The highest number of a VLAN.
const LAST_VLAN: u64 = 4094;

/// The keys of an entry of version 1, of whatever type.
const ENTRY: [&str; 20] = [
    "type",
    "name",
    "mac_address",
    "mtu",
    "subnets",
    "accept-ra",
    "keep_configuration",
    "params",
    "bond_interfaces",
    "bridge_interfaces",
    "vlan_link",
    "vlan_id",
    "address",
    "search",
    "interface",
    "network",
    "destination",
    "netmask",
    "gateway",
    "metric",
];
const SUBNET: [&str; 14] = [
    "type",
    "control",
    "address",
    "netmask",
    "prefix",
    "broadcast",
    "gateway",
    "dns_nameservers",
    "dns_search",
    "routes",
    "ipv4",
    "ipv6",
    "metric",
    "mtu",
];
/// The keys of a device of version 2, Netplan's included where they may be meant.
const DEVICE: [&str; 33] = [
    "match",
    "set-name",
    "wakeonlan",
    "dhcp4",
    "dhcp6",
    "dhcp4-overrides",
    "dhcp6-overrides",
    "dhcp-identifier",
    "accept-ra",
    "addresses",
    "ipv6-address-generation",
    "ipv6-address-token",
    "ipv6-mtu",
    "ipv6-privacy",
    "gateway4",
    "gateway6",
    "nameservers",
    "macaddress",
    "mtu",
    "link-local",
    "ignore-carrier",
    "critical",
    "optional",
    "optional-addresses",
    "activation-mode",
    "routes",
    "routing-policy",
    "renderer",
    "auth",
    "interfaces",
    "parameters",
    "id",
    "link",
];
const OVERRIDES: [&str; 9] = [
    "hostname",
    "route-metric",
    "send-hostname",
    "use-dns",
    "use-domains",
    "use-hostname",
    "use-mtu",
    "use-ntp",
    "use-routes",
];
/// What bonds and bridges take as parameters; for any other cloud-init refuses the whole (`NET_CONFIG_TO_V2`).
const BOND: [&str; 21] = [
    "ad-select",
    "all-slaves-active",
    "arp-all-targets",
    "arp-interval",
    "arp-ip-target",
    "arp-ip-targets",
    "arp-validate",
    "down-delay",
    "fail-over-mac-policy",
    "gratuitious-arp",
    "gratuitous-arp",
    "lacp-rate",
    "learn-packet-interval",
    "mii-monitor-interval",
    "min-links",
    "mode",
    "packets-per-slave",
    "primary",
    "primary-reselect-policy",
    "transmit-hash-policy",
    "up-delay",
];
const BRIDGE: [&str; 8] = [
    "ageing-time",
    "forward-delay",
    "hello-time",
    "max-age",
    "path-cost",
    "port-priority",
    "priority",
    "stp",
];
const BOND_MODES: [&str; 7] = [
    "802.3ad",
    "active-backup",
    "balance-alb",
    "balance-rr",
    "balance-tlb",
    "balance-xor",
    "broadcast",
];
/// Keys of other programs, and of the other version, and what they are called here.
const ENTRY_INSTEAD: [(&str, &str); 4] = [
    ("mac", "mac_address"),
    ("hwaddr", "mac_address"),
    ("id", "vlan_id"),
    ("addresses", "subnets"),
];
const SUBNET_INSTEAD: [(&str, &str); 6] = [
    ("addresses", "address"),
    ("ip", "address"),
    ("gateway4", "gateway"),
    ("gateway6", "gateway"),
    ("nameservers", "dns_nameservers"),
    ("dns", "dns_nameservers"),
];
const DEVICE_INSTEAD: [(&str, &str); 14] = [
    ("address", "addresses"),
    ("ip", "addresses"),
    ("ip4", "addresses"),
    ("ip6", "addresses"),
    ("subnets", "addresses"),
    ("dhcp", "dhcp4"),
    ("gateway", "gateway4 or gateway6"),
    ("gw", "gateway4 or gateway6"),
    ("dns", "nameservers"),
    ("dns_nameservers", "nameservers"),
    ("mac", "macaddress, or match with macaddress"),
    ("hwaddr", "macaddress, or match with macaddress"),
    ("mode", "parameters with mode"),
    ("name", "set-name"),
];
const MATCH_INSTEAD: [(&str, &str); 2] = [("mac", "macaddress"), ("hwaddr", "macaddress")];

pub(crate) fn check(config: &Map<String, Value>) -> Findings {
    let mut findings = Findings::default();
    match config.get("version") {
        // No network at all (cloudinit/net/__init__.py, `is_disabled_cfg`).
        _ if config.get("config").is_some_and(|value| value == "disabled") => {}
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

/// The ports that netplan makes in pairs for Open vSwitch: `ports: [[patch0-1, patch1-0]]`.
fn patch_ports(config: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let ports = config
        .get("openvswitch")
        .and_then(|settings| settings.get("ports")?.as_array());
    let pairs = ports.into_iter().flatten().filter_map(Value::as_array);
    pairs.flatten().filter_map(Value::as_str)
}

fn version_2(config: &Map<String, Value>, findings: &mut Findings) {
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

fn parameters(path: &[&str], value: Option<&Value>, known: &[&str], findings: &mut Findings) {
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
fn misspelt(
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

fn array(list: Option<&Value>) -> impl Iterator<Item = (String, &Value)> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    items.enumerate().map(|(n, item)| (n.to_string(), item))
}

/// IP addresses: a list, or a text of them with blanks between.
fn addresses(path: &[&str], value: Option<&Value>, findings: &mut Findings) {
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
fn number(path: &[&str], value: Option<&Value>, findings: &mut Findings) {
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

fn vlan(path: &[&str], value: Option<&Value>, findings: &mut Findings) {
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
fn netmask(path: &[&str], value: Option<&Value>, findings: &mut Findings) {
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
