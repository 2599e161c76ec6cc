//! Where a guest is, which systems may answer there, and how to log in to each.

use std::fmt;
use std::net::Ipv6Addr;

use serde::Serialize;

use crate::{Identity, Jump, PublicKey};

/// An address, and the systems that are trusted to answer at it.
#[derive(Clone, Debug)]
pub struct Target {
    /// Host name or address.
    pub host: String,
    /// The SSH port.
    pub port: u16,
    /// The jump hosts on the way; none where the guest is reached from here.
    pub jump: Option<Jump>,
    /// The systems that may answer. One whose key is not listed here is refused.
    pub systems: Vec<System>,
}

/// A system that may answer, known by its host keys.
#[derive(Clone, Debug)]
pub struct System {
    /// Which system this is.
    pub label: Label,
    /// Its public host keys.
    pub keys: Vec<PublicKey>,
    /// How to log in to it.
    pub login: Login,
}

/// A user and what proves to be that user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user's name on the guest.
    pub user: String,
    /// The key to authenticate with.
    pub identity: Identity,
}

/// Which of the systems that live at an address over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Label {
    /// The installer, booted from an ISO.
    Installer,
    /// The installed system.
    Installed,
}

impl fmt::Display for Label {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Label::Installer => "installer",
            Label::Installed => "installed",
        })
    }
}

/// Whether this is an IPv6 address, perhaps with a zone (`fe80::1%eth0`).
pub fn is_ipv6(host: &str) -> bool {
    let (address, zone) = host.split_once('%').unwrap_or((host, "0"));
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty() && zone.chars().all(plain)
}

/// A host as it stands before `:PORT`: an IPv6 address in brackets.
pub(crate) fn bracketed(host: &str) -> String {
    match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    }
}

impl Target {
    /// `HOST port PORT`, as OpenSSH's messages name an address.
    pub fn address(&self) -> String {
        format!("{} port {}", self.host, self.port)
    }

    /// The systems whose host key is `blob` (wire encoding), in order.
    pub(crate) fn owners(&self, blob: &[u8]) -> Vec<&System> {
        self.systems
            .iter()
            .filter(|system| system.keys.iter().any(|key| key.blob() == blob))
            .collect()
    }

    /// Every known key with its label, for messages: `installer ssh-ed25519 SHA256:...`.
    pub(crate) fn known(&self) -> Vec<String> {
        let keys = self
            .systems
            .iter()
            .flat_map(|system| system.keys.iter().map(move |key| (system.label, key)));
        keys.map(|(label, key)| format!("{label} {} {}", key.algorithm(), key.fingerprint()))
            .collect()
    }

    /// The host key methods to negotiate: those of the known keys, less the key types `except`.
    pub(crate) fn methods(&self, except: &[String]) -> Vec<&'static str> {
        let mut methods = Vec::new();
        for key in self.systems.iter().flat_map(|system| &system.keys) {
            if except.iter().any(|type_| type_ == key.algorithm()) {
                continue;
            }
            for method in key.methods() {
                if !methods.contains(method) {
                    methods.push(*method);
                }
            }
        }
        methods
    }
}
