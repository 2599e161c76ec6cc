//! A PVE test host with a VM, and what other clients of it see and do.

use std::ops::Deref;
use std::process::Command;

use module_lab::Host;
use serde_json::{Value, json};

const VM: &str = "/nodes/pve/qemu/101";

/// A test host with VM 101 (`web1`), whose only disk is a qcow2 image on `local`; and the module.
pub struct Lab(module_lab::Lab);

impl Deref for Lab {
    type Target = module_lab::Lab;

    fn deref(&self) -> &module_lab::Lab {
        &self.0
    }
}

impl Lab {
    pub fn new() -> Self {
        let host = Host::start(|_| ());
        host.post(
            "/nodes/pve/qemu",
            &[
                ("vmid", "101"),
                ("name", "web1"),
                ("memory", "256"),
                ("scsi0", "local:0.0625,format=qcow2"),
                ("tags", "one"),
                ("description", "notes"),
            ],
        );
        let module = env!("CARGO_BIN_EXE_proxmox_snapshot");
        Self(module_lab::Lab::new(host, module))
    }

    /// See [`module_lab::Lab::granted`].
    pub fn granted(self, commands: &str) -> Self {
        Self(self.0.granted(commands))
    }

    /// Take a snapshot as another client does.
    pub fn snapshot(&self, name: &str) {
        self.post(&format!("{VM}/snapshot"), &[("snapname", name)]);
    }

    /// The names of the snapshots, as another client sees them, sorted.
    pub fn snapshots(&self) -> Vec<String> {
        let list = self.get(&format!("{VM}/snapshot"));
        let name = |entry: &Value| entry["name"].as_str().unwrap().to_owned();
        let mut names: Vec<String> = list.as_array().unwrap().iter().map(name).collect();
        names.retain(|name| name != "current");
        names.sort();
        names
    }

    /// A snapshot's description, as another client sees it.
    pub fn description(&self, name: &str) -> Value {
        self.get(&format!("{VM}/snapshot/{name}/config"))["description"].clone()
    }

    /// The VM's configuration, as another client sees it.
    pub fn config(&self) -> Value {
        self.get(&format!("{VM}/config"))
    }

    /// Change the VM's configuration behind the module's back.
    pub fn configure(&self, params: &[(&str, &str)]) {
        self.put(&format!("{VM}/config"), params);
    }

    pub fn status(&self) -> Value {
        self.get(&format!("{VM}/status/current"))["status"].clone()
    }

    pub fn start_vm(&self) {
        self.post(&format!("{VM}/status/start"), &[]);
    }

    /// Change the file of the VM's configuration, as only somebody on the node can.
    pub fn edit(&self, edit: impl FnOnce(String) -> String) {
        let path = self.path("pve/qemu-server/101.conf");
        let text = edit(std::fs::read_to_string(&path).unwrap());
        std::fs::write(path, text).unwrap();
    }

    /// Write a byte all over the first 4 KiB of the disk.
    pub fn write_disk(&self, byte: u8) {
        assert!(self.qemu_io(&format!("write -P {byte} 0 4k")));
    }

    /// Is this byte all over the first 4 KiB of the disk?
    pub fn disk_has(&self, byte: u8) -> bool {
        self.qemu_io(&format!("read -P {byte} 0 4k"))
    }

    fn qemu_io(&self, command: &str) -> bool {
        let disk = self.path("pve/storage/local/images/101/vm-101-disk-0.qcow2");
        let done = Command::new("qemu-io")
            .args(["-f", "qcow2", "-c", command])
            .arg(disk)
            .output()
            .unwrap();
        done.status.success() && !String::from_utf8_lossy(&done.stdout).contains("failed")
    }

    /// Run the module in check mode, which must write nothing and find a change.
    pub fn would_change(&self, options: Value) -> Value {
        let result = self.check_alone(options);
        assert_eq!(result["changed"], json!(true), "{result:#}");
        result
    }

    /// Run the module and expect it to fail so, without a write.
    pub fn refuses(&self, options: Value, kind: &str, text: &str) -> Value {
        let writes = self.writes();
        let failed = self.fails(options);
        assert_eq!(failed["error"]["kind"], json!(kind), "{failed:#}");
        assert!(failed["msg"].as_str().unwrap().contains(text), "{failed:#}");
        assert_eq!(self.writes(), writes, "a refusal writes nothing");
        failed
    }
}
