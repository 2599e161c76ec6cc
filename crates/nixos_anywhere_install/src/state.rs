//! What is: reach the machine and let it say what it runs.

use std::path::Path;
use std::time::Duration;

use ansible_module::{Failure, Outcome, Progress, Task};
use deadline::Deadline;
use guest_ssh::{
    Attempt, Connection, Error as SshError, Guest, Identity, Kind, Label, Login, Patience,
    PublicKey, System, Target, wait_for,
};
use serde_json::{Value, json};

use crate::error::{Error, ssh_failure};
use crate::options::{Expect, Options};
use crate::preflight::{preflight, refuse};
use crate::values::jump::jump;

/// How long a check waits: what does not answer by then is not there yet, which is not a failure of
/// a check.
const CHECK_LIMIT: Duration = Duration::from_secs(20);
/// How long an installation waits for a machine that should be up.
const UP_LIMIT: Duration = Duration::from_secs(120);

/// The machine of the options, and the systems that may answer there.
///
/// # Errors
/// A host key that cannot be read, or none at all.
pub(crate) fn target(options: &Options) -> Result<Target, Failure> {
    let identity = |file: Option<&Path>| match file {
        Some(path) => Identity::File(path.to_owned()),
        None => Identity::Agent,
    };
    let installer = Login {
        user: options.user.clone(),
        identity: identity(options.private_key_file.as_deref()),
    };
    let installed = Login {
        user: options
            .installed_user
            .clone()
            .unwrap_or_else(|| options.user.clone()),
        identity: identity(
            options
                .installed_private_key_file
                .as_deref()
                .or(options.private_key_file.as_deref()),
        ),
    };
    let systems = vec![
        System {
            label: Label::Installer,
            keys: public_keys("host_keys", &options.host_keys)?,
            login: installer,
        },
        System {
            label: Label::Installed,
            keys: public_keys("installed_host_keys", &options.installed_host_keys)?,
            login: installed,
        },
    ];
    let jump = jump(options).map_err(|mistakes| {
        let (option, problem) = mistakes.into_iter().next().unwrap_or_default();
        Error::InvalidJumpHost { option, problem }
    })?;
    Ok(Target {
        jump,
        host: crate::values::host::bracketless(options.host()).to_owned(),
        port: options.port,
        systems: systems
            .into_iter()
            .filter(|system| !system.keys.is_empty())
            .collect(),
    })
}

/// The public keys of an option.
fn public_keys(option: &str, texts: &[String]) -> Result<Vec<PublicKey>, Error> {
    let key = |text: &String| {
        text.parse().map_err(|error| Error::InvalidPublicKey {
            option: option.to_owned(),
            error,
        })
    };
    texts.iter().map(key).collect()
}

/// Wait until the machine answers and is `wanted`; in check mode, look once.
pub(crate) async fn reach(
    target: &Target,
    task: &Task,
    progress: &Progress,
    deadline: &Deadline,
    wanted: impl Fn(&Guest) -> Result<(), String>,
) -> Result<Attempt, SshError> {
    if task.check_mode {
        return probe_once(target, deadline).await;
    }
    wait_for(target, deadline, Patience::default(), wanted, |reason| {
        progress.emit(&json!({"event": "waiting", "host": target.host, "reason": reason}));
    })
    .await
}

/// Ask the machine once what it runs.
pub(crate) async fn probe_once(target: &Target, deadline: &Deadline) -> Result<Attempt, SshError> {
    let deadline = deadline.shorter(CHECK_LIMIT);
    let connection = Connection::open(target, &deadline).await?;
    let guest = connection.identify(&deadline).await?;
    Ok(Attempt { connection, guest })
}

/// Reach a machine that should be up already, for an installation.
pub(crate) async fn reach_now(
    target: &Target,
    task: &Task,
    progress: &Progress,
    deadline: &Deadline,
) -> Result<Attempt, SshError> {
    let deadline = deadline.shorter(UP_LIMIT);
    reach(target, task, progress, &deadline, |_| Ok(())).await
}

/// Whether an error means "not there (yet)" rather than "there, and wrong".
pub(crate) fn absent(error: &SshError) -> bool {
    if let SshError::Jump(error) = error {
        return !error.is_final();
    }
    !matches!(
        error,
        SshError::WrongKey { .. }
            | SshError::NoKnownKey { .. }
            | SshError::Login { .. }
            | SshError::Identity { .. }
            | SshError::Agent { .. }
    )
}

/// A guest for the result of a check that met none.
pub(crate) fn unreachable() -> Value {
    json!({"kind": "unreachable"})
}

/// `state: probed`.
pub(crate) async fn probe(
    options: &Options,
    task: &Task,
    deadline: &Deadline,
) -> Result<Outcome, Failure> {
    refuse(&preflight(options))?;
    let target = target(options)?;
    let progress = task.progress(options.progress_path.as_deref());
    let kind = match options.expect {
        Expect::Any => None,
        Expect::Installer => Some(Kind::Installer),
        Expect::Installed => Some(Kind::Installed),
    };
    let wanted = |guest: &Guest| match kind {
        Some(kind) if guest.kind != kind => Err(format!(
            "{} is {} ({}), not yet {kind}",
            target.address(),
            guest.kind,
            guest.name
        )),
        _ => Ok(()),
    };
    match reach(&target, task, &progress, deadline, wanted).await {
        Ok(Attempt { guest, .. }) => {
            let msg = format!("{} is {}", target.address(), guest.kind);
            Ok(Outcome::unchanged(msg).with("guest", guest))
        }
        Err(error) if task.check_mode && absent(&error) => {
            Ok(Outcome::unchanged(format!("not reachable now: {error}"))
                .with("guest", unreachable()))
        }
        Err(error) => Err(ssh_failure(error)),
    }
}

/// `state: verified`.
pub(crate) async fn verify(
    options: &Options,
    task: &Task,
    deadline: &Deadline,
) -> Result<Outcome, Failure> {
    refuse(&preflight(options))?;
    let target = target(options)?;
    if target
        .systems
        .iter()
        .all(|system| system.label != Label::Installed)
    {
        return Err(Error::NoInstalledHostKeys.into());
    }
    let progress = task.progress(options.progress_path.as_deref());
    let wanted = |guest: &Guest| verified(guest, options.closure.as_deref());
    let found = match reach(&target, task, &progress, deadline, wanted).await {
        Ok(found) => found,
        Err(error) if task.check_mode && absent(&error) => {
            let msg = format!("not reachable now: {error}");
            return Ok(Outcome::unchanged(msg).with("guest", unreachable()));
        }
        Err(error) => return Err(ssh_failure(error)),
    };
    if let Err(reason) = verified(&found.guest, options.closure.as_deref()) {
        return Ok(Outcome::unchanged(reason).with("guest", found.guest));
    }
    let failed = failed_units(&found.connection, deadline).await;
    if let Some(units) = failed.as_ref().filter(|units| !units.is_empty()) {
        let error = Error::FailedUnits {
            address: target.address(),
            host: options.host().to_owned(),
            units: units.clone(),
        };
        if options.fail_on_failed_units {
            return Err(Failure::from(error)
                .with("failed_units", units)
                .with("guest", found.guest));
        }
        task.warn(error.to_string());
    }
    let msg = format!("{} runs the installed system", target.address());
    Ok(Outcome::unchanged(msg)
        .with("closure", found.guest.system.clone())
        .with("failed_units", failed)
        .with("guest", found.guest))
}

/// Whether this is the installed system, with its own host key, running `closure` if that is given.
fn verified(guest: &Guest, closure: Option<&str>) -> Result<(), String> {
    if guest.kind != Kind::Installed {
        return Err(format!(
            "it still runs {} ({}): check that it boots from its disk",
            guest.kind, guest.name
        ));
    }
    if guest.host_key != Label::Installed {
        return Err("it is installed, but has a host key of the installer".into());
    }
    match (closure, guest.system.as_deref()) {
        (Some(wanted), Some(running)) if wanted != running => {
            Err(format!("it runs {running} instead of {wanted}"))
        }
        (Some(wanted), None) => Err(format!(
            "it has no /run/current-system to compare with {wanted}"
        )),
        _ => Ok(()),
    }
}

/// The names of the units that failed; none where there is no systemctl to ask.
async fn failed_units(connection: &Connection, deadline: &Deadline) -> Option<Vec<String>> {
    let script = b"command -v systemctl >/dev/null 2>&1 || exit 3\n\
                   systemctl list-units --failed --no-legend --plain --no-pager\n";
    let output = connection
        .exec("the question for failed units", "exec sh", script, deadline)
        .await
        .ok()?;
    output.ok().then(|| {
        output
            .text()
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .map(str::to_owned)
            .collect()
    })
}
