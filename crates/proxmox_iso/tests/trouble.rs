//! What goes wrong on the way, and what comes of it.

mod common;

use std::time::Duration;

use common::*;
use module_lab::Host;
use serde_json::{Value, json};

const UPLOAD: &str = "/nodes/pve/storage/local/upload";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_copy_is_waited_for_and_its_size_not_believed() {
    let rule =
        json!([{"method": "POST", "path": UPLOAD, "nth": 1, "action": "slow-copy", "seconds": 3}]);
    let world = World::with_faults(rule);
    let body = iso(&vec![7; 1_000_000]);
    let task = json!({"src": world.file("x.iso", &body), "checksum": sha256(&body)});
    // The second controller comes while the first one's file is listed and still grows.
    let (first, second) = tokio::join!(world.run(task.clone()), async {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while !world.stored("x.iso").exists() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(std::fs::metadata(world.stored("x.iso")).unwrap().len() < 1_000_000);
        world.run_in("other", &[], task.clone()).await
    });
    assert_changed(&first, true);
    assert_changed(&second, false);
    assert_eq!(world.count("POST", "/upload"), 1);
    assert!(std::fs::read(world.stored("x.iso")).unwrap() == body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_controllers_at_once_end_with_one_good_file() {
    let rule = json!([{"method": "POST", "path": UPLOAD, "action": "slow-copy", "seconds": 1.5}]);
    let world = World::with_faults(rule);
    let body = iso(&vec![7; 3_000_000]);
    let task = json!({"src": world.file("x.iso", &body), "checksum": sha256(&body)});
    let (a, b) = tokio::join!(
        world.run_in("one", &[], task.clone()),
        world.run_in("two", &[], task.clone())
    );
    for result in [a, b] {
        assert!(result.get("failed").is_none(), "{result}");
    }
    assert!(std::fs::read(world.stored("x.iso")).unwrap() == body);
    for home in ["one", "two"] {
        assert_changed(&world.run_in(home, &[], task.clone()).await, false);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_hosts_cause_one_transfer() {
    let world = World::new();
    let body = iso(&vec![9; 2_000_000]);
    let task = json!({"src": world.file("x.iso", &body), "checksum": sha256(&body)});
    let forks = tokio::sync::Semaphore::new(20);
    let runs = (0..100).map(|_| async {
        let _fork = forks.acquire().await.unwrap();
        world.run(task.clone()).await
    });
    let results: Vec<Value> = futures_util::future::join_all(runs).await;
    assert!(results.iter().all(|result| result.get("failed").is_none()));
    assert_eq!(
        results
            .iter()
            .filter(|result| result["changed"] == true)
            .count(),
        1
    );
    assert_eq!(world.count("POST", "/upload"), 1);
    assert!(std::fs::read(world.stored("x.iso")).unwrap() == body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_whose_answer_is_596_is_settled_by_its_task() {
    let rule = json!([{"method": "POST", "path": UPLOAD, "nth": 1, "action": "596-after-effect"}]);
    let world = World::with_faults(rule);
    let src = world.iso("x.iso", &vec![3; 100_000]);
    assert_changed(&world.run(json!({"src": src})).await, true);
    assert_eq!(world.count("POST", "/upload"), 1);
    assert_changed(&world.run(json!({"src": src})).await, false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_vanishes_within_the_upload_changes_nothing() {
    let rule =
        json!([{"method": "POST", "path": UPLOAD, "nth": 1, "times": 2, "action": "drop-before"}]);
    let world = World::with_faults(rule);
    let src = world.iso("x.iso", &vec![3; 20_000_000]);
    let lost = world.run(json!({"src": src})).await;
    assert_failed(
        &lost,
        "connection_lost",
        &[
            "cannot upload",
            "x.iso",
            "127.0.0.1",
            "20000000 bytes were sent",
        ],
    );
    assert!(!world.stored("x.iso").exists());
    assert_changed(&world.run(json!({"src": src})).await, true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_was_cut_short_is_sent_again() {
    let rule = json!([{"method": "POST", "path": UPLOAD, "nth": 1, "action": "drop-before"}]);
    let world = World::with_faults(rule);
    let body = iso(&vec![3; 20_000_000]);
    let result = world.run(json!({"src": world.file("x.iso", &body)})).await;
    assert_changed(&result, true);
    assert!(std::fs::read(world.stored("x.iso")).unwrap() == body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_did_not_happen_is_sent_again() {
    // It got all of it, lost it, and said that it may have done something.
    let rule =
        json!([{"method": "POST", "path": UPLOAD, "nth": 1, "action": "status", "status": 596}]);
    let world = World::with_faults(rule);
    let src = world.iso("x.iso", &vec![3; 100_000]);
    assert_changed(&world.run(json!({"src": src})).await, true);
    assert_eq!(world.count("POST", "/upload"), 2);
}

/// Numbers that look random and are the same each time (Knuth's MMIX generator).
fn random(seed: u64, below: u64) -> u64 {
    let step = |n: u64| {
        n.wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407)
    };
    (step(step(seed)) >> 20) % below
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_vanishes_at_any_byte_is_followed_by_the_next() {
    const SIZE: u64 = 3_000_000;
    let world = World::new();
    let port = u16::try_from(world.endpoint["api_port"].as_u64().unwrap()).unwrap();
    let body: Vec<u8> = (0..SIZE).map(|i| (i * 31 / 8) as u8).collect();
    let body = iso(&body);
    let url = serve(&body).await;
    for seed in 0..8 {
        // The first bytes are of the questions before, the last of the upload's end.
        let relay = Relay::start(port, 1 + random(seed, SIZE + 10_000)).await;
        let name = format!("{seed}.iso");
        let mut options = json!({
            "api_host": [Relay::HOST, world.endpoint["api_host"]], "checksum": sha256(&body), "name": name,
        });
        match seed % 2 {
            0 => options["src"] = json!(world.file("x.iso", &body)),
            _ => {
                options["url"] = json!(url);
                options["download_by"] = json!("controller");
            }
        }
        let result = world.run(options).await;
        assert_changed(&result, true);
        assert!(relay.vanished(), "seed {seed}");
        assert!(
            std::fs::read(world.stored(&name)).unwrap() == body,
            "seed {seed}"
        );
    }
    let tmp = world.path("pve/tmp");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while std::fs::read_dir(&tmp).unwrap().count() > 0 {
        assert!(tokio::time::Instant::now() < deadline, "{tmp:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_host_that_vanishes_at_any_byte_leaves_nothing() {
    const SIZE: u64 = 3_000_000;
    let world = World::new();
    let port = u16::try_from(world.endpoint["api_port"].as_u64().unwrap()).unwrap();
    let src = world.iso("x.iso", &vec![5; SIZE as usize]);
    for seed in [10, 11] {
        let relay = Relay::start(port, 100_000 + random(seed, SIZE - 200_000)).await;
        let result = world
            .run(json!({"src": src, "api_host": Relay::HOST, "timeout": 40}))
            .await;
        assert_failed(&result, "unreachable", &[Relay::HOST, "Connection refused"]);
        assert!(relay.vanished() && !world.stored("x.iso").exists());
    }
    assert_changed(&world.run(json!({"src": src})).await, true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_fill_the_storage_or_are_killed_are_errors() {
    for (message, text) in [
        ("No space left on device", "No space left on device"),
        ("unexpected status", "unexpected status"),
        ("received interrupt", "received interrupt"),
    ] {
        let rule =
            json!([{"method": "POST", "path": UPLOAD, "action": "task-fail", "message": message}]);
        let world = World::with_faults(rule);
        let result = world
            .run(json!({"src": world.iso("x.iso", b"content")}))
            .await;
        assert_failed(
            &result,
            "task_failed",
            &[text, "cannot upload", "pvenode task log UPID"],
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_storage_is_found_before_the_transfer() {
    let world = World::new();
    // A file with a hole larger than any storage here.
    let src = world.path("huge.iso");
    std::fs::write(&src, iso(b"")).unwrap();
    let file = std::fs::File::options().write(true).open(&src).unwrap();
    file.set_len(1 << 43).unwrap();
    let result = world
        .run(json!({"src": src, "checksum": sha256(b"")}))
        .await;
    assert_failed(&result, "no_space", &["8796093022208", "has room for"]);
    assert_eq!(world.count("POST", "/upload"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_token_is_tried_once_however_slow_the_refusal() {
    let world = World::on(Host::start(|options| {
        options.auth_delay = Duration::from_secs(3);
    }));
    let secret = "00000000-0000-0000-0000-000000000000";
    let result = world
        .run(json!({"src": world.iso("x.iso", b"x"), "api_token_secret": secret}))
        .await;
    assert_failed(&result, "authentication", &["401", "api_token_secret"]);
    assert_eq!(world.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_that_fail_are_asked_again() {
    let rules = json!([
        {"method": "GET", "path": "/nodes", "nth": 1, "action": "status", "status": 595},
        {"method": "GET", "path": "/nodes/pve/storage", "nth": 1, "action": "status", "status": 596},
        {"method": "GET", "path": "/nodes/pve/storage/local/content", "nth": 1, "action": "drop-before"}
    ]);
    let world = World::with_faults(rules);
    assert_changed(
        &world.run(json!({"src": world.iso("x.iso", b"x")})).await,
        true,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_sizes_of_all_kinds_arrive_whole() {
    let world = World::new();
    let names = [
        "a.iso",
        "x y ä;(1).ISO",
        "-.img",
        "日本.iso",
        "quote\"s.iso",
    ];
    for (size, name) in [0usize, 1, 511, 512, 513].into_iter().zip(names) {
        let body: Vec<u8> = (0..size).map(|i| i as u8).collect();
        let task = json!({"src": world.file(name, &body), "content_check": false});
        let result = world.run(task.clone()).await;
        assert_changed(&result, true);
        assert_eq!(result["size"], size);
        let stored = result["volid"]
            .as_str()
            .unwrap()
            .strip_prefix("local:iso/")
            .unwrap();
        assert_eq!(std::fs::read(world.stored(stored)).unwrap(), body);
        assert_changed(&world.run(task).await, false);
    }
}
