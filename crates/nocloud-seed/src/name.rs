//! Names of seed ISOs on a storage.

/// How every seed of this project begins.
const PREFIX: &str = "nixos-proxmox-seed-";

/// The file name of the seed for a VM whose content has this SHA-256 (hex).
/// Only letters, digits and dashes: Proxmox VE keeps such names as they are.
pub fn iso_name(vmid: u32, sha256: &str) -> String {
    format!(
        "{}{}.iso",
        iso_prefix(vmid),
        sha256.get(..12).unwrap_or(sha256)
    )
}

/// The VM that a seed of this file name was made for, if it is one.
pub fn iso_vmid(file_name: &str) -> Option<u32> {
    let (vmid, rest) = file_name.strip_prefix(PREFIX)?.split_once('-')?;
    let digits = rest.strip_suffix(".iso")?;
    let is_name = digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let number = vmid.parse::<u32>().ok().filter(|n| n.to_string() == vmid);
    number.filter(|_| is_name)
}

/// How the names of all seeds for a VM begin; no other VM's do.
pub fn iso_prefix(vmid: u32) -> String {
    format!("{PREFIX}{vmid}-")
}
