//! What is asked of the machine over SSH.

pub(crate) mod caches;
pub(crate) mod release;
pub(crate) mod room;
