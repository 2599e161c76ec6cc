//! Reach, wait for and identify a guest over SSH.
//!
//! A guest is trusted by its host key alone: [`Target`] lists the systems that may answer at an
//! address, each with its public host keys and the login to use on it. The key a server offers is
//! compared before anything else is sent; a server with another key learns nothing.
//!
//! The SSH work is done by libssh2 on a thread of its own, because it blocks; the functions here
//! are async and end with their [`deadline::Deadline`].

mod connection;
mod error;
mod exec;
mod guest;
mod identity;
mod key;
mod socket;
mod target;
mod wait;

pub use connection::Connection;
pub use error::Error;
pub use exec::{MOST_OUTPUT, Output};
pub use guest::{Guest, Kind, OsRelease};
pub use identity::Identity;
pub use key::{KeyError, PublicKey, fingerprint};
pub use target::{Label, Login, System, Target};
pub use wait::{Attempt, Patience, wait_for};
