//! One connection of a client: its requests in turn, each logged, with the faults that tests ask for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::api;
use crate::console;
use crate::error::ApiError;
use crate::faults::Action;
use crate::host::Host;
use crate::http::{Answer, Head, IDLE, Stop, Stream, api_path, plain, read_head};
use crate::multipart;
use crate::requests::Record;

/// Keep-alive ends with this request.
const MAX_REQUESTS: u32 = 100;
/// Bodies that are not uploads.
const MAX_BODY: u64 = 512 * 1024;

/// Serve one TCP connection until it ends.
pub async fn serve(host: Arc<Host>, tcp: TcpStream, peer: SocketAddr) {
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
        if let Some((port, head)) = &answer.websocket {
            return console::proxy(&host, stream, *port, head).await;
        }
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
    let answer = call.run(params, action).await?;
    Ok(console::upgrade(head, &path, answer)?)
}
