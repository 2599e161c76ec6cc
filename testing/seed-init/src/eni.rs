//! Debian's `/etc/network/interfaces`, as far as PVE writes it into a ConfigDrive.

use serde_yaml_ng::Value;

use crate::netmask::prefix;

/// The actions (see [`crate::network`]) for this text.
pub fn plan(text: &str) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    let mut device = String::new();
    let mut address: Option<String> = None;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["iface", name, family, method] => {
                address = None;
                device = if *name == "lo" {
                    String::new()
                } else {
                    (*name).to_owned()
                };
                if device.is_empty() {
                    continue;
                }
                let up = format!("up {device}");
                if !lines.contains(&up) {
                    lines.push(up);
                }
                if (*family, *method) == ("inet", "dhcp") {
                    lines.push(format!("dhcp {device}"));
                }
            }
            ["address", value] if !device.is_empty() => match value.contains('/') {
                true => lines.push(format!("address {device} {value}")),
                false => address = Some((*value).to_owned()),
            },
            ["netmask", value] => {
                if let Some(address) = address.take() {
                    let prefix = prefix(&Value::from(*value))
                        .ok_or_else(|| format!("interfaces: {value:?} is not a netmask"))?;
                    lines.push(format!("address {device} {address}/{prefix}"));
                }
            }
            ["gateway", value] if !device.is_empty() => {
                lines.push(format!("route {device} default {value}"));
            }
            [
                word @ ("dns_nameservers" | "dns-nameservers" | "dns_search" | "dns-search"),
                values @ ..,
            ] => {
                let word = if word.ends_with("search") {
                    "search"
                } else {
                    "nameserver"
                };
                lines.extend(values.iter().map(|value| format!("{word} {value}")));
            }
            _ => {}
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_pve_writes() {
        let text = "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet static\n        address 10.77.0.11\n        \
                    netmask 255.255.255.0\n        gateway 10.77.0.1\niface eth0 inet6 static\n        address fd00::1\n        \
                    netmask 64\n        gateway fd00::fe\nauto eth1\niface eth1 inet dhcp\n        dns_nameservers 10.77.0.1 10.77.0.2\n";
        assert_eq!(
            super::plan(text).unwrap(),
            [
                "up eth0",
                "address eth0 10.77.0.11/24",
                "route eth0 default 10.77.0.1",
                "address eth0 fd00::1/64",
                "route eth0 default fd00::fe",
                "up eth1",
                "dhcp eth1",
                "nameserver 10.77.0.1",
                "nameserver 10.77.0.2"
            ]
        );
    }
}
