//! docs/privileges.md says what is enough, and nothing of it can be left out.

mod common;

use common::*;
use module_lab::Lab;
use serde_json::{Value, json};

const UPLOADS: &str = "## proxmox_iso";
const DOWNLOADS: &str = "### Downloads by the node";
const DELETING: &str = "### Deleting";

fn documented(headings: &[&str]) -> String {
    pve_testhost::pveum::sections(include_str!("../../../docs/privileges.md"), headings)
}

/// Run with the token that has what `commands` grant, and nothing else.
fn run(lab: &Lab, commands: &str, options: Value) -> Value {
    lab.grant(commands);
    lab.run(with(lab.endpoint["empty"].clone(), options))
}

#[test]
fn the_documented_roles_are_enough() {
    let lab = lab();
    let url = serve(b"content");
    let upload = json!({"src": iso_file(&lab, "x.iso", b"content")});
    assert_changed(&run(&lab, &documented(&[UPLOADS]), upload), true);
    let passed = json!({"url": url, "checksum": sha256(&iso(b"content")), "name": "p.iso", "download_by": "controller"});
    assert_changed(&run(&lab, "", passed), true);
    assert_changed(
        &run(&lab, &documented(&[DOWNLOADS]), json!({"url": url})),
        true,
    );
    let absent = json!({"name": "*.iso", "state": "absent"});
    let deleted = run(&lab, &documented(&[DELETING]), absent);
    assert_changed(&deleted, true);
    assert!(deleted.get("warnings").is_none(), "{deleted}");
    assert_eq!(deleted["deleted"].as_array().unwrap().len(), 3);
}

#[test]
fn without_one_of_them_the_error_grants_it() {
    let upload = |lab: &Lab| json!({"src": iso_file(lab, "x.iso", b"content")});
    for (missing, place) in [
        ("Datastore.AllocateTemplate", "/storage/local"),
        ("Datastore.Audit", "/storage/local"),
    ] {
        let lab = lab();
        let commands = documented(&[UPLOADS]).replace(missing, "VM.Audit");
        let refused = run(&lab, &commands, upload(&lab));
        let grant = format!("pveum acl modify {place}");
        assert_failed(
            &refused,
            "permission_denied",
            &[missing, &grant, "--tokens 'provisioner@pve!empty'"],
        );
        assert_eq!(lab.count("POST", "/upload"), 0);
    }
    let lab = lab();
    let url = serve(b"content");
    let refused = run(&lab, &documented(&[UPLOADS]), json!({"url": url}));
    assert_failed(&refused, "permission_denied", &["Sys."]);
    assert_changed(&run(&lab, "", upload(&lab)), true);
    let absent = json!({"name": "x.iso", "state": "absent"});
    let refused = run(&lab, "", absent);
    assert_failed(
        &refused,
        "permission_denied",
        &["Datastore.Allocate", "pveum acl modify /storage/local"],
    );
}
