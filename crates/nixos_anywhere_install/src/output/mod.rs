//! What the programs print, and what it means.

pub(crate) mod channel;
pub(crate) mod endless;
pub(crate) mod jump_channel;
pub(crate) mod log;
pub(crate) mod phases;
pub(crate) mod step;
pub(crate) mod text;
pub(crate) mod watch;
