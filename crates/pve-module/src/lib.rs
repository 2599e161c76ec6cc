//! What the modules for Proxmox VE share: the connection options, failures in words that say what
//! to do next, a lock for the whole controller, finding VMs, CD-ROM drives, and what becomes of the options of community.proxmox.

pub mod cdrom;
mod connection;
mod context;
mod failure;
mod guard;
mod inventory;
mod lock;
mod moving_over;
pub mod paths;
pub mod random;
pub mod record;

pub use connection::Connection;
pub use context::{Context, Session, failed};
pub use failure::{MISSING_PRIVILEGE, doing, explained, failure, permission_denied};
pub use guard::{Guard, GuardedVm, WriteError};
pub use inventory::{Inventory, Load, Seen, check_vms_visible, node_of, node_vms, seen_on};
pub use lock::Lock;
pub use moving_over::Fate;
