//! Where the API is, who asks, and which certificate is believed.

use std::path::PathBuf;
use std::time::Duration;

/// Everything a [`crate::Client`] needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Host names or addresses of nodes of one cluster, in order of preference.
    /// The first that answers is used, the next when it stops answering.
    pub hosts: Vec<String>,
    /// TCP port of pveproxy, 8006 unless it was put behind something else.
    pub port: u16,
    /// Who asks.
    pub credential: Credential,
    /// Which server certificate is believed.
    pub tls: Tls,
    /// Longest wait for the answer to one request. pveproxy itself gives up on
    /// pvedaemon after 30 s (status 596), so less than that hides its answer.
    pub request_timeout: Duration,
}

/// Who asks. `Debug` never shows the secret part.
#[derive(Clone)]
pub enum Credential {
    /// An API token.
    Token {
        /// `user@realm!name`.
        id: String,
        /// The token's secret, a UUID.
        secret: String,
    },
    /// A user with a password: a ticket is fetched and renewed as needed.
    Password {
        /// `user@realm`.
        user: String,
        /// The password.
        password: String,
    },
}

impl Credential {
    /// `user@realm` or `user@realm!token`.
    pub fn caller(&self) -> &str {
        match self {
            Self::Token { id, .. } => id,
            Self::Password { user, .. } => user,
        }
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Token { id, .. } => write!(f, "Token({id})"),
            Self::Password { user, .. } => write!(f, "Password({user})"),
        }
    }
}

/// Which server certificate is believed. It is checked before credentials are sent.
#[derive(Clone, Debug)]
pub enum Tls {
    /// Certificates that chain to one of the system's roots.
    System,
    /// Certificates that chain to a root in this PEM file, and no others.
    CaFile(PathBuf),
    /// Certificates with one of these SHA-256 fingerprints (64 hex digits, with or
    /// without colons), self-signed or not, under any name.
    Fingerprint(Vec<String>),
    /// Any certificate. Whoever is on the path can read the credentials.
    Insecure,
}
