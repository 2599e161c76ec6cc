//! Names and writes of all kinds, as Proxmox VE takes them.

mod common;

use std::time::Duration;

use common::*;
use deadline::Deadline;
use futures_util::StreamExt;
use futures_util::stream;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use pve_client::volid::{Content, normalise_upload_name};
use pve_client::{Client, Params, Upid, Upload, Volid};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Each case is some transfers.
fn runner() -> TestRunner {
    let usual = Config::default();
    TestRunner::new(Config {
        cases: usual.cases.div_ceil(3),
        max_shrink_iters: 20,
        ..usual
    })
}

fn deadline() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

/// The names of the ISOs that are there.
async fn names(client: &Client) -> Vec<String> {
    let limit = deadline();
    let list = client.content("pve", "local", Some("iso"), &limit);
    let volumes = list.await.unwrap().into_iter();
    volumes
        .map(|volume| volume.volid.parse::<Volid>().unwrap().file_name().into())
        .collect()
}

async fn upload(client: &Client, upload: &Upload) {
    let upid = client
        .upload("pve", "local", upload, &deadline(), |_, _| ())
        .await
        .unwrap();
    client.task(&upid, &deadline(), |_| ()).await.unwrap();
}

/// Names as people and programs make them: of any characters, with quotes and spaces, hidden, in
/// directories of both kinds, and too long.
fn name() -> impl Strategy<Value = String> {
    let stem = prop_oneof![
        any::<String>(),
        "[ -~]{0,40}",
        r#"[."' \\/a-zäß日;%&=+]{1,40}"#,
        r"\.{1,4}[a-z]{0,5}",
        "[a-zé ]{230,260}",
    ];
    let end = prop_oneof![
        Just(".iso"),
        Just(".ISO"),
        Just(".img"),
        Just(".qcow2"),
        Just("")
    ];
    (stem, end).prop_map(|(stem, end)| format!("{stem}{end}"))
}

#[test]
fn every_name_ends_up_as_proxmox_ve_makes_it() {
    let runtime = runtime();
    let lab = lab();
    let client = lab.client();
    let url = serve(b"downloaded");
    runner()
        .run(&name(), |raw| {
            let name = normalise_upload_name(&raw);
            runtime.block_on(async {
                let sent = Upload::iso_bytes(&raw, raw.clone().into_bytes());
                if !Content::Iso.takes(&name) {
                    let refused = client
                        .upload("pve", "local", &sent, &deadline(), |_, _| ())
                        .await;
                    assert!(matches!(refused, Err(pve_client::Error::Settings(_))));
                    assert!(names(&client).await.is_empty());
                    return;
                }
                upload(&client, &sent).await;
                assert_eq!(names(&client).await, [name.as_str()]);
                assert!(std::fs::read(lab.stored(&name)).unwrap() == raw.as_bytes());
                let volid = Volid::iso("local", &name);
                let gone = client.delete_volume("pve", &volid, &deadline()).await;
                gone.unwrap();
                // The files of a download's task and of what it has so far have longer names still.
                if name.len() > 180 {
                    return;
                }
                // The node itself makes the same of the name as it was.
                let params = Params::new()
                    .with("content", "iso")
                    .with("filename", &raw)
                    .with("url", &url);
                let path = "/nodes/pve/storage/local/download-url";
                let upid = client.post(path, &params, &deadline()).await.unwrap();
                let upid: Upid = upid.as_str().unwrap().parse().unwrap();
                client.task(&upid, &deadline(), |_| ()).await.unwrap();
                assert_eq!(names(&client).await, [name.as_str()]);
                let gone = client.delete_volume("pve", &volid, &deadline()).await;
                gone.unwrap();
            });
            Ok(())
        })
        .unwrap();
}

/// A piece of a file, now and then one that looks like the parts of an upload's body.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..300),
        1 => (1usize..40_000).prop_map(|size| vec![b'-'; size]),
        1 => Just(b"\r\n".to_vec()),
        1 => Just(b"\r\n--nixos-proxmox-".to_vec()),
        1 => Just(b"--\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"x\"\r\n\r\n".to_vec()),
    ]
}

#[test]
fn wherever_writes_end_the_same_file_arrives() {
    let runtime = runtime();
    let lab = lab();
    let client = lab.client();
    runner()
        .run(&proptest::collection::vec(piece(), 0..12), |pieces| {
            let whole = pieces.concat();
            let sha256 = pve_client::sha256_bytes(&whole);
            runtime.block_on(async {
                // Each piece is written by itself, as nothing else is there yet.
                let pieces = stream::iter(pieces).then(|piece| async {
                    tokio::task::yield_now().await;
                    Ok(piece.into())
                });
                let size = whole.len() as u64;
                // A checksum would notice what is added or lost; without one nothing is either.
                let known = size.is_multiple_of(2).then_some(sha256.as_str());
                upload(
                    &client,
                    &Upload::iso_stream("x.iso", size, known, pieces.boxed()),
                )
                .await;
            });
            prop_assert!(std::fs::read(lab.stored("x.iso")).unwrap() == whole);
            Ok(())
        })
        .unwrap();
}
