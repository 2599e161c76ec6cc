//! For tests: a PVE test host without guests, and built modules that run against it as Ansible runs them, and their
//! answers as text for snapshots.
//!
//! It is among the dev-dependencies of crates only, and in nothing that is shipped. Whatever goes wrong is a panic, which
//! ends the test.

mod host;
mod lab;
mod shown;
pub mod sshd;

pub use host::Host;
pub use lab::Lab;
pub use shown::{failure, redacted, shown};

use serde_json::Value;

/// Options with more of them, or others: objects whose keys at the top are merged.
pub fn with(mut options: Value, more: Value) -> Value {
    let more = more.as_object().unwrap().clone();
    options.as_object_mut().unwrap().extend(more);
    options
}
