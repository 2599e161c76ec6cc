//! A server that lies: every answer ends in one clear error, in time, and the credential goes nowhere else.

mod common;

use std::time::Duration;

use common::{Answer, Server, deadline, json, ok};
use deadline::Deadline;
use pve_client::{Client, Error, Params, Settings, Upload};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

fn raw(head: &str, body: &str) -> Answer {
    Answer::Last(format!("HTTP/1.1 {head}\r\n\r\n{body}"))
}

async fn refused(answer: Answer) -> String {
    let server = Server::start([answer]).await;
    let error = server
        .client()
        .post("/x", &Params::new().with("a", 1), &deadline())
        .await
        .unwrap_err()
        .to_string();
    // A write whose answer makes no sense is never sent twice.
    assert_eq!(server.lines(), ["POST /api2/json/x"], "{error}");
    assert!(
        error.starts_with("POST /x: ") && !error.contains('\n'),
        "{error}"
    );
    assert!(
        error.len() < 5000 && !error.contains("the-secret"),
        "{error}"
    );
    error
}

#[tokio::test]
async fn answers_that_are_no_json_are_errors() {
    for body in ["", "{", "<html></html>", "\u{0}\u{1}", "nul", "{\"data\":"] {
        refused(json("200 OK", body)).await;
    }
    let deep = format!("{{\"data\":{}", "[".repeat(100_000));
    refused(json("200 OK", &deep)).await;
}

#[tokio::test]
async fn lengths_that_lie_are_errors() {
    refused(raw("200 OK\r\nContent-Length: 500", "{\"data\":1}")).await;
    refused(raw("200 OK\r\nContent-Length: x", "{\"data\":1}")).await;
    refused(raw("200 OK\r\nContent-Length: 99999999999999999999", "{}")).await;
    refused(raw(
        "200 OK\r\nTransfer-Encoding: chunked",
        "zz\r\n{}\r\n0\r\n\r\n",
    ))
    .await;
    refused(raw(
        "200 OK\r\nTransfer-Encoding: chunked",
        "ffffffff\r\n{}",
    ))
    .await;
    // Less than there is: half an answer is none.
    refused(raw("200 OK\r\nContent-Length: 5", "{\"data\":1}")).await;
    refused(raw("200 OK\r\nContent-Length: 0", "{\"data\":1}")).await;
}

/// What follows an answer is not an answer to the next request.
#[tokio::test]
async fn an_answer_to_no_request_is_dropped() {
    let both = |first: &str, second: &str| match (ok(first), ok(second)) {
        (Answer::Raw(first), Answer::Raw(second)) => Answer::Raw(first + &second),
        _ => unreachable!(),
    };
    let server = Server::start([both("1", "\"forged\""), ok("2")]).await;
    let client = server.client();
    for expected in [1, 2, 2] {
        let data = client.get("/x", &[], &deadline()).await.unwrap();
        assert_eq!(data, expected);
    }
}

/// Bytes that keep coming, and never an end: over when the time is, whatever they belong to.
#[tokio::test]
async fn answers_that_drip_end_with_the_time() {
    let mut all = tokio::task::JoinSet::new();
    for begun in [
        "",
        "HTTP/1.1 200 OK\r\nX-Long: ",
        "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"data\":\"",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;",
        "HTTP/1.1 595 No\r\nContent-Length: 1000000\r\n\r\n",
    ] {
        all.spawn(drips(begun));
    }
    all.join_all().await;
}

async fn drips(begun: &str) {
    let server = Server::start([Answer::Drip(begun.into())]).await;
    // The time of one request: a write is not sent twice.
    let client = impatient(server.settings(), Duration::from_secs(6));
    let error = client.post("/x", &Params::new(), &deadline()).await;
    let error = error.unwrap_err();
    assert_eq!(server.lines().len(), 1, "{begun:?}");
    assert!(error.may_have_happened(), "{begun:?}: {error}");
    // The time of the task: a read is repeated until then.
    let limit = Deadline::after(Duration::from_secs(1));
    let error = server.client().get("/x", &[], &limit).await.unwrap_err();
    assert!(error.to_string().len() < 1000, "{begun:?}: {error}");
}

#[tokio::test]
async fn answers_without_end_are_cut_off() {
    let flood = |head: &str, part: &str| raw(head, &part.repeat(20_000));
    refused(flood(
        "200 OK\r\nTransfer-Encoding: chunked",
        "1;extension=extension\r\nx\r\n",
    ))
    .await;
    refused(flood("100 Continue", "HTTP/1.1 100 Continue\r\n\r\n")).await;
    refused(raw(
        "200 OK\r\nTransfer-Encoding: chunked",
        &format!("0\r\n{}", "X-Trailer: y\r\n".repeat(50_000)),
    ))
    .await;
}

/// Listens, and says nothing of TLS: nothing at all, or a record that never ends.
#[tokio::test]
async fn a_handshake_that_never_ends_is_given_up() {
    tokio::join!(never_shakes_hands(false), never_shakes_hands(true));
}

async fn never_shakes_hands(drips: bool) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = Settings {
        port: listener.local_addr().unwrap().port(),
        ..Server::start([ok("1")]).await.settings()
    };
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut tcp, _)) = listener.accept().await {
            if !drips {
                kept.push(tcp);
                continue;
            }
            tokio::spawn(async move {
                let _ = tcp.write_all(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xff").await;
                while tcp.write_all(b"\x03").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
        }
    });
    let error = impatient(settings, Duration::from_millis(700))
        .post(
            "/x",
            &Params::new(),
            &Deadline::after(Duration::from_secs(60)),
        )
        .await
        .unwrap_err();
    // Nothing was sent before the server was known.
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().len() < 1000, "{error}");
}

#[tokio::test]
async fn an_upload_that_is_taken_byte_by_byte_ends_with_the_time() {
    let server = Server::start([ok("1"), Answer::Sip]).await;
    let upload = Upload::iso_bytes("x.iso", vec![0; 32 << 20]);
    let limit = Deadline::after(Duration::from_secs(5));
    let error = server
        .client()
        .upload("pve", "local", &upload, &limit, |_, _| ())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Expired { .. }), "{error}");
    assert!(
        error.to_string().contains("33554432 bytes were sent"),
        "{error}"
    );
}

#[tokio::test]
async fn an_upload_whose_answer_drips_may_have_happened() {
    let drip = Answer::Drip("HTTP/1.1 200 OK\r\nX-Long: ".into());
    let server = Server::start([ok("1"), drip]).await;
    let upload = Upload::iso_bytes("x.iso", vec![0; 1000]);
    let error = impatient(server.settings(), Duration::from_secs(6))
        .upload("pve", "local", &upload, &deadline(), |_, _| ())
        .await
        .unwrap_err();
    assert!(error.may_have_happened(), "{error}");
    assert!(error.to_string().contains("nothing moved"), "{error}");
    assert_eq!(server.lines().len(), 2);
}

/// A client that waits so long for one answer, and half of it for a handshake, which a busy machine shall have time for.
fn impatient(settings: Settings, request_timeout: Duration) -> Client {
    Client::new(Settings {
        request_timeout,
        ..settings
    })
    .unwrap()
}

#[tokio::test]
async fn heads_that_are_none_are_errors() {
    refused(Answer::Last("SSH-2.0-OpenSSH_9.2\r\n\r\n".into())).await;
    refused(raw("999999 What", "")).await;
    refused(raw(
        &format!("200 OK\r\n{}", "X-A: b\r\n".repeat(50_000)),
        "",
    ))
    .await;
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let other = Server::start([json("200 OK", "{\"data\":1}")]).await;
    for status in ["301 Moved Permanently", "307 Temporary Redirect"] {
        let location = format!("https://127.0.0.1:{}/api2/json/x", other.port);
        refused(raw(
            &format!("{status}\r\nLocation: {location}\r\nContent-Length: 0"),
            "",
        ))
        .await;
    }
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_kept() {
    let body = "x".repeat(33 << 20);
    for head in [
        "200 OK\r\nConnection: close",
        "200 OK\r\nContent-Length: 33000000000",
    ] {
        let error = refused(raw(head, &body)).await;
        assert!(error.contains("more than 32 MiB"), "{error}");
        assert!(error.contains("check that api_host is"), "{error}");
    }
}

/// The status says enough; the rest is not even read.
#[tokio::test]
async fn a_refusal_without_end_is_a_refusal() {
    let body = "<p>no</p>\n".repeat(5 << 20);
    let error = refused(raw("503 Busy\r\nConnection: close", &body)).await;
    assert!(error.contains("503 Busy"), "{error}");
}

/// A change whose time is over is not sent, whatever its connection is ready for.
#[tokio::test]
async fn a_change_that_is_late_is_not_sent() {
    let server = Server::start([ok("1")]).await;
    let client = server.client();
    client.get("/x", &[], &deadline()).await.unwrap();
    let over = Deadline::after(Duration::ZERO);
    let params = Params::new().with("a", 1);
    let upload = Upload::iso_bytes("x.iso", vec![0; 1000]);
    for error in [
        client.post("/x", &params, &over).await.unwrap_err(),
        client.put("/x", &params, &over).await.unwrap_err(),
        client.delete("/x", &[], &over).await.unwrap_err(),
    ] {
        assert!(error.to_string().contains("nothing was sent"), "{error}");
        assert!(!error.may_have_happened(), "{error}");
    }
    let error = client.upload("pve", "local", &upload, &over, |_, _| ());
    assert!(!error.await.unwrap_err().may_have_happened());
    let lines = server.lines();
    assert!(
        lines.iter().all(|line| line.starts_with("GET ")),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_long_refusal_is_shown_in_part() {
    let error = refused(json(
        "500 no",
        &format!("{{\"message\":\"{}\"}}", "x".repeat(1_000_000)),
    ))
    .await;
    assert!(error.contains("500"), "{error}");
}
