//! The options, brought into PVE's terms: what the VM's configuration shall say.

mod boot;
mod from_options;
mod ha;
mod hardware;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use pve_module::record::Record;

use crate::config::drive::Drive;
use crate::config::nic::Nic;
use crate::guard::Guard;
use crate::guard::ownership::Ownership;
use crate::options::Ha;

/// What the VM's configuration shall say. Only what is in here is managed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// Plain options; none removes the option.
    pub plain: BTreeMap<String, Option<String>>,
    /// Drives.
    pub drives: BTreeMap<String, Drive>,
    /// NICs; none removes the NIC.
    pub nics: BTreeMap<String, Option<Nic>>,
    /// The boot order, as PVE writes it.
    pub boot: Option<String>,
    /// The pool.
    pub pool: Option<String>,
    /// High availability.
    pub ha: Option<Ha>,
    /// Drives to remove.
    pub remove: BTreeSet<String>,
    /// Whether the volumes of removed disks are deleted.
    pub delete_volumes: bool,
    /// Whether disks on other storages are moved.
    pub move_disks: bool,
    /// What the tags and the record of the VM must be, so that it is touched.
    pub guard: Guard,
    /// The record to write into the notes. Its VMID is 0 until that of a new VM is known.
    pub record: Option<Record>,
    /// Whether the tags are added to those that there are.
    pub add_tags: bool,
    /// Whether the VM must be a new one.
    pub new: bool,
    /// Whether the name renames the VM that the VMID means.
    pub rename: bool,
}

impl Desired {
    /// The same, with what the lifecycle of an installation asks for.
    pub fn owned(mut self, ownership: Ownership) -> Self {
        self.guard = self
            .guard
            .with_record(ownership.expect, ownership.unrecorded);
        self.record = ownership.write;
        self.add_tags = ownership.add_tags;
        self.new = ownership.new;
        self.rename = ownership.rename;
        self
    }

    /// The record to write for the VM with this number.
    pub fn record_for(&self, vmid: u32) -> Option<Record> {
        let mut record = self.record.clone()?;
        if record.vmid == 0 {
            record.vmid = vmid;
        }
        Some(record)
    }

    /// Whether hardware is described, so that a VM made of it would be meant.
    pub fn describes_hardware(&self) -> bool {
        !self.drives.is_empty()
            || self.nics.values().any(Option::is_some)
            || self.plain.contains_key("memory")
    }
}

/// For tests: options as they come from Ansible, without the connection's.
#[cfg(test)]
pub fn from_json(mut options: serde_json::Value) -> Result<Desired, String> {
    options["api_host"] = serde_json::json!(["pve"]);
    Desired::from_options(&serde_json::from_value(options).unwrap())
        .map_err(|mistakes| mistakes.join("; "))
}
