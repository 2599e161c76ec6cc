//! docs/privileges.md says what is enough, and nothing of it can be left out.

mod common;

use common::*;
use serde_json::{Value, json};

const UPLOADS: &str = "## proxmox_iso";
const DOWNLOADS: &str = "### Downloads by the node";
const DELETING: &str = "### Deleting";

fn documented(headings: &[&str]) -> String {
    pve_testhost::pveum::sections(include_str!("../../../docs/privileges.md"), headings)
}

/// Run with the token that has what `commands` grant, and nothing else.
async fn run(world: &World, commands: &str, options: Value) -> Value {
    world.grant(commands);
    world.run(with(world.with_token("empty"), options)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_roles_are_enough() {
    let world = World::new();
    let url = serve(b"content").await;
    let upload = json!({"src": world.iso("x.iso", b"content")});
    assert_changed(&run(&world, &documented(&[UPLOADS]), upload).await, true);
    let passed = json!({"url": url, "checksum": sha256(&iso(b"content")), "name": "p.iso", "download_by": "controller"});
    assert_changed(&run(&world, "", passed).await, true);
    assert_changed(
        &run(&world, &documented(&[DOWNLOADS]), json!({"url": url})).await,
        true,
    );
    let absent = json!({"name": "*.iso", "state": "absent"});
    let deleted = run(&world, &documented(&[DELETING]), absent).await;
    assert_changed(&deleted, true);
    assert!(deleted.get("warnings").is_none(), "{deleted}");
    assert_eq!(deleted["deleted"].as_array().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_one_of_them_the_error_grants_it() {
    let upload = |world: &World| json!({"src": world.iso("x.iso", b"content")});
    for (missing, place) in [
        ("Datastore.AllocateTemplate", "/storage/local"),
        ("Datastore.Audit", "/storage/local"),
    ] {
        let world = World::new();
        let commands = documented(&[UPLOADS]).replace(missing, "VM.Audit");
        let refused = run(&world, &commands, upload(&world)).await;
        let grant = format!("pveum acl modify {place}");
        assert_failed(
            &refused,
            "permission_denied",
            &[missing, &grant, "--tokens 'provisioner@pve!empty'"],
        );
        assert_eq!(world.count("POST", "/upload"), 0);
    }
    let world = World::new();
    let url = serve(b"content").await;
    let refused = run(&world, &documented(&[UPLOADS]), json!({"url": url})).await;
    assert_failed(&refused, "permission_denied", &["Sys."]);
    assert_changed(&run(&world, "", upload(&world)).await, true);
    let absent = json!({"name": "x.iso", "state": "absent"});
    let refused = run(&world, "", absent).await;
    assert_failed(
        &refused,
        "permission_denied",
        &["Datastore.Allocate", "pveum acl modify /storage/local"],
    );
}
