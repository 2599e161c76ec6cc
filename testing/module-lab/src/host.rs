//! A PVE test host without guests, in a thread of its own.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use deadline::Deadline;
use pve_client::{Client, Credential, Params, Settings, Tls};
use pve_testhost::{Options, Server};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::with;

/// A test host, which ends with this.
pub struct Host {
    /// What its `endpoint.json` says: `api_host`, `api_token_secret`, `empty`, and more.
    pub endpoint: Value,
    dir: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    /// A host with the options that `change` makes of the usual ones: one node, `pve`. Its data directory, which is among
    /// them, is not there yet.
    pub fn start(change: impl FnOnce(&mut Options)) -> Self {
        let dir = TempDir::new().unwrap();
        let mut options = Options::simulated(dir.path().join("pve"));
        options.faults = Some(dir.path().join("faults.json"));
        change(&mut options);
        let (ready, listening) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let server = Server::open(options).await.unwrap();
                ready.send(server.endpoint.clone()).unwrap();
                let ended = async {
                    let _ = stopped.await;
                };
                server.run(ended).await.unwrap();
            });
        });
        Self {
            endpoint: listening.recv().unwrap(),
            dir,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// A path below the directory of this host and its test; the test host's data directory is `pve`.
    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// A file of the controller with this content.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Where the storage `local` keeps an ISO.
    pub fn stored(&self, iso: &str) -> PathBuf {
        self.path("pve/storage/local/template/iso").join(iso)
    }

    /// Make the host misbehave; see the test host's README for the rules.
    pub fn faults(&self, rules: Value) {
        std::fs::write(self.path("faults.json"), rules.to_string()).unwrap();
    }

    /// Give the token `empty` what these `pveum` commands grant.
    pub fn grant(&self, commands: &str) {
        pve_testhost::pveum::grant(&self.path("pve"), "pve", commands).unwrap();
    }

    /// The options by which a module reaches the host: with root's token, or with another of the endpoint
    /// (`provisioner`, `empty`).
    pub fn connection(&self, token: Option<&str>) -> Value {
        let mut options = json!({});
        for key in [
            "api_host",
            "api_port",
            "api_user",
            "api_token_id",
            "api_token_secret",
            "tls_fingerprint",
        ] {
            options[key] = self.endpoint[key].clone();
        }
        match token {
            Some(token) => with(options, self.endpoint[token].clone()),
            None => options,
        }
    }

    /// A client with root's token.
    pub fn client(&self) -> Client {
        let text = |key: &str| self.endpoint[key].as_str().unwrap().to_owned();
        Client::new(Settings {
            hosts: vec![text("api_host")],
            port: self.endpoint["api_port"].as_u64().unwrap() as u16,
            credential: Credential::Token {
                id: format!("{}!{}", text("api_user"), text("api_token_id")),
                secret: text("api_token_secret"),
            },
            tls: Tls::Fingerprint(vec![text("tls_fingerprint")]),
            request_timeout: Duration::from_secs(30),
        })
        .unwrap()
    }

    /// GET, with the query in the path. Like the calls below it is for tests that have no runtime; who has one uses a
    /// [`Host::client`].
    pub fn get(&self, path: &str) -> Value {
        self.call(async |client, limit| client.get(path, &[], limit).await.unwrap())
    }

    /// POST, and wait for the task.
    pub fn post(&self, path: &str, params: &[(&str, &str)]) {
        let params: Params = params.iter().copied().collect();
        self.call(async |client, limit| {
            let done = client.post_task(path, &params, limit, |_| ()).await;
            done.unwrap();
        });
    }

    /// PUT what makes no task.
    pub fn put(&self, path: &str, params: &[(&str, &str)]) {
        let params: Params = params.iter().copied().collect();
        self.call(async |client, limit| {
            client.put(path, &params, limit).await.unwrap();
        });
    }

    /// DELETE, and wait for the task.
    pub fn delete(&self, path: &str) {
        self.call(async |client, limit| {
            let done = client.delete_task(path, &[], limit, |_| ()).await;
            done.unwrap();
        });
    }

    /// The configuration of a VM of node `pve` after its next start, as another client sees it.
    pub fn config(&self, vmid: impl Display) -> Value {
        self.get(&format!("/nodes/pve/qemu/{vmid}/config"))
    }

    /// The same now, with the pending changes not made.
    pub fn current_config(&self, vmid: impl Display) -> Value {
        self.get(&format!("/nodes/pve/qemu/{vmid}/config?current=1"))
    }

    /// Change the configuration behind the module's back.
    pub fn configure(&self, vmid: impl Display, params: &[(&str, &str)]) {
        self.put(&format!("/nodes/pve/qemu/{vmid}/config"), params);
    }

    /// Change the file of the configuration, as only somebody on the node can.
    pub fn edit(&self, vmid: impl Display, edit: impl FnOnce(String) -> String) {
        let path = self.path(&format!("pve/qemu-server/{vmid}.conf"));
        let text = edit(std::fs::read_to_string(&path).unwrap());
        std::fs::write(path, text).unwrap();
    }

    /// Say of the nodes what the test host's README lists; the file is changed at once.
    pub fn nodes(&self, facts: Value) {
        let path = self.path("pve/nodes.json");
        let new = path.with_extension("new");
        std::fs::write(&new, facts.to_string()).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    /// Every VM of node `pve`: `(vmid, name)`.
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

    /// `running` or `stopped`.
    pub fn status(&self, vmid: impl Display) -> String {
        let current = self.get(&format!("/nodes/pve/qemu/{vmid}/status/current"));
        current["status"].as_str().unwrap().to_owned()
    }

    /// `start`, `stop` or another action on a VM's power.
    pub fn power(&self, vmid: impl Display, action: &str) {
        self.post(&format!("/nodes/pve/qemu/{vmid}/status/{action}"), &[]);
    }

    fn call<T>(&self, call: impl AsyncFnOnce(&Client, &Deadline) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let limit = Deadline::after(Duration::from_secs(60));
        runtime.block_on(call(&self.client(), &limit))
    }

    /// All that was asked for since the host began: `PUT /nodes/pve/qemu/100/config`.
    pub fn requests(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("pve/requests.jsonl")).unwrap();
        let requests = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let part = |request: &Value, key: &str| request[key].as_str().unwrap().to_owned();
        requests
            .map(|request| format!("{} {}", part(&request, "method"), part(&request, "path")))
            .collect()
    }

    /// How many requests had this method and a path that ends so.
    pub fn count(&self, method: &str, end: &str) -> usize {
        let requests = self.requests();
        let fits = |request: &&String| request.starts_with(method) && request.ends_with(end);
        requests.iter().filter(fits).count()
    }

    /// What of it was to change something, which a login is not.
    pub fn writes(&self) -> Vec<String> {
        let mut all = self.requests();
        all.retain(|request| !request.starts_with("GET ") && !request.ends_with("/access/ticket"));
        all
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
