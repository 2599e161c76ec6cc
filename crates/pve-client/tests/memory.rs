//! What the answers of a server may cost: the client runs in a process of its own, whose memory is read.

mod common;

use std::process::Command;

use common::{Server, deadline, ok};
use pve_client::{Client, Settings, Tls};

/// The client's side, in a process of its own: asks once, and prints the error or the number of entries, and its
/// highest memory in MiB.
#[tokio::test]
#[ignore = "is run by the other tests"]
async fn client_process() {
    let port = std::env::var("MEMORY_PORT").unwrap().parse().unwrap();
    let fingerprint = std::env::var("MEMORY_FINGERPRINT").unwrap();
    let client = Client::new(Settings {
        port,
        tls: Tls::Fingerprint(vec![fingerprint]),
        ..Server::start([ok("1")]).await.settings()
    })
    .unwrap();
    let said = match std::env::var("MEMORY_TYPED").is_ok() {
        true => client.vms("pve", &deadline()).await.map(|vms| vms.len()),
        false => {
            let data = client.get("/cluster/resources", &[], &deadline()).await;
            data.map(|data| data.as_array().map_or(0, Vec::len))
        }
    };
    let said = said.map_or_else(|error| error.to_string(), |n| format!("{n} entries"));
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let peak: u64 = peak.unwrap().trim_end_matches("kB").trim().parse().unwrap();
    println!("<<{}|{said}>>", peak / 1024);
}

/// What the client said to an answer with this data, and its highest memory in MiB.
async fn asked(data: String, typed: bool) -> (u64, String) {
    let server = Server::start([ok(&data)]).await;
    let (port, fingerprint) = (server.port, server.fingerprint.clone());
    let output = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "client_process", "--ignored", "--nocapture"])
            .env("MEMORY_PORT", port.to_string())
            .env("MEMORY_FINGERPRINT", fingerprint);
        if typed {
            command.env("MEMORY_TYPED", "1");
        }
        command.output().unwrap()
    });
    let output = output.await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = text.split("<<").nth(1).and_then(|t| t.split(">>").next());
    let (peak, said) = said
        .unwrap_or_else(|| panic!("{output:?}"))
        .split_once('|')
        .unwrap();
    println!("peak {peak} MiB: {said}");
    (peak.parse().unwrap(), said.to_owned())
}

/// What takes most memory for its bytes: 6 MB of `{"":0}` took 388 MiB, and 60 MB took 4 GB.
#[tokio::test]
async fn an_answer_of_many_values_is_refused() {
    let (idle, _) = asked("[]".into(), false).await;
    for entry in [
        r#"{"":0}"#,
        "0",
        "[]",
        r#""a""#,
        r#"{"vmid":1}"#,
        r#"{"a":{"b":[1]}}"#,
    ] {
        let all = format!("{entry},").repeat(30_000_000 / (entry.len() + 1));
        for typed in [false, true] {
            let (peak, said) = asked(format!("[{all}0]"), typed).await;
            assert!(
                said.contains("unexpected answer: more than "),
                "{entry}: {said}"
            );
            assert!(said.contains("check that api_host is"), "{entry}: {said}");
            assert!(peak < idle + 60, "{entry}: {peak} MiB");
        }
    }
}

/// As much as is taken at most, of everything.
#[tokio::test]
async fn the_largest_answers_are_read_in_bounded_memory() {
    let (idle, _) = asked("[]".into(), false).await;
    for (entry, times) in [
        (r#"{"":0}"#, 199_000),
        ("0", 990_000),
        (r#""a""#, 990_000),
        (r#"{"vmid":1,"name":"a"}"#, 190_000),
    ] {
        let (peak, said) = asked(
            format!("[{}{entry}]", format!("{entry},").repeat(times)),
            false,
        )
        .await;
        assert_eq!(said, format!("{} entries", times + 1), "{entry}");
        assert!(peak < idle + 200, "{entry}: {peak} MiB");
    }
    let text = format!("\"{}\"", "x".repeat(31 << 20));
    let (peak, _) = asked(text, false).await;
    assert!(peak < idle + 150, "{peak} MiB");
}

/// 20,000 guests with all that PVE says of them.
#[tokio::test]
async fn a_large_cluster_is_read() {
    let guest = format!(
        r#"{{"vmid":123456,"name":"{}","status":"running","tags":"a-tag;another-tag;third","template":0,
        "maxmem":17179869184,"mem":12345678901,"cpu":0.0123456789,"disk":0,"diskread":123456789,"diskwrite":1,
        "netin":1234567890,"netout":1234567890,"uptime":12345678,"pid":12345,"cpus":16,"maxdisk":34359738368}}"#,
        "n".repeat(60)
    );
    let all = format!("[{}{guest}]", format!("{guest},").repeat(19_999));
    let (idle, _) = asked("[]".into(), true).await;
    let (peak, said) = asked(all.clone(), true).await;
    assert_eq!(said, "20000 entries");
    assert!(peak < idle + 60, "{peak} MiB");
    let (peak, said) = asked(all, false).await;
    assert_eq!(said, "20000 entries");
    assert!(peak < idle + 200, "{peak} MiB");
}
