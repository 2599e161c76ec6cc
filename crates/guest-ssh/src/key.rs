//! Public host keys in OpenSSH's text form, and their fingerprints.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest, Sha256};

/// An SSH public key, as `ssh-keygen` writes it: `ssh-ed25519 AAAAC3... comment`.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: String,
    blob: Vec<u8>,
}

/// A text that is not a public key we can check a server against.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A private key was given where a public one belongs. The text is not repeated.
    #[error("a private key was given where a public key (\"ssh-ed25519 AAAA...\") is expected")]
    Private,
    /// Not of the form `TYPE BASE64 [COMMENT]`.
    #[error("{0:?} is not a public key (\"ssh-ed25519 AAAA...\")")]
    Syntax(String),
    /// A key type that libssh2 cannot check: certificates, security keys, DSA.
    #[error("host keys of the type {0} cannot be checked; give an ed25519, ECDSA or RSA key")]
    Unsupported(String),
}

impl PublicKey {
    /// The key's type: `ssh-ed25519`, `ssh-rsa`, `ecdsa-sha2-nistp256`...
    pub fn algorithm(&self) -> &str {
        &self.algorithm
    }

    /// The key in SSH's wire encoding, which is what a server offers.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// OpenSSH's fingerprint, `SHA256:...`.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.blob)
    }

    /// The names under which a server may offer this key during the key exchange, best first.
    pub(crate) fn methods(&self) -> &'static [&'static str] {
        methods(&self.algorithm).unwrap_or(&[])
    }
}

fn methods(algorithm: &str) -> Option<&'static [&'static str]> {
    Some(match algorithm {
        "ssh-ed25519" => &["ssh-ed25519"],
        "ecdsa-sha2-nistp256" => &["ecdsa-sha2-nistp256"],
        "ecdsa-sha2-nistp384" => &["ecdsa-sha2-nistp384"],
        "ecdsa-sha2-nistp521" => &["ecdsa-sha2-nistp521"],
        "ssh-rsa" => &["rsa-sha2-512", "rsa-sha2-256"],
        _ => return None,
    })
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.contains("PRIVATE KEY") {
            return Err(KeyError::Private);
        }
        let syntax = || KeyError::Syntax(text.trim().chars().take(40).collect());
        let mut words = text.split_whitespace();
        let (algorithm, encoded) = words.next().zip(words.next()).ok_or_else(syntax)?;
        let blob = STANDARD.decode(encoded).map_err(|_| syntax())?;
        if blob_algorithm(&blob) != Some(algorithm) {
            return Err(syntax());
        }
        methods(algorithm).ok_or_else(|| KeyError::Unsupported(algorithm.to_owned()))?;
        Ok(Self {
            algorithm: algorithm.to_owned(),
            blob,
        })
    }
}

/// `ssh-ed25519 AAAA...`, without a comment: the form of a known_hosts entry.
impl fmt::Display for PublicKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.algorithm, STANDARD.encode(&self.blob))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.algorithm, self.fingerprint())
    }
}

/// The key type a key in wire encoding names itself (its first length-prefixed string).
pub(crate) fn blob_algorithm(blob: &[u8]) -> Option<&str> {
    let (length, rest) = blob.split_first_chunk::<4>()?;
    let name = rest.get(..u32::from_be_bytes(*length) as usize)?;
    std::str::from_utf8(name).ok()
}

/// OpenSSH's fingerprint (`SHA256:...`, base64 without padding) of a key in wire encoding.
pub fn fingerprint(blob: &[u8]) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(blob)))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with ssh-keygen; its own `ssh-keygen -lf` gave the fingerprint.
    const KEY: &str = include_str!("../tests/data/ed25519.pub");
    const FINGERPRINT: &str = include_str!("../tests/data/ed25519.fingerprint");

    #[test]
    fn reads_and_prints_a_key() {
        let key: PublicKey = KEY.parse().unwrap();
        assert_eq!(key.algorithm(), "ssh-ed25519");
        assert_eq!(key.fingerprint(), FINGERPRINT.trim());
        let words: Vec<&str> = KEY.split_whitespace().take(2).collect();
        assert_eq!(key.to_string(), words.join(" "));
        assert_eq!(key.to_string().parse::<PublicKey>().unwrap(), key);
    }

    #[test]
    fn refuses_what_is_not_a_key() {
        for text in [
            "",
            "ssh-ed25519",
            "ssh-ed25519 ???",
            "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAA",
        ] {
            assert!(
                matches!(text.parse::<PublicKey>(), Err(KeyError::Syntax(_))),
                "{text}"
            );
        }
        let renamed = KEY.replacen("ssh-ed25519", "ssh-rsa", 1);
        assert!(matches!(
            renamed.parse::<PublicKey>(),
            Err(KeyError::Syntax(_))
        ));
    }

    #[test]
    fn a_private_key_is_not_repeated() {
        let error = "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0"
            .parse::<PublicKey>()
            .unwrap_err();
        assert!(!error.to_string().contains("c2VjcmV0"));
    }

    #[test]
    fn a_certificate_cannot_be_checked() {
        let mut blob = Vec::new();
        let name = "ssh-ed25519-cert-v01@openssh.com";
        blob.extend_from_slice(&(name.len() as u32).to_be_bytes());
        blob.extend_from_slice(name.as_bytes());
        let text = format!("{name} {}", STANDARD.encode(blob));
        assert_eq!(
            text.parse::<PublicKey>(),
            Err(KeyError::Unsupported(name.to_owned()))
        );
    }
}
