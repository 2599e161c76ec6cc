//! A PVE test host without guests, and what other clients of it see and do.

#![allow(dead_code)] // each test file uses another part of it

use std::ops::Deref;

use module_lab::Host;
use serde_json::Value;

#[allow(unused_imports)]
pub use module_lab::with;

/// A test host with two ISOs, `a.iso` and `b.iso`, on `local`, and the module.
pub struct Lab(module_lab::Lab);

impl Deref for Lab {
    type Target = module_lab::Lab;

    fn deref(&self) -> &module_lab::Lab {
        &self.0
    }
}

impl Lab {
    pub fn new() -> Self {
        Self::cluster(&["pve"], None)
    }

    /// The same with several nodes, and with other storages than the test host's own.
    pub fn cluster(nodes: &[&str], storages: Option<Value>) -> Self {
        let host = Host::start(|options| {
            options.nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
            if let Some(storages) = storages {
                std::fs::create_dir(&options.data).unwrap();
                std::fs::write(options.data.join("storage.json"), storages.to_string()).unwrap();
            }
        });
        for name in ["a.iso", "b.iso"] {
            std::fs::write(host.stored(name), vec![0; 65536]).unwrap();
        }
        let module = env!("CARGO_BIN_EXE_proxmox_nixos_vm");
        Self(module_lab::Lab::new(host, module))
    }

    /// See [`module_lab::Lab::called_by`].
    pub fn called_by(self, token: &'static str) -> Self {
        Self(self.0.called_by(token))
    }

    /// See [`module_lab::Lab::granted`].
    pub fn granted(self, commands: &str) -> Self {
        Self(self.0.granted(commands))
    }

    /// Say of the nodes what the test host's README tells; the file is changed at once.
    pub fn nodes(&self, facts: Value) {
        let path = self.path("pve/nodes.json");
        let new = path.with_extension("new");
        std::fs::write(&new, facts.to_string()).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    /// The VM's configuration, as another client sees it.
    pub fn config(&self, vmid: u64) -> Value {
        self.get(&format!("/nodes/pve/qemu/{vmid}/config"))
    }

    /// Change the VM's configuration behind the module's back.
    pub fn configure(&self, vmid: u64, key: &str, value: &str) {
        self.put(&format!("/nodes/pve/qemu/{vmid}/config"), &[(key, value)]);
    }

    /// Every VM: `(vmid, name)`.
    pub fn vms(&self) -> Vec<(u64, String)> {
        let vms = self.get("/nodes/pve/qemu");
        let seen = |vm: &Value| {
            let name = vm["name"].as_str().unwrap().to_owned();
            (vm["vmid"].as_u64().unwrap(), name)
        };
        let mut vms: Vec<_> = vms.as_array().unwrap().iter().map(seen).collect();
        vms.sort();
        vms
    }

    /// The images on a storage with folders: `101/vm-101-disk-0.raw`.
    pub fn volumes(&self, storage: &str) -> Vec<String> {
        let images = self.path("pve/storage").join(storage).join("images");
        let names = |dir: &std::path::Path| -> Vec<String> {
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
            entries
                .map(|entry| entry.file_name().into_string().unwrap())
                .collect()
        };
        let owners = names(&images);
        owners
            .iter()
            .flat_map(|owner| {
                names(&images.join(owner))
                    .into_iter()
                    .map(move |name| format!("{owner}/{name}"))
            })
            .collect()
    }

    /// Whether the volume's file is there.
    pub fn has_volume(&self, volid: &str) -> bool {
        let (storage, name) = volid.split_once(':').unwrap();
        let root = self.path("pve/storage").join(storage);
        [root.join("images").join(name), root.join(name)]
            .iter()
            .any(|path| path.exists())
    }
}

/// The volume in a drive's text.
pub fn volume(config: &Value, key: &str) -> String {
    config[key]
        .as_str()
        .unwrap()
        .split(',')
        .next()
        .unwrap()
        .to_owned()
}
