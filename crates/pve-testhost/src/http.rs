//! The HTTP/1.1 server: pveproxy's connection handling, quirks included.
//!
//! Not a general server: it does what pveproxy does with keep-alive, idle connections, methods, bodies and errors.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use crate::api;
use crate::error::ApiError;
use crate::faults::Action;
use crate::host::Host;
use crate::multipart;
use crate::requests::Record;

/// A connection that is idle for so long is closed without notice, inside an upload too.
pub const IDLE: Duration = Duration::from_secs(5);
/// Keep-alive ends with this request.
const MAX_REQUESTS: u32 = 100;
/// Bodies that are not uploads.
const MAX_BODY: u64 = 512 * 1024;
const MAX_HEAD: usize = 64 * 1024;

/// A TLS stream read record by record: the upload parser depends on where the client's writes ended.
pub struct Stream {
    tls: TlsStream<TcpStream>,
    /// Bytes read and not consumed: what came together with a request's head.
    rest: Vec<u8>,
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

    /// Does a header hold this token?
    fn has_token(&self, name: &str, token: &str) -> bool {
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

    fn encode(&self, keep_alive: bool) -> Vec<u8> {
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

/// Serve one TCP connection until it ends.
pub async fn connection(host: Arc<Host>, tcp: TcpStream, peer: SocketAddr) {
    let mut first = [0_u8; 1];
    match timeout(IDLE, tcp.peek(&mut first)).await {
        Ok(Ok(1)) if first[0] != 0x16 => return plain(tcp).await,
        Ok(Ok(1)) => {}
        _ => return,
    }
    let _ = tcp.set_nodelay(true);
    let Ok(Ok(tls)) = timeout(IDLE, host.acceptor().accept(tcp)).await else {
        return;
    };
    let mut stream = Stream {
        tls,
        rest: Vec::new(),
    };
    let mut count = 0;
    while let Ok(Some(head)) = read_head(&mut stream).await {
        count += 1;
        let wants = if head.minor == 0 {
            head.has_token("connection", "keep-alive")
        } else {
            !head.has_token("connection", "close")
        };
        let keep_alive = wants && count < MAX_REQUESTS;
        let started = std::time::Instant::now();
        let mut record = Record::new(&head, peer);
        let action = host.faults().action(&head.method, &api_path(&head.path));
        let outcome = request(&host, &mut stream, &head, &mut record, action).await;
        record.finish(&host, outcome.as_ref(), started.elapsed());
        let Some(answer) = outcome else { break };
        let keep_alive = keep_alive && !answer.close;
        if stream
            .tls
            .write_all(&answer.encode(keep_alive))
            .await
            .is_err()
            || stream.tls.flush().await.is_err()
            || !keep_alive
        {
            break;
        }
    }
    let _ = timeout(Duration::from_secs(1), stream.tls.shutdown()).await;
}

/// Plain HTTP on the TLS port: sent on to https.
async fn plain(tcp: TcpStream) {
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

async fn read_head(stream: &mut Stream) -> std::io::Result<Option<Head>> {
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

/// Answer one request. `None` drops the connection.
async fn request(
    host: &Arc<Host>,
    stream: &mut Stream,
    head: &Head,
    record: &mut Record,
    action: Option<Action>,
) -> Option<Answer> {
    match &action {
        Some(Action::DropBefore) => return None,
        Some(Action::Delay(time)) => tokio::time::sleep(*time).await,
        _ => {}
    }
    let answer = match handle(host, stream, head, record, action.as_ref()).await {
        Ok(answer) => answer,
        Err(Stop::Drop) => return None,
        Err(Stop::Error(error)) => {
            if error.delayed {
                tokio::time::sleep(host.auth_delay()).await;
            }
            let mut answer = Answer::error(&error);
            if head.path.starts_with("/api2/extjs") && !error.empty_body {
                let mut body = error.body();
                body["status"] = error.status.into();
                body["success"] = 0.into();
                answer = Answer::json(&body);
            }
            answer
        }
    };
    match action {
        Some(Action::DropAfter) => None,
        Some(Action::AnswerAfter(status)) => Some(Answer::error(&relay_error(status))),
        _ => Some(answer),
    }
}

/// The answers of pveproxy when pvedaemon does not answer.
fn relay_error(status: u16) -> ApiError {
    let text = match status {
        595 => "Connection refused",
        596 => "Connection timed out",
        503 => "Service Unavailable",
        504 => "Gateway Time-out",
        502 => "Bad Gateway",
        _ => "got fault",
    };
    ApiError::empty(status, text)
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

async fn handle(
    host: &Arc<Host>,
    stream: &mut Stream,
    head: &Head,
    record: &mut Record,
    action: Option<&Action>,
) -> Result<Answer, Stop> {
    if !matches!(head.method.as_str(), "GET" | "POST" | "PUT" | "DELETE") {
        return Err(ApiError::empty(501, format!("method '{}' not available", head.method)).into());
    }
    if !head.path.trim_start_matches('/').starts_with("api2/") {
        return Err(ApiError::text(404, format!("no such file '{}'", head.path)).into());
    }
    if let Some(Action::Answer(status)) = action {
        return Err(relay_error(*status).into());
    }
    let path = api_path(&head.path);
    let call = api::Call::authenticate(host, head, &path)?;
    record.user = call.user();
    if head.header("transfer-encoding").is_some() {
        return Err(ApiError::text(501, "chunked transfer encoding not supported").into());
    }
    let length = match head.header("content-length").map(str::parse::<u64>) {
        None => 0,
        Some(Ok(length)) => length,
        Some(Err(_)) => return Err(ApiError::empty(400, "Bad Request").into()),
    };
    if head.method == "POST" && path.ends_with("/upload") && call.is_upload() {
        let upload = multipart::receive(host, stream, head, &call, length).await?;
        record.params.clone_from(&upload.params);
        return Ok(call.upload(upload, action).await?);
    }
    if head.method == "DELETE" && length > 0 {
        return Err(ApiError::text(501, "Unexpected content for method 'DELETE'").into());
    }
    if length > MAX_BODY {
        return Err(ApiError::text(501, "for data too large").into());
    }
    let mut body = Vec::new();
    while (body.len() as u64) < length {
        let most = usize::try_from(length).unwrap_or(usize::MAX) - body.len();
        let chunk = stream.chunk(most).await?;
        if chunk.is_empty() {
            return Err(Stop::Drop);
        }
        body.extend_from_slice(&chunk);
    }
    let params = api::parameters(head, &body)?;
    record.params.clone_from(&params);
    let answer = call.run(params, action).await;
    Ok(answer?)
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
