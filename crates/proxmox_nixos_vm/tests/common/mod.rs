//! A PVE test host without guests, and the built module run against it as Ansible runs it.

#![allow(dead_code)] // each test file uses another part of it

use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use deadline::Deadline;
use pve_client::{Client, Credential, Params, Settings, Tls};
use pve_testhost::{Options, Server};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// A test host with two ISOs, `a.iso` and `b.iso`, on `local`.
pub struct Lab {
    dir: TempDir,
    endpoint: Value,
    /// Whose token the module uses: none for root's, or a key of the endpoint with another.
    caller: Option<&'static str>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Options with more of them, or others.
pub fn with(mut options: Value, more: Value) -> Value {
    let more = more.as_object().unwrap().clone();
    options.as_object_mut().unwrap().extend(more);
    options
}

/// What the module said.
#[derive(Debug)]
pub struct Answer {
    pub result: Value,
    pub code: i32,
}

impl Lab {
    pub fn new() -> Self {
        Self::cluster(&["pve"], None)
    }

    /// The same with several nodes, and with other storages than the test host's own.
    pub fn cluster(nodes: &[&str], storages: Option<Value>) -> Self {
        let dir = TempDir::new().unwrap();
        let (ready, listening) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        if let Some(storages) = storages {
            std::fs::create_dir(dir.path().join("pve")).unwrap();
            std::fs::write(dir.path().join("pve/storage.json"), storages.to_string()).unwrap();
        }
        let options = Options {
            faults: Some(dir.path().join("faults.json")),
            nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
            ..Options::simulated(dir.path().join("pve"))
        };
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
        let endpoint = listening.recv().unwrap();
        let isos = dir.path().join("pve/storage/local/template/iso");
        std::fs::create_dir_all(&isos).unwrap();
        for name in ["a.iso", "b.iso"] {
            std::fs::write(isos.join(name), vec![0; 65536]).unwrap();
        }
        Self {
            dir,
            endpoint,
            caller: None,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// The same host for a module that uses another token: `provisioner` or `empty`.
    pub fn called_by(mut self, caller: &'static str) -> Self {
        self.caller = Some(caller);
        self
    }

    /// Use a token that has what these `pveum` commands grant, and nothing else.
    pub fn granted(mut self, commands: &str) -> Self {
        pve_testhost::pveum::grant(&self.dir.path().join("pve"), "pve", commands).unwrap();
        self.caller = Some("empty");
        self
    }

    /// Make the host misbehave; see the test host's README for the rules.
    pub fn faults(&self, rules: Value) {
        std::fs::write(self.dir.path().join("faults.json"), rules.to_string()).unwrap();
    }

    /// A path below the directory of this lab; the test host's is `pve`.
    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// Say of the nodes what the test host's README tells; the file is changed at once.
    pub fn nodes(&self, facts: Value) {
        let path = self.dir.path().join("pve/nodes.json");
        let new = path.with_extension("new");
        std::fs::write(&new, facts.to_string()).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    /// A call of another client with root's rights, and its task's end if it makes one.
    pub fn call(&self, method: &str, path: &str, params: &[(&str, &str)]) -> Value {
        self.api(|client, deadline| async move {
            if method == "GET" {
                let query: Vec<(&str, String)> =
                    params.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
                return client.get(path, &query, &deadline).await.unwrap();
            }
            let params: Params = params.iter().copied().collect();
            let done = client.post_task(path, &params, &deadline, |_| ()).await;
            done.unwrap();
            Value::Null
        })
    }

    /// Run the module.
    pub fn run(&self, options: Value) -> Answer {
        self.run_with(options, false)
    }

    /// Run the module and expect it to succeed.
    pub fn ok(&self, options: Value) -> Value {
        let answer = self.run(options);
        assert_eq!(answer.code, 0, "{:#}", answer.result);
        answer.result
    }

    /// Run the module and expect it to fail.
    pub fn fails(&self, options: Value) -> Value {
        let answer = self.run(options);
        assert_ne!(answer.code, 0, "{:#}", answer.result);
        assert_eq!(answer.result["failed"], json!(true));
        answer.result
    }

    /// Run the module in check mode and expect it to succeed.
    pub fn check(&self, options: Value) -> Value {
        let answer = self.run_with(options, true);
        assert_eq!(answer.code, 0, "{:#}", answer.result);
        answer.result
    }

    fn run_with(&self, options: Value, check: bool) -> Answer {
        let output = self.command(options, check).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let result = serde_json::from_str(&text)
            .unwrap_or_else(|e| panic!("{e}: {text}\n{}", String::from_utf8_lossy(&output.stderr)));
        Answer {
            result,
            code: output.status.code().unwrap_or(-1),
        }
    }

    /// The module as a command that has not been started.
    pub fn command(&self, mut options: Value, check: bool) -> Command {
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
        if let Some(caller) = self.caller {
            let other = self.endpoint[caller].as_object().unwrap().clone();
            options.as_object_mut().unwrap().extend(other);
        }
        options["_ansible_check_mode"] = json!(check);
        options["_ansible_diff"] = json!(true);
        let mut command = Command::new(env!("CARGO_BIN_EXE_proxmox_nixos_vm"));
        command
            .arg(self.args_file(&options))
            .env("XDG_RUNTIME_DIR", self.dir.path())
            .env("HOME", self.dir.path());
        command
    }

    fn args_file(&self, options: &Value) -> PathBuf {
        let (_, path) = tempfile::NamedTempFile::new_in(self.dir.path())
            .unwrap()
            .keep()
            .unwrap();
        std::fs::write(&path, options.to_string()).unwrap();
        path
    }

    /// The VM's configuration, as another client sees it.
    pub fn config(&self, vmid: u64) -> Value {
        self.api(|client, deadline| async move {
            let config = client
                .vm_config("pve", vmid as u32, false, &deadline)
                .await
                .unwrap();
            Value::Object(config)
        })
    }

    /// Change the VM's configuration behind the module's back.
    pub fn configure(&self, vmid: u64, key: &str, value: &str) {
        let params = Params::new().with(key, value);
        self.api(|client, deadline| async move {
            client
                .vm_configure("pve", vmid as u32, &params, &deadline)
                .await
                .unwrap();
        });
    }

    /// Every VM: `(vmid, name)`.
    pub fn vms(&self) -> Vec<(u32, String)> {
        let mut vms =
            self.api(|client, deadline| async move { client.vms("pve", &deadline).await.unwrap() });
        vms.sort_by_key(|vm| vm.vmid);
        vms.into_iter().map(|vm| (vm.vmid, vm.name)).collect()
    }

    fn api<T, F: Future<Output = T>>(&self, call: impl FnOnce(Client, Deadline) -> F) -> T {
        let text = |key: &str| self.endpoint[key].as_str().unwrap().to_owned();
        let client = Client::new(Settings {
            hosts: vec![text("api_host")],
            port: self.endpoint["api_port"].as_u64().unwrap() as u16,
            credential: Credential::Password {
                user: text("api_user"),
                password: text("api_password"),
            },
            tls: Tls::Fingerprint(vec![text("tls_fingerprint")]),
            request_timeout: Duration::from_secs(30),
        })
        .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(call(client, Deadline::after(Duration::from_secs(60))))
    }

    /// Writes that the module has asked for since the host began: `PUT /nodes/pve/qemu/100/config`.
    pub fn writes(&self) -> Vec<String> {
        let mut all = self.requests();
        all.retain(|request| !request.starts_with("GET ") && !request.ends_with(" /access/ticket"));
        all
    }

    /// All that was asked for since the host began.
    pub fn requests(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("pve/requests.jsonl")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|r| {
                format!(
                    "{} {}",
                    r["method"].as_str().unwrap(),
                    r["path"].as_str().unwrap()
                )
            })
            .collect()
    }

    /// The secret of the token.
    pub fn secret(&self) -> String {
        self.endpoint["api_token_secret"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// The images on a storage with folders: `101/vm-101-disk-0.raw`.
    pub fn volumes(&self, storage: &str) -> Vec<String> {
        let images = self
            .dir
            .path()
            .join("pve/storage")
            .join(storage)
            .join("images");
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
        let root = self.dir.path().join("pve/storage").join(storage);
        [root.join("images").join(name), root.join(name)]
            .iter()
            .any(|path| path.exists())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let limit = Instant::now() + Duration::from_secs(20);
            while !thread.is_finished() && Instant::now() < limit {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
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
