//! Step 3: the VM is as described. Before the end of the installation it has its installer and its seed; afterwards only what the user
//! set is converged.

use ansible_module::{Failure, Outcome};

use super::{out_of_turn, reinstall, vm};
use crate::context::Context;
use crate::facts::Decision;
use crate::state::State;

/// Converge the machine.
///
/// # Errors
/// A decision against it, and those of the modules that are called.
pub async fn run(context: &Context<'_>, mut state: State) -> Result<Outcome, Failure> {
    let decision = state.decide(context).await?;
    match &decision {
        Decision::Create => vm::create(context, &state).await,
        Decision::Install(record) => vm::again(context, &state, record).await,
        Decision::Reinstall(record) => reinstall::run(context, &state, record).await,
        Decision::Converge(record) => {
            vm::finished(context, &state, record, context.task.check_mode).await
        }
        Decision::Adopt => vm::adopt(context, &state, context.task.check_mode).await,
        Decision::Finalize(_) => Ok(Outcome::unchanged(
            "the installation has ended; the step finalize converges the VM",
        )),
        Decision::Ask => Err(out_of_turn(&state, &decision, "it was to be converged")),
    }
}
