//! Reach a guest through jump hosts, as OpenSSH's `ProxyJump` does.
//!
//! OpenSSH itself goes through them: `ssh -W HOST:PORT` for the last one, over the same for the one before it. So the user's own
//! `~/.ssh/config`, agent and known_hosts hold for jump hosts, as in a terminal. The guest's session runs within, end to end: a jump host sees
//! neither the guest's login key nor what is said, and the guest is identified by its host key as ever.

mod command;
mod error;
mod files;
mod hosts;
mod log;
mod problem;
#[cfg(test)]
mod tests;
mod tunnel;
mod words;

pub use command::{Place, config, known_hosts, proxy_command, shell_word};
pub use error::JumpError;
pub use hosts::{Hop, Jump};
pub use log::JumpLog;
pub use problem::JumpProblem;
pub(crate) use tunnel::Tunnel;
