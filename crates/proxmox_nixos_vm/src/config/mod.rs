//! The values of a VM's configuration: how users and PVE write them, and when two of them are the same.

pub mod cpu;
pub mod dict;
pub mod drive;
pub mod kind;
pub mod known_options;
pub mod machine;
pub mod nic;
pub mod normalise;
pub mod property_strings;
pub mod size;
pub mod text;
pub mod validation;

use std::collections::BTreeMap;

/// A VM's configuration, each option as PVE's text. Without `digest`.
pub type Config = BTreeMap<String, String>;
