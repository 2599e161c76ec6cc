//! What follows from what is found.

use pve_module::record::Phase;

use super::{Row, decide, facts, follow, record, vm};
use crate::facts::{Answer, Decision, Elsewhere, First, Recorded, Seed};
use crate::options::Step;

#[test]
fn what_follows_from_what_is_found() {
    use Phase::{Adopted, Creating, Done, Installed, Installing, Provisioning};
    let table: &[Row] = &[
        (Done, "no VM", |f| f.vm = None, "create"),
        (
            Done,
            "a machine under another name",
            |f| {
                f.vm = None;
                f.elsewhere = Some(Elsewhere::Named {
                    vmid: 101,
                    name: "old".into(),
                });
            },
            "not_ours",
        ),
        (
            Done,
            "a machine that the token may not see",
            |f| {
                f.vm = None;
                f.elsewhere = Some(Elsewhere::Hidden {
                    vmid: 101,
                    kept: "/state/web1/0123".into(),
                });
            },
            "hidden",
        ),
        (Done, "a template", |f| vm(f).template = true, "refused"),
        (
            Done,
            "no record",
            |f| vm(f).record = Recorded::None,
            "not_ours",
        ),
        (
            Done,
            "no record, adopted",
            |f| {
                vm(f).record = Recorded::None;
                f.adopt = true
            },
            "adopt",
        ),
        (
            Installing,
            "a clone",
            |f| vm(f).record = Recorded::Copied(record(Installing)),
            "not_ours",
        ),
        (
            Installing,
            "a clone, adopted",
            |f| {
                vm(f).record = Recorded::Copied(record(Installing));
                f.adopt = true
            },
            "adopt",
        ),
        (
            Done,
            "a clone of a finished machine",
            |f| vm(f).record = Recorded::Copied(record(Done)),
            "not_ours",
        ),
        (
            Done,
            "another host's",
            |f| f.host = "web2".into(),
            "not_ours",
        ),
        (
            Done,
            "another host's, adopted",
            |f| {
                f.host = "web2".into();
                f.adopt = true
            },
            "adopt",
        ),
        (
            Installing,
            "another host's under way, adopted",
            |f| {
                f.host = "web2".into();
                f.adopt = true
            },
            "not_ours",
        ),
        (
            Provisioning,
            "rolled back",
            |f| vm(f).record = Recorded::RolledBack(record(Provisioning)),
            "not_as_left",
        ),
        (
            Installing,
            "rolled back",
            |f| vm(f).record = Recorded::RolledBack(record(Installing)),
            "not_as_left",
        ),
        (
            Installed,
            "rolled back",
            |f| vm(f).record = Recorded::RolledBack(record(Installed)),
            "not_as_left",
        ),
        (
            Done,
            "rolled back",
            |f| vm(f).record = Recorded::RolledBack(record(Done)),
            "converge",
        ),
        (Done, "as it is", |_| {}, "converge"),
        (Adopted, "as it is", |_| {}, "converge"),
        (Creating, "stopped", |f| vm(f).running = false, "install"),
        (Provisioning, "running", |_| {}, "ask"),
        (
            Provisioning,
            "the installer answers",
            |f| f.answer = Answer::Installer,
            "install",
        ),
        (
            Provisioning,
            "silent",
            |f| f.answer = Answer::Silent("boots".into()),
            "install",
        ),
        (
            Provisioning,
            "silent, and its disk was written to",
            |f| {
                f.answer = Answer::Silent("boots".into());
                vm(f).written = Some(4096)
            },
            "not_as_left",
        ),
        (
            Provisioning,
            "stopped, and its disk was written to before",
            |f| {
                vm(f).running = false;
                vm(f).written = Some(4096)
            },
            "install",
        ),
        (
            Provisioning,
            "silent, and what was written is not known",
            |f| {
                f.answer = Answer::Silent("boots".into());
                vm(f).written = None
            },
            "install",
        ),
        (
            Provisioning,
            "its record lost from the notes",
            |f| {
                vm(f).running = false;
                vm(f).lost = true
            },
            "install",
        ),
        (
            Provisioning,
            "its record lost from the notes, and its seed detached",
            |f| {
                vm(f).running = false;
                vm(f).lost = true;
                vm(f).layout.seed = Seed::None
            },
            "not_as_left",
        ),
        (
            Provisioning,
            "a foreign key answers",
            |f| f.answer = Answer::Foreign("k".into()),
            "not_as_left",
        ),
        (
            Provisioning,
            "an installed system answers",
            |f| f.answer = Answer::Installed,
            "not_as_left",
        ),
        (
            Provisioning,
            "another disk",
            |f| vm(f).layout.disk = Some("lvm:vm-7-disk-0".into()),
            "not_as_left",
        ),
        (
            Provisioning,
            "no disk",
            |f| vm(f).layout.disk = None,
            "not_as_left",
        ),
        (
            Provisioning,
            "another ISO",
            |f| vm(f).layout.installer = Some("local:iso/debian.iso".into()),
            "not_as_left",
        ),
        (
            Provisioning,
            "another thing in the seed's drive",
            |f| vm(f).layout.seed = Seed::Other("x".into()),
            "not_as_left",
        ),
        (
            Provisioning,
            "boots from the network",
            |f| vm(f).layout.first = First::Other("order=net0".into()),
            "not_as_left",
        ),
        (
            Provisioning,
            "no drives yet",
            |f| {
                vm(f).running = false;
                vm(f).layout.installer = None;
                vm(f).layout.seed = Seed::None
            },
            "install",
        ),
        (Installing, "running", |_| {}, "ask"),
        (Installing, "stopped", |f| vm(f).running = false, "install"),
        (
            Installing,
            "another run is at work",
            |f| {
                f.busy = true;
                f.answer = Answer::Installer
            },
            "busy",
        ),
        (
            Installing,
            "the installer answers",
            |f| f.answer = Answer::Installer,
            "install",
        ),
        (
            Installing,
            "silent",
            |f| f.answer = Answer::Silent("timeout".into()),
            "not_as_left",
        ),
        (
            Installing,
            "a foreign key answers",
            |f| f.answer = Answer::Foreign("k".into()),
            "not_as_left",
        ),
        (
            Installing,
            "the installed system answers",
            |f| f.answer = Answer::Installed,
            "finalize",
        ),
        (
            Installing,
            "ended and stopped",
            |f| {
                vm(f).running = false;
                f.ended = true
            },
            "finalize",
        ),
        (
            Installing,
            "ended and the installer answers",
            |f| {
                f.answer = Answer::Installer;
                f.ended = true
            },
            "finalize",
        ),
        (
            Installing,
            "ended and another disk",
            |f| {
                f.ended = true;
                vm(f).layout.disk = Some("x".into())
            },
            "not_as_left",
        ),
        (
            Installing,
            "stopped, installer detached",
            |f| {
                vm(f).running = false;
                vm(f).layout.installer = None
            },
            "not_as_left",
        ),
        (
            Installing,
            "stopped, seed detached",
            |f| {
                vm(f).running = false;
                vm(f).layout.seed = Seed::None
            },
            "not_as_left",
        ),
        (
            Installing,
            "stopped, disk first",
            |f| {
                vm(f).running = false;
                vm(f).layout.first = First::Disk
            },
            "not_as_left",
        ),
        (
            Installing,
            "stopped, another disk",
            |f| {
                vm(f).running = false;
                vm(f).layout.disk = Some("x".into())
            },
            "not_as_left",
        ),
        (Installed, "running", |_| {}, "ask"),
        (Installed, "stopped", |f| vm(f).running = false, "finalize"),
        (
            Installed,
            "the installed system answers",
            |f| f.answer = Answer::Installed,
            "finalize",
        ),
        (
            Installed,
            "a foreign key answers",
            |f| f.answer = Answer::Foreign("k".into()),
            "not_as_left",
        ),
        (
            Installed,
            "another disk",
            |f| vm(f).layout.disk = None,
            "not_as_left",
        ),
    ];
    follow(table, facts);
}

#[test]
fn a_refusal_says_what_was_found_and_how_to_go_on() {
    let mut found = facts(Phase::Installing);
    found.answer = Answer::Foreign("192.0.2.11: ssh-ed25519 SHA256:abc".into());
    let refused = decide(&found).unwrap_err();
    assert_eq!(
        refused.msg,
        "VM 101 (web1): its address belongs to a system with a host key that is not this installation's (192.0.2.11: ssh-ed25519 \
         SHA256:abc); nothing was done to it"
    );
    let hint = refused.hint.unwrap();
    assert!(
        hint.contains("finish by hand") && hint.contains("nixos_vm_confirm_destroy=web1"),
        "{hint}"
    );
}

#[test]
fn due_steps() {
    assert_eq!(Decision::Create.due(false), Step::SIX);
    assert_eq!(
        Decision::Finalize(record(Phase::Installed)).due(false),
        [Step::Finalize]
    );
    assert_eq!(Decision::Converge(record(Phase::Done)).due(false), []);
}
