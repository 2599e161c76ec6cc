//! Many at once, lost answers, and others who change the same VM.

mod common;

use std::collections::BTreeSet;
use std::process::Child;

use common::*;
use insta::assert_snapshot;
use serde_json::{Value, json};

fn small(name: &str) -> Value {
    json!({"node": "pve", "name": name, "memory": 128, "scsi": {"scsi0": "local:0.1"}, "timeout": 100})
}

/// For many at once on a busy machine.
fn patient(name: &str) -> Value {
    let mut options = small(name);
    options["timeout"] = json!(500);
    options
}

fn end(lab: &Lab, child: Child) -> Value {
    let result = lab.ended(child);
    assert_eq!(result.get("failed"), None, "{result:#}");
    result
}

#[test]
fn a_hundred_at_once_without_a_vmid_are_a_hundred_vms() {
    let lab = lab();
    let names: BTreeSet<String> = (0..100).map(|n| format!("vm{n}")).collect();
    let running: Vec<Child> = names.iter().map(|name| lab.start(patient(name))).collect();
    let vmids: BTreeSet<u64> = running
        .into_iter()
        .map(|child| end(&lab, child)["vmid"].as_u64().unwrap())
        .collect();
    assert_eq!(vmids, (100..200).collect());
    let there = lab.vms();
    assert_eq!(there.len(), 100);
    assert_eq!(
        there
            .into_iter()
            .map(|(_, name)| name)
            .collect::<BTreeSet<_>>(),
        names
    );
    // Every volume belongs to one of them.
    assert_eq!(volumes(&lab, "local").len(), 100);
}

#[test]
fn a_range_of_vmids_is_filled_without_a_gap_and_not_left() {
    let lab = lab();
    let taken = lab.ok(json!({"node": "pve", "name": "theirs", "vmid": 503}))["vmid"].clone();
    assert_eq!(taken, json!(503));
    let ranged = |name: &str| {
        let mut options = patient(name);
        options["vmid_range"] = json!("500-519");
        options
    };
    let running: Vec<Child> = (0..19)
        .map(|n| lab.start(ranged(&format!("vm{n}"))))
        .collect();
    let vmids: BTreeSet<u64> = running
        .into_iter()
        .map(|child| end(&lab, child)["vmid"].as_u64().unwrap())
        .collect();
    assert_eq!(vmids, (500..520).filter(|vmid| *vmid != 503).collect());
    assert_snapshot!(lab.refuses(ranged("late")), @"
    no_vmid: no VMID from 500 to 519 is free
      widen vmid_range, or remove VMs that are not needed
    ");
    lab.unchanged(ranged("vm3"));
    assert_snapshot!(lab.refuses(json!({"name": "x", "vmid_range": "5-10"})), @"invalid_option: vmid_range: '5-10' is not a range of VMIDs; write for example 200-299 (from 100 to 999999999)");
}

#[test]
fn a_vmid_that_cannot_be_seen_is_left_out() {
    let lab = lab();
    lab.ok(json!({"node": "pve", "name": "hidden", "vmid": 700}));
    let lab = lab.granted(
        "pveum role add maker --privs \"VM.Audit VM.Allocate VM.Config.Options VM.Config.HWType\"\n\
         pveum acl modify /vms/701 --roles maker",
    );
    let made = lab.ok(json!({"node": "pve", "name": "seen", "vmid_range": "700-701"}));
    assert_eq!(made["vmid"], json!(701));
}

#[test]
fn the_same_vm_asked_for_twice_at_once_is_made_once() {
    let lab = lab();
    let running: Vec<Child> = (0..4).map(|_| lab.start(small("one"))).collect();
    let changed: Vec<bool> = running
        .into_iter()
        .map(|child| end(&lab, child)["changed"].as_bool().unwrap())
        .collect();
    assert_eq!(changed.iter().filter(|changed| **changed).count(), 1);
    assert_eq!(lab.vms().len(), 1);
}

#[test]
fn a_creation_without_an_answer_makes_one_vm() {
    for fault in ["596-after-effect", "drop-after", "drop-before"] {
        let lab = lab();
        lab.faults(
            json!([{"method": "POST", "path": "/nodes/pve/qemu", "nth": 1, "action": fault}]),
        );
        let made = lab.changed(small("web1"));
        assert_eq!(
            lab.vms(),
            [(made["vmid"].as_u64().unwrap(), "web1".to_owned())],
            "{fault}"
        );
        lab.unchanged(small("web1"));
    }
}

#[test]
fn changes_without_an_answer_are_made_once() {
    for fault in ["596-after-effect", "drop-after", "drop-before"] {
        let lab = lab();
        lab.ok(small("web1"));
        let mut more = small("web1");
        more["memory"] = json!(256);
        more["scsi"] = json!({"scsi0": "local:0.2", "scsi1": "local:0.1"});
        lab.faults(json!([
            {"method": "POST", "path": "/nodes/pve/qemu/*/config", "nth": 1, "action": fault},
            {"method": "PUT", "path": "/nodes/pve/qemu/*/resize", "nth": 1, "action": fault},
        ]));
        let changed = lab.ok(more.clone());
        assert_eq!(changed["config"]["memory"], "256", "{fault}");
        assert_eq!(
            changed["config"].get("unused0"),
            None,
            "{fault}: {changed:#}"
        );
        lab.unchanged(more);
    }
}

#[test]
fn a_disk_and_its_volume_go_together_or_not_at_all() {
    for (running, fault) in [
        (false, "drop-after"),
        (false, "drop-before"),
        (true, "596-after-effect"),
    ] {
        let lab = lab();
        let disks = json!({"scsi": {"scsi0": "local:0.0625", "scsi1": "local:0.0625"}, "boot": "order=scsi0"});
        let mut made = with(small("web1"), disks);
        if running {
            made = with(made, json!({"state": "started", "hotplug": "0"}));
        }
        let vmid = lab.ok(made)["vmid"].as_u64().unwrap();
        let gone = volume(&lab.config(vmid), "scsi1");
        lab.faults(json!([{"method": "PUT", "path": "/nodes/pve/qemu/*/config", "nth": 1, "action": fault}]));
        let remove = json!({"name": "web1", "remove_disks": ["scsi1"], "delete_disks": true});
        let removed = lab.ok(remove.clone());
        assert_eq!(removed["unused_disks"], json!({}), "{removed:#}");
        if running {
            // It goes with the next stop, which nobody has to wait for with another run.
            assert_eq!(removed["restart_required"], json!(true), "{removed:#}");
            lab.ok(json!({"name": "web1", "state": "restarted", "force": true}));
        }
        assert!(!has_volume(&lab, &gone), "{fault}");
        assert_eq!(lab.unchanged(remove)["unused_disks"], json!({}));
    }
}

#[test]
fn power_and_removal_without_an_answer() {
    for fault in ["596-after-effect", "drop-after", "drop-before"] {
        let lab = lab();
        lab.ok(small("web1"));
        for action in ["start", "shutdown"] {
            lab.faults(json!([
                {"method": "POST", "path": format!("/nodes/pve/qemu/*/status/{action}"), "nth": 1, "action": fault},
                {"method": "DELETE", "path": "/nodes/pve/qemu/*", "nth": 1, "action": fault},
            ]));
            let (state, status) = if action == "start" {
                ("started", "running")
            } else {
                ("stopped", "stopped")
            };
            assert_eq!(
                lab.changed(json!({"name": "web1", "state": state, "timeout": 60}))["status"],
                json!(status)
            );
        }
        lab.changed(json!({"name": "web1", "state": "absent", "timeout": 60}));
        assert_eq!(lab.vms(), [], "{fault}");
    }
}

#[test]
fn locks_are_waited_out() {
    let lab = lab();
    lab.ok(small("web1"));
    lab.faults(json!([
        {"method": "POST", "path": "/nodes/pve/qemu/*/status/start", "nth": 1, "times": 2, "action": "lock"},
        {"method": "PUT", "path": "/nodes/pve/qemu/*/config", "nth": 1, "action": "lock"},
    ]));
    assert_eq!(
        lab.changed(json!({"name": "web1", "state": "started", "memory": 200, "timeout": 90}))["status"],
        json!("running")
    );
}

#[test]
fn a_failed_task_is_reported_in_its_own_words() {
    let lab = lab();
    lab.faults(json!([{"method": "POST", "path": "/nodes/pve/qemu", "action": "full"}]));
    assert_snapshot!(failure(&lab.fails(small("web1"))), @"
    task_failed: cannot create VM 100: task qmcreate 100 on pve failed: No space left on device
      its whole log: pvenode task log UPID:pve:[task]:qmcreate:100:root@pam!full:
    ");
    assert_eq!(lab.vms(), []);

    lab.faults(json!([]));
    lab.ok(small("web1"));
    let message = "bridge 'vmbr0' does not exist";
    lab.faults(json!([{"path": "/nodes/pve/qemu/*/status/start", "action": "task-fail", "message": message}]));
    let failed = lab.fails(json!({"name": "web1", "state": "started", "memory": 200}));
    assert!(
        failed["msg"].as_str().unwrap().contains(message),
        "{failed:#}"
    );
    assert_eq!(
        failed["changed"],
        json!(true),
        "the memory was changed before: {failed:#}"
    );
}

#[test]
fn a_task_that_was_killed_leaves_one_vm() {
    let lab = lab();
    // The answer of the creation never comes, the VM is made: then the task is killed.
    lab.faults(json!([{"method": "POST", "path": "/nodes/pve/qemu", "nth": 1, "action": "drop-after"},
                      {"method": "GET", "path": "/nodes/pve/qemu/*/config", "action": "delay", "seconds": 30}]));
    let mut child = lab.start(small("web1"));
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while lab.writes().is_empty() {
        assert!(
            std::time::Instant::now() < limit,
            "the creation was not asked for"
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    lab.faults(json!([]));
    lab.ok(small("web1"));
    assert_eq!(lab.vms().len(), 1);
}

#[test]
fn what_others_change_meanwhile_is_looked_at_again() {
    let lab = lab();
    lab.ok(small("web1"));
    let message = "checksum mismatch (file change by other user?)";
    lab.faults(
        json!([{"method": "PUT", "path": "/nodes/pve/qemu/*/config", "nth": 1, "action": "task-fail", "message": message}]),
    );
    assert_eq!(
        lab.changed(json!({"name": "web1", "memory": 200}))["config"]["memory"],
        json!("200")
    );
}

#[test]
fn a_cdrom_that_cannot_be_unplugged_goes_with_the_next_stop() {
    let lab = lab();
    let mut cdrom = small("web1");
    cdrom["scsi"]["scsi1"] = json!("local:iso/a.iso,media=cdrom");
    cdrom["boot"] = json!("order=scsi0;scsi1");
    cdrom["state"] = json!("started");
    lab.ok(cdrom);
    let remove = json!({"name": "web1", "remove_disks": ["scsi1"], "boot": "order=scsi0"});
    assert_eq!(lab.changed(remove.clone())["restart_required"], json!(true));
    lab.unchanged(remove.clone());
    lab.ok(json!({"name": "web1", "state": "restarted"}));
    let after = lab.unchanged(remove);
    assert_eq!(after["restart_required"], json!(false));
    assert_eq!(
        (after["config"].get("scsi1"), &after["config"]["boot"]),
        (None, &json!("order=scsi0"))
    );
}

#[test]
fn a_token_with_just_the_documented_privileges_is_enough() {
    let lab = lab().called_by("provisioner");
    let mut all = small("web1");
    all["net"] = json!({"net0": {"bridge": "vmbr0"}});
    all["ide"] = json!({"ide2": "local:iso/a.iso,media=cdrom"});
    all["state"] = json!("started");
    lab.ok(all.clone());
    lab.unchanged(all.clone());
    all["cores"] = json!(2);
    all["tags"] = json!(["x"]);
    lab.ok(all);
    lab.ok(json!({"name": "web1", "state": "stopped"}));
    lab.ok(json!({"name": "web1", "remove_disks": ["ide2"], "boot": "scsi0"}));
    lab.changed(json!({"name": "web1", "state": "absent"}));
}

#[test]
fn a_token_that_may_not_look_is_told_so_and_not_that_there_is_no_vm() {
    let lab = lab().called_by("empty");
    let states = ["present", "absent", "current"].map(|state| json!({"state": state}));
    assert_snapshot!(lab.refuses_each(&json!({"name": "web1"}), states), @"
    3 times permission_denied: the privilege VM.Audit is missing: no VM is shown, so it is not known which there are
      give the user, and its token, VM.Audit on /vms or on a pool (pveum acl modify)
    ");
}

#[test]
fn no_secret_is_in_any_answer() {
    let lab = lab();
    let vmid = lab.ok(small("web1"))["vmid"].as_u64().unwrap();
    lab.configure(vmid, &[("cipassword", "hunter2hunter2")]);
    let secret = lab.endpoint["api_token_secret"].as_str().unwrap();
    for answer in [
        lab.run(json!({"name": "web1", "state": "current"})),
        lab.run(json!({"name": "web1", "memory": "x"})),
    ] {
        let text = answer.to_string();
        assert!(
            !text.contains("hunter2hunter2") && !text.contains(secret),
            "{text}"
        );
    }
    let shown = lab.ok(json!({"name": "web1", "state": "current"}));
    assert_eq!(shown["config"]["cipassword"], "********");
    assert_snapshot!(lab.refuses(json!({"name": "web1", "config": {"cipassword": "x"}})), @"invalid_option: config: cipassword cannot be set here: use the module cloudinit_drive");
}
