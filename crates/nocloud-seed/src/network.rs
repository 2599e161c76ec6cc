//! cloud-init's network-config, made from the addresses of a guest's NICs.

use serde_json::{Map, Value, json};

use crate::ip_config::{Address4, Address6, IpConfig};

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
