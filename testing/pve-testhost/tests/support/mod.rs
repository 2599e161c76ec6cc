//! A host within the test, and a client that says exactly what it is told.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pve_testhost::{Options, Server};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longest any single wait may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A simulated host; ends with the test.
pub struct Host {
    pub dir: tempfile::TempDir,
    pub endpoint: Value,
    address: std::net::SocketAddr,
    connector: TlsConnector,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub reason: String,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub fn data(&self) -> Value {
        self.json()["data"].clone()
    }
}

/// One connection.
pub struct Connection(pub TlsStream<TcpStream>);

impl Connection {
    /// Send these bytes as one TLS record (or more, when they are many).
    pub async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("the host reads");
        self.0.flush().await.expect("the host reads");
    }

    /// Read one answer; `None` when the connection ends first.
    pub async fn answer(&mut self) -> Option<Answer> {
        tokio::time::timeout(LIMIT, self.read())
            .await
            .expect("an answer in time")
    }

    async fn read(&mut self) -> Option<Answer> {
        let mut buffer = Vec::new();
        let head_end = loop {
            if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            let mut chunk = [0_u8; 4096];
            match self.0.read(&mut chunk).await {
                Ok(0) | Err(_) => return None,
                Ok(read) => buffer.extend_from_slice(&chunk[..read]),
            }
        };
        let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
        let mut body = buffer.split_off(head_end);
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: ")?.parse::<usize>().ok());
        while length.is_none_or(|length| body.len() < length) {
            let mut chunk = [0_u8; 4096];
            match self.0.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(read) => body.extend_from_slice(&chunk[..read]),
            }
        }
        let mut words = head.lines().next()?.splitn(3, ' ');
        words.next();
        let status = words.next()?.parse().ok()?;
        let reason = words.next().unwrap_or("").to_owned();
        Some(Answer {
            status,
            reason,
            head,
            body,
        })
    }
}

impl Host {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Start with other options; rules of misbehaviour may be written to `faults.json` in the data directory.
    pub async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut options = Options::simulated(dir.path());
        options.faults = Some(dir.path().join("faults.json"));
        change(&mut options);
        let server = Server::open(options).await.expect("the host opens");
        let (endpoint, address) = (server.endpoint.clone(), server.address);
        let task = tokio::spawn(async move {
            server
                .run(std::future::pending())
                .await
                .expect("the host serves");
        });
        let mut roots = rustls::RootCertStore::empty();
        let ca =
            <rustls_pki_types::CertificateDer as rustls_pki_types::pem::PemObject>::from_pem_file(
                dir.path().join("pve-root-ca.pem"),
            );
        roots.add(ca.expect("a CA")).expect("a good CA");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            dir,
            endpoint,
            address,
            connector: TlsConnector::from(Arc::new(config)),
            task,
        }
    }

    pub async fn connect(&self) -> Connection {
        let tcp = TcpStream::connect(self.address)
            .await
            .expect("the host listens");
        let name = rustls_pki_types::ServerName::try_from("localhost").expect("a name");
        Connection(self.connector.connect(name, tcp).await.expect("TLS"))
    }

    /// The Authorization header of root's token, or of another one of the endpoint file.
    pub fn token(&self, which: &str) -> String {
        let entry = if which == "root" {
            &self.endpoint
        } else {
            &self.endpoint[which]
        };
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        format!(
            "Authorization: PVEAPIToken={}!{}={}\r\n",
            text("api_user"),
            text("api_token_id"),
            text("api_token_secret")
        )
    }

    /// Headers with a ticket of root's and its CSRF token.
    pub async fn ticket(&self) -> String {
        let password = self.endpoint["api_password"].as_str().unwrap_or_default();
        let body = format!("username=root%40pam&password={password}");
        let form = "Content-Type: application/x-www-form-urlencoded\r\n";
        let answer = self
            .raw("POST", "/access/ticket", form, body.as_bytes())
            .await
            .expect("a ticket");
        let text = |name: &str| answer.data()[name].as_str().unwrap_or_default().to_owned();
        format!(
            "Cookie: PVEAuthCookie={}\r\nCSRFPreventionToken: {}\r\n",
            text("ticket"),
            text("CSRFPreventionToken")
        )
    }

    /// A request with any headers; a connection of its own.
    pub async fn raw(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Option<Answer> {
        let mut connection = self.connect().await;
        let length = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        let head =
            format!("{method} /api2/json{path} HTTP/1.1\r\nHost: pve\r\n{headers}{length}\r\n");
        connection.send(head.as_bytes()).await;
        if !body.is_empty() {
            connection.send(body).await;
        }
        connection.answer().await
    }

    /// A call with root's token and a form.
    pub async fn call(&self, method: &str, path: &str, form: &str) -> Answer {
        self.call_as("root", method, path, form).await
    }

    pub async fn call_as(&self, who: &str, method: &str, path: &str, form: &str) -> Answer {
        let (path, body) = if matches!(method, "GET" | "DELETE") && !form.is_empty() {
            (format!("{path}?{form}"), "")
        } else {
            (path.to_owned(), form)
        };
        let headers = format!(
            "{}Content-Type: application/x-www-form-urlencoded\r\n",
            self.token(who)
        );
        self.raw(method, &path, &headers, body.as_bytes())
            .await
            .expect("an answer")
    }

    /// A call that must succeed; its data.
    pub async fn good(&self, method: &str, path: &str, form: &str) -> Value {
        let answer = self.call(method, path, form).await;
        assert_eq!(
            (answer.status, answer.reason.as_str()),
            (200, "OK"),
            "{method} {path} {form}: {}",
            String::from_utf8_lossy(&answer.body)
        );
        answer.data()
    }

    /// A call of root's own, with a ticket: some options may not even be set by root's tokens. Its data.
    pub async fn good_as_root(&self, method: &str, path: &str, form: &str) -> Value {
        let headers = format!(
            "{}Content-Type: application/x-www-form-urlencoded\r\n",
            self.ticket().await
        );
        let answer = self.raw(method, path, &headers, form.as_bytes()).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.reason);
        answer.data().clone()
    }

    /// Wait for a task; its exit status.
    pub async fn task(&self, upid: &Value) -> String {
        let upid = upid.as_str().expect("a UPID");
        let deadline = Instant::now() + LIMIT;
        loop {
            let status = self.good("GET", &task_path(upid, "status"), "").await;
            if let Some(exit) = status["exitstatus"].as_str() {
                return exit.to_owned();
            }
            assert!(Instant::now() < deadline, "the task {upid} does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A call that makes a task, and the task's exit status.
    pub async fn run(&self, method: &str, path: &str, form: &str) -> String {
        let upid = self.good(method, path, form).await;
        self.task(&upid).await
    }

    /// The log of a task.
    pub async fn log(&self, upid: &Value) -> Vec<String> {
        let upid = upid.as_str().expect("a UPID");
        let lines = self.good("GET", &task_path(upid, "log"), "limit=0").await;
        lines
            .as_array()
            .into_iter()
            .flatten()
            .map(|line| line["t"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Make a VM.
    pub async fn create(&self, vmid: u32, form: &str) {
        assert_eq!(
            self.run("POST", "/nodes/pve/qemu", &format!("vmid={vmid}&{form}"))
                .await,
            "OK"
        );
    }

    pub async fn config(&self, vmid: u32) -> Value {
        self.good("GET", &format!("/nodes/pve/qemu/{vmid}/config"), "")
            .await
    }

    /// An ISO on the storage `local`, without going through an upload.
    pub fn iso(&self, name: &str, size: usize) {
        std::fs::write(
            self.storage("local/template/iso").join(name),
            vec![7_u8; size],
        )
        .expect("an ISO");
    }

    pub fn storage(&self, path: &str) -> PathBuf {
        self.dir.path().join("storage").join(path)
    }
}

/// Where a task is looked at: on its node.
fn task_path(upid: &str, what: &str) -> String {
    let node = upid.split(':').nth(1).unwrap_or_default();
    format!("/nodes/{node}/tasks/{upid}/{what}")
}
