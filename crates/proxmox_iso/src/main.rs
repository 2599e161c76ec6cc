//! The Ansible module `proxmox_iso`.
fn main() {}
