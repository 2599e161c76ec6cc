//! The server: makes and opens the data directory, listens, and runs what PVE's daemons do on their own.

use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::access::{Access, Credentials};
use crate::console::ports::Consoles;
use crate::faults::Faults;
use crate::files::write_private;
use crate::guest::{Forward, Guests, Settings};
use crate::host::{Cluster, Host, Options};
use crate::random::{random_hex, random_uuid};
use crate::storage::{self, Storage};
use crate::{api, connection, nodes, tls, vm};

/// Make the data directory for these nodes; what is there stays.
///
/// # Errors
/// When the names cannot be used, or the system's.
pub fn init(dir: &Path, nodes: &[String]) -> Result<Credentials> {
    nodes::check(nodes)?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("make {}", dir.display()))?;
    for name in ["tmp", "run"] {
        std::fs::create_dir_all(dir.join(name))?;
    }
    tls::init(dir, nodes)?;
    let file = dir.join("storage.json");
    if !file.exists() {
        write_private(
            &file,
            &serde_json::to_vec_pretty(&storage::defaults(nodes.len() > 1))?,
        )?;
    }
    if !dir.join("authkey").exists() {
        write_private(&dir.join("authkey"), random_hex(32).as_bytes())?;
    }
    let file = dir.join("credentials.json");
    if let Ok(text) = std::fs::read(&file) {
        return serde_json::from_slice(&text).context("read credentials.json");
    }
    let credentials = Credentials {
        password: random_hex(12),
        root_secret: random_uuid(),
        provisioner_secret: random_uuid(),
        empty_secret: random_uuid(),
    };
    Access::init(&dir.join("access.json"), &credentials)?;
    write_private(&file, &serde_json::to_vec_pretty(&credentials)?)?;
    Ok(credentials)
}

/// A host that serves.
pub struct Server {
    /// The node that is asked.
    pub host: Arc<Host>,
    /// What `endpoint.json` says: api_host, api_port, tls_fingerprint, ca_path, api_user, api_token_id, ...
    pub endpoint: Value,
    /// Where it listens.
    pub address: SocketAddr,
    listener: TcpListener,
    nodes: Vec<Arc<Host>>,
}

impl Server {
    /// Open the data directory and listen.
    pub async fn open(options: Options) -> Result<Self> {
        let dir = std::path::absolute(&options.data)?;
        let credentials = init(&dir, &options.nodes)?;
        let (acceptor, fingerprint) = tls::acceptor(&dir)?;
        let key = hex::decode(std::fs::read_to_string(dir.join("authkey"))?.trim())?;
        let key =
            <[u8; 32]>::try_from(key).map_err(|_| anyhow::anyhow!("authkey is not 32 bytes"))?;
        let storages: Vec<Storage> =
            serde_json::from_slice(&std::fs::read(dir.join("storage.json"))?)
                .context("read storage.json")?;
        let forward = Forward {
            host_port: options.ssh_port,
            guest_port: 22,
        };
        let settings = Settings {
            state_dir: dir.clone(),
            accel: options.accel,
            forwards: vec![forward],
        };
        let guests = Guests::new(settings).map_err(anyhow::Error::msg)?;
        let requests = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(dir.join("requests.jsonl"))?;
        let listener = TcpListener::bind(options.listen)
            .await
            .with_context(|| format!("listen on {}", options.listen))?;
        let address = listener.local_addr()?;
        let endpoint = endpoint(&options, &credentials, address, &fingerprint, &dir);
        let names = options.nodes.clone();
        let cluster = Arc::new(Cluster {
            access: Access::open(dir.join("access.json"), key),
            guests,
            consoles: Consoles::default(),
            started: SystemTime::now(),
            fingerprint,
            broadcast: Mutex::default(),
            taking: Mutex::default(),
            nodes: OnceLock::new(),
            faults: Faults::new(options.faults.clone()),
            options,
            acceptor,
            locks: Mutex::default(),
            requests: Mutex::new(requests),
            dir,
        });
        let nodes = names
            .iter()
            .map(|name| Host::open(&cluster, name, &storages).map(Arc::new))
            .collect::<Result<Vec<_>>>()?;
        let known = nodes.iter().map(Arc::downgrade).collect();
        if cluster.nodes.set(known).is_err() {
            unreachable!("the nodes are set once");
        }
        let host = nodes[0].clone();
        vm::recover(&host)?;
        write_private(
            &host.dir.join("endpoint.json"),
            &serde_json::to_vec_pretty(&endpoint)?,
        )?;
        Ok(Self {
            host,
            endpoint,
            address,
            listener,
            nodes,
        })
    }

    /// Serve until `stop` comes; then end the guests.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<()> {
        let host = self.host.clone();
        let accept = async {
            loop {
                match self.listener.accept().await {
                    Ok((tcp, peer)) => {
                        tokio::spawn(connection::serve(host.clone(), tcp, peer));
                    }
                    // Out of file descriptors, mostly: give others time to close some.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        let broadcast = async {
            // pvestatd's round: cluster/resources lags by up to this.
            loop {
                tokio::time::sleep(Duration::from_secs(10)).await;
                api::cluster::broadcast(&host);
            }
        };
        let _nodes = self.nodes;
        tokio::select! {
            () = accept => {}
            () = broadcast => {}
            () = stop => {}
        }
        self.host.guests.shutdown().await;
        let _ = std::fs::remove_file(self.host.dir.join("endpoint.json"));
        Ok(())
    }

    /// The data directory.
    pub fn host_dir(&self) -> &Path {
        &self.host.dir
    }
}

/// What a client needs to reach the host, as endpoint.json has it.
fn endpoint(
    options: &Options,
    credentials: &Credentials,
    address: SocketAddr,
    fingerprint: &str,
    dir: &Path,
) -> Value {
    json!({
        "api_host": address.ip().to_string(),
        "api_port": address.port(),
        "tls_fingerprint": fingerprint,
        "ca_path": dir.join(tls::CA_FILE),
        "api_user": "root@pam",
        "api_password": credentials.password,
        "api_token_id": "full",
        "api_token_secret": credentials.root_secret,
        "node": options.nodes[0],
        "nodes": options.nodes,
        "pid": std::process::id(),
        "ssh_port": options.ssh_port,
        "provisioner": {"api_user": "provisioner@pve", "api_token_id": "ansible", "api_token_secret": credentials.provisioner_secret},
        "empty": {"api_user": "provisioner@pve", "api_token_id": "empty", "api_token_secret": credentials.empty_secret},
    })
}
