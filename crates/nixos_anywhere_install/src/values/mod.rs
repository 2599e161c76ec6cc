//! Option values, as people write them.

pub(crate) mod flake;
pub(crate) mod host;
pub(crate) mod jump;
pub(crate) mod nix_options;
pub(crate) mod path;
pub(crate) mod settings;
pub(crate) mod ssh_options;
