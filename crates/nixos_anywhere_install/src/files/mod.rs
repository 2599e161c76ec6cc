//! The files of one installation, on the controller and for the installed system.

pub(crate) mod content;
pub(crate) mod jump_host;
pub(crate) mod private;
pub(crate) mod stage;
pub(crate) mod workspace;
