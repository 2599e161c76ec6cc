//! A test host, controllers that use it, and a web server.

#![allow(dead_code)] // each test file uses another part of it

mod relay;
mod web;

use std::path::{Path, PathBuf};
use std::time::Duration;

use deadline::Deadline;
use pve_testhost::{Options, Server};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

#[allow(unused_imports)]
pub use relay::Relay;
#[allow(unused_imports)]
pub use web::{Page, Web, serve};

/// A test host and a controller with a home of its own.
pub struct World {
    pub endpoint: Value,
    pub dir: TempDir,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl World {
    pub async fn new() -> Self {
        Self::with_faults(json!([])).await
    }

    pub async fn with_faults(rules: Value) -> Self {
        Self::with(rules, Duration::ZERO).await
    }

    /// A host with these faults that takes so long for a 401.
    pub async fn with(rules: Value, auth_delay: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let faults = dir.path().join("faults.json");
        std::fs::write(&faults, rules.to_string()).unwrap();
        let options = Options {
            faults: Some(faults),
            auth_delay,
            ..Options::simulated(dir.path().join("host"))
        };
        let server = Server::open(options).await.unwrap();
        let endpoint = server.endpoint.clone();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        tokio::spawn(server.run(async move {
            let _ = stopped.await;
        }));
        std::fs::create_dir(dir.path().join("home")).unwrap();
        Self {
            endpoint,
            dir,
            stop: Some(stop),
        }
    }

    /// A local file with this content.
    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Where the test host keeps an ISO of the storage `local`.
    pub fn stored(&self, name: &str) -> PathBuf {
        self.dir
            .path()
            .join("host/storage/local/template/iso")
            .join(name)
    }

    pub fn with_token(&self, token: &str) -> Value {
        self.endpoint[token].clone()
    }

    /// The test host's log: method, path and status of each request.
    pub fn requests(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.path().join("host/requests.jsonl")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// How many requests had this method and a path that ends so.
    pub fn count(&self, method: &str, end: &str) -> usize {
        let fits = |request: &&Value| {
            request["method"] == method && request["path"].as_str().unwrap_or("").ends_with(end)
        };
        self.requests().iter().filter(fits).count()
    }

    /// Give the token `provisioner@pve!empty` these privileges, and no others.
    pub fn grant(&self, grants: &[(&str, &[&str])]) -> Value {
        let path = self.dir.path().join("host/access.json");
        let mut access: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for (number, (place, privileges)) in grants.iter().enumerate() {
            let role = format!("Least{number}");
            access["roles"][&role] = json!(privileges);
            for ugid in ["provisioner@pve", "provisioner@pve!empty"] {
                access["acl"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"path": place, "ugid": ugid, "role": role, "propagate": true}));
            }
        }
        std::fs::write(&path, access.to_string()).unwrap();
        self.with_token("empty")
    }

    /// The test host's API, by root's token.
    pub fn client(&self) -> pve_client::Client {
        let text = |key: &str| self.endpoint[key].as_str().unwrap().to_string();
        pve_client::Client::new(pve_client::Settings {
            hosts: vec![text("api_host")],
            port: u16::try_from(self.endpoint["api_port"].as_u64().unwrap()).unwrap(),
            credential: pve_client::Credential::Token {
                id: format!("{}!{}", text("api_user"), text("api_token_id")),
                secret: text("api_token_secret"),
            },
            tls: pve_client::Tls::Fingerprint(vec![text("tls_fingerprint")]),
            request_timeout: Duration::from_secs(30),
        })
        .unwrap()
    }

    /// A call without parameters that makes a task, awaited.
    pub async fn api(&self, method: &str, path: &str) {
        assert_eq!(method, "POST");
        self.post(path, &pve_client::Params::new()).await;
    }

    async fn post(&self, path: &str, params: &pve_client::Params) {
        let (client, deadline) = (self.client(), Deadline::after(Duration::from_secs(30)));
        let upid = client.post(path, params, &deadline).await.unwrap();
        let upid: pve_client::Upid = upid.as_str().unwrap().parse().unwrap();
        client.task(&upid, &deadline, |_| ()).await.unwrap();
    }

    /// A VM with an ISO of the storage `local` in its drive.
    pub async fn vm(&self, vmid: u32, iso: &str, running: bool) {
        let params = pve_client::Params::new()
            .with("vmid", vmid.to_string())
            .with("name", format!("vm{vmid}"))
            .with("memory", "512")
            .with("ide2", format!("local:iso/{iso},media=cdrom"))
            .with("boot", "order=ide2");
        self.post("/nodes/pve/qemu", &params).await;
        if running {
            self.api("POST", &format!("/nodes/pve/qemu/{vmid}/status/start"))
                .await;
        }
    }

    /// Run the module with these options besides connection, node and storage.
    pub async fn run(&self, options: Value) -> Value {
        self.run_in("home", &[], options).await
    }

    /// The same with another home directory (another controller), and with environment variables.
    pub async fn run_in(&self, home: &str, env: &[(&str, &str)], options: Value) -> Value {
        let mut all = Map::new();
        for key in [
            "api_host",
            "api_port",
            "tls_fingerprint",
            "api_user",
            "api_token_id",
            "api_token_secret",
            "node",
        ] {
            all.insert(key.into(), self.endpoint[key].clone());
        }
        all.insert("storage".into(), "local".into());
        all.insert("timeout".into(), 50.into());
        all.extend(options.as_object().unwrap().clone());
        all.retain(|_, value| !value.is_null());
        module(self.dir.path(), home, env, &Value::Object(all)).await
    }

    pub async fn stop(mut self) -> TempDir {
        self.stop.take().unwrap().send(()).unwrap();
        self.dir
    }
}

async fn module(dir: &Path, home: &str, env: &[(&str, &str)], arguments: &Value) -> Value {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let file = dir.join(format!("arguments-{number}.json"));
    std::fs::write(&file, arguments.to_string()).unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_proxmox_iso"));
    command
        .arg(&file)
        .env("HOME", dir.join(home))
        .env_remove("XDG_RUNTIME_DIR")
        .env_remove("XDG_CACHE_HOME")
        .env_remove("GITHUB_TOKEN")
        .envs(env.iter().copied())
        .kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(100), command.output())
        .await
        .expect("the module did not end")
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let secret = arguments["api_token_secret"]
        .as_str()
        .filter(|secret| !secret.is_empty());
    assert!(
        !secret.is_some_and(|secret| text.contains(secret)),
        "{text}"
    );
    serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {text} {}", String::from_utf8_lossy(&output.stderr)))
}

pub fn sha256(content: &[u8]) -> String {
    format!("sha256:{}", pve_client::sha256_bytes(content))
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
