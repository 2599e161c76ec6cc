//! A PVE test host with a VM, and what other clients of it see and do.

use std::collections::BTreeMap;
use std::ops::Deref;

use module_lab::{Host, with};
use serde_json::Value;

pub const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPz6nYYnhYSNxX9pOeX5vY5mBxrYQf0Cm6bcHkMcvmq8 me@here";

const CONFIG: &str = "/nodes/pve/qemu/101/config";

/// A test host with VM 101: a disk, an installer ISO, one network card; and the module.
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
        std::fs::write(host.stored("nixos.iso"), vec![0; 65536]).unwrap();
        host.post(
            "/nodes/pve/qemu",
            &[
                ("vmid", "101"),
                ("name", "web1"),
                ("memory", "256"),
                ("scsihw", "virtio-scsi-single"),
                ("scsi0", "local:1"),
                ("ide2", "local:iso/nixos.iso,media=cdrom"),
                ("net0", "virtio=BC:24:11:00:00:0B,bridge=vmbr0"),
                ("boot", "order=scsi0;ide2"),
            ],
        );
        let module = env!("CARGO_BIN_EXE_cloudinit_drive");
        Self(module_lab::Lab::new(host, module))
    }

    /// See [`module_lab::Lab::granted`].
    pub fn granted(self, commands: &str) -> Self {
        Self(self.0.granted(commands))
    }

    /// See [`module_lab::Lab::check_alone`].
    pub fn check(&self, options: Value) -> Value {
        self.check_alone(options)
    }

    /// Run the module with each of these changes of the options: it must fail with the text, tell no secret and write
    /// nothing.
    pub fn refuses(&self, options: &Value, cases: &[(Value, &str)]) {
        let before = self.writes();
        for (more, expected) in cases {
            let failed = self.fails(with(options.clone(), more.clone()));
            assert!(
                failed["msg"].as_str().unwrap().contains(expected),
                "{more}: {failed:#}"
            );
            assert!(!failed.to_string().contains("correct-horse"), "{failed:#}");
        }
        assert_eq!(self.writes(), before);
    }

    /// The VM's configuration after the next start, as another client sees it.
    pub fn config(&self) -> Value {
        self.get(CONFIG)
    }

    /// The VM's configuration now, with the pending changes not made.
    pub fn current_config(&self) -> Value {
        self.get(&format!("{CONFIG}?current=1"))
    }

    /// Change the VM's configuration behind the module's back.
    pub fn configure(&self, params: &[(&str, &str)]) {
        self.put(CONFIG, params);
    }

    /// The seed ISOs on `local`, with their content.
    pub fn seeds(&self) -> BTreeMap<String, Vec<u8>> {
        let isos = std::fs::read_dir(self.stored("")).unwrap();
        isos.map(|entry| entry.unwrap())
            .filter(|entry| entry.file_name() != "nixos.iso")
            .map(|entry| {
                (
                    entry.file_name().into_string().unwrap(),
                    std::fs::read(entry.path()).unwrap(),
                )
            })
            .collect()
    }

    /// Put an ISO on `local`.
    pub fn put_iso(&self, name: &str) {
        std::fs::write(self.stored(name), [0; 2048]).unwrap();
    }
}
