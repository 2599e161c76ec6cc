//! Values of variables that are not set, or set in short.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

pub fn disks_storage() -> String {
    "local-lvm".into()
}

pub fn ssh_port() -> u16 {
    22
}

pub fn installer_flake() -> String {
    "github:nixos-proxmox/nixos-proxmox#installer-iso".into()
}

pub fn installer_repo() -> String {
    "AnarchoBooleanism/nixos-cloud-init-installer".into()
}

pub fn installer_tag() -> String {
    "latest".into()
}

pub fn installer_asset() -> String {
    "nixos-cloud-init-installer-*-x86_64.iso".into()
}

pub fn installer_api_url() -> String {
    "https://api.github.com".into()
}

pub fn iso_storage() -> String {
    "local".into()
}

pub fn seed_drive() -> String {
    "ide0".into()
}

pub fn installer_drive() -> String {
    "ide2".into()
}

pub fn build_on() -> String {
    "local".into()
}

pub fn install_timeout() -> u64 {
    3600
}

pub fn console() -> bool {
    true
}

pub fn boot_timeout() -> u64 {
    600
}

pub fn ssh_user() -> String {
    "root".into()
}

pub fn state_root() -> PathBuf {
    "~/.local/state/nixos-proxmox".into()
}

pub fn template_vmid_range() -> String {
    "9000-9999".into()
}

pub fn deploy_timeout() -> u64 {
    120
}

/// A list, or a text whose commas separate items, as Ansible itself makes a list of it.
pub fn one_or_several<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Several(Vec<String>),
        One(String),
    }
    Ok(match Option::<Given>::deserialize(deserializer)? {
        None => None,
        Some(Given::Several(list)) => Some(list),
        Some(Given::One(text)) => Some(text.split(',').map(str::to_owned).collect()),
    })
}
