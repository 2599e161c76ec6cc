//! A PVE test host with a VM, and what other clients of it see and do.

use std::collections::BTreeMap;

use module_lab::{Host, Lab, shown};

pub const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPz6nYYnhYSNxX9pOeX5vY5mBxrYQf0Cm6bcHkMcvmq8 me@here";

/// A test host with VM 101: a disk, an installer ISO, one NIC; and the module.
pub fn lab() -> Lab {
    let host = Host::start(|_| ());
    std::fs::write(host.stored("nixos.iso"), vec![0; 65536]).unwrap();
    let vm = [
        ("vmid", "101"),
        ("name", "web1"),
        ("memory", "256"),
        ("scsihw", "virtio-scsi-single"),
        ("scsi0", "local:1"),
        ("ide2", "local:iso/nixos.iso,media=cdrom"),
        ("net0", "virtio=BC:24:11:00:00:0B,bridge=vmbr0"),
        ("boot", "order=scsi0;ide2"),
    ];
    host.post("/nodes/pve/qemu", &vm);
    Lab::new(host, env!("CARGO_BIN_EXE_cloudinit_drive")).keeping("correct-horse")
}

/// The VM's drives and boot order after its next start, and what PVE's own cloud-init drive is made of.
pub fn drives(lab: &Lab) -> String {
    let native =
        "ciuser cipassword sshkeys nameserver searchdomain citype ciupgrade ipconfig0 ipconfig1";
    let keys = format!("ide0 ide2 sata1 unused0 boot {native}");
    shown(&lab.config(101), &keys)
}

/// What [`drives`] is of a VM without a cloud-init drive.
pub const NO_DRIVE: &str = "ide2: local:iso/nixos.iso,media=cdrom,size=64K\nboot: order=scsi0;ide2";

/// The seed ISOs on `local`, with their content.
pub fn seeds(lab: &Lab) -> BTreeMap<String, Vec<u8>> {
    let isos = std::fs::read_dir(lab.stored("")).unwrap();
    isos.map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name() != "nixos.iso")
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect()
}
