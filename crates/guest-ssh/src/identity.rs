//! What a client proves itself with.

use std::fs;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::Error;

/// The key that authenticates us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A private key file without a passphrase (nobody could be asked for one).
    File(PathBuf),
    /// Any key that the agent at `SSH_AUTH_SOCK` holds.
    Agent,
}

impl Identity {
    /// Look at the key file before any connection is made, so that a mistake in it is not taken
    /// for a guest that refuses us.
    ///
    /// # Errors
    /// [`Error::Identity`] when the file cannot be read, is not a private key, or wants a passphrase.
    pub fn check(&self) -> Result<(), Error> {
        let Identity::File(path) = self else {
            return Ok(());
        };
        let fail = |reason: String| Error::Identity {
            path: path.clone(),
            reason,
        };
        let text = fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
        if !text.contains("PRIVATE KEY-----") {
            return Err(fail("it is not a private key".into()));
        }
        if encrypted(&text) {
            return Err(fail(
                "it has a passphrase, which nobody can be asked for here; use a key without one, or an agent"
                    .into(),
            ));
        }
        Ok(())
    }

    /// For messages: `the key FILE` or `the keys of the SSH agent`.
    pub(crate) fn describe(&self) -> String {
        match self {
            Identity::File(path) => format!("the key {}", path.display()),
            Identity::Agent => "the keys of the SSH agent".into(),
        }
    }
}

/// Whether a private key's text is encrypted: PEM says so in a header, OpenSSH's own format in
/// the cipher name that follows its magic (PROTOCOL.key).
fn encrypted(text: &str) -> bool {
    if text.contains("ENCRYPTED") {
        return true;
    }
    let body: String = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("-----"))
        .collect();
    let Ok(bytes) = STANDARD.decode(body) else {
        return false;
    };
    let Some(rest) = bytes.strip_prefix(b"openssh-key-v1\0") else {
        return false;
    };
    crate::key::blob_algorithm(rest).is_some_and(|cipher| cipher != "none")
}
