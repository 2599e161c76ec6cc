//! SSH host keys that a guest shall have from its first start.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::Error;

/// The kinds of host keys that sshd offers by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyKind {
    /// Ed25519.
    Ed25519,
    /// ECDSA on a NIST curve.
    Ecdsa,
    /// RSA.
    Rsa,
}

impl KeyKind {
    /// The name in `/etc/ssh/ssh_host_NAME_key`.
    pub fn name(self) -> &'static str {
        match self {
            KeyKind::Ed25519 => "ed25519",
            KeyKind::Ecdsa => "ecdsa",
            KeyKind::Rsa => "rsa",
        }
    }

    /// How the algorithm in a public key line begins.
    fn algorithm(self) -> &'static str {
        match self {
            KeyKind::Ed25519 => "ssh-ed25519",
            KeyKind::Ecdsa => "ecdsa-sha2-",
            KeyKind::Rsa => "ssh-rsa",
        }
    }
}

/// A host key pair, checked.
#[derive(Clone, PartialEq, Eq)]
pub struct HostKey {
    kind: KeyKind,
    private: String,
    public: String,
}

impl std::fmt::Debug for HostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostKey")
            .field("kind", &self.kind)
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

impl HostKey {
    /// Takes a private key in PEM (OpenSSH's format or an older one) and its
    /// public key line. The public part may be left out when the private key is
    /// in OpenSSH's format, which holds it.
    ///
    /// # Errors
    /// [`Error::HostKey`] for a private key that is none, has a passphrase (sshd
    /// could not load it), is of another kind, or does not belong to the public
    /// key. Each would show only as a guest that nobody can log in to.
    pub fn new(kind: KeyKind, private: &str, public: Option<&str>) -> Result<Self, Error> {
        let wrong = |problem| Error::HostKey {
            kind: kind.name(),
            problem,
        };
        let private = private.replace("\r\n", "\n");
        let private = private.trim();
        if !private.starts_with("-----BEGIN ") || !private.contains("PRIVATE KEY-----") {
            return Err(wrong("has no private key in PEM"));
        }
        if private.contains("ENCRYPTED") {
            return Err(wrong("has a passphrase, which sshd cannot ask for"));
        }
        let inside = public_blob(private).map_err(wrong)?;
        let public = match (public.map(str::trim).filter(|p| !p.is_empty()), &inside) {
            (Some(line), _) if line.contains(['\n', '\r']) => {
                return Err(wrong("has a public key of several lines"));
            }
            (Some(line), _) => line.to_owned(),
            (None, Some(blob)) => {
                let algorithm = algorithm(blob).ok_or(wrong("is damaged"))?;
                format!("{algorithm} {}", STANDARD.encode(blob))
            }
            (None, None) => {
                return Err(wrong(
                    "has no public key, and its private key is not in OpenSSH's format",
                ));
            }
        };
        let mut words = public.split_ascii_whitespace();
        let (Some(algorithm), Some(blob)) = (words.next(), words.next()) else {
            return Err(wrong(
                "has a public key that is no line of algorithm and base64",
            ));
        };
        if !algorithm.starts_with(kind.algorithm()) {
            return Err(wrong("has a public key of another kind"));
        }
        let blob = STANDARD
            .decode(blob)
            .map_err(|_| wrong("has a public key that is not base64"))?;
        if inside.is_some_and(|inside| inside != blob) {
            return Err(wrong(
                "has a public key that does not belong to the private one",
            ));
        }
        Ok(HostKey {
            kind,
            private: format!("{private}\n"),
            public: format!("{public}\n"),
        })
    }

    /// Its kind.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The private key file's content.
    pub fn private(&self) -> &str {
        &self.private
    }

    /// The public key file's content: one line.
    pub fn public(&self) -> &str {
        &self.public
    }
}

/// The public key inside a private key in OpenSSH's format, else nothing.
///
/// The format (PROTOCOL.key in OpenSSH's source): `openssh-key-v1\0`, then the
/// strings cipher, KDF and KDF options, the number of keys, and the public key
/// as a string; strings have a big-endian length of four bytes in front.
fn public_blob(pem: &str) -> Result<Option<Vec<u8>>, &'static str> {
    const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
    let Some(body) = pem.strip_prefix(BEGIN) else {
        return Ok(None);
    };
    let damaged = "has a damaged private key";
    let body = body.split_once("-----END").ok_or(damaged)?.0;
    let packed: String = body.split_ascii_whitespace().collect();
    let bytes = STANDARD.decode(packed).map_err(|_| damaged)?;
    let rest = bytes.strip_prefix(b"openssh-key-v1\0").ok_or(damaged)?;
    let (cipher, rest) = string(rest).ok_or(damaged)?;
    if cipher != b"none" {
        return Err("has a passphrase, which sshd cannot ask for");
    }
    let (_kdf, rest) = string(rest).ok_or(damaged)?;
    let (_kdf_options, rest) = string(rest).ok_or(damaged)?;
    let (_count, rest) = rest.split_at_checked(4).ok_or(damaged)?;
    let (blob, _) = string(rest).ok_or(damaged)?;
    Ok(Some(blob.to_vec()))
}

/// The algorithm that a public key blob begins with.
fn algorithm(blob: &[u8]) -> Option<&str> {
    std::str::from_utf8(string(blob)?.0).ok()
}

/// A length-prefixed string, and what follows it.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}
