//! What can go wrong, in PVE's own words.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::upid::Upid;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings make no sense, or a certificate file cannot be used.
    #[error("{0}")]
    Settings(String),

    /// PVE answered with an error status.
    #[error("{0}")]
    Refused(Box<Refusal>),

    /// No connection could be made, so the call has not happened.
    #[error("{action}: cannot reach the Proxmox VE API at {hosts}: {detail}")]
    Unreachable {
        /// Method and path.
        action: String,
        /// Hosts that were tried, with the port.
        hosts: String,
        /// The system's words.
        detail: String,
    },

    /// The server's certificate is not believed; nothing was sent.
    #[error("{action}: the certificate of {host} is not trusted: {detail}{}", presented.as_ref().map(|f| format!(" (its SHA-256 fingerprint is {f})")).unwrap_or_default())]
    Untrusted {
        /// Method and path.
        action: String,
        /// Host and port.
        host: String,
        /// SHA-256 fingerprint of the certificate that was presented, as PVE shows it.
        presented: Option<String>,
        /// Why it is not believed.
        detail: String,
    },

    /// The connection ended, or no answer came in time, after the call was sent.
    #[error("{action}: {detail}{}", unsettled(*may_have_happened))]
    Interrupted {
        /// Method and path.
        action: String,
        /// What happened to the connection.
        detail: String,
        /// Whether the server may have carried out a change.
        may_have_happened: bool,
    },

    /// The deadline passed.
    #[error("{expired}{}{}", last.as_ref().map(|l| format!("; last: {l}")).unwrap_or_default(), unsettled(*may_have_happened))]
    Expired {
        /// What was waited for, and since when.
        expired: deadline::Expired,
        /// The last obstacle seen.
        last: Option<String>,
        /// Whether the server may carry it out nevertheless.
        may_have_happened: bool,
    },

    /// A task ended with something else than OK.
    #[error("{0}")]
    Task(Box<TaskFailure>),

    /// An answer that does not look like PVE's.
    #[error("{action}: unexpected answer: {detail}")]
    Unexpected {
        /// Method and path.
        action: String,
        /// What was expected and what came.
        detail: String,
    },

    /// What was to be sent could not be had from where it comes from.
    #[error("{action}: its source failed: {detail}")]
    Source {
        /// Method and path.
        action: String,
        /// What happened to the source, and how much had been sent.
        detail: String,
    },

    /// A local file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
}

/// As much of a server's text as a person reads.
pub(crate) fn shown(text: &str) -> String {
    text.trim().chars().take(4000).collect()
}

fn unsettled(may_have_happened: bool) -> &'static str {
    if may_have_happened {
        "; the change may have been made nevertheless"
    } else {
        ""
    }
}

/// An error status with everything PVE said about it.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Method and path, such as `PUT /nodes/pve/qemu/101/config`.
    pub action: String,
    /// Who asked: `user@realm` or `user@realm!token`.
    pub caller: String,
    /// HTTP status. PVE uses 500 for most refusals, missing objects included.
    pub status: u16,
    /// Reason phrase of the status line: the first line of the message.
    pub reason: String,
    /// The whole message, trimmed, lines kept. The reason phrase where the body has none.
    pub message: String,
    /// Texts by parameter (status 400).
    pub errors: BTreeMap<String, String>,
    /// How long the call was repeated because of a lock, if it was.
    pub retried: Option<Duration>,
    /// Whether the call was anything but a read.
    pub write: bool,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} {}", self.action, self.status, self.message)?;
        for (parameter, text) in &self.errors {
            write!(f, " {parameter}: {};", text.replace('\n', " / "))?;
        }
        if let Some(retried) = self.retried {
            write!(f, " (retried for {:.1} s)", retried.as_secs_f64())?;
        }
        f.write_str(unsettled(self.may_have_happened()))
    }
}

impl Refusal {
    /// 595 and 596 mean that pveproxy lost pvedaemon, not that the call was not made.
    fn may_have_happened(&self) -> bool {
        self.write && matches!(self.status, 502..=504 | 595 | 596)
    }
}

/// A task that ended badly.
#[derive(Debug, Clone)]
pub struct TaskFailure {
    /// The task.
    pub upid: Upid,
    /// Its exit status: the error's text.
    pub exitstatus: String,
    /// The last lines of its log.
    pub log: Vec<String>,
}

impl std::fmt::Display for TaskFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "task {}", self.upid.kind)?;
        if !self.upid.id.is_empty() {
            write!(f, " {}", self.upid.id)?;
        }
        write!(f, " on {} failed: {}", self.upid.node, self.exitstatus)
    }
}

impl Error {
    /// [`Error::Unexpected`] with as much of the detail as a person reads.
    pub(crate) fn unexpected(action: impl Into<String>, detail: impl ToString) -> Self {
        Self::Unexpected {
            action: action.into(),
            detail: shown(&detail.to_string()),
        }
    }

    /// The HTTP status, when PVE answered with one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(refusal) => Some(refusal.status),
            _ => None,
        }
    }

    /// PVE's own words: its message, or the exit status of the task.
    pub fn pve_message(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.message),
            Self::Task(failure) => Some(&failure.exitstatus),
            _ => None,
        }
    }

    /// Texts by parameter, when PVE refused parameters.
    pub fn errors(&self) -> Option<&BTreeMap<String, String>> {
        match self {
            Self::Refused(refusal) if !refusal.errors.is_empty() => Some(&refusal.errors),
            _ => None,
        }
    }

    /// Whether a write may have been carried out in spite of this error. The state
    /// must then be read; sending the write again could do it twice.
    pub fn may_have_happened(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.may_have_happened(),
            Self::Interrupted {
                may_have_happened, ..
            }
            | Self::Expired {
                may_have_happened, ..
            } => *may_have_happened,
            _ => false,
        }
    }

    /// Whether somebody else held a lock, so that nothing was done and trying again helps.
    pub fn is_lock_contention(&self) -> bool {
        self.pve_message().is_some_and(|text| {
            (text.contains("can't lock file") && text.contains("got timeout"))
                || text.contains("got lock request timeout")
                || text.contains("VM is locked (")
        })
    }

    /// Whether the object asked for does not exist. PVE answers 500 for a missing VM or
    /// storage, 400 for a missing task.
    pub fn not_found(&self) -> bool {
        let Self::Refused(refusal) = self else {
            return false;
        };
        refusal.status == 404
            || (refusal.status == 500
                && ((refusal.message.contains("Configuration file")
                    && refusal.message.contains("does not exist"))
                    || (refusal.message.starts_with("storage '")
                        && refusal.message.ends_with("does not exist"))
                    || refusal.message.contains("volume_size_info on")))
            || (refusal.status == 400
                && refusal
                    .errors
                    .values()
                    .any(|text| text.to_ascii_lowercase().starts_with("no such")))
    }

    /// Whether the credentials were not accepted.
    pub fn is_authentication(&self) -> bool {
        self.status() == Some(401)
    }

    /// Path and privileges that are missing, from `Permission check failed (/path, Priv)`, or `Priv for modifying tag 'x'`.
    pub fn missing_privilege(&self) -> Option<(&str, &str)> {
        let Self::Refused(refusal) = self else {
            return None;
        };
        if refusal.status != 403 {
            return None;
        }
        let inside = refusal
            .message
            .split_once("Permission check failed (")?
            .1
            .trim()
            .strip_suffix(')')?;
        let (path, privileges) = inside.split_once(", ")?;
        let purpose = privileges.find(" for ").unwrap_or(privileges.len());
        Some((path, &privileges[..purpose]))
    }
}

/// The innermost error's words: `Connection refused (os error 111)` rather than `error sending request`.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, message: &str) -> Error {
        Error::Refused(Box::new(Refusal {
            action: "GET /x".into(),
            caller: "root@pam!t".into(),
            status,
            reason: message.lines().next().unwrap_or_default().into(),
            message: message.into(),
            errors: BTreeMap::new(),
            retried: None,
            write: true,
        }))
    }

    #[test]
    fn locks_are_told_from_other_timeouts() {
        let lock = "can't lock file '/var/lock/qemu-server/lock-140.conf' - got timeout";
        assert!(refused(500, lock).is_lock_contention());
        assert!(refused(500, "VM is locked (create)").is_lock_contention());
        assert!(!refused(500, "VM quit/powerdown failed - got timeout").is_lock_contention());
    }

    #[test]
    fn missing_objects_are_recognised_by_text() {
        assert!(
            refused(
                500,
                "Configuration file 'nodes/pve/qemu-server/100.conf' does not exist"
            )
            .not_found()
        );
        assert!(refused(500, "storage 'nope' does not exist").not_found());
        assert!(!refused(500, "volume 'local:iso/x.iso' does not exist").not_found());
        assert!(!refused(500, "got timeout").not_found());
    }

    #[test]
    fn the_missing_privilege_is_taken_apart() {
        let error = refused(
            403,
            "Permission check failed (/storage/local, Datastore.AllocateTemplate)",
        );
        assert_eq!(
            error.missing_privilege(),
            Some(("/storage/local", "Datastore.AllocateTemplate"))
        );
        let tag = refused(
            403,
            "Permission check failed (/, Sys.Modify for modifying tag 'Web')",
        );
        assert_eq!(tag.missing_privilege(), Some(("/", "Sys.Modify")));
    }

    #[test]
    fn a_write_may_have_happened_after_596_only() {
        assert!(refused(596, "Connection timed out").may_have_happened());
        assert!(!refused(500, "x").may_have_happened());
    }
}
