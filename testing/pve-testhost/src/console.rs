//! Consoles: `termproxy`, its websocket, and `qm terminal` behind it, as PVE::API2::Qemu, PVE::APIServer::AnyEvent and
//! proxmox-termproxy have them.

pub mod ports;

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream,
};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::access::Identity;
use crate::context::Context;
use crate::error::{ApiError, ApiResult};
use crate::guest::{Power, SerialPort};
use crate::host::Host;
use crate::http::{Answer, Head, Stream};
use crate::vm::config::Config;

/// How long termproxy waits for its client, and then for the ticket.
const PATIENCE: Duration = Duration::from_secs(10);
/// pveproxy's bound of a frame.
const LARGEST_FRAME: usize = ports::BUFFER;

/// POST termproxy: the VM need not run, as `qm terminal` is started only for who connects.
pub fn termproxy(context: &Context, vmid: u32) -> ApiResult {
    let config = Config::load(&context.host, vmid)?;
    let display = config.current.get("vga").map(String::as_str);
    let serial = context
        .get("serial")
        .or(display.filter(|vga| vga.starts_with("serial")));
    let serial = serial.map(str::to_owned);
    let opened = context.host.consoles.open();
    let (port, client) =
        opened.ok_or_else(|| ApiError::failed("unable to find free port (5900-6000)"))?;
    let path = format!("/vms/{vmid}");
    let ticket = context
        .host
        .access
        .console_ticket(&context.who, &path, port);
    let (host, pinned) = (context.host.clone(), ticket.clone());
    let upid = context.spawn("vncproxy", &vmid.to_string(), move |log| async move {
        log.line(format!("starting qemu termproxy {port}"));
        serve(&host, vmid, port, serial.as_deref(), &pinned, client)
            .await
            .map_err(|error| {
                log.line(error);
                format!("command '/usr/bin/termproxy {port} --path /vms/{vmid} --perm VM.Console ...' failed: exit code 1")
            })
    })?;
    Ok(json!({"user": context.who.id(), "ticket": ticket, "port": port, "upid": upid}))
}

/// GET vncwebsocket: the ticket is checked here and again by termproxy.
pub fn websocket(context: &Context, vmid: u32) -> ApiResult {
    let port = context
        .number("port")
        .and_then(|port| u16::try_from(port).ok());
    let port = port.unwrap_or_default();
    let path = format!("/vms/{vmid}");
    let ticket = context.need("vncticket")?;
    let who = context.who.id();
    if !context
        .host
        .access
        .is_console_ticket(ticket, &who, &path, port)
    {
        return Err(ApiError {
            delayed: true,
            ..ApiError::status(401, "permission denied - invalid PVEVNC ticket")
        });
    }
    Config::load(&context.host, vmid)?;
    Ok(json!({"port": port}))
}

/// Make the answer to a call of the websocket its beginning, if that is what was asked for.
pub fn upgrade(head: &Head, path: &str, mut answer: Answer) -> Result<Answer, ApiError> {
    let Some(protocol) = head.header("upgrade").map(str::to_ascii_lowercase) else {
        return Ok(answer);
    };
    if head.method != "GET" || !path.ends_with("websocket") || answer.status != 200 {
        return Ok(answer);
    }
    if protocol != "websocket" {
        return Err(ApiError::failed(format!(
            "unable to upgrade to protocol '{protocol}'"
        )));
    }
    let version = head.header("sec-websocket-version").unwrap_or("");
    if version != "13" {
        return Err(ApiError::failed(format!(
            "unsupported websocket-version '{version}'"
        )));
    }
    let key = head
        .header("sec-websocket-key")
        .ok_or_else(|| ApiError::failed("missing websocket-key"))?;
    let data: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let port = data["data"]["port"]
        .as_u64()
        .and_then(|port| u16::try_from(port).ok());
    let protocol = head.header("sec-websocket-protocol").unwrap_or("");
    let protocol = match protocol {
        "" => String::new(),
        _ => format!("Sec-WebSocket-Protocol: {protocol}\r\n"),
    };
    let accept = derive_accept_key(key.as_bytes());
    answer.status = 101;
    answer.websocket = Some((
        port.unwrap_or_default(),
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\
             {protocol}\r\n"
        ),
    ));
    Ok(answer)
}

/// Pass on what comes, as pveproxy does, until one side ends.
pub async fn proxy(host: &Host, mut stream: Stream, port: u16, head: &str) {
    // pveproxy answers nothing if nobody listens there.
    let Some(mut terminal) = host.consoles.connect(port) else {
        return;
    };
    if stream.tls.write_all(head.as_bytes()).await.is_err() || stream.tls.flush().await.is_err() {
        return;
    }
    let config = WebSocketConfig::default()
        .max_message_size(Some(LARGEST_FRAME))
        .max_frame_size(Some(LARGEST_FRAME));
    let rest = std::mem::take(&mut stream.rest);
    let mut socket =
        WebSocketStream::from_partially_read(stream.tls, rest, Role::Server, Some(config)).await;
    let mut buffer = vec![0_u8; 16 * 1024];
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Binary(bytes))) if terminal.write_all(&bytes).await.is_ok() => {}
                Some(Ok(Message::Text(text))) if terminal.write_all(text.as_bytes()).await.is_ok() => {}
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return,
            },
            read = terminal.read(&mut buffer) => match read {
                Ok(length) if length > 0 => {
                    let bytes = Message::binary(buffer[..length].to_vec());
                    if socket.send(bytes).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
        }
    }
}

/// What termproxy does: wait, check the ticket, run the terminal.
async fn serve(
    host: &Arc<Host>,
    vmid: u32,
    port: u16,
    serial: Option<&str>,
    pinned: &str,
    client: oneshot::Receiver<DuplexStream>,
) -> Result<(), String> {
    let client = timeout(PATIENCE, client).await;
    let Ok(Ok(client)) = client else {
        return Err("failed waiting for client: timed out".into());
    };
    let mut client = BufReader::new(client);
    let mut line = String::new();
    match timeout(PATIENCE, client.read_line(&mut line)).await {
        Err(_) => return Err("failed reading ticket: timed out".into()),
        Ok(Err(error)) => return Err(format!("failed reading ticket: {error}")),
        Ok(Ok(_)) if !line.ends_with('\n') => {
            return Err("failed reading ticket: connection closed before authentication".into());
        }
        Ok(Ok(_)) => {}
    }
    let Some((user, ticket)) = line.trim_end_matches('\n').split_once(':') else {
        return Err("failed reading ticket: authentication data is invalid".into());
    };
    let (owner, token) = match user.split_once('!') {
        Some((owner, token)) => (owner, Some(token.to_owned())),
        None => (user, None),
    };
    let identity = Identity {
        user: owner.into(),
        token,
    };
    let path = format!("/vms/{vmid}");
    let is_refused = user.contains('!') && !host.facts().console_tokens;
    if is_refused
        || ticket != pinned
        || !host.access.is_console_ticket(ticket, user, &path, port)
        || !host.access.has(&identity, &path, "VM.Console")
    {
        return Err("authentication request failed".into());
    }
    let _ = client.write_all(b"OK").await;
    match terminal(host, vmid, serial).await {
        Ok((interface, SerialPort::Real(socket))) => run(client, &interface, socket).await,
        Ok((interface, SerialPort::Simulated(socket))) => run(client, &interface, socket).await,
        // `qm terminal` says why on its terminal, and termproxy ends as it always does.
        Err(error) => drop(client.write_all(format!("{error}\r\n").as_bytes()).await),
    }
    Ok(())
}

/// What `qm terminal` checks, and the socket that it has `socat` connect to.
async fn terminal(
    host: &Host,
    vmid: u32,
    serial: Option<&str>,
) -> Result<(String, SerialPort), String> {
    let config = Config::load(host, vmid).map_err(|error| error.message)?;
    let kind = |interface: &str| config.current.get(interface).map(String::as_str);
    let interface = match serial {
        Some(interface) => match kind(interface) {
            Some("socket") => interface.to_owned(),
            Some(_) => return Err(format!("wrong serial type on interface '{interface}'")),
            None => return Err(format!("serial interface '{interface}' is not configured")),
        },
        None => (0..4)
            .map(|number| format!("serial{number}"))
            .find(|interface| kind(interface) == Some("socket"))
            .ok_or("unable to find a serial interface")?,
    };
    if host.guests.power(vmid) == Power::Stopped {
        return Err(format!("VM {vmid} not running"));
    }
    let socket = host.guests.serial(vmid, &interface).await?;
    Ok((interface, socket))
}

/// Pass on the console's bytes. What comes from the client is not typed: nobody here needs it.
async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    client: BufReader<DuplexStream>,
    interface: &str,
    mut socket: S,
) {
    let (mut input, mut output) = tokio::io::split(client);
    let begin = format!("starting serial terminal on interface {interface}\r\n");
    if output.write_all(begin.as_bytes()).await.is_err() {
        return;
    }
    let ignored = async {
        let _ = tokio::io::copy(&mut input, &mut tokio::io::sink()).await;
    };
    let shown = async {
        let _ = tokio::io::copy(&mut socket, &mut output).await;
    };
    tokio::select! {
        () = ignored => {}
        () = shown => {}
    }
}
