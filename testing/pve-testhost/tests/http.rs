//! The HTTP layer and uploads, byte by byte where that matters.

mod support;

use serde_json::json;
use sha2::{Digest, Sha256};
use support::{Answer, Host};

#[tokio::test]
async fn who_gets_in() {
    let host = Host::start().await;
    let token = host.token("root");
    let blank = token.replacen("PVEAPIToken=", "PVEAPIToken ", 1);
    let wrong = token.replace("full=", "full=x");
    for (headers, status, reason) in [
        ("", 401, "No ticket"),
        (token.as_str(), 200, "OK"),
        (blank.as_str(), 200, "OK"),
        (wrong.as_str(), 401, "Authentication failed!"),
        (
            "Authorization: PVEAPIToken=nonsense\r\n",
            401,
            "Authentication failed!",
        ),
        ("Authorization: Bearer x\r\n", 401, "No ticket"),
    ] {
        let answer = host
            .raw("GET", "/version", headers, b"")
            .await
            .expect("an answer");
        assert_eq!(
            (answer.status, answer.reason.as_str()),
            (status, reason),
            "{headers}"
        );
        assert_eq!(answer.body.is_empty(), status == 401);
    }
    assert_eq!(
        host.raw("GET", "/access/domains", "", b"")
            .await
            .map(|answer| answer.status),
        Some(200)
    );
}

#[tokio::test]
async fn tickets() {
    let host = Host::start().await;
    let password = host.endpoint["api_password"]
        .as_str()
        .expect("a password")
        .to_owned();
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let login = |body: String| {
        let host = &host;
        async move {
            host.raw("POST", "/access/ticket", form, body.as_bytes())
                .await
                .expect("an answer")
        }
    };
    for body in [
        "username=root&password=x",
        "username=root%40pam&password=wrong",
        "username=nobody%40pve&password=wrong",
    ] {
        let answer = login(body.into()).await;
        assert_eq!(
            (answer.status, answer.reason.as_str()),
            (401, "authentication failure"),
            "{body}"
        );
        assert_eq!(answer.json()["message"], "authentication failure\n");
    }
    assert_eq!(
        login("username=root%40pam".into()).await.json()["errors"]["password"],
        "property is missing and it is not optional"
    );
    let data = login(format!("username=root&realm=pam&password={password}"))
        .await
        .data();
    let (ticket, csrf) = (
        data["ticket"].as_str().expect("a ticket"),
        data["CSRFPreventionToken"].as_str().expect("a token"),
    );
    assert_eq!(data["cap"]["vms"]["VM.Allocate"], 1);
    let encoded: String = ticket.bytes().map(|byte| format!("%{byte:02X}")).collect();
    for headers in [
        format!("Cookie: PVEAuthCookie={ticket}\r\n"),
        format!("Cookie: x=y; PVEAuthCookie={encoded}\r\n"),
        format!("Authorization: PVEAuthCookie={ticket}\r\n"),
    ] {
        assert_eq!(
            host.raw("GET", "/version", &headers, b"")
                .await
                .map(|answer| answer.status),
            Some(200),
            "{headers}"
        );
    }
    let cookie = format!("Cookie: PVEAuthCookie={ticket}\r\n{form}");
    for (extra, status) in [
        (String::new(), 401),
        ("CSRFPreventionToken: x:y\r\n".into(), 401),
        (format!("CSRFPreventionToken: {csrf}\r\n"), 200),
    ] {
        let answer = host
            .raw(
                "POST",
                "/nodes/pve/qemu",
                &format!("{cookie}{extra}"),
                b"vmid=100&args=-x",
            )
            .await
            .expect("an answer");
        assert_eq!(answer.status, status);
        if status == 401 {
            assert_eq!(answer.reason, "Permission denied - invalid csrf token");
        }
    }
    // A ticket as a password renews it; a foreign one is nothing.
    assert_eq!(
        login(format!("username=root%40pam&password={encoded}"))
            .await
            .status,
        200
    );
    assert_eq!(
        host.raw(
            "GET",
            "/version",
            "Cookie: PVEAuthCookie=PVE:root@pam:00000000::x\r\n",
            b""
        )
        .await
        .map(|answer| answer.status),
        Some(401)
    );
}

#[tokio::test]
async fn methods_paths_and_bodies() {
    let host = Host::start().await;
    let token = host.token("root");
    for (method, path, status, reason) in [
        ("PATCH", "/version", 501, "method 'PATCH' not available"),
        ("HEAD", "/version", 501, "method 'HEAD' not available"),
        (
            "POST",
            "/version",
            501,
            "Method 'POST /version' not implemented",
        ),
        (
            "GET",
            "/nosuchpath",
            501,
            "Method 'GET /nosuchpath' not implemented",
        ),
        ("GET", "//nodes//pve/qemu/", 200, "OK"),
        ("GET", "/nodes/localhost/qemu", 200, "OK"),
        (
            "GET",
            "/nodes/pve/storage/nope/status",
            400,
            "Parameter verification failed.",
        ),
        (
            "GET",
            "/nodes/pve/storage/nope/content",
            500,
            "storage 'nope' does not exist",
        ),
        (
            "GET",
            "/nodes/pve/qemu/100/config",
            500,
            "Configuration file 'nodes/pve/qemu-server/100.conf' does not exist",
        ),
    ] {
        let answer = host
            .raw(method, path, &token, b"")
            .await
            .expect("an answer");
        assert_eq!(
            (answer.status, answer.reason.as_str()),
            (status, reason),
            "{method} {path}"
        );
    }
    let form = format!("{token}Content-Type: application/x-www-form-urlencoded\r\n");
    let with_body = |method: &'static str, headers: String, body: Vec<u8>| {
        let host = &host;
        async move {
            host.raw(method, "/nodes/pve/qemu", &headers, &body)
                .await
                .expect("an answer")
                .reason
        }
    };
    assert_eq!(
        with_body("DELETE", form.clone(), b"x=1".to_vec()).await,
        "Unexpected content for method 'DELETE'"
    );
    assert_eq!(
        with_body("POST", form, vec![b'a'; 600_000]).await,
        "for data too large"
    );
    let text = format!("{token}Content-Type: text/plain\r\n");
    assert_eq!(
        with_body("POST", text, b"x".to_vec()).await,
        "upload 'Content-Type 'text/plain' not implemented"
    );
    let chunked = format!("{token}Transfer-Encoding: chunked\r\n");
    assert_eq!(
        with_body("POST", chunked, Vec::new()).await,
        "chunked transfer encoding not supported"
    );
    let json = format!("{token}Content-Type: application/json\r\n");
    assert!(
        with_body("POST", json, b"{".to_vec())
            .await
            .starts_with("malformed JSON string")
    );
    // Relayed calls say both.
    let relayed = host.call("GET", "/nodes/pve/qemu", "").await;
    assert!(
        relayed.head.contains("Connection: close\r\n")
            && relayed.head.contains("Connection: Keep-Alive\r\n")
    );
}

#[tokio::test]
async fn keep_alive_ends_at_the_hundredth_request() {
    let host = Host::start().await;
    let mut connection = host.connect().await;
    let request = format!(
        "GET /api2/json/version HTTP/1.1\r\nHost: pve\r\n{}\r\n",
        host.token("root")
    );
    for n in 1..=100 {
        connection.send(request.as_bytes()).await;
        let answer = connection.answer().await.expect("an answer");
        assert_eq!(
            answer.head.contains("Connection: close"),
            n == 100,
            "request {n}"
        );
    }
    assert!(connection.answer().await.is_none());
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let host = Host::start().await;
    let mut connection = host.connect().await;
    connection
        .send(
            format!(
                "GET /api2/json/version HTTP/1.1\r\nHost: pve\r\n{}\r\n",
                host.token("root")
            )
            .as_bytes(),
        )
        .await;
    assert!(connection.answer().await.is_some());
    assert!(connection.answer().await.is_none());
}

fn field(name: &str, value: &str) -> String {
    format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

fn file(name: &str) -> String {
    format!(
        "--b\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"{name}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
    )
}

/// Upload a body sent in these pieces, each a TLS record of its own.
async fn upload(host: &Host, target: &str, pieces: &[&str]) -> Option<Answer> {
    let mut connection = host.connect().await;
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    let head = format!(
        "POST /api2/json/nodes/pve/storage/{target} HTTP/1.1\r\nHost: pve\r\n{}Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {length}\r\n\r\n",
        host.token("root")
    );
    connection.send(head.as_bytes()).await;
    for piece in pieces {
        connection.send(piece.as_bytes()).await;
    }
    connection.answer().await
}

#[tokio::test]
async fn uploads() {
    let host = Host::start().await;
    let sum = hex::encode(Sha256::digest(b"DATA"));
    let fields = format!(
        "{}{}{}",
        field("content", "iso"),
        field("checksum-algorithm", "sha256"),
        field("checksum", &sum.to_uppercase())
    );
    let end = "\r\n--b--\r\n";
    let answer = upload(
        &host,
        "local/upload",
        &[&format!(
            "{fields}{}DATA{end}",
            file("../x/na me+ä;(1).iso")
        )],
    )
    .await
    .expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    let upid = answer.data();
    assert!(
        upid.as_str()
            .is_some_and(|upid| upid.contains(":imgcopy::root@pam!full:"))
    );
    assert_eq!(host.task(&upid).await, "OK");
    let log = host.log(&upid).await;
    assert!(
        log.iter()
            .any(|line| line.starts_with("target file: ") && line.ends_with("/na_me____1_.iso")),
        "{log:?}"
    );
    assert!(
        log.contains(&"calculating checksum...OK, checksum verified".to_owned()),
        "{log:?}"
    );
    let list = host
        .good("GET", "/nodes/pve/storage/local/content", "content=iso")
        .await;
    assert_eq!(
        (&list[0]["volid"], &list[0]["size"]),
        (&json!("local:iso/na_me____1_.iso"), &json!(4))
    );
    // One volume's size is rounded up.
    assert_eq!(
        host.good(
            "GET",
            "/nodes/pve/storage/local/content/local:iso/na_me____1_.iso",
            ""
        )
        .await["size"],
        512
    );
    let missing = host
        .call(
            "GET",
            "/nodes/pve/storage/local/content/local:iso/none.iso",
            "",
        )
        .await;
    assert_eq!(
        missing.reason,
        "volume_size_info on 'local:iso/none.iso' failed - no format"
    );

    // A wrong checksum shows in the task only, and the old file stays.
    let wrong = fields.replace(&sum.to_uppercase(), &"0".repeat(64));
    let answer = upload(
        &host,
        "local/upload",
        &[&format!("{wrong}{}OTHER{end}", file("na_me____1_.iso"))],
    )
    .await
    .expect("an answer");
    assert!(
        host.task(&answer.data())
            .await
            .starts_with("checksum mismatch: got '")
    );
    let stored = host.storage("local/template/iso/na_me____1_.iso");
    assert_eq!(
        std::fs::read(&stored).ok().as_deref(),
        Some(b"DATA".as_slice())
    );
    // Scalars in the query.
    let target = format!("local/upload?content=iso&checksum-algorithm=sha256&checksum={sum}");
    let answer = upload(&host, &target, &[&format!("{}DATA{end}", file("q.iso"))])
        .await
        .expect("an answer");
    assert_eq!(host.task(&answer.data()).await, "OK");
    // The file's header split after its name: the rest of it is stored.
    let part = file("split.iso");
    let at = part.find("\r\nContent-Type").expect("a second header");
    let pieces = [
        &*format!("{}{}", field("content", "iso"), &part[..at]),
        &*format!("{}DATA{end}", &part[at..]),
    ];
    let answer = upload(&host, "local/upload", &pieces)
        .await
        .expect("an answer");
    assert_eq!(host.task(&answer.data()).await, "OK");
    assert!(
        std::fs::read(host.storage("local/template/iso/split.iso"))
            .is_ok_and(|bytes| bytes.len() > 4 && bytes.ends_with(b"DATA"))
    );

    let body = |fields: &str, name: &str| format!("{fields}{}DATA{end}", file(name));
    let iso = field("content", "iso");
    for (target, body, status, reason) in [
        (
            "local/upload",
            body(&iso, "x.txt"),
            400,
            "Parameter verification failed.",
        ),
        (
            "local/upload",
            body("", "x.iso"),
            400,
            "Parameter verification failed.",
        ),
        (
            "local/upload",
            body(&field("content", "snippets"), "x.iso"),
            400,
            "Parameter verification failed.",
        ),
        (
            "local/upload",
            body(&format!("{}{iso}", field("other", "1")), "x.iso"),
            400,
            "Bad Request",
        ),
        (
            "local/upload",
            body(&iso, "x.iso").replace("name=\"filename\"", "name=\"file\""),
            500,
            "wrong field name 'file' for file upload, expected 'filename'",
        ),
        (
            "local/upload",
            body(&iso, "x.iso").replace("--b--", ""),
            500,
            "upload failed",
        ),
        (
            "noiso/upload",
            body(&iso, "x.iso"),
            500,
            "storage 'noiso' does not support 'iso' content",
        ),
        (
            "off/upload",
            body(&iso, "x.iso"),
            500,
            "storage 'off' is disabled",
        ),
        (
            "nope/upload",
            body(&iso, "x.iso"),
            500,
            "storage 'nope' does not exist",
        ),
    ] {
        let answer = upload(&host, target, &[&body]).await.expect("an answer");
        assert_eq!(
            (answer.status, answer.reason.as_str()),
            (status, reason),
            "{target} {body}"
        );
    }
    assert!(
        upload(
            &host,
            "local/upload?tmpfilename=/var/tmp/x",
            &[&body(&iso, "x.iso")]
        )
        .await
        .is_none()
    );
    let denied = host
        .raw(
            "POST",
            "/nodes/pve/storage/local/upload",
            &format!(
                "{}Content-Type: multipart/form-data; boundary=b\r\n",
                host.token("empty")
            ),
            b"--b",
        )
        .await;
    assert_eq!(
        denied.map(|answer| (answer.status, answer.body.len())),
        Some((403, 0))
    );
    assert!(
        host.raw(
            "POST",
            "/nodes/pve/storage/local/upload",
            &host.token("root"),
            b"x"
        )
        .await
        .is_none()
    );
}

#[tokio::test]
async fn deleting_content() {
    let host = Host::start().await;
    host.iso("x.iso", 10);
    let path = "/nodes/pve/storage/local/content";
    assert_eq!(
        host.call("DELETE", &format!("{path}/noiso:iso/x.iso"), "")
            .await
            .json()["errors"]["volume"],
        "storage ID mismatch (noiso != local)"
    );
    assert_eq!(
        host.good("DELETE", &format!("{path}/local%3Aiso%2Fx.iso"), "delay=5")
            .await,
        json!(null)
    );
    assert!(!host.storage("local/template/iso/x.iso").exists());
    // What is not there is deleted with success.
    assert_eq!(
        host.run("DELETE", &format!("{path}/iso/x.iso"), "").await,
        "OK"
    );
}

#[tokio::test]
async fn the_data_directory_outlives_the_host() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || async {
        pve_testhost::Server::open(pve_testhost::Options::simulated(dir.path()))
            .await
            .expect("the host opens")
    };
    let first = open().await.endpoint;
    let second = open().await.endpoint;
    for key in ["tls_fingerprint", "api_token_secret", "api_password"] {
        assert_eq!(first[key], second[key]);
    }
    use std::os::unix::fs::PermissionsExt;
    for name in [
        "endpoint.json",
        "credentials.json",
        "access.json",
        "pve-ssl.key",
        "requests.jsonl",
        "authkey",
    ] {
        let mode = std::fs::metadata(dir.path().join(name))
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}
