//! The options of `proxmox_snapshot`. Their doc comments are the module's documentation.

use std::path::PathBuf;

use pve_module::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What holds for the snapshot when the task has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The VM has a snapshot of this name. An existing one stays as it is, except for its O(description).
    #[default]
    Present,
    /// The VM has no snapshot of this name.
    Absent,
    /// The VM was rolled back to the snapshot: what was written to its disks since then is lost. This is an action: it is done, and
    /// reported as a change, in every run, because nothing proves that a disk is still as it was.
    RolledBack,
    /// The same as V(rolled_back), under the name that C(community.proxmox.proxmox_snap) has for it.
    Rollback,
}

/// The options of the module.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Options {
    /// How to reach the PVE API.
    #[serde(flatten)]
    pub connection: Connection,

    /// What holds for the snapshot when the task has ended.
    #[serde(default)]
    pub state: State,

    /// The VM's ID.
    pub vmid: Option<u32>,

    /// The VM's name. It identifies the VM unless O(vmid) does; a name that two VMs have is an error.
    pub name: Option<String>,

    /// The snapshot's name: a letter, followed by letters, digits, C(_) and C(-), 2 to 40 characters in all. V(current) and V(pending) are
    /// reserved by Proxmox VE.
    #[serde(default = "default_snapname")]
    pub snapname: String,

    /// The snapshot's description. An existing snapshot with another one gets this one; an empty text removes it. Without the option
    /// the description of an existing snapshot is kept.
    pub description: Option<String>,

    /// Save the memory of a running VM, too. A rollback to such a snapshot resumes the guest. It has no effect on a snapshot that exists,
    /// and none on a VM that is stopped.
    #[serde(default)]
    pub vmstate: bool,

    /// How many snapshots of the names that begin with O(retention_prefix) to keep, the new one among them. When the task has created a
    /// snapshot, it deletes the oldest of the others. If nothing is created, nothing is deleted. V(0) keeps all of them.
    #[serde(default)]
    pub retention: u32,

    /// Prefix of the names of the snapshots that O(retention) counts and may delete. It is required if O(retention) is set, and
    /// O(snapname) must begin with it. An empty string matches every snapshot of the VM.
    pub retention_prefix: Option<String>,

    /// With O(state=absent), delete the snapshot from the VM's configuration even if a disk has no such snapshot or cannot delete it.
    /// An incomplete snapshot (its creation was interrupted) can only be deleted with this option.
    #[serde(default)]
    pub force: bool,

    /// With O(state=rolled_back), start the VM afterwards. Otherwise the VM is stopped after the rollback, even if it ran before,
    /// unless the snapshot has the guest's memory.
    #[serde(default)]
    pub start: bool,

    /// Work on a VM whose installation by the role C(nixos_vm) is not finished. Without it such a VM is refused. After a rollback in the
    /// middle of an installation, the role refuses to go on with that machine.
    #[serde(default)]
    pub allow_during_installation: bool,

    /// Longest time for the whole task, in seconds.
    #[serde(default = "default_timeout")]
    pub timeout: u64,

    /// File to append progress to, one JSON object a line, each with its C(time) and C(event): a V(step) begins (C(step), C(object)); a
    /// task of Proxmox VE's, or a lock, is awaited (V(wait), with C(seconds)).
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub progress_path: Option<PathBuf>,
}

fn default_snapname() -> String {
    "ansible_snap".into()
}

fn default_timeout() -> u64 {
    300
}
