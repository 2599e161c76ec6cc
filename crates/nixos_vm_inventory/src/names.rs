//! The name that each VM has as a host.

use std::collections::BTreeMap;

use crate::list::Vm;

/// The longest name that DNS knows.
const LONGEST: usize = 253;

/// The hosts' names, in the order of the VMs, and warnings about VMs that are not called by their own.
///
/// A VM whose name another listed VM has, or that is not safe as a host's name, is called `vm_VMID`. No VM can have such a name, since PVE
/// accepts no underscore in names, so no VM replaces another one. All VMs of a name lose it: which of them was meant is not known.
pub fn of(vms: &[&Vm]) -> (Vec<String>, Vec<String>) {
    let mut bearers: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for vm in vms {
        // Names of DNS: their case does not count.
        let name = vm.name.to_ascii_lowercase();
        bearers.entry(name).or_default().push(vm.vmid);
    }
    let mut warnings = Vec::new();
    let names = vms.iter().map(|vm| {
        let is_alone = bearers[&vm.name.to_ascii_lowercase()].len() == 1;
        if is_alone && is_safe(&vm.name) {
            return vm.name.clone();
        }
        let own = format!("vm_{}", vm.vmid);
        if !is_safe(&vm.name) {
            let name = crate::list::line(&vm.name);
            warnings.push(match name.is_empty() {
                true => format!("VM {} has no name; its host is called {own}", vm.vmid),
                false => format!(
                    "VM {}: its name '{name}' is not safe as a host name; its host is called {own}",
                    vm.vmid
                ),
            });
        }
        own
    });
    let names = names.collect();
    for (name, vmids) in bearers
        .iter()
        .filter(|(name, vmids)| vmids.len() > 1 && is_safe(name))
    {
        let list: Vec<String> = vmids.iter().map(u32::to_string).collect();
        warnings.push(format!(
            "several VMs have the name {name} ({}); their hosts are called vm_VMID. Give each VM a name of its own",
            list.join(", ")
        ));
    }
    (names, warnings)
}

/// Whether it may be a host's name: letters, digits, `-` and `.`, beginning with a letter or digit. Not a name that Ansible takes for
/// another thing (the controller, or all hosts), nor an address, which would say where to connect to.
pub fn is_safe(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let lower = name.to_ascii_lowercase();
    let is_controller = [
        "localhost",
        "localhost4",
        "localhost6",
        "ip6-localhost",
        "ip6-loopback",
    ]
    .iter()
    .any(|own| lower == *own || lower.starts_with(&format!("{own}.")))
        || lower.ends_with(".localhost");
    name.len() <= LONGEST
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(is_part)
        && !is_controller
        && !matches!(&*lower, "all" | "ungrouped")
        // `127.1`, `127.0x1` and `2130706433` are addresses as well, for the resolver.
        && !lower.split('.').all(is_number)
}

/// Whether it is a part of an address, for the resolver: decimal, octal or hexadecimal.
fn is_number(part: &str) -> bool {
    match part.strip_prefix("0x") {
        Some(digits) => digits.chars().all(|c| c.is_ascii_hexdigit()),
        None => part.chars().all(|c| c.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> (Vec<String>, Vec<String>) {
        let vms: Vec<Vm> = names
            .iter()
            .zip(101..)
            .map(|(name, vmid)| Vm {
                vmid,
                name: (*name).to_owned(),
                ..Vm::default()
            })
            .collect();
        of(&vms.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_name_of_several_is_nobodys() {
        let (names, warnings) = named(&["web1", "db1", "Web1", "db2"]);
        assert_eq!(names, ["vm_101", "db1", "vm_103", "db2"]);
        assert_eq!(
            warnings,
            [
                "several VMs have the name web1 (101, 103); their hosts are called vm_VMID. Give each VM a name of its own"
            ]
        );
    }

    #[test]
    fn unsafe_names_are_replaced() {
        for name in [
            "",
            "localhost",
            "LOCALHOST",
            "localhost.localdomain",
            "all",
            "ungrouped",
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "127.0x1",
            "0177.0x0.1",
            "127.0.0.1.",
            "localhost6.localdomain6",
            "ip6-localhost",
            "a b",
            "a,b",
            "../x",
            "-oProxyCommand=x",
            "{{ x }}",
            "a\nb",
            "vm_102",
            "web*",
            "!web",
            "[::1]",
            "é",
        ] {
            let (names, warnings) = named(&[name, "web1"]);
            assert_eq!(names, ["vm_101", "web1"], "{name}");
            assert_eq!(warnings.len(), 1, "{name}");
            assert!(!warnings[0].contains('\n'), "{warnings:?}");
        }
        for name in ["web1", "1a", "web-1.example.org", "10.example"] {
            assert_eq!(named(&[name]).0, [name]);
        }
    }
}
