//! What a seed is made of.

use serde_json::{Map, Value};

use crate::payload::Payload;
use crate::{HostKey, Layout, Nic};

/// What a seed is made of. Everything may be left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Input {
    /// The data source that the drive is for.
    pub layout: Layout,
    /// The user's own user-data. A dictionary is merged with what the other
    /// fields ask for, its values winning; a text excludes them.
    pub user_data: Option<Payload>,
    /// vendor-data; user-data wins over it in the guest.
    pub vendor_data: Option<Payload>,
    /// More keys for meta-data. `instance-id` here replaces the computed one; a config drive has
    /// it, and `local-hostname`, under the names `uuid` and `hostname`.
    pub meta_data: Map<String, Value>,
    /// The user's own network-config, instead of `nics`: version 1 or 2 with NoCloud, a
    /// `network_data.json` with a config drive.
    pub network_config: Option<Payload>,
    /// The host name, with or without a domain.
    pub hostname: Option<String>,
    /// Public key lines that may log in as root.
    pub authorized_keys: Vec<String>,
    /// The guest's SSH host keys.
    pub host_keys: Vec<HostKey>,
    /// Addresses, from which a network-config of version 2 or a `network_data.json` is made.
    pub nics: Vec<Nic>,
    /// DNS servers, for every NIC of `nics`.
    pub nameservers: Vec<String>,
    /// DNS search domains, for every NIC of `nics`.
    pub search_domains: Vec<String>,
}
