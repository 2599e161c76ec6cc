use super::*;
use crate::state::{Line, SeedIso};
use ansible_module::{Failure, FailureKind};

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
            assert_eq!(Failure::from(refused).kind, FailureKind::InUse);
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
            .map_err(|error| error.to_string())
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
    // Removed with the next stop.
    for (now, detach) in [
        // Ejected already: nothing left to do.
        ("none,media=cdrom", &[][..]),
        // The seed is still in the running VM.
        (SEED, &["ide0"]),
    ] {
        let mut current = vm(&[]);
        let line = Line {
            now: Some(now.into()),
            next: None,
        };
        let config = &mut current.vm.as_mut().unwrap().config;
        config.insert("ide0".into(), line);
        let plan = plan(&Wanted::Absent, &current);
        assert_eq!(plan.detach, detach);
        assert_eq!(plan.is_empty(), detach.is_empty());
    }
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
