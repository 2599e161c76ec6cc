//! The two layouts of a seed: the same content under the names, and in the formats, of two of
//! cloud-init's data sources.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::findings::Findings;
use crate::{
    Address4, Address6, Error, Nic, Payload, ip_config, network, network_check, text, yaml,
};

/// Which of cloud-init's data sources the drive is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Layout {
    /// NoCloud: files in the root of a volume called `cidata`.
    #[default]
    Nocloud,
    /// ConfigDrive: OpenStack's files in a volume called `config-2`, read by cloud-init
    /// (cloudinit/sources/helpers/openstack.py), cloudbase-init, Ignition and Afterburn.
    ConfigDrive,
}

/// A seed's content; what is nothing gets no file.
pub(crate) struct Content<'a> {
    pub user_data: &'a str,
    pub meta_data: &'a Map<String, Value>,
    pub vendor_data: Option<&'a str>,
    pub network: Option<&'a str>,
}

impl Layout {
    /// The volume label by which a guest finds the drive.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Nocloud => "cidata",
            Self::ConfigDrive => "config-2",
        }
    }

    /// What the meta-data calls the instance-id.
    pub(crate) fn id_key(self) -> &'static str {
        self.meta_key("instance-id")
    }

    /// A key of the meta-data, by the name that it has with NoCloud (`KEY_COPIES` in
    /// cloudinit/sources/helpers/openstack.py).
    pub(crate) fn meta_key(self, key: &str) -> &str {
        match (self, key) {
            (Self::ConfigDrive, "instance-id") => "uuid",
            (Self::ConfigDrive, "local-hostname") => "hostname",
            _ => key,
        }
    }

    /// The meta-data as a file has it.
    pub(crate) fn meta_text(self, meta: &Map<String, Value>) -> String {
        match self {
            Self::Nocloud => yaml::to_string(&Value::Object(meta.clone())),
            Self::ConfigDrive => json_text(meta),
        }
    }

    /// Refuses keys in other spellings, what a data source would read as a reference to files that this drive has not, and one
    /// key under two names, of which only one value could be written.
    pub(crate) fn check_meta(self, meta: &Map<String, Value>) -> Result<(), Error> {
        let refuse = |problem| {
            Err(Error::Text {
                what: "meta_data".into(),
                problem,
            })
        };
        let name = "local-hostname";
        if !matches!(meta.get(name), None | Some(Value::String(_) | Value::Null)) {
            return refuse(format!("{name} must be a text; quote it"));
        }
        if self != Self::ConfigDrive {
            let other = |key: &&str| meta.contains_key(&key.replace('-', "_"));
            let known = ["instance-id", "local-hostname", "public-keys"];
            return match known.iter().find(|key| other(key)) {
                Some(key) => refuse(format!(
                    "has the key {}; cloud-init knows {key}",
                    key.replace('-', "_")
                )),
                None => Ok(()),
            };
        }
        let refers = ["files", "network_config"];
        if let Some(key) = refers.into_iter().find(|key| meta.contains_key(*key)) {
            return refuse(format!(
                "has the key {key}, which names further files on a config drive; give write_files in user_data, and \
                 network_config or ipconfig"
            ));
        }
        for key in ["instance-id", "local-hostname"] {
            let name = self.meta_key(key);
            if meta.contains_key(key) && meta.contains_key(name) {
                return refuse(format!(
                    "has both {key} and {name}, which are one key on a config drive; give one of them"
                ));
            }
        }
        Ok(())
    }

    /// The user's own network configuration.
    pub(crate) fn own_network(
        self,
        given: &Payload,
        warnings: &mut Vec<String>,
    ) -> Result<String, Error> {
        const WHAT: &str = "network_config";
        match (self, given) {
            (Self::Nocloud, Payload::Text(given)) => {
                let root = text::yaml(WHAT, given)?;
                if let Value::Object(config) = root.to_json() {
                    check_own_network(&config).settle(WHAT, Some(&root), warnings)?;
                }
                Ok(given.clone())
            }
            (Self::Nocloud, Payload::Dict(dict)) => {
                check_own_network(dict).settle(WHAT, None, warnings)?;
                Ok(yaml::to_string(&Value::Object(dict.clone())))
            }
            (Self::ConfigDrive, Payload::Text(given)) => {
                let dict = serde_json::from_str(given).map_err(|e| Error::Text {
                    what: "network_config".into(),
                    // The parser's own words may quote the text.
                    problem: format!(
                        "is not a JSON dictionary: line {}, column {}",
                        e.line(),
                        e.column()
                    ),
                })?;
                check_network_data(&dict)?;
                Ok(given.clone())
            }
            (Self::ConfigDrive, Payload::Dict(dict)) => {
                check_network_data(dict)?;
                Ok(json_text(dict))
            }
        }
    }

    /// A network configuration that gives `nics` their addresses.
    pub(crate) fn network(self, nics: &[Nic], nameservers: &[String], search: &[String]) -> String {
        match self {
            Self::Nocloud => yaml::to_string(&network::network_config(nics, nameservers, search)),
            Self::ConfigDrive => json_text(&network_data(nics, nameservers, search)),
        }
    }

    /// The files by path.
    pub(crate) fn files(self, content: &Content<'_>) -> BTreeMap<String, Vec<u8>> {
        let meta_data = self.meta_text(content.meta_data);
        let user_data = content.user_data.to_owned();
        let network = content.network.map(str::to_owned);
        let files = match self {
            Self::Nocloud => [
                ("user-data", Some(user_data)),
                ("meta-data", Some(meta_data)),
                ("vendor-data", content.vendor_data.map(str::to_owned)),
                ("network-config", network),
            ],
            Self::ConfigDrive => [
                ("openstack/latest/user_data", Some(user_data)),
                ("openstack/latest/meta_data.json", Some(meta_data)),
                // The vendor data is a dictionary by consumer (`convert_vendordata`).
                (
                    "openstack/latest/vendor_data.json",
                    content
                        .vendor_data
                        .map(|text| format!("{}\n", json!({ "cloud-init": text }))),
                ),
                ("openstack/latest/network_data.json", network),
            ],
        };
        files
            .into_iter()
            .filter_map(|(path, text)| Some((path.to_owned(), text?.into_bytes())))
            .collect()
    }
}

/// cloud-init takes a `network` key off, which Netplan's own files have (stages.py).
fn check_own_network(config: &Map<String, Value>) -> Findings {
    match config.get("network") {
        Some(Value::Object(inner)) => network_check::check(inner).below("network"),
        _ => network_check::check(config),
    }
}

fn json_text(dict: &Map<String, Value>) -> String {
    format!("{}\n", Value::Object(dict.clone()))
}

/// Refuses what cannot be a `network_data.json`, above all cloud-init's own formats.
fn check_network_data(dict: &Map<String, Value>) -> Result<(), Error> {
    let known = ["links", "networks", "services"];
    let lists = |key: &&String| known.contains(&key.as_str()) && dict[key.as_str()].is_array();
    match dict.keys().all(|key| lists(&key)) {
        true => Ok(()),
        false => Err(Error::Text {
            what: "network_config".into(),
            problem: "must be a config drive's network_data.json, with lists links, networks and services; \
                      cloud-init's versions 1 and 2 are for the NoCloud layout, and ipconfig is for both"
                .into(),
        }),
    }
}

/// OpenStack's `network_data.json`, as cloud-init reads it (`convert_net_json`). Search domains are
/// cloud-init's addition to it.
fn network_data(nics: &[Nic], nameservers: &[String], search: &[String]) -> Map<String, Value> {
    let mut links = Vec::new();
    let mut networks: Vec<Value> = Vec::new();
    for nic in nics {
        links.push(json!({
            "id": nic.name,
            "type": "phy",
            "ethernet_mac_address": nic.mac.to_ascii_lowercase(),
        }));
        let (off_link4, off_link6) = nic.ip.gateways_off_link();
        let ip = nic.ip.ip.map(|ip| match ip {
            Address4::Dhcp => json!({ "type": "ipv4_dhcp" }),
            Address4::Static(address, prefix) => json!({
                "type": "ipv4",
                "ip_address": address.to_string(),
                "netmask": ip_config::mask4(prefix).to_string(),
                "routes": routes("0.0.0.0", nic.ip.gw.map(|gw| gw.to_string()), off_link4.map(|gw| (gw.to_string(), ip_config::mask4(32).to_string()))),
            }),
        });
        let ip6 = nic.ip.ip6.map(|ip| match ip {
            Address6::Dhcp => json!({ "type": "ipv6_dhcp" }),
            Address6::Auto => json!({ "type": "ipv6_slaac" }),
            Address6::Static(address, prefix) => json!({
                "type": "ipv6",
                "ip_address": address.to_string(),
                "netmask": ip_config::mask6(prefix).to_string(),
                "routes": routes("::", nic.ip.gw6.map(|gw| gw.to_string()), off_link6.map(|gw| (gw.to_string(), ip_config::mask6(128).to_string()))),
            }),
        });
        for mut entry in ip.into_iter().chain(ip6) {
            entry["id"] = format!("network{}", networks.len()).into();
            entry["link"] = nic.name.as_str().into();
            if !search.is_empty() {
                entry["dns_search"] = search.into();
            }
            networks.push(entry);
        }
    }
    let mut services: Vec<Value> = nameservers
        .iter()
        .map(|address| json!({ "type": "dns", "address": address }))
        .collect();
    // For networkd cloud-init leaves out what a network says that has no fixed address.
    if let Some(first) = services.first_mut().filter(|_| !search.is_empty()) {
        first["search"] = search.into();
    }
    Map::from_iter([
        ("links".to_owned(), links.into()),
        ("networks".to_owned(), networks.into()),
        ("services".to_owned(), services.into()),
    ])
}

/// The default route, whose network and netmask are both this, and before it the one to a gateway off the link.
fn routes(any: &str, gateway: Option<String>, off_link: Option<(String, String)>) -> Value {
    let to_gateway = off_link.map(
        |(gateway, netmask)| json!({ "network": gateway, "netmask": netmask, "gateway": any }),
    );
    let default =
        gateway.map(|gateway| json!({ "network": any, "netmask": any, "gateway": gateway }));
    to_gateway.into_iter().chain(default).collect()
}
