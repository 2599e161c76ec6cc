//! The step before all others: read the machine, say which steps are due, and name every mistake that can be known beforehand.

use ansible_module::{Failure, Outcome};
use pve_module::random;
use pve_module::record::Phase;
use serde_json::{Value, json};

use super::published::{address_of, published};
use super::{host_key, install, reinstall, vm};
use crate::build::Build;
use crate::context::Context;
use crate::facts::Decision;
use crate::host_claims;
use crate::keys;
use crate::options::{Run, Step};
use crate::preflight;
use crate::state::State;
use crate::store::Installation;
use crate::system_facts;

/// After this time a run that never asked for its VM has ended.
const ABANDONED: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// Decide.
///
/// # Errors
/// Every mistake in the variables, a refusal of [`crate::decide::decide`], or what the installation would fail at later.
pub async fn run(context: &Context<'_>, mut state: State) -> Result<Outcome, Failure> {
    host_claims::check(context, &state.cluster)?;
    let decision = state.decide(context).await?;
    let installs = decision.installs();
    if installs && !context.task.check_mode {
        system_facts::write(context.settings())?;
    }
    preflight::check(context, &mut state, &decision).await?;
    let run = new_run(&decision)?;
    let mut due: Vec<&str> = decision
        .due(context.settings().by_image())
        .into_iter()
        .map(Step::name)
        .collect();
    let mut outcome = match &decision {
        Decision::Reinstall(record) => {
            host_key::check_host_key(context, &state, record).await?;
            let summary = reinstall::summary(&state, record, "is being");
            context.task.warn(summary.clone());
            Outcome::unchanged(summary)
        }
        Decision::Converge(record) => {
            if let Some(warning) = crate::reinstall::used(&state.facts, record) {
                context.task.warn(warning);
            }
            let converged = vm::finished(context, &state, record, true).await?;
            if converged.changed {
                due.push(Step::Provision.name());
            }
            if context.settings().deploy {
                super::deploy::check(context)?;
                due.push(Step::Deploy.name());
            }
            let mut outcome = Outcome::unchanged(converged.msg);
            outcome.values = converged.values;
            outcome
        }
        Decision::Adopt => Outcome::unchanged(format!("{}: is adopted as it is", state.facts.name)),
        Decision::Create => Outcome::unchanged(format!("{}: does not exist yet", state.facts.name)),
        Decision::Install(record) | Decision::Finalize(record) => {
            let object = state.object();
            Outcome::unchanged(format!("{object}: its phase is '{}'", record.phase))
        }
        Decision::Ask => Outcome::unchanged("undecided"),
    };
    if installs && !context.task.check_mode {
        context.store.remove_strays(ABANDONED);
        if context.options.build && !context.settings().by_image() {
            start_build(context, &run);
        }
    }
    let installation = context.store.installation(&run.installation);
    let facts = facts(context, &state, &decision, &installation).await?;
    // The tasks that follow work with them: a path or a store path may have the word in it that is somebody's password.
    outcome = outcome
        .fact("phase", phase(&decision))
        .fact("due", due)
        .fact("run", run)
        .fact("facts", facts);
    Ok(outcome)
}

/// How far the machine has come; `absent` if there is none.
pub fn phase(decision: &Decision) -> &'static str {
    decision
        .record()
        .map_or("absent", |record| record.phase.name())
}

/// Start to build what is to be installed. If that is not possible, it is built when it is installed.
fn start_build(context: &Context<'_>, run: &Run) {
    let installation = context.store.installation(&run.installation);
    let args = install::built_args(context.settings(), &installation.path(system_facts::DIR));
    let started = args.map_err(|error| error.to_string()).and_then(|args| {
        let build = Build::of(&installation, &run.id);
        build
            .start(&installation, args)
            .map_err(|error| error.to_string())
    });
    if let Err(error) = started {
        context.task.warn(format!(
            "the build could not be started beside the play: {error}; step 5 builds the system instead"
        ));
    }
}

/// A run of this play at the machine.
pub fn new_run(decision: &Decision) -> Result<Run, Failure> {
    let record = decision.record();
    Ok(Run {
        installation: match record {
            // A finished machine's next installation is another one.
            Some(record) if !matches!(decision, Decision::Reinstall(_) if record.phase == Phase::Done) => {
                record.installation.clone()
            }
            _ => random::hex_digits::<16>()?,
        },
        id: random::hex_digits::<4>()?,
        found: record.map(|record| record.run.clone()),
    })
}

/// The facts of the machine for later plays.
async fn facts(
    context: &Context<'_>,
    state: &State,
    decision: &Decision,
    installation: &Installation,
) -> Result<Value, Failure> {
    let Some(record) = decision.record() else {
        return Ok(json!({}));
    };
    let address = match decision {
        Decision::Converge(_) => address_of(context, state).await?,
        _ => context.settings().given_address(),
    };
    let host_keys = keys::of(installation, record);
    Ok(published(
        context,
        state.vmid(),
        &state.node(context),
        address,
        &host_keys,
        installation.read("closure"),
    ))
}
