//! What can go wrong between us and a guest.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use deadline::Expired;

use crate::JumpError;

/// A failed connection, login or command. Each says where, what the other side answered, and what
/// to do next when that is not plain.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name has no address.
    #[error("cannot find the address of {host}: {source}")]
    Name {
        /// The name that was looked up.
        host: String,
        /// The resolver's answer.
        source: io::Error,
    },
    /// Nothing listens on the port.
    #[error("connection refused by {address}")]
    Refused {
        /// `HOST port PORT`.
        address: String,
    },
    /// Nothing answered the connection.
    #[error("{address} did not answer within {} s", limit.as_secs())]
    NoAnswer {
        /// `HOST port PORT`.
        address: String,
        /// How long the connection was tried.
        limit: Duration,
    },
    /// No way to the host.
    #[error("cannot connect to {address}: {source}")]
    Unreachable {
        /// `HOST port PORT`.
        address: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The port is open but no SSH server spoke: a forwarded port whose guest is not up yet, or a
    /// server that punishes us for earlier failed logins (OpenSSH's PerSourcePenalties).
    #[error("{address} accepted the connection but sent no SSH banner ({reason})")]
    Banner {
        /// `HOST port PORT`.
        address: String,
        /// What happened instead.
        reason: String,
    },
    /// The key exchange failed.
    #[error("the SSH handshake with {address} failed: {reason}")]
    Handshake {
        /// `HOST port PORT`.
        address: String,
        /// libssh2's message.
        reason: String,
    },
    /// A jump host on the way.
    #[error(transparent)]
    Jump(#[from] JumpError),
    /// There is nothing to verify the server with, so it is not even contacted.
    #[error("no host key is known for {address}, and an unverified server is never used")]
    NoKnownKey {
        /// `HOST port PORT`.
        address: String,
    },
    /// The server's key is not one of the known keys. Nothing was sent to it.
    #[error(
        "{address} offers the host key {offered}, which is not a known one ({}); nothing was sent to it",
        known.join(", ")
    )]
    WrongKey {
        /// `HOST port PORT`.
        address: String,
        /// `TYPE SHA256:...` of the offered key.
        offered: String,
        /// `LABEL TYPE SHA256:...` of each known key.
        known: Vec<String>,
    },
    /// The server is the right one and does not let us in.
    #[error("{address} (host key verified) refused the login {user} with {with}: {reason}")]
    Login {
        /// `HOST port PORT`.
        address: String,
        /// The user that was tried.
        user: String,
        /// What was tried.
        with: String,
        /// libssh2's message, or the methods that the server would take.
        reason: String,
    },
    /// Our own private key cannot be used.
    #[error("cannot use the private key {}: {reason}", path.display())]
    Identity {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The SSH agent cannot be used.
    #[error("cannot use the SSH agent: {reason}")]
    Agent {
        /// What is wrong with it.
        reason: String,
    },
    /// A command could not be run to its end.
    #[error("running {what} on {address}: {reason}")]
    Exec {
        /// `HOST port PORT`.
        address: String,
        /// What was run, in short.
        what: String,
        /// What went wrong.
        reason: String,
    },
    /// The time was over.
    #[error(transparent)]
    Expired(#[from] Expired),
    /// Waiting ended; the last attempt says why.
    #[error("{expired}; last attempt: {last}")]
    GaveUp {
        /// What was waited for, and for how long.
        expired: Expired,
        /// Why the last attempt was not good enough.
        last: String,
    },
}
