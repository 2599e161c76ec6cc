//! Every decision of the plan.

use ansible_module::{Failure, FailureKind};
use serde_json::json;

use super::*;

fn snapshot(name: &str, snaptime: u64) -> Snapshot {
    Snapshot {
        name: name.into(),
        snaptime,
        ..Snapshot::default()
    }
}

fn vm(names: &[&str]) -> Vm {
    let config =
        json!({"name": "web1", "memory": "512", "scsi0": "local:101/vm-101-disk-0.qcow2,size=1G"});
    let snapshots = names
        .iter()
        .zip(1..)
        .map(|(name, time)| snapshot(name, time));
    Vm {
        vmid: 101,
        node: "pve".into(),
        config: config.as_object().unwrap().clone(),
        snapshots: snapshots.collect(),
        can_snapshot: Some(true),
        ..Vm::default()
    }
}

fn desired(snapname: &str, action: Action) -> Desired {
    Desired {
        snapname: snapname.into(),
        action,
        allow_during_installation: false,
    }
}

fn present(description: Option<&str>) -> Action {
    Action::Present {
        description: description.map(str::to_owned),
        vmstate: false,
        retention: None,
    }
}

fn keep(keep: usize, prefix: &str) -> Action {
    Action::Present {
        description: None,
        vmstate: false,
        retention: Some(Retention {
            keep,
            prefix: prefix.into(),
        }),
    }
}

fn steps(vm: &Vm, snapname: &str, action: Action) -> Vec<Step> {
    plan(&desired(snapname, action), vm).unwrap().steps
}

fn refused(vm: &Vm, snapname: &str, action: Action) -> Failure {
    plan(&desired(snapname, action), vm).unwrap_err().into()
}

fn deleted(steps: &[Step]) -> Vec<String> {
    let name = |step: &Step| match step {
        Step::Delete { name, .. } => Some(name.clone()),
        _ => None,
    };
    steps.iter().filter_map(name).collect()
}

#[test]
fn what_is_as_wanted_needs_no_step() {
    let mut vm = vm(&["s1"]);
    vm.snapshots[0].description = "first".into();
    for description in [None, Some("first"), Some("first\n")] {
        assert_eq!(steps(&vm, "s1", present(description)), []);
    }
    assert_eq!(steps(&vm, "s9", Action::Absent { force: true }), []);
    // Not even of a VM that is being installed, or of a template.
    vm.config.insert("template".into(), json!(1));
    assert_eq!(steps(&vm, "s1", present(None)), []);
    assert_eq!(steps(&vm, "s9", Action::Absent { force: false }), []);
}

#[test]
fn another_description_is_changed_and_nothing_else() {
    let mut vm = vm(&["s1"]);
    vm.snapshots[0].description = "first".into();
    for description in ["second", ""] {
        let made = plan(&desired("s1", present(Some(description))), &vm).unwrap();
        assert_eq!(
            made.steps,
            [Step::Describe {
                description: description.into()
            }]
        );
        assert_eq!(
            made.diff.before["snapshots"]["s1"]["description"],
            json!("first")
        );
        assert_eq!(
            made.diff.after["snapshots"]["s1"]["description"],
            json!(description)
        );
    }
}

#[test]
fn the_memory_goes_along_only_while_the_vm_runs() {
    let mut vm = vm(&[]);
    let action = Action::Present {
        description: Some(String::new()),
        vmstate: true,
        retention: None,
    };
    for running in [true, false] {
        vm.running = running;
        let made = plan(&desired("s1", action.clone()), &vm).unwrap();
        assert_eq!(
            made.steps,
            [Step::Create {
                vmstate: running,
                description: None
            }]
        );
        assert_eq!(made.warnings.is_empty(), running, "{:?}", made.warnings);
    }
}

#[test]
fn retention_deletes_the_oldest_of_the_names_it_was_given() {
    let vm = vm(&["auto-3", "by-hand", "auto-1", "auto-2"]);
    for (count, prefix, expected) in [
        (1, "auto-", vec!["auto-3", "auto-1", "auto-2"]),
        (2, "auto-", vec!["auto-3", "auto-1"]),
        (3, "auto-", vec!["auto-3"]),
        (4, "auto-", vec![]),
        (2, "", vec!["auto-3", "by-hand", "auto-1"]),
        (1, "auto-4", vec![]),
    ] {
        let made = steps(&vm, "auto-4", keep(count, prefix));
        assert!(matches!(made[0], Step::Create { .. }), "the new one first");
        assert_eq!(deleted(&made), expected, "{count} {prefix}");
    }
    // Nothing is made, so nothing is deleted.
    assert_eq!(steps(&vm, "auto-2", keep(1, "auto-")), []);
}

#[test]
fn retention_leaves_incomplete_snapshots_alone() {
    let mut vm = vm(&["auto-1", "auto-2"]);
    vm.snapshots[0].snapstate = Some("delete".into());
    assert_eq!(deleted(&steps(&vm, "auto-3", keep(1, ""))), ["auto-2"]);
}

#[test]
fn a_rollback_is_always_due_and_shows_what_it_brings_back() {
    let mut vm = vm(&["s1", "s2"]);
    vm.running = true;
    vm.parent = Some("s2".into());
    for (key, value) in [
        ("vmgenid", json!("b")),
        ("onboot", json!(1)),
        ("description", json!("notes")),
        ("unused0", json!("local:9")),
        ("cipassword", json!("**********")),
    ] {
        vm.config.insert(key.into(), value);
    }
    let then = json!({
        "name": "web1", "memory": 256, "vmgenid": "a", "snaptime": 1, "scsi0": "local:101/vm-101-disk-0.qcow2,size=1G", "tags": "one",
        "cipassword": "correct-horse", "sshkeys": "ssh-ed25519%20A", "parent": "s0",
    });
    vm.snapshot_config = then.as_object().cloned();
    let made = plan(&desired("s1", Action::RollBack { start: false }), &vm).unwrap();
    assert_eq!(made.steps, [Step::RollBack { resumes: false }]);
    assert_eq!(
        made.diff.before,
        json!({"memory": "512", "onboot": 1, "status": "running", "parent": "s2"})
    );
    assert_eq!(
        made.diff.after,
        json!({"memory": 256, "tags": "one", "sshkeys": "(set)", "status": "stopped", "parent": "s1"})
    );
    assert!(
        made.warnings[0].contains("start: true"),
        "{:?}",
        made.warnings
    );
    let again = plan(&desired("s2", Action::RollBack { start: true }), &vm).unwrap();
    assert_eq!(
        again.steps,
        [Step::RollBack { resumes: false }, Step::Start]
    );
    assert!(again.warnings.is_empty());
    vm.snapshots[1].vmstate = 1;
    for start in [true, false] {
        let resumed = plan(&desired("s2", Action::RollBack { start }), &vm).unwrap();
        assert_eq!(resumed.steps, [Step::RollBack { resumes: true }]);
        assert_eq!(resumed.diff.after["status"], json!("running"));
    }
}

#[test]
fn what_is_refused() {
    let fresh = vm(&["s1", "s2"]);
    let back = Action::RollBack { start: false };
    let missing = refused(&fresh, "s9", back.clone());
    assert_eq!(
        (missing.kind, missing.msg.as_str()),
        (
            FailureKind::NotFound,
            "snapname: VM 101 (web1) has no snapshot 's9' (available: s1, s2)"
        )
    );
    let mut template = fresh.clone();
    template.config.insert("template".into(), json!("1"));
    assert_eq!(
        refused(&template, "s9", present(None)).kind,
        FailureKind::Template
    );
    assert_eq!(
        refused(&template, "s1", back.clone()).kind,
        FailureKind::Template
    );
    let mut raw = fresh.clone();
    raw.can_snapshot = Some(false);
    let unsupported = refused(&raw, "s9", present(None));
    assert_eq!(unsupported.kind, FailureKind::Unsupported);
    assert!(
        unsupported
            .msg
            .contains("scsi0: local:101/vm-101-disk-0.qcow2"),
        "{}",
        unsupported.msg
    );
    let mut cut_off = fresh;
    cut_off.snapshots[0].snapstate = Some("prepare".into());
    for action in [present(None), back] {
        let incomplete = refused(&cut_off, "s1", action);
        assert_eq!(incomplete.kind, FailureKind::CutOff);
        assert!(incomplete.hint.unwrap().contains("qm unlock 101"));
    }
    // Its deletion is the way out.
    let gone = steps(&cut_off, "s1", Action::Absent { force: true });
    assert_eq!(
        gone,
        [Step::Delete {
            name: "s1".into(),
            force: true
        }]
    );
}

#[test]
fn a_vm_that_is_being_installed_is_left_alone_unless_it_is_asked_for() {
    let uuid = "6cff0931-1cb7-4535-800e-09aaaede1e6d";
    for (phase, free) in [
        ("creating", false),
        ("provisioning", false),
        ("installing", false),
        ("installed", false),
        ("done", true),
        ("adopted", true),
    ] {
        let mut vm = vm(&["s1"]);
        let notes = format!(
            "<!-- nixos-proxmox: v=1 installation=0123456789abcdef0123456789abcdef host=web1 vmid=101 uuid={uuid} generation=g phase={phase} \
             run=1a2b3c4d -->"
        );
        for (key, text) in [
            ("description", notes),
            ("smbios1", format!("uuid={uuid}")),
            ("vmgenid", "g".into()),
        ] {
            vm.config.insert(key.into(), text.into());
        }
        for (snapname, action) in [
            ("s2", present(None)),
            ("s1", present(Some("other"))),
            ("s1", Action::Absent { force: false }),
            ("s1", Action::RollBack { start: false }),
        ] {
            let mut desired = desired(snapname, action);
            match plan(&desired, &vm) {
                Ok(_) => assert!(free, "{phase}"),
                Err(error) => {
                    let failure = Failure::from(error);
                    assert!(
                        !free && failure.kind == FailureKind::Installing,
                        "{failure:?}"
                    );
                    assert!(failure.msg.contains(phase), "{}", failure.msg);
                }
            }
            desired.allow_during_installation = true;
            assert!(plan(&desired, &vm).is_ok(), "{phase}");
        }
        assert_eq!(steps(&vm, "s1", present(None)), [], "nothing is to be done");
    }
}
