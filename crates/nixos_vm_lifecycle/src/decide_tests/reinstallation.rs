//! Which finished machines are installed anew, and when.

use ansible_module::FailureKind;
use pve_module::record::{Phase, Reinstall};

use super::{Change, decide, facts, layout, record, vm};
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
    assert_eq!(decide(&facts).unwrap(), Decision::Reinstall(found));
    vm(&mut facts)
        .beside
        .disks
        .push(("scsi2".into(), "lvm:vm-101-disk-2".into()));
    assert_eq!(decide(&facts).unwrap_err().kind, FailureKind::NotAsLeft);
}
