//! Arguments as Ansible hands them over: options, or one line of JSON that refuses them.

#![no_main]

use ansible_module::{Module, arguments};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

fn check<M: Module>(given: &Map<String, Value>) {
    if let Err(answer) = arguments::<M>(given.clone()) {
        let answer: Value = serde_json::from_str(&answer).expect("an answer is JSON");
        assert_eq!(answer["failed"], true);
        assert!(answer["msg"].is_string() && answer["error"]["kind"].is_string());
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(given) = serde_json::from_slice::<Map<String, Value>>(data) else {
        return;
    };
    check::<cloudinit_drive::CloudinitDrive>(&given);
    check::<nixos_anywhere_install::NixosAnywhereInstall>(&given);
    check::<proxmox_iso::ProxmoxIso>(&given);
    check::<proxmox_nixos_vm::ProxmoxNixosVm>(&given);
    check::<proxmox_snapshot::ProxmoxSnapshot>(&given);
    check::<nixos_deploy::NixosDeploy>(&given);
    check::<nixos_vm_inventory::NixosVmInventory>(&given);
    check::<nixos_vm_report::NixosVmReport>(&given);
});
