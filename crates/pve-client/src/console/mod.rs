//! A VM's serial console, read only: what `qm terminal` shows.
//!
//! `termproxy` has the node run `qm terminal` behind a port, and `vncwebsocket` leads there (PVE::API2::Qemu). The
//! websocket is an upgraded connection of the client's own, so the server's certificate and the credentials are the
//! same. On it proxmox-termproxy reads `USER:TICKET`, answers `OK`, and passes on the terminal's bytes.
//!
//! QEMU's socket has room for one reader: whoever comes second is connected and gets nothing. What a guest prints
//! while nobody reads is lost.

mod lines;
mod watch;

use std::time::Duration;

use bytes::Bytes;
use deadline::Deadline;
use futures_util::{SinkExt, StreamExt};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Response, StatusCode, Upgraded};
use serde::Deserialize;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, handshake::client::generate_key};

use crate::params::encode;
use crate::{Client, Error, Params};

pub use lines::Lines;
pub use watch::{Log, SILENT, Tail, Watch};

/// pveproxy's own bound of a frame is 128 KiB.
const LARGEST_FRAME: usize = 1 << 20;
/// How often proxmox-termproxy is shown that somebody is there, as PVE's own web interface does it.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// The most that is read before the terminal begins.
const LONGEST_GREETING: usize = 8192;
/// What `qm terminal` prints before the console's own output.
const BEGINS: &str = "starting serial terminal on interface";

/// Why a console cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsoleError {
    /// The API refused a call, or could not be asked.
    #[error("{0}")]
    Api(#[from] Error),
    /// The connection was closed before proxmox-termproxy said `OK`.
    #[error(
        "Proxmox VE closed the console of VM {vmid} without accepting {caller}{}",
        token_support(caller)
    )]
    NotAccepted {
        /// The VM.
        vmid: u32,
        /// `user@realm` or `user@realm!token`.
        caller: String,
    },
    /// `qm terminal` did not begin. Its words.
    #[error("qm terminal {vmid}: {said}")]
    Terminal {
        /// The VM.
        vmid: u32,
        /// The last line that it printed.
        said: String,
    },
}

/// Before, `termproxy` looked tokens up among the users (changelogs of both packages).
fn token_support(caller: &str) -> &'static str {
    match caller.contains('!') {
        true => {
            "; API tokens need proxmox-termproxy 2.0.3 and libpve-access-control 9.0.4 or newer on the node"
        }
        false => "",
    }
}

impl ConsoleError {
    /// Whether trying again would end the same way.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Api(error) => {
                matches!(error.status(), Some(400..=499 | 501))
                    || matches!(error, Error::Untrusted { .. } | Error::Settings(_))
            }
            Self::NotAccepted { .. } => true,
            Self::Terminal { said, .. } => !said.contains("not running"),
        }
    }
}

/// An open console. It is closed when it is dropped.
pub struct Console {
    socket: WebSocketStream<Upgraded>,
    /// What came with the terminal's first line.
    rest: Bytes,
}

#[derive(Deserialize)]
struct Proxy {
    user: String,
    ticket: String,
    port: serde_json::Value,
}

impl Client {
    /// Open the console at a serial port (`serial0`) of a VM that runs.
    ///
    /// # Errors
    /// [`ConsoleError::Api`] with the missing privilege (VM.Console), [`ConsoleError::Terminal`] for a VM that does not
    /// run or has no such port.
    pub async fn open_console(
        &self,
        node: &str,
        vmid: u32,
        serial: &str,
        deadline: &Deadline,
    ) -> Result<Console, ConsoleError> {
        let deadline = deadline.shorter(self.request_timeout());
        let vm = format!("/nodes/{}/qemu/{vmid}", encode(node));
        let action = format!("GET {vm}/vncwebsocket");
        let port = Params::new().with("serial", serial);
        let answer = self
            .post(&format!("{vm}/termproxy"), &port, &deadline)
            .await?;
        let proxy: Proxy = serde_json::from_value(answer)
            .map_err(|error| Error::unexpected(format!("POST {vm}/termproxy"), error))?;
        let opened = async {
            let upgraded = self.upgrade(&vm, &action, &proxy, &deadline).await?;
            let config = WebSocketConfig::default()
                .max_message_size(Some(LARGEST_FRAME))
                .max_frame_size(Some(LARGEST_FRAME));
            let socket =
                WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await;
            let mut console = Console {
                socket,
                rest: Bytes::new(),
            };
            console.begin(self, vmid, &proxy).await?;
            Ok(console)
        };
        match deadline.run(action.clone(), opened).await {
            Ok(opened) => opened,
            Err(expired) => Err(Error::Expired {
                expired,
                last: None,
                may_have_happened: false,
            }
            .into()),
        }
    }

    /// The connection to the port, which the node's own proxy passes on from here.
    async fn upgrade(
        &self,
        vm: &str,
        action: &str,
        proxy: &Proxy,
        deadline: &Deadline,
    ) -> Result<Upgraded, Error> {
        let port = match &proxy.port {
            serde_json::Value::String(port) => port.clone(),
            other => other.to_string(),
        };
        let query = format!("port={}&vncticket={}", encode(&port), encode(&proxy.ticket));
        let key = generate_key();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "binary"),
            ("sec-websocket-key", &key),
        ] {
            let value =
                HeaderValue::from_str(value).map_err(|error| Error::unexpected(action, error))?;
            headers.insert(name, value);
        }
        // On a connection of its own: one that was idle may turn out to be closed. Its errors name no URL, which has the ticket.
        let request = self
            .fresh_http()?
            .get(self.url(&format!("{vm}/vncwebsocket"), &query))
            .headers(self.auth(deadline).await?)
            .headers(headers);
        let response = request
            .send()
            .await
            .map_err(|error| self.transport(action, error.without_url(), false))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let data: serde_json::Value = self.read(response, action, false).await?;
            return Err(Error::unexpected(
                action,
                format!("not a websocket: {data}"),
            ));
        }
        if !accepts(&response, &key) {
            return Err(Error::unexpected(
                action,
                "not the websocket that was asked for",
            ));
        }
        let upgraded = response.upgrade().await;
        upgraded.map_err(|error| self.transport(action, error.without_url(), false))
    }
}

fn accepts(response: &Response, key: &str) -> bool {
    let header = |name: &str| response.headers().get(name)?.to_str().ok();
    header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
        && header("sec-websocket-accept") == Some(&derive_accept_key(key.as_bytes()))
}

impl Console {
    /// Show the ticket, and read up to where the terminal begins.
    async fn begin(
        &mut self,
        client: &Client,
        vmid: u32,
        proxy: &Proxy,
    ) -> Result<(), ConsoleError> {
        let login = format!("{}:{}\n", proxy.user, proxy.ticket);
        let not_accepted = || ConsoleError::NotAccepted {
            vmid,
            caller: client.caller().to_owned(),
        };
        let sent = self.socket.send(Message::binary(login)).await;
        sent.map_err(|_| not_accepted())?;
        let mut greeting = Vec::new();
        while greeting.len() < 2 {
            let bytes = self.read().await.ok_or_else(not_accepted)?;
            greeting.extend_from_slice(&bytes);
        }
        if !greeting.starts_with(b"OK") {
            return Err(not_accepted());
        }
        greeting.drain(..2);
        // A node that is reached through another one by ssh may print something first.
        let mut said = Lines::default();
        let mut length = 0;
        loop {
            while let Some(end) = greeting.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = greeting.drain(..=end).collect();
                if String::from_utf8_lossy(&line).contains(BEGINS) {
                    self.rest = greeting.into();
                    return Ok(());
                }
                length += line.len();
                said.push(&line);
            }
            let next = match length + greeting.len() < LONGEST_GREETING {
                true => self.read().await,
                false => None,
            };
            let Some(bytes) = next else {
                said.push(&greeting);
                let said = said.last(1).pop();
                let said = said.unwrap_or_else(|| "it ended without a word".into());
                return Err(ConsoleError::Terminal { vmid, said });
            };
            greeting.extend_from_slice(&bytes);
        }
    }

    /// The next bytes of the console; none when it has ended, with the VM or the connection.
    pub async fn read(&mut self) -> Option<Bytes> {
        if !self.rest.is_empty() {
            return Some(std::mem::take(&mut self.rest));
        }
        loop {
            let message = tokio::select! {
                message = self.socket.next() => message?,
                () = tokio::time::sleep(KEEP_ALIVE) => {
                    self.socket.send(Message::binary(Bytes::from_static(b"2"))).await.ok()?;
                    continue;
                }
            };
            match message.ok()? {
                Message::Binary(bytes) if !bytes.is_empty() => return Some(bytes),
                Message::Text(text) if !text.is_empty() => return Some(text.into()),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }
}
