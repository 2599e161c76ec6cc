//! Templates and clones.

mod common;

use common::*;
use insta::assert_snapshot;
use serde_json::{Value, json};

/// A lab with the template `golden`, VM 100.
fn with_template() -> Lab {
    let lab = lab();
    let made = lab.ok(golden());
    assert_eq!(made["actions"], json!(["create", "template"]), "{made:#}");
    assert_eq!(
        (&made["vmid"], &made["template"]),
        (&json!(100), &json!(true))
    );
    lab
}

fn golden() -> Value {
    json!({
        "node": "pve", "name": "golden", "state": "template", "memory": 128, "tags": ["base"],
        "scsi": {"scsi0": "local:0.25,discard=on"}, "net": {"net0": {"bridge": "vmbr0"}}, "timeout": 100,
    })
}

fn clone_of_golden(name: &str, more: Value) -> Value {
    with(
        json!({"name": name, "clone": {"name": "golden"}, "timeout": 100}),
        more,
    )
}

#[test]
fn a_template_is_made_once_and_kept_apart() {
    let lab = with_template();
    let again = lab.unchanged(golden());
    assert_eq!(
        volume(&again["config"], "scsi0"),
        "local:100/base-100-disk-0.raw"
    );
    let mut more = golden();
    more["description"] = json!("the base of all");
    assert_eq!(lab.ok(more.clone())["actions"], json!(["change"]));
    lab.unchanged(more);

    for state in ["present", "started", "stopped", "restarted", "absent"] {
        let refused = lab.fails(json!({"name": "golden", "state": state}));
        assert_eq!(refused["error"]["kind"], "template", "{state}");
    }
    assert_eq!(
        lab.ok(json!({"name": "golden", "state": "current"}))["template"],
        json!(true)
    );
    lab.changed(json!({"name": "golden", "state": "absent", "force": true}));
    assert_eq!(lab.vms(), []);
}

#[test]
fn an_existing_vm_becomes_a_template_when_it_is_stopped() {
    let lab = lab();
    lab.ok(json!({"node": "pve", "name": "web1", "scsi": {"scsi0": "local:0.0625"}, "state": "started"}));
    let make = json!({"name": "web1", "state": "template"});
    let writes = lab.writes();
    assert_eq!(lab.fails(make.clone())["error"]["kind"], "running");
    assert_eq!(lab.writes(), writes);
    lab.ok(json!({"name": "web1", "state": "stopped"}));
    let check = lab.check(make.clone());
    assert_eq!(
        (&check["actions"], &check["template"]),
        (&json!(["template"]), &json!(false))
    );
    assert_eq!(check["diff"]["before"]["template"], json!(false));
    lab.faults(json!([{"method": "POST", "path": "/nodes/pve/qemu/*/template", "nth": 1, "action": "drop-after"}]));
    assert_eq!(lab.changed(make)["template"], json!(true));
}

#[test]
fn a_clone_becomes_what_is_described() {
    let lab = with_template();
    let web1 = clone_of_golden(
        "web1",
        json!({
            "memory": 256, "guard_tag": "ours", "state": "started", "net": {"net0": {"bridge": "vmbr0"}},
            "scsi": {"scsi0": {"storage": "local", "size": "512M"}, "scsi1": "local-zfs:0.0625"}, "boot": "scsi0",
        }),
    );
    let check = lab.check(web1.clone());
    assert_eq!(check["actions"], json!(["clone", "start"]), "{check:#}");
    assert_eq!(lab.vms().len(), 1);
    let made = lab.ok(web1.clone());
    assert_eq!(
        made["actions"],
        json!(["clone", "change", "start"]),
        "{made:#}"
    );
    let config = &made["config"];
    assert_eq!(
        config["scsi0"],
        "local:100/base-100-disk-0.raw/101/vm-101-disk-0.qcow2,size=512M"
    );
    assert_eq!(
        (&config["memory"], &made["template"]),
        (&json!("256"), &json!(false))
    );
    assert_eq!(made["tags"], json!(["base", "ours"]));
    assert_ne!(config["net0"], lab.config(100)["net0"]);
    lab.unchanged(web1);

    let copy = clone_of_golden(
        "web2",
        json!({"clone": {"vmid": 100, "full": true, "storage": "local-zfs"}, "tags": []}),
    );
    let made = lab.ok(copy.clone());
    assert_eq!(volume(&made["config"], "scsi0"), "local-zfs:vm-102-disk-0");
    assert_eq!(made["tags"], json!([]));
    lab.unchanged(copy);

    // A linked clone needs its template.
    assert_snapshot!(failure(&lab.fails(json!({"name": "golden", "state": "absent", "force": true}))), @"
    task_failed: cannot remove VM 100 (golden): task qmdestroy 100 on pve failed: base volume 'local:100/base-100-disk-0.raw' is still in use by linked cloned
      its whole log: pvenode task log UPID:pve:[task]:qmdestroy:100:root@pam!full:
    ");
}

#[test]
fn clones_that_cannot_be() {
    let lab = with_template();
    lab.ok(json!({"node": "pve", "name": "plain"}));
    let writes = lab.writes();
    let cases = [
        json!({"clone": {"name": "none"}}),
        json!({"clone": {"name": "plain"}}),
        json!({"clone": {"name": "golden", "vmid": 100}}),
        json!({"clone": {"name": "golden", "storage": "local"}}),
        json!({"clone": {"name": "golden"}, "scsi": {"scsi0": "local:0.03125"}}),
        json!({"clone": {"name": "golden"}, "node": "pve7"}),
    ];
    assert_snapshot!(lab.refuses_each(&clone_of_golden("web1", json!({})), cases), @"
    no_template: the template VM none does not exist
      correct clone, or give the token VM.Audit on the template
    no_template: VM plain on pve is not a template
      make it one with state: template
    invalid_option: clone: give either the name or the vmid of the template
    invalid_option: clone: storage and format are for full clones; a linked one is where its template is
    refused: VM web1 cannot be made as described: scsi0: the disk has 256M and not 32M; a disk is never shrunk: describe it with 256M
    no_node: node: pve7 does not exist (online: pve)
      correct node, or leave it out to take the online node with the most free memory
    ");
    assert_eq!(lab.writes(), writes);
}

#[test]
fn clones_at_once_and_without_an_answer_are_made_once() {
    let lab = with_template();
    let racing: Vec<_> = (0..10)
        .map(|n| {
            let name = format!("web{}", n / 2);
            lab.start(clone_of_golden(&name, json!({"timeout": 500})))
        })
        .collect();
    for child in racing {
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
    let names: Vec<String> = lab.vms().into_iter().map(|(_, name)| name).collect();
    assert_eq!(names.len(), 6, "{names:?}");
    for fault in ["596-after-effect", "drop-after", "drop-before"] {
        lab.faults(json!([{"method": "POST", "path": "/nodes/pve/qemu/100/clone", "nth": 1, "action": fault}]));
        let made = lab.ok(clone_of_golden(fault, json!({})));
        assert_eq!(made["actions"], json!(["clone"]), "{fault}");
    }
    assert_eq!(lab.vms().len(), 9);
}

#[test]
fn a_clone_whose_task_ended_before_its_tags_is_known_again() {
    let lab = with_template();
    for notes in ["", "the base\nof all"] {
        let mut described = golden();
        described["description"] = json!(notes);
        lab.ok(described);
        let web1 = clone_of_golden("web1", json!({"guard_tag": "ours"}));
        lab.faults(
            json!([{"method": "PUT", "path": "/nodes/pve/qemu/101/config", "action": "task-fail"}]),
        );
        let failed = lab.fails(web1.clone());
        assert_eq!(failed["changed"], json!(true), "{failed:#}");
        assert_eq!(lab.config(101)["tags"], "base");
        lab.faults(json!([]));

        let mut theirs = web1.clone();
        theirs["guard_tag"] = json!("theirs");
        assert_eq!(lab.fails(theirs)["error"]["kind"], "guarded");
        let check = lab.check(web1.clone());
        assert_eq!(check["actions"], json!(["change"]), "{check:#}");
        let again = lab.ok(web1.clone());
        assert_eq!(again["tags"], json!(["base", "ours"]), "{again:#}");
        let kept = again["config"]["description"].as_str().unwrap_or_default();
        assert_eq!(kept.trim_end(), notes);
        lab.unchanged(web1.clone());

        lab.ok(with(web1, json!({"state": "absent"})));
    }
    // What was begun can be removed, too.
    lab.faults(
        json!([{"method": "PUT", "path": "/nodes/pve/qemu/101/config", "action": "task-fail"}]),
    );
    lab.fails(clone_of_golden("web1", json!({"guard_tag": "ours"})));
    lab.ok(json!({"name": "web1", "state": "absent", "guard_tag": "ours"}));
    assert_eq!(lab.vms().len(), 1);
}
