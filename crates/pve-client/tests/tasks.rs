//! Tasks and uploads.

mod common;

use common::{Answer, Server, deadline, json, ok, soon};
use pve_client::{Error, Params, Upload, sha256_file};

const UPID: &str = "UPID:pve:0000556F:000535B1:6B02F7CE:qmstart:190:root@pam!t:";

fn status(status: &str, exitstatus: Option<&str>) -> Answer {
    let exit = exitstatus
        .map(|text| format!(r#","exitstatus":"{text}""#))
        .unwrap_or_default();
    ok(&format!(r#"{{"status":"{status}"{exit}}}"#))
}

#[tokio::test]
async fn a_task_is_awaited() {
    let server = Server::start([
        status("running", None),
        status("running", None),
        status("stopped", Some("WARNINGS: 2")),
    ])
    .await;
    let mut ticks = 0;
    let result = server
        .client()
        .task(UPID, &deadline(), |_| ticks += 1)
        .await
        .unwrap();
    assert_eq!((result.warnings, ticks), (2, 2));
    assert_eq!(
        server.lines()[0],
        "GET /api2/json/nodes/pve/tasks/UPID%3Apve%3A0000556F%3A000535B1%3A6B02F7CE%3Aqmstart%3A190%3Aroot%40pam%21t%3A/status"
    );
}

#[tokio::test]
async fn a_failed_task_tells_why_at_once() {
    let log =
        ok(r#"[{"n":1,"t":"starting"},{"n":2,"t":"TASK ERROR: bridge 'vmbr0' does not exist"}]"#);
    let server = Server::start([
        status("stopped", Some("bridge 'vmbr0' does not exist")),
        log,
    ])
    .await;
    match server
        .client()
        .task(UPID, &deadline(), |_| ())
        .await
        .unwrap_err()
    {
        Error::Task(failure) => {
            assert_eq!(
                failure.to_string(),
                "task qmstart 190 on pve failed: bridge 'vmbr0' does not exist"
            );
            assert_eq!(
                failure.log.last().unwrap(),
                "TASK ERROR: bridge 'vmbr0' does not exist"
            );
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_task_that_does_not_end_is_named() {
    for looked_at in [status("running", None), Answer::Silence] {
        let server = Server::start([looked_at]).await;
        let error = server
            .client()
            .task(UPID, &soon(), |_| ())
            .await
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("for the task qmstart 190 to end"),
            "{error}"
        );
        assert!(error.may_have_happened());
    }
}

#[tokio::test]
async fn a_task_that_could_not_get_the_lock_is_started_again() {
    let locked = "can't lock file '/var/lock/qemu-server/lock-190.conf' - got timeout";
    let server = Server::start([
        ok(&format!(r#""{UPID}""#)),
        status("stopped", Some(locked)),
        ok("[]"),
        ok(&format!(r#""{UPID}""#)),
        status("stopped", Some("OK")),
    ])
    .await;
    server
        .client()
        .post_task(
            "/nodes/pve/qemu/190/status/start",
            &Params::new(),
            &deadline(),
            |_| (),
        )
        .await
        .unwrap();
    assert_eq!(
        server
            .lines()
            .iter()
            .filter(|line| line.starts_with("POST"))
            .count(),
        2
    );
}

#[tokio::test]
async fn an_upload_is_written_as_pveproxy_parses_it() {
    let upid = "UPID:pve:1:2:3:imgcopy::root@pam!t:";
    let server = Server::start([ok("1"), ok(&format!(r#""{upid}""#))]).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("big");
    // Larger than all buffers on the way, and no multiple of any.
    let data: Vec<u8> = (0..3_000_001u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    std::fs::write(&file, &data).unwrap();
    let digest = sha256_file(&file).await.unwrap();
    let mut last = (0, 0);
    let upload = Upload::iso_file("my nixos.iso", &file, &digest.sha256);
    let got = server
        .client()
        .upload("pve", "local", &upload, &deadline(), |sent, size| {
            last = (sent, size)
        })
        .await
        .unwrap();
    assert_eq!(
        (got.to_string().as_str(), last),
        (upid, (digest.size, digest.size))
    );

    let request = &server.requests()[1];
    assert_eq!(
        request.line,
        format!(
            "POST /api2/json/nodes/pve/storage/local/upload?content=iso&checksum-algorithm=sha256&checksum={}",
            digest.sha256
        )
    );
    assert!(
        !request
            .head
            .to_ascii_lowercase()
            .contains("transfer-encoding")
    );
    let boundary = request
        .head
        .split("boundary=")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap();
    assert!(!boundary.contains('"'));
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"my_nixos.iso\"\r\nContent-Type: application/octet-stream\r\n\r\n"
    );
    let body = request.body.strip_prefix(head.as_bytes()).unwrap();
    let body = body
        .strip_suffix(format!("\r\n--{boundary}--\r\n").as_bytes())
        .unwrap();
    assert!(body == data);
}

#[tokio::test]
async fn an_upload_refused_early_says_why() {
    let refused = "HTTP/1.1 403 Permission check failed (/storage/local, Datastore.AllocateTemplate)\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let server = Server::start([ok("1"), Answer::Early(refused.into())]).await;
    let upload = Upload::iso_bytes("x.iso", vec![7; 20_000_000]);
    let error = server
        .client()
        .upload("pve", "local", &upload, &deadline(), |_, _| ())
        .await
        .unwrap_err();
    assert_eq!(
        error.missing_privilege(),
        Some(("/storage/local", "Datastore.AllocateTemplate")),
        "{error}"
    );
}

#[tokio::test]
async fn an_upload_that_broke_off_is_not_repeated() {
    let server = Server::start([ok("1"), Answer::Close]).await;
    let upload = Upload::iso_bytes("x.iso", vec![7; 1000]);
    let error = server
        .client()
        .upload("pve", "local", &upload, &deadline(), |_, _| ())
        .await
        .unwrap_err();
    // All was sent: only the storage can tell.
    assert!(error.may_have_happened(), "{error}");
    assert_eq!(server.lines().len(), 2);
}

#[tokio::test]
async fn bad_names_and_files_are_refused_before_anything_is_sent() {
    let server = Server::start([json("500 never", "")]).await;
    let client = server.client();
    let name = client
        .upload(
            "pve",
            "local",
            &Upload::iso_bytes("x.qcow2", vec![1]),
            &deadline(),
            |_, _| (),
        )
        .await;
    assert!(matches!(name, Err(Error::Settings(_))));
    assert!(server.requests().is_empty());
    let server = Server::start([ok("1")]).await;
    let missing = Upload::iso_file("x.iso", std::path::Path::new("/does/not/exist"), "00");
    let missing = server
        .client()
        .upload("pve", "local", &missing, &deadline(), |_, _| ())
        .await;
    assert!(matches!(missing, Err(Error::File { .. })), "{missing:?}");
    assert_eq!(server.lines(), ["GET /api2/json/version"]);
}

#[tokio::test]
async fn a_ticket_that_ends_within_a_long_task_is_renewed() {
    let ticket = |name: &str| {
        ok(&format!(
            r#"{{"ticket":"PVE:root@pam:{name}","CSRFPreventionToken":"c","username":"root@pam"}}"#
        ))
    };
    let expired = Answer::Raw(
        "HTTP/1.1 401 permission denied - invalid PVE ticket\r\nContent-Length: 0\r\n\r\n".into(),
    );
    let server = Server::start([
        ticket("1"),
        status("running", None),
        expired,
        ticket("2"),
        status("stopped", Some("OK")),
    ])
    .await;
    let client = pve_client::Client::new(pve_client::Settings {
        credential: pve_client::Credential::Password {
            user: "root@pam".into(),
            password: "p".into(),
        },
        ..server.settings()
    })
    .unwrap();
    client
        .task("UPID:pve:1:2:3:imgcopy::root@pam:", &deadline(), |_| ())
        .await
        .unwrap();
    let logins = server
        .lines()
        .into_iter()
        .filter(|line| line.starts_with("POST"));
    assert_eq!(logins.count(), 2);
}

#[tokio::test]
async fn a_pooled_connection_is_not_used_after_pve_may_have_closed_it() {
    let server = Server::start([ok("1")]).await;
    let client = server.client();
    client.get("/version", &[], &deadline()).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(3500)).await;
    client.get("/version", &[], &deadline()).await.unwrap();
    let connections: Vec<_> = server.requests().iter().map(|r| r.connection).collect();
    assert_eq!(connections, [0, 1]);
}

#[tokio::test]
async fn the_head_of_an_uploads_part_is_written_in_one_piece() {
    // The server's first read of the body must hold the whole head, however the body goes on.
    let server = Server::start([ok("1"), ok(r#""UPID:pve:1:2:3:imgcopy::root@pam!t:""#)]).await;
    for size in [0usize, 1, 511, 512] {
        let upload = Upload::iso_bytes("x.iso", vec![7; size]);
        server
            .client()
            .upload("pve", "local", &upload, &deadline(), |_, _| ())
            .await
            .unwrap();
    }
    let uploads: Vec<_> = server
        .requests()
        .into_iter()
        .filter(|r| !r.body.is_empty())
        .collect();
    assert_eq!(uploads.len(), 4);
    for upload in uploads {
        let text = String::from_utf8_lossy(&upload.body).into_owned();
        let head = text.find("\r\n\r\n").unwrap();
        assert!(
            text[..head].contains(
                "Content-Disposition: form-data; name=\"filename\"; filename=\"x.iso\"\r\n"
            )
        );
        assert!(
            upload
                .body_splits
                .iter()
                .all(|split| *split == 0 || *split >= head + 4),
            "{:?}",
            upload.body_splits
        );
    }
}
