//! A file of more than 4 GiB, against a server that only counts.

#[path = "../examples/sink.rs"]
mod sink;

use std::time::Duration;

use deadline::Deadline;
use pve_client::{Client, Credential, Settings, Tls, Upload};

#[tokio::test]
async fn a_sparse_file_of_more_than_4_gib_arrives_whole() {
    let sink = sink::Sink::start();
    let client = Client::new(Settings {
        hosts: vec!["127.0.0.1".into()],
        port: sink.port,
        credential: Credential::Token {
            id: "root@pam!t".into(),
            secret: "x".into(),
        },
        tls: Tls::Fingerprint(vec![sink.fingerprint.clone()]),
        request_timeout: Duration::from_secs(60),
    })
    .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sparse");
    let size = (1 << 32) + 1;
    std::fs::File::create(&file).unwrap().set_len(size).unwrap();
    let upload = Upload::iso_file("sparse.iso", &file, &"0".repeat(64));
    let mut last = (0, 0);
    client
        .upload(
            "pve",
            "local",
            &upload,
            &Deadline::after(Duration::from_secs(280)),
            |sent, size| last = (sent, size),
        )
        .await
        .unwrap();
    assert_eq!(last, (size, size));
    assert_eq!(sink.files.lock().unwrap()["sparse.iso"], size);
}
