//! A TLS server that takes uploads as fast as it can and forgets them: the other end of `make bench`,
//! and of the test of a file of more than 4 GiB. It answers just what an upload asks of Proxmox VE.

#![allow(dead_code)] // as a module of a test it has no main

use std::collections::BTreeMap;
use std::io::{BufRead, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

const UPID: &str = "UPID:pve:00000001:00000002:65000000:imgcopy::root@pam!t:";

/// A running sink.
pub struct Sink {
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// SHA-256 of its certificate, in hex.
    pub fingerprint: String,
    /// Sizes of what was uploaded, by name.
    pub files: Files,
}

/// Sizes by name.
pub type Files = Arc<Mutex<BTreeMap<String, u64>>>;

impl Sink {
    /// Start one on threads of its own.
    pub fn start() -> Self {
        let key = KeyPair::generate().expect("a key");
        let cert = CertificateParams::new(vec!["127.0.0.1".to_string()])
            .and_then(|params| params.self_signed(&key))
            .expect("a certificate");
        let fingerprint = pve_client::sha256_bytes(cert.der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![cert.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).expect("a private key"),
            )
            .expect("a TLS configuration");
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let files = Files::default();
        let own = files.clone();
        std::thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                let (config, files) = (config.clone(), own.clone());
                std::thread::spawn(move || {
                    // A connection that broke is the client's affair.
                    let _ = serve(tcp, config, &files);
                });
            }
        });
        Self {
            port,
            fingerprint,
            files,
        }
    }
}

fn serve(tcp: TcpStream, config: Arc<ServerConfig>, files: &Files) -> std::io::Result<()> {
    tcp.set_nodelay(true)?;
    let tls = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = std::io::BufReader::with_capacity(64 * 1024, StreamOwned::new(tls, tcp));
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let (mut length, mut boundary) = (0u64, String::new());
        loop {
            let mut header = String::new();
            stream.read_line(&mut header)?;
            let header = header.trim_end();
            if header.is_empty() {
                break;
            }
            let (name, value) = header.split_once(':').unwrap_or((header, ""));
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap_or(0),
                "content-type" => {
                    boundary = value.split("boundary=").nth(1).unwrap_or("").to_string();
                }
                "expect" => stream
                    .get_mut()
                    .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?,
                _ => {}
            }
        }
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let path = target.split('?').next().unwrap_or("");
        let path = path.strip_prefix("/api2/json").unwrap_or(path);
        let data = if method == "POST" && path.ends_with("/upload") {
            let (name, size) = take(&mut stream, length, &boundary)?;
            files.lock().expect("no panic").insert(name, size);
            format!("\"{UPID}\"")
        } else {
            std::io::copy(&mut (&mut stream).take(length), &mut std::io::sink())?;
            answer(path, files)
        };
        let body = format!("{{\"data\":{data}}}");
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json;charset=UTF-8\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.get_mut().write_all((head + &body).as_bytes())?;
        stream.get_mut().flush()?;
    }
}

/// Read a multipart body of `length` bytes; the name of its file and how long that is.
fn take(stream: &mut impl Read, length: u64, boundary: &str) -> std::io::Result<(String, u64)> {
    let mut buffer = vec![0; 64 * 1024];
    let mut start = Vec::new();
    let mut found: Option<(String, u64)> = None;
    let mut left = length;
    while left > 0 {
        let most = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = stream.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        left -= read as u64;
        if found.is_none() {
            start.extend_from_slice(&buffer[..read]);
            let text = String::from_utf8_lossy(&start);
            found = text.find("; filename=\"").and_then(|at| {
                let name = text[at + 12..].split('"').next()?.to_string();
                let end = text[at..].find("\r\n\r\n")? + at + 4;
                Some((name, end as u64))
            });
        }
    }
    let (name, head) = found.ok_or_else(|| std::io::Error::other("no file in it"))?;
    let tail = "\r\n----\r\n".len() + boundary.len();
    Ok((name, length - head - tail as u64))
}

fn answer(path: &str, files: &Files) -> String {
    match path {
        "/version" => r#"{"version":"9.0.0","release":"9.0","repoid":"0"}"#.into(),
        "/nodes" => r#"[{"node":"pve","status":"online"}]"#.into(),
        "/nodes/pve/storage" => {
            r#"[{"storage":"local","type":"dir","content":"iso,vztmpl","enabled":1,"active":1,"shared":0,"avail":99999999999999}]"#.into()
        }
        "/nodes/pve/storage/local/content" => {
            let files = files.lock().expect("no panic");
            let list: Vec<_> = files
                .iter()
                .map(|(name, size)| format!(r#"{{"volid":"local:iso/{name}","content":"iso","format":"iso","size":{size},"ctime":1700000000}}"#))
                .collect();
            format!("[{}]", list.join(","))
        }
        "/access/permissions" => r#"{"/storage/local":{"Datastore.AllocateTemplate":1,"Datastore.Audit":1}}"#.into(),
        path if path.ends_with("/status") => {
            format!(r#"{{"status":"stopped","exitstatus":"OK","upid":"{UPID}","node":"pve","type":"imgcopy"}}"#)
        }
        path if path.ends_with("/tasks") => "[]".into(),
        _ => "null".into(),
    }
}

/// Say where it is, in JSON, and serve until stdin ends.
fn main() {
    let sink = Sink::start();
    println!(
        r#"{{"port":{},"fingerprint":"{}"}}"#,
        sink.port, sink.fingerprint
    );
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
}
