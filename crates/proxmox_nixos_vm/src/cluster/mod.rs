//! The cluster as it is now: which VM is the one that is described, and which node and VMID a new one gets.

pub mod creation_log;
pub mod creation_progress;
pub mod identify;
pub mod locks;
pub mod placement;
pub mod survey;
pub mod vmid;
