//! A PVE test host with a VM, and what other clients of it see and do.

use std::process::Command;

use module_lab::{Host, Lab, with};
use serde_json::{Value, json};

const VM: &str = "/nodes/pve/qemu/101";

/// A test host with VM 101 (`web1`), whose only disk is a qcow2 image on `local`; and the module.
pub fn lab() -> Lab {
    let host = Host::start(|_| ());
    let vm = [
        ("vmid", "101"),
        ("name", "web1"),
        ("memory", "256"),
        ("scsi0", "local:0.0625,format=qcow2"),
        ("tags", "one"),
        ("description", "notes"),
    ];
    host.post("/nodes/pve/qemu", &vm);
    Lab::new(host, env!("CARGO_BIN_EXE_proxmox_snapshot"))
}

/// A lab whose module has what these sections of docs/privileges.md grant.
pub fn documented(headings: &[&str]) -> Lab {
    let text = include_str!("../../../../docs/privileges.md");
    lab().granted(&pve_testhost::pveum::sections(text, headings))
}

/// Options for a snapshot of `web1`.
pub fn snapshot(name: &str, more: Value) -> Value {
    let usual = json!({"name": "web1", "snapname": name, "timeout": 60});
    with(usual, more)
}

/// Take a snapshot as another client does.
pub fn take(lab: &Lab, name: &str) {
    lab.post(&format!("{VM}/snapshot"), &[("snapname", name)]);
}

/// The names of the snapshots, as another client sees them, sorted.
pub fn snapshots(lab: &Lab) -> Vec<String> {
    let list = lab.get(&format!("{VM}/snapshot"));
    let name = |entry: &Value| entry["name"].as_str().unwrap().to_owned();
    let mut names: Vec<String> = list.as_array().unwrap().iter().map(name).collect();
    names.retain(|name| name != "current");
    names.sort();
    names
}

/// Write a byte all over the first 4 KiB of the disk.
pub fn write_disk(lab: &Lab, byte: u8) {
    assert!(qemu_io(lab, &format!("write -P {byte} 0 4k")));
}

/// Is this byte all over the first 4 KiB of the disk?
pub fn disk_has(lab: &Lab, byte: u8) -> bool {
    qemu_io(lab, &format!("read -P {byte} 0 4k"))
}

fn qemu_io(lab: &Lab, command: &str) -> bool {
    let disk = lab.path("pve/storage/local/images/101/vm-101-disk-0.qcow2");
    let mut qemu_io = Command::new("qemu-io");
    qemu_io.args(["-f", "qcow2", "-c", command]).arg(disk);
    let done = qemu_io.output().unwrap();
    done.status.success() && !String::from_utf8_lossy(&done.stdout).contains("failed")
}
