//! The host: everything behind the API, over one data directory.

use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use serde_json::Value;
use tokio_rustls::TlsAcceptor;

use crate::access::Access;
use crate::console::ports::Consoles;
use crate::error::ApiError;
use crate::faults::Faults;
use crate::guest::{Accel, Guests};
use crate::nodes::{Facts, GuestFacts};
use crate::storage::Storage;
use crate::task::Tasks;

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
    /// Consoles that wait for their readers.
    pub consoles: Consoles,
    /// When it was started.
    pub started: SystemTime,
    /// SHA-256 of the certificate, as PVE writes it.
    pub fingerprint: String,
    /// What cluster/resources last heard of each VM.
    pub broadcast: Mutex<HashMap<u32, Value>>,
    /// Held while a VMID is taken, which no two nodes may give away.
    pub taking: Mutex<()>,
    pub(crate) nodes: OnceLock<Vec<Weak<Host>>>,
    pub(crate) options: Options,
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) faults: Faults,
    pub(crate) locks: Mutex<HashMap<u32, Arc<tokio::sync::Mutex<()>>>>,
    pub(crate) requests: Mutex<std::fs::File>,
}

impl Deref for Host {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl Host {
    /// A node, with the directories of what is its own: at the top of the data directory for the first node, below
    /// `nodes/NAME` for the others.
    pub fn open(cluster: &Arc<Cluster>, node: &str, storages: &[Storage]) -> Result<Self> {
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
        crate::random::random_hex(bytes)
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
