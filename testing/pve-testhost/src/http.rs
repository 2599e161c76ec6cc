//! The HTTP/1.1 server: pveproxy's connection handling, quirks included.
//!
//! Not a general server: it does what pveproxy does with keep-alive, idle connections, methods, bodies and errors.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use crate::error::ApiError;
use crate::schema::Params;

/// A connection that is idle for so long is closed without notice, inside an upload too.
pub const IDLE: Duration = Duration::from_secs(5);
const MAX_HEAD: usize = 64 * 1024;

/// A TLS stream read record by record: the upload parser depends on where the client's writes ended.
pub struct Stream {
    pub(crate) tls: TlsStream<TcpStream>,
    /// Bytes read and not consumed: what came together with a request's head.
    pub(crate) rest: Vec<u8>,
}

impl Stream {
    /// The next bytes that arrived together; empty at the end. Fails when nothing comes for [`IDLE`].
    pub async fn chunk(&mut self, most: usize) -> std::io::Result<Vec<u8>> {
        if !self.rest.is_empty() {
            let take = self.rest.len().min(most);
            return Ok(self.rest.drain(..take).collect());
        }
        let idle = || std::io::Error::from(std::io::ErrorKind::TimedOut);
        let available = timeout(IDLE, self.tls.fill_buf())
            .await
            .map_err(|_| idle())??;
        let take = available.len().min(most);
        let chunk = available[..take].to_vec();
        self.tls.consume(take);
        Ok(chunk)
    }
}

/// The head of a request.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// Method as sent.
    pub method: String,
    /// Path without the query, still percent-encoded.
    pub path: String,
    /// Query, still encoded.
    pub query: String,
    /// Header names in lower case.
    pub headers: Vec<(String, String)>,
    /// 1 for HTTP/1.1.
    pub minor: u8,
}

impl Head {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether a header that is a list has this item, in any case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.header(name).is_some_and(|value| {
            value
                .split(',')
                .any(|item| item.trim().eq_ignore_ascii_case(token))
        })
    }
}

/// What goes back.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Reason phrase.
    pub reason: String,
    /// `Content-Type`; none for an empty body of pveproxy's own.
    pub content_type: Option<&'static str>,
    /// Extra headers.
    pub headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: Vec<u8>,
    /// Relayed to pvedaemon: the answer then says both `close` and `Keep-Alive`.
    pub relayed: bool,
    /// Close after it.
    pub close: bool,
    /// The connection becomes a websocket that leads to this port. This head is sent in place of the answer.
    pub websocket: Option<(u16, String)>,
}

impl Answer {
    /// A JSON answer.
    pub fn json(value: &Value) -> Self {
        Self {
            status: 200,
            reason: "OK".into(),
            content_type: Some("application/json;charset=UTF-8"),
            headers: Vec::new(),
            body: value.to_string().into_bytes(),
            relayed: false,
            close: false,
            websocket: None,
        }
    }

    /// An error.
    pub fn error(error: &ApiError) -> Self {
        let mut answer = Self::json(&error.body());
        answer.status = error.status;
        answer.reason = error.reason().to_owned();
        if error.empty_body {
            answer.body.clear();
            answer.content_type = None;
            answer.close = true;
            if error.text_body {
                answer.body = error.reason().as_bytes().to_vec();
            }
        }
        answer
    }

    /// The bytes of the answer. `Connection: close` is in them unless the connection stays open.
    pub fn encode(&self, keep_alive: bool) -> Vec<u8> {
        let reason: String = self.reason.chars().filter(|c| !c.is_control()).collect();
        let mut head = format!(
            "HTTP/1.1 {} {reason}\r\nCache-Control: max-age=0\r\n",
            self.status
        );
        if self.relayed {
            head += "Connection: close\r\n";
        }
        head += if keep_alive {
            "Connection: Keep-Alive\r\n"
        } else {
            "Connection: close\r\n"
        };
        head += &format!(
            "Date: {}\r\nPragma: no-cache\r\nServer: pve-api-daemon/3.0\r\n",
            http_date()
        );
        // pveproxy's own 401 has no Content-Length: its end is the end of the connection.
        if !(self.status == 401 && self.body.is_empty()) {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        if let Some(kind) = self.content_type {
            head += &format!("Content-Type: {kind}\r\n");
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

fn http_date() -> String {
    let format = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    time::OffsetDateTime::now_utc()
        .format(&format)
        .unwrap_or_default()
}

/// Plain HTTP on the TLS port: sent on to https.
pub async fn plain(tcp: TcpStream) {
    let mut tcp = BufReader::new(tcp);
    let mut line = String::new();
    let mut host = String::from("localhost");
    let mut target = String::from("/");
    let read = async {
        let mut lines = 0;
        while tcp.read_line(&mut line).await? > 0 && lines < 100 {
            let trimmed = line.trim_end();
            if lines == 0 {
                trimmed
                    .split(' ')
                    .nth(1)
                    .unwrap_or("/")
                    .clone_into(&mut target);
            } else if trimmed.is_empty() {
                break;
            } else if let Some((name, value)) = trimmed.split_once(':')
                && name.eq_ignore_ascii_case("host")
            {
                value.trim().clone_into(&mut host);
            }
            line.clear();
            lines += 1;
        }
        let answer = format!(
            "HTTP/1.1 301 Moved Permanently\r\nConnection: close\r\nLocation: https://{host}{target}\r\nContent-Length: 0\r\n\r\n"
        );
        tcp.write_all(answer.as_bytes()).await
    };
    let _ = timeout(IDLE, read).await;
}

pub async fn read_head(stream: &mut Stream) -> std::io::Result<Option<Head>> {
    let mut buffer = Vec::new();
    loop {
        let chunk = stream.chunk(usize::MAX).await?;
        if chunk.is_empty() {
            return Ok(None);
        }
        buffer.extend_from_slice(&chunk);
        let mut headers = [httparse::EMPTY_HEADER; 100];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&buffer) {
            Ok(httparse::Status::Complete(length)) => {
                let target = request.path.unwrap_or("/");
                let (path, query) = target.split_once('?').unwrap_or((target, ""));
                let head = Head {
                    method: request.method.unwrap_or_default().into(),
                    path: path.into(),
                    query: query.into(),
                    headers: request
                        .headers
                        .iter()
                        .map(|header| {
                            (
                                header.name.to_ascii_lowercase(),
                                String::from_utf8_lossy(header.value).trim().to_owned(),
                            )
                        })
                        .collect(),
                    minor: request.version.unwrap_or(1),
                };
                stream.rest = buffer.split_off(length);
                return Ok(Some(head));
            }
            Ok(httparse::Status::Partial) if buffer.len() < MAX_HEAD => {}
            _ => return Ok(None),
        }
    }
}

/// The path below `/api2/FORMAT`, decoded, without doubled slashes.
pub fn api_path(path: &str) -> String {
    let decoded = percent_encoding::percent_decode_str(path)
        .decode_utf8_lossy()
        .into_owned();
    let mut parts = decoded.split('/').filter(|part| !part.is_empty());
    if parts.clone().next() == Some("api2") {
        parts.next();
        parts.next();
    }
    format!("/{}", parts.collect::<Vec<_>>().join("/"))
}

/// Why a request ends early.
pub enum Stop {
    /// An error answer.
    Error(ApiError),
    /// No answer at all.
    Drop,
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

impl From<std::io::Error> for Stop {
    fn from(_: std::io::Error) -> Self {
        Self::Drop
    }
}

impl Stream {
    /// Read and drop what is left of a body, so that the client reads the answer rather than a reset.
    pub async fn discard(&mut self, mut length: u64) {
        while length > 0 {
            match self
                .chunk(usize::try_from(length).unwrap_or(usize::MAX))
                .await
            {
                Ok(chunk) if !chunk.is_empty() => length -= chunk.len() as u64,
                _ => return,
            }
        }
    }
}

/// Decode a form or a query. Repeated fields become a list, joined with NUL bytes. What follows a second, unencoded
/// `=` is lost, as in PVE.
pub fn decode_form(text: &str) -> Params {
    let decode = |text: &str| {
        percent_encoding::percent_decode_str(&text.replace('+', " "))
            .decode_utf8_lossy()
            .into_owned()
    };
    let mut params = Params::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let mut parts = pair.split('=');
        let name = decode(parts.next().unwrap_or(""));
        let value = decode(parts.next().unwrap_or(""));
        params
            .entry(name)
            .and_modify(|known: &mut String| {
                known.push('\0');
                known.push_str(&value);
            })
            .or_insert(value);
    }
    params
}
