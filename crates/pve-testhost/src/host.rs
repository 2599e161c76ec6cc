//! The host: everything behind the API, over one data directory.

use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::ops::Deref;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::access::{Access, Credentials};
use crate::error::ApiError;
use crate::faults::Faults;
use crate::guest::{Accel, Forward, Guests, Settings};
use crate::nodes::{self, Facts, GuestFacts};
use crate::storage::{self, Storage};
use crate::task::Tasks;
use crate::tls;

/// What a host is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Data directory: all state lives here.
    pub data: PathBuf,
    /// Address to listen on; port 0 picks one.
    pub listen: SocketAddr,
    /// How guests are run.
    pub accel: Accel,
    /// Rules of misbehaviour.
    pub faults: Option<PathBuf>,
    /// Port on each guest's loopback address that leads to its port 22.
    pub ssh_port: u16,
    /// Every 401 is delayed by this.
    pub auth_delay: Duration,
    /// The names of the nodes, one at least. The first is the one that is asked; it passes on what is meant for others.
    pub nodes: Vec<String>,
}

impl Options {
    /// A quiet host for tests of the API: no guests, a free port, no delays.
    pub fn simulated(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            accel: Accel::None,
            faults: None,
            ssh_port: 2222,
            auth_delay: Duration::ZERO,
            nodes: vec!["pve".into()],
        }
    }
}

/// A node, and through it all that the nodes have in common.
pub struct Host {
    /// The node's name.
    pub node: String,
    /// The node's tasks.
    pub tasks: Arc<Tasks>,
    /// Where the configurations of the node's VMs are.
    pub configs: PathBuf,
    storages: Vec<Storage>,
    cluster: Arc<Cluster>,
}

/// What all nodes share.
pub struct Cluster {
    /// Data directory.
    pub dir: PathBuf,
    /// Users and privileges.
    pub access: Access,
    /// Running machines.
    pub guests: Guests,
    /// When it was started.
    pub started: SystemTime,
    /// SHA-256 of the certificate, as PVE writes it.
    pub fingerprint: String,
    /// What cluster/resources last heard of each VM.
    pub broadcast: Mutex<HashMap<u32, Value>>,
    /// Held while a VMID is taken, which no two nodes may give away.
    pub taking: Mutex<()>,
    nodes: OnceLock<Vec<Weak<Host>>>,
    options: Options,
    acceptor: TlsAcceptor,
    faults: Faults,
    locks: Mutex<HashMap<u32, Arc<tokio::sync::Mutex<()>>>>,
    requests: Mutex<std::fs::File>,
}

impl Deref for Host {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

/// Seconds since the epoch.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

/// Milliseconds since the epoch.
pub fn now_millis() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| {
            u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
        })
}

/// Replace a file's content at once, readable by its owner only.
pub fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", random_hex(4)));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(content)?;
    std::fs::rename(temporary, path)
}

/// Random bytes in hex.
pub fn random_hex(bytes: usize) -> String {
    let mut buffer = vec![0_u8; bytes];
    getrandom::fill(&mut buffer).expect("the system has randomness");
    hex::encode(buffer)
}

/// A random UUID, version 4.
pub fn random_uuid() -> String {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

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
        let endpoint = json!({
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
        });
        let names = options.nodes.clone();
        let cluster = Arc::new(Cluster {
            access: Access::open(dir.join("access.json"), key),
            guests,
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
        crate::vm::recover(&host)?;
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
                        tokio::spawn(crate::http::connection(host.clone(), tcp, peer));
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
                crate::api::cluster::broadcast(&host);
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
}

impl Host {
    /// A node, with the directories of what is its own: at the top of the data directory for the first node, below
    /// `nodes/NAME` for the others.
    fn open(cluster: &Arc<Cluster>, node: &str, storages: &[Storage]) -> Result<Self> {
        let first = cluster
            .options
            .nodes
            .first()
            .is_some_and(|name| name == node);
        let own = match first {
            true => cluster.dir.clone(),
            false => cluster.dir.join("nodes").join(node),
        };
        let configs = own.join("qemu-server");
        std::fs::create_dir_all(&configs)?;
        let here = |storage: &&Storage| storage.is_on(node);
        let mut storages: Vec<Storage> = storages.iter().filter(here).cloned().collect();
        for storage in &mut storages {
            let root = if storage.shared { &cluster.dir } else { &own };
            storage.path = root.join("storage").join(&storage.id);
            storage.prepare()?;
        }
        Ok(Self {
            tasks: Tasks::open(own.join("tasks"), node)?,
            node: node.to_owned(),
            configs,
            storages,
            cluster: cluster.clone(),
        })
    }

    /// All nodes, this one among them.
    pub fn nodes(&self) -> Vec<Arc<Host>> {
        let all = self.cluster.nodes.get().into_iter().flatten();
        all.filter_map(Weak::upgrade).collect()
    }

    /// The node with this name.
    pub fn peer(&self, node: &str) -> Option<Arc<Host>> {
        self.nodes().into_iter().find(|host| host.node == node)
    }

    /// What `nodes.json` says of this node now.
    pub fn facts(&self) -> Facts {
        Facts::read(&self.dir, &self.node)
    }

    /// What `guests.json` says of a guest now.
    pub fn guest_facts(&self, vmid: u32) -> GuestFacts {
        GuestFacts::read(&self.dir, vmid)
    }

    /// All storages of the node.
    pub fn storages(&self) -> &[Storage] {
        &self.storages
    }

    /// A storage by its name.
    pub fn storage(&self, id: &str) -> Result<&Storage, ApiError> {
        self.storages
            .iter()
            .find(|storage| storage.id == id)
            .ok_or_else(|| {
                let peers = self.nodes();
                let elsewhere = |host: &Arc<Host>| host.storages.iter().any(|known| known.id == id);
                ApiError::failed(match peers.iter().any(elsewhere) {
                    true => format!("storage '{id}' is not available on node '{}'", self.node),
                    false => format!("storage '{id}' does not exist"),
                })
            })
    }

    /// The file of a volume `STORAGE:NAME`, whether it exists or not.
    pub fn volume_file(&self, volid: &str) -> Result<PathBuf, String> {
        let (storage, name) = volid
            .split_once(':')
            .ok_or_else(|| format!("unable to parse volume ID '{volid}'"))?;
        self.storage(storage)
            .map_err(|error| error.message)?
            .file(name)
    }
}

impl Cluster {
    /// TLS.
    pub fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }

    /// Misbehaviour.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// How long a 401 takes.
    pub fn auth_delay(&self) -> Duration {
        self.options.auth_delay
    }

    /// Can devices be plugged into running guests? Simulated ones take anything; real ones wait for their next start.
    pub fn can_hotplug(&self) -> bool {
        self.options.accel == Accel::None
    }

    /// The node's /var/tmp.
    pub fn tmp_dir(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// Random bytes in hex.
    pub fn random_hex(&self, bytes: usize) -> String {
        random_hex(bytes)
    }

    /// A VM's lock, as `lock-ID.conf`: waits 10 s, then fails as PVE does.
    pub async fn lock_vm(&self, vmid: u32) -> Result<tokio::sync::OwnedMutexGuard<()>, String> {
        let lock = self
            .locks
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .entry(vmid)
            .or_default()
            .clone();
        tokio::time::timeout(Duration::from_secs(10), lock.lock_owned())
            .await
            .map_err(|_| lock_timeout(vmid))
    }

    /// Append to `requests.jsonl`.
    pub fn log_request(&self, record: &Value) {
        let mut file = self
            .requests
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Err(error) = file.write_all(format!("{record}\n").as_bytes()) {
            eprintln!("pve-testhost: cannot write requests.jsonl: {error}");
        }
    }
}

/// The text of a VM lock that cannot be had.
pub fn lock_timeout(vmid: u32) -> String {
    format!("can't lock file '/var/lock/qemu-server/lock-{vmid}.conf' - got timeout")
}

impl Server {
    /// The data directory.
    pub fn host_dir(&self) -> &Path {
        &self.host.dir
    }
}
