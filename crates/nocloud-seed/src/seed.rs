//! From input to the files of a seed.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::host_name::is_hostname;
use crate::input::Input;
use crate::layout::Content;
use crate::payload::Payload;
use crate::user_data::{cloud_config, rewrite_host_keys};
use crate::{Error, Layout, PublicKeyLine, cloud_config, iso, iso_name, text, yaml};

/// The files of a cloud-init drive.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed {
    layout: Layout,
    files: BTreeMap<String, Vec<u8>>,
    instance_id: String,
    warnings: Vec<String>,
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
        let mut warnings = Vec::new();
        for (index, line) in input.authorized_keys.iter().enumerate() {
            if PublicKeyLine::parse(line).is_ok_and(|read| read.is_certificate) {
                warnings.push(format!(
                    "ssh_authorized_keys: key {} is a certificate, which sshd takes from no such line; give the key of \
                     its authority with the option cert-authority",
                    index + 1
                ));
            }
        }
        let user_data = user_data(input, &mut warnings)?;
        let vendor_data = vendor_data(input, &mut warnings)?;
        check_nameservers(&input.nameservers)?;
        let layout = input.layout;
        let network = match &input.network_config {
            Some(own) => Some(layout.own_network(own, &mut warnings)?),
            None if input.nics.is_empty() => None,
            None => Some(layout.network(&input.nics, &input.nameservers, &input.search_domains)),
        };

        layout.check_meta(&input.meta_data)?;
        let meta = meta_data(
            input,
            &user_data,
            vendor_data.as_deref(),
            network.as_deref(),
        );
        let instance_id = match &meta[layout.id_key()] {
            Value::String(id) => id.clone(),
            other => other.to_string(),
        };
        let files = layout.files(&Content {
            user_data: &user_data,
            meta_data: &meta,
            vendor_data: vendor_data.as_deref(),
            network: network.as_deref(),
        });
        Ok(Seed {
            layout,
            files,
            instance_id,
            warnings,
        })
    }

    /// The instance-id: computed from everything else, so that cloud-init runs
    /// again exactly when something changed.
    pub fn instance_id(&self) -> &str {
        &self.instance_id
    }

    /// What the guest will not do, or not as it may be meant.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The files by path.
    pub fn files(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.files
    }

    /// The drive: an ISO image labelled `cidata`, or `config-2` with a config drive's layout.
    pub fn iso(&self) -> Vec<u8> {
        iso::write(self.layout.label(), &self.files)
    }

    /// The SHA-256 (hex) of each file, to show what differs without showing it.
    pub fn fingerprints(&self) -> BTreeMap<String, String> {
        self.files
            .iter()
            .map(|(name, bytes)| (name.clone(), hex::encode(Sha256::digest(bytes))))
            .collect()
    }

    /// The name of its ISO on a storage, which changes exactly when the content does.
    pub fn iso_name(&self, vmid: u32) -> String {
        iso_name(vmid, &hex::encode(Sha256::digest(self.iso())))
    }
}

fn user_data(input: &Input, warnings: &mut Vec<String>) -> Result<String, Error> {
    match &input.user_data {
        Some(Payload::Text(_)) if !input.authorized_keys.is_empty() => {
            Err(Error::TextIsFixed("ssh_authorized_keys"))
        }
        Some(Payload::Text(_)) if !input.host_keys.is_empty() => {
            Err(Error::TextIsFixed("ssh_host_keys"))
        }
        Some(Payload::Text(given)) => {
            check_text("user_data", given, warnings)?;
            Ok(given.clone())
        }
        Some(Payload::Dict(own)) => {
            let mut own = own.clone();
            rewrite_host_keys(&mut own);
            cloud_config::check(&own).settle("user_data", None, warnings)?;
            Ok(config_text(cloud_config(input, own)?))
        }
        None => Ok(config_text(cloud_config(input, Map::new())?)),
    }
}

fn vendor_data(input: &Input, warnings: &mut Vec<String>) -> Result<Option<String>, Error> {
    match &input.vendor_data {
        Some(Payload::Text(given)) => {
            check_text("vendor_data", given, warnings)?;
            Ok(Some(given.clone()))
        }
        Some(Payload::Dict(dict)) => {
            cloud_config::check(dict).settle("vendor_data", None, warnings)?;
            Ok(Some(config_text(dict.clone())))
        }
        None => Ok(None),
    }
}

/// The meta-data. Its instance ID comes from the content of all files, unless it was given.
fn meta_data(
    input: &Input,
    user_data: &str,
    vendor_data: Option<&str>,
    network: Option<&str>,
) -> Map<String, Value> {
    let layout = input.layout;
    let id_key = layout.id_key();
    let mut meta = Map::new();
    meta.insert(id_key.into(), Value::Null);
    if let Some(name) = &input.hostname {
        let key = layout.meta_key("local-hostname");
        meta.insert(key.into(), name.as_str().into());
    }
    let own = input.meta_data.clone().into_iter();
    meta.extend(own.map(|(key, value)| (layout.meta_key(&key).to_owned(), value)));
    if meta[id_key].is_null() {
        let text = layout.meta_text(&meta);
        let parts = [Some(user_data), vendor_data, network, Some(text.as_str())];
        meta[id_key] = format!("nixos-proxmox-{}", &digest(&parts)[..32]).into();
    }
    meta
}

/// Refuse a name server that is not an IP address, with or without a zone.
fn check_nameservers(nameservers: &[String]) -> Result<(), Error> {
    let address = |text: &str| text.split('%').next()?.parse::<std::net::IpAddr>().ok();
    match nameservers.iter().find(|text| address(text).is_none()) {
        None => Ok(()),
        Some(text) => Err(Error::Network {
            what: format!("nameservers: {text:?}"),
            problem: "is not an IP address".into(),
        }),
    }
}

/// Checks user-data or vendor-data that is passed on as it is.
fn check_text(what: &str, given: &str, warnings: &mut Vec<String>) -> Result<(), Error> {
    for found in text::user_data(what, given, warnings)? {
        if let Value::Object(config) = found.root.to_json() {
            cloud_config::check(&config).settle(&found.what, Some(&found.root), warnings)?;
        }
    }
    Ok(())
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
