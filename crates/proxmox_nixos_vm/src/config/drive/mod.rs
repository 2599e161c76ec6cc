//! Drives: what a text or dict describes, and how that compares with what PVE has.

mod compare;
mod description;
mod parse;
#[cfg(test)]
mod tests;

pub use compare::Difference;
pub use description::{Drive, Source, owner};
pub use pve_schema::{is_drive as is_key, is_state_disk};
