//! Reach, wait for and identify a guest over SSH.
//!
//! A guest is trusted by its host key alone: [`Target`] lists the systems that may answer at an
//! address, each with its public host keys and the login to use on it. The key a server offers is
//! compared before anything else is sent; a server with another key learns nothing.
//!
//! Where a guest is reached through jump hosts ([`Jump`]), OpenSSH's `ssh` makes the connection, and checks the host key of each of them.
//!
//! The SSH work is done by libssh2 on a thread of its own, because it blocks; the functions here
//! are async and end with their [`deadline::Deadline`].

mod connection;
mod error;
mod exec;
mod greeting;
mod guest;
mod identity;
mod jump;
mod key;
mod socket;
mod target;
mod wait;

pub use connection::Connection;
pub use error::Error;
pub use exec::{MOST_OUTPUT, Output};
pub use greeting::greets;
pub use guest::{Guest, Kind, OsRelease};
pub use identity::Identity;
pub use jump::{
    Hop, Jump, JumpError, JumpLog, JumpProblem, Place, config as jump_config,
    known_hosts as jump_known_hosts, proxy_command, shell_word,
};
pub use key::{KeyError, PublicKey, fingerprint};
pub use target::{Label, Login, System, Target, is_ipv6};
pub use wait::{Attempt, Patience, wait_for};
