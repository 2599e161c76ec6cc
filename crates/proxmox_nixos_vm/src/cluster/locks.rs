//! The names of the locks that tasks of one controller hold against each other.

/// The name of the lock that is held while a task of this controller creates the VM.
pub fn creating(cluster: &str, vmid: u32) -> String {
    format!("creating {cluster} {vmid}")
}

/// The name of the lock that is held while a VMID is chosen and asked for.
pub fn turn(cluster: &str) -> String {
    format!("vmid {cluster}")
}

/// The name of the lock that is held while a task of this controller looks for a VM by this name and makes it.
pub fn name(cluster: &str, name: &str) -> String {
    format!("name {cluster} {}", name.to_ascii_lowercase())
}

/// The name of the lock that is held while a node is chosen; its note has the latest choices.
pub fn placing(cluster: &str) -> String {
    format!("placing {cluster}")
}

/// The name of the lock that is held while a task of this controller changes what HA knows: the VMs of a rule are one list.
pub fn ha(cluster: &str) -> String {
    format!("ha {cluster}")
}
