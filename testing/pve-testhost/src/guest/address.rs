//! The address of a guest, and how QEMU gives it to it.

use std::net::{Ipv4Addr, TcpListener};

use serde::{Deserialize, Serialize};

use super::Forward;

/// The host's own address on its bridge; the network is a /24.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const PREFIX: u8 = 24;

/// A guest's IPv4 address and the network it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Address {
    pub ip: Ipv4Addr,
    pub prefix: u8,
    pub gateway: Option<Ipv4Addr>,
}

/// What a configuration says of one NIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Static(Address),
    Dhcp,
}

impl Address {
    pub(super) fn in_lan(ip: Ipv4Addr) -> Self {
        Self {
            ip,
            prefix: PREFIX,
            gateway: Some(GATEWAY),
        }
    }

    /// Parse `10.77.0.11/24`.
    pub(super) fn parse(cidr: &str, gateway: Option<&str>) -> Option<Self> {
        let (ip, prefix) = cidr.split_once('/')?;
        Some(Self {
            ip: ip.parse().ok()?,
            prefix: prefix.parse().ok().filter(|prefix| *prefix <= 32)?,
            gateway: gateway.and_then(|gateway| gateway.parse().ok()),
        })
    }

    /// Where the controller reaches this guest: at the guest's own address if that is one of this computer's, as it is in a network
    /// namespace after `ip route add local 10.77.0.0/16 dev lo src 127.0.0.1`; else at a loopback address.
    pub(super) fn reached_at(&self) -> Ipv4Addr {
        if TcpListener::bind((self.ip, 0)).is_ok() {
            return self.ip;
        }
        let [_, b, c, d] = self.ip.octets();
        Ipv4Addr::new(127, b, c, d)
    }

    /// The value of QEMU's `-netdev` for this guest. QEMU answers for the gateway, and needs two
    /// more addresses than the guest's: networks smaller than /29 are widened.
    pub(super) fn netdev(&self, id: &str, forwards: &[Forward]) -> String {
        let prefix = if self.prefix > 29 { 24 } else { self.prefix };
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        let network = u32::from(self.ip) & mask;
        let last = network | !mask;
        let free = |address: u32, taken: &[Ipv4Addr]| {
            address & mask == network
                && address != network
                && address != last
                && !taken.contains(&Ipv4Addr::from(address))
        };
        let host = self
            .gateway
            .map(u32::from)
            .filter(|gateway| free(*gateway, &[self.ip]))
            .or_else(|| (network + 1..last).find(|address| free(*address, &[self.ip])))
            .map_or(GATEWAY, Ipv4Addr::from);
        let dns = (network + 1..last)
            .rev()
            .find(|address| free(*address, &[self.ip, host]))
            .map_or(GATEWAY, Ipv4Addr::from);
        let mut value = format!(
            "user,id={id},restrict=on,ipv6=off,net={}/{prefix},host={host},dns={dns},dhcpstart={}",
            Ipv4Addr::from(network),
            self.ip
        );
        for forward in forwards {
            value += &format!(
                ",hostfwd=tcp:{}:{}-{}:{}",
                self.reached_at(),
                forward.host_port,
                self.ip,
                forward.guest_port
            );
        }
        value
    }
}
