//! What a run would do to one machine, as `nixos_vm_lifecycle` plans it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a run would do to one machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostPlan {
    /// `VM 101 (web1)`.
    pub object: String,
    /// The VM's name.
    pub name: String,
    /// What would be done to it.
    pub action: Action,
    /// One sentence about that.
    pub msg: String,
    /// How far the machine has come; `absent` if there is none.
    pub phase: String,
    /// The steps that are due.
    pub due: Vec<String>,
    /// What identifies the cluster.
    pub cluster: String,
    /// The first address of the cluster's API, for people.
    pub api: String,
    /// The VMID, once there is one.
    pub vmid: Option<u32>,
    /// The node that the machine is on, or that the inventory names.
    pub node: Option<String>,
    /// The nodes of which a run chooses one, each with how many VMs it has that the machine shall be apart from.
    pub candidates: BTreeMap<String, usize>,
    /// The names of VMs that the machine shall not share a node with.
    pub apart_from: Vec<String>,
    /// What changes, by the options of the VM or the words of the module that plans it: before and after, null for none.
    pub changes: BTreeMap<String, (Value, Value)>,
    /// The system that the machine gets.
    pub system: Option<System>,
    /// What it takes beyond what it has.
    pub demand: Demand,
    /// What no other host may claim.
    pub claims: Vec<Claim>,
    /// Why a run would be refused.
    pub mistakes: Vec<String>,
    /// Commands for a node's shell that grant privileges which are missing.
    pub commands: Vec<String>,
    /// What the nodes and storages that matter to it have.
    pub capacity: Capacity,
}

/// What would be done to a machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The VM is made, and its system installed.
    Create,
    /// An installation that was interrupted goes on.
    Resume,
    /// It is installed anew.
    Reinstall,
    /// Something of it changes.
    Change,
    /// Nothing.
    #[default]
    None,
    /// Nothing, because a run would be refused.
    Refuse,
}

/// The system of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct System {
    /// Its store path, if it was built.
    pub path: Option<String>,
    /// The size of its closure in bytes, if that is known.
    pub bytes: Option<u64>,
    /// The size of the boot disk in bytes, if that is known.
    pub disk: Option<u64>,
}

/// What a machine takes beyond what it has. Negative if it shrinks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Demand {
    /// Memory in bytes.
    pub memory: i64,
    /// Virtual CPUs.
    pub cpus: i64,
    /// Bytes of disks by their storages.
    pub storages: BTreeMap<String, i64>,
}

/// Something that only one host may have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The inventory host.
    pub host: String,
    /// For people: `the VM name web1`.
    pub what: String,
    /// Canonical form: two claims with the same key conflict.
    pub key: String,
    /// The variable that distinguishes them.
    pub variable: String,
}

/// What nodes and storages have, as Proxmox VE listed them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capacity {
    /// The nodes by their names.
    pub nodes: BTreeMap<String, Node>,
    /// The storages; a shared one once.
    pub storages: Vec<Storage>,
}

/// A node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Memory in bytes.
    pub memory: u64,
    /// Memory in use, in bytes.
    pub used: u64,
    /// The memory that its VMs and containers may take, in bytes.
    pub given: u64,
    /// What they may take of it beyond what they use now, in bytes.
    pub promised: u64,
    /// CPUs.
    pub cpus: u64,
    /// The CPUs of its VMs and containers.
    pub cpus_given: u64,
}

/// A storage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Storage {
    /// As in `nixos_vm_disks_storage`.
    pub name: String,
    /// Its node; none if it is shared.
    pub node: Option<String>,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes in use.
    pub used: u64,
}
