//! A PVE test host, and the module run against it as Ansible runs it.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use deadline::Deadline;
use pve_client::{Client, Credential, Params, Settings, Tls};
use pve_testhost::{Options, Server};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// A test host with VM 101: a disk, an installer ISO, one network card.
pub struct Lab {
    dir: TempDir,
    endpoint: Value,
    /// Whether the module uses the token that was granted something.
    granted: bool,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Lab {
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let (ready, listening) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let options = Options {
            faults: Some(dir.path().join("faults.json")),
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
        std::fs::write(isos.join("nixos.iso"), vec![0; 65536]).unwrap();
        let lab = Self {
            dir,
            endpoint,
            granted: false,
            stop: Some(stop),
            thread: Some(thread),
        };
        lab.post(
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
        lab
    }

    /// Use a token that has what these `pveum` commands grant, and nothing else.
    pub fn granted(mut self, commands: &str) -> Self {
        pve_testhost::pveum::grant(&self.dir.path().join("pve"), "pve", commands).unwrap();
        self.granted = true;
        self
    }

    /// Make the host misbehave; see the test host's README for the rules.
    pub fn faults(&self, rules: Value) {
        std::fs::write(self.dir.path().join("faults.json"), rules.to_string()).unwrap();
    }

    /// Run the module and expect it to succeed.
    pub fn ok(&self, options: Value) -> Value {
        let (code, result) = self.run(options);
        assert_eq!(code, 0, "{result:#}");
        result
    }

    /// Run the module and expect it to succeed and change nothing.
    pub fn unchanged(&self, options: Value) -> Value {
        let writes = self.writes();
        let result = self.ok(options);
        assert_eq!(result["changed"], json!(false), "{result:#}");
        assert_eq!(self.writes(), writes, "no write without a change");
        result
    }

    /// Run the module in check mode, which must write nothing.
    pub fn check(&self, mut options: Value) -> Value {
        options["_ansible_check_mode"] = json!(true);
        let writes = self.writes();
        let result = self.ok(options);
        assert_eq!(self.writes(), writes, "a check writes nothing");
        result
    }

    /// Run the module and expect it to fail.
    pub fn fails(&self, options: Value) -> Value {
        let (code, result) = self.run(options);
        assert_ne!(code, 0, "{result:#}");
        assert_eq!(result["failed"], json!(true));
        result
    }

    fn run(&self, mut options: Value) -> (i32, Value) {
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
        if self.granted {
            let token = self.endpoint["empty"].as_object().unwrap().clone();
            options.as_object_mut().unwrap().extend(token);
        }
        options["_ansible_diff"] = json!(true);
        let arguments = tempfile::NamedTempFile::new_in(self.dir.path()).unwrap();
        std::fs::write(arguments.path(), options.to_string()).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_cloudinit_drive"))
            .arg(arguments.path())
            .env("XDG_RUNTIME_DIR", self.dir.path())
            .env("HOME", self.dir.path())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let result = serde_json::from_str(&text)
            .unwrap_or_else(|e| panic!("{e}: {text}\n{}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap_or(-1), result)
    }

    /// The VM's configuration after the next start, as another client sees it.
    pub fn config(&self) -> Value {
        self.get("/nodes/pve/qemu/101/config")
    }

    /// The VM's configuration now, with the pending changes not made.
    pub fn current_config(&self) -> Value {
        self.api(|client, deadline| async move {
            Value::Object(client.vm_config("pve", 101, true, &deadline).await.unwrap())
        })
    }

    pub fn get(&self, path: &str) -> Value {
        let path = path.to_owned();
        self.api(|client, deadline| async move { client.get(&path, &[], &deadline).await.unwrap() })
    }

    /// POST and wait for the task.
    pub fn post(&self, path: &str, params: &[(&str, &str)]) {
        let params: Params = params.iter().map(|(key, value)| (*key, *value)).collect();
        let path = path.to_owned();
        self.api(|client, deadline| async move {
            client
                .post_task(&path, &params, &deadline, |_| ())
                .await
                .unwrap();
        });
    }

    /// Change the VM's configuration behind the module's back.
    pub fn configure(&self, params: &[(&str, &str)]) {
        let params: Params = params.iter().map(|(key, value)| (*key, *value)).collect();
        self.api(|client, deadline| async move {
            client
                .vm_configure("pve", 101, &params, &deadline)
                .await
                .unwrap();
        });
    }

    /// DELETE and wait for the task.
    pub fn delete(&self, path: &str) {
        let path = path.to_owned();
        self.api(|client, deadline| async move {
            client
                .delete_task(&path, &[], &deadline, |_| ())
                .await
                .unwrap();
        });
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

    /// Writes since the host began: `PUT /nodes/pve/qemu/100/config`.
    pub fn writes(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("pve/requests.jsonl")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|r| r["method"] != "GET" && r["path"] != "/access/ticket")
            .map(|r| {
                format!(
                    "{} {}",
                    r["method"].as_str().unwrap(),
                    r["path"].as_str().unwrap()
                )
            })
            .collect()
    }

    /// The seed ISOs on `local`, with their content.
    pub fn seeds(&self) -> BTreeMap<String, Vec<u8>> {
        let isos =
            std::fs::read_dir(self.dir.path().join("pve/storage/local/template/iso")).unwrap();
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
        std::fs::write(
            self.dir
                .path()
                .join("pve/storage/local/template/iso")
                .join(name),
            [0; 2048],
        )
        .unwrap();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
