//! What must be done so that a VM is as described. Pure: nothing is read or changed here.

mod boot;
mod create;
pub mod ha;
mod steps;
#[cfg(test)]
mod tests;
mod update;

pub use create::create;
pub use steps::Plan;
pub use update::update;
