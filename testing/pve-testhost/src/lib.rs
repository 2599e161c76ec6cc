//! A PVE test host: PVE's HTTPS API over a data directory, with real files as storage and real QEMU guests.
//!
//! For tests and the demo only; it is never shipped. See the crate's README for what it does and where it differs
//! from a real Proxmox VE.

mod access;
mod api;
mod clock;
mod connection;
mod console;
mod context;
mod cpu;
mod datacenter;
mod disk;
mod error;
mod faults;
mod files;
mod formats;
pub mod guest;
mod ha;
mod host;
mod http;
mod multipart;
mod nodes;
mod pools;
pub mod pveum;
mod random;
mod requests;
mod schema;
mod server;
mod storage;
mod task;
mod tls;
mod vm;

pub use host::Options;
pub use server::{Server, init};
