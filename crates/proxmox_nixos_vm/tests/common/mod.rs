//! A PVE test host without guests, and what other clients of it see and do.

#![allow(dead_code)] // each test file uses another part of it

use std::path::Path;
use std::time::{Duration, Instant};

use module_lab::Host;
use serde_json::Value;

#[allow(unused_imports)]
pub use module_lab::{Lab, failure, shown, with};

/// A test host with two ISOs, `a.iso` and `b.iso`, on `local`, and the module.
pub fn lab() -> Lab {
    cluster_of(&["pve"], None)
}

/// The same with several nodes, and with other storages than the test host's own.
pub fn cluster_of(nodes: &[&str], storages: Option<Value>) -> Lab {
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
    Lab::new(host, env!("CARGO_BIN_EXE_proxmox_nixos_vm"))
}

/// The commands in these sections of docs/privileges.md.
pub fn documented(headings: &[&str]) -> String {
    pve_testhost::pveum::sections(include_str!("../../../../docs/privileges.md"), headings)
}

/// The images on a storage with folders: `101/vm-101-disk-0.raw`.
pub fn volumes(lab: &Lab, storage: &str) -> Vec<String> {
    let images = lab.path("pve/storage").join(storage).join("images");
    let names = |dir: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let name = |entry: std::fs::DirEntry| entry.file_name().into_string().unwrap();
        entries.map(name).collect()
    };
    let of = |owner: String| {
        let volumes = names(&images.join(&owner)).into_iter();
        volumes.map(move |name| format!("{owner}/{name}"))
    };
    names(&images).into_iter().flat_map(of).collect()
}

/// Whether the volume's file is there.
pub fn has_volume(lab: &Lab, volid: &str) -> bool {
    let (storage, name) = volid.split_once(':').unwrap();
    let root = lab.path("pve/storage").join(storage);
    root.join("images").join(name).exists() || root.join(name).exists()
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

/// Wait until the list of the whole cluster has the VM's name.
pub fn known(lab: &Lab, name: &str) {
    let limit = Instant::now() + Duration::from_secs(60);
    loop {
        let all = lab.get("/cluster/resources?type=vm");
        if all
            .as_array()
            .unwrap()
            .iter()
            .any(|entry| entry["name"] == name)
        {
            return;
        }
        assert!(Instant::now() < limit, "{all:#}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
