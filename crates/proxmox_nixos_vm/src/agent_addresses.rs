//! The addresses that a guest agent reports, in the order in which they are preferred. The agent's word is the guest's: what is not
//! an address is left out.

use std::net::{IpAddr, Ipv6Addr};

use serde_json::Value;

use crate::options::AddressFamily;

/// The addresses of the NIC with this MAC address, the preferred first, without those of loopback and link.
///
/// What the guest has built upon the NIC, such as a bridge, has the same MAC address; what it has made up (containers' networks,
/// tunnels) has not.
pub fn of_nic(interfaces: &Value, mac: &str) -> Vec<IpAddr> {
    ordered(interfaces, mac, |nic| has_mac(nic, mac))
}

/// The addresses of all NICs, those of the NIC with this MAC address first.
pub fn of_guest(interfaces: &Value, mac: &str) -> Vec<IpAddr> {
    let mut all = of_nic(interfaces, mac);
    let others = ordered(interfaces, mac, |nic| {
        !has_mac(nic, mac) && nic["name"].as_str() != Some("lo")
    });
    for other in others {
        if !all.contains(&other) {
            all.push(other);
        }
    }
    all
}

/// The first address of this family. Any family is IPv4 first.
pub fn pick(addresses: &[IpAddr], family: AddressFamily) -> Option<IpAddr> {
    let fits = |address: &&IpAddr| match family {
        AddressFamily::Any => true,
        AddressFamily::Ipv4 => address.is_ipv4(),
        AddressFamily::Ipv6 => address.is_ipv6(),
    };
    addresses.iter().find(fits).copied()
}

fn has_mac(nic: &Value, mac: &str) -> bool {
    let own = nic["hardware-address"].as_str();
    own.is_some_and(|own| own.eq_ignore_ascii_case(mac))
}

/// IPv4 addresses as the agent lists them, then IPv6 addresses by their rank.
///
/// The agent does not say which IPv6 addresses are temporary (RFC 8981). Linux lists the address that it made last first, and makes
/// temporary addresses after the lasting one, over and over: so the last of a rank is the one that stays.
fn ordered(interfaces: &Value, mac: &str, which: impl Fn(&Value) -> bool) -> Vec<IpAddr> {
    let nics = interfaces.as_array().into_iter().flatten();
    let listed = nics
        .filter(|nic| which(nic))
        .flat_map(|nic| nic["ip-addresses"].as_array().into_iter().flatten());
    let mut v4 = Vec::new();
    let mut v6 = Vec::new();
    for address in listed {
        let text = address["ip-address"].as_str().unwrap_or_default();
        match text.parse() {
            Ok(ip) if is_local(ip) => {}
            Ok(IpAddr::V4(ip)) => v4.push(IpAddr::V4(ip)),
            Ok(IpAddr::V6(ip)) => v6.push((rank(ip, address["prefix"].as_u64(), mac), ip)),
            Err(_) => {}
        }
    }
    v6.reverse();
    v6.sort_by_key(|(rank, _)| *rank);
    let v6 = v6.into_iter().map(|(_, ip)| IpAddr::V6(ip));
    v4.into_iter().chain(v6).collect()
}

/// Whether an address means nothing beyond its link.
pub fn is_local(address: IpAddr) -> bool {
    let unusable = address.is_loopback() || address.is_unspecified() || address.is_multicast();
    unusable
        || match address {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.to_ipv4_mapped().is_some(),
        }
}

/// The lower, the rather. Addresses of the internet come before those of a site (fc00::/7), and those that are known to last
/// before the rest: from a DHCPv6 server (/128), or made from the MAC address (EUI-64).
fn rank(ip: Ipv6Addr, prefix: Option<u64>, mac: &str) -> (u8, u8) {
    let scope = match ip.segments()[0] {
        0x2000..=0x3fff => 0,
        0xfc00..=0xfdff => 1,
        _ => 2,
    };
    let lasts = prefix == Some(128) || is_made_from(ip, mac);
    (scope, u8::from(!lasts))
}

/// Whether the lower half is the modified EUI-64 of the MAC address (RFC 4291, appendix A).
fn is_made_from(ip: Ipv6Addr, mac: &str) -> bool {
    let bytes: Vec<u8> = mac
        .split(':')
        .filter_map(|part| u8::from_str_radix(part, 16).ok())
        .collect();
    match bytes[..] {
        [a, b, c, d, e, f] => ip.octets()[8..] == [a ^ 2, b, c, 0xff, 0xfe, d, e, f],
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MAC: &str = "BC:24:11:00:00:01";
    const OTHER: &str = "02:42:ac:00:00:01";

    fn nic(name: &str, mac: &str, addresses: &[&str]) -> Value {
        let addresses: Vec<Value> = addresses
            .iter()
            .map(|cidr| {
                let (ip, prefix) = cidr.split_once('/').unwrap();
                json!({"ip-address": ip, "prefix": prefix.parse::<u8>().unwrap()})
            })
            .collect();
        json!({"name": name, "hardware-address": mac, "ip-addresses": addresses})
    }

    fn own(addresses: &[&str]) -> Vec<String> {
        let nics = json!([
            nic("lo", "00:00:00:00:00:00", &["127.0.0.1/8", "::1/128"]),
            nic("docker0", OTHER, &["172.17.0.1/16"]),
            nic("ens18", &MAC.to_lowercase(), addresses),
            {"name": "sit0"},
        ]);
        let found = of_nic(&nics, MAC);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_address_is_that_of_the_vms_own_nic() {
        // What there is before DHCP has answered, or instead of it.
        assert_eq!(own(&["fe80::1/64", "169.254.1.1/16"]), [""; 0]);
        assert_eq!(own(&[]), [""; 0]);
        assert!(of_nic(&Value::Null, MAC).is_empty());
        let hostile = [
            "x/1",
            "::ffff:10.0.0.1/96",
            "ff02::1/64",
            "0.0.0.0/0",
            "::/0",
        ];
        assert_eq!(own(&hostile), [""; 0]);
        assert_eq!(
            own(&["fe80::1/64", "192.0.2.11/24", "192.0.2.12/24"]),
            ["192.0.2.11", "192.0.2.12"]
        );
        let bridged = json!([nic("ens18", MAC, &[]), nic("br0", MAC, &["192.0.2.11/24"])]);
        assert_eq!(
            of_nic(&bridged, MAC),
            ["192.0.2.11".parse::<IpAddr>().unwrap()]
        );
    }

    #[test]
    fn global_and_lasting_addresses_come_first() {
        let listed = [
            // A temporary address, made after the lasting one.
            "2001:db8::8d5a:1111:2222:3333/64",
            "2001:DB8:0:0::5054:ff/64",
            "fd00::77/64",
            "fd00::be24:11ff:fe00:1/64",
            "2001:db8::be24:11ff:fe00:1/64",
            "2001:db8::d/128",
            "fe80::be24:11ff:fe00:1/64",
            "192.0.2.11/24",
        ];
        assert_eq!(
            own(&listed),
            [
                "192.0.2.11",
                "2001:db8::d",
                "2001:db8::be24:11ff:fe00:1",
                "2001:db8::5054:ff",
                "2001:db8::8d5a:1111:2222:3333",
                "fd00::be24:11ff:fe00:1",
                "fd00::77",
            ]
        );
    }

    #[test]
    fn a_family_is_picked() {
        let both: Vec<IpAddr> = ["192.0.2.11", "2001:db8::11"]
            .map(|ip| ip.parse().unwrap())
            .to_vec();
        let picked = |addresses: &[IpAddr], family| {
            pick(addresses, family)
                .map(|ip| ip.to_string())
                .unwrap_or_default()
        };
        for (family, of_both, of_v6) in [
            (AddressFamily::Any, "192.0.2.11", "2001:db8::11"),
            (AddressFamily::Ipv4, "192.0.2.11", ""),
            (AddressFamily::Ipv6, "2001:db8::11", "2001:db8::11"),
        ] {
            assert_eq!(picked(&both, family), of_both, "{family:?}");
            assert_eq!(picked(&both[1..], family), of_v6, "{family:?}");
        }
    }

    #[test]
    fn the_vms_own_nic_comes_first() {
        let nics = json!([
            nic("lo", "00:00:00:00:00:00", &["192.0.2.99/32"]),
            nic("docker0", OTHER, &["172.17.0.1/16", "2001:db8:2::1/64"]),
            nic("ens18", MAC, &["2001:db8::11/64"]),
        ]);
        let all: Vec<String> = of_guest(&nics, MAC)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(all, ["2001:db8::11", "172.17.0.1", "2001:db8:2::1"]);
    }
}
