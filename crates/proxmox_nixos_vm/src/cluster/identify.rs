//! Which VM is meant.

use pve_module::{Inventory, Seen};

use crate::error::{Error, location};

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
) -> Result<Option<&'a Seen>, Error> {
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
                return Err(Error::NameTaken {
                    name: name.to_owned(),
                    other: location(other),
                    vmid,
                });
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
        Some(seen) if seen.vm.template && !templates => Err(Error::Template {
            vmid: seen.vm.vmid,
            name: seen.vm.name.clone(),
            node: seen.node.clone(),
        }),
        found => Ok(found),
    }
}

fn ambiguous(name: &str, several: &[&Seen]) -> Error {
    Error::AmbiguousName {
        name: name.to_owned(),
        vms: several.iter().map(|seen| location(seen)).collect(),
    }
}

fn other_name(vmid: u32, name: &str, seen: &Seen, named: &[&Seen]) -> Error {
    Error::NameDiffers {
        vmid,
        node: seen.node.clone(),
        actual: seen.vm.name.clone(),
        name: name.to_owned(),
        other: named.first().map(|seen| location(seen)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ansible_module::{Failure, FailureKind};
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
                .map_err(|error| Failure::from(error).kind);
            assert_eq!(found, expected, "{vmid:?} {name:?} {rename}");
        }
    }
}
