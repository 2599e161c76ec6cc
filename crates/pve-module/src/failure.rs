//! Errors of the API as failures of a task, with what to do next.

use ansible_module::Failure;
use pve_client::{Client, Error};

/// `.map_err(doing("start VM 101"))`: like [`failure`], and the message begins with what was tried.
pub fn doing(what: impl std::fmt::Display) -> impl FnOnce(Error) -> Failure {
    move |error| {
        let mut made = failure(error);
        made.msg = format!("cannot {what}: {}", made.msg);
        made
    }
}

/// The value of a failure that says that a change may have been made although no answer came.
const MAY_HAVE_HAPPENED: &str = "may_have_happened";

/// Whether the change that failed may have been made: what there is tells.
pub fn may_have_happened(failure: &Failure) -> bool {
    failure.values.contains_key(MAY_HAVE_HAPPENED)
}

/// An error of the API as a failure, its kind for programs and its hint for people. It has the value `may_have_happened`
/// when a change may have been made although no answer came.
pub fn failure(error: Error) -> Failure {
    let mut made = Failure::new(kind(&error), error.to_string());
    if let Some(status) = error.status() {
        made = made.status(status);
    }
    if let Some(hint) = hint(&error) {
        made = made.hint(hint);
    }
    if error.may_have_happened() {
        made = made.with(MAY_HAVE_HAPPENED, true);
    }
    match &error {
        Error::Task(task) => made
            .object(task.upid.to_string())
            .detail(task.log.join("\n")),
        Error::Refused(refusal) => made.detail(refusal.message.clone()),
        Error::Untrusted { host, .. } => made.object(host.clone()),
        Error::Unreachable { hosts, .. } => made.object(hosts.clone()),
        Error::File { path, .. } => made.object(path.display().to_string()),
        _ => made,
    }
}

fn kind(error: &Error) -> &'static str {
    match error {
        Error::Settings(_) => "invalid_option",
        Error::Unreachable { .. } => "unreachable",
        Error::Untrusted { .. } => "untrusted_certificate",
        Error::Interrupted { .. } => "interrupted",
        Error::Expired { .. } => "timeout",
        Error::File { .. } => "file",
        Error::Source { .. } => "download",
        _ if error.is_lock_contention() => "locked",
        Error::Task(_) => "task_failed",
        Error::Refused(_) if error.not_found() => "not_found",
        Error::Refused(refusal) => match refusal.status {
            401 => "authentication",
            403 => "permission_denied",
            400 => "invalid_parameter",
            595 | 596 => "unreachable",
            _ => "refused",
        },
        _ => "unexpected_answer",
    }
}

fn hint(error: &Error) -> Option<String> {
    if let Some((path, privileges)) = error.missing_privilege() {
        let Error::Refused(refusal) = error else {
            return None;
        };
        return Some(grant(path, privileges, &refusal.caller));
    }
    match error {
        Error::Untrusted {
            host,
            presented: Some(fingerprint),
            ..
        } => Some(format!(
            "if `pvenode cert info` on the node behind {host} shows this fingerprint, set tls_fingerprint: {fingerprint}; \
             or set ca_path to a copy of the cluster's /etc/pve/pve-root-ca.pem"
        )),
        Error::Unreachable { .. } => {
            Some("check api_host and api_port, and that pveproxy runs there".into())
        }
        Error::Expired { .. } => Some("raise timeout if that is normal here".into()),
        Error::Task(task) => Some(format!("its whole log: pvenode task log {}", task.upid)),
        Error::Refused(refusal) if refusal.status == 401 => {
            Some(match refusal.caller.contains('!') {
                true => format!(
                    "check api_token_id and api_token_secret: no enabled user has a token {} with this secret, or it has expired",
                    refusal.caller
                ),
                false => format!(
                    "check api_user (with its realm) and api_password of {}",
                    refusal.caller
                ),
            })
        }
        Error::Refused(refusal) if refusal.status == 403 => Some(format!(
            "{} lacks a privilege; see `pveum user permissions {}` on a node",
            refusal.caller, refusal.caller
        )),
        Error::Refused(_) if error.is_lock_contention() => {
            Some("another task works on this VM; wait for it, or raise timeout".into())
        }
        _ => None,
    }
}

/// The failure of a caller who lacks `privilege` on `path`, noticed before PVE would say so.
pub fn permission_denied(client: &Client, path: &str, privilege: &str) -> Failure {
    Failure::new(
        "permission_denied",
        format!(
            "{} lacks the privilege {privilege} on {path}",
            client.caller()
        ),
    )
    .object(path)
    .hint(grant(path, privilege, client.caller()))
}

/// The command that grants a missing privilege: a role with just that.
fn grant(path: &str, privileges: &str, caller: &str) -> String {
    // "A|B" means that either is enough.
    let privilege = privileges.split('|').next().unwrap_or(privileges);
    let role = format!("nixos-{}", privilege.replace('.', "-"));
    let who = if caller.contains('!') {
        "--tokens"
    } else {
        "--users"
    };
    let separated = if caller.contains('!') {
        " (a token with privilege separation needs it besides its user)"
    } else {
        ""
    };
    format!(
        "run on a node: pveum role add {role} --privs '{}'; pveum acl modify {path} --roles {role} {who} '{caller}'{separated}",
        privilege.replace(',', " ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use pve_client::Refusal;

    fn refused(status: u16, message: &str, caller: &str) -> Failure {
        failure(Error::Refused(Box::new(Refusal {
            action: "POST /x".into(),
            caller: caller.into(),
            status,
            reason: message.into(),
            message: message.into(),
            errors: Default::default(),
            retried: None,
            write: true,
        })))
    }

    #[test]
    fn a_missing_privilege_comes_with_the_command_that_grants_it() {
        let made = refused(
            403,
            "Permission check failed (/storage/local, Datastore.AllocateTemplate)",
            "a@pve!t",
        );
        assert_eq!((made.kind, made.status), ("permission_denied", Some(403)));
        let hint = made.hint.unwrap();
        assert!(
            hint.contains("--privs 'Datastore.AllocateTemplate'"),
            "{hint}"
        );
        assert!(hint.contains("pveum acl modify /storage/local --roles nixos-Datastore-AllocateTemplate --tokens 'a@pve!t'"), "{hint}");
    }

    #[test]
    fn an_authentication_failure_names_the_options() {
        assert!(
            refused(401, "authentication failure", "root@pam")
                .hint
                .unwrap()
                .contains("api_password")
        );
        assert!(
            refused(401, "Authentication failed!", "a@pve!t")
                .hint
                .unwrap()
                .contains("api_token_secret")
        );
    }

    #[test]
    fn what_was_tried_comes_first() {
        let error = Error::Settings("no API host is given".into());
        assert_eq!(
            doing("start VM 101")(error).msg,
            "cannot start VM 101: no API host is given"
        );
    }
}
