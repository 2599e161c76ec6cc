//! The addresses of the machine's NICs, and the one at which the controller reaches it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use nocloud_seed::{IpConfig, Unusable};
use proxmox_nixos_vm::options::AddressFamily;
use pve_client::property::PropertyString;
use serde_json::Value;

use crate::options::{FIRST, Settings, given};

/// Values that are no addresses: the network knows the address.
const DYNAMIC: [&str; 2] = ["dhcp", "auto"];

/// The addresses of one NIC as they are written, by the keys of Proxmox VE's `ipconfigN`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NicAddresses {
    /// `ADDRESS/PREFIX` or `dhcp`.
    pub ip: Option<String>,
    /// The IPv4 gateway.
    pub gw: Option<String>,
    /// `ADDRESS/PREFIX`, `dhcp` or `auto`.
    pub ip6: Option<String>,
    /// The IPv6 gateway.
    pub gw6: Option<String>,
}

impl NicAddresses {
    /// From an item of `nixos_vm_ipconfig`: a text of Proxmox VE, or a dict. Unknown keys are left out.
    pub fn of(value: &Value) -> Self {
        let mut nic = Self::default();
        match value {
            Value::String(text) => {
                let parts = PropertyString::parse(text, None).ok();
                for (key, value) in parts.iter().flat_map(|parts| parts.iter()) {
                    nic.put(key, value);
                }
            }
            Value::Object(map) => {
                for (key, value) in map {
                    nic.put(key, value.as_str().unwrap_or_default());
                }
            }
            _ => {}
        }
        nic
    }

    /// Set the value of a key; returns the other value that it had.
    pub fn put(&mut self, key: &str, value: &str) -> Option<String> {
        let slot = match key {
            "ip" => &mut self.ip,
            "gw" => &mut self.gw,
            "ip6" => &mut self.ip6,
            "gw6" => &mut self.gw6,
            _ => return None,
        };
        let value = value.trim();
        if value.is_empty() || slot.as_deref() == Some(value) {
            return None;
        }
        slot.replace(value.to_owned())
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The same in types.
    ///
    /// # Errors
    /// Every value that no NIC works with.
    pub fn read(&self) -> Result<IpConfig, Vec<Unusable>> {
        let [ip, gw, ip6, gw6] =
            [&self.ip, &self.gw, &self.ip6, &self.gw6].map(|text| text.as_deref());
        IpConfig::read(ip, gw, ip6, gw6)
    }

    /// As `ipconfigN` takes it.
    fn to_text(&self) -> String {
        let pairs = [
            ("ip", &self.ip),
            ("gw", &self.gw),
            ("ip6", &self.ip6),
            ("gw6", &self.gw6),
        ];
        let set: Vec<String> = pairs
            .iter()
            .filter_map(|(key, value)| Some(format!("{key}={}", value.as_ref()?)))
            .collect();
        set.join(",")
    }

    /// The fixed addresses in their normal form, IPv4 first.
    fn fixed(&self) -> [Option<String>; 2] {
        [&self.ip, &self.ip6].map(|text| {
            let text = text.as_deref().filter(|text| !DYNAMIC.contains(text))?;
            Some(normal(text.split('/').next().unwrap_or(text)))
        })
    }

    /// Which families only the network knows an address of, IPv4 first.
    fn dynamic(&self) -> [bool; 2] {
        [&self.ip, &self.ip6]
            .map(|text| text.as_deref().is_some_and(|text| DYNAMIC.contains(&text)))
    }
}

/// The key of `ipconfigN` that a word of `nixos_vm_ip` stands for, with its value.
pub fn keyed(word: &str) -> (&str, &str) {
    match word.split_once('=') {
        Some((key, "slaac")) => (key.trim(), "auto"),
        Some((key, value)) => (key.trim(), value.trim()),
        None => match word {
            "dhcp" | "dhcp4" => ("ip", "dhcp"),
            "dhcp6" => ("ip6", "dhcp"),
            "auto" | "slaac" => ("ip6", "auto"),
            _ if word.contains(':') => ("ip6", word),
            _ => ("ip", word),
        },
    }
}

/// Keep the first of texts that are the same.
pub fn drop_repetitions(texts: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    texts.retain(|text| seen.insert(text.clone()));
}

/// The words of a list, without empty ones.
pub fn words_of(list: Option<&Vec<String>>) -> impl Iterator<Item = &str> {
    let words = list.into_iter().flatten().map(|word| word.trim());
    words.filter(|word| !word.is_empty())
}

/// A host in its normal form: an address has one, whatever the spelling; a zone stays.
pub fn normal(host: &str) -> String {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Some((address, zone)) = host.split_once('%')
        && let Ok(address) = address.parse::<Ipv6Addr>()
    {
        return format!("{address}%{zone}");
    }
    host.parse::<IpAddr>()
        .map_or_else(|_| host.to_owned(), |address| address.to_string())
}

impl Settings {
    /// The addresses of the first NIC: those of `ipconfig0`, or else of `nixos_vm_ip` and `nixos_vm_gateway`. A gateway is left out
    /// where the network tells it.
    pub fn first_nic(&self) -> NicAddresses {
        let own = self.ipconfig.as_ref().and_then(|nics| nics.get(FIRST));
        let own = own.map(NicAddresses::of).unwrap_or_default();
        if !own.is_empty() {
            return own;
        }
        let mut nic = NicAddresses::default();
        for word in words_of(self.ip.as_ref()) {
            let (key, value) = keyed(word);
            nic.put(key, value);
        }
        let [v4, v6] = nic.fixed().map(|address| address.is_some());
        for gateway in words_of(self.gateway.as_ref()) {
            match gateway.contains(':') {
                true if v6 => nic.put("gw6", gateway),
                false if v4 => nic.put("gw", gateway),
                _ => None,
            };
        }
        nic
    }

    /// The values of `ipconfigN` for all NICs.
    pub fn ipconfigs(&self) -> BTreeMap<String, Value> {
        let mut nics = self.ipconfig.clone().unwrap_or_default();
        let first = self.first_nic();
        if !first.is_empty() {
            nics.entry(FIRST.to_owned())
                .or_insert_with(|| first.to_text().into());
        }
        nics
    }

    /// The fixed addresses of the first NIC in their normal form, IPv4 first.
    pub fn fixed_addresses(&self) -> Vec<String> {
        self.first_nic().fixed().into_iter().flatten().collect()
    }

    /// Whether only the machine itself knows its address.
    pub fn asks_for_address(&self) -> bool {
        let [v4, v6] = self.first_nic().dynamic();
        let asked = match self.address_family {
            AddressFamily::Any => v4 || v6,
            AddressFamily::Ipv4 => v4,
            AddressFamily::Ipv6 => v6,
        };
        asked && self.given_address().is_none()
    }

    /// The family of the address that its guest agent is asked for.
    pub fn asked_family(&self) -> AddressFamily {
        match (self.address_family, self.first_nic().dynamic()) {
            (AddressFamily::Any, [true, false]) => AddressFamily::Ipv4,
            (AddressFamily::Any, [false, true]) => AddressFamily::Ipv6,
            (wanted, _) => wanted,
        }
    }

    /// The host at which the user says that the controller reaches it, as it is written.
    pub fn written_address(&self) -> Option<&str> {
        given(self.address.as_ref())
    }

    /// The address that is given in its normal form, by itself or as a fixed address of the family that is preferred.
    pub fn given_address(&self) -> Option<String> {
        if let Some(address) = self.written_address() {
            return Some(normal(address));
        }
        let [v4, v6] = self.first_nic().fixed();
        match self.address_family {
            AddressFamily::Any => v4.or(v6),
            AddressFamily::Ipv4 => v4,
            AddressFamily::Ipv6 => v6,
        }
    }

    /// Whether the network gives all addresses of the first NIC.
    pub fn has_no_fixed_address(&self) -> bool {
        let nic = self.first_nic();
        nic.dynamic().contains(&true) && nic.fixed() == [None, None]
    }

    /// Every address at which the controller may reach it, the one that it uses first. Behind an address that is not the machine's
    /// own, such as a host name or that of a router, its own addresses may be out of reach.
    pub fn known_addresses(&self) -> Vec<String> {
        let mut known: Vec<String> = self.given_address().into_iter().collect();
        let fixed = self.fixed_addresses();
        if known.first().is_some_and(|given| fixed.contains(given)) {
            known.extend(fixed);
            drop_repetitions(&mut known);
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_nic_has_what_the_variables_say() {
        let both = "ip=192.0.2.11/24,gw=192.0.2.1,ip6=2001:db8::11/64,gw6=fe80::1";
        for (variables, expected) in [
            (
                json!({"ip": ["192.0.2.11/24"], "gateway": ["192.0.2.1"]}),
                "ip=192.0.2.11/24,gw=192.0.2.1",
            ),
            (
                json!({"ip": ["192.0.2.11/24", "2001:db8::11/64"], "gateway": ["fe80::1", "192.0.2.1"]}),
                both,
            ),
            // Ansible makes a list of a text with commas.
            (json!({"ip": both.split(',').collect::<Vec<_>>()}), both),
            (json!({"ipconfig": {"ipconfig0": both}}), both),
            (
                json!({"ip": ["dhcp", "slaac"], "gateway": ["192.0.2.1", "fe80::1"]}),
                "ip=dhcp,ip6=auto",
            ),
            (json!({"ip": ["dhcp4", "dhcp6"]}), "ip=dhcp,ip6=dhcp"),
            (json!({"ip": ["ip6=slaac"]}), "ip6=auto"),
            (
                json!({"ip": [" dhcp ", "2001:db8::11/64"], "gateway": ["192.0.2.1", "2001:db8::1"]}),
                "ip=dhcp,ip6=2001:db8::11/64,gw6=2001:db8::1",
            ),
            (json!({"ip": [""], "gateway": ["192.0.2.1"]}), ""),
        ] {
            let settings = Settings::with(variables.clone());
            assert_eq!(settings.first_nic().to_text(), expected, "{variables}");
        }
        let several = Settings::with(json!({
            "ip": ["192.0.2.11/24"],
            "ipconfig": {"ipconfig1": {"ip": "198.51.100.11/24"}},
        }));
        assert_eq!(
            json!(several.ipconfigs()),
            json!({"ipconfig0": "ip=192.0.2.11/24", "ipconfig1": {"ip": "198.51.100.11/24"}})
        );
    }

    #[test]
    fn the_controller_reaches_one_address() {
        let of = |ip: &[&str], family: &str, address: &str| {
            let settings =
                Settings::with(json!({"ip": ip, "address_family": family, "address": address}));
            let given = settings.given_address();
            match given {
                Some(given) => given,
                None if settings.asks_for_address() => {
                    format!("asked for {}", settings.asked_family().named())
                }
                None => "none".to_owned(),
            }
        };
        let both = ["192.0.2.11/24", "2001:DB8:0::11/64"];
        for (ip, family, address, expected) in [
            (&both[..], "any", "", "192.0.2.11"),
            (&both, "ipv4", "", "192.0.2.11"),
            (&both, "ipv6", "", "2001:db8::11"),
            (&both, "ipv6", "web1.example.org", "web1.example.org"),
            (&both, "any", "[2001:DB8::0:12]", "2001:db8::12"),
            (&both, "any", "fe80:0::1%eth0", "fe80::1%eth0"),
            (&["dhcp"], "any", "", "asked for an IPv4 address"),
            (&["slaac"], "any", "", "asked for an IPv6 address"),
            (&["dhcp", "dhcp6"], "any", "", "asked for an address"),
            (&["dhcp", "dhcp6"], "ipv6", "", "asked for an IPv6 address"),
            // What is known is not asked for.
            (&["dhcp", "2001:db8::11/64"], "any", "", "2001:db8::11"),
            (
                &["dhcp", "2001:db8::11/64"],
                "ipv4",
                "",
                "asked for an IPv4 address",
            ),
            (&["192.0.2.11/24"], "ipv6", "", "none"),
        ] {
            assert_eq!(
                of(ip, family, address),
                expected,
                "{ip:?} {family} {address}"
            );
        }
    }
}
