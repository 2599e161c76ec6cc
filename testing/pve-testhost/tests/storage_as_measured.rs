//! What a real PVE 9.2 server did with storages and their content: each test's name is what was seen there.

mod support;

use serde_json::{Value, json};
use support::Host;

/// A web server with one file that is not compressed, `/x.iso`.
fn web() -> String {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0_u8; 4096];
            let read = stream.read(&mut head).unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..read]).into_owned();
            let answer = match head.contains("/x.iso") {
                true if head.starts_with("HEAD") => "200 OK\r\nContent-Length: 4\r\n\r\n",
                true => "200 OK\r\nContent-Length: 4\r\n\r\nDATA",
                false => "404 File not found\r\nContent-Length: 0\r\n\r\n",
            };
            let _ = stream.write_all(format!("HTTP/1.1 {answer}").as_bytes());
        }
    });
    format!("http%3A%2F%2F{address}")
}

#[tokio::test]
async fn storages_are_listed_configured_and_summed_up_as_pve_does() {
    let host = Host::start().await;
    let names = |list: &Value| -> Vec<String> {
        let list = list.as_array().expect("a list");
        list.iter()
            .map(|entry| entry["storage"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    // A disabled storage is not among those that take a kind of content.
    let isos = host.good("GET", "/nodes/pve/storage", "content=iso").await;
    assert_eq!(names(&isos), ["local"]);
    let all = host.good("GET", "/nodes/pve/storage", "").await;
    assert!(names(&all).contains(&"off".to_owned()));
    let configured = host.good("GET", "/storage", "").await;
    assert_eq!(names(&configured).len(), 4);
    assert_eq!(host.good("GET", "/storage/off", "").await["disable"], 1);
    assert_eq!(host.call("GET", "/storage/nope", "").await.status, 500);
    let status = host
        .good("GET", "/nodes/pve/storage/local/status", "")
        .await;
    assert!(status["used_fraction"].is_null() && status["avail"].is_number());
    let domains = host.good("GET", "/access/domains", "").await;
    assert!(domains[0].get("default").is_none());
}

#[tokio::test]
async fn fractional_gib_round_up() {
    let host = Host::start().await;
    host.create(101, "scsi0=local:0.1").await;
    assert_eq!(
        host.config(101).await["scsi0"],
        "local:101/vm-101-disk-0.raw,size=104858K"
    );
}

#[tokio::test]
async fn deleting_logs_removed_volume_even_of_a_missing_iso_and_the_last_one_removes_the_directory()
{
    let host = Host::start().await;
    host.iso("x.iso", 512);
    for _ in 0..2 {
        let upid = host
            .good(
                "DELETE",
                "/nodes/pve/storage/local/content/local:iso/x.iso",
                "",
            )
            .await;
        assert_eq!(host.task(&upid).await, "OK");
        assert!(
            host.log(&upid)
                .await
                .contains(&"Removed volume 'local:iso/x.iso'".to_owned())
        );
    }
    assert!(!host.storage("local/template/iso").exists());
    assert_eq!(
        host.good("GET", "/nodes/pve/storage/local/content", "content=iso")
            .await,
        json!([])
    );
}

#[tokio::test]
async fn a_download_that_is_not_gzip_fails_in_zcat_and_url_metadata_has_a_filename() {
    let host = Host::start().await;
    let web = web();
    let form = format!("url={web}%2Fx.iso&content=iso&filename=x.iso&compression=gz");
    let exit = host
        .run("POST", "/nodes/pve/storage/local/download-url", &form)
        .await;
    assert!(
        exit.starts_with("command 'zcat ") && exit.ends_with("' failed: exit code 1"),
        "{exit}"
    );
    assert!(!host.storage("local/template/iso/x.iso").exists());
    let path = "/nodes/pve/query-url-metadata";
    let found = host.good("GET", path, &format!("url={web}%2Fx.iso")).await;
    assert_eq!(
        (&found["filename"], &found["size"]),
        (&json!("x.iso"), &json!(4))
    );
    assert_eq!(
        host.call("GET", path, &format!("url={web}%2Fnone.iso"))
            .await
            .reason,
        "invalid server response: '404 File not found'"
    );
}
