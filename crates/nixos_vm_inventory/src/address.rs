//! The address of a host.

use std::net::IpAddr;

use proxmox_nixos_vm::agent_addresses::{is_local, of_guest, of_nic};
use pve_client::property::PropertyString;
use pve_schema::syntax::is_any_mac;
use serde_json::{Map, Value, json};

use crate::details::Config;
use crate::list::line;
use crate::options::{AddressSource, Family, Options};

/// The most NICs of a guest, and the most addresses of one, that are taken over.
const MOST: usize = 64;

/// How networks that a guest made up begin: containers, bridges of hypervisors, tunnels. Their addresses lead nowhere from outside.
const MADE_UP: [&str; 17] = [
    "lo",
    "docker",
    "veth",
    "br-",
    "virbr",
    "cni",
    "flannel",
    "cali",
    "podman",
    "lxc",
    "lxd",
    "vnet",
    "tun",
    "tap",
    "tailscale",
    "wg",
    "zt",
];

/// The address of the host: of the first source that has one, and of the preferred family if it has such an address.
pub fn of(
    options: &Options,
    config: Option<&Config>,
    interfaces: Option<&Value>,
) -> Option<IpAddr> {
    options.address_sources.iter().find_map(|source| {
        let found = match source {
            AddressSource::Agent => from_agent(interfaces?, config),
            AddressSource::Ipconfig => from_ipconfig(config?),
        };
        preferred(&found, options.prefer_family)
    })
}

fn preferred(addresses: &[IpAddr], family: Family) -> Option<IpAddr> {
    let of_family = addresses.iter().find(|address| match family {
        Family::Ipv4 => address.is_ipv4(),
        Family::Ipv6 => address.is_ipv6(),
    });
    of_family.or(addresses.first()).copied()
}

/// The addresses that the agent reports. With the configuration, those of the VM's own NICs in their order; without it, those of all NICs
/// that do not look made up.
fn from_agent(interfaces: &Value, config: Option<&Config>) -> Vec<IpAddr> {
    let Some(config) = config else {
        let nics = interfaces.as_array().into_iter().flatten();
        let real = nics.filter(|nic| {
            let name = nic["name"].as_str().unwrap_or_default();
            !MADE_UP.iter().any(|start| name.starts_with(start))
        });
        return of_guest(&real.take(MOST).cloned().collect(), "");
    };
    let macs = (0..32).filter_map(|n| mac(config.text(&format!("net{n}"))?));
    macs.flat_map(|mac| of_nic(interfaces, &mac)).collect()
}

/// `BC:24:11:00:00:01` of `virtio=BC:24:11:00:00:01,bridge=vmbr0`.
fn mac(nic: &str) -> Option<String> {
    let values = nic
        .split(',')
        .filter_map(|part| Some(part.split_once('=')?.1));
    values
        .map(str::trim)
        .find(|text| is_any_mac(text))
        .map(str::to_owned)
}

/// The fixed addresses that cloud-init gives the guest.
fn from_ipconfig(config: &Config) -> Vec<IpAddr> {
    let texts = (0..32).filter_map(|n| config.text(&format!("ipconfig{n}")));
    let parsed: Vec<PropertyString> = texts
        .filter_map(|text| PropertyString::parse(text, None).ok())
        .collect();
    let addresses = parsed
        .iter()
        .flat_map(|parts| [parts.get("ip"), parts.get("ip6")])
        .flatten();
    let addresses = addresses.filter_map(|cidr| cidr.split('/').next()?.trim().parse().ok());
    addresses.filter(|address| !is_local(*address)).collect()
}

/// The NICs that the agent reports, in the form of `community.proxmox`: `{name, mac-address, ip-addresses}`.
pub fn interfaces(answer: &Value) -> Vec<Value> {
    let nics = answer
        .as_array()
        .into_iter()
        .flatten()
        .filter(|nic| nic.is_object());
    let shown = nics.take(MOST).map(|nic| {
        let string = |value: &Value, key: &str| {
            line(value.get(key).and_then(Value::as_str).unwrap_or_default())
        };
        let addresses = nic
            .get("ip-addresses")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let addresses = addresses.filter_map(|address| {
            let ip: IpAddr = address.get("ip-address")?.as_str()?.parse().ok()?;
            let most = if ip.is_ipv4() { 32 } else { 128 };
            let prefix = address
                .get("prefix")?
                .as_u64()
                .filter(|prefix| *prefix <= most)?;
            Some(format!("{ip}/{prefix}"))
        });
        let mut made = Map::new();
        made.insert("name".into(), string(nic, "name").into());
        made.insert("mac-address".into(), string(nic, "hardware-address").into());
        made.insert(
            "ip-addresses".into(),
            json!(addresses.take(MOST).collect::<Vec<_>>()),
        );
        Value::Object(made)
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> Value {
        let nic = |name: &str, mac: &str, addresses: &[(&str, u64)]| {
            let list: Vec<Value> = addresses
                .iter()
                .map(|(ip, prefix)| json!({"ip-address": ip, "prefix": prefix}))
                .collect();
            json!({"name": name, "hardware-address": mac, "ip-addresses": list})
        };
        json!([
            nic("lo", "00:00:00:00:00:00", &[("127.0.0.1", 8)]),
            nic("docker0", "02:42:ac:00:00:01", &[("172.17.0.1", 16)]),
            nic("ens19", "bc:24:11:00:00:02", &[("10.0.0.5", 24)]),
            nic(
                "ens18",
                "bc:24:11:00:00:01",
                &[("fe80::1", 64), ("192.0.2.11", 24), ("2001:db8::11", 64)]
            ),
        ])
    }

    fn config(more: Value) -> Config {
        let mut config = json!({"net1": "virtio=BC:24:11:00:00:02,bridge=vmbr1", "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0"});
        config
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        Config(config.as_object().unwrap().clone())
    }

    fn chosen(options: Value, config: Option<&Config>, interfaces: Option<&Value>) -> String {
        of(&crate::options::given(options), config, interfaces)
            .map(|ip| ip.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn the_address_is_of_the_first_nic_and_the_preferred_family() {
        let (agent, plain) = (agent(), config(json!({})));
        // Which NIC is the first is in the configuration only.
        assert_eq!(chosen(json!({}), None, Some(&agent)), "10.0.0.5");
        assert_eq!(chosen(json!({}), Some(&plain), Some(&agent)), "192.0.2.11");
        assert_eq!(
            chosen(json!({"prefer_family": "ipv6"}), Some(&plain), Some(&agent)),
            "2001:db8::11"
        );
        let v4 = json!([agent[2]]);
        assert_eq!(
            chosen(json!({"prefer_family": "ipv6"}), None, Some(&v4)),
            "10.0.0.5"
        );
        assert_eq!(
            chosen(json!({"address_sources": []}), Some(&plain), Some(&agent)),
            ""
        );
    }

    #[test]
    fn an_address_that_leads_elsewhere_is_not_taken() {
        let only = |ip: &str| json!([{"name": "ens18", "hardware-address": "bc:24:11:00:00:01", "ip-addresses": [{"ip-address": ip, "prefix": 8}]}]);
        for ip in [
            "127.0.0.1",
            "::1",
            "0.0.0.0",
            "::ffff:127.0.0.1",
            "224.0.0.1",
            "169.254.0.1",
            "fe80::1",
            "-oProxyCommand=x",
            "web2",
        ] {
            assert_eq!(chosen(json!({}), None, Some(&only(ip))), "", "{ip}");
            let config = config(json!({"ipconfig0": format!("ip={ip}/8,ip6={ip}/8")}));
            assert_eq!(
                chosen(
                    json!({"address_sources": ["ipconfig"]}),
                    Some(&config),
                    None
                ),
                "",
                "{ip}"
            );
        }
        assert_eq!(
            chosen(
                json!({}),
                None,
                Some(&json!({"error": {"class": "Unsupported"}}))
            ),
            ""
        );
    }

    #[test]
    fn cloud_inits_addresses_serve_where_no_agent_answers() {
        let both = json!({"address_sources": ["agent", "ipconfig"]});
        let fixed = config(
            json!({"ipconfig0": "ip=dhcp,ip6=auto", "ipconfig1": "gw=192.0.2.1,ip=192.0.2.40/24,ip6=2001:db8::40/64"}),
        );
        assert_eq!(chosen(both.clone(), Some(&fixed), None), "192.0.2.40");
        assert_eq!(
            chosen(both.clone(), Some(&fixed), Some(&agent())),
            "192.0.2.11"
        );
        assert_eq!(
            chosen(both, Some(&config(json!({"ipconfig0": "ip=manual"}))), None),
            ""
        );
        assert_eq!(chosen(json!({}), Some(&fixed), None), "");
    }

    #[test]
    fn interfaces_are_bounded_and_cleaned() {
        let shown = interfaces(&agent());
        assert_eq!(
            shown[3],
            json!({"name": "ens18", "mac-address": "bc:24:11:00:00:01", "ip-addresses": ["fe80::1/64", "192.0.2.11/24", "2001:db8::11/64"]})
        );
        let many = json!({"name": "x\u{1b}[2J", "ip-addresses": vec![json!({"ip-address": "10.0.0.1", "prefix": 8}); 1000]});
        let shown = interfaces(&Value::from(vec![many; 1000]));
        assert_eq!(
            (
                shown.len(),
                shown[0]["ip-addresses"].as_array().unwrap().len()
            ),
            (MOST, MOST)
        );
        assert!(!shown[0]["name"].as_str().unwrap().contains('\u{1b}'));
        let bad = json!([{"name": 1, "ip-addresses": [{"ip-address": "x", "prefix": 8}, {"ip-address": "10.0.0.1", "prefix": 99}, 5]}, "x"]);
        assert_eq!(
            interfaces(&bad),
            [json!({"name": "", "mac-address": "", "ip-addresses": []})]
        );
    }
}
