//! The options of `cloudinit_drive`. Their doc comments are the module's documentation.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ansible_module::Secret;
use pve_module::Connection;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// What shall hold when the task has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The VM has a cloud-init drive with this content, and no other one.
    #[default]
    Present,
    /// The VM has no cloud-init drive of either kind, no seed ISO made for it is left on any storage, and none of
    /// C(ciuser), C(cipassword), C(citype), C(cicustom), C(ciupgrade), C(sshkeys), C(nameserver), C(searchdomain) and
    /// C(ipconfigN) is left in its configuration. A VM that is gone is not an error: its seed ISOs are removed.
    Absent,
}

/// Who makes the drive's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An ISO made on the controller, uploaded to O(storage) and attached as a CD-ROM. It can hold everything that
    /// cloud-init reads, and needs no SSH access to the node as snippets do.
    #[default]
    Nocloud,
    /// Proxmox VE's own drive, made by it from the VM's C(ci*) options.
    Native,
}

/// Which of cloud-init's data sources a drive of O(kind=nocloud) is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// NoCloud: C(user-data), C(meta-data), C(vendor-data) and C(network-config) in a volume called C(cidata).
    #[default]
    Nocloud,
    /// ConfigDrive: OpenStack's files below C(openstack/latest) in a volume called C(config-2), for guests that read
    /// only those.
    Configdrive,
}

/// Data for cloud-init.
#[derive(Clone, JsonSchema)]
#[schemars(untagged)]
pub enum Data {
    /// A text that is passed on as it is.
    Text(String),
    /// A dictionary that is written as YAML.
    Dict(Map<String, Value>),
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self::Text(text)),
            Value::Object(dict) => Ok(Self::Dict(dict)),
            other => Err(neither_text_nor_dict(&other)),
        }
    }
}

fn neither_text_nor_dict<E: serde::de::Error>(value: &Value) -> E {
    let got = match value {
        Value::Array(_) => "a list",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        _ => "null",
    };
    E::custom(format!("must be a text or a dictionary (got {got})"))
}

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// An SSH host key of the guest.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct HostKeyOption {
    /// The private key, as text: OpenSSH's format, or PEM of RSA or ECDSA. Lines that were joined or indented on the way are
    /// written anew.
    pub private: Option<Secret>,
    /// A file on the controller with the private key. If the public key of another key is in a file of that name with
    /// C(.pub), it is refused.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub private_file: Option<PathBuf>,
    /// The public key: one line. May be left out.
    pub public: Option<String>,
    /// A file on the controller with the public key.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub public_file: Option<PathBuf>,
}

/// The guest's SSH host keys by kind.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct HostKeys {
    /// The Ed25519 key.
    pub ed25519: Option<HostKeyOption>,
    /// The ECDSA key.
    pub ecdsa: Option<HostKeyOption>,
    /// The RSA key.
    pub rsa: Option<HostKeyOption>,
}

/// The addresses of a NIC.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
pub enum IpOption {
    /// Proxmox VE's text: V(ip=192.0.2.11/24,gw=192.0.2.1), V(ip=dhcp).
    Text(String),
    /// The same in parts.
    Parts(IpParts),
}

impl<'de> Deserialize<'de> for IpOption {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self::Text(text)),
            parts @ Value::Object(_) => {
                let parts = serde_json::from_value(parts).map_err(D::Error::custom)?;
                Ok(Self::Parts(parts))
            }
            other => Err(neither_text_nor_dict(&other)),
        }
    }
}

/// Addresses in parts.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct IpParts {
    /// IPv4 address with its prefix length, or V(dhcp).
    pub ip: Option<String>,
    /// IPv4 gateway.
    pub gw: Option<String>,
    /// IPv6 address with its prefix length, V(dhcp), or V(auto) for router advertisements.
    pub ip6: Option<String>,
    /// IPv6 gateway.
    pub gw6: Option<String>,
}

/// The options of the module.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Options {
    /// How to reach the Proxmox VE API.
    #[serde(flatten)]
    pub connection: Connection,

    /// The VM's ID.
    pub vmid: u32,

    /// A node that reaches O(storage). The VM is managed on the node where it is; this one is asked first, and for the
    /// storage when the VM is gone.
    pub node: String,

    /// What shall hold when the task has ended.
    #[serde(default)]
    pub state: State,

    /// Who makes the drive's content.
    #[serde(default)]
    pub kind: Kind,

    /// The data source that the drive is for (O(kind=nocloud)).
    #[serde(default)]
    pub layout: Layout,

    /// The drive, V(ide0) to V(ide3), V(sata0) to V(sata5) or V(scsi0) to V(scsi30). On a running VM a new IDE or SATA
    /// drive appears with its next stop and start; new content in a drive that is there appears at once.
    ///
    /// Without it the drive is V(ide0). On an aarch64 machine, which has no IDE, it is the SCSI drive that holds the VM's
    /// cloud-init drive, or the first that is free from V(scsi1) on.
    pub drive: Option<String>,

    /// With O(kind=nocloud) the storage for the ISO, which must allow ISO images. With O(kind=native) the storage
    /// for the small volume that Proxmox VE makes, which must allow disk images; a native drive that is there
    /// already stays where it is. Seed ISOs that were made for the VM before are removed wherever they are.
    pub storage: Option<String>,

    /// The user-data (O(kind=nocloud)). A dictionary is a C(#cloud-config), into which the host name, keys and host
    /// keys of the other options are merged, where its own values win; a text is passed on as it is, and must begin as
    /// cloud-init wants it (C(#cloud-config), C(#!), a MIME header, C(## template: jinja), ...), since a guest ignores any other.
    /// A template for the guest is marked C(!unsafe) in a playbook, so that Ansible leaves it alone.
    #[schemars(extend("x-ansible" = {"no_log": true}))]
    pub user_data: Option<Data>,

    /// More keys for the meta-data (O(kind=nocloud)). C(instance-id) is computed from the content unless given here.
    /// With O(layout=configdrive) it and C(local-hostname) are written as C(uuid) and C(hostname), which can be given
    /// instead.
    pub meta_data: Option<Map<String, Value>>,

    /// The vendor-data (O(kind=nocloud)), which user-data wins over.
    #[schemars(extend("x-ansible" = {"no_log": true}))]
    pub vendor_data: Option<Data>,

    /// The network-config (O(kind=nocloud)), version 1 or 2, passed on as it is. With O(layout=configdrive) it is an
    /// OpenStack C(network_data.json). O(ipconfig) is the simple way.
    pub network_config: Option<Data>,

    /// The guest's host name, with or without its domain (O(kind=nocloud)). A name in O(user_data) or O(meta_data) wins over
    /// it. A native drive takes the VM's name.
    pub hostname: Option<String>,

    /// The guest's SSH host keys (O(kind=nocloud)). They are in place before sshd starts, so the very first connection
    /// can be verified.
    pub ssh_host_keys: Option<HostKeys>,

    /// Public keys, one an item, that may log in: as root with O(kind=nocloud), as O(ciuser) with O(kind=native).
    pub ssh_authorized_keys: Option<Vec<String>>,

    /// Addresses by NIC, V(ipconfig0) for V(net0) and so on. With O(kind=nocloud) they become a network-config, or a
    /// C(network_data.json), that finds each NIC by the MAC address which the VM has for it. The guest's names of its NICs
    /// stay, except with a gateway outside of the NIC's network or with V(ip6=auto): then they are called C(eth0), C(eth1)
    /// and so on, as with O(kind=native). An empty value removes the addresses of a NIC.
    pub ipconfig: Option<BTreeMap<String, IpOption>>,

    /// DNS servers. With O(kind=nocloud) they go with O(ipconfig). A guest with a fixed address for which neither they nor
    /// O(searchdomains) are given has those of the node, as Proxmox VE gives them to a native drive. To read them the API
    /// user needs Sys.Audit on the node; without it the guest has none, and the task warns.
    pub nameservers: Option<Vec<String>>,

    /// DNS search domains. With O(kind=nocloud) they go with O(ipconfig).
    pub searchdomains: Option<Vec<String>>,

    /// The user that cloud-init makes (O(kind=native)).
    pub ciuser: Option<String>,

    /// That user's password (O(kind=native)). It is hashed before it is sent. A value that is an MD5, SHA-256, SHA-512 or
    /// bcrypt (C($2a$), C($2y$)) crypt hash already is sent as it is. Other hashes, such as yescrypt (C($y$)) of
    /// C(mkpasswd), are refused, because Proxmox VE would hash them once more; O(user_data) of O(kind=nocloud) takes them as
    /// C(hashed_passwd). An empty one means none.
    pub cipassword: Option<Secret>,

    /// Public keys that may log in as O(ciuser), one a line (O(kind=native)).
    pub sshkeys: Option<String>,

    /// The data source that Proxmox VE writes for, V(nocloud), V(configdrive2) or V(opennebula) (O(kind=native)).
    pub citype: Option<String>,

    /// Whether cloud-init upgrades all packages at the first start (O(kind=native)). Proxmox VE's own default is to do
    /// so, which fills the memory of a live installer; here it is V(false).
    #[serde(default)]
    pub ciupgrade: bool,

    /// Seconds for the whole task.
    #[serde(default = "default_timeout")]
    pub timeout: u64,
}

fn default_timeout() -> u64 {
    120
}
