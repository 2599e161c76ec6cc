//! A process that is stopped in the middle of its work and goes on when its time is over.

mod common;

use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Server, deadline, ok};
use deadline::Deadline;
use pve_client::{Client, Params, Settings, Tls};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid};

/// The client's side, in a process of its own: it reads, is stopped, and goes on with a change.
#[tokio::test]
#[ignore = "is run by the other test"]
async fn client_process() {
    let port = std::env::var("SUSPENDED_PORT").unwrap().parse().unwrap();
    let fingerprint = std::env::var("SUSPENDED_FINGERPRINT").unwrap();
    let client = Client::new(Settings {
        port,
        tls: Tls::Fingerprint(vec![fingerprint]),
        ..Server::start([ok("1")]).await.settings()
    })
    .unwrap();
    let limit = Deadline::after(Duration::from_secs(1));
    client.get("/x", &[], &deadline()).await.unwrap();
    kill_process(getpid(), Signal::STOP).unwrap();
    // Another thread may take the signal first, and this one run on for a moment.
    std::thread::sleep(Duration::from_millis(50));
    let error = client.post("/x", &Params::new().with("a", 1), &limit).await;
    println!("<<{}>>", error.unwrap_err());
}

#[tokio::test]
async fn a_suspended_run_sends_no_change_after_its_time() {
    let server = Server::start([ok("1")]).await;
    let (port, fingerprint) = (server.port, server.fingerprint.clone());
    let output = tokio::task::spawn_blocking(move || {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "client_process", "--ignored", "--nocapture"])
            .env("SUSPENDED_PORT", port.to_string())
            .env("SUSPENDED_FINGERPRINT", fingerprint)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        waitpid(Some(pid), WaitOptions::UNTRACED).unwrap();
        std::thread::sleep(Duration::from_millis(1500));
        kill_process(pid, Signal::CONT).unwrap();
        child.wait_with_output().unwrap()
    });
    let output = output.await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("nothing was sent"), "{text}");
    assert_eq!(server.lines(), ["GET /api2/json/x"]);
}
