//! A server that lies: every answer ends in one clear error, in time, and the credential goes nowhere else.

mod common;

use common::{Answer, Server, deadline, json};

fn raw(head: &str, body: &str) -> Answer {
    Answer::Last(format!("HTTP/1.1 {head}\r\n\r\n{body}"))
}

async fn refused(answer: Answer) -> String {
    let server = Server::start([answer]).await;
    let error = server
        .client()
        .post("/x", &pve_client::Params::new().with("a", 1), &deadline())
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
    let body = "x".repeat(65 << 20);
    let error = refused(raw("200 OK\r\nConnection: close", &body)).await;
    assert!(error.contains("more than 64 MiB"), "{error}");
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
