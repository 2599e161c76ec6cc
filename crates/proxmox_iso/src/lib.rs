//! The Ansible module `proxmox_iso`.
