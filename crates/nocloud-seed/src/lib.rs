//! cloud-init seeds: from structured input to the one ISO that a guest reads.
//!
//! [`Input`] is what a user wants; [`Seed::new`] turns it into the files of
//! cloud-init's NoCloud or ConfigDrive data source, and [`Seed::iso`] into the drive to attach.
//! Equal input gives equal bytes, an equal instance-id and an equal file name,
//! so "has anything changed" is a comparison of names.

mod cloud_config;
mod crypt;
mod der;
mod error;
mod findings;
mod host_key;
mod host_name;
mod input;
mod ip_config;
pub mod iso;
mod layout;
mod mime;
mod name;
mod network;
mod network_check;
mod payload;
mod public_key;
mod pyyaml;
mod seed;
mod spelling;
mod text;
mod user_data;
mod wire;
pub mod yaml;

pub use crypt::{bare_hash, check_hash, is_passed_on_by_pve, looks_hashed};
pub use error::Error;
pub use host_key::{HostKey, KeyKind};
pub use input::Input;
pub use ip_config::{Address4, Address6, IpConfig, Unusable};
pub use layout::Layout;
pub use name::{iso_name, iso_prefix, iso_vmid};
pub use network::Nic;
pub use payload::Payload;
pub use public_key::PublicKeyLine;
pub use seed::Seed;
