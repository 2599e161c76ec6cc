//! What NoCloud media attached to a VM say of its network, so that the host knows a guest's address
//! before the guest does.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde_yaml_ng::Value;

use super::address::{Address, Wanted};

/// Media that are larger are no seeds, and are not read.
const LARGEST_SEED: u64 = 16 << 20;

/// The `network-config` of every attached medium labelled `cidata`, in the order of the drives.
/// Media that cannot be read are the guest's problem, not the network's: they are passed over.
pub(super) fn network_configs(volumes: &BTreeMap<String, PathBuf>) -> Vec<Value> {
    volumes
        .values()
        .filter_map(|file| network_config(file))
        .collect()
}

fn network_config(file: &Path) -> Option<Value> {
    let mut file = File::open(file).ok()?;
    if file.metadata().ok()?.len() > LARGEST_SEED {
        return None;
    }
    let mut image = Vec::new();
    file.by_ref()
        .take(LARGEST_SEED)
        .read_to_end(&mut image)
        .ok()?;
    let label = nocloud_seed::iso::label(&image).ok()?;
    if !label.eq_ignore_ascii_case("cidata") {
        return None;
    }
    let files = nocloud_seed::iso::read(&image).ok()?;
    serde_yaml_ng::from_slice(files.get("network-config")?).ok()
}

/// What a network configuration of version 1 or 2 says of NIC `index` with `mac`. An entry is the
/// NIC's when it names its MAC; entries that name none are the NICs in their order.
pub(super) fn wanted(network: &Value, index: u32, mac: &str) -> Option<Wanted> {
    let network = network.get("network").unwrap_or(network);
    match network.get("version")?.as_u64()? {
        1 => {
            let devices = network.get("config")?.as_sequence()?.iter();
            let devices = devices.filter(|device| text(device, "type") == Some("physical"));
            let device = pick(devices, index, mac, |device| text(device, "mac_address"))?;
            let subnets = device.get("subnets")?.as_sequence()?;
            subnets.iter().find_map(version_1_subnet)
        }
        2 => {
            let devices = network.get("ethernets")?.as_mapping()?.values();
            let device = pick(devices, index, mac, |device| {
                text(device.get("match")?, "macaddress")
            })?;
            version_2_device(device)
        }
        _ => None,
    }
}

fn pick<'a>(
    devices: impl Iterator<Item = &'a Value>,
    index: u32,
    mac: &str,
    mac_of: impl Fn(&'a Value) -> Option<&'a str>,
) -> Option<&'a Value> {
    let (named, unnamed): (Vec<_>, Vec<_>) = devices.partition(|device| mac_of(device).is_some());
    named
        .into_iter()
        .find(|device| mac_of(device).is_some_and(|found| found.eq_ignore_ascii_case(mac)))
        .or_else(|| unnamed.get(usize::try_from(index).ok()?).copied())
}

fn version_1_subnet(subnet: &Value) -> Option<Wanted> {
    match text(subnet, "type")? {
        "dhcp" | "dhcp4" => Some(Wanted::Dhcp),
        "static" => {
            let address = text(subnet, "address")?;
            let cidr = match (address.contains('/'), text(subnet, "netmask")) {
                (true, _) => address.to_owned(),
                (false, Some(mask)) => format!("{address}/{}", prefix(mask)?),
                (false, None) => format!("{address}/24"),
            };
            Address::parse(&cidr, text(subnet, "gateway")).map(Wanted::Static)
        }
        _ => None,
    }
}

fn version_2_device(device: &Value) -> Option<Wanted> {
    let routes = device.get("routes").and_then(Value::as_sequence);
    let default_route = routes.into_iter().flatten().find_map(|route| {
        matches!(text(route, "to")?, "default" | "0.0.0.0/0").then(|| text(route, "via"))?
    });
    let gateway = text(device, "gateway4").or(default_route);
    let addresses = device.get("addresses").and_then(Value::as_sequence);
    let fixed = addresses
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .find_map(|cidr| Address::parse(cidr, gateway))
        .map(Wanted::Static);
    let dhcp = device.get("dhcp4").and_then(Value::as_bool) == Some(true);
    fixed.or(dhcp.then_some(Wanted::Dhcp))
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str()
}

/// The prefix length of `255.255.255.0`, or of `24`.
fn prefix(mask: &str) -> Option<u32> {
    match mask.parse::<Ipv4Addr>() {
        Ok(mask) => Some(u32::from(mask).leading_ones()),
        Err(_) => mask.parse().ok(),
    }
}
