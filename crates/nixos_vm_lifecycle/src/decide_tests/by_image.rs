//! Machines that get their system from a disk image.

use pve_module::record::{Phase, Record};

use super::{Row, facts, follow, record, said, vm};
use crate::facts::{Answer, Decision, Facts, Recorded, Seed};
use crate::options::Step;

fn by_image(phase: Phase) -> Record {
    Record {
        installer: None,
        image: Some("local:import/nixos.qcow2".into()),
        installer_key: None,
        ..record(phase)
    }
}

fn found(phase: Phase) -> Facts {
    let mut facts = facts(phase);
    facts.by_image = true;
    vm(&mut facts).record = Recorded::Ours(by_image(phase));
    vm(&mut facts).layout.installer = None;
    facts
}

#[test]
fn what_follows_from_what_is_found() {
    use Phase::{Creating, Done, Installed, Provisioning};
    let table: &[Row] = &[
        (Provisioning, "it runs", |_| (), "ask"),
        (
            Provisioning,
            "it is stopped",
            |f| vm(f).running = false,
            "install",
        ),
        (
            Creating,
            "it is stopped",
            |f| vm(f).running = false,
            "install",
        ),
        (
            Provisioning,
            "its system wrote to its disk",
            |f| {
                vm(f).written = Some(4096);
                f.answer = Answer::Installed;
            },
            "finalize",
        ),
        (
            Provisioning,
            "it does not answer",
            |f| f.answer = Answer::Silent("refused".into()),
            "install",
        ),
        (
            Provisioning,
            "somebody else answers",
            |f| f.answer = Answer::Foreign("another key".into()),
            "not_as_left",
        ),
        (
            Provisioning,
            "its disk is another one",
            |f| vm(f).layout.disk = Some("lvm:vm-101-disk-7".into()),
            "not_as_left",
        ),
        (
            Provisioning,
            "another seed",
            |f| vm(f).layout.seed = Seed::Other("local:iso/x.iso".into()),
            "not_as_left",
        ),
        (
            Provisioning,
            "rolled back",
            |f| vm(f).record = Recorded::RolledBack(by_image(Provisioning)),
            "not_as_left",
        ),
        (
            Provisioning,
            "a clone",
            |f| vm(f).record = Recorded::Copied(by_image(Provisioning)),
            "not_ours",
        ),
        (
            Provisioning,
            "the other method now",
            |f| f.by_image = false,
            "refused",
        ),
        (
            Installed,
            "the other method now",
            |f| f.by_image = false,
            "refused",
        ),
        (
            Provisioning,
            "its notes lost the record, and its seed is gone",
            |f| {
                vm(f).lost = true;
                vm(f).layout.seed = Seed::None;
                vm(f).running = false;
            },
            "not_as_left",
        ),
        (Done, "finished", |_| (), "converge"),
        (
            Done,
            "the other method now",
            |f| f.by_image = false,
            "converge",
        ),
        (
            Done,
            "to be installed anew",
            |f| f.confirmed = vec!["web1".into()],
            "refused",
        ),
        (
            Done,
            "to be installed anew by the installer",
            |f| {
                f.by_image = false;
                f.confirmed = vec!["web1".into()];
            },
            "reinstall",
        ),
    ];
    follow(table, found);
}

#[test]
fn a_machine_of_an_installer_is_not_gone_on_with_by_image() {
    for phase in [
        Phase::Creating,
        Phase::Provisioning,
        Phase::Installing,
        Phase::Installed,
        Phase::Reinstalling,
    ] {
        let mut facts = facts(phase);
        facts.by_image = true;
        assert_eq!(said(&facts), "refused", "{phase:?}");
    }
}

#[test]
fn nothing_is_installed_onto_an_image() {
    let without_install = vec![
        Step::Image,
        Step::Upload,
        Step::Provision,
        Step::Boot,
        Step::Finalize,
    ];
    assert_eq!(Decision::Create.due(true), without_install);
    let creating = Decision::Install(by_image(Phase::Creating));
    assert_eq!(creating.due(true), without_install);
    let provisioning = Decision::Install(by_image(Phase::Provisioning));
    assert_eq!(
        provisioning.due(true),
        [Step::Provision, Step::Boot, Step::Finalize]
    );
}
