//! A PVE test host: PVE's HTTPS API over a data directory, with real files as storage and real QEMU guests.
//!
//! For tests and the demo only; it is never shipped. See the crate's README for what it does and where it differs
//! from a real Proxmox VE.

mod access;
mod api;
mod datacenter;
mod disk;
mod error;
mod faults;
mod formats;
pub mod guest;
mod host;
mod http;
mod multipart;
mod nodes;
pub mod pveum;
mod requests;
mod schema;
mod storage;
mod task;
mod tls;
mod vm;

pub use host::{Options, Server, init};
