//! What is wrong with the addresses in the variables, by the variables' own names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nixos_anywhere_install::host_problem;
use nocloud_seed::{Address4, Address6, IpConfig};
use proxmox_nixos_vm::options::AddressFamily;
use pve_module::record::Phase;
use serde_json::Value;

use crate::module_args::{NicAddresses, keyed, normal, words_of};
use crate::options::{FIRST, Settings};

/// All that is wrong, whatever the NIC.
pub fn mistakes(settings: &Settings) -> Vec<String> {
    let mut mistakes = words(settings);
    if mistakes.is_empty() {
        mistakes.extend(first_nic(settings));
    }
    mistakes.extend(other_nics(settings));
    mistakes.extend(default_routes(settings));
    mistakes.extend(reached_at(settings));
    mistakes.extend(name_servers(settings));
    mistakes
}

/// The words of `nixos_vm_ip` and `nixos_vm_gateway`, each by itself.
fn words(settings: &Settings) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut nic = NicAddresses::default();
    for word in words_of(settings.ip.as_ref()) {
        let (key, value) = keyed(word);
        if !["ip", "gw", "ip6", "gw6"].contains(&key) {
            mistakes.push(format!(
                "nixos_vm_ip: '{key}' is not one of ip, gw, ip6 and gw6 (got {word})"
            ));
        } else if !word.contains('=') && !["dhcp", "auto"].contains(&value) && !is_cidr(value) {
            mistakes.push(format!(
                "nixos_vm_ip: must be an address with the length of its prefix (192.0.2.11/24, 2001:db8::11/64), dhcp, dhcp6 or \
                 slaac (got {word})"
            ));
        } else if let Some(other) = nic.put(key, value) {
            mistakes.push(format!(
                "nixos_vm_ip: {other} and {value} are two values of {key}; give one for each of IPv4 and IPv6 (other NICs have \
                 nixos_vm_ipconfig)"
            ));
        }
    }
    for word in words_of(settings.gateway.as_ref()) {
        let key = if word.contains(':') { "gw6" } else { "gw" };
        let zoneless = word.split('%').next().unwrap_or_default();
        if word.parse::<IpAddr>().is_ok() {
            if let Some(other) = nic.put(key, word) {
                mistakes.push(format!(
                    "nixos_vm_gateway: {other} and {word} are two gateways of one family; give one for each of IPv4 and IPv6"
                ));
            }
        } else if zoneless.parse::<Ipv6Addr>().is_ok() {
            mistakes.push(format!(
                "nixos_vm_gateway: must not have a zone (got {word}); write {zoneless}, which is on the first NIC"
            ));
        } else {
            mistakes.push(format!(
                "nixos_vm_gateway: must be an IP address (got {word})"
            ));
        }
    }
    mistakes
}

fn is_cidr(word: &str) -> bool {
    word.split_once('/').is_some_and(|(address, prefix)| {
        address.parse::<IpAddr>().is_ok() && prefix.parse::<u8>().is_ok()
    })
}

/// The first NIC as a whole.
fn first_nic(settings: &Settings) -> Vec<String> {
    let nic = settings.first_nic();
    if nic.is_empty() {
        return Vec::new();
    }
    let by_ipconfig = has_first_ipconfig(settings);
    let mut mistakes = Vec::new();
    let variable = |key: &str| match key {
        _ if by_ipconfig => format!("nixos_vm_ipconfig.{FIRST}: {key}"),
        "gw" | "gw6" if words_of(settings.gateway.as_ref()).next().is_some() => {
            "nixos_vm_gateway".to_owned()
        }
        _ => "nixos_vm_ip".to_owned(),
    };
    match nic.read() {
        Ok(config) => mistakes.extend(link_local(&config).map(|(key, address)| {
            format!(
                "{}: is a link-local address, at which nothing beyond the link reaches the machine (got {address}); give \
                 another address",
                variable(key)
            )
        })),
        Err(wrong) => mistakes.extend(wrong.iter().map(|wrong| format!("{}: {}", variable(wrong.key), wrong.reason()))),
    }
    if by_ipconfig {
        mistakes.extend(contradictions(settings, &nic));
    } else {
        mistakes.extend(gateways_of_no_address(settings, &nic));
    }
    mistakes
}

fn has_first_ipconfig(settings: &Settings) -> bool {
    let own = settings.ipconfig.as_ref().and_then(|nics| nics.get(FIRST));
    own.is_some_and(|own| !NicAddresses::of(own).is_empty())
}

/// The fixed address of a NIC that means nothing beyond its link.
fn link_local(config: &IpConfig) -> Option<(&'static str, IpAddr)> {
    match (config.ip, config.ip6) {
        (Some(Address4::Static(address, _)), _) if address.is_link_local() => {
            Some(("ip", address.into()))
        }
        (_, Some(Address6::Static(address, _))) if address.is_unicast_link_local() => {
            Some(("ip6", address.into()))
        }
        _ => None,
    }
}

/// `nixos_vm_ip` beside an `ipconfig0` that says something else.
fn contradictions(settings: &Settings, nic: &NicAddresses) -> Option<String> {
    let mut written = NicAddresses::default();
    for word in words_of(settings.ip.as_ref()) {
        let (key, value) = keyed(word);
        written.put(key, value);
    }
    let same = |one: &Option<String>, other: &Option<String>| {
        one.is_none() || value_of(one) == value_of(other)
    };
    let agree = same(&written.ip, &nic.ip) && same(&written.ip6, &nic.ip6);
    (!agree).then(|| {
        format!("nixos_vm_ip: is not what nixos_vm_ipconfig.{FIRST} has for the first NIC; keep one of them")
    })
}

/// An address with its prefix, whatever its spelling.
fn value_of(text: &Option<String>) -> Option<(String, String)> {
    let text = text.as_deref()?;
    let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
    Some((normal(address), prefix.to_owned()))
}

/// Gateways of which none is of a family that the first NIC has an address of. A group may give both, whatever its hosts have; and
/// where the network gives the addresses, none counts.
fn gateways_of_no_address(settings: &Settings, nic: &NicAddresses) -> Option<String> {
    let of_family = |gateway: &str| match gateway.contains(':') {
        true => nic.ip6.is_some(),
        false => nic.ip.is_some(),
    };
    let mut gateways = words_of(settings.gateway.as_ref());
    let first = gateways.next()?;
    if settings.fixed_addresses().is_empty() || of_family(first) || gateways.any(of_family) {
        return None;
    }
    let family = if first.contains(':') { "IPv6" } else { "IPv4" };
    Some(format!(
        "nixos_vm_gateway: {first} is an {family} gateway, but nixos_vm_ip has no {family} address; leave it out, or add the address"
    ))
}

/// The NICs beside the first.
fn other_nics(settings: &Settings) -> Vec<String> {
    let vm = settings.vm(Phase::Provisioning, None);
    let nets = vm.get("net").and_then(Value::as_object);
    let has = |net: &str| nets.is_some_and(|nets| nets.get(net).is_some_and(|nic| !nic.is_null()));
    let mut mistakes = Vec::new();
    for (key, value) in settings.ipconfig.iter().flatten() {
        let at = format!("nixos_vm_ipconfig.{key}");
        let Some(number) = key.strip_prefix("ipconfig") else {
            mistakes.push(format!("{at}: must be ipconfig0 to ipconfig31"));
            continue;
        };
        let nic = NicAddresses::of(value);
        let understood = match value {
            Value::String(text) if !text.trim().is_empty() => IpConfig::parse(&at, text).map(drop),
            _ => Ok(()),
        };
        if let (Err(error), true) = (understood, nic.is_empty() || nic.read().is_ok()) {
            mistakes.push(error.to_string());
        }
        if nic.is_empty() {
            continue;
        }
        if !has(&format!("net{number}")) {
            mistakes.push(format!("{at}: has no NIC; add net{number} to nixos_vm_net"));
        }
        if key == FIRST {
            continue;
        }
        match nic.read() {
            Ok(config) => mistakes.extend(shared(settings, &config).map(|address| {
                format!(
                    "{at}: {address} is the address of the first NIC, too; give each NIC its own"
                )
            })),
            Err(wrong) => mistakes.extend(wrong.iter().map(|wrong| format!("{at}: {wrong}"))),
        }
    }
    mistakes
}

/// A fixed address of a NIC that the first one has, too.
fn shared(settings: &Settings, config: &IpConfig) -> Option<String> {
    let own = [
        match config.ip {
            Some(Address4::Static(address, _)) => Some(IpAddr::from(address)),
            _ => None,
        },
        match config.ip6 {
            Some(Address6::Static(address, _)) => Some(IpAddr::from(address)),
            _ => None,
        },
    ];
    let fixed = settings.fixed_addresses();
    own.into_iter()
        .flatten()
        .map(|address| address.to_string())
        .find(|address| fixed.contains(address))
}

/// Gateways of one family on several NICs: a system has one default route for each, and of two nobody knows which it takes.
fn default_routes(settings: &Settings) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut seen: [Option<(String, IpAddr)>; 2] = [None, None];
    for (key, value) in settings.ipconfigs() {
        let Ok(config) = NicAddresses::of(&value).read() else {
            continue;
        };
        let gateways = [config.gw.map(IpAddr::from), config.gw6.map(IpAddr::from)];
        for ((seen, gateway), (family, word)) in seen
            .iter_mut()
            .zip(gateways)
            .zip([("IPv4", "gw"), ("IPv6", "gw6")])
        {
            let Some(gateway) = gateway else { continue };
            let at = match key.as_str() {
                FIRST if !has_first_ipconfig(settings) => "nixos_vm_gateway".to_owned(),
                _ => format!("nixos_vm_ipconfig.{key}"),
            };
            match seen {
                None => *seen = Some((at, gateway)),
                Some((first, known)) => mistakes.push(format!(
                    "{at}: {word}={gateway} is a second {family} default route beside {known} of {first}; leave one of them out"
                )),
            }
        }
    }
    mistakes
}

/// Where the controller reaches the machine.
fn reached_at(settings: &Settings) -> Vec<String> {
    let mut mistakes = Vec::new();
    if let Some(host) = settings.written_address() {
        if let Some(problem) = host_problem(host) {
            let problem = ["user", "host", "port"].iter().fold(problem, |text, word| {
                text.replace(&format!(" {word}: "), &format!(" ansible_{word}: "))
            });
            mistakes.push(format!("nixos_vm_address (ansible_host): {problem}"));
        } else if host
            .trim_matches(['[', ']'])
            .parse::<Ipv6Addr>()
            .is_ok_and(|ip| ip.is_unicast_link_local())
        {
            mistakes.push(format!(
                "nixos_vm_address (ansible_host): a link-local address needs the controller's NIC as its zone (got {host}); write \
                 {host}%eth0, for example"
            ));
        }
        return mistakes;
    }
    let nic = settings.first_nic();
    let lacking = match settings.address_family {
        AddressFamily::Ipv4 if nic.ip.is_none() => "IPv4",
        AddressFamily::Ipv6 if nic.ip6.is_none() => "IPv6",
        _ => return mistakes,
    };
    if !nic.is_empty() {
        mistakes.push(format!(
            "nixos_vm_address_family: is {}, but nixos_vm_ip has no {lacking} address",
            lacking.to_lowercase()
        ));
    }
    mistakes
}

fn name_servers(settings: &Settings) -> Vec<String> {
    let is_address =
        |word: &str| word.parse::<Ipv4Addr>().is_ok() || word.parse::<Ipv6Addr>().is_ok();
    words_of(settings.nameservers.as_ref())
        .filter(|word| !is_address(word))
        .map(|word| format!("nixos_vm_nameservers: must be IP addresses (got {word})"))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(more: Value) -> Vec<String> {
        mistakes(&Settings::with(more))
    }

    #[test]
    fn what_works_is_not_refused() {
        let two = json!({"net0": "virtio,bridge=vmbr0", "net1": "virtio,bridge=vmbr1,tag=20"});
        for variables in [
            json!({}),
            json!({"ip": ["dhcp"], "gateway": ["192.0.2.1"]}),
            json!({"ip": ["192.0.2.11/24"], "gateway": ["192.0.2.1"]}),
            json!({"ip": ["192.0.2.11/32"], "gateway": ["198.51.100.1"]}),
            json!({"ip": ["192.0.2.10/31"], "gateway": ["192.0.2.11"]}),
            json!({"ip": ["192.0.2.11/24"], "gateway": ["203.0.113.1"]}),
            json!({"ip": ["2001:db8::11/64"], "gateway": ["fe80::1"], "nameservers": ["2001:db8::53"]}),
            json!({"ip": ["2001:db8::11/128"], "gateway": ["2001:db8:1::1"]}),
            json!({"ip": ["dhcp", "slaac"], "address_family": "ipv6"}),
            json!({"ip": ["dhcp6"]}),
            // A group gives the gateways of all hosts, which have one family each.
            json!({"ip": ["192.0.2.11/24"], "gateway": ["192.0.2.1", "fe80::1"]}),
            json!({"ip": ["slaac"], "gateway": ["192.0.2.1"]}),
            json!({"ip": ["ip=192.0.2.11/24", "gw=192.0.2.1", "ip6=auto"]}),
            json!({"ip": ["192.0.2.11/24"], "address": "fe80::1%eth0"}),
            json!({"ip": ["192.0.2.11/24"], "address": "[2001:db8::11]"}),
            json!({
                "ip": ["192.0.2.11/24"], "gateway": ["192.0.2.1"], "net": two,
                "ipconfig": {"ipconfig1": {"ip": "198.51.100.11/24", "ip6": "2001:db8::11/64", "gw6": "fe80::1"}},
            }),
            // The same, written otherwise.
            json!({"ip": ["2001:DB8::11/64"], "ipconfig": {"ipconfig0": "ip6=2001:db8:0::11/64,gw6=fe80::1"}}),
        ] {
            assert_eq!(found(variables.clone()), [""; 0], "{variables}");
        }
    }

    #[test]
    fn mistakes_are_found_together_by_their_variables() {
        insta::assert_snapshot!(found(json!({
            "ip": ["nowhere", "ipv6=::1/64"], "gateway": ["here", "fe80::1%eth0"], "nameservers": ["resolver"],
            "address": "root@[2001:db8::1]:22", "ipconfig": {"ipconfig1": "ip=192.0.2.0/24,gw=192.0.2.300", "net1": "ip=dhcp"},
        })).join("\n"), @"
        nixos_vm_ip: must be an address with the length of its prefix (192.0.2.11/24, 2001:db8::11/64), dhcp, dhcp6 or slaac (got nowhere)
        nixos_vm_ip: 'ipv6' is not one of ip, gw, ip6 and gw6 (got ipv6=::1/64)
        nixos_vm_gateway: must be an IP address (got here)
        nixos_vm_gateway: must not have a zone (got fe80::1%eth0); write fe80::1, which is on the first NIC
        nixos_vm_ipconfig.ipconfig1: has no NIC; add net1 to nixos_vm_net
        nixos_vm_ipconfig.ipconfig1: ip: is the address of the network itself or its broadcast address (got \"192.0.2.0/24\"); give the NIC's own
        nixos_vm_ipconfig.ipconfig1: gw: is not an IPv4 address (got \"192.0.2.300\")
        nixos_vm_ipconfig.net1: must be ipconfig0 to ipconfig31
        nixos_vm_address (ansible_host): must be a host name or an address only (got \"root@[2001:db8::1]:22\"); write ansible_user: root, ansible_host: 2001:db8::1 and ansible_port: 22
        nixos_vm_nameservers: must be IP addresses (got resolver)
        ");
    }

    #[test]
    fn each_rule_has_its_words() {
        for (variables, expected) in [
            (
                json!({"ip": ["192.0.2.11/24", "192.0.2.12/24"]}),
                "nixos_vm_ip: 192.0.2.11/24 and 192.0.2.12/24 are two values of ip; give one for each of IPv4 and IPv6 (other NICs have nixos_vm_ipconfig)",
            ),
            (
                json!({"ip": ["192.0.2.11/24"], "gateway": ["192.0.2.1", "192.0.2.2"]}),
                "nixos_vm_gateway: 192.0.2.1 and 192.0.2.2 are two gateways of one family; give one for each of IPv4 and IPv6",
            ),
            (
                json!({"ip": ["192.0.2.11/24"], "gateway": ["fe80::1"]}),
                "nixos_vm_gateway: fe80::1 is an IPv6 gateway, but nixos_vm_ip has no IPv6 address; leave it out, or add the address",
            ),
            (
                json!({"ip": ["2001:db8::11/64"], "gateway": ["2001:DB8:0::11"]}),
                "nixos_vm_gateway: is the address of the NIC itself (got \"2001:DB8:0::11\"); give the router's",
            ),
            (
                json!({"ip": ["192.0.2.11/24"], "gateway": ["192.0.2.255"]}),
                "nixos_vm_gateway: is the address of the network itself or its broadcast address (got \"192.0.2.255\"); give the router's",
            ),
            (
                json!({"ip": ["fe80::11/64"]}),
                "nixos_vm_ip: is a link-local address, at which nothing beyond the link reaches the machine (got fe80::11); give another address",
            ),
            (
                json!({"ip": ["ff02::11/64"]}),
                "nixos_vm_ip: is not an address that a NIC can have (got \"ff02::11/64\")",
            ),
            (
                json!({"ip": ["::ffff:192.0.2.11/120"]}),
                "nixos_vm_ip: is an IPv4 address in IPv6 notation (got \"::ffff:192.0.2.11/120\"); give it as an IPv4 address",
            ),
            (
                json!({"ip": ["192.0.2.11/24"], "ipconfig": {"ipconfig0": "ip=192.0.2.12/24"}}),
                "nixos_vm_ip: is not what nixos_vm_ipconfig.ipconfig0 has for the first NIC; keep one of them",
            ),
            (
                json!({"ip": ["192.0.2.11/24"], "address_family": "ipv6"}),
                "nixos_vm_address_family: is ipv6, but nixos_vm_ip has no IPv6 address",
            ),
            (
                json!({"ip": ["dhcp"], "address": "fe80::1"}),
                "nixos_vm_address (ansible_host): a link-local address needs the controller's NIC as its zone (got fe80::1); write fe80::1%eth0, for example",
            ),
        ] {
            assert_eq!(found(variables.clone()), [expected], "{variables}");
        }
        let two = json!({"net0": "virtio,bridge=vmbr0", "net1": "virtio,bridge=vmbr1"});
        for (ip, gateway, other, expected) in [
            (
                "192.0.2.11/24",
                "192.0.2.1",
                "ip=198.51.100.11/24,gw=198.51.100.1",
                "nixos_vm_ipconfig.ipconfig1: gw=198.51.100.1 is a second IPv4 default route beside 192.0.2.1 of nixos_vm_gateway; leave one of them out",
            ),
            (
                "2001:db8::11/64",
                "fe80::1",
                "ip6=2001:db8:1::11/64,gw6=fe80::1",
                "nixos_vm_ipconfig.ipconfig1: gw6=fe80::1 is a second IPv6 default route beside fe80::1 of nixos_vm_gateway; leave one of them out",
            ),
            (
                "2001:db8::11/64",
                "fe80::1",
                "ip6=2001:DB8:0::11/64",
                "nixos_vm_ipconfig.ipconfig1: 2001:db8::11 is the address of the first NIC, too; give each NIC its own",
            ),
        ] {
            let variables = json!({"ip": [ip], "gateway": [gateway], "net": two, "ipconfig": {"ipconfig1": other}});
            assert_eq!(found(variables), [expected]);
        }
    }
}
