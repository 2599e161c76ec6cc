//! A client of the Proxmox VE REST API that lives with what real servers do:
//! they drop idle connections after five seconds, answer 596 while the call
//! still runs, put error texts into the reason phrase, and run most changes as
//! tasks whose outcome is found in their exit status only.
//!
//! Reads are retried within the caller's [`deadline::Deadline`]; a write is sent
//! again only when it is known that it did not reach the server or was refused
//! for a lock. Whatever else happens to a write, the error says whether it
//! [may have happened](Error::may_have_happened), and the caller reads the state.

mod answer;
mod client;
pub mod console;
mod digest;
mod error;
mod guests;
mod params;
pub mod property;
mod session;
mod settings;
mod storage;
mod task;
mod tls;
pub mod upid;
mod upload;
pub mod volid;

pub use client::Client;
pub use digest::{FileDigest, sha256_bytes, sha256_file};
pub use error::{Error, Refusal, TaskFailure};
pub use guests::{Node, Pending, Vm, VmStatus};
pub use params::Params;
pub use settings::{Credential, Settings, Tls};
pub use storage::{Storage, StorageContent};
#[cfg(fuzzing)]
pub use task::task_failure;
pub use task::{LogLine, TaskResult};
pub use tls::{normalise_fingerprint, system_tls};
pub use upid::Upid;
pub use upload::{ByteStream, Upload};
pub use volid::{Content, Volid};
