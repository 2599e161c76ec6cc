//! Facts about the parameters of Proxmox VE's VM configuration, one row for each parameter.
//!
//! The facts are those of PVE 9.2: the schema of its API, and the formats and privileges that qemu-server registers by name.
//! To add a VM option, add its row to `parameters.rs`. If it is a property string, add its keys to `properties.rs`.

pub mod cpu;
mod drives;
mod parameters;
mod properties;
pub mod spelling;
pub mod syntax;

pub use drives::{
    DRIVE, EFIDISK, TPMSTATE, drive_key, drive_keys, is_cdrom_drive, is_drive, is_state_disk,
};
pub use parameters::PARAMETERS;
pub use properties::{NIC, NIC_MODELS};

/// An [`Kind::Integer`] without an upper bound.
pub const MOST: u64 = u64::MAX;

/// The values that a parameter, or a key of a property string, can have.
#[derive(Debug)]
pub enum Kind {
    /// A boolean in any of PVE's spellings.
    Flag,
    /// A whole number between these bounds, both included.
    Integer(u64, u64),
    /// A number that is not negative.
    Number,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// A text for which the function is true, and what is expected in words.
    Text(fn(&str) -> bool, &'static str),
    /// A text that PVE checks itself.
    Any,
    /// A property string with these keys.
    Properties(&'static Properties),
    /// A drive; its keys depend on the bus, see [`drive_keys`].
    Drive,
    /// A NIC, see [`NIC`].
    Nic,
    /// Not a part of the configuration: a parameter of an API call.
    NotConfig,
}

/// The keys of a property string, such as `agent: enabled=1,type=virtio`.
#[derive(Debug)]
pub struct Properties {
    /// The key that PVE writes without its name.
    pub default_key: Option<&'static str>,
    /// The keys. Without any, PVE checks the text itself.
    pub keys: &'static [Key],
    /// Keys of which exactly one is required.
    pub one_of: &'static [&'static str],
}

/// A key of a property string.
#[derive(Debug)]
pub struct Key {
    /// The name in PVE's spelling, with its dashes and underscores.
    pub name: &'static str,
    /// The values that PVE takes for it.
    pub kind: Kind,
    /// The value that PVE assumes if the key is absent.
    pub default: Option<&'static str>,
    /// The key of which this one is another name.
    pub alias_of: Option<&'static str>,
    /// The buses whose drives have the key; empty for all.
    pub buses: &'static [&'static str],
    /// The key that this one needs, with a value that is not left to DHCP or the like.
    pub needs_fixed: Option<&'static str>,
    /// Whether the key only describes how a volume is made, and PVE does not keep it.
    pub create_only: bool,
}

impl Key {
    const fn new(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            default: None,
            alias_of: None,
            needs_fixed: None,
            buses: &[],
            create_only: false,
        }
    }

    const fn needs_fixed(mut self, name: &'static str) -> Self {
        self.needs_fixed = Some(name);
        self
    }

    const fn default(mut self, value: &'static str) -> Self {
        self.default = Some(value);
        self
    }

    const fn alias_of(mut self, name: &'static str) -> Self {
        self.alias_of = Some(name);
        self
    }

    const fn buses(mut self, buses: &'static [&'static str]) -> Self {
        self.buses = buses;
        self
    }

    const fn create_only(mut self) -> Self {
        self.create_only = true;
        self
    }
}

/// A parameter of a VM's configuration.
#[derive(Debug)]
pub struct Parameter {
    /// The name. One that ends in `*` has an index in its place, such as `net*` for `net0`.
    pub name: &'static str,
    /// The values that PVE takes for it.
    pub kind: Kind,
    /// The value that PVE assumes if the parameter is absent.
    pub default: Option<&'static str>,
    /// A value for error messages.
    pub example: Option<&'static str>,
    /// How many parameters a name with an index stands for: `net*` is `net0` to `net31`.
    pub count: Option<u32>,
    /// The most characters of a value.
    pub length: Option<usize>,
    /// Whether only `root@pam`, logged in with a password, may set it (PVE::API2::Qemu, `check_vm_modify_config_perm`).
    pub root_only: bool,
    /// The privileges on the VM of which one is needed. Empty if it depends on the value, or nobody but root may set it.
    pub privileges: &'static [&'static str],
    /// Why the option `config` of `proxmox_nixos_vm` does not take it, and what to use instead.
    pub instead: Option<&'static str>,
}

impl Parameter {
    const fn new(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            default: None,
            example: None,
            count: None,
            length: None,
            root_only: false,
            privileges: &[],
            instead: None,
        }
    }

    const fn default(mut self, value: &'static str) -> Self {
        self.default = Some(value);
        self
    }

    const fn example(mut self, value: &'static str) -> Self {
        self.example = Some(value);
        self
    }

    const fn count(mut self, count: u32) -> Self {
        self.count = Some(count);
        self
    }

    const fn length(mut self, characters: usize) -> Self {
        self.length = Some(characters);
        self
    }

    const fn root_only(mut self) -> Self {
        self.root_only = true;
        self
    }

    const fn needs(mut self, privileges: &'static [&'static str]) -> Self {
        self.privileges = privileges;
        self
    }

    const fn instead(mut self, text: &'static str) -> Self {
        self.instead = Some(text);
        self
    }

    /// Whether the row is that of the parameter `name`, whatever its index.
    pub fn is(&self, name: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(stem) => name.strip_prefix(stem).is_some_and(syntax::is_index),
            None => self.name == name,
        }
    }

    /// Whether a VM's configuration can have the parameter.
    pub fn is_config(&self) -> bool {
        !matches!(self.kind, Kind::NotConfig)
    }
}

/// The row of the parameter `name`, such as `memory` or `net0`.
pub fn parameter(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|row| row.is(name))
}

/// How many parameters there are of a name with an index: 32 of `net`.
pub fn count(stem: &str) -> Option<u32> {
    let row = PARAMETERS
        .iter()
        .find(|row| row.name.strip_suffix('*') == Some(stem))?;
    row.count
}
