//! Addresses of a guest: Proxmox VE's `ipconfigN` language, and cloud-init's
//! network-config version 2 made from it.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value, json};

use crate::Error;

/// Proxmox VE takes the word (`pve-ipv4-config`, `pve-ipv6-config`), but splits it like an address when
/// it writes the drive (PVE::QemuServer::Cloudinit).
const MANUAL: &str = "cannot be written to a cloud-init drive, although Proxmox VE accepts it; leave it out for a NIC without \
                      such an address";

/// How a NIC gets its IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address4 {
    /// From a DHCP server.
    Dhcp,
    /// This address, with its prefix length.
    Static(Ipv4Addr, u8),
}

/// How a NIC gets its IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address6 {
    /// From a DHCPv6 server.
    Dhcp,
    /// From router advertisements.
    Auto,
    /// This address, with its prefix length.
    Static(Ipv6Addr, u8),
}

/// The addresses of one NIC: what an `ipconfigN` of Proxmox VE says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpConfig {
    /// IPv4 address.
    pub ip: Option<Address4>,
    /// IPv4 gateway.
    pub gw: Option<Ipv4Addr>,
    /// IPv6 address.
    pub ip6: Option<Address6>,
    /// IPv6 gateway.
    pub gw6: Option<Ipv6Addr>,
}

impl IpConfig {
    /// From the four values as a user writes them; `what` names the option in
    /// errors.
    ///
    /// # Errors
    /// [`Error::Network`] for a value that is not an address, and for a gateway
    /// without a fixed address of its family, as Proxmox VE refuses it too.
    pub fn new(
        what: &str,
        ip: Option<&str>,
        gw: Option<&str>,
        ip6: Option<&str>,
        gw6: Option<&str>,
    ) -> Result<Self, Error> {
        let wrong = |value: &str, problem| Error::Network {
            what: format!("{what}: {value:?}"),
            problem,
        };
        let ip = ip.map(|text| match text {
            "dhcp" => Ok(Address4::Dhcp),
            "manual" => Err(wrong(text, MANUAL)),
            "auto" => Err(wrong(
                text,
                "is a value of ip6; for IPv4 give an address or dhcp",
            )),
            _ => cidr::<Ipv4Addr>(text, 32)
                .map(|(address, prefix)| Address4::Static(address, prefix))
                .ok_or_else(|| {
                    wrong(
                        text,
                        "is not an IPv4 address with a prefix length (192.0.2.11/24), nor dhcp",
                    )
                }),
        });
        let ip6 = ip6.map(|text| match text {
            "dhcp" => Ok(Address6::Dhcp),
            "auto" => Ok(Address6::Auto),
            "manual" => Err(wrong(text, MANUAL)),
            "slaac" => Err(wrong(text, "is not a value of ip6; Proxmox VE calls it auto")),
            _ => cidr::<Ipv6Addr>(text, 128)
                .map(|(address, prefix)| Address6::Static(address, prefix))
                .ok_or_else(|| wrong(text, "is not an IPv6 address with a prefix length (2001:db8::11/64), nor dhcp or auto")),
        });
        let gw = gw.map(|text| {
            text.parse()
                .map_err(|_| wrong(text, "is not an IPv4 address"))
        });
        let gw6 = gw6.map(|text| {
            text.parse()
                .map_err(|_| wrong(text, "is not an IPv6 address"))
        });
        let config = IpConfig {
            ip: ip.transpose()?,
            gw: gw.transpose()?,
            ip6: ip6.transpose()?,
            gw6: gw6.transpose()?,
        };
        if config.gw.is_some() && !matches!(config.ip, Some(Address4::Static(..))) {
            return Err(wrong("gw", "needs a fixed ip"));
        }
        if config.gw6.is_some() && !matches!(config.ip6, Some(Address6::Static(..))) {
            return Err(wrong("gw6", "needs a fixed ip6"));
        }
        if let Some(problem) = config.unusable() {
            return Err(Error::Network {
                what: what.to_owned(),
                problem,
            });
        }
        if config.ip.is_none() && config.ip6.is_none() {
            return Err(Error::Network {
                what: what.to_owned(),
                problem: "needs ip or ip6",
            });
        }
        Ok(config)
    }

    /// Why no NIC works with these addresses. Proxmox VE itself refuses prefix lengths below 8 only.
    fn unusable(&self) -> Option<&'static str> {
        const SHORTEST: u8 = 8;
        if let Some(Address4::Static(address, prefix)) = self.ip {
            let host = !mask4(prefix).to_bits();
            let part = address.to_bits() & host;
            if prefix < SHORTEST {
                return Some("ip: the prefix length must be between 8 and 32");
            }
            if address.is_unspecified() || address.is_multicast() {
                return Some("ip: is not an address that a NIC can have");
            }
            if prefix < 31 && (part == 0 || part == host) {
                return Some(
                    "ip: is the address of the network itself or its broadcast address; give the NIC's own",
                );
            }
            if self.gw == Some(address) {
                return Some("gw: is the address of the NIC itself; give the router's");
            }
        }
        if let Some(Address6::Static(address, prefix)) = self.ip6 {
            if prefix < SHORTEST {
                return Some("ip6: the prefix length must be between 8 and 128");
            }
            if address.is_unspecified() || address.is_multicast() {
                return Some("ip6: is not an address that a NIC can have");
            }
            if self.gw6 == Some(address) {
                return Some("gw6: is the address of the NIC itself; give the router's");
            }
        }
        None
    }

    /// From Proxmox VE's own text, `ip=192.0.2.11/24,gw=192.0.2.1`.
    ///
    /// # Errors
    /// [`Error::Network`] as for [`IpConfig::new`], and for unknown keys.
    pub fn parse(what: &str, text: &str) -> Result<Self, Error> {
        let mut values: [Option<&str>; 4] = [None; 4];
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let known = part.split_once('=').and_then(|(key, value)| {
                let index = ["ip", "gw", "ip6", "gw6"].iter().position(|k| *k == key)?;
                Some((index, value))
            });
            let Some((index, value)) = known else {
                return Err(Error::Network {
                    what: format!("{what}: {part:?}"),
                    problem: "must be one of ip=, gw=, ip6= and gw6=",
                });
            };
            if values[index].replace(value).is_some() {
                return Err(Error::Network {
                    what: format!("{what}: {part:?}"),
                    problem: "is given twice",
                });
            }
        }
        let [ip, gw, ip6, gw6] = values;
        Self::new(what, ip, gw, ip6, gw6)
    }
}

impl std::fmt::Display for IpConfig {
    /// As Proxmox VE's `ipconfigN` takes it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [
            self.ip.map(|ip| match ip {
                Address4::Dhcp => "ip=dhcp".to_owned(),
                Address4::Static(address, prefix) => format!("ip={address}/{prefix}"),
            }),
            self.gw.map(|gw| format!("gw={gw}")),
            self.ip6.map(|ip| match ip {
                Address6::Dhcp => "ip6=dhcp".to_owned(),
                Address6::Auto => "ip6=auto".to_owned(),
                Address6::Static(address, prefix) => format!("ip6={address}/{prefix}"),
            }),
            self.gw6.map(|gw| format!("gw6={gw}")),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(","))
    }
}

/// A NIC of the guest with its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// Its name in the VM's configuration, `net0`.
    pub name: String,
    /// Its MAC address, which finds it in the guest whatever it is called there.
    pub mac: String,
    /// Its addresses.
    pub ip: IpConfig,
}

impl IpConfig {
    /// The gateways that are in no network of their NIC, such as that of a /32. A link's own address is reachable anyway.
    pub(crate) fn gateways_off_link(&self) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
        let v4 = match self.ip {
            Some(Address4::Static(address, prefix)) => self.gw.filter(|gw| {
                let mask = mask4(prefix).to_bits();
                prefix >= 32 || gw.to_bits() & mask != address.to_bits() & mask
            }),
            _ => None,
        };
        let v6 = match self.ip6 {
            Some(Address6::Static(address, prefix)) => self.gw6.filter(|gw| {
                let mask = mask6(prefix).to_bits();
                let outside = prefix >= 128 || gw.to_bits() & mask != address.to_bits() & mask;
                outside && !gw.is_unicast_link_local()
            }),
            _ => None,
        };
        (v4, v6)
    }
}

/// A network-config for these NICs.
///
/// Version 2 where it says everything, since it leaves the guest's names of its NICs alone. But of a gateway outside of
/// the NIC's network cloud-init makes a route that networkd and ifupdown cannot set, `on-link` or not (measured with 22.4
/// and 26.3), and router advertisements it does not write for ifupdown and NetworkManager. Version 1, which Proxmox VE's
/// own drives have too, does both.
pub(crate) fn network_config(nics: &[Nic], nameservers: &[String], search: &[String]) -> Value {
    let needs_version_1 = |nic: &Nic| {
        nic.ip.gateways_off_link() != (None, None) || nic.ip.ip6 == Some(Address6::Auto)
    };
    match nics.iter().any(needs_version_1) {
        true => version_1(nics, nameservers, search),
        false => version_2(nics, nameservers, search),
    }
}

/// A network-config of version 1, as Proxmox VE writes it (PVE::QemuServer::Cloudinit, `nocloud_network`).
fn version_1(nics: &[Nic], nameservers: &[String], search: &[String]) -> Value {
    let mut config = Vec::new();
    for nic in nics {
        let mut subnets = Vec::new();
        let (off_link4, off_link6) = nic.ip.gateways_off_link();
        match nic.ip.ip {
            Some(Address4::Dhcp) => subnets.push(json!({ "type": "dhcp4" })),
            Some(Address4::Static(address, prefix)) => subnets.push(fixed(
                "static",
                format!("{address}/{prefix}"),
                nic.ip.gw.map(|gw| gw.to_string()),
                off_link4
                    .map(|gw| json!({ "destination": format!("{gw}/32"), "gateway": "0.0.0.0" })),
            )),
            None => {}
        }
        match nic.ip.ip6 {
            Some(Address6::Dhcp) => subnets.push(json!({ "type": "dhcp6" })),
            Some(Address6::Auto) => subnets.push(json!({ "type": "ipv6_slaac" })),
            Some(Address6::Static(address, prefix)) => subnets.push(fixed(
                "static6",
                format!("{address}/{prefix}"),
                nic.ip.gw6.map(|gw| gw.to_string()),
                off_link6.map(|gw| json!({ "destination": format!("{gw}/128"), "gateway": "::" })),
            )),
            None => {}
        }
        config.push(json!({
            "type": "physical",
            "name": nic.name.replace("net", "eth"),
            "mac_address": nic.mac.to_ascii_lowercase(),
            "subnets": subnets,
        }));
    }
    // cloud-init before 24.1 writes for NetworkManager only what a subnet has, and for networkd with DHCP only what is
    // said for all.
    let is_fixed = |subnet: &&mut Value| subnet.get("address").is_some();
    let subnets = config
        .iter_mut()
        .filter_map(|nic| nic["subnets"].as_array_mut());
    if let Some(subnet) = subnets.flatten().find(is_fixed) {
        for (key, list) in [("dns_nameservers", nameservers), ("dns_search", search)] {
            if !list.is_empty() {
                subnet[key] = list.into();
            }
        }
    }
    if !nameservers.is_empty() || !search.is_empty() {
        let mut entry = json!({ "type": "nameserver", "address": nameservers });
        if !search.is_empty() {
            entry["search"] = search.into();
        }
        config.push(entry);
    }
    json!({ "version": 1, "config": config })
}

/// A subnet with a fixed address. The route to a gateway off the link goes without a gateway, so that networkd, which sets no
/// route over a gateway that it cannot reach, reaches it with every cloud-init; since 24.2 that writes `GatewayOnLink` itself.
fn fixed(kind: &str, address: String, gateway: Option<String>, to_gateway: Option<Value>) -> Value {
    let mut subnet = json!({ "type": kind, "address": address });
    if let Some(gateway) = gateway {
        subnet["gateway"] = gateway.into();
    }
    if let Some(route) = to_gateway {
        subnet["routes"] = json!([route]);
    }
    subnet
}

/// A network-config of version 2 (cloud-init's documentation, "Networking
/// config Version 2"). Default routes are written as `0.0.0.0/0` and `::/0`:
/// every cloud-init knows those, `gateway4` is deprecated and `default` too new.
fn version_2(nics: &[Nic], nameservers: &[String], search: &[String]) -> Value {
    let mut ethernets = Map::new();
    for nic in nics {
        let mut entry = Map::new();
        entry.insert(
            "match".into(),
            json!({ "macaddress": nic.mac.to_ascii_lowercase() }),
        );
        let mut addresses = Vec::new();
        match nic.ip.ip {
            Some(Address4::Dhcp) => {
                entry.insert("dhcp4".into(), true.into());
            }
            Some(Address4::Static(address, prefix)) => {
                addresses.push(format!("{address}/{prefix}"))
            }
            None => {}
        }
        match nic.ip.ip6 {
            Some(Address6::Dhcp) => {
                entry.insert("dhcp6".into(), true.into());
            }
            // In version 1 only.
            Some(Address6::Auto) => {}
            Some(Address6::Static(address, prefix)) => {
                addresses.push(format!("{address}/{prefix}"))
            }
            None => {}
        }
        if !addresses.is_empty() {
            entry.insert("addresses".into(), addresses.into());
        }
        let route4 = nic
            .ip
            .gw
            .map(|gw| json!({ "to": "0.0.0.0/0", "via": gw.to_string() }));
        let route6 = nic
            .ip
            .gw6
            .map(|gw| json!({ "to": "::/0", "via": gw.to_string() }));
        let routes: Vec<Value> = route4.into_iter().chain(route6).collect();
        if !routes.is_empty() {
            entry.insert("routes".into(), routes.into());
        }
        let mut names = Map::new();
        if !nameservers.is_empty() {
            names.insert("addresses".into(), nameservers.into());
        }
        if !search.is_empty() {
            names.insert("search".into(), search.into());
        }
        if !names.is_empty() {
            entry.insert("nameservers".into(), names.into());
        }
        ethernets.insert(nic.name.clone(), entry.into());
    }
    json!({ "version": 2, "ethernets": ethernets })
}

/// The netmask of a prefix length.
pub(crate) fn mask4(prefix: u8) -> Ipv4Addr {
    let shift = 32 - u32::from(prefix.min(32));
    Ipv4Addr::from(u32::MAX.checked_shl(shift).unwrap_or(0))
}

/// The netmask of a prefix length.
pub(crate) fn mask6(prefix: u8) -> Ipv6Addr {
    let shift = 128 - u32::from(prefix.min(128));
    Ipv6Addr::from(u128::MAX.checked_shl(shift).unwrap_or(0))
}

/// `ADDRESS/PREFIX`.
fn cidr<A: std::str::FromStr>(text: &str, longest: u8) -> Option<(A, u8)> {
    let (address, prefix) = text.split_once('/')?;
    let prefix = prefix.parse().ok().filter(|p| *p <= longest)?;
    Some((address.parse().ok()?, prefix))
}
