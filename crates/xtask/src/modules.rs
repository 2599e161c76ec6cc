//! The modules that the project consists of.

use ansible_module::{DocsError, Module, docs};

/// A module: its name, which is also that of its crate and binary, and its documentation.
pub struct Entry {
    /// `proxmox_iso`
    pub name: &'static str,
    /// Makes the text of `NAME.yml`.
    pub docs: fn() -> Result<String, DocsError>,
}

fn entry<M: Module>() -> Entry {
    Entry {
        name: M::NAME,
        docs: docs::<M>,
    }
}

/// All of them, in the order in which a play uses them.
pub fn all() -> [Entry; 9] {
    [
        entry::<proxmox_iso::ProxmoxIso>(),
        entry::<proxmox_nixos_vm::ProxmoxNixosVm>(),
        entry::<cloudinit_drive::CloudinitDrive>(),
        entry::<nixos_anywhere_install::NixosAnywhereInstall>(),
        entry::<nixos_vm_lifecycle::NixosVmLifecycle>(),
        entry::<proxmox_snapshot::ProxmoxSnapshot>(),
        entry::<nixos_deploy::NixosDeploy>(),
        entry::<nixos_vm_inventory::NixosVmInventory>(),
        entry::<nixos_vm_report::NixosVmReport>(),
    ]
}
