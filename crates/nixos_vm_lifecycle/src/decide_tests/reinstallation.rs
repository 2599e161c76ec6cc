//! Which finished machines are installed anew, and when.

use ansible_module::FailureKind;
use pve_module::record::{Phase, Reinstall};

use super::{Change, decide, facts, layout, record, said, vm};
use crate::facts::{Answer, Decision, Facts, Recorded};

#[test]
fn what_is_not_safe_to_install_anew() {
    use FailureKind::{NotAsLeft, Protected, Refused};
    let table: &[(&str, Change, Result<(), FailureKind>)] = &[
        ("as it was left", |_| (), Ok(())),
        (
            "by the ID of the installation",
            |f| f.confirmed = vec!["web1:01234567".into()],
            Ok(()),
        ),
        (
            "protected",
            |f| vm(f).beside.protected = true,
            Err(Protected),
        ),
        (
            "with a device of the node",
            |f| vm(f).beside.devices = vec!["hostpci0".into()],
            Err(Refused),
        ),
        (
            "with a disk of the node",
            |f| vm(f).beside.disks = vec![("scsi1".into(), "/dev/sdb".into())],
            Err(Refused),
        ),
        (
            "with a volume of another VM",
            |f| vm(f).beside.disks = vec![("scsi1".into(), "lvm:vm-102-disk-0,shared=1".into())],
            Err(Refused),
        ),
        (
            "with the variables naming another drive",
            |f| {
                vm(f).layout.disk_key = "scsi1".into();
                vm(f).layout.disk = Some("lvm:vm-101-disk-1".into());
                f.confirmed.push("web1:lvm:vm-101-disk-1".into());
            },
            Err(Refused),
        ),
        (
            "with another disk in the place of the installed one, which is still there",
            |f| {
                vm(f).layout.disk = Some("lvm:vm-101-disk-1".into());
                vm(f).beside.disks = vec![("scsi1".into(), "lvm:vm-101-disk-0,size=4G".into())];
                f.confirmed.push("web1:lvm:vm-101-disk-1".into());
            },
            Err(Refused),
        ),
        (
            "with nixos_vm_adopt, which says that nothing is installed onto it",
            |f| f.adopt = true,
            Err(Refused),
        ),
        (
            "with another disk in the drive of the seed",
            |f| vm(f).beside.in_the_way = vec!["ide0".into()],
            Err(Refused),
        ),
        (
            "with a disk that is detached when it is stopped",
            |f| vm(f).beside.pending = vec!["scsi1".into()],
            Err(NotAsLeft),
        ),
        ("without its record", |f| vm(f).lost = true, Err(NotAsLeft)),
        (
            "rolled back",
            |f| vm(f).record = Recorded::RolledBack(record(Phase::Done)),
            Err(NotAsLeft),
        ),
        (
            "with another boot disk",
            |f| vm(f).layout.disk = Some("zfs:vm-101-disk-0".into()),
            Err(NotAsLeft),
        ),
        (
            "without a boot disk",
            |f| vm(f).layout.disk = None,
            Err(NotAsLeft),
        ),
        (
            "with a moved boot disk",
            |f| {
                vm(f).layout.disk = Some("zfs:vm-101-disk-0".into());
                f.confirmed.push("web1:zfs:vm-101-disk-0".into());
            },
            Ok(()),
        ),
    ];
    for (what, change, expected) in table {
        let mut facts = facts(Phase::Done);
        facts.confirmed = vec!["web1".into()];
        change(&mut facts);
        let found = decide(&facts).map(|decision| {
            assert_eq!(decision, Decision::Reinstall(record(Phase::Done)), "{what}")
        });
        assert_eq!(found.map_err(|failure| failure.kind), *expected, "{what}");
    }
}

#[test]
fn a_confirmation_counts_once() {
    let mut facts = facts(Phase::Done);
    for (words, reinstall, confirmed, used) in [
        (vec![], None, false, false),
        (vec!["web2"], None, false, false),
        (vec!["web1"], None, true, false),
        (vec!["web1"], Some("web1"), false, true),
        (vec!["web1", "web1:01234567"], Some("web1"), true, false),
        (vec!["web1:0123456"], Some("web1"), false, true),
        (vec!["web1:89abcdef"], None, false, true),
        (vec!["web10"], None, false, false),
    ] {
        facts.confirmed = words.iter().map(|word| (*word).to_owned()).collect();
        let mut found = record(Phase::Done);
        found.reinstall = reinstall.map(|word| Reinstall {
            confirmed: word.into(),
            detached: Vec::new(),
        });
        vm(&mut facts).record = Recorded::Ours(found.clone());
        let decision = decide(&facts).unwrap();
        assert_eq!(
            matches!(decision, Decision::Reinstall(_)),
            confirmed,
            "{words:?}"
        );
        let said = crate::reinstall::used(&facts, &found);
        assert_eq!(said.is_some(), used, "{words:?}");
        assert!(said.is_none_or(|said| said.ends_with("set it to web1:01234567")));
    }
    // What is under way, and what is nobody's, is not installed anew by it.
    facts.confirmed = vec!["web1".into()];
    let adopted = Facts {
        confirmed: facts.confirmed.clone(),
        ..self::facts(Phase::Adopted)
    };
    assert_eq!(decide(&adopted).unwrap_err().kind, FailureKind::Refused);
    for phase in [Phase::Provisioning, Phase::Installed] {
        let mut facts = Facts {
            confirmed: facts.confirmed.clone(),
            ..self::facts(phase)
        };
        facts.answer = Answer::Installer;
        assert!(
            !matches!(decide(&facts), Ok(Decision::Reinstall(_))),
            "{phase}"
        );
    }
}

#[test]
fn nothing_is_installed_beside_other_disks() {
    let mut facts = facts(Phase::Installing);
    let mut found = record(Phase::Installing);
    found.reinstall = Some(Reinstall {
        confirmed: "web1".into(),
        detached: vec![("scsi1".into(), "lvm:vm-101-disk-1".into())],
    });
    vm(&mut facts).record = Recorded::Ours(found.clone());
    facts.answer = Answer::Installer;
    assert_eq!(decide(&facts).unwrap(), Decision::Install(found.clone()));
    facts.answer = Answer::Installed;
    assert_eq!(decide(&facts).unwrap_err().kind, FailureKind::NotAsLeft);
    facts.answer = Answer::Installer;
    vm(&mut facts).layout.installer = None;
    let hint = decide(&facts).unwrap_err().hint.unwrap();
    assert!(hint.contains("they are its unused ones"), "{hint}");
    vm(&mut facts).layout = layout(Phase::Installing);
    vm(&mut facts).beside.disks = vec![("scsi1".into(), "lvm:vm-101-disk-1".into())];
    assert_eq!(decide(&facts).unwrap_err().kind, FailureKind::NotAsLeft);
    // Before the installer boots, the disks that are to be detached may still be there, and no others.
    found.phase = Phase::Reinstalling;
    vm(&mut facts).record = Recorded::Ours(found.clone());
    vm(&mut facts).kept = Some(Phase::Reinstalling);
    assert_eq!(decide(&facts).unwrap(), Decision::Reinstall(found));
    vm(&mut facts)
        .beside
        .disks
        .push(("scsi2".into(), "lvm:vm-101-disk-2".into()));
    assert_eq!(decide(&facts).unwrap_err().kind, FailureKind::NotAsLeft);
}

/// The facts of a machine whose reinstallation was cut off before the installer booted.
fn begun() -> Facts {
    let mut facts = facts(Phase::Reinstalling);
    let mut found = record(Phase::Reinstalling);
    found.reinstall = Some(Reinstall {
        confirmed: "web1".into(),
        detached: vec![("scsi1".into(), "lvm:vm-101-disk-1,size=4G".into())],
    });
    vm(&mut facts).record = Recorded::Ours(found);
    facts
}

#[test]
fn who_goes_on_with_a_reinstallation() {
    let table: &[(&str, Change, &str)] = &[
        ("the controller that began it", |_| (), "reinstall"),
        (
            "the same, with its disk still attached",
            |f| vm(f).beside.disks = vec![("scsi1".into(), "lvm:vm-101-disk-1,cache=none".into())],
            "reinstall",
        ),
        (
            "with another volume in the place of that disk",
            |f| vm(f).beside.disks = vec![("scsi1".into(), "lvm:vm-101-disk-2,size=4G".into())],
            "not_as_left",
        ),
        (
            "with a disk that is detached when it is stopped",
            |f| vm(f).beside.pending = vec!["scsi1".into()],
            "not_as_left",
        ),
        (
            "the controller that finished it: the notes are old",
            |f| vm(f).kept = Some(Phase::Done),
            "not_as_left",
        ),
        (
            "old notes, and every word",
            |f| {
                vm(f).kept = Some(Phase::Done);
                f.confirmed = vec!["web1".into(), "web1:01234567:continue".into()];
            },
            "not_as_left",
        ),
        ("another controller", |f| vm(f).kept = None, "not_as_left"),
        (
            "another controller, by the word that confirms a reinstallation",
            |f| {
                vm(f).kept = None;
                f.confirmed = vec!["web1".into(), "web1:01234567".into()];
            },
            "not_as_left",
        ),
        (
            "another controller, by the word for that",
            |f| {
                vm(f).kept = None;
                f.confirmed = vec!["web1:01234567:continue".into()];
            },
            "reinstall",
        ),
        (
            "a user who wants to keep the machine",
            |f| f.adopt = true,
            "refused",
        ),
        ("without its record", |f| vm(f).lost = true, "not_as_left"),
    ];
    for (what, change, expected) in table {
        let mut facts = begun();
        change(&mut facts);
        assert_eq!(said(&facts), *expected, "{what}");
    }
}

#[test]
fn what_another_controller_may_have_done_since() {
    // The machine was installed anew before: its notes are older.
    let mut other = facts(Phase::Done);
    other.confirmed = vec!["web1".into()];
    assert_eq!(said(&other), "reinstall");
    for word in ["web1", "web1:01234567"] {
        other.confirmed = vec![word.into()];
        assert_eq!(said(&other), "reinstall", "{word}");
        vm(&mut other).counted = vec![word.into()];
        assert_eq!(said(&other), "converge", "{word}");
        vm(&mut other).counted = Vec::new();
    }
    other.confirmed = vec!["web1".into()];
    // A controller that did not install it does not know whether the word has counted.
    vm(&mut other).kept = None;
    assert_eq!(said(&other), "converge");
    other.confirmed = vec!["web1:01234567:continue".into()];
    assert_eq!(said(&other), "converge");
    other.confirmed = vec!["web1:01234567".into()];
    assert_eq!(said(&other), "reinstall");
    vm(&mut other).kept = Some(Phase::Done);
    // A record that its controller writes back confirms nothing more.
    let restored = crate::reinstall::counted(record(Phase::Done));
    vm(&mut other).record = Recorded::Ours(restored);
    other.confirmed = vec!["web1".into()];
    assert_eq!(said(&other), "converge");
    // Phases that are over.
    for phase in [Phase::Provisioning, Phase::Installing] {
        let mut old = facts(phase);
        old.answer = Answer::Installer;
        assert_eq!(said(&old), "install");
        vm(&mut old).kept = Some(Phase::Done);
        assert_eq!(said(&old), "not_as_left");
    }
}

#[test]
fn disks_that_may_have_been_set_aside_are_not_made_anew() {
    let aside = |facts: &mut Facts| {
        vm(facts).beside.absent = vec!["scsi1".into()];
        vm(facts).beside.unused = vec!["lvm:vm-101-disk-1".into()];
    };
    let mut lost = facts(Phase::Done);
    vm(&mut lost).lost = true;
    assert_eq!(said(&lost), "converge");
    vm(&mut lost).layout.first = crate::facts::First::Installer;
    assert_eq!(said(&lost), "not_as_left");
    vm(&mut lost).layout = layout(Phase::Done);
    aside(&mut lost);
    assert_eq!(said(&lost), "not_as_left");
    let mut adopted = facts(Phase::Done);
    adopted.adopt = true;
    vm(&mut adopted).record = Recorded::None;
    assert_eq!(said(&adopted), "adopt");
    aside(&mut adopted);
    assert_eq!(said(&adopted), "not_as_left");
    // One that was begun here is not finished, whatever earlier notes say.
    let mut earlier = facts(Phase::Done);
    vm(&mut earlier).installing = true;
    assert_eq!(said(&earlier), "converge");
    vm(&mut earlier).layout.first = crate::facts::First::Installer;
    assert_eq!(said(&earlier), "not_as_left");
    // A record that is there names its disks, unless this controller knows that they were detached since.
    let mut known = facts(Phase::Done);
    aside(&mut known);
    assert_eq!(said(&known), "converge");
    vm(&mut known).layout.first = crate::facts::First::Installer;
    assert_eq!(said(&known), "not_as_left");
    let mut earlier = facts(Phase::Done);
    vm(&mut earlier).beside.detached = vec!["lvm:vm-101-disk-1".into()];
    vm(&mut earlier).beside.unused = vec!["lvm:vm-101-disk-1".into()];
    assert_eq!(said(&earlier), "not_as_left");
    earlier.confirmed = vec!["web1".into()];
    assert_eq!(said(&earlier), "not_as_left");
}
