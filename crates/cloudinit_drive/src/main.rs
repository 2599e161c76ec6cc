//! The Ansible module `cloudinit_drive`.
fn main() {}
