//! The addresses of a NIC in Proxmox VE's `ipconfigN` language.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

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
    /// The first of [`IpConfig::read`].
    pub fn new(
        what: &str,
        ip: Option<&str>,
        gw: Option<&str>,
        ip6: Option<&str>,
        gw6: Option<&str>,
    ) -> Result<Self, Error> {
        Self::read(ip, gw, ip6, gw6).map_err(|wrong| {
            let first = wrong.into_iter().next();
            first.map_or_else(|| nothing(what), |wrong| wrong.within(what))
        })
    }

    /// From the four values as a user writes them.
    ///
    /// # Errors
    /// Every value that is not an address or that no NIC works with, and a gateway
    /// without a fixed address of its family, as Proxmox VE refuses it too.
    pub fn read(
        ip: Option<&str>,
        gw: Option<&str>,
        ip6: Option<&str>,
        gw6: Option<&str>,
    ) -> Result<Self, Vec<Unusable>> {
        let mut wrong = Vec::new();
        let mut note = |key: &'static str, value: &str, problem: &'static str| {
            wrong.push(Unusable {
                key,
                value: value.to_owned(),
                problem,
            });
        };
        let config = Self {
            ip: ip.and_then(|text| address_4(text).map_err(|why| note("ip", text, why)).ok()),
            gw: gw.and_then(|text| gateway_4(text).map_err(|why| note("gw", text, why)).ok()),
            ip6: ip6.and_then(|text| address_6(text).map_err(|why| note("ip6", text, why)).ok()),
            gw6: gw6.and_then(|text| gateway_6(text).map_err(|why| note("gw6", text, why)).ok()),
        };
        if let Some(text) = gw.filter(|_| config.gw.is_some())
            && matches!(config.ip, None | Some(Address4::Dhcp))
            && (ip.is_none() || config.ip.is_some())
        {
            note("gw", text, "needs a fixed ip");
        }
        if let Some(text) = gw6.filter(|_| config.gw6.is_some())
            && matches!(config.ip6, None | Some(Address6::Dhcp | Address6::Auto))
            && (ip6.is_none() || config.ip6.is_some())
        {
            note("gw6", text, "needs a fixed ip6");
        }
        if let (Some(text), Some(problem)) = (gw, config.wrong_gateway_4()) {
            note("gw", text, problem);
        }
        if let (Some(text), Some(problem)) = (gw6, config.wrong_gateway_6()) {
            note("gw6", text, problem);
        }
        if wrong.is_empty() && config.ip.is_none() && config.ip6.is_none() {
            return Err(Vec::new());
        }
        if wrong.is_empty() {
            Ok(config)
        } else {
            Err(wrong)
        }
    }

    /// Why the IPv4 gateway cannot be that of the address.
    fn wrong_gateway_4(&self) -> Option<&'static str> {
        let (Some(Address4::Static(address, prefix)), Some(gw)) = (self.ip, self.gw) else {
            return None;
        };
        if gw == address {
            return Some("is the address of the NIC itself; give the router's");
        }
        let host = !mask4(prefix).to_bits();
        let within = gw.to_bits() & !host == address.to_bits() & !host;
        let part = gw.to_bits() & host;
        (within && prefix < 31 && (part == 0 || part == host)).then_some(
            "is the address of the network itself or its broadcast address; give the router's",
        )
    }

    /// Why the IPv6 gateway cannot be that of the address.
    fn wrong_gateway_6(&self) -> Option<&'static str> {
        match (self.ip6, self.gw6) {
            (Some(Address6::Static(address, _)), Some(gw)) if gw == address => {
                Some("is the address of the NIC itself; give the router's")
            }
            _ => None,
        }
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
                    problem: "must be one of ip=, gw=, ip6= and gw6=".into(),
                });
            };
            if values[index].replace(value).is_some() {
                return Err(Error::Network {
                    what: format!("{what}: {part:?}"),
                    problem: "is given twice".into(),
                });
            }
        }
        let [ip, gw, ip6, gw6] = values;
        Self::new(what, ip, gw, ip6, gw6)
    }
}

/// A value of an `ipconfigN` that is not usable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// `ip`, `gw`, `ip6` or `gw6`.
    pub key: &'static str,
    /// What was given.
    pub value: String,
    /// What is wrong with it, and what to give instead.
    pub problem: &'static str,
}

impl Unusable {
    /// The same as an error of the option `what`.
    fn within(&self, what: &str) -> Error {
        Error::Network {
            what: what.to_owned(),
            problem: self.to_string(),
        }
    }

    /// What is wrong, with the value, without the key.
    pub fn reason(&self) -> String {
        match self.problem.split_once("; ") {
            Some((problem, remedy)) => format!("{problem} (got {:?}); {remedy}", self.value),
            None => format!("{} (got {:?})", self.problem, self.value),
        }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.reason())
    }
}

fn nothing(what: &str) -> Error {
    Error::Network {
        what: what.to_owned(),
        problem: "needs ip or ip6".into(),
    }
}

/// The shortest prefix that Proxmox VE takes.
const SHORTEST: u8 = 8;
const OF_NO_NIC: &str = "is not an address that a NIC can have";
const MAPPED: &str = "is an IPv4 address in IPv6 notation; give it as an IPv4 address";

fn address_4(text: &str) -> Result<Address4, &'static str> {
    match text {
        "dhcp" => return Ok(Address4::Dhcp),
        "manual" => return Err(MANUAL),
        "auto" => return Err("is a value of ip6; for IPv4 give an address or dhcp"),
        _ => {}
    }
    let Some((address, prefix)) = cidr::<Ipv4Addr>(text, 32) else {
        return Err(match cidr::<Ipv6Addr>(text, 128) {
            Some(_) => "is an IPv6 address, which belongs to ip6",
            None => "is not an IPv4 address with a prefix length (192.0.2.11/24), nor dhcp",
        });
    };
    let host = !mask4(prefix).to_bits();
    let part = address.to_bits() & host;
    if prefix < SHORTEST {
        return Err("the prefix length must be between 8 and 32");
    }
    if is_unusable_4(address) {
        return Err(OF_NO_NIC);
    }
    if prefix < 31 && (part == 0 || part == host) {
        return Err(
            "is the address of the network itself or its broadcast address; give the NIC's own",
        );
    }
    Ok(Address4::Static(address, prefix))
}

fn address_6(text: &str) -> Result<Address6, &'static str> {
    match text {
        "dhcp" => return Ok(Address6::Dhcp),
        "auto" => return Ok(Address6::Auto),
        "manual" => return Err(MANUAL),
        "slaac" => return Err("is not a value of ip6; Proxmox VE calls it auto"),
        _ => {}
    }
    let Some((address, prefix)) = cidr::<Ipv6Addr>(text, 128) else {
        return Err(match cidr::<Ipv4Addr>(text, 32) {
            Some(_) => "is an IPv4 address, which belongs to ip",
            None => {
                "is not an IPv6 address with a prefix length (2001:db8::11/64), nor dhcp or auto"
            }
        });
    };
    if prefix < SHORTEST {
        return Err("the prefix length must be between 8 and 128");
    }
    if address.to_ipv4_mapped().is_some() {
        return Err(MAPPED);
    }
    if is_unusable_6(address) {
        return Err(OF_NO_NIC);
    }
    Ok(Address6::Static(address, prefix))
}

fn gateway_4(text: &str) -> Result<Ipv4Addr, &'static str> {
    match text.parse::<Ipv4Addr>() {
        Ok(address) if is_unusable_4(address) => Err(OF_NO_ROUTER),
        Ok(address) => Ok(address),
        Err(_) if text.parse::<Ipv6Addr>().is_ok() => {
            Err("is an IPv6 address, which belongs to gw6")
        }
        Err(_) => Err("is not an IPv4 address"),
    }
}

fn gateway_6(text: &str) -> Result<Ipv6Addr, &'static str> {
    match text.parse::<Ipv6Addr>() {
        Ok(address) if address.to_ipv4_mapped().is_some() => Err(MAPPED),
        Ok(address) if is_unusable_6(address) => Err(OF_NO_ROUTER),
        Ok(address) => Ok(address),
        Err(_) if text.parse::<Ipv4Addr>().is_ok() => {
            Err("is an IPv4 address, which belongs to gw")
        }
        Err(_) if text.contains('%') => {
            Err("is not an IPv6 address; leave out the zone, since the gateway is on this NIC")
        }
        Err(_) => Err("is not an IPv6 address"),
    }
}

const OF_NO_ROUTER: &str = "is not an address that a router can have";

/// Addresses of no NIC: those of nothing, of groups and of everybody. 127.0.0.0/8 is left to the user: tests have guests there.
fn is_unusable_4(address: Ipv4Addr) -> bool {
    address.octets()[0] == 0 || address.is_multicast() || address.is_broadcast()
}

fn is_unusable_6(address: Ipv6Addr) -> bool {
    address.is_unspecified() || address.is_multicast() || address.is_loopback()
}

impl fmt::Display for IpConfig {
    /// As Proxmox VE's `ipconfigN` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
