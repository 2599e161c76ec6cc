//! ISOs that VMs use are neither deleted nor replaced under them.

mod common;

use common::*;
use pve_client::Params;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_vm_uses_is_not_deleted() {
    let world = World::new();
    for name in ["nixos-1.iso", "nixos-2.iso", "nixos-3.iso", "other.iso"] {
        assert_changed(
            &world
                .run(json!({"src": world.iso(name, name.as_bytes())}))
                .await,
            true,
        );
    }
    world.vm(101, "nixos-2.iso", false).await;
    let used = world
        .run(json!({"name": "nixos-2.iso", "state": "absent"}))
        .await;
    assert_failed(
        &used,
        "in_use",
        &["local:iso/nixos-2.iso is used by VM 101", "force"],
    );

    let all = json!({"name": "nixos-*.iso", "state": "absent"});
    let mut checked = all.clone();
    checked["_ansible_check_mode"] = json!(true);
    checked["_ansible_diff"] = json!(true);
    let checked = world.run(checked).await;
    assert_changed(&checked, true);
    assert_eq!(checked["diff"]["before"].as_array().unwrap().len(), 2);
    assert!(world.stored("nixos-1.iso").exists());
    let result = world.run(all.clone()).await;
    assert_changed(&result, true);
    assert_eq!(
        result["deleted"],
        json!(["local:iso/nixos-1.iso", "local:iso/nixos-3.iso"])
    );
    assert_eq!(result["kept"], json!(["local:iso/nixos-2.iso"]));
    assert!(world.stored("nixos-2.iso").exists() && world.stored("other.iso").exists());
    assert_changed(&world.run(all).await, false);

    let forced = world
        .run(json!({"name": "nixos-2.iso", "state": "absent", "force": true}))
        .await;
    assert_changed(&forced, true);
    assert!(!world.stored("nixos-2.iso").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_running_vm_uses_is_not_replaced() {
    let world = World::new();
    assert_changed(
        &world.run(json!({"src": world.iso("x.iso", b"old")})).await,
        true,
    );
    world.vm(101, "x.iso", true).await;
    let replace = json!({"src": world.iso("x.iso", b"new content"), "force": true});
    let refused = world.run(replace.clone()).await;
    assert_failed(&refused, "in_use", &["VM 101", "running", "another name"]);
    assert_eq!(std::fs::read(world.stored("x.iso")).unwrap(), iso(b"old"));
    world
        .task("/nodes/pve/qemu/101/status/stop", &Params::new())
        .await;
    assert_changed(&world.run(replace).await, true);
    assert_eq!(
        std::fs::read(world.stored("x.iso")).unwrap(),
        iso(b"new content")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_see_vms_is_told_so() {
    let world = World::new();
    assert_changed(
        &world.run(json!({"src": world.iso("x.iso", b"x")})).await,
        true,
    );
    world.grant(
        "pveum role add Deleting --privs \"Datastore.Allocate Datastore.Audit\"\n\
         pveum acl modify /storage/local --roles Deleting",
    );
    let mut options = world.with_token("empty");
    options["name"] = json!("x.iso");
    options["state"] = json!("absent");
    let result = world.run(options).await;
    assert_changed(&result, true);
    assert!(
        result["warnings"].to_string().contains("lacks VM.Audit"),
        "{result}"
    );
}
