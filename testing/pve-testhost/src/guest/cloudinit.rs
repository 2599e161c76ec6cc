//! The cloud-init drive that PVE builds from a VM's configuration.
//!
//! The texts are put together as `PVE::QemuServer::Cloudinit` does it: by hand, unquoted, in its
//! order. What a guest makes of PVE's drive depends on these bytes, quirks included (the empty
//! `vendor_data.json` that cloud-init refuses, an interface configuration that begins with the
//! name servers).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::Ipv4Addr;

use percent_encoding::percent_decode_str;
use sha1::{Digest, Sha1};

use super::config::{Config, Properties};
use super::net;

/// Size of the volume, whatever the files take.
pub const DRIVE_SIZE: usize = 4 << 20;

/// Most that all files together may take.
const LARGEST_SUM: usize = 3 << 20;

/// Where [`with_resolver`] puts the node's own resolver settings, which guests get when their configuration has none.
const NODE_SEARCH: &str = "node:search";
/// The name servers.
const NODE_SERVERS: &str = "node:nameserver";

/// A configuration together with the resolver settings of the node it is on.
pub fn with_resolver(config: &Config, search: Option<&str>, servers: &[&str]) -> Config {
    let mut config = config.clone();
    config.insert(NODE_SEARCH.into(), search.unwrap_or_default().to_owned());
    config.insert(NODE_SERVERS.into(), servers.join(" "));
    config
}

/// Contents of snippets (`cicustom`), each of which replaces what PVE would write.
#[derive(Clone, Debug, Default)]
pub struct Custom {
    /// `user=`
    pub user: Option<String>,
    /// `network=`
    pub network: Option<String>,
    /// `meta=`
    pub meta: Option<String>,
    /// `vendor=`
    pub vendor: Option<String>,
}

/// What is on a cloud-init drive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drive {
    /// The volume's label, by which a guest finds it.
    pub label: &'static str,
    /// Path (no leading slash) to content.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Drive {
    /// The raw content of the volume: an ISO 9660 image, [`DRIVE_SIZE`] long.
    pub fn image(&self) -> Vec<u8> {
        let mut image = nocloud_seed::iso::write(self.label, &self.files);
        image.resize(image.len().max(DRIVE_SIZE), 0);
        image
    }
}

/// The drive of VM `vmid`.
///
/// # Errors
/// PVE's texts: an address without a prefix length, a NIC without a MAC address, snippets that
/// are too large.
pub fn drive(
    vmid: u32,
    config: &BTreeMap<String, String>,
    custom: &Custom,
) -> Result<Drive, String> {
    let kind = kind(config);
    let user = custom
        .user
        .clone()
        .unwrap_or_else(|| user_data(vmid, config));
    let network = match &custom.network {
        Some(network) => network.clone(),
        None => network_data(config)?,
    };
    let meta = custom
        .meta
        .clone()
        .unwrap_or_else(|| kind.meta_data(&user, &network));
    let vendor = custom.vendor.clone().unwrap_or_default();
    if user.len() + network.len() + meta.len() + vendor.len() > LARGEST_SUM {
        return Err("Cloud-Init sum of snippets too big (> 3 MiB)".into());
    }
    let (label, names) = match kind {
        Kind::NoCloud => (
            "cidata",
            ["user-data", "network-config", "meta-data", "vendor-data"],
        ),
        Kind::ConfigDrive2 => (
            "config-2",
            [
                "openstack/latest/user_data",
                "openstack/content/0000",
                "openstack/latest/meta_data.json",
                "openstack/latest/vendor_data.json",
            ],
        ),
    };
    let contents = [user, network, meta, vendor];
    let files = names.into_iter().map(str::to_owned);
    Ok(Drive {
        label,
        files: files.zip(contents.map(String::into_bytes)).collect(),
    })
}

/// The user-data PVE makes of `ciuser`, `cipassword`, `sshkeys` and the VM's name.
pub fn user_data(vmid: u32, config: &BTreeMap<String, String>) -> String {
    let (hostname, fqdn) = names(vmid, config);
    let mut text =
        format!("#cloud-config\nhostname: {hostname}\nmanage_etc_hosts: true\nfqdn: {fqdn}\n");
    let user = config.get("ciuser");
    if let Some(user) = user {
        text += &format!("user: {user}\n");
        if user == "root" {
            text += "disable_root: False\n";
        }
    }
    if let Some(password) = config.get("cipassword") {
        text += &format!("password: {password}\n");
    }
    if let Some(keys) = config.get("sshkeys") {
        text += "ssh_authorized_keys:\n";
        let keys = percent_decode_str(keys).decode_utf8_lossy();
        for key in keys.lines().filter(|key| !key.trim().is_empty()) {
            text += &format!("  - {key}\n");
        }
    }
    text += "chpasswd:\n  expire: False\n";
    if user.is_none_or(|user| user != "root") {
        text += "users:\n  - default\n";
    }
    if config.get("ciupgrade").is_none_or(|upgrade| upgrade != "0") {
        text += "package_upgrade: true\n";
    }
    text
}

/// The network configuration PVE makes of `ipconfigN`, `nameserver` and `searchdomain`.
///
/// # Errors
/// See [`drive`].
pub fn network_data(config: &BTreeMap<String, String>) -> Result<String, String> {
    match kind(config) {
        Kind::NoCloud => network_version_1(config),
        Kind::ConfigDrive2 => network_interfaces(config),
    }
}

/// The meta-data that goes with what [`user_data`] and [`network_data`] give.
///
/// # Errors
/// See [`drive`].
pub fn meta_data(vmid: u32, config: &BTreeMap<String, String>) -> Result<String, String> {
    Ok(kind(config).meta_data(&user_data(vmid, config), &network_data(config)?))
}

#[derive(Clone, Copy)]
enum Kind {
    NoCloud,
    ConfigDrive2,
}

/// `citype`, or what suits the guest: Windows' cloudbase-init knows ConfigDrive only.
fn kind(config: &Config) -> Kind {
    let windows = || {
        config.get("ostype").is_some_and(|ostype| {
            ostype.starts_with("win")
                || matches!(ostype.as_str(), "wxp" | "w2k" | "w2k3" | "w2k8" | "wvista")
        })
    };
    match config.get("citype").map(String::as_str) {
        Some("configdrive2") => Kind::ConfigDrive2,
        None if windows() => Kind::ConfigDrive2,
        _ => Kind::NoCloud,
    }
}

impl Kind {
    /// The instance id changes with the content, so that a guest applies a changed one.
    fn meta_data(self, user: &str, network: &str) -> String {
        let id = hex::encode(Sha1::digest(format!("{user}{network}")));
        match self {
            Kind::NoCloud => format!("instance-id: {id}\n"),
            Kind::ConfigDrive2 => format!(
                "{{\n     \"uuid\": \"{id}\",\n     \"network_config\": {{ \"content_path\": \"/content/0000\" }}\n}}\n"
            ),
        }
    }
}

/// Host name and full name.
fn names(vmid: u32, config: &Config) -> (String, String) {
    let name = config
        .get("name")
        .cloned()
        .unwrap_or_else(|| format!("VM{vmid}"));
    if let Some((host, _)) = name.split_once('.') {
        return (host.to_owned(), name);
    }
    match config.get("searchdomain") {
        Some(domain) => (name.clone(), format!("{name}.{domain}")),
        None => (name.clone(), name),
    }
}

/// Search domains and name servers.
fn resolver(config: &Config) -> (Vec<String>, Vec<String>) {
    let words = |key: &str, of_node: &str| {
        let value = config.get(key).or_else(|| config.get(of_node));
        let words = value.map_or("", String::as_str).split_whitespace();
        words.map(str::to_owned).collect()
    };
    (
        words("searchdomain", NODE_SEARCH),
        words("nameserver", NODE_SERVERS),
    )
}

/// NICs that have an `ipconfigN`, in PVE's (textual) order: number, card, ipconfig.
fn configured_cards(config: &Config) -> impl Iterator<Item = (u32, &str, Properties<'_>)> {
    config.iter().filter_map(|(key, card)| {
        let index = super::config::index(key, "net")?;
        let ipconfig = config.get(&format!("ipconfig{index}"))?;
        Some((index, card.as_str(), Properties::parse(ipconfig)))
    })
}

/// Address and dotted mask of `192.0.2.11/24`.
fn split_ip4(cidr: &str) -> Result<(&str, Ipv4Addr), String> {
    let (address, prefix) = cidr
        .split_once('/')
        .ok_or_else(|| format!("not a CIDR: {cidr}"))?;
    let prefix: u32 = prefix
        .parse()
        .ok()
        .filter(|prefix| *prefix <= 32)
        .ok_or_else(|| format!("not a CIDR: {cidr}"))?;
    let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
    Ok((address, Ipv4Addr::from(mask)))
}

/// Appending to a string cannot fail; this spares each line of PVE's text the proof.
macro_rules! line {
    ($text:expr, $($arguments:tt)*) => {
        let _ = writeln!($text, $($arguments)*);
    };
}

fn network_version_1(config: &Config) -> Result<String, String> {
    let mut text = String::from("version: 1\nconfig:\n");
    for (index, card, ip) in configured_cards(config) {
        let (_, mac) = net::card(card)
            .ok_or_else(|| format!("network interface 'net{index}' has no mac address"))?;
        line!(text, "    - type: physical");
        line!(text, "      name: eth{index}");
        line!(text, "      mac_address: '{}'", mac.to_lowercase());
        line!(text, "      subnets:");
        match ip.get("ip") {
            None => {}
            Some("dhcp") => {
                line!(text, "      - type: dhcp4");
            }
            Some(cidr) => {
                let (address, mask) = split_ip4(cidr)?;
                line!(text, "      - type: static");
                line!(text, "        address: '{address}'");
                line!(text, "        netmask: '{mask}'");
                if let Some(gateway) = ip.get("gw") {
                    line!(text, "        gateway: '{gateway}'");
                }
            }
        }
        match ip.get("ip6") {
            None => {}
            Some("dhcp") => {
                line!(text, "      - type: dhcp6");
            }
            Some("auto") => {
                line!(text, "      - type: ipv6_slaac");
            }
            Some(cidr) => {
                line!(text, "      - type: static6");
                line!(text, "        address: '{cidr}'");
                if let Some(gateway) = ip.get("gw6") {
                    line!(text, "        gateway: '{gateway}'");
                }
            }
        }
    }
    let (search, nameservers) = resolver(config);
    line!(text, "    - type: nameserver");
    for (key, values) in [("address", nameservers), ("search", search)] {
        if !values.is_empty() {
            line!(text, "      {key}:");
        }
        for value in values {
            line!(text, "      - '{value}'");
        }
    }
    Ok(text)
}

fn network_interfaces(config: &Config) -> Result<String, String> {
    let mut text = String::from("auto lo\niface lo inet loopback\n\n");
    let (search, nameservers) = resolver(config);
    for (key, values) in [("dns_nameservers", nameservers), ("dns_search", search)] {
        if !values.is_empty() {
            line!(text, "        {key} {}", values.join(" "));
        }
    }
    for (index, _, ip) in configured_cards(config) {
        line!(text, "auto eth{index}");
        match ip.get("ip") {
            None => {}
            Some("dhcp") => {
                line!(text, "iface eth{index} inet dhcp");
            }
            Some(cidr) => {
                let (address, mask) = split_ip4(cidr)?;
                line!(text, "iface eth{index} inet static");
                line!(text, "        address {address}");
                line!(text, "        netmask {mask}");
                if let Some(gateway) = ip.get("gw") {
                    line!(text, "        gateway {gateway}");
                }
            }
        }
        match ip.get("ip6") {
            None => {}
            Some(how @ ("dhcp" | "auto")) => {
                line!(text, "iface eth{index} inet6 {how}");
            }
            Some(cidr) => {
                let (address, prefix) = cidr.split_once('/').unwrap_or((cidr, "128"));
                line!(text, "iface eth{index} inet6 static");
                line!(text, "        address {address}");
                line!(text, "        netmask {prefix}");
                if let Some(gateway) = ip.get("gw6") {
                    line!(text, "        gateway {gateway}");
                }
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(extra: &[(&str, &str)]) -> Config {
        [
            ("name", "web1"),
            ("net0", "virtio=BC:24:11:00:00:0B,bridge=vmbr0"),
            ("net1", "virtio=BC:24:11:00:00:0C,bridge=vmbr0"),
            ("net2", "virtio=BC:24:11:00:00:0D,bridge=vmbr0"),
            ("ciuser", "root"),
            ("cipassword", "$5$salt$hash"),
            (
                "sshkeys",
                "ssh-ed25519%20AAAA%2B%2F%3D%20me%40here%0A%0Assh-ed25519%20BBBB%0A",
            ),
            ("ciupgrade", "0"),
            (
                "ipconfig0",
                "ip=10.77.0.11/24,gw=10.77.0.1,ip6=fd00::b/64,gw6=fd00::1",
            ),
            ("ipconfig2", "ip=dhcp,ip6=auto"),
            ("nameserver", "192.0.2.53 192.0.2.54"),
            ("searchdomain", "example.test"),
        ]
        .iter()
        .chain(extra)
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
    }

    fn show(drive: &Drive) -> String {
        let mut text = format!("label {}\n", drive.label);
        for (name, content) in &drive.files {
            text += &format!("== {name}\n{}", String::from_utf8_lossy(content));
        }
        text
    }

    #[test]
    fn a_nocloud_drive() {
        let drive = drive(101, &config(&[]), &Custom::default()).unwrap();
        insta::assert_snapshot!(show(&drive));
        let image = drive.image();
        assert_eq!(image.len(), DRIVE_SIZE);
        assert_eq!(nocloud_seed::iso::label(&image).unwrap(), "cidata");
        assert_eq!(nocloud_seed::iso::read(&image).unwrap(), drive.files);
    }

    #[test]
    fn a_configdrive() {
        let config = config(&[("citype", "configdrive2")]);
        insta::assert_snapshot!(show(&drive(101, &config, &Custom::default()).unwrap()));
    }

    #[test]
    fn next_to_nothing_configured() {
        let config = Config::from([("name".to_owned(), "ci".to_owned())]);
        // Recorded from a real PVE.
        assert_eq!(
            user_data(116, &config),
            "#cloud-config\nhostname: ci\nmanage_etc_hosts: true\nfqdn: ci\nchpasswd:\n  expire: False\nusers:\n  - default\npackage_upgrade: true\n"
        );
        assert!(user_data(116, &Config::new()).contains("hostname: VM116\n"));
    }

    #[test]
    fn the_instance_follows_the_content() {
        let meta = |extra: &[(&str, &str)]| meta_data(101, &config(extra)).unwrap();
        assert_eq!(meta(&[]), meta(&[("memory", "4096")]));
        assert_ne!(meta(&[]), meta(&[("name", "web2")]));
        assert_ne!(meta(&[]), meta(&[("ipconfig2", "ip=dhcp")]));
    }

    #[test]
    fn snippets_replace_and_are_limited() {
        let custom = Custom {
            user: Some("#cloud-config\n{}\n".into()),
            vendor: Some("{}".into()),
            ..Custom::default()
        };
        let drive = drive(101, &config(&[]), &custom).unwrap();
        assert_eq!(drive.files["user-data"], b"#cloud-config\n{}\n");
        assert_eq!(drive.files["vendor-data"], b"{}");
        let large = Custom {
            user: Some("x".repeat(LARGEST_SUM + 1)),
            ..Custom::default()
        };
        assert_eq!(
            super::drive(101, &config(&[]), &large).unwrap_err(),
            "Cloud-Init sum of snippets too big (> 3 MiB)"
        );
    }

    #[test]
    fn an_address_needs_its_prefix() {
        let config = config(&[("ipconfig0", "ip=10.77.0.11")]);
        assert_eq!(network_data(&config).unwrap_err(), "not a CIDR: 10.77.0.11");
    }
}
