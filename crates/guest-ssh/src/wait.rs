//! Wait until a guest can be logged in to, and is what the caller needs.

use std::time::{Duration, Instant};

use deadline::{Deadline, backoff};

use crate::{Connection, Error, Guest, JumpProblem, Target};

/// What a waiting may put up with.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// The host key may still change (a guest that is rebooting into another system): a wrong one
    /// is then tried again instead of ending the wait at once.
    pub key_may_change: bool,
    /// For how long a refused login is tried again, from the first refusal on. cloud-init may put
    /// keys in place only after sshd has started. A jump host that does not answer is tried again for as long.
    pub login: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            key_may_change: false,
            login: Duration::from_secs(120),
        }
    }
}

/// A login that worked, and who answered.
pub struct Attempt {
    /// The open connection.
    pub connection: Connection,
    /// What the guest said that it is.
    pub guest: Guest,
}

/// Longest single attempt: connection, banner, login and the question what the guest is.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(90);
/// Longest pause between two attempts.
const PAUSE: Duration = Duration::from_secs(3);

/// Log in to `target` again and again until `wanted` accepts the guest; `wanted` says what is
/// wrong with one it does not accept. Each attempt is a real login: OpenSSH punishes connections
/// that never authenticate. The pauses between attempts grow to 3 s, at random, so that many hosts
/// that boot together are not asked together; twice that after a refused login.
///
/// `on_attempt` hears why an attempt was not good enough.
///
/// # Errors
/// At once what time cannot cure ([`Error::WrongKey`], [`Error::Identity`], [`Error::Agent`], [`Error::NoKnownKey`], and [`Error::Jump`] where
/// [`crate::JumpError::is_final`]); the error of the login or of a jump host when its patience is over; else [`Error::GaveUp`] at the deadline.
pub async fn wait_for(
    target: &Target,
    deadline: &Deadline,
    patience: Patience,
    wanted: impl Fn(&Guest) -> Result<(), String>,
    mut on_attempt: impl FnMut(&str),
) -> Result<Attempt, Error> {
    let since = Instant::now();
    let mut refused_since: Option<Instant> = None;
    let mut last: Option<String> = None;
    let mut attempts = 0;
    loop {
        let attempt = deadline.shorter(ATTEMPT_LIMIT);
        let reason = match attempt_once(target, &attempt).await {
            Ok(found) => match wanted(&found.guest) {
                Ok(()) => return Ok(found),
                Err(reason) => {
                    refused_since = None;
                    reason
                }
            },
            Err(
                error @ (Error::Identity { .. } | Error::Agent { .. } | Error::NoKnownKey { .. }),
            ) => return Err(error),
            Err(error @ Error::WrongKey { .. }) if !patience.key_may_change => return Err(error),
            Err(Error::Jump(error)) if error.is_final() => return Err(error.into()),
            // The deadline cut this attempt short; the one before it says more.
            Err(error) if deadline.expired() && !matches!(error, Error::Login { .. }) => {
                last.take().unwrap_or_else(|| error.to_string())
            }
            Err(error) if tires(&error) => {
                let first = *refused_since.get_or_insert_with(Instant::now);
                if first.elapsed() >= patience.login {
                    return Err(error);
                }
                error.to_string()
            }
            Err(error) => {
                // The jump hosts let us through.
                if let Error::Jump(_) = error {
                    refused_since = None;
                }
                error.to_string()
            }
        };
        on_attempt(&reason);
        attempts += 1;
        let pause = match refused_since {
            Some(_) => 2 * backoff(u32::MAX, PAUSE),
            None => backoff(attempts, PAUSE),
        };
        if !deadline.sleep(pause).await {
            let what = format!("SSH to {}", target.address());
            return Err(Error::GaveUp {
                expired: deadline.expired_error(what, since.elapsed()),
                last: reason,
            });
        }
        last = Some(reason);
    }
}

/// Whether an error is put up with for a while only: a login that is refused, and a jump host that does not answer. Either should work
/// already.
fn tires(error: &Error) -> bool {
    match error {
        Error::Login { .. } => true,
        Error::Jump(error) => error.problem != JumpProblem::Beyond,
        _ => false,
    }
}

async fn attempt_once(target: &Target, deadline: &Deadline) -> Result<Attempt, Error> {
    let connection = Connection::open(target, deadline).await?;
    let guest = connection.identify(deadline).await?;
    Ok(Attempt { connection, guest })
}
