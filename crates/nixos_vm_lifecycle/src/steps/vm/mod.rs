//! What becomes of the VM: it is made, gets its installer and its seed again, is adopted, or is converged once it is finished.

mod adopt;
mod again;
mod create;
mod finished;
mod identity;

pub use adopt::adopt;
pub use again::again;
pub use create::create;
pub use finished::finished;
