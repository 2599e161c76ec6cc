//! Which VM is meant.

use std::collections::BTreeSet;
use std::time::Duration;

use ansible_module::Failure;
use deadline::Deadline;
use pve_module::{Inventory, Lock, Seen};
use serde_json::Value;

use crate::apply::create;
use crate::context::Context;
use crate::context::failed;

/// The pause between two looks at VMs that are being created.
const LOOK: Duration = Duration::from_millis(500);
/// How often a VM that is locked by its making must be found without a task before nothing more is expected of it.
const CUT_OFF_LOOKS: u32 = 6;

/// The VM that `vmid` and `name` mean, if there is one.
///
/// # Errors
/// When two VMs have the name, when name and VMID belong to different VMs, when the VM with this VMID has
/// another name (unless `rename`), and for templates (unless `templates`).
pub fn identify<'a>(
    inventory: &'a Inventory,
    vmid: Option<u32>,
    name: Option<&str>,
    rename: bool,
    templates: bool,
) -> Result<Option<&'a Seen>, Failure> {
    let by_vmid = vmid.and_then(|vmid| inventory.by_vmid(vmid));
    let named = name.map(|name| inventory.by_name(name)).unwrap_or_default();
    let found = match (vmid, by_vmid) {
        (Some(vmid), Some(seen)) => {
            let other = name.filter(|_| !named.iter().any(|one| one.vm.vmid == vmid));
            if let Some(name) = other.filter(|_| !rename || !named.is_empty()) {
                return Err(other_name(vmid, name, seen, &named));
            }
            Some(seen)
        }
        (Some(vmid), None) => {
            if let (Some(name), Some(other)) = (name, named.first()) {
                return Err(Failure::new(
                    "name_taken",
                    format!(
                        "the name {name} belongs to VM {} on {}, not to {vmid}",
                        other.vm.vmid, other.node
                    ),
                )
                .object(name)
                .hint("leave vmid out to mean that VM, or choose another name"));
            }
            None
        }
        (None, _) => match named.as_slice() {
            [] => None,
            [one] => Some(*one),
            several => return Err(ambiguous(name.unwrap_or_default(), several)),
        },
    };
    match found {
        Some(seen) if seen.vm.template && !templates => Err(Failure::new(
            "template",
            format!(
                "VM {} ({}) on {} is a template",
                seen.vm.vmid, seen.vm.name, seen.node
            ),
        )
        .object(seen.vm.vmid.to_string())
        .hint("state: template manages it, state: absent with force: true removes it; give a clone a name of its own")),
        found => Ok(found),
    }
}

/// Make sure that an empty list of VMs means that there are none: PVE shows nothing, and no error, to a token that may
/// not look.
pub async fn may_look(context: &Context<'_>) -> Result<(), Failure> {
    let granted = context
        .client
        .get("/access/permissions", &[], context.deadline)
        .await;
    let granted = granted.map_err(pve_module::doing("read the token's privileges"))?;
    let looks = |privileges: &Value| privileges.get("VM.Audit").is_some();
    if granted
        .as_object()
        .is_some_and(|paths| paths.values().any(looks))
    {
        return Ok(());
    }
    Err(Failure::new(
        "permission_denied",
        "the privilege VM.Audit is missing: no VM is shown, so it is not known which there are",
    )
    .object("/vms")
    .hint("give the user, and its token, VM.Audit on /vms or on a pool (pveum acl modify)"))
}

/// The VMs that PVE makes at the moment.
pub fn in_the_making(inventory: &Inventory) -> BTreeSet<u32> {
    let making = inventory.vms.iter().filter(|seen| is_in_the_making(seen));
    making.map(|seen| seen.vm.vmid).collect()
}

/// Whether no task of this controller looks after the making of this VM: the task that asked for it was killed, or is another
/// controller's.
pub async fn is_orphan(cluster: &str, vmid: u32) -> bool {
    let at_once = Deadline::after(Duration::ZERO);
    let lock = Lock::acquire(&create::creating(cluster, vmid), &at_once).await;
    lock.is_ok()
}

/// Wait while PVE makes the VM. Returns whether it is done; if not, its making was cut off and will not go on.
pub async fn await_making(context: &Context<'_>, seen: &Seen) -> Result<bool, Failure> {
    created(context, seen).await?;
    // PVE writes the lock a moment before it begins the task.
    for _ in 0..CUT_OFF_LOOKS {
        let config = context
            .client
            .vm_config(&seen.node, seen.vm.vmid, false, context.deadline);
        match config.await {
            Ok(config)
                if config
                    .get("lock")
                    .and_then(Value::as_str)
                    .is_some_and(is_making) => {}
            Ok(_) => return Ok(true),
            Err(error) if error.not_found() => return Ok(true),
            Err(error) => return Err(failed("read", &format!("VM {}", seen.vm.vmid), error)),
        }
        if created(context, seen).await? || !context.deadline.sleep(LOOK).await {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A VM whose making was cut off: pvedaemon, or its task, was killed in the middle of it.
pub fn cut_off(node: &str, vmid: u32, lock: &str) -> Failure {
    let object = format!("VM {vmid}");
    let msg = format!(
        "{object} on {node} is incomplete: it has the lock '{lock}', but no task of PVE works on it"
    );
    Failure::new("cut_off", msg).object(object).hint(format!(
        "remove what is left of it on node {node}: qm unlock {vmid} && qm destroy {vmid}"
    ))
}

/// Wait for the VM with this VMID if PVE still creates it. Returns whether it did.
///
/// # Errors
/// Kind `cut_off` when it never will be complete; otherwise the API's.
pub async fn await_creation(
    context: &Context<'_>,
    inventory: &Inventory,
    vmid: Option<u32>,
) -> Result<bool, Failure> {
    let is = |seen: &&Seen| Some(seen.vm.vmid) == vmid && is_in_the_making(seen);
    let Some(seen) = inventory.vms.iter().find(is) else {
        return Ok(false);
    };
    if await_making(context, seen).await? {
        return Ok(true);
    }
    let lock = seen.vm.lock.as_deref().unwrap_or_default();
    Err(cut_off(&seen.node, seen.vm.vmid, lock))
}

/// Wait while a task of PVE's creates the VM. Returns whether one did.
async fn created(context: &Context<'_>, seen: &Seen) -> Result<bool, Failure> {
    let vmid = seen.vm.vmid;
    let mut waited = false;
    while is_creating(context, seen).await? {
        if !waited {
            context.says("wait for creation", &format!("VM {vmid}"));
            waited = true;
        }
        if !context.deadline.sleep(LOOK).await {
            let what = format!("the creation of VM {vmid}, which another task began");
            let expired = context
                .deadline
                .expired_error(what, context.deadline.limit());
            return Err(expired.into());
        }
    }
    Ok(waited)
}

/// Whether the lock of the VM says that it is being created or is the clone in the making.
pub fn is_in_the_making(seen: &Seen) -> bool {
    seen.vm.lock.as_deref().is_some_and(is_making)
}

fn is_making(lock: &str) -> bool {
    matches!(lock, "create" | "clone")
}

/// Whether a task of PVE's makes the VM. Its lock alone says nothing: a worker that was killed leaves it for ever.
pub async fn is_creating(context: &Context<'_>, seen: &Seen) -> Result<bool, Failure> {
    let (client, vmid) = (context.client, seen.vm.vmid);
    let object = format!("VM {vmid}");
    let path = format!("/nodes/{}/tasks", seen.node);
    let mut query = vec![("source", "active".to_owned())];
    if seen.vm.lock.as_deref() == Some("clone") {
        // The task has the template's VMID, so that any clone's task counts as long as the lock is there.
        match client
            .vm_config(&seen.node, vmid, false, context.deadline)
            .await
        {
            Ok(config) if config.contains_key("lock") => {}
            Ok(_) => return Ok(false),
            Err(error) if error.not_found() => return Ok(false),
            Err(error) => return Err(failed("read", &object, error)),
        }
        query.push(("typefilter", "qmclone".to_owned()));
    } else {
        query.push(("vmid", vmid.to_string()));
    }
    let tasks = client.get(&path, &query, context.deadline).await;
    let tasks = tasks.map_err(|e| failed("list the tasks of", &object, e))?;
    Ok(tasks.as_array().is_some_and(|tasks| !tasks.is_empty()))
}

fn ambiguous(name: &str, several: &[&Seen]) -> Failure {
    let list: Vec<String> = several
        .iter()
        .map(|s| format!("{} on {}", s.vm.vmid, s.node))
        .collect();
    Failure::new(
        "ambiguous",
        format!(
            "{} VMs have the name {name}: {}",
            several.len(),
            list.join(", ")
        ),
    )
    .object(name)
    .hint("say which one with vmid, or rename the others")
}

fn other_name(vmid: u32, name: &str, seen: &Seen, named: &[&Seen]) -> Failure {
    let mut msg = format!(
        "VM {vmid} on {} has the name {} and not {name}",
        seen.node, seen.vm.name
    );
    if let Some(other) = named.first() {
        msg.push_str(&format!(
            "; {name} is VM {} on {}",
            other.vm.vmid, other.node
        ));
    }
    Failure::new("name_differs", msg)
        .object(vmid.to_string())
        .hint("correct vmid or name; to rename a VM give both with force: true and state: present")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn inventory(vms: &[(u32, &str, bool)]) -> Inventory {
        let seen = |(vmid, name, template): &(u32, &str, bool)| Seen {
            node: "pve".into(),
            vm: serde_json::from_value(
                json!({"vmid": vmid, "name": name, "template": u8::from(*template)}),
            )
            .unwrap(),
        };
        Inventory {
            vms: vms.iter().map(seen).collect(),
            ..Inventory::default()
        }
    }

    #[test]
    fn who_is_meant() {
        let there = inventory(&[
            (101, "web1", false),
            (102, "db1", false),
            (103, "twin", false),
            (104, "twin", false),
            (105, "golden", true),
        ]);
        for (vmid, name, rename, expected) in [
            (Some(101), None, false, Ok(Some(101))),
            (None, Some("web1"), false, Ok(Some(101))),
            (None, Some("WEB1"), false, Ok(Some(101))),
            (Some(101), Some("web1"), false, Ok(Some(101))),
            (Some(103), Some("twin"), false, Ok(Some(103))),
            (None, Some("new"), false, Ok(None)),
            (Some(200), Some("new"), false, Ok(None)),
            (Some(101), Some("new"), true, Ok(Some(101))),
            (Some(101), Some("new"), false, Err("name_differs")),
            (Some(101), Some("db1"), true, Err("name_differs")),
            (Some(200), Some("web1"), true, Err("name_taken")),
            (None, Some("twin"), false, Err("ambiguous")),
            (Some(105), None, false, Err("template")),
        ] {
            let found = identify(&there, vmid, name, rename, false)
                .map(|seen| seen.map(|s| s.vm.vmid))
                .map_err(|f| f.kind);
            assert_eq!(found, expected, "{vmid:?} {name:?} {rename}");
        }
    }
}
