//! Finding out which kind of drive it is, and reading its files.

use std::fs;
use std::path::Path;

use serde_yaml_ng::Value;

/// The network part of a drive, in the form the drive has it.
#[derive(Debug, Default)]
pub enum Network {
    /// The drive says nothing about the network.
    #[default]
    None,
    /// cloud-init's network-config, version 1 or 2, without its outer `network:` key.
    Config(Value),
    /// Debian's `interfaces` text, which is what PVE puts into a ConfigDrive.
    Interfaces(String),
}

/// What was on the drive.
#[derive(Debug, Default)]
pub struct Seed {
    /// The user-data, as text.
    pub user_data: String,
    /// The meta-data (null when absent).
    pub meta_data: Value,
    /// The vendor-data, as text; same form as the user-data, which wins over it.
    pub vendor_data: String,
    /// The network configuration.
    pub network: Network,
}

/// Reads the drive mounted at `directory`: NoCloud when it has a `user-data`, ConfigDrive when it
/// has `openstack/latest`.
pub fn read(directory: &Path) -> Result<Seed, String> {
    if directory.join("user-data").exists() || directory.join("meta-data").exists() {
        return nocloud(directory);
    }
    if directory.join("openstack/latest").is_dir() {
        return configdrive(directory);
    }
    Err(format!(
        "{} holds neither user-data nor openstack/latest: not a cloud-init drive",
        directory.display()
    ))
}

fn nocloud(directory: &Path) -> Result<Seed, String> {
    let network = match text(&directory.join("network-config"))? {
        config if config.trim().is_empty() => Network::None,
        config => Network::Config(unwrap_network(yaml("network-config", &config)?)),
    };
    Ok(Seed {
        user_data: text(&directory.join("user-data"))?,
        meta_data: yaml("meta-data", &text(&directory.join("meta-data"))?)?,
        vendor_data: text(&directory.join("vendor-data"))?,
        network,
    })
}

fn configdrive(directory: &Path) -> Result<Seed, String> {
    let latest = directory.join("openstack/latest");
    let meta_data = yaml("meta_data.json", &text(&latest.join("meta_data.json"))?)?;
    let network = match meta_data["network_config"]["content_path"].as_str() {
        Some(path) => Network::Interfaces(text(
            &directory
                .join("openstack")
                .join(path.trim_start_matches('/')),
        )?),
        None => Network::None,
    };
    Ok(Seed {
        user_data: text(&latest.join("user_data"))?,
        meta_data,
        // PVE leaves vendor_data.json empty; nothing of ours writes one.
        vendor_data: String::new(),
        network,
    })
}

/// A file's text; empty when there is none.
fn text(path: &Path) -> Result<String, String> {
    match fs::read(path) {
        Ok(bytes) => {
            String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8", path.display()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

/// YAML (of which JSON is a part); null when empty.
pub fn yaml(what: &str, text: &str) -> Result<Value, String> {
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_yaml_ng::from_str(text).map_err(|error| format!("{what} is not YAML: {error}"))
}

/// A network-config may be wrapped in a top level `network:`.
fn unwrap_network(config: Value) -> Value {
    match config.get("network") {
        Some(inner) if inner.is_mapping() => inner.clone(),
        _ => config,
    }
}
