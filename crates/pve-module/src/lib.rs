//! What the modules for Proxmox VE share: the connection options, failures in words that say what
//! to do next, a lock for the whole controller, finding VMs, and CD-ROM drives.

pub mod cdrom;
mod connection;
mod failure;
mod find;
mod lock;
pub mod paths;
pub mod record;

pub use connection::Connection;
pub use failure::{doing, failure, may_have_happened, permission_denied};
pub use find::{Inventory, Seen, glance, node_of};
pub use lock::Lock;
