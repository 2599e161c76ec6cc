//! A test host, controllers that use it, and a web server.

#![allow(dead_code)] // each test file uses another part of it

mod relay;
mod web;

use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use deadline::Deadline;
use module_lab::{Host, Lab};
use pve_client::Params;
use serde_json::{Value, json};

#[allow(unused_imports)]
pub use module_lab::with;
#[allow(unused_imports)]
pub use relay::Relay;
#[allow(unused_imports)]
pub use web::{Page, Web, serve};

/// A test host and a controller with a home of its own.
pub struct World(Lab);

impl Deref for World {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.0
    }
}

impl World {
    pub fn new() -> Self {
        Self::on(Host::start(|_| ()))
    }

    pub fn with_faults(rules: Value) -> Self {
        let world = Self::new();
        world.faults(rules);
        world
    }

    pub fn on(host: Host) -> Self {
        std::fs::create_dir(host.path("home")).unwrap();
        Self(Lab::new(host, env!("CARGO_BIN_EXE_proxmox_iso")))
    }

    /// A local file with this content.
    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Options for a token of the endpoint: `provisioner` or `empty`.
    pub fn with_token(&self, token: &str) -> Value {
        self.endpoint[token].clone()
    }

    /// A local file that is an ISO image with this content.
    pub fn iso(&self, name: &str, content: &[u8]) -> PathBuf {
        self.file(name, &iso(content))
    }

    /// Leave no other checksum than this one in the records of the controller.
    pub fn forget_all_but(&self, checksum: &str) {
        for entry in std::fs::read_dir(self.path("home/.cache/nixos-proxmox/isos")).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read(&path).unwrap();
            let mut record: Value = serde_json::from_slice(&text).unwrap();
            record["digests"] = json!([checksum]);
            std::fs::write(&path, record.to_string()).unwrap();
        }
    }

    /// How many requests had this method and a path that ends so.
    pub fn count(&self, method: &str, end: &str) -> usize {
        let requests = self.requests();
        let fits = |request: &&String| request.starts_with(method) && request.ends_with(end);
        requests.iter().filter(fits).count()
    }

    /// A call that makes a task, awaited.
    pub async fn task(&self, path: &str, params: &Params) {
        let deadline = Deadline::after(Duration::from_secs(30));
        let done = self
            .client()
            .post_task(path, params, &deadline, |_| ())
            .await;
        done.unwrap();
    }

    /// A VM with an ISO of the storage `local` in its drive.
    pub async fn vm(&self, vmid: u32, iso: &str, running: bool) {
        let params = Params::new()
            .with("vmid", vmid.to_string())
            .with("name", format!("vm{vmid}"))
            .with("memory", "512")
            .with("ide2", format!("local:iso/{iso},media=cdrom"))
            .with("boot", "order=ide2");
        self.task("/nodes/pve/qemu", &params).await;
        if running {
            let start = format!("/nodes/pve/qemu/{vmid}/status/start");
            self.task(&start, &Params::new()).await;
        }
    }

    /// Run the module with these options besides connection, node and storage.
    pub async fn run(&self, options: Value) -> Value {
        self.run_in("home", &[], options).await
    }

    /// The same with another home directory (another controller), and with environment variables.
    pub async fn run_in(&self, home: &str, env: &[(&str, &str)], options: Value) -> Value {
        let secret = options["api_token_secret"].as_str().map(str::to_owned);
        let usual =
            json!({"node": "pve", "storage": "local", "timeout": 50, "_ansible_diff": false});
        let mut command = tokio::process::Command::from(self.command(with(usual, options)));
        command
            .env("HOME", self.path(home))
            .env_remove("XDG_RUNTIME_DIR")
            .env_remove("XDG_CACHE_HOME")
            .env_remove("GITHUB_TOKEN")
            .envs(env.iter().copied())
            .kill_on_drop(true);
        let output = tokio::time::timeout(Duration::from_secs(100), command.output())
            .await
            .expect("the module did not end")
            .unwrap();
        let result = self.answer(output);
        assert!(
            !secret.is_some_and(|secret| result.to_string().contains(&secret)),
            "{result}"
        );
        result
    }
}

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
