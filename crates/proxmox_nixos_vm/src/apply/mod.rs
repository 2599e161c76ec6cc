//! The changes: one file for each action on a VM.

pub mod clone;
pub mod create;
pub mod destroy;
pub mod ha;
pub mod migrate;
pub mod pool;
pub mod power;
pub mod rivals;
pub mod template;
pub mod update;
