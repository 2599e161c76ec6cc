//! The option `ssh_options`.

use serde_json::Value;

use crate::values::settings::{self, SSH, SSH_LIST};

/// The options that `ssh` may be given: how it speaks, not to whom or as whom, which other options
/// of this module say. Whether each takes a list of algorithms.
pub(crate) const SSH_OPTIONS: [(&str, bool); 12] = [
    ("AddressFamily", false),
    ("BindAddress", false),
    ("BindInterface", false),
    ("Ciphers", true),
    ("Compression", false),
    ("ConnectTimeout", false),
    ("ConnectionAttempts", false),
    ("HostKeyAlgorithms", true),
    ("IPQoS", false),
    ("KexAlgorithms", true),
    ("MACs", true),
    ("PubkeyAcceptedAlgorithms", true),
];

/// The value of an option for `ssh`.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn ssh_option(name: &str, value: &Value) -> Result<String, String> {
    let lists = SSH_OPTIONS
        .iter()
        .any(|(known, list)| *list && known.eq_ignore_ascii_case(name));
    settings::text(value, if lists { &SSH_LIST } else { &SSH })
}
