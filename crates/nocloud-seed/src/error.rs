//! What input cannot become a seed.

/// Why no seed can be made. Messages never hold key material or user-data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Keys or a host key are to be added to user-data that is a text of its own.
    #[error(
        "user_data is a text, which is passed on as it is, so {0} cannot be added to it; give user_data as a \
         dictionary, or put them into the text"
    )]
    TextIsFixed(&'static str),

    /// The user's own user-data contradicts what the other options need.
    #[error("user_data.{key}: {problem}")]
    UserData {
        /// The key in the user's dictionary.
        key: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },

    /// A text that cloud-init would not take.
    #[error("{what}: {problem}")]
    Text {
        /// The option, and the part of it if it has parts.
        what: String,
        /// What is wrong with it, without a word of it.
        problem: String,
    },

    /// A value of a configuration that cloud-init would not take, or not as meant.
    #[error("{what}: {problem}")]
    Config {
        /// The option and where in it.
        what: String,
        /// What is wrong, and what to do.
        problem: String,
    },

    /// A line that cannot stand in `authorized_keys`.
    #[error("ssh_authorized_keys: key {number} {problem}")]
    AuthorizedKey {
        /// Its position, counted from one.
        number: usize,
        /// What is wrong with it.
        problem: &'static str,
    },

    /// A host key that sshd would not take.
    #[error("ssh_host_keys.{kind}: {problem}")]
    HostKey {
        /// `ed25519`, `ecdsa` or `rsa`.
        kind: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },

    /// An address or a set of addresses that makes no sense.
    #[error("{what}: {problem}")]
    Network {
        /// The option or text.
        what: String,
        /// What is wrong with it.
        problem: String,
    },

    /// A host name that cannot be one.
    #[error(
        "hostname: must be letters, digits and dashes, in parts of at most 63 characters joined by dots (got {0:?})"
    )]
    Hostname(String),
}

impl Error {
    /// What is wrong with a host key, without the option's name.
    pub(crate) fn host_key_problem(&self) -> &'static str {
        match self {
            Self::HostKey { problem, .. } => problem,
            _ => "is not a host key that sshd loads",
        }
    }
}
