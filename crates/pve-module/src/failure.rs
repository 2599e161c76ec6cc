//! Errors of the API as failures of a task, with what to do next.

use std::collections::BTreeMap;

use ansible_module::{Failure, FailureKind};
use deadline::Deadline;
use pve_client::{Client, Error};
use serde_json::{Map, Value, json};

/// `.map_err(doing("start VM 101"))`: like [`failure`], and the message begins with what was tried.
pub fn doing(what: impl std::fmt::Display) -> impl FnOnce(Error) -> Failure {
    move |error| {
        let mut made = failure(error);
        made.msg = format!("cannot {what}: {}", made.msg);
        made
    }
}

/// An error of the API as a failure, its kind for programs and its hint for people.
pub fn failure(error: Error) -> Failure {
    let mut made = Failure::new(kind(&error), error.to_string());
    if let Some(status) = error.status() {
        made = made.status(status);
    }
    if let Some(hint) = hint(&error) {
        made = made.hint(hint);
    }
    made.may_have_happened = error.may_have_happened();
    if let Some((path, privileges)) = missing_privilege(&error) {
        made = made.with(MISSING, missing(&path, &privileges));
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

fn kind(error: &Error) -> FailureKind {
    match error {
        Error::Settings(_) => FailureKind::InvalidOption,
        Error::Unreachable { .. } => FailureKind::Unreachable,
        Error::Untrusted { .. } => FailureKind::UntrustedCertificate,
        Error::Interrupted { .. } => FailureKind::ConnectionLost,
        Error::Expired { .. } => FailureKind::Timeout,
        Error::File { .. } => FailureKind::File,
        Error::Source { .. } => FailureKind::Download,
        _ if error.is_lock_contention() => FailureKind::Locked,
        Error::Task(_) if missing_privilege(error).is_some() => FailureKind::PermissionDenied,
        Error::Task(_) => FailureKind::TaskFailed,
        Error::Refused(_) if error.not_found() => FailureKind::NotFound,
        Error::Refused(refusal) => match refusal.status {
            401 => FailureKind::Authentication,
            403 => FailureKind::PermissionDenied,
            400 => FailureKind::InvalidParameter,
            595 | 596 => FailureKind::Unreachable,
            _ => FailureKind::ApiError,
        },
        _ => FailureKind::UnexpectedAnswer,
    }
}

fn hint(error: &Error) -> Option<String> {
    if let Some((path, privileges)) = missing_privilege(error) {
        return Some(match error {
            Error::Refused(refusal) => grant(&path, &privileges, &refusal.caller),
            _ => "see the documentation of the privileges that the module needs".into(),
        });
    }
    if let Some(lock) = config_lock(error) {
        return Some(format!(
            "wait for the task that holds the lock '{lock}' (pvesh get /cluster/tasks), or raise timeout. If no such task runs, \
             it was cut off and left its lock: qm unlock VMID on the VM's node removes it"
        ));
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

/// The lock in the VM's configuration that kept an action from being carried out.
fn config_lock(error: &Error) -> Option<&str> {
    let (_, rest) = error.pve_message()?.split_once("VM is locked (")?;
    Some(rest.split_once(')')?.0)
}

/// Path and privileges that a refused call or a failed task missed.
fn missing_privilege(error: &Error) -> Option<(String, String)> {
    let (path, privileges) = match error {
        Error::Task(task) => {
            let (_, rest) = task.exitstatus.split_once("Permission check failed (")?;
            let (path, privileges) = rest.split_once(')')?.0.split_once(", ")?;
            (path, privileges.split(" for ").next().unwrap_or(privileges))
        }
        _ => error.missing_privilege()?,
    };
    Some((path.to_owned(), privileges.to_owned()))
}

/// The value of a failure that names the missing privilege and its path.
const MISSING: &str = "missing_privilege";

/// What the modules' documentation says of that value.
pub const MISSING_PRIVILEGE: &str = "\
missing_privilege:
  description: What the caller must be granted.
  returned: when a privilege is missing
  type: dict
  contains:
    path:
      description: The path on which Proxmox VE wants it.
      returned: always
      type: str
    privileges:
      description: Its name; V(|) stands between several of which one is enough.
      returned: always
      type: str
";

fn missing(path: &str, privileges: &str) -> Value {
    json!({"path": path, "privileges": privileges})
}

/// The failure of a caller who lacks `privilege` on `path`, detected before PVE refuses the call.
pub fn permission_denied(client: &Client, path: &str, privilege: &str) -> Failure {
    Failure::new(
        FailureKind::PermissionDenied,
        format!(
            "{} lacks the privilege {privilege} on {path}",
            client.caller()
        ),
    )
    .object(path)
    .with(MISSING, missing(path, privilege))
    .hint(grant(path, privilege, client.caller()))
}

/// The failure with a hint that names the path where the caller's roles are, if a privilege was missing. In PVE an entry on a deeper
/// path replaces what is inherited from those above it, so a role that is granted on the path which PVE checked may take away
/// every other right there.
pub async fn explained(client: &Client, deadline: &Deadline, failure: Failure) -> Failure {
    let text = |key: &str| {
        let missing = failure.values.get(MISSING)?;
        missing.get(key)?.as_str().map(str::to_owned)
    };
    let (Some(path), Some(privileges)) = (text("path"), text("privileges")) else {
        return failure;
    };
    let limit = deadline.shorter(std::time::Duration::from_secs(10));
    match client.get("/access/permissions", &[], &limit).await {
        Ok(Value::Object(permissions)) => {
            let path = role_path(&path, &permissions);
            failure.hint(grant_at(&path, &privileges, client.caller()))
        }
        _ => failure,
    }
}

/// The path where the roles are by which the caller has rights on `path`: the nearest one that has any, or the highest one above
/// it with just the same, which is where they are inherited from. Without any rights, `path` itself; of VMs the one of all VMs,
/// because a VMID may be free or another VM's by the time of the grant.
fn role_path(path: &str, permissions: &Map<String, Value>) -> String {
    let held = |path: &str| -> BTreeMap<&str, bool> {
        let held = permissions.get(path).and_then(Value::as_object);
        let held = held.into_iter().flatten();
        held.map(|(privilege, propagates)| (privilege.as_str(), propagates.as_u64() == Some(1)))
            .collect()
    };
    let mut above: Vec<&str> = vec![path];
    while let Some((parent, _)) = above[above.len() - 1]
        .rsplit_once('/')
        .filter(|(p, _)| !p.is_empty())
    {
        above.push(parent);
    }
    if path != "/" {
        above.push("/");
    }
    let is_one_vm = |path: &str| path.strip_prefix("/vms/").is_some();
    let Some(first) = above.iter().position(|path| !held(path).is_empty()) else {
        let pool = permissions
            .keys()
            .find(|path| path.starts_with("/pool/") && !held(path).is_empty());
        return match (is_one_vm(path), pool) {
            (true, Some(pool)) => pool.clone(),
            (true, None) => "/vms".into(),
            (false, _) => path.to_owned(),
        };
    };
    let mut at = first;
    while let Some(parent) = above
        .get(at + 1)
        .filter(|parent| held(parent) == held(above[at]))
    {
        debug_assert!(!parent.is_empty());
        at += 1;
    }
    above[at].to_owned()
}

/// The commands that grant a missing privilege, when it is not known where the caller's roles are.
fn grant(path: &str, privileges: &str, caller: &str) -> String {
    // Of all VMs: an entry for one would replace the caller's other rights on it, and a VMID may not exist yet.
    let safe = match path.strip_prefix("/vms/") {
        Some(_) => "/vms",
        None => path,
    };
    format!(
        "{}. If `pveum acl list` shows a role of {caller} on a path above {safe} only, use that path: an entry on a deeper path \
         replaces it",
        grant_at(safe, privileges, caller)
    )
}

/// The commands that grant a missing privilege on `path`: a role with just that.
fn grant_at(path: &str, privileges: &str, caller: &str) -> String {
    // "A|B" means that either is enough.
    let privilege = privileges.split('|').next().unwrap_or(privileges);
    let role = format!("nixos-{}", privilege.replace(['.', ','], "-"));
    // A token with privilege separation has what both it and its user have.
    let who = match caller.split_once('!') {
        Some((user, _)) => format!("--users '{user}' --tokens '{caller}'"),
        None => format!("--users '{caller}'"),
    };
    format!(
        "run on a node: pveum role add {role} --privs '{}'; pveum acl modify {path} --roles {role} {who}",
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
        assert_eq!(
            (made.kind, made.status),
            (FailureKind::PermissionDenied, Some(403))
        );
        let hint = made.hint.unwrap();
        assert!(
            hint.contains("--privs 'Datastore.AllocateTemplate'"),
            "{hint}"
        );
        assert!(hint.contains("pveum acl modify /storage/local --roles nixos-Datastore-AllocateTemplate --users 'a@pve' --tokens 'a@pve!t'"), "{hint}");
    }

    #[test]
    fn a_hint_never_names_one_vm() {
        let made = refused(
            403,
            "Permission check failed (/vms/100, VM.PowerMgmt)",
            "a@pve!t",
        );
        let hint = made.hint.unwrap();
        assert!(hint.contains("pveum acl modify /vms --roles"), "{hint}");
        assert!(!hint.contains("/vms/100"), "{hint}");
    }

    #[test]
    fn roles_are_granted_where_the_caller_has_some() {
        let some = json!({"VM.Audit": 1, "VM.Allocate": 1});
        for (path, permissions, expected) in [
            // Inherited from above: an entry on /vms would replace it.
            ("/vms/100", json!({"/": some, "/vms": some}), "/"),
            (
                "/vms/100",
                json!({"/": {"Sys.Audit": 1}, "/vms": some}),
                "/vms",
            ),
            ("/vms/100", json!({"/vms": some}), "/vms"),
            ("/vms/100", json!({"/vms": some, "/vms/100": some}), "/vms"),
            ("/vms/100", json!({"/pool/web": some}), "/pool/web"),
            ("/vms/100", json!({}), "/vms"),
            ("/vms/100", json!({"/vms": {}, "/": {}}), "/vms"),
            ("/storage/local", json!({"/vms": some}), "/storage/local"),
            ("/storage/local", json!({"/storage": some}), "/storage"),
            (
                "/storage/local",
                json!({"/storage/local": {"Datastore.Audit": 1}, "/": some}),
                "/storage/local",
            ),
            ("/", json!({}), "/"),
            (
                "/sdn/zones/localnetwork/vmbr0",
                json!({"/": some, "/sdn": some}),
                "/",
            ),
        ] {
            let permissions = permissions.as_object().unwrap();
            assert_eq!(
                role_path(path, permissions),
                expected,
                "{path} {permissions:?}"
            );
        }
    }

    #[test]
    fn a_lock_in_the_configuration_is_named() {
        let made = refused(500, "VM is locked (backup)", "a@pve!t");
        assert_eq!(made.kind, FailureKind::Locked);
        assert!(made.hint.unwrap().contains("qm unlock"));
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
