//! Network configuration, version 1 and 2 and Debian's `interfaces`, to a list of plain actions.
//!
//! The actions are lines for a boot script: `up DEV`, `dhcp DEV`, `address DEV ADDRESS/PREFIX`,
//! `route DEV TARGET GATEWAY`, `nameserver ADDRESS`, `search DOMAIN`.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use serde_yaml_ng::Value;

use crate::eni;
use crate::netmask::prefix;
use crate::seed::Network;

/// The network devices of this machine: name and MAC address (lower case).
pub type Devices = BTreeMap<String, String>;

/// Reads them from `/sys/class/net`.
pub fn devices(directory: &Path) -> Devices {
    let mut devices = Devices::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Ok(address) = fs::read_to_string(entry.path().join("address"))
            && name != "lo"
        {
            devices.insert(name, address.trim().to_lowercase());
        }
    }
    devices
}

/// The actions for this drive's network. None at all means: the drive does not configure it.
pub fn plan(
    network: &Network,
    devices: &Devices,
    warnings: &mut Vec<String>,
) -> Result<Vec<String>, String> {
    let mut plan = Plan {
        lines: Vec::new(),
        devices,
        warnings,
    };
    match network {
        Network::None => {}
        Network::Interfaces(text) => plan.lines = eni::plan(text)?,
        Network::Config(config) => match config["version"].as_u64() {
            Some(1) => plan.version_1(config),
            Some(2) => plan.version_2(config),
            _ => return Err("network-config: version is neither 1 nor 2".to_owned()),
        },
    }
    Ok(plan.lines)
}

struct Plan<'a> {
    lines: Vec<String>,
    devices: &'a Devices,
    warnings: &'a mut Vec<String>,
}

impl Plan<'_> {
    fn line(&mut self, line: String) {
        if !self.lines.contains(&line) {
            self.lines.push(line);
        }
    }

    fn version_1(&mut self, config: &Value) {
        for entry in sequence(&config["config"]) {
            match entry["type"].as_str().unwrap_or_default() {
                "physical" => {
                    let mac = entry["mac_address"].as_str();
                    let name = entry["name"].as_str().unwrap_or("eth0");
                    let device = self.device(mac, name);
                    self.line(format!("up {device}"));
                    for subnet in sequence(&entry["subnets"]) {
                        self.subnet(&device, subnet);
                    }
                }
                "nameserver" => {
                    self.names("nameserver", &entry["address"]);
                    self.names("search", &entry["search"]);
                }
                other => self.warnings.push(format!(
                    "network-config: type {other:?} is not understood here"
                )),
            }
        }
    }

    fn subnet(&mut self, device: &str, subnet: &Value) {
        match subnet["type"].as_str().unwrap_or_default() {
            "dhcp" | "dhcp4" => self.line(format!("dhcp {device}")),
            "static" | "static6" => {
                let Some(address) = subnet["address"].as_str() else {
                    return;
                };
                self.address(device, address, &subnet["netmask"]);
                if let Some(gateway) = subnet["gateway"].as_str() {
                    self.line(format!("route {device} default {gateway}"));
                }
                self.names("nameserver", &subnet["dns_nameservers"]);
                self.names("search", &subnet["dns_search"]);
            }
            // IPv6 routers are heard without being asked for.
            "ipv6_slaac"
            | "dhcp6"
            | "ipv6_dhcpv6-stateless"
            | "ipv6_dhcpv6-stateful"
            | "manual" => {}
            other => self.warnings.push(format!(
                "network-config: subnet type {other:?} is not understood here"
            )),
        }
    }

    fn version_2(&mut self, config: &Value) {
        let Some(ethernets) = config["ethernets"].as_mapping() else {
            return;
        };
        for (id, entry) in ethernets {
            let id = id.as_str().unwrap_or("eth0");
            let matching = &entry["match"];
            let mac = matching["macaddress"].as_str();
            let pattern = matching["name"]
                .as_str()
                .or(entry["set-name"].as_str())
                .unwrap_or(id);
            let device = self.device(mac, pattern);
            self.line(format!("up {device}"));
            if entry["dhcp4"].as_bool() == Some(true) {
                self.line(format!("dhcp {device}"));
            }
            for address in sequence(&entry["addresses"]) {
                // An address may carry options: {"192.0.2.1/24": {label: ..}}.
                let address = address
                    .as_str()
                    .or_else(|| address.as_mapping()?.keys().next()?.as_str());
                if let Some(address) = address {
                    self.address(&device, address, &Value::Null);
                }
            }
            for key in ["gateway4", "gateway6"] {
                if let Some(gateway) = entry[key].as_str() {
                    self.line(format!("route {device} default {gateway}"));
                }
            }
            for route in sequence(&entry["routes"]) {
                if let (Some(to), Some(via)) = (route["to"].as_str(), route["via"].as_str()) {
                    let to = if matches!(to, "0.0.0.0/0" | "::/0") {
                        "default"
                    } else {
                        to
                    };
                    self.line(format!("route {device} {to} {via}"));
                }
            }
            self.names("nameserver", &entry["nameservers"]["addresses"]);
            self.names("search", &entry["nameservers"]["search"]);
        }
    }

    /// The device with that MAC address, else the first whose name matches (`*` may end a pattern).
    fn device(&mut self, mac: Option<&str>, name: &str) -> String {
        let found = match mac {
            Some(mac) => {
                let mac = mac.to_lowercase();
                self.devices.iter().find(|(_, address)| **address == mac)
            }
            None => self
                .devices
                .iter()
                .find(|(device, _)| match name.strip_suffix('*') {
                    Some(prefix) => device.starts_with(prefix),
                    None => *device == name,
                }),
        };
        match found {
            Some((device, _)) => device.clone(),
            None => {
                self.warnings.push(format!(
                    "network-config: no device matches {}",
                    mac.unwrap_or(name)
                ));
                name.trim_end_matches('*').to_owned()
            }
        }
    }

    fn address(&mut self, device: &str, address: &str, netmask: &Value) {
        let (address, prefix) = match address.split_once('/') {
            Some((address, prefix)) => (address, prefix.parse().ok()),
            None => (address, prefix(netmask)),
        };
        match address.parse::<IpAddr>() {
            Ok(ip) => {
                let prefix = prefix.unwrap_or(if ip.is_ipv4() { 24 } else { 64 });
                self.line(format!("address {device} {ip}/{prefix}"));
            }
            Err(_) => self
                .warnings
                .push(format!("network-config: {address:?} is not an address")),
        }
    }

    fn names(&mut self, word: &str, value: &Value) {
        let names: Vec<String> = match value {
            Value::String(name) => name.split_whitespace().map(str::to_owned).collect(),
            other => sequence(other)
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
        };
        for name in names {
            self.line(format!("{word} {name}"));
        }
    }
}

fn sequence(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_sequence().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(yaml: &str) -> (Vec<String>, Vec<String>) {
        let devices = Devices::from([
            ("eth0".to_owned(), "bc:24:11:00:00:0a".to_owned()),
            ("eth1".to_owned(), "bc:24:11:00:00:0b".to_owned()),
        ]);
        let config = serde_yaml_ng::from_str(yaml).unwrap();
        let mut warnings = Vec::new();
        let lines = plan(&Network::Config(config), &devices, &mut warnings).unwrap();
        (lines, warnings)
    }

    #[test]
    fn version_1_as_pve_writes_it() {
        let (lines, warnings) = lines(
            "version: 1\nconfig:\n    - type: physical\n      name: eth0\n      mac_address: 'bc:24:11:00:00:0b'\n      subnets:\n\
             \x20     - type: static\n        address: '10.77.0.11'\n        netmask: '255.255.255.0'\n        gateway: '10.77.0.1'\n\
             \x20     - type: static6\n        address: 'fd00::b/64'\n\
             \x20   - type: nameserver\n      address:\n      - '10.77.0.1'\n      search:\n      - 'example.net'\n",
        );
        assert_eq!(
            lines,
            [
                "up eth1",
                "address eth1 10.77.0.11/24",
                "route eth1 default 10.77.0.1",
                "address eth1 fd00::b/64",
                "nameserver 10.77.0.1",
                "search example.net"
            ]
        );
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn version_2() {
        let (lines, warnings) = lines(
            "version: 2\nethernets:\n  nic0:\n    match: {macaddress: 'BC:24:11:00:00:0A'}\n    addresses: [10.77.0.12/24]\n\
             \x20   routes: [{to: 0.0.0.0/0, via: 10.77.0.1}]\n    nameservers: {addresses: [10.77.0.1], search: [a.example]}\n\
             \x20 eth1: {dhcp4: true}\n",
        );
        assert_eq!(
            lines,
            [
                "up eth0",
                "address eth0 10.77.0.12/24",
                "route eth0 default 10.77.0.1",
                "nameserver 10.77.0.1",
                "search a.example",
                "up eth1",
                "dhcp eth1"
            ]
        );
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn names_may_be_patterns_and_unknown_devices_are_said() {
        let (lines, warnings) =
            lines("version: 2\nethernets: {all: {match: {name: 'e*'}, dhcp4: true}, eth9: {}}\n");
        assert_eq!(lines, ["up eth0", "dhcp eth0", "up eth9"]);
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn netmasks() {
        assert_eq!(prefix(&Value::from("255.255.255.192")), Some(26));
        assert_eq!(prefix(&Value::from("16")), Some(16));
        assert_eq!(prefix(&Value::from(8)), Some(8));
    }
}
