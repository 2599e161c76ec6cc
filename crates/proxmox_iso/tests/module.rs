//! The module as Ansible runs it, against the test host.

mod common;

use common::*;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploaded_once_then_unchanged_then_gone() {
    let world = World::new();
    let content = iso(&[42; 300_000]);
    let src = world.file("nix os.iso", &content);
    let progress = world.path("progress");
    let task = json!({"src": src, "checksum": sha256(&content), "progress_path": progress});

    let checked = world
        .run(json!({"src": src, "_ansible_check_mode": true, "_ansible_diff": true}))
        .await;
    assert_changed(&checked, true);
    assert_eq!(checked["diff"]["before"], json!({}));
    assert_eq!(checked["diff"]["after"]["size"], 300_000);
    assert!(!world.stored("nix_os.iso").exists());

    let first = world.run(task.clone()).await;
    assert_changed(&first, true);
    assert_eq!(first["volid"], "local:iso/nix_os.iso");
    assert_eq!(
        (&first["size"], &first["checksum"]),
        (&json!(300_000), &json!(sha256(&content)))
    );
    assert!(first["upid"].as_str().unwrap().contains(":imgcopy:"));
    assert_eq!(std::fs::read(world.stored("nix_os.iso")).unwrap(), content);
    assert_eq!(first["path"], json!(world.stored("nix_os.iso")));
    let lines = std::fs::read_to_string(&progress).unwrap();
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        lines
            .iter()
            .all(|line| line["object"] == "local:iso/nix_os.iso" && line["time"].is_string())
    );
    let steps: Vec<&Value> = lines
        .iter()
        .filter(|line| line["event"] == "step")
        .map(|line| &line["step"])
        .collect();
    assert_eq!(json!(steps), json!(["lock", "upload", "verify"]));
    let last = lines
        .iter()
        .rfind(|line| line["event"] == "transfer")
        .unwrap();
    assert_eq!(
        (&last["sent"], &last["size"]),
        (&json!(300_000), &json!(300_000))
    );
    assert!(last["rate"].as_u64().unwrap() > 0, "{last}");

    let again = world.run(task).await;
    assert_changed(&again, false);
    assert_eq!(again["path"], first["path"]);
    // The same without a checksum: it is computed and compared with the record.
    let hashed = world.run(json!({"src": src})).await;
    assert_changed(&hashed, false);
    assert_eq!(hashed["checksum"], json!(sha256(&content)));

    let absent = json!({"name": "nix_os.iso", "state": "absent"});
    let mut checked = absent.clone();
    checked["_ansible_check_mode"] = json!(true);
    assert_changed(&world.run(checked).await, true);
    assert!(world.stored("nix_os.iso").exists());
    assert_changed(&world.run(absent.clone()).await, true);
    assert!(!world.stored("nix_os.iso").exists());
    assert_changed(&world.run(absent).await, false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn something_else_of_that_name_is_refused_or_replaced() {
    let world = World::new();
    let (old, same_size, longer) = (iso(&[1; 1000]), iso(&[2; 1000]), iso(&[3; 2000]));
    let src = |content: &[u8]| world.file("x.iso", content);
    assert_changed(&world.run(json!({"src": src(&old)})).await, true);
    for other in [&same_size, &longer] {
        let refused = world.run(json!({"src": src(other)})).await;
        assert_failed(
            &refused,
            "exists",
            &["local:iso/x.iso", "differs", "force: true"],
        );
        assert_eq!(std::fs::read(world.stored("x.iso")).unwrap(), old);
    }
    let replaced = world
        .run(json!({"src": src(&longer), "force": true, "_ansible_diff": true}))
        .await;
    assert_changed(&replaced, true);
    assert_eq!(replaced["diff"]["before"]["checksum"], sha256(&old));
    assert_eq!(replaced["diff"]["after"]["checksum"], sha256(&longer));
    assert_eq!(std::fs::read(world.stored("x.iso")).unwrap(), longer);
    assert_changed(
        &world.run(json!({"src": src(&longer), "force": true})).await,
        false,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_checksum_leaves_the_old_iso() {
    let world = World::new();
    assert_changed(
        &world.run(json!({"src": world.iso("x.iso", b"old")})).await,
        true,
    );
    let src = world.iso("x.iso", b"brand new");
    let wrong = world
        .run(json!({"src": src, "checksum": sha256(b"something else"), "force": true}))
        .await;
    assert_failed(
        &wrong,
        "checksum_mismatch",
        &[
            "x.iso",
            pve_client::sha256_bytes(&iso(b"brand new")).as_str(),
        ],
    );
    assert_eq!(std::fs::read(world.stored("x.iso")).unwrap(), iso(b"old"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storages_and_nodes_are_checked_before_the_transfer() {
    let world = World::new();
    let src = world.iso("x.iso", b"content");
    let run = async |option: &str, value: &str| world.run(json!({"src": src, option: value})).await;
    assert_failed(
        &run("storage", "nope").await,
        "not_found",
        &["nope does not exist on node pve", "local"],
    );
    assert_failed(
        &run("storage", "noiso").await,
        "storage_unusable",
        &["noiso does not hold ISOs"],
    );
    assert_failed(
        &run("storage", "off").await,
        "storage_unusable",
        &["storage off is disabled"],
    );
    assert_failed(
        &run("node", "pve9").await,
        "not_found",
        &["pve9 does not exist", "pve"],
    );
    let missing = world.run(json!({"src": "/does/not/exist.iso"})).await;
    assert_failed(&missing, "file", &["/does/not/exist.iso", "No such file"]);
    let log = std::fs::read_to_string(world.path("pve/requests.jsonl")).unwrap();
    assert!(!log.contains("/upload"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_right_comes_with_the_command_that_grants_it() {
    let world = World::new();
    let mut options = world.with_token("empty");
    options["src"] = json!(world.iso("x.iso", b"content"));
    let result = world.run(options).await;
    assert_failed(
        &result,
        "permission_denied",
        &[
            "pveum acl modify /storage/local",
            "--tokens 'provisioner@pve!empty'",
        ],
    );
    let mut options = world.with_token("provisioner");
    options["src"] = json!(world.iso("x.iso", b"content"));
    assert_changed(&world.run(options).await, true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_known_or_not_trusted_or_not_there_is_named() {
    let world = World::new();
    let src = world.iso("x.iso", b"content");
    let run = async |options: Value| {
        let mut all = options;
        all["src"] = json!(src);
        world.run(all).await
    };
    let token = run(json!({"api_token_secret": "00000000-0000-0000-0000-000000000000"})).await;
    assert_failed(
        &token,
        "authentication",
        &["401", "api_token_secret", "root@pam!full"],
    );
    let password = run(
        json!({"api_token_id": null, "api_token_secret": null, "api_password": "wrong password"}),
    )
    .await;
    assert_failed(&password, "authentication", &["api_password"]);
    assert!(
        !password.to_string().contains("wrong password"),
        "{password}"
    );
    let pin = run(json!({"tls_fingerprint": "00".repeat(32)})).await;
    let shown = world.endpoint["tls_fingerprint"].as_str().unwrap();
    assert_failed(
        &pin,
        "untrusted_certificate",
        &["its fingerprint is not the one given", shown],
    );
    let ca = run(json!({"tls_fingerprint": null, "ca_path": world.endpoint["ca_path"]})).await;
    assert_changed(&ca, true);
    let unreachable = run(json!({"api_host": "127.0.0.9", "timeout": 1})).await;
    assert_failed(
        &unreachable,
        "unreachable",
        &["127.0.0.9", "Connection refused", "api_host"],
    );
    let other = run(json!({"api_host": ["127.0.0.9", world.endpoint["api_host"]]})).await;
    assert_changed(&other, false);
    let ticket = run(json!({"api_token_id": null, "api_token_secret": null, "api_password": world.endpoint["api_password"]})).await;
    assert_changed(&ticket, false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_in_parallel_upload_once() {
    let world = World::new();
    let content = iso(&vec![9; 5_000_000]);
    let task = json!({"src": world.file("x.iso", &content), "checksum": sha256(&content)});
    let (a, b, c, d) = tokio::join!(
        world.run(task.clone()),
        world.run(task.clone()),
        world.run(task.clone()),
        world.run(task)
    );
    let changed: Vec<_> = [a, b, c, d]
        .into_iter()
        .filter(|result| {
            assert!(result.get("failed").is_none(), "{result}");
            result["changed"] == true
        })
        .collect();
    assert_eq!(changed.len(), 1);
    assert_eq!(std::fs::read(world.stored("x.iso")).unwrap(), content);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_whose_answer_was_lost_is_settled_by_looking() {
    let upload = "/nodes/pve/storage/local/upload";
    let world = World::with_faults(
        json!([{"method": "POST", "path": upload, "nth": 1, "action": "drop-after"}]),
    );
    let src = world.iso("x.iso", b"content");
    assert_changed(&world.run(json!({"src": src})).await, true);
    assert_changed(&world.run(json!({"src": src})).await, false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_fails_is_an_error_at_once() {
    let path = "/nodes/pve/storage/local/upload";
    let rule = json!([{"method": "POST", "path": path, "action": "task-fail", "message": "no space left on device"}]);
    let world = World::with_faults(rule);
    let failed = world
        .run(json!({"src": world.iso("x.iso", b"content")}))
        .await;
    assert_failed(
        &failed,
        "task_failed",
        &[
            "imgcopy",
            "no space left on device",
            "cannot upload",
            "pvenode task log",
        ],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_downloads() {
    let world = World::new();
    let content = iso(&[5; 100_000]);
    let url = serve(&content).await;
    let task = json!({"url": url, "checksum": sha256(&content)});
    let first = world.run(task.clone()).await;
    assert_changed(&first, true);
    assert_eq!(
        (&first["volid"], &first["size"]),
        (&json!("local:iso/nixos.iso"), &json!(100_000))
    );
    assert_changed(&world.run(task.clone()).await, false);
    // Without a record PVE compares what is there.
    std::fs::remove_dir_all(world.path("home/.cache/nixos-proxmox/isos")).unwrap();
    assert_changed(&world.run(task).await, false);
    let other = world
        .run(json!({"url": url, "checksum": sha256(b"other")}))
        .await;
    assert_failed(&other, "exists", &["local:iso/nixos.iso"]);
    let wrong = world
        .run(json!({"url": url, "name": "y.iso", "checksum": sha256(b"other")}))
        .await;
    assert_failed(
        &wrong,
        "checksum_mismatch",
        &["nixos.iso", "checksum mismatch"],
    );
    assert!(!world.stored("y.iso").exists());
    let downloads = world.count("POST", "/download-url");
    for check in [true, false] {
        let gone =
            json!({"url": url.replace("nixos.iso", "gone.iso"), "_ansible_check_mode": check});
        assert_failed(
            &world.run(gone).await,
            "download",
            &["gone.iso answered 404"],
        );
    }
    assert_eq!(world.count("POST", "/download-url"), downloads);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_are_checked_by_name() {
    let world = World::new();
    let both = world
        .run(json!({"src": "/a.iso", "url": "https://x.example/a.iso"}))
        .await;
    assert!(
        both["msg"].as_str().unwrap().contains("mutually exclusive"),
        "{both}"
    );
    let none = world.run(json!({})).await;
    assert!(none["msg"].as_str().unwrap().contains("src, url"), "{none}");
    let unknown = world.run(json!({"src": "/a.iso", "nam": "x"})).await;
    assert!(
        unknown["msg"]
            .as_str()
            .unwrap()
            .contains("Unsupported parameters for (proxmox_iso) module: nam"),
        "{unknown}"
    );
    let checksum = world
        .run(json!({"src": "/a.iso", "checksum": "md5:1"}))
        .await;
    assert_failed(&checksum, "invalid_option", &["checksum: must be", "md5:1"]);
}
