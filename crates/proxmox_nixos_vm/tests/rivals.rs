//! Several controllers that make the same VM, and VMs that the token lost sight of.

mod common;

use std::collections::BTreeSet;
use std::process::Child;

use common::*;
use insta::assert_snapshot;
use serde_json::{Value, json};

fn small(name: &str) -> Value {
    json!({"name": name, "memory": 128, "scsi": {"scsi0": "local:0.1"}, "timeout": 300})
}

/// Start the module as a controller of its own, which shares nothing with others but the cluster.
fn start(lab: &Lab, controller: &str, options: Value) -> Child {
    let home = lab.path(controller);
    std::fs::create_dir_all(&home).unwrap();
    let mut command = lab.command(options);
    command
        .env("HOME", &home)
        .env("XDG_RUNTIME_DIR", &home)
        .stdout(std::process::Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn controllers_that_make_the_same_vms_at_once_make_each_once() {
    let lab = lab();
    let tasks: Vec<(String, Child)> = (0..12)
        .map(|n| {
            let name = format!("web{}", n / 3);
            let child = start(&lab, &format!("home{}", n % 3), small(&name));
            (name, child)
        })
        .collect();
    let mut made = BTreeSet::new();
    for (name, child) in tasks {
        let result = lab.ended(child);
        assert_eq!(result.get("failed"), None, "{result:#}");
        assert_eq!(result["name"], name.as_str());
        made.insert((result["vmid"].as_u64().unwrap(), name));
    }
    // All tasks of a name ended with the same VM, and no other one is left, nor a volume of one.
    assert_eq!(made.len(), 4, "{made:?}");
    assert_eq!(lab.vms(), made.into_iter().collect::<Vec<_>>());
    assert_eq!(volumes(&lab, "local").len(), 4);
}

#[test]
fn a_vm_with_a_chosen_vmid_never_gives_way() {
    let lab = lab();
    // Between the look and the end of the creation somebody makes a VM of the same name.
    lab.faults(json!([{"method": "POST", "path": "/nodes/pve/qemu", "nth": 1, "action": "delay", "seconds": 4}]));
    let child = start(&lab, "home1", with(small("web1"), json!({"vmid": 500})));
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !lab
        .requests()
        .iter()
        .any(|request| request.starts_with("GET /nodes/pve/storage"))
    {
        assert!(std::time::Instant::now() < limit, "{:?}", lab.requests());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    std::thread::sleep(std::time::Duration::from_millis(500));
    lab.post("/nodes/pve/qemu", &[("vmid", "100"), ("name", "web1")]);
    let failed = lab.ended(child);
    assert_eq!(failed["error"]["kind"], "ambiguous", "{failed:#}");
    let msg = failed["msg"].as_str().unwrap();
    assert!(msg.contains("VM 100") && msg.contains("VM 500"), "{msg}");
    let there: Vec<u64> = lab.vms().into_iter().map(|(vmid, _)| vmid).collect();
    assert_eq!(there, [100, 500]);
}

#[test]
fn a_vm_that_the_token_lost_sight_of_is_not_made_again() {
    let lab = lab().granted(
        "pveum role add maker --privs \"VM.Audit VM.Allocate VM.Config.Options VM.Config.HWType VM.Config.Disk VM.Config.Memory Datastore.AllocateSpace Datastore.Audit\"\n\
         pveum acl modify /vms --roles maker\n\
         pveum acl modify /storage/local --roles maker",
    );
    let made = lab.ok(with(small("web1"), json!({"node": "pve"})));
    assert_eq!(made["vmid"], json!(100));
    lab.ok(with(small("other"), json!({"node": "pve"})));
    // An entry for one VM replaces what is granted for all.
    lab.grant(
        "pveum role add power --privs \"VM.PowerMgmt\"\n\
         pveum acl modify /vms/100 --roles power",
    );
    let writes = lab.writes();
    assert_snapshot!(lab.refuses(with(small("web1"), json!({"node": "pve"}))), @"
    permission_denied: VM 100: this controller made it as web1, and it still exists, but provisioner@pve!empty cannot see it
      grant VM.Audit on it again (see `pveum acl list` for an entry on /vms/100, which replaces what is granted on /vms). If 100 is another guest by now, set vmid to a free one
    ");
    assert_eq!(lab.writes(), writes);
}

#[test]
fn a_creation_that_was_cut_off_is_named() {
    let lab = lab();
    let config = lab.path("pve/qemu-server/100.conf");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    std::fs::write(&config, "lock: create\n").unwrap();
    assert_snapshot!(lab.refuses(with(small("web1"), json!({"vmid": 100}))), @"
    cut_off: VM 100 on pve is incomplete: it has the lock 'create', but no task of PVE works on it
      remove what is left of it on node pve: qm unlock 100 && qm destroy 100
    ");
    // It has no name, so that it cannot be known whose it was.
    let made = lab.ok(small("web1"));
    assert_eq!(made["vmid"], json!(101), "{made:#}");
    let warning = made["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("VM 100") && warning.contains("qm unlock 100"),
        "{warning}"
    );
}
