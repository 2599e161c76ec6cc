//! From input to the files of a NoCloud seed.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::user_data::cloud_config;
use crate::{Error, HostKey, Nic, iso, iso_name, network, text, yaml};

/// The volume label by which cloud-init finds a NoCloud seed.
const LABEL: &str = "cidata";

/// Data that a user gives: structured, or a text to be passed on as it is.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// Passed on unchanged.
    Text(String),
    /// Written as YAML.
    Dict(Map<String, Value>),
}

/// What a seed is made of. Everything may be left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Input {
    /// The user's own user-data. A dictionary is merged with what the other
    /// fields ask for, its values winning; a text excludes them.
    pub user_data: Option<Payload>,
    /// vendor-data; user-data wins over it in the guest.
    pub vendor_data: Option<Payload>,
    /// More keys for meta-data. `instance-id` here replaces the computed one.
    pub meta_data: Map<String, Value>,
    /// The user's own network-config, version 1 or 2, instead of `nics`.
    pub network_config: Option<Payload>,
    /// The host name, with or without a domain.
    pub hostname: Option<String>,
    /// Public key lines that may log in as root.
    pub authorized_keys: Vec<String>,
    /// The guest's SSH host keys.
    pub host_keys: Vec<HostKey>,
    /// Addresses, from which a network-config of version 2 is made.
    pub nics: Vec<Nic>,
    /// DNS servers, for every NIC of `nics`.
    pub nameservers: Vec<String>,
    /// DNS search domains, for every NIC of `nics`.
    pub search_domains: Vec<String>,
}

/// The files of cloud-init's NoCloud data source.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed {
    user_data: String,
    meta_data: String,
    vendor_data: Option<String>,
    network_config: Option<String>,
    instance_id: String,
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seed")
            .field("instance_id", &self.instance_id)
            .finish_non_exhaustive()
    }
}

impl Seed {
    /// Makes a seed.
    ///
    /// # Errors
    /// [`Error`] when the input contradicts itself or holds what a guest could
    /// not use.
    pub fn new(input: &Input) -> Result<Self, Error> {
        if let Some(name) = &input.hostname
            && !is_hostname(name)
        {
            return Err(Error::Hostname(name.clone()));
        }
        let user_data = match &input.user_data {
            Some(Payload::Text(_)) if !input.authorized_keys.is_empty() => {
                return Err(Error::TextIsFixed("ssh_authorized_keys"));
            }
            Some(Payload::Text(_)) if !input.host_keys.is_empty() => {
                return Err(Error::TextIsFixed("ssh_host_keys"));
            }
            Some(Payload::Text(given)) => {
                text::user_data("user_data", given)?;
                given.clone()
            }
            Some(Payload::Dict(own)) => config_text(cloud_config(input, own.clone())?),
            None => config_text(cloud_config(input, Map::new())?),
        };
        let vendor_data = match &input.vendor_data {
            Some(Payload::Text(given)) => {
                text::user_data("vendor_data", given)?;
                Some(given.clone())
            }
            Some(Payload::Dict(dict)) => Some(config_text(dict.clone())),
            None => None,
        };
        let network_config = match &input.network_config {
            Some(Payload::Text(given)) => {
                text::yaml("network_config", given, false)?;
                Some(given.clone())
            }
            Some(Payload::Dict(dict)) => Some(yaml::to_string(&Value::Object(dict.clone()))),
            None if input.nics.is_empty() => None,
            None => Some(yaml::to_string(&network::network_config(
                &input.nics,
                &input.nameservers,
                &input.search_domains,
            ))),
        };

        let mut meta = Map::new();
        meta.insert("instance-id".into(), Value::Null);
        if let Some(name) = &input.hostname {
            meta.insert("local-hostname".into(), name.as_str().into());
        }
        meta.extend(input.meta_data.clone());
        if meta["instance-id"].is_null() {
            let parts = [
                Some(user_data.as_str()),
                vendor_data.as_deref(),
                network_config.as_deref(),
                Some(&yaml::to_string(&Value::Object(meta.clone()))),
            ];
            meta["instance-id"] = format!("nixos-proxmox-{}", &digest(&parts)[..32]).into();
        }
        let instance_id = match &meta["instance-id"] {
            Value::String(id) => id.clone(),
            other => other.to_string(),
        };
        let meta_data = yaml::to_string(&Value::Object(meta));
        Ok(Seed {
            user_data,
            meta_data,
            vendor_data,
            network_config,
            instance_id,
        })
    }

    /// The instance-id: computed from everything else, so that cloud-init runs
    /// again exactly when something changed.
    pub fn instance_id(&self) -> &str {
        &self.instance_id
    }

    /// The files by name.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let files = [
            ("user-data", Some(&self.user_data)),
            ("meta-data", Some(&self.meta_data)),
            ("vendor-data", self.vendor_data.as_ref()),
            ("network-config", self.network_config.as_ref()),
        ];
        files
            .into_iter()
            .filter_map(|(name, text)| Some((name.to_owned(), text?.clone().into_bytes())))
            .collect()
    }

    /// The drive: an ISO image labelled `cidata`.
    pub fn iso(&self) -> Vec<u8> {
        iso::write(LABEL, &self.files())
    }

    /// The SHA-256 (hex) of each file, to show what differs without showing it.
    pub fn fingerprints(&self) -> BTreeMap<String, String> {
        let hash = |bytes: Vec<u8>| hex::encode(Sha256::digest(bytes));
        self.files()
            .into_iter()
            .map(|(name, bytes)| (name, hash(bytes)))
            .collect()
    }

    /// The name of its ISO on a storage, which changes exactly when the content does.
    pub fn iso_name(&self, vmid: u32) -> String {
        iso_name(vmid, &hex::encode(Sha256::digest(self.iso())))
    }
}

/// A `#cloud-config` document.
fn config_text(config: Map<String, Value>) -> String {
    format!("#cloud-config\n{}", yaml::to_string(&Value::Object(config)))
}

/// SHA-256 (hex) over optional texts; their lengths go in too, so that moving
/// text from one to the next makes a difference.
fn digest(parts: &[Option<&str>]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        let length = part.map_or(u64::MAX, |text| text.len() as u64);
        hash.update(length.to_be_bytes());
        hash.update(part.unwrap_or_default());
    }
    hex::encode(hash.finalize())
}

/// Whether this is a host name or fully qualified name (RFC 1123, 2.1).
fn is_hostname(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}
