//! Consoles of the test host's guests: what they print is a file.

mod common;

use std::path::PathBuf;
use std::time::Duration;

use common::{Answer, Server, json, ok};
use deadline::Deadline;
use module_lab::Host;
use pve_client::console::{ConsoleError, Log, Tail, Watch};
use pve_client::{Client, Credential, Settings, Tls};
use serde_json::Value;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

/// A host with a VM that has a serial port and is stopped.
async fn host() -> Host {
    let host = Host::start(|_| {});
    let options = [("vmid", "101"), ("serial0", "socket")];
    task(&host, "/nodes/pve/qemu", &options).await;
    // Only root, logged in with a password, may set it.
    host.edit(101, |text| format!("{text}serial1: /dev/ttyS1\n"));
    host
}

async fn task(host: &Host, path: &str, params: &[(&str, &str)]) {
    let params = params.iter().copied().collect();
    let done = host
        .client()
        .post_task(path, &params, &soon(), |_| ())
        .await;
    done.unwrap();
}

async fn power(host: &Host, action: &str) {
    task(host, &format!("/nodes/pve/qemu/101/status/{action}"), &[]).await;
}

/// Where the guest's port prints to.
fn output(host: &Host) -> PathBuf {
    let dir = host.path("pve/run/101");
    std::fs::create_dir_all(&dir).unwrap();
    dir.join("serial0.out")
}

async fn start(host: &Host, prints: impl AsRef<[u8]>) {
    power(host, "start").await;
    std::fs::write(output(host), prints).unwrap();
}

/// A client with another credential.
fn client(host: &Host, credential: Credential) -> Client {
    let text = |key: &str| host.endpoint[key].as_str().unwrap().to_owned();
    Client::new(Settings {
        hosts: vec![text("api_host")],
        port: host.endpoint["api_port"].as_u64().unwrap() as u16,
        credential,
        tls: Tls::Fingerprint(vec![text("tls_fingerprint")]),
        request_timeout: Duration::from_secs(30),
    })
    .unwrap()
}

fn token(host: &Host, name: &str) -> Client {
    let text = |key: &str| host.endpoint[name][key].as_str().unwrap().to_owned();
    let id = format!("{}!{}", text("api_user"), text("api_token_id"));
    let secret = text("api_token_secret");
    client(host, Credential::Token { id, secret })
}

/// Watch until the tail is as wanted.
async fn watched(watch: &Watch, wanted: impl Fn(&Tail) -> bool) -> Tail {
    let deadline = soon();
    loop {
        let tail = watch.tail(20);
        if wanted(&tail) {
            return tail;
        }
        assert!(deadline.sleep(Duration::from_millis(20)).await, "{tail:?}");
    }
}

async fn first(client: &Client) -> String {
    let mut console = client
        .open_console("pve", 101, "serial0", &soon())
        .await
        .unwrap();
    let bytes = tokio::time::timeout(Duration::from_secs(60), console.read()).await;
    String::from_utf8(bytes.unwrap().unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn a_console_is_read_with_a_token_and_with_a_password() {
    let host = host().await;
    start(&host, "Linux version 6.12\r\n").await;
    assert_eq!(first(&host.client()).await, "Linux version 6.12\r\n");
    let password = Credential::Password {
        user: "root@pam".into(),
        password: host.endpoint["api_password"].as_str().unwrap().into(),
    };
    assert_eq!(
        first(&client(&host, password)).await,
        "Linux version 6.12\r\n"
    );
    // The least that provisioning needs has it among it.
    assert_eq!(
        first(&token(&host, "provisioner")).await,
        "Linux version 6.12\r\n"
    );
}

#[tokio::test]
async fn what_keeps_a_console_from_being_opened_is_said() {
    let host = host().await;
    let open = async |client: &Client, port: &str| {
        let opened = client.open_console("pve", 101, port, &soon()).await;
        opened.map(drop).unwrap_err()
    };
    let root = host.client();
    let error = open(&root, "serial0").await;
    assert_eq!(error.to_string(), "qm terminal 101: VM 101 not running");
    assert!(!error.is_final());
    for (port, said) in [
        ("serial1", "wrong serial type on interface 'serial1'"),
        ("serial2", "serial interface 'serial2' is not configured"),
    ] {
        let error = open(&root, port).await;
        assert_eq!(error.to_string(), format!("qm terminal 101: {said}"));
        assert!(error.is_final());
    }
    let error = open(&token(&host, "empty"), "serial0").await;
    let ConsoleError::Api(api) = &error else {
        panic!("{error}");
    };
    assert_eq!(api.missing_privilege(), Some(("/vms/101", "VM.Console")));
    assert!(error.is_final());
}

#[tokio::test]
async fn a_node_that_takes_no_tokens_is_told_from_one_that_takes_nobody() {
    let host = host().await;
    host.nodes(serde_json::json!({"pve": {"console_tokens": false}}));
    start(&host, "hello\r\n").await;
    let opened = host
        .client()
        .open_console("pve", 101, "serial0", &soon())
        .await;
    let error = opened.map(drop).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Proxmox VE closed the console of VM 101 without accepting root@pam!full; API tokens need proxmox-termproxy 2.0.3 and \
         libpve-access-control 9.0.4 or newer on the node"
    );
    assert!(error.is_final());
    let password = Credential::Password {
        user: "root@pam".into(),
        password: host.endpoint["api_password"].as_str().unwrap().into(),
    };
    assert_eq!(first(&client(&host, password)).await, "hello\r\n");
}

#[tokio::test]
async fn what_is_not_the_websocket_that_was_asked_for_is_refused() {
    let proxy = r#"{"user":"root@pam!t","ticket":"PVEVNC:secret","port":5900,"upid":"UPID:"}"#;
    let foreign = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
                   Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nOK";
    for (answer, said) in [
        (
            ok(r#"{"port":5900}"#),
            r#"unexpected answer: not a websocket: {"port":5900}"#,
        ),
        (
            Answer::Last(foreign.into()),
            "unexpected answer: not the websocket that was asked for",
        ),
        (json("401 no", "{}"), "401 no"),
        (Answer::Close, "broke"),
    ] {
        let server = Server::start([ok(proxy), answer]).await;
        let opened = server
            .client()
            .open_console("pve", 101, "serial0", &soon())
            .await;
        let error = opened.map(drop).unwrap_err().to_string();
        assert!(
            error.starts_with("GET /nodes/pve/qemu/101/vncwebsocket: "),
            "{error}"
        );
        assert!(error.contains(said) && !error.contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn a_ticket_is_good_for_its_port_and_its_user_only() {
    let host = host().await;
    let params = pve_client::Params::new().with("serial", "serial0");
    let proxy = host
        .client()
        .post("/nodes/pve/qemu/101/termproxy", &params, &soon())
        .await;
    let proxy = proxy.unwrap();
    assert_eq!(proxy["user"], "root@pam!full");
    let ask = async |client: &Client, port: u64, ticket: &Value| {
        let query = [
            ("port", port.to_string()),
            ("vncticket", ticket.as_str().unwrap().to_owned()),
        ];
        let path = "/nodes/pve/qemu/101/vncwebsocket";
        client
            .get(path, &query, &soon())
            .await
            .map_err(|error| error.status())
    };
    let (port, ticket) = (proxy["port"].as_u64().unwrap(), &proxy["ticket"]);
    assert!(ask(&host.client(), port, ticket).await.is_ok());
    assert_eq!(ask(&host.client(), port + 1, ticket).await, Err(Some(401)));
    assert_eq!(
        ask(&token(&host, "provisioner"), port, ticket).await,
        Err(Some(401))
    );
}

#[tokio::test]
async fn a_watch_begins_before_the_vm_runs_and_outlives_its_restart() {
    let host = host().await;
    let log = host.path("console.log");
    let file = std::fs::File::create(&log).unwrap();
    let log_of = Some(Log::new(file, 1000));
    let watch = Watch::start(host.client(), "pve", 101, "serial0", log_of, soon());
    start(&host, "\x1b[1mfirst\x1b[0m\r\n").await;
    let tail = watched(&watch, |tail| !tail.lines.is_empty()).await;
    assert_eq!((tail.lines, tail.unread), (vec!["first".to_owned()], None));
    power(&host, "stop").await;
    start(&host, "second\r\nlogin: ").await;
    let tail = watched(&watch, |tail| tail.lines.len() == 3).await;
    assert_eq!(tail.lines, ["first", "second", "login: ".trim_end()]);
    drop(watch);
    assert_eq!(std::fs::read_to_string(log).unwrap(), "first\nsecond\n");
}

#[tokio::test]
async fn a_panic_is_noticed_and_a_flood_takes_little() {
    let host = host().await;
    let log = host.path("console.log");
    let file = std::fs::File::create(&log).unwrap();
    let log_of = Some(Log::new(file, 100_000));
    let mut flood = vec![b'x'; 5_000_000];
    flood.extend(b"\x1b]0;owned\x07\xff\xfe\r\n[    1.2] Kernel panic - not syncing: VFS\r\n");
    start(&host, flood).await;
    let watch = Watch::start(host.client(), "pve", 101, "serial0", log_of, soon());
    let panicked = tokio::time::timeout(Duration::from_secs(60), watch.panicked()).await;
    assert!(panicked.is_ok(), "{:?}", watch.tail(20));
    let tail = watch.tail(20);
    assert_eq!(tail.lines.len(), 20);
    assert_eq!(tail.lines[19], "[    1.2] Kernel panic - not syncing: VFS");
    assert!(
        tail.lines
            .iter()
            .all(|line| line.len() < 1000 && !line.contains('\x1b'))
    );
    let log = std::fs::read_to_string(log).unwrap();
    assert!(
        log.len() < 101_000 && log.ends_with("(what follows is left out)\n"),
        "{}",
        log.len()
    );
}

#[tokio::test]
async fn who_comes_second_waits_in_silence() {
    let host = host().await;
    start(&host, "hello\r\n").await;
    let client = host.client();
    let mut somebody = client
        .open_console("pve", 101, "serial0", &soon())
        .await
        .unwrap();
    assert_eq!(&somebody.read().await.unwrap()[..], b"hello\r\n");
    let watch = Watch::start(client, "pve", 101, "serial0", None, soon());
    let silent = |tail: &Tail| tail.unread.as_deref() == Some("it stayed silent");
    assert!(watched(&watch, silent).await.lines.is_empty());
    drop(somebody);
    let tail = watched(&watch, |tail| !tail.lines.is_empty()).await;
    assert_eq!(tail.lines, ["hello"]);
}

#[tokio::test]
async fn a_watch_says_which_privilege_is_missing() {
    let host = host().await;
    host.grant("pveum role add Look --privs \"VM.Audit\"\npveum acl modify /vms --roles Look --tokens 'ansible@pve!deploy'");
    start(&host, "hello\r\n").await;
    let watch = Watch::start(token(&host, "empty"), "pve", 101, "serial0", None, soon());
    let tail = watched(&watch, |tail| {
        tail.unread.as_deref() != Some("it was not open yet")
    })
    .await;
    assert_eq!(
        tail.unread.unwrap(),
        "provisioner@pve!empty lacks VM.Console on /vms/101"
    );
    assert_eq!(tail.lines, Vec::<String>::new());
}

#[tokio::test]
async fn a_console_that_asks_for_a_passphrase_is_left_to_people() {
    let host = host().await;
    let prompt = "Please enter passphrase for disk luks-root (luks-root): ";
    start(&host, format!("booting\r\n{prompt}")).await;
    let watch = Watch::start(host.client(), "pve", 101, "serial0", None, soon());
    let tail = watched(&watch, |tail| tail.lines.len() == 2).await;
    assert_eq!(tail.lines[1], prompt.trim_end());
    // QEMU lets one read at a time: now somebody else is the one.
    assert_eq!(first(&host.client()).await, format!("booting\r\n{prompt}"));
}
