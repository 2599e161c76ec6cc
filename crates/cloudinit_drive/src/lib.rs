//! The Ansible module `cloudinit_drive`.
