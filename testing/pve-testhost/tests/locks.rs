//! What a `lock: ...` in a configuration refuses.

mod support;

use support::Host;

const VM: &str = "/nodes/pve/qemu/101";

fn lock(host: &Host, lock: &str) {
    let file = host.dir.path().join("qemu-server/101.conf");
    let text = std::fs::read_to_string(&file).expect("a config");
    let rest: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("lock:"))
        .collect();
    std::fs::write(&file, format!("lock: {lock}\n{}\n", rest.join("\n"))).expect("written");
}

#[tokio::test]
async fn lock_backup_and_every_other_lock_refuses_change_start_delete() {
    let host = Host::start().await;
    host.create(
        101,
        "scsi0=local%3A0.0625%2Cformat%3Dqcow2&ide0=local%3Acloudinit",
    )
    .await;
    for name in [
        "backup",
        "clone",
        "create",
        "migrate",
        "rollback",
        "snapshot",
        "snapshot-delete",
        "suspending",
    ] {
        lock(&host, name);
        let text = format!("VM is locked ({name})");
        for (method, path, form) in [
            ("PUT", "/config", "memory=64"),
            ("POST", "/config", "memory=64"),
            ("PUT", "/resize", "disk=scsi0&size=%2B1M"),
            ("PUT", "/unlink", "idlist=scsi0"),
            ("POST", "/template", ""),
            ("POST", "/clone", "newid=102"),
            ("POST", "/move_disk", "disk=scsi0&storage=local-zfs"),
        ] {
            let answer = host.call(method, &format!("{VM}{path}"), form).await;
            assert_eq!(
                (answer.status, answer.reason),
                (500, text.clone()),
                "{path}"
            );
        }
        for (method, path, form) in [
            ("POST", "/status/start", ""),
            ("DELETE", "", ""),
            ("POST", "/snapshot", "snapname=s1"),
        ] {
            assert_eq!(
                host.run(method, &format!("{VM}{path}"), form).await,
                text,
                "{path}"
            );
        }
        let listed = host.good("GET", "/cluster/resources", "type=vm").await;
        assert_eq!(listed[0]["lock"], name);
    }
    // A running VM does not stop either.
    lock(&host, "suspended");
    assert_eq!(
        host.run("POST", &format!("{VM}/status/start"), "").await,
        "OK"
    );
    lock(&host, "backup");
    for path in ["stop", "shutdown", "reset", "reboot"] {
        assert_eq!(
            host.run("POST", &format!("{VM}/status/{path}"), "").await,
            "VM is locked (backup)",
            "{path}"
        );
    }
}

#[tokio::test]
async fn skiplock_is_for_root_himself_only() {
    let host = Host::start().await;
    host.create(101, "").await;
    lock(&host, "backup");
    let refusal = "Only root may use this option.";
    for (method, path) in [
        ("PUT", "/config"),
        ("POST", "/status/start"),
        ("DELETE", ""),
    ] {
        let answer = host
            .call(method, &format!("{VM}{path}"), "skiplock=1")
            .await;
        assert_eq!(answer.json()["errors"]["skiplock"], refusal, "{path}");
    }
    let headers = host.ticket().await;
    let headers = format!("{headers}Content-Type: application/x-www-form-urlencoded\r\n");
    for (method, path, body) in [
        ("POST", "/status/start", "skiplock=1"),
        ("PUT", "/config", "skiplock=1&memory=64"),
        ("POST", "/status/stop", "skiplock=1"),
        ("PUT", "/config", "skiplock=1&delete=lock"),
    ] {
        let answer = host
            .raw(method, &format!("{VM}{path}"), &headers, body.as_bytes())
            .await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200, "{path}: {}", answer.reason);
        if path.starts_with("/status") {
            assert_eq!(host.task(&answer.data()).await, "OK", "{path}");
        }
    }
    let config = host.config(101).await;
    assert!(config["lock"].is_null(), "{config}");
    assert_eq!(config["memory"], "64");
}
