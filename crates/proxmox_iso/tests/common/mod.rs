//! A test host, a web server, and an address that vanishes.

#![allow(dead_code)] // each test file uses another part of it

mod relay;
mod web;

use std::path::PathBuf;
use std::sync::LazyLock;

use module_lab::{Host, Lab};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

#[allow(unused_imports)]
pub use module_lab::{failure, shown, with};
#[allow(unused_imports)]
pub use relay::Relay;
#[allow(unused_imports)]
pub use web::{Page, Web, serve};

/// A test host, and the module with the storage `local` of its node.
pub fn lab() -> Lab {
    on(Host::start(|_| ()))
}

pub fn with_faults(rules: Value) -> Lab {
    let lab = lab();
    lab.faults(rules);
    lab
}

pub fn on(host: Host) -> Lab {
    let usual = json!({"node": "pve", "storage": "local", "timeout": 50});
    Lab::new(host, env!("CARGO_BIN_EXE_proxmox_iso")).usually(usual)
}

/// Run the module and expect it to change nothing, though it may have had the node compare a checksum, which is a POST.
#[track_caller]
pub fn same(lab: &Lab, options: Value) -> Value {
    let result = lab.ok(options);
    assert_changed(&result, false);
    result
}

/// Run the module on another controller, which has this home directory, and with these environment variables.
pub fn elsewhere(lab: &Lab, home: &str, env: &[(&str, &str)], options: Value) -> Value {
    let mut command = lab.command(options);
    command
        .env("HOME", lab.path(home))
        .env_remove("XDG_RUNTIME_DIR")
        .envs(env.iter().copied());
    std::fs::create_dir_all(lab.path(home)).unwrap();
    lab.answer(command.output().unwrap())
}

/// A file of the controller that is an ISO image with this content.
pub fn iso_file(lab: &Lab, name: &str, content: &[u8]) -> PathBuf {
    lab.file(name, iso(content))
}

/// Leave no other checksum than this one in the records of the controller.
pub fn forget_all_but(lab: &Lab, checksum: &str) {
    for entry in std::fs::read_dir(lab.path(".cache/nixos-proxmox/isos")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read(&path).unwrap();
        let mut record: Value = serde_json::from_slice(&text).unwrap();
        record["digests"] = json!([checksum]);
        std::fs::write(&path, record.to_string()).unwrap();
    }
}

/// A VM with an ISO of the storage `local` in its drive.
pub fn vm(lab: &Lab, vmid: u32, iso: &str, running: bool) {
    let (number, name) = (vmid.to_string(), format!("vm{vmid}"));
    let drive = format!("local:iso/{iso},media=cdrom");
    let vm = [
        ("vmid", number.as_str()),
        ("name", &name),
        ("memory", "512"),
        ("ide2", &drive),
        ("boot", "order=ide2"),
    ];
    lab.post("/nodes/pve/qemu", &vm);
    if running {
        lab.power(vmid, "start");
    }
}

/// Where the servers run.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// The least that is an ISO image, with this content in it or, if that is long, over it.
pub fn iso(content: &[u8]) -> Vec<u8> {
    let mut image = match content.len() {
        40_000.. => content.to_vec(),
        _ => [&vec![0; 36 * 1024], content].concat(),
    };
    image[32 * 1024..32 * 1024 + 7].copy_from_slice(b"\x01CD001\x01");
    // It says nothing of its size.
    image[32 * 1024 + 80..32 * 1024 + 88].fill(0);
    image
}

pub fn sha256(content: &[u8]) -> String {
    format!("sha256:{}", pve_client::sha256_bytes(content))
}

pub fn sha512(content: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA512, content);
    format!("sha512:{}", hex::encode(digest))
}

#[track_caller]
pub fn assert_changed(result: &Value, changed: bool) {
    assert_eq!(result["changed"], changed, "{result}");
    assert!(result.get("failed").is_none(), "{result}");
}

#[track_caller]
pub fn assert_failed(result: &Value, kind: &str, texts: &[&str]) {
    assert_eq!(result["failed"], true, "{result}");
    assert_eq!(result["error"]["kind"], kind, "{result}");
    for text in texts {
        assert!(
            result.to_string().contains(text),
            "{text} is not in {result}"
        );
    }
}
