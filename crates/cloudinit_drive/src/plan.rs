//! What must be done: pure, from what is and what is wanted.

use std::collections::BTreeMap;

use ansible_module::Failure;
use nocloud_seed::IpConfig;
use percent_encoding::percent_decode_str;
use pve_client::Volid;
use pve_client::property::{PropertyString, parse_bool};

use crate::content::Native;
use crate::password;
use crate::state::{Current, Medium, Vm};

/// What shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// No cloud-init drive, no seed ISO, no cloud-init option.
    Absent,
    /// This seed ISO.
    Nocloud {
        /// Its volume.
        volid: Volid,
        /// Its size in bytes.
        size: u64,
    },
    /// Proxmox VE's own drive.
    Native {
        /// The storage for a new one.
        storage: String,
        /// Its content.
        content: Native,
    },
}

/// The steps, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Upload the seed ISO.
    pub upload: bool,
    /// Eject and remove these drives.
    pub detach: Vec<String>,
    /// Attach this to the drive.
    pub attach: Option<String>,
    /// Set these options.
    pub set: BTreeMap<String, String>,
    /// Set the password.
    pub set_password: bool,
    /// Remove these options.
    pub clear: Vec<String>,
    /// Have Proxmox VE write its drive anew.
    pub regenerate: bool,
    /// Delete these seed ISOs.
    pub delete: Vec<Volid>,
}

impl Plan {
    /// Whether everything is as it shall be.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Makes the plan for the VM with this ID and its drive.
    ///
    /// # Errors
    /// `drive_in_use` when the drive holds something that is not ours, `protected` when a drive had to go from a protected VM.
    pub fn new(
        vmid: u32,
        drive: &str,
        wanted: &Wanted,
        current: &Current,
    ) -> Result<Self, Failure> {
        let mut plan = Plan::default();
        let mut old_seeds: Vec<Volid> = current
            .seeds
            .iter()
            .map(|seed| seed.volid.clone())
            .collect();
        let Some(vm) = &current.vm else {
            old_seeds.retain(|old| !current.held.contains_key(&old.to_string()));
            plan.delete = old_seeds;
            return Ok(plan);
        };
        let mut slot = Vec::new();
        for (key, medium) in vm.drives(vmid) {
            if key == drive {
                slot.push(medium.clone());
            } else if matches!(
                medium,
                Medium::Native | Medium::Seed(_) | Medium::ForeignSeed(_)
            ) {
                plan.detach.push(key.to_owned());
            }
            if let Medium::Seed(volid) = medium {
                old_seeds.push(volid);
            }
        }
        let held = vm.next(drive).map(|value| Vm::medium(value, vmid));
        if held == Some(Medium::Other) && *wanted != Wanted::Absent {
            return Err(in_use(vmid, drive, vm.next(drive).unwrap_or_default()));
        }
        match wanted {
            Wanted::Absent => {
                let ours = |medium: &Medium| !matches!(medium, Medium::Empty | Medium::Other);
                // An empty drive is what an interrupted run of this module leaves.
                if slot.iter().any(ours) || held == Some(Medium::Empty) {
                    plan.detach.push(drive.to_owned());
                }
                plan.clear = cloudinit_options(vm);
            }
            Wanted::Nocloud { volid, size } => {
                let complete = |seed: &&crate::state::SeedIso| {
                    seed.volid == *volid && seed.size == Some(*size)
                };
                plan.upload = !current.seeds.iter().any(|seed| complete(&seed));
                if held == Some(Medium::Native) {
                    // Detached first, so that Proxmox VE removes its volume.
                    plan.detach.push(drive.to_owned());
                }
                if vm.drives(vmid).any(|(_, medium)| medium == Medium::Native) {
                    // The password and keys of that drive.
                    plan.clear = cloudinit_options(vm);
                }
                if held != Some(Medium::Seed(volid.clone())) {
                    plan.attach = Some(volid.to_string());
                }
                old_seeds.retain(|old| old != volid);
            }
            Wanted::Native { storage, content } => {
                refuse_custom(vmid, vm, content)?;
                if held != Some(Medium::Native) {
                    plan.attach = Some(format!("{storage}:cloudinit"));
                }
                plan.native_options(vm, content, current);
            }
        }
        plan.detach.sort();
        plan.detach.dedup();
        // Said before the medium is taken out, which Proxmox VE would still do.
        if let (Some(drive), Some("1")) = (plan.detach.first(), vm.next("protection")) {
            let msg =
                format!("VM {vmid} is protected, so Proxmox VE does not remove its drive {drive}");
            return Err(Failure::new("protected", msg)
                .object(format!("VM {vmid}"))
                .hint("set protection: false first (proxmox_nixos_vm)"));
        }
        old_seeds.sort();
        old_seeds.dedup();
        // A clone would not start without it.
        old_seeds.retain(|old| !current.held.contains_key(&old.to_string()));
        plan.delete = old_seeds;
        Ok(plan)
    }

    fn native_options(&mut self, vm: &Vm, content: &Native, current: &Current) {
        for (key, value) in &content.keys {
            match (vm.next(key), value) {
                (Some(_), None) => self.clear.push(key.clone()),
                (None, None) => {}
                (Some(is), Some(wanted)) if same(key, is, wanted) => {}
                (_, Some(wanted)) => {
                    self.set.insert(key.clone(), wanted.clone());
                }
            }
        }
        self.set_password = content.password.as_ref().is_some_and(|wanted| {
            let hash = current.password_hash.as_deref();
            !hash.is_some_and(|hash| password::matches(wanted.expose(), hash))
        });
        let ours = |key: &String| content.keys.contains_key(key) || key == "cipassword";
        self.regenerate = self.attach.is_some()
            || !self.set.is_empty()
            || !self.clear.is_empty()
            || self.set_password
            || current.stale.iter().any(ours);
    }
}

/// The options in the VM's configuration that cloud-init's content comes from.
fn cloudinit_options(vm: &Vm) -> Vec<String> {
    let is_set = |(key, line): &(&String, &crate::state::Line)| {
        line.next.is_some() && is_cloudinit_option(key)
    };
    vm.config
        .iter()
        .filter(is_set)
        .map(|(key, _)| key.clone())
        .collect()
}

/// Refuses options that Proxmox VE does not use, since the VM's `cicustom` has a file in their place
/// (PVE::QemuServer::Cloudinit, `get_custom_cloudinit_files`).
fn refuse_custom(vmid: u32, vm: &Vm, content: &Native) -> Result<(), Failure> {
    let Some(custom) = vm.next("cicustom") else {
        return Ok(());
    };
    let parsed = PropertyString::parse(custom, None).ok();
    let given = |key: &str| content.keys.get(key).is_some_and(Option::is_some);
    let user = ["ciuser", "sshkeys"].into_iter().filter(|key| given(key));
    let user = user.chain(content.password.as_ref().map(|_| "cipassword"));
    let addresses = content
        .keys
        .iter()
        .filter(|(key, value)| key.starts_with("ipconfig") && value.is_some());
    let names = ["nameserver", "searchdomain"]
        .into_iter()
        .filter(|key| given(key));
    let network = addresses.map(|(key, _)| key.as_str()).chain(names);
    for (part, what, unused) in [
        ("user", "user-data", user.collect::<Vec<_>>()),
        ("network", "network-config", network.collect()),
    ] {
        let file = parsed.as_ref().and_then(|parsed| parsed.get(part));
        if let (Some(file), false) = (file, unused.is_empty()) {
            let unused = unused.join(", ");
            return Err(Failure::new(
                "cicustom",
                format!("VM {vmid}: cicustom has a {what} of its own ({part}={file}), so Proxmox VE does not use {unused}"),
            )
            .object(format!("VM {vmid} cicustom"))
            .hint(format!("remove cicustom (config in proxmox_nixos_vm; state: absent here removes it too), or leave {unused} out")));
        }
    }
    Ok(())
}

fn in_use(vmid: u32, drive: &str, value: &str) -> Failure {
    Failure::new(
        "drive_in_use",
        format!("{drive} of VM {vmid} is not a cloud-init drive, it holds {value}"),
    )
    .object(format!("VM {vmid} {drive}"))
    .hint("choose another drive, or remove this one first (proxmox_nixos_vm with remove_disks)")
}

/// The options that cloud-init's content comes from, in Proxmox VE 8 and 9.
pub fn is_cloudinit_option(key: &str) -> bool {
    const OPTIONS: [&str; 8] = [
        "cicustom",
        "cipassword",
        "citype",
        "ciupgrade",
        "ciuser",
        "nameserver",
        "searchdomain",
        "sshkeys",
    ];
    let numbered = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
    OPTIONS.contains(&key) || key.strip_prefix("ipconfig").is_some_and(numbered)
}

/// Whether two values of an option mean the same.
fn same(key: &str, is: &str, wanted: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        text.split([' ', ',', ';'])
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let keys = |text: &str| -> Vec<String> {
        let decoded = percent_decode_str(text).decode_utf8_lossy().into_owned();
        decoded
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    };
    match key {
        "sshkeys" => keys(is) == keys(wanted),
        "nameserver" | "searchdomain" => words(is) == words(wanted),
        "ciupgrade" => parse_bool(is) == parse_bool(wanted),
        _ if key.starts_with("ipconfig") => {
            is == wanted
                || matches!((IpConfig::parse(key, is), IpConfig::parse(key, wanted)), (Ok(a), Ok(b)) if a == b)
        }
        _ => is == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Line, SeedIso};

    const SEED: &str = "local:iso/nixos-proxmox-seed-101-aaaaaaaaaaaa.iso";
    const OLD: &str = "local:iso/nixos-proxmox-seed-101-bbbbbbbbbbbb.iso";

    fn volid(text: &str) -> Volid {
        text.parse().unwrap()
    }

    fn vm(config: &[(&str, &str)]) -> Current {
        let line = |value: &str| Line {
            now: Some(value.to_owned()),
            next: Some(value.to_owned()),
        };
        let config = config
            .iter()
            .map(|(key, value)| ((*key).to_owned(), line(value)))
            .collect();
        Current {
            vm: Some(Vm {
                node: "pve".into(),
                config,
            }),
            seeds: Vec::new(),
            password_hash: None,
            stale: Vec::new(),
            held: BTreeMap::new(),
        }
    }

    fn with_seeds(mut current: Current, seeds: &[(&str, u64)]) -> Current {
        current.seeds = seeds
            .iter()
            .map(|(v, size)| SeedIso {
                volid: volid(v),
                size: Some(*size),
            })
            .collect();
        current
    }

    fn nocloud() -> Wanted {
        Wanted::Nocloud {
            volid: volid(SEED),
            size: 1000,
        }
    }

    fn native(keys: &[(&str, Option<&str>)]) -> Wanted {
        let keys = keys
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.map(str::to_owned)))
            .collect();
        Wanted::Native {
            storage: "zfs".into(),
            content: Native {
                keys,
                password: None,
            },
        }
    }

    fn plan(wanted: &Wanted, current: &Current) -> Plan {
        Plan::new(101, "ide0", wanted, current).unwrap()
    }

    #[test]
    fn a_seed_is_uploaded_and_attached_once() {
        let fresh = plan(
            &nocloud(),
            &vm(&[("scsi0", "local:101/vm-101-disk-0.raw,size=2G")]),
        );
        assert_eq!(
            fresh,
            Plan {
                upload: true,
                attach: Some(SEED.into()),
                ..Plan::default()
            }
        );
        let there = with_seeds(
            vm(&[("ide0", &format!("{SEED},media=cdrom,size=52K"))]),
            &[(SEED, 1000)],
        );
        assert!(plan(&nocloud(), &there).is_empty());
    }

    #[test]
    fn what_an_interrupted_upload_left_is_uploaded_again() {
        let half = with_seeds(vm(&[]), &[(SEED, 600)]);
        assert_eq!(
            plan(&nocloud(), &half),
            Plan {
                upload: true,
                attach: Some(SEED.into()),
                ..Plan::default()
            }
        );
        // Somebody deleted it while it was attached.
        let gone = vm(&[("ide0", SEED)]);
        assert_eq!(
            plan(&nocloud(), &gone),
            Plan {
                upload: true,
                ..Plan::default()
            }
        );
    }

    #[test]
    fn an_older_seed_is_replaced_wherever_it_is() {
        let same_drive = with_seeds(vm(&[("ide0", OLD)]), &[(OLD, 900)]);
        let replaced = Plan {
            upload: true,
            attach: Some(SEED.into()),
            delete: vec![volid(OLD)],
            ..Plan::default()
        };
        assert_eq!(plan(&nocloud(), &same_drive), replaced);
        let other_drive = with_seeds(vm(&[("ide3", OLD)]), &[(OLD, 900)]);
        assert_eq!(
            plan(&nocloud(), &other_drive),
            Plan {
                detach: vec!["ide3".into()],
                ..replaced.clone()
            }
        );
        let native = with_seeds(
            vm(&[("ide0", "zfs:vm-101-cloudinit,media=cdrom")]),
            &[(OLD, 900)],
        );
        assert_eq!(
            plan(&nocloud(), &native),
            Plan {
                detach: vec!["ide0".into()],
                ..replaced
            }
        );
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        for held in [
            "local:iso/nixos.iso,media=cdrom",
            "local:101/vm-101-disk-0.raw",
            "cdrom",
            "local:iso/nixos-proxmox-seed-1011-mine.iso",
        ] {
            let current = vm(&[("ide0", held)]);
            for wanted in [nocloud(), native(&[])] {
                let refused = Plan::new(101, "ide0", &wanted, &current).unwrap_err();
                assert_eq!(refused.kind, "drive_in_use");
            }
            assert!(plan(&Wanted::Absent, &current).is_empty(), "{held}");
        }
    }

    #[test]
    fn a_clone_gets_a_seed_of_its_own() {
        const TEMPLATES: &str = "local:iso/nixos-proxmox-seed-9-aaaaaaaaaaaa.iso";
        for drive in ["ide0", "ide3"] {
            let current = vm(&[(drive, &format!("{TEMPLATES},media=cdrom,size=52K"))]);
            let detach: Vec<String> = (drive != "ide0")
                .then(|| drive.into())
                .into_iter()
                .collect();
            let made = plan(&nocloud(), &current);
            assert_eq!(
                (&made.attach, &made.detach, made.delete.len()),
                (&Some(SEED.into()), &detach, 0)
            );
            let made = plan(&native(&[]), &current);
            assert_eq!((made.detach, made.delete.len()), (detach, 0));
            assert!(made.attach.is_some());
            let gone = plan(&Wanted::Absent, &current);
            assert_eq!(
                (gone.detach, gone.delete.len()),
                (vec![drive.to_owned()], 0)
            );
        }
    }

    #[test]
    fn a_seed_that_another_vm_has_stays() {
        let mut current = with_seeds(vm(&[("ide0", OLD)]), &[(OLD, 900)]);
        current.held.insert(OLD.into(), 102);
        assert!(plan(&nocloud(), &current).delete.is_empty());
        assert!(plan(&Wanted::Absent, &current).delete.is_empty());
        current.vm = None;
        assert!(plan(&Wanted::Absent, &current).is_empty());
    }

    #[test]
    fn options_that_cicustom_makes_void_are_refused() {
        let refused = |custom: &str, keys: &[(&str, Option<&str>)]| {
            let current = vm(&[("cicustom", custom), ("ide0", "zfs:vm-101-cloudinit")]);
            Plan::new(101, "ide0", &native(keys), &current)
                .map(|_| ())
                .map_err(|failure| failure.msg)
        };
        let user = [
            ("ciuser", Some("root")),
            ("sshkeys", Some("x")),
            ("ciupgrade", Some("0")),
        ];
        let network = [
            ("ipconfig0", Some("ip=dhcp")),
            ("nameserver", Some("192.0.2.1")),
        ];
        let msg = refused("user=local:snippets/u.yaml", &user).unwrap_err();
        assert!(
            msg.contains("user=local:snippets/u.yaml") && msg.ends_with("ciuser, sshkeys"),
            "{msg}"
        );
        let msg = refused("meta=local:snippets/m,network=local:snippets/n", &network).unwrap_err();
        assert!(msg.ends_with("ipconfig0, nameserver"), "{msg}");
        for (custom, keys) in [
            ("vendor=local:snippets/v.yaml", &user[..]),
            ("user=local:snippets/u.yaml", &network[..]),
            (
                "user=local:snippets/u.yaml",
                &[("ciuser", None), ("ciupgrade", Some("0"))][..],
            ),
        ] {
            assert_eq!(refused(custom, keys), Ok(()));
        }
    }

    #[test]
    fn a_native_drive_leaves_no_option_behind() {
        let current = vm(&[
            ("ide2", "zfs:vm-101-cloudinit,media=cdrom"),
            ("cipassword", "**********"),
            ("ipconfig1", "ip=dhcp"),
            ("memory", "512"),
        ]);
        let made = plan(&nocloud(), &current);
        assert_eq!(
            (made.detach, made.clear),
            (
                vec!["ide2".to_owned()],
                vec!["cipassword".to_owned(), "ipconfig1".to_owned()]
            )
        );
        // Without one they are somebody else's.
        assert!(
            plan(&nocloud(), &vm(&[("ciuser", "root")]))
                .clear
                .is_empty()
        );
    }

    #[test]
    fn absent_leaves_nothing() {
        let current = with_seeds(
            vm(&[
                ("ide0", SEED),
                ("ide1", "zfs:vm-101-cloudinit"),
                ("ide2", "local:iso/nixos.iso,media=cdrom"),
                ("ciuser", "root"),
                ("cipassword", "**********"),
                ("sshkeys", "x"),
                ("ipconfig0", "ip=dhcp"),
                ("ipconfig12", "ip=dhcp"),
                ("nameserver", "1.1.1.1"),
                ("searchdomain", "x"),
                ("cicustom", "user=x:y"),
                ("citype", "nocloud"),
                ("ciupgrade", "0"),
                ("memory", "512"),
                ("name", "web1"),
            ]),
            &[(SEED, 1000), (OLD, 900)],
        );
        let plan = plan(&Wanted::Absent, &current);
        assert_eq!(plan.detach, ["ide0", "ide1"]);
        assert_eq!(plan.delete, [volid(SEED), volid(OLD)]);
        assert_eq!(plan.clear.len(), 10, "{:?}", plan.clear);
        assert!(plan.clear.iter().all(|key| is_cloudinit_option(key)));
    }

    #[test]
    fn absent_cleans_up_after_a_vm_that_is_gone() {
        let current = Current {
            vm: None,
            ..with_seeds(vm(&[]), &[(OLD, 1)])
        };
        assert_eq!(
            plan(&Wanted::Absent, &current),
            Plan {
                delete: vec![volid(OLD)],
                ..Plan::default()
            }
        );
        assert!(
            plan(
                &Wanted::Absent,
                &Current {
                    vm: None,
                    ..vm(&[])
                }
            )
            .is_empty()
        );
    }

    #[test]
    fn absent_finishes_what_was_begun() {
        // Ejected, but not removed yet.
        assert_eq!(
            plan(&Wanted::Absent, &vm(&[("ide0", "none,media=cdrom")])).detach,
            ["ide0"]
        );
        // Removed with the next stop, and ejected already: nothing left to do.
        let mut current = vm(&[]);
        let ejected = Line {
            now: Some("none,media=cdrom".into()),
            next: None,
        };
        current
            .vm
            .as_mut()
            .unwrap()
            .config
            .insert("ide0".into(), ejected);
        assert!(plan(&Wanted::Absent, &current).is_empty());
        // Removed with the next stop, but the seed is still in the running VM.
        let held = Line {
            now: Some(SEED.into()),
            next: None,
        };
        current
            .vm
            .as_mut()
            .unwrap()
            .config
            .insert("ide0".into(), held);
        assert_eq!(plan(&Wanted::Absent, &current).detach, ["ide0"]);
    }

    #[test]
    fn native_options_are_compared_by_meaning() {
        let current = vm(&[
            ("ide0", "zfs:vm-101-cloudinit,media=cdrom"),
            ("ipconfig0", "gw=192.0.2.1,ip=192.0.2.11/24"),
            ("sshkeys", "ssh-ed25519%20AAAA%2B%20me%0A"),
            ("nameserver", "192.0.2.1 192.0.2.2"),
            ("ciupgrade", "0"),
            ("ciuser", "root"),
        ]);
        let same = [
            ("ipconfig0", Some("ip=192.0.2.11/24,gw=192.0.2.1")),
            ("sshkeys", Some("ssh-ed25519%20AAAA%2B%20me")),
            ("nameserver", Some("192.0.2.1 192.0.2.2")),
            ("ciupgrade", Some("0")),
            ("ciuser", Some("root")),
            ("searchdomain", None),
        ];
        assert!(plan(&native(&same), &current).is_empty());
        let other = plan(
            &native(&[("ciuser", Some("nixos")), ("nameserver", None)]),
            &current,
        );
        assert_eq!(
            other.set,
            BTreeMap::from([("ciuser".to_owned(), "nixos".to_owned())])
        );
        assert_eq!(other.clear, ["nameserver"]);
        assert!(other.regenerate && other.attach.is_none());
        let stale = Current {
            stale: vec!["ciuser".into()],
            ..current.clone()
        };
        assert_eq!(
            plan(&native(&same), &stale),
            Plan {
                regenerate: true,
                ..Plan::default()
            }
        );
        let others = Current {
            stale: vec!["net0".into()],
            ..current
        };
        assert!(plan(&native(&same), &others).is_empty());
    }

    #[test]
    fn a_password_is_set_only_when_it_is_another() {
        let mut current = vm(&[
            ("ide0", "zfs:vm-101-cloudinit"),
            ("cipassword", "**********"),
        ]);
        let content = Native {
            keys: BTreeMap::new(),
            password: Some("geheim".into()),
        };
        let wanted = Wanted::Native {
            storage: "zfs".into(),
            content,
        };
        assert!(plan(&wanted, &current).set_password);
        current.password_hash = Some(password::hash("geheim").unwrap());
        assert!(plan(&wanted, &current).is_empty());
        current.password_hash = Some(password::hash("anders").unwrap());
        assert!(plan(&wanted, &current).set_password);
    }
}
