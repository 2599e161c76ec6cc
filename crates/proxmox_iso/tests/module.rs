//! The module as Ansible runs it, against the test host.

mod common;

use common::*;
use insta::assert_snapshot;
use serde_json::{Value, json};

#[test]
fn uploaded_once_then_unchanged_then_gone() {
    let lab = lab();
    let content = iso(&[42; 300_000]);
    let src = lab.file("nix os.iso", &content);
    let progress = lab.path("progress");
    let task = json!({"src": src, "checksum": sha256(&content), "progress_path": progress});

    let checked = lab.would_change(json!({"src": src}));
    assert_snapshot!(shown(&checked, "msg diff"), @"
    msg: would upload local:iso/nix_os.iso
    diff:
    + volid: local:iso/nix_os.iso
    + size: 300000
    ");
    assert!(!lab.stored("nix_os.iso").exists());

    let first = lab.changed(task.clone());
    assert_snapshot!(shown(&first, "volid size checksum upid msg"), @"
    volid: local:iso/nix_os.iso
    size: 300000
    checksum: sha256:fda999bf8843f427a9a3bc52d806eb0ea9dae434aa48ccb546e4a8664f024fd8
    upid: UPID:pve:[task]:imgcopy::root@pam!full:
    msg: uploaded local:iso/nix_os.iso
    ");
    assert_eq!(first["checksum"], sha256(&content));
    assert_eq!(std::fs::read(lab.stored("nix_os.iso")).unwrap(), content);
    assert_eq!(first["path"], json!(lab.stored("nix_os.iso")));
    let lines = std::fs::read_to_string(&progress).unwrap();
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of_it = |line: &Value| line["object"] == "local:iso/nix_os.iso" && line["time"].is_string();
    assert!(lines.iter().all(of_it));
    let of = |event: &'static str| lines.iter().filter(move |line| line["event"] == event);
    let steps: Vec<&Value> = of("step").map(|line| &line["step"]).collect();
    assert_eq!(json!(steps), json!(["lock", "upload", "verify"]));
    let last = of("transfer").next_back().unwrap();
    assert_eq!([&last["sent"], &last["size"]], [300_000, 300_000]);
    assert!(last["rate"].as_u64().unwrap() > 0, "{last}");

    let again = lab.unchanged(task);
    assert_eq!(again["path"], first["path"]);
    // The same without a checksum: it is computed and compared with the record.
    let hashed = lab.unchanged(json!({"src": src}));
    assert_eq!(hashed["checksum"], json!(sha256(&content)));

    let absent = json!({"name": "nix_os.iso", "state": "absent"});
    lab.would_change(absent.clone());
    assert!(lab.stored("nix_os.iso").exists());
    lab.changed(absent.clone());
    assert!(!lab.stored("nix_os.iso").exists());
    lab.unchanged(absent);
}

#[test]
fn something_else_of_that_name_is_refused_or_replaced() {
    let lab = lab();
    let (old, same_size, longer) = (iso(&[1; 1000]), iso(&[2; 1000]), iso(&[3; 2000]));
    let src = |content: &[u8]| lab.file("x.iso", content);
    lab.changed(json!({"src": src(&old)}));
    assert_snapshot!(lab.refuses(json!({"src": src(&same_size)})), @"
    exists: local:iso/x.iso exists already: its content differs: sha256:e2eed0e48a0fe40a2d59bb22e2bb674d4a519a04c53c0f2bc2eca3b1dd67990f instead of sha256:4e3c11a44ff1974b4a5096d3258915ed42730ce8eaf66d4d802c590c8288fa77
      set force: true to replace it, name: OTHER.iso to keep both, or checksum: ALGORITHM:HEX to have its content compared
    ");
    assert_snapshot!(lab.refuses(json!({"src": src(&longer)})), @"
    exists: local:iso/x.iso exists already: its size differs: 37864 instead of 38864 bytes
      set force: true to replace it, name: OTHER.iso to keep both, or checksum: ALGORITHM:HEX to have its content compared
    ");
    assert_eq!(std::fs::read(lab.stored("x.iso")).unwrap(), old);
    let replaced = lab.changed(json!({"src": src(&longer), "force": true}));
    assert_snapshot!(shown(&replaced, "msg diff"), @"
    msg: uploaded local:iso/x.iso, replacing what was there
    diff:
      volid: local:iso/x.iso
    - size: 37864
    - checksum: sha256:e2eed0e48a0fe40a2d59bb22e2bb674d4a519a04c53c0f2bc2eca3b1dd67990f
    + size: 38864
    + checksum: sha256:43375a88761aafb83b2dcb191b3676fce9bec98505c75d12bc9cfa4bafba3ff1
    ");
    assert_eq!(replaced["diff"]["after"]["checksum"], sha256(&longer));
    assert_eq!(std::fs::read(lab.stored("x.iso")).unwrap(), longer);
    lab.unchanged(json!({"src": src(&longer), "force": true}));
}

#[test]
fn a_wrong_checksum_leaves_the_old_iso() {
    let lab = lab();
    lab.changed(json!({"src": iso_file(&lab, "x.iso", b"old")}));
    let src = iso_file(&lab, "x.iso", b"brand new");
    assert_snapshot!(failure(&lab.fails(json!({"src": src, "checksum": sha256(b"something else"), "force": true}))), @"
    checksum_mismatch: checksum mismatch: [dir]/x.iso is not what its checksum says: checksum mismatch: got '34097ebbc111c3e398c2efc4d4910d1416dd080e4af05bcc494005795259d4f3' != expect 'f41f3fa625ff120ddca7ef456bf66371ecea23c129f4e4c32367101edb516cf8'
      nothing was replaced; fetch or build the image again, or set checksum: ALGORITHM:HEX to that of the image that you want
    ");
    assert_eq!(std::fs::read(lab.stored("x.iso")).unwrap(), iso(b"old"));
}

#[test]
fn storages_and_nodes_are_checked_before_the_transfer() {
    let lab = lab();
    let src = iso_file(&lab, "x.iso", b"content");
    let cases = [
        json!({"storage": "nope"}),
        json!({"storage": "noiso"}),
        json!({"storage": "off"}),
        json!({"node": "pve9"}),
        json!({"src": "/does/not/exist.iso"}),
    ];
    assert_snapshot!(lab.refuses_each(&json!({"src": src}), cases), @"
    not_found: storage nope does not exist on node pve, or root@pam!full may not see it
      storages of pve that can hold ISOs: local
    storage_unusable: storage noiso does not hold ISOs (its content types: snippets)
      storages of pve that can hold ISOs: local
    storage_unusable: storage off is disabled
      storages of pve that can hold ISOs: local
    not_found: node: pve9 does not exist (available: pve)
    file: src: cannot read /does/not/exist.iso: No such file or directory (os error 2)
    ");
    let log = std::fs::read_to_string(lab.path("pve/requests.jsonl")).unwrap();
    assert!(!log.contains("/upload"), "{log}");
}

#[test]
fn a_missing_right_comes_with_the_command_that_grants_it() {
    let lab = lab();
    let mut options = lab.endpoint["empty"].clone();
    options["src"] = json!(iso_file(&lab, "x.iso", b"content"));
    assert_snapshot!(lab.refuses(options), @"
    permission_denied: provisioner@pve!empty lacks the privilege Datastore.Audit on /storage/local
      run on a node: pveum role add nixos-Datastore-Audit --privs 'Datastore.Audit'; pveum acl modify /storage/local --roles nixos-Datastore-Audit --users 'provisioner@pve' --tokens 'provisioner@pve!empty'. If `pveum acl list` shows a role of provisioner@pve!empty on a path above /storage/local only, use that path: an entry on a deeper path replaces it
    ");
    let mut options = lab.endpoint["provisioner"].clone();
    options["src"] = json!(iso_file(&lab, "x.iso", b"content"));
    lab.changed(options);
}

#[test]
fn who_is_not_known_or_not_trusted_or_not_there_is_named() {
    let lab = lab();
    let src = iso_file(&lab, "x.iso", b"content");
    let by_password = |password: &Value| json!({"src": src, "api_token_id": null, "api_token_secret": null, "api_password": password});
    let wrong = json!("wrong password");
    let cases = [
        json!({"api_token_secret": "00000000-0000-0000-0000-000000000000"}),
        by_password(&wrong),
        json!({"tls_fingerprint": "00".repeat(32)}),
        json!({"api_host": "127.0.0.9", "timeout": 1}),
    ];
    assert_snapshot!(lab.refuses_each(&json!({"src": src}), cases), @"
    authentication: cannot list the nodes: GET /nodes: 401 Authentication failed!
      check api_token_id and api_token_secret: no enabled user has a token root@pam!full with this secret, or it has expired
    authentication: cannot list the nodes: POST /access/ticket: 401 authentication failure
      check api_user (with its realm) and api_password of root@pam
    untrusted_certificate: cannot list the nodes: GET /nodes: the certificate of 127.0.0.1:[port] is not trusted: its fingerprint is not the one given (its SHA-256 fingerprint is [fingerprint])
      if `pvenode cert info` on the node behind 127.0.0.1:[port] shows this fingerprint, set tls_fingerprint: [fingerprint]; or set ca_path to a copy of the cluster's /etc/pve/pve-root-ca.pem
    unreachable: cannot list the nodes: GET /nodes: cannot reach the Proxmox VE API at 127.0.0.9:[port]: Connection refused (os error 111)
      check api_host and api_port, and that pveproxy runs there
    ");
    let password = lab.fails(by_password(&wrong)).to_string();
    assert!(!password.contains("wrong password"), "{password}");
    let pin = lab.fails(json!({"src": src, "tls_fingerprint": "00".repeat(32)}));
    let shown = lab.endpoint["tls_fingerprint"].as_str().unwrap();
    assert!(pin["msg"].as_str().unwrap().contains(shown), "{pin}");
    let ca = json!({"src": src, "tls_fingerprint": null, "ca_path": lab.endpoint["ca_path"]});
    lab.changed(ca);
    same(
        &lab,
        json!({"src": src, "api_host": ["127.0.0.9", lab.endpoint["api_host"]]}),
    );
    assert_changed(&lab.run(by_password(&lab.endpoint["api_password"])), false);
}

#[test]
fn hosts_in_parallel_upload_once() {
    let lab = lab();
    let content = iso(&vec![9; 5_000_000]);
    let task = json!({"src": lab.file("x.iso", &content), "checksum": sha256(&content)});
    let results = lab.many(4, 4, &task);
    let changed = results.iter().filter(|result| result["changed"] == true);
    assert_eq!(changed.count(), 1);
    assert_eq!(std::fs::read(lab.stored("x.iso")).unwrap(), content);
}

#[test]
fn an_upload_whose_answer_was_lost_is_settled_by_looking() {
    let upload = "/nodes/pve/storage/local/upload";
    let lab =
        with_faults(json!([{"method": "POST", "path": upload, "nth": 1, "action": "drop-after"}]));
    let src = iso_file(&lab, "x.iso", b"content");
    lab.changed(json!({"src": src}));
    lab.unchanged(json!({"src": src}));
}

#[test]
fn a_task_that_fails_is_an_error_at_once() {
    let path = "/nodes/pve/storage/local/upload";
    let rule = json!([{"method": "POST", "path": path, "action": "task-fail", "message": "no space left on device"}]);
    let lab = with_faults(rule);
    assert_snapshot!(failure(&lab.fails(json!({"src": iso_file(&lab, "x.iso", b"content")}))), @"
    task_failed: cannot upload [dir]/x.iso as local:iso/x.iso: task imgcopy on pve failed: no space left on device
      its whole log: pvenode task log UPID:pve:[task]:imgcopy::root@pam!full:
    ");
}

#[test]
fn the_node_downloads() {
    let lab = lab();
    let content = iso(&[5; 100_000]);
    let url = serve(&content);
    let task = json!({"url": url, "checksum": sha256(&content)});
    let first = lab.changed(task.clone());
    assert_snapshot!(shown(&first, "volid size msg warnings"), @"
    volid: local:iso/nixos.iso
    size: 100000
    msg: downloaded local:iso/nixos.iso
    ");
    same(&lab, task.clone());
    // Without a record PVE compares what is there.
    std::fs::remove_dir_all(lab.path(".cache/nixos-proxmox/isos")).unwrap();
    same(&lab, task);
    assert_snapshot!(failure(&lab.fails(json!({"url": url, "checksum": sha256(b"other")}))), @"
    exists: local:iso/nixos.iso exists already: its content differs: sha256:1e2cd336e5a6aa9d34a7ff0754234ac79bb918091fbf2f6bac592045ce3ec68d instead of sha256:d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa
      set force: true to replace it, name: OTHER.iso to keep both, or checksum: ALGORITHM:HEX to have its content compared
    ");
    assert_snapshot!(failure(&lab.fails(json!({"url": url, "name": "y.iso", "checksum": sha256(b"other")}))), @"
    checksum_mismatch: checksum mismatch: http://127.0.0.1:[port]/nixos.iso is not what its checksum says: checksum mismatch: got '1e2cd336e5a6aa9d34a7ff0754234ac79bb918091fbf2f6bac592045ce3ec68d' != expect 'd9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa'
      nothing was replaced; fetch or build the image again, or set checksum: ALGORITHM:HEX to that of the image that you want
    ");
    assert!(!lab.stored("y.iso").exists());
    let downloads = lab.count("POST", "/download-url");
    let gone = json!({"url": url.replace("nixos.iso", "gone.iso")});
    let checks = [true, false].map(|check| json!({"_ansible_check_mode": check}));
    assert_snapshot!(lab.refuses_each(&gone, checks), @"2 times download: http://127.0.0.1:[port]/gone.iso answered 404 Not Found");
    assert_eq!(lab.count("POST", "/download-url"), downloads);
}

#[test]
fn options_are_checked_by_name() {
    let lab = lab();
    let cases = [
        json!({"src": "/a.iso", "url": "https://x.example/a.iso"}),
        json!({}),
    ];
    assert_snapshot!(lab.refuses_each(&json!({}), cases), @"
    invalid_option: parameters are mutually exclusive: src|url|github_release
    invalid_option: state is present but any of the following are missing: src, url, github_release
    ");
    let unknown = lab.refuses(json!({"src": "/a.iso", "nam": "x"}));
    let words = "invalid_option: Unsupported parameters for (proxmox_iso) module: nam";
    assert!(unknown.starts_with(words), "{unknown}");
    assert_snapshot!(lab.refuses(json!({"src": "/a.iso", "checksum": "md5:1"})), @"
    invalid_option: checksum: must be sha256: and 64 hex digits, or sha256: and an address (got 'md5:1')
      give sha256:HEX, sha384:HEX, sha512:HEX, or sha256:URL of a file of checksums; MD5 and SHA-1 are not accepted
    ");
}
