//! A web server, over plain HTTP or TLS.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::RUNTIME;

/// What is at an address.
#[derive(Clone, Default)]
pub struct Page {
    /// `200 OK` when empty.
    pub status: String,
    /// Lines of the answer's head, without line ends.
    pub headers: Vec<String>,
    pub body: Vec<u8>,
    /// No Content-Length: the end of the connection ends the body.
    pub unsized_body: bool,
    /// A pause in the middle of the body.
    pub stall: Duration,
    /// A pause after every byte, of the head too.
    pub drip: Duration,
    /// The connection ends after so many bytes of the body.
    pub cut: Option<usize>,
}

impl Page {
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        Self {
            body: body.into(),
            ..Self::default()
        }
    }

    pub fn redirect(to: &str) -> Self {
        Self {
            status: "302 Found".into(),
            headers: vec![format!("Location: {to}")],
            ..Self::default()
        }
    }
}

/// Pages by path; anything else is 404.
#[derive(Clone)]
pub struct Web {
    /// `http://127.0.0.1:PORT`, or `https://...`.
    pub base: String,
    /// Its certificate as PEM, if it speaks TLS.
    pub certificate: Option<String>,
    pages: Arc<Mutex<BTreeMap<String, Page>>>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Web {
    pub fn start() -> Self {
        Self::listen("http", None)
    }

    /// With a certificate of its own.
    pub fn start_tls() -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["127.0.0.1".into()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::listen("https", Some((acceptor, certificate.pem())))
    }

    fn listen(scheme: &str, tls: Option<(TlsAcceptor, String)>) -> Self {
        let listener = RUNTIME.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let (acceptor, certificate) = tls.unzip();
        let web = Self {
            base: format!("{scheme}://{}", listener.local_addr().unwrap()),
            certificate,
            pages: Arc::default(),
            heads: Arc::default(),
        };
        let own = web.clone();
        RUNTIME.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (web, acceptor) = (own.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        Some(acceptor) => web.answer(acceptor.accept(tcp).await?).await,
                        None => web.answer(tcp).await,
                    }
                });
            }
        });
        web
    }

    pub fn put(&self, path: &str, page: Page) -> String {
        self.pages.lock().unwrap().insert(path.into(), page);
        format!("{}{path}", self.base)
    }

    /// What is there.
    pub fn page(&self, path: &str) -> Page {
        self.pages.lock().unwrap()[path].clone()
    }

    /// The heads of all requests whose path begins so.
    pub fn asked(&self, path: &str) -> Vec<String> {
        let heads = self.heads.lock().unwrap();
        heads
            .iter()
            .filter(|head| head.split(' ').nth(1).unwrap_or("").starts_with(path))
            .cloned()
            .collect()
    }

    async fn answer(&self, mut tcp: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tcp.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        self.heads.lock().unwrap().push(head.clone());
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let page = self
            .pages
            .lock()
            .unwrap()
            .get(path.split('?').next().unwrap_or(""))
            .cloned();
        let page = page.unwrap_or(Page {
            status: "404 Not Found".into(),
            ..Page::default()
        });
        let status = if page.status.is_empty() {
            "200 OK"
        } else {
            &page.status
        };
        let mut text = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
        for header in &page.headers {
            text += &format!("{header}\r\n");
        }
        if !page.unsized_body {
            text += &format!("Content-Length: {}\r\n", page.body.len());
        }
        text += "\r\n";
        if !page.drip.is_zero() {
            for byte in text.as_bytes().iter().chain(&page.body) {
                tcp.write_all(&[*byte]).await?;
                tcp.flush().await?;
                tokio::time::sleep(page.drip).await;
            }
            return tcp.shutdown().await;
        }
        tcp.write_all(text.as_bytes()).await?;
        if method == "HEAD" {
            return Ok(());
        }
        if let Some(cut) = page.cut {
            return tcp.write_all(&page.body[..cut]).await;
        }
        let (first, second) = page.body.split_at(page.body.len() / 2);
        tcp.write_all(first).await?;
        tcp.flush().await?;
        tokio::time::sleep(page.stall).await;
        tcp.write_all(second).await?;
        tcp.shutdown().await
    }
}

/// Serve an ISO image with this content as `/nixos.iso`.
pub fn serve(content: &[u8]) -> String {
    Web::start().put("/nixos.iso", Page::new(super::iso(content)))
}
