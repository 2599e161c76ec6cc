//! The Ansible module `proxmox_nixos_vm`.
fn main() {}
