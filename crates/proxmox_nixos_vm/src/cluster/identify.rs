//! Which VM is meant.

use ansible_module::{Failure, FailureKind};
use pve_module::{Inventory, Seen};

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
                    FailureKind::NameTaken,
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
            FailureKind::Template,
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

fn ambiguous(name: &str, several: &[&Seen]) -> Failure {
    let list: Vec<String> = several
        .iter()
        .map(|s| format!("{} on {}", s.vm.vmid, s.node))
        .collect();
    Failure::new(
        FailureKind::Ambiguous,
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
    Failure::new(FailureKind::NameDiffers, msg)
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
            (Some(101), Some("new"), false, Err(FailureKind::NameDiffers)),
            (Some(101), Some("db1"), true, Err(FailureKind::NameDiffers)),
            (Some(200), Some("web1"), true, Err(FailureKind::NameTaken)),
            (None, Some("twin"), false, Err(FailureKind::Ambiguous)),
            (Some(105), None, false, Err(FailureKind::Template)),
        ] {
            let found = identify(&there, vmid, name, rename, false)
                .map(|seen| seen.map(|s| s.vm.vmid))
                .map_err(|f| f.kind);
            assert_eq!(found, expected, "{vmid:?} {name:?} {rename}");
        }
    }
}
