//! The Ansible module `nixos_anywhere_install`.
fn main() {}
