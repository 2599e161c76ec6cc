//! What goes wrong on the way, and what comes of it.

mod common;

use std::time::{Duration, Instant};

use common::*;
use insta::assert_snapshot;
use module_lab::Host;
use serde_json::json;

const UPLOAD: &str = "/nodes/pve/storage/local/upload";

#[test]
fn a_slow_copy_is_waited_for_and_its_size_not_believed() {
    let rule =
        json!([{"method": "POST", "path": UPLOAD, "nth": 1, "action": "slow-copy", "seconds": 3}]);
    let lab = with_faults(rule);
    let body = iso(&vec![7; 1_000_000]);
    let task = json!({"src": lab.file("x.iso", &body), "checksum": sha256(&body)});
    // The second controller comes while the first one's file is listed and still grows.
    let first = lab.start(task.clone());
    let deadline = Instant::now() + Duration::from_secs(30);
    while !lab.stored("x.iso").exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(std::fs::metadata(lab.stored("x.iso")).unwrap().len() < 1_000_000);
    assert_changed(&elsewhere(&lab, "other", &[], task), false);
    assert_changed(&lab.ended(first), true);
    assert_eq!(lab.count("POST", "/upload"), 1);
    assert!(std::fs::read(lab.stored("x.iso")).unwrap() == body);
}

#[test]
fn two_controllers_at_once_end_with_one_good_file() {
    let rule = json!([{"method": "POST", "path": UPLOAD, "action": "slow-copy", "seconds": 1.5}]);
    let lab = with_faults(rule);
    let body = iso(&vec![7; 3_000_000]);
    let task = json!({"src": lab.file("x.iso", &body), "checksum": sha256(&body)});
    std::thread::scope(|scope| {
        for home in ["one", "two"] {
            let (lab, task) = (&lab, task.clone());
            scope.spawn(move || {
                let result = elsewhere(lab, home, &[], task);
                assert!(result.get("failed").is_none(), "{result}");
            });
        }
    });
    assert!(std::fs::read(lab.stored("x.iso")).unwrap() == body);
    for home in ["one", "two"] {
        assert_changed(&elsewhere(&lab, home, &[], task.clone()), false);
    }
}

#[test]
fn a_hundred_hosts_cause_one_transfer() {
    let lab = lab();
    let body = iso(&vec![9; 2_000_000]);
    let task = json!({"src": lab.file("x.iso", &body), "checksum": sha256(&body)});
    let results = lab.many(100, 20, &task);
    let changed = results.iter().filter(|result| result["changed"] == true);
    assert_eq!(changed.count(), 1);
    assert_eq!(lab.count("POST", "/upload"), 1);
    assert!(std::fs::read(lab.stored("x.iso")).unwrap() == body);
}

#[test]
fn an_upload_whose_answer_is_596_is_settled_by_its_task() {
    let rule = json!([{"method": "POST", "path": UPLOAD, "nth": 1, "action": "596-after-effect"}]);
    let lab = with_faults(rule);
    let src = iso_file(&lab, "x.iso", &vec![3; 100_000]);
    lab.changed(json!({"src": src}));
    assert_eq!(lab.count("POST", "/upload"), 1);
    lab.unchanged(json!({"src": src}));
}

#[test]
fn a_node_that_vanishes_within_the_upload_changes_nothing() {
    let rule =
        json!([{"method": "POST", "path": UPLOAD, "nth": 1, "times": 2, "action": "drop-before"}]);
    let lab = with_faults(rule);
    let src = iso_file(&lab, "x.iso", &vec![3; 20_000_000]);
    assert_snapshot!(failure(&lab.fails(json!({"src": src}))), @"connection_lost: cannot upload [dir]/x.iso as local:iso/x.iso: POST /nodes/pve/storage/local/upload (x.iso): the connection to 127.0.0.1:[port] broke: [how] ([some] of 20000000 bytes were sent)");
    assert!(!lab.stored("x.iso").exists());
    lab.changed(json!({"src": src}));
}

#[test]
fn an_upload_that_was_cut_short_is_sent_again() {
    let rule = json!([{"method": "POST", "path": UPLOAD, "nth": 1, "action": "drop-before"}]);
    let lab = with_faults(rule);
    let body = iso(&vec![3; 20_000_000]);
    lab.changed(json!({"src": lab.file("x.iso", &body)}));
    assert!(std::fs::read(lab.stored("x.iso")).unwrap() == body);
}

#[test]
fn an_upload_that_did_not_happen_is_sent_again() {
    // It got all of it, lost it, and said that it may have done something.
    let rule =
        json!([{"method": "POST", "path": UPLOAD, "nth": 1, "action": "status", "status": 596}]);
    let lab = with_faults(rule);
    let src = iso_file(&lab, "x.iso", &vec![3; 100_000]);
    lab.changed(json!({"src": src}));
    assert_eq!(lab.count("POST", "/upload"), 2);
}

/// Numbers that look random and are the same each time (Knuth's MMIX generator).
fn random(seed: u64, below: u64) -> u64 {
    let step = |n: u64| {
        n.wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407)
    };
    (step(step(seed)) >> 20) % below
}

#[test]
fn a_host_that_vanishes_at_any_byte_is_followed_by_the_next() {
    const SIZE: u64 = 3_000_000;
    let lab = lab();
    let port = u16::try_from(lab.endpoint["api_port"].as_u64().unwrap()).unwrap();
    let body: Vec<u8> = (0..SIZE).map(|i| (i * 31 / 8) as u8).collect();
    let body = iso(&body);
    let url = serve(&body);
    for seed in 0..8 {
        // The first bytes are of the questions before, the last of the upload's end.
        let relay = Relay::start(port, 1 + random(seed, SIZE + 10_000));
        let name = format!("{seed}.iso");
        let mut options = json!({
            "api_host": [Relay::HOST, lab.endpoint["api_host"]], "checksum": sha256(&body), "name": name,
        });
        match seed % 2 {
            0 => options["src"] = json!(lab.file("x.iso", &body)),
            _ => {
                options["url"] = json!(url);
                options["download_by"] = json!("controller");
            }
        }
        lab.changed(options);
        assert!(relay.vanished(), "seed {seed}");
        assert!(
            std::fs::read(lab.stored(&name)).unwrap() == body,
            "seed {seed}"
        );
    }
    let tmp = lab.path("pve/tmp");
    let deadline = Instant::now() + Duration::from_secs(30);
    while std::fs::read_dir(&tmp).unwrap().count() > 0 {
        assert!(Instant::now() < deadline, "{tmp:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_only_host_that_vanishes_at_any_byte_leaves_nothing() {
    const SIZE: u64 = 3_000_000;
    let lab = lab();
    let port = u16::try_from(lab.endpoint["api_port"].as_u64().unwrap()).unwrap();
    let src = iso_file(&lab, "x.iso", &vec![5; SIZE as usize]);
    for seed in [10, 11] {
        let relay = Relay::start(port, 100_000 + random(seed, SIZE - 200_000));
        let result = lab.run(json!({"src": src, "api_host": Relay::HOST, "timeout": 40}));
        assert_failed(&result, "unreachable", &[Relay::HOST, "Connection refused"]);
        assert!(relay.vanished() && !lab.stored("x.iso").exists());
    }
    lab.changed(json!({"src": src}));
}

#[test]
fn tasks_that_fill_the_storage_or_are_killed_are_errors() {
    for (message, text) in [
        ("No space left on device", "No space left on device"),
        ("unexpected status", "unexpected status"),
        ("received interrupt", "received interrupt"),
    ] {
        let rule =
            json!([{"method": "POST", "path": UPLOAD, "action": "task-fail", "message": message}]);
        let lab = with_faults(rule);
        let result = lab.run(json!({"src": iso_file(&lab, "x.iso", b"content")}));
        assert_failed(
            &result,
            "task_failed",
            &[text, "cannot upload", "pvenode task log UPID"],
        );
    }
}

#[test]
fn a_full_storage_is_found_before_the_transfer() {
    let lab = lab();
    // A file with a hole larger than any storage here.
    let src = lab.path("huge.iso");
    std::fs::write(&src, iso(b"")).unwrap();
    let file = std::fs::File::options().write(true).open(&src).unwrap();
    file.set_len(1 << 43).unwrap();
    assert_snapshot!(lab.refuses(json!({"src": src, "checksum": sha256(b"")})), @"
    no_space: storage local has room for [free] bytes, local:iso/huge.iso needs 8796093022208
      delete old ISOs (proxmox_iso with state: absent takes a pattern as name), or set storage: OTHER
    ");
    assert_eq!(lab.count("POST", "/upload"), 0);
}

#[test]
fn a_wrong_token_is_tried_once_however_slow_the_refusal() {
    let lab = on(Host::start(|options| {
        options.auth_delay = Duration::from_secs(3);
    }));
    let secret = "00000000-0000-0000-0000-000000000000";
    assert_snapshot!(lab.refuses(json!({"src": iso_file(&lab, "x.iso", b"x"), "api_token_secret": secret})), @"
    authentication: cannot list the nodes: GET /nodes: 401 Authentication failed!
      check api_token_id and api_token_secret: no enabled user has a token root@pam!full with this secret, or it has expired
    ");
    assert_eq!(lab.requests().len(), 1);
}

#[test]
fn gateways_that_fail_are_asked_again() {
    let rules = json!([
        {"method": "GET", "path": "/nodes", "nth": 1, "action": "status", "status": 595},
        {"method": "GET", "path": "/nodes/pve/storage", "nth": 1, "action": "status", "status": 596},
        {"method": "GET", "path": "/nodes/pve/storage/local/content", "nth": 1, "action": "drop-before"}
    ]);
    let lab = with_faults(rules);
    lab.changed(json!({"src": iso_file(&lab, "x.iso", b"x")}));
}

#[test]
fn names_and_sizes_of_all_kinds_arrive_whole() {
    let lab = lab();
    let names = [
        "a.iso",
        "x y ä;(1).ISO",
        "-.img",
        "日本.iso",
        "quote\"s.iso",
    ];
    for (size, name) in [0usize, 1, 511, 512, 513].into_iter().zip(names) {
        let body: Vec<u8> = (0..size).map(|i| i as u8).collect();
        let task = json!({"src": lab.file(name, &body), "content_check": false});
        let result = lab.changed(task.clone());
        assert_eq!(result["size"], size);
        let stored = result["volid"]
            .as_str()
            .unwrap()
            .strip_prefix("local:iso/")
            .unwrap();
        assert_eq!(std::fs::read(lab.stored(stored)).unwrap(), body);
        lab.unchanged(task);
    }
}
