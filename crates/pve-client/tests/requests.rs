//! Answers, retries, trust and tickets against a server that misbehaves as PVE does.

mod common;

use common::{Answer, Server, deadline, json, ok, soon};
use pve_client::{Client, Credential, Error, Params, Tls};

#[tokio::test]
async fn the_token_is_sent_and_data_returned() {
    let server = Server::start([ok(r#"{"release":"9.2"}"#)]).await;
    let data = server
        .client()
        .get("/version", &[], &deadline())
        .await
        .unwrap();
    assert_eq!(data["release"], "9.2");
    assert!(
        server.requests()[0]
            .head
            .contains("PVEAPIToken=root@pam!t=the-secret")
    );
}

#[tokio::test]
async fn a_message_only_in_the_reason_phrase_is_read() {
    let server = Server::start([json(
        "500 storage 'nope' does not exist",
        r#"{"data":null}"#,
    )])
    .await;
    let error = server
        .client()
        .get("/x", &[], &deadline())
        .await
        .unwrap_err();
    assert_eq!(error.pve_message(), Some("storage 'nope' does not exist"));
    assert!(error.not_found());
    assert_eq!(
        error.to_string(),
        "GET /x: 500 storage 'nope' does not exist"
    );
}

#[tokio::test]
async fn parameters_errors_and_lines_are_kept() {
    let body = r#"{"data":null,"message":"Parameter verification failed.\n","errors":{"net0":"invalid format - a\nb\n","vmid":"x"}}"#;
    let server = Server::start([json("400 Parameter verification failed.", body)]).await;
    let error = server
        .client()
        .post("/x", &Params::new().with("a", 1), &deadline())
        .await
        .unwrap_err();
    assert_eq!(error.status(), Some(400));
    assert_eq!(error.errors().unwrap()["net0"], "invalid format - a\nb");
    assert_eq!(
        error.to_string(),
        "POST /x: 400 Parameter verification failed. net0: invalid format - a / b; vmid: x;"
    );
    assert!(!error.may_have_happened());
}

#[tokio::test]
async fn forms_are_encoded_and_deletes_have_no_body() {
    let server = Server::start([ok("null")]).await;
    let client = server.client();
    client
        .put(
            "/c",
            &Params::new().with("boot", "order=scsi0;ide2"),
            &deadline(),
        )
        .await
        .unwrap();
    client
        .delete("/v", &[("delay", "5".into())], &deadline())
        .await
        .unwrap();
    let requests = server.requests();
    assert_eq!(requests[0].body, b"boot=order%3Dscsi0%3Bide2");
    assert_eq!(requests[1].line, "DELETE /api2/json/v?delay=5");
    assert!(requests[1].body.is_empty());
}

#[tokio::test]
async fn nothing_is_sent_to_a_server_that_is_not_trusted() {
    let server = Server::start([ok("1")]).await;
    let wrong = "00".repeat(32);
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other.pem");
    std::fs::write(&other, Server::start([ok("1")]).await.ca).unwrap();
    for tls in [Tls::Fingerprint(vec![wrong]), Tls::CaFile(other)] {
        let client = Client::new(pve_client::Settings {
            tls,
            ..server.settings()
        })
        .unwrap();
        match client.get("/version", &[], &deadline()).await.unwrap_err() {
            Error::Untrusted {
                presented: Some(shown),
                ..
            } => {
                assert_eq!(
                    shown,
                    pve_client::normalise_fingerprint(&server.fingerprint).unwrap()
                );
            }
            other => panic!("{other}"),
        }
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn an_authority_in_a_file_is_enough() {
    let server = Server::start([ok("1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, &server.ca).unwrap();
    let client = Client::new(pve_client::Settings {
        tls: Tls::CaFile(ca.clone()),
        ..server.settings()
    })
    .unwrap();
    client.get("/version", &[], &deadline()).await.unwrap();
    std::fs::write(&ca, "no certificate").unwrap();
    let error = Client::new(pve_client::Settings {
        tls: Tls::CaFile(ca),
        ..server.settings()
    })
    .unwrap_err();
    assert!(
        error.to_string().contains("no usable certificate"),
        "{error}"
    );
}

#[tokio::test]
async fn an_unreachable_host_is_named_and_the_next_is_tried() {
    let server = Server::start([ok("1")]).await;
    let with = |hosts: &[&str]| {
        let hosts = hosts.iter().map(ToString::to_string).collect();
        Client::new(pve_client::Settings {
            hosts,
            ..server.settings()
        })
        .unwrap()
    };
    // Nobody listens on the other loopback address.
    let error = with(&["127.0.0.2"])
        .get("/version", &[], &soon())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains(&format!(
            "cannot reach the Proxmox VE API at 127.0.0.2:{}",
            server.port
        )),
        "{error}"
    );
    with(&["127.0.0.2", "127.0.0.1"])
        .get("/version", &[], &deadline())
        .await
        .unwrap();
    with(&["127.0.0.2", "127.0.0.1"])
        .post("/x", &Params::new(), &deadline())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_read_is_repeated_and_a_write_is_not() {
    let unwell = || json("596 Connection timed out", "");
    let server = Server::start([Answer::Close, unwell(), ok("1")]).await;
    server.client().get("/x", &[], &deadline()).await.unwrap();
    assert_eq!(server.lines().len(), 3);

    for trouble in [Answer::Close, unwell()] {
        let server = Server::start([trouble, ok("1")]).await;
        let error = server
            .client()
            .post("/x", &Params::new(), &deadline())
            .await
            .unwrap_err();
        assert!(error.may_have_happened(), "{error}");
        assert!(error.to_string().contains("may have been made"), "{error}");
        assert_eq!(server.lines().len(), 1);
    }
}

#[tokio::test]
async fn silence_ends_with_the_deadline() {
    let server = Server::start([Answer::Silence]).await;
    match server
        .client()
        .post("/x", &Params::new(), &soon())
        .await
        .unwrap_err()
    {
        Error::Expired {
            expired,
            may_have_happened: true,
            ..
        } => assert_eq!(expired.what, "POST /x"),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_lock_is_waited_out_within_the_deadline() {
    let locked = || {
        json(
            "500 can't lock file '/var/lock/qemu-server/lock-140.conf' - got timeout",
            r#"{"data":null}"#,
        )
    };
    let server = Server::start([locked(), json("500 VM is locked (create)", ""), ok("null")]).await;
    server
        .client()
        .put("/x", &Params::new(), &deadline())
        .await
        .unwrap();
    assert_eq!(server.lines().len(), 3);

    let server = Server::start([locked()]).await;
    let error = server
        .client()
        .put("/x", &Params::new(), &soon())
        .await
        .unwrap_err();
    assert!(error.is_lock_contention());
    assert!(error.to_string().contains("retried for"), "{error}");
}

#[tokio::test]
async fn a_connection_that_says_both_close_and_keep_alive_is_not_used_again() {
    let both = "HTTP/1.1 200 OK\r\nConnection: close\r\nConnection: Keep-Alive\r\nContent-Length: 10\r\n\r\n{\"data\":1}";
    let server = Server::start([Answer::Last(both.into())]).await;
    let client = server.client();
    for _ in 0..20 {
        client
            .post("/x", &Params::new(), &deadline())
            .await
            .unwrap();
    }
    let connections: Vec<_> = server
        .requests()
        .iter()
        .map(|request| request.connection)
        .collect();
    assert_eq!(connections, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_ticket_is_fetched_once_used_and_renewed_when_refused() {
    let ticket = |n: u32| {
        ok(&format!(
            r#"{{"ticket":"PVE:root@pam:{n}::a+/=","CSRFPreventionToken":"C{n}","username":"root@pam"}}"#
        ))
    };
    let refused = || json("401 permission denied - invalid PVE ticket", "");
    let server = Server::start([ticket(1), ok("1"), ok("2"), refused(), ticket(2), ok("3")]).await;
    let credential = Credential::Password {
        user: "root@pam".into(),
        password: "p w".into(),
    };
    let client = Client::new(pve_client::Settings {
        credential,
        ..server.settings()
    })
    .unwrap();
    client.get("/a", &[], &deadline()).await.unwrap();
    client.put("/b", &Params::new(), &deadline()).await.unwrap();
    client.put("/c", &Params::new(), &deadline()).await.unwrap();
    let requests = server.requests();
    let lines: Vec<_> = requests
        .iter()
        .map(|r| r.line.split("/api2/json").last().unwrap())
        .collect();
    assert_eq!(
        lines,
        ["/access/ticket", "/a", "/b", "/c", "/access/ticket", "/c"]
    );
    assert_eq!(requests[0].body, b"username=root%40pam&password=p%20w");
    assert!(
        requests[1]
            .head
            .contains("PVEAuthCookie=PVE%3Aroot%40pam%3A1%3A%3Aa%2B%2F%3D"),
        "{}",
        requests[1].head
    );
    assert!(requests[2].head.contains("csrfpreventiontoken: C1"));
    assert!(requests[5].head.contains("csrfpreventiontoken: C2"));
}

#[tokio::test]
async fn a_refused_token_is_not_tried_twice() {
    let server = Server::start([json("401 Authentication failed!", "")]).await;
    let error = server
        .client()
        .get("/x", &[], &deadline())
        .await
        .unwrap_err();
    assert!(error.is_authentication());
    assert_eq!(server.lines().len(), 1);
}

#[tokio::test]
async fn what_is_not_pves_is_said_to_be_so() {
    let server = Server::start([json("200 OK", "<html>login</html>")]).await;
    let error = server
        .client()
        .get("/x", &[], &deadline())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("<html>login"), "{error}");
}
