//! A TLS server that answers what a test tells it to, byte for byte.

#![allow(dead_code)] // each test file uses another part of it

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deadline::Deadline;
use pve_client::{Client, Credential, Settings, Tls};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET /api2/json/version`.
    pub line: String,
    /// Head without the request line, lower-case names.
    pub head: String,
    pub body: Vec<u8>,
    /// Where the body's reads ended, in bytes of the body: each read is one TLS record.
    pub body_splits: Vec<usize>,
    /// Number of the connection, from 0.
    pub connection: usize,
}

/// What the server does with one request.
#[derive(Clone)]
pub enum Answer {
    /// These bytes; then it waits for the next request.
    Raw(String),
    /// These bytes, then the end of the connection.
    Last(String),
    /// The end of the connection, without a byte.
    Close,
    /// Answer as soon as the head is there, without reading the body.
    Early(String),
    /// No answer at all.
    Silence,
    /// These bytes at once, then one after another for ever, so slowly that no read waits in vain.
    Drip(String),
    /// As soon as the head is there: the body byte by byte, so slowly that it never ends.
    Sip,
}

/// The pause between the bytes of a server that is slow on purpose.
const SLOWLY: Duration = Duration::from_millis(50);

pub fn json(status: &str, body: &str) -> Answer {
    Answer::Raw(format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

pub fn ok(data: &str) -> Answer {
    json("200 OK", &format!(r#"{{"data":{data}}}"#))
}

pub struct Server {
    pub port: u16,
    pub fingerprint: String,
    /// PEM of the authority that signed the certificate.
    pub ca: String,
    requests: Arc<Mutex<Vec<Request>>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
}

impl Server {
    /// A server with these answers, in order. Afterwards it repeats the last.
    pub async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let mut ca_params = CertificateParams::new(Vec::new()).unwrap();
        ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate().unwrap();
        let ca = ca_params.self_signed(&ca_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec!["127.0.0.1".into()])
            .unwrap()
            .signed_by(&key, &Issuer::from_params(&ca_params, &ca_key))
            .unwrap();
        let fingerprint = hex::encode(Sha256::digest(cert.der()));
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![cert.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            fingerprint,
            ca: ca.pem(),
            requests: Arc::default(),
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
        };
        let (requests, answers) = (server.requests.clone(), server.answers.clone());
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((tcp, _)) = listener.accept().await else {
                    return;
                };
                let (acceptor, requests, answers) =
                    (acceptor.clone(), requests.clone(), answers.clone());
                tokio::spawn(async move {
                    if let Ok(tls) = acceptor.accept(tcp).await {
                        serve(tls, connection, &requests, &answers).await;
                    }
                });
            }
        });
        server
    }

    /// From now on, answer this.
    pub fn answer(&self, answer: Answer) {
        *self.answers.lock().unwrap() = [answer].into();
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub fn lines(&self) -> Vec<String> {
        self.requests()
            .into_iter()
            .map(|request| request.line)
            .collect()
    }

    pub fn settings(&self) -> Settings {
        Settings {
            hosts: vec!["127.0.0.1".into()],
            port: self.port,
            credential: Credential::Token {
                id: "root@pam!t".into(),
                secret: "the-secret".into(),
            },
            tls: Tls::Fingerprint(vec![self.fingerprint.clone()]),
            request_timeout: Duration::from_secs(20),
        }
    }

    pub fn client(&self) -> Client {
        Client::new(self.settings()).unwrap()
    }
}

async fn serve(
    mut tls: tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    connection: usize,
    requests: &Mutex<Vec<Request>>,
    answers: &Mutex<VecDeque<Answer>>,
) {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if !more(&mut tls, &mut buffer).await {
                return;
            }
        };
        let text = String::from_utf8_lossy(&buffer[..end]).into_owned();
        let (line, head) = text.split_once("\r\n").unwrap();
        let head = head.to_string();
        let length = head
            .lines()
            .find_map(|l| {
                l.to_ascii_lowercase()
                    .strip_prefix("content-length:")
                    .and_then(|v| v.trim().parse().ok())
            })
            .unwrap_or(0usize);
        let answer = {
            let mut answers = answers.lock().unwrap();
            if answers.len() > 1 {
                answers.pop_front().unwrap()
            } else {
                answers[0].clone()
            }
        };
        let mut body_splits = vec![buffer.len() - end];
        let early = matches!(answer, Answer::Early(_) | Answer::Sip);
        while !early && buffer.len() < end + length {
            if !more(&mut tls, &mut buffer).await {
                return;
            }
            body_splits.push(buffer.len() - end);
        }
        let line = line.strip_suffix(" HTTP/1.1").unwrap().to_string();
        let body = buffer[end..buffer.len().min(end + length)].to_vec();
        buffer.drain(..buffer.len().min(end + length));
        requests.lock().unwrap().push(Request {
            line,
            head,
            body,
            body_splits,
            connection,
        });
        match answer {
            Answer::Raw(text) => tls.write_all(text.as_bytes()).await.unwrap(),
            Answer::Last(text) | Answer::Early(text) => {
                let _ = tls.write_all(text.as_bytes()).await;
                let _ = tls.shutdown().await;
                // Unread bytes would turn the close into a reset that discards the answer.
                while more(&mut tls, &mut buffer).await {}
                return;
            }
            Answer::Close => return,
            Answer::Silence => std::future::pending().await,
            Answer::Drip(text) => {
                let _ = tls.write_all(text.as_bytes()).await;
                while tls.write_all(b"x").await.is_ok() && tls.flush().await.is_ok() {
                    tokio::time::sleep(SLOWLY).await;
                }
                return;
            }
            Answer::Sip => {
                while tls.read_u8().await.is_ok() {
                    tokio::time::sleep(SLOWLY).await;
                }
                return;
            }
        }
        tls.flush().await.unwrap();
    }
}

async fn more(
    tls: &mut tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    buffer: &mut Vec<u8>,
) -> bool {
    let mut chunk = [0; 64 * 1024];
    match tls.read(&mut chunk).await {
        Ok(0) | Err(_) => false,
        Ok(read) => {
            buffer.extend_from_slice(&chunk[..read]);
            true
        }
    }
}

/// Ample for anything that does not wait on purpose.
pub fn deadline() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

/// Passes while a test waits for it; long enough for the calls before that on a busy computer.
pub fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(2))
}
