//! Activate a system on the machine, confirm it, and restart the machine.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ansible_module::{Failure, Progress};
use deadline::Deadline;
use guest_ssh::{Connection, Target};
use nixos_anywhere_install::{as_root, printable, ssh_failure};
use serde_json::json;

use crate::UNIT;
use crate::error::Error;
use crate::options::{Action, Options};
use crate::plan::Wanted;
use crate::state::{self, Machine};

/// What runs on the machine. See its first lines.
const SCRIPT: &str = include_str!("activate.sh");

/// Below it every deployment has a directory. It is gone after a restart.
const BASE: &str = "/run/nixos-deploy";

/// Longest single attempt to log in during the activation, which may change the machine's network.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(20);

/// The pause between two looks.
pub(crate) const PAUSE: Duration = Duration::from_millis(500);

/// How much longer than its limits an activation may take before the machine is given up.
const SPARE: Duration = Duration::from_secs(180);

/// The most characters of a reason that the machine gives.
const LONGEST: usize = 1000;

/// The most bytes of the activation's output that are read.
const MOST_OUTPUT: usize = 16 << 10;

/// What the steps need.
pub struct Activation<'a> {
    pub options: &'a Options,
    pub target: &'a Target,
    pub deadline: &'a Deadline,
    pub progress: &'a Progress,
}

/// How far a deployment has come, as its script says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// Something is being done.
    Working,
    /// The new system is active.
    Activated,
    /// It is done.
    Committed,
    /// With the action boot: the old system is booted, as before.
    Uncommitted(String),
    /// The old system was put back.
    Undone(String),
    /// The old system could not be put back.
    Stuck(String),
    /// Another program switched the machine's system, and nothing was done.
    Locked,
    /// There is no such deployment, or it ended without a state.
    Gone,
}

/// A deployment as it was seen last.
struct Seen {
    stage: Stage,
    output: String,
}

impl Seen {
    fn parse(text: &str) -> Self {
        let (head, output) = text.split_once("\noutput:\n").unwrap_or((text, ""));
        let field = |name: &str| {
            let line = head
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.unwrap_or_default()
        };
        let (word, rest) = field("state")
            .split_once(' ')
            .unwrap_or((field("state"), ""));
        let said: String = printable(rest.trim()).chars().take(LONGEST).collect();
        let stage = match word {
            "committed" => Stage::Committed,
            "uncommitted" => Stage::Uncommitted(said),
            "undone" => Stage::Undone(said),
            "stuck" => Stage::Stuck(said),
            "locked" => Stage::Locked,
            // Its end is not written yet.
            _ if !state::runs(field("unit")) => Stage::Gone,
            "activated" => Stage::Activated,
            _ => Stage::Working,
        };
        let output: Vec<String> = output.lines().map(printable).collect();
        Self {
            stage,
            output: output.join("\n").trim().to_owned(),
        }
    }
}

impl Activation<'_> {
    /// Activate the system. The result is what the activation printed.
    ///
    /// # Errors
    /// Kind `rolled_back` if the old system was put back, `activation` if that failed too or the boot loader could not be written,
    /// `not_as_left` if the machine was restarted meanwhile, `busy` if another deployment runs, `timeout` if the machine does not come back.
    pub async fn activate(
        &self,
        connection: &Connection,
        wanted: &Wanted,
    ) -> Result<String, Failure> {
        let id = id();
        self.phase("Activating the system");
        self.start(connection, wanted, &id).await?;
        let limit = self
            .options
            .activation_timeout
            .saturating_mul(2)
            .saturating_add(self.options.confirm_timeout);
        let limit = self
            .deadline
            .shorter(Duration::from_secs(limit).saturating_add(SPARE));
        let since = Instant::now();
        let mut before = Verdict::GoesOn;
        loop {
            // Only a connection that was opened after the activation was seen to be over proves that a login works.
            let confirm = before == Verdict::Activated;
            let reason = match self.look(&id, confirm, &limit).await {
                Ok(seen) => {
                    let gone = before == Verdict::Gone;
                    before = match self.judge(&seen, gone) {
                        Ok(verdict) => verdict,
                        Err(error) => {
                            // Its output is part of the failure. What ended without a result may still run.
                            if !matches!(error, Error::NoResult { .. }) {
                                self.clean_up(&id).await;
                            }
                            return Err(error.into());
                        }
                    };
                    match before {
                        Verdict::Done => {
                            self.clean_up(&id).await;
                            return Ok(seen.output);
                        }
                        Verdict::Activated if !confirm => continue,
                        Verdict::Activated | Verdict::GoesOn => "the activation goes on".into(),
                        Verdict::Gone => "the activation ended without a result".into(),
                    }
                }
                Err(reason) => {
                    if before == Verdict::Gone {
                        before = Verdict::GoesOn;
                    }
                    reason
                }
            };
            self.progress
                .emit(&json!({"event": "waiting", "host": self.options.host, "reason": reason}));
            if !limit.sleep(PAUSE).await {
                return Err(Error::ActivationTimedOut {
                    host: self.host(),
                    waited: since.elapsed(),
                    reason,
                }
                .into());
            }
        }
    }

    fn judge(&self, seen: &Seen, was_gone: bool) -> Result<Verdict, Error> {
        let (host, output) = (self.host(), seen.output.clone());
        Err(match &seen.stage {
            Stage::Committed => return Ok(Verdict::Done),
            Stage::Working => return Ok(Verdict::GoesOn),
            Stage::Activated => return Ok(Verdict::Activated),
            Stage::Undone(why) => Error::Undone {
                host,
                why: why.clone(),
                output,
            },
            Stage::Uncommitted(why) => Error::Uncommitted {
                host,
                old: why.is_empty(),
                output,
            },
            Stage::Stuck(why) => Error::Stuck {
                host,
                why: why.clone(),
                output,
            },
            Stage::Locked => Error::Switching { host },
            // The unit may end before its last state can be read, so two polls have to agree.
            Stage::Gone if was_gone => Error::NoResult { host, output },
            Stage::Gone => return Ok(Verdict::Gone),
        })
    }

    /// The machine, as the option names it.
    pub(crate) fn host(&self) -> String {
        self.options.host.clone()
    }

    async fn start(
        &self,
        connection: &Connection,
        wanted: &Wanted,
        id: &str,
    ) -> Result<(), Failure> {
        let script = start_script(self.options, wanted, id);
        let output = as_root(connection, "systemd-run", &script, self.deadline)
            .await
            // It may have been started.
            .map_err(|failure| failure.with("changed", true))?;
        if output.ok() {
            return Ok(());
        }
        let said = printable(&output.failure());
        let busy = said.contains("already loaded") || said.contains("already exists");
        let host = self.host();
        let error = match busy {
            true => Error::Overtaken { host },
            false => Error::NotStarted { host, said },
        };
        Err(error.into())
    }

    /// Look over a new connection how far it is; with `confirm`, have the machine keep the new system. An error says why it is not known.
    async fn look(&self, id: &str, confirm: bool, limit: &Deadline) -> Result<Seen, String> {
        let attempt = limit.shorter(ATTEMPT);
        let connection = Connection::open(self.target, &attempt)
            .await
            .map_err(|error| ssh_failure(error).msg)?;
        let output = as_root(
            &connection,
            "the script that reads the activation's state",
            &look_script(id, confirm),
            &attempt,
        )
        .await
        .map_err(|failure| failure.msg)?;
        let text = output.text();
        if !output.ok() || !text.starts_with("state=") {
            return Err(printable(&output.failure()));
        }
        Ok(Seen::parse(&text))
    }

    async fn clean_up(&self, id: &str) {
        let attempt = self.deadline.shorter(ATTEMPT);
        if let Ok(connection) = Connection::open(self.target, &attempt).await {
            let script = format!("rm -rf {BASE}/{id}\n");
            let _ = as_root(&connection, "cleaning up", &script, &attempt).await;
        }
    }

    /// Wait until no deployment runs on the machine any more: one whose controller was killed still ends by itself.
    ///
    /// # Errors
    /// Kind `busy` when it does not end.
    pub async fn quiet(&self, connection: &Connection) -> Result<(), Failure> {
        loop {
            if !state::read(connection, self.deadline).await?.deploying {
                return Ok(());
            }
            let reason = "is locked by another deployment";
            self.progress
                .emit(&json!({"event": "waiting", "host": self.options.host, "reason": reason}));
            if !self.deadline.sleep(4 * PAUSE).await {
                return Err(Error::Deploying { host: self.host() }.into());
            }
        }
    }

    pub(crate) fn phase(&self, name: &str) {
        self.progress
            .emit(&json!({"event": "phase", "host": self.options.host, "phase": name}));
    }
}

/// What one look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Done,
    /// It waits to be confirmed.
    Activated,
    GoesOn,
    /// There is nothing any more, for the first time.
    Gone,
}

/// Read the machine and fail if it does not run and boot what the action asks for.
///
/// # Errors
/// Kind `wrong_system` if it does not.
pub async fn verified(
    activation: &Activation<'_>,
    wanted: &Wanted,
    action: Action,
) -> Result<Machine, Failure> {
    let (_, machine) = state::look(activation.options, activation.target, activation.deadline)
        .await
        .map_err(|failure| failure.with("changed", true))?;
    let runs = action == Action::Boot || machine.current == wanted.system;
    let boots = action == Action::Test || machine.profile.as_ref() == Some(&wanted.system);
    if runs && boots {
        return Ok(machine);
    }
    Err(Error::NotActive {
        host: activation.host(),
        runs: machine.current,
        boots: machine.profile.unwrap_or_else(|| "nothing".to_owned()),
        system: wanted.system.clone(),
    }
    .into())
}

/// Differs for each deployment.
fn id() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    format!("{:x}-{:x}", now.as_nanos(), std::process::id())
}

fn start_script(options: &Options, wanted: &Wanted, id: &str) -> String {
    let action = match options.action {
        Action::Switch => "switch",
        Action::Boot => "boot",
        Action::Test => "test",
        Action::DryActivate => "dry-activate",
    };
    let generation = wanted
        .generation
        .map(|number| number.to_string())
        .unwrap_or_default();
    format!(
        "set -eu\numask 077\nmkdir -p {BASE}\n\
         if [ \"$(systemctl is-active {UNIT})\" = inactive ]; then\n\
         find {BASE} -mindepth 1 -maxdepth 1 -mmin +1440 -exec rm -rf {{}} +\nfi\n\
         mkdir {BASE}/{id}\ncat >{BASE}/{id}/activate.sh <<'NIXOS_DEPLOY_END'\n{SCRIPT}NIXOS_DEPLOY_END\n\
         systemd-run --unit={UNIT} --collect --no-ask-password --quiet --service-type=exec --property=OOMPolicy=continue --setenv=PATH=\"$PATH\" \
         --setenv=LOCALE_ARCHIVE=\"${{LOCALE_ARCHIVE-}}\" \
         /bin/sh {BASE}/{id}/activate.sh {BASE}/{id} {action} '{}' '{generation}' {} {} </dev/null || {{ rm -rf {BASE}/{id}; exit 1; }}\n",
        wanted.system, options.activation_timeout, options.confirm_timeout
    )
}

fn look_script(id: &str, confirm: bool) -> String {
    let confirm = match confirm {
        true => format!("mkdir -p {BASE}/{id}/confirmed\n"),
        false => String::new(),
    };
    format!(
        "{confirm}printf 'state=%s\\n' \"$(cat {BASE}/{id}/state 2>/dev/null)\"\n\
         printf 'unit=%s\\n' \"$(systemctl is-active {UNIT} 2>/dev/null)\"\n\
         printf '\\noutput:\\n'\n\
         tail -c {MOST_OUTPUT} {BASE}/{id}/output 2>/dev/null || true\n"
    )
}

/// What the activation would do, by the system's own word.
///
/// # Errors
/// Kind `activation` if it fails.
pub async fn dry_activate(
    connection: &Connection,
    wanted: &Wanted,
    options: &Options,
    deadline: &Deadline,
) -> Result<String, Failure> {
    let script = format!(
        "exec timeout {} '{}/bin/switch-to-configuration' dry-activate 2>&1 </dev/null\n",
        options.activation_timeout, wanted.system
    );
    let output = as_root(
        connection,
        "switch-to-configuration dry-activate",
        &script,
        deadline,
    )
    .await?;
    let line = |line: &str| printable(line).chars().take(LONGEST).collect::<String>();
    let text: Vec<String> = output.text().lines().take(1000).map(line).collect();
    match output.ok() {
        true => Ok(text.join("\n")),
        false => Err(Error::DryActivation {
            host: options.host.clone(),
            said: printable(&output.failure()),
            output: text.join("\n"),
        }
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_judged_by_state_and_unit() {
        for (state, unit, expected) in [
            ("activating", "active", Stage::Working),
            ("undoing x", "active", Stage::Working),
            ("activated", "active", Stage::Activated),
            ("committed", "active", Stage::Committed),
            ("committed", "inactive", Stage::Committed),
            (
                "undone units failed: a.service ",
                "inactive",
                Stage::Undone("units failed: a.service".into()),
            ),
            ("stuck x\u{1b}[31m", "failed", Stage::Stuck("x".into())),
            ("uncommitted", "inactive", Stage::Uncommitted(String::new())),
            ("", "inactive", Stage::Gone),
            ("activated", "", Stage::Activated),
            ("", "", Stage::Working),
            ("locked", "inactive", Stage::Locked),
            ("", "activating", Stage::Working),
        ] {
            let seen = Seen::parse(&format!(
                "state={state}\nunit={unit}\n\noutput:\na\nb\u{7}\n"
            ));
            assert_eq!(seen.stage, expected, "{state} {unit}");
            assert_eq!(seen.output, "a\nb\\u{7}");
        }
    }
}
