//! The guest agent's calls.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::Context;
use crate::error::{ApiError, ApiResult};
use crate::guest::AgentError;
use crate::vm::config::Config;

/// A file larger than this is cut by file-read.
const MAX_READ: usize = 16 << 20;

pub async fn handle(method: &str, rest: &str, context: Context) -> ApiResult {
    let vmid = context.vmid()?;
    Config::load(&context.host, vmid)?;
    match (method, rest) {
        ("GET", "") => Ok([
            "exec",
            "exec-status",
            "file-read",
            "file-write",
            "get-host-name",
            "get-osinfo",
            "info",
            "network-get-interfaces",
            "ping",
        ]
        .map(|name| json!({"name": name}))
        .into_iter()
        .collect()),
        ("POST", "") => {
            let command = context.need("command")?;
            let known = [
                "ping",
                "info",
                "get-osinfo",
                "get-host-name",
                "network-get-interfaces",
                "get-time",
                "get-timezone",
                "get-users",
                "get-vcpus",
                "get-fsinfo",
                "fstrim",
                "shutdown",
            ];
            if !known.contains(&command) {
                return Err(ApiError::param(
                    "command",
                    format!(
                        "value '{command}' does not have a value in the enumeration '{}'",
                        known.join(", ")
                    ),
                ));
            }
            Ok(
                json!({"result": call(&context, vmid, &format!("guest-{command}"), Value::Null).await?}),
            )
        }
        (_, "/exec") => exec(&context, vmid).await,
        (_, "/exec-status") => exec_status(&context, vmid).await,
        (_, "/file-read") => file_read(&context, vmid).await,
        (_, "/file-write") => file_write(&context, vmid).await,
        (_, name) => {
            let command = format!("guest-{}", name.trim_start_matches('/'));
            let result = call(&context, vmid, &command, Value::Null).await?;
            Ok(json!({"result": result}))
        }
    }
}

async fn call(
    context: &Context,
    vmid: u32,
    command: &str,
    arguments: Value,
) -> Result<Value, ApiError> {
    let arguments = if arguments.is_null() {
        json!({})
    } else {
        arguments
    };
    match context.host.guests.agent(vmid, command, arguments).await {
        Err(AgentError::NotRunning) => simulated(context, vmid, command)
            .ok_or_else(|| ApiError::failed(AgentError::NotRunning.to_string())),
        answer => answer.map_err(|error| ApiError::failed(error.to_string())),
    }
}

/// What the agent of a simulated guest says, of which `guests.json` has the addresses.
fn simulated(context: &Context, vmid: u32, command: &str) -> Option<Value> {
    let addresses = context.host.guest_facts(vmid).addresses;
    if addresses.is_empty() {
        return None;
    }
    let config = Config::load(&context.host, vmid).ok()?;
    let mac = config.current.get("net0")?.split([',', '=']).nth(1)?;
    let listed = |address: &str| {
        let (ip, prefix) = address.split_once('/')?;
        let kind = if ip.contains(':') { "ipv6" } else { "ipv4" };
        Some(
            json!({"ip-address": ip, "ip-address-type": kind, "prefix": prefix.parse::<u8>().ok()?}),
        )
    };
    let list = |all: &[&str]| -> Value { all.iter().filter_map(|one| listed(one)).collect() };
    let own: Vec<&str> = addresses.iter().map(String::as_str).collect();
    Some(match command {
        "guest-network-get-interfaces" => json!([
            {"name": "lo", "hardware-address": "00:00:00:00:00:00", "ip-addresses": list(&["127.0.0.1/8", "::1/128"])},
            {"name": "eth0", "hardware-address": mac.to_lowercase(), "ip-addresses": list(&own)},
        ]),
        "guest-get-osinfo" => json!({"id": "nixos", "version-id": "26.05"}),
        "guest-get-host-name" => json!({"host-name": "guest"}),
        _ => json!({}),
    })
}

async fn exec(context: &Context, vmid: u32) -> ApiResult {
    let mut words = context.need("command")?.split('\0');
    let mut arguments =
        json!({"path": words.next(), "arg": words.collect::<Vec<_>>(), "capture-output": true});
    if let Some(input) = context.get("input-data") {
        arguments["input-data"] = json!(STANDARD.encode(input));
    }
    call(context, vmid, "guest-exec", arguments).await
}

async fn exec_status(context: &Context, vmid: u32) -> ApiResult {
    let answer = call(
        context,
        vmid,
        "guest-exec-status",
        json!({"pid": context.number("pid")}),
    )
    .await?;
    let mut shown = Map::new();
    for (key, value) in answer.as_object().cloned().unwrap_or_default() {
        let value = match value {
            Value::Bool(flag) => json!(u8::from(flag)),
            Value::String(text) if matches!(key.as_str(), "out-data" | "err-data") => {
                json!(decode(&text))
            }
            other => other,
        };
        shown.insert(key, value);
    }
    // The agent leaves the flag out when nothing was cut; PVE shows it whenever there is data.
    for stream in ["out", "err"] {
        if shown.contains_key(&format!("{stream}-data")) {
            shown
                .entry(format!("{stream}-truncated"))
                .or_insert(json!(0));
        }
    }
    Ok(shown.into())
}

fn decode(text: &str) -> String {
    STANDARD
        .decode(text)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

async fn file_read(context: &Context, vmid: u32) -> ApiResult {
    let handle = call(
        context,
        vmid,
        "guest-file-open",
        json!({"path": context.need("file")?, "mode": "r"}),
    )
    .await?;
    let mut content = Vec::new();
    let mut truncated = false;
    let result = loop {
        let chunk = match call(
            context,
            vmid,
            "guest-file-read",
            json!({"handle": handle, "count": 1 << 20}),
        )
        .await
        {
            Ok(chunk) => chunk,
            Err(error) => break Err(error),
        };
        content.extend(
            STANDARD
                .decode(chunk["buf-b64"].as_str().unwrap_or(""))
                .unwrap_or_default(),
        );
        truncated = content.len() >= MAX_READ;
        if truncated || chunk["eof"] == json!(true) || chunk["count"] == json!(0) {
            break Ok(());
        }
    };
    let closed = call(context, vmid, "guest-file-close", json!({"handle": handle})).await;
    result.and(closed.map(|_| ()))?;
    let mut answer =
        json!({"content": String::from_utf8_lossy(&content), "bytes-read": content.len()});
    if truncated {
        answer["truncated"] = json!(1);
    }
    Ok(answer)
}

async fn file_write(context: &Context, vmid: u32) -> ApiResult {
    let content = context.need("content")?;
    let encoded = if context.get("encode") == Some("0") {
        content.to_owned()
    } else {
        STANDARD.encode(content)
    };
    let handle = call(
        context,
        vmid,
        "guest-file-open",
        json!({"path": context.need("file")?, "mode": "wb"}),
    )
    .await?;
    let written = call(
        context,
        vmid,
        "guest-file-write",
        json!({"handle": handle, "buf-b64": encoded}),
    )
    .await;
    let closed = call(context, vmid, "guest-file-close", json!({"handle": handle})).await;
    written.and(closed)?;
    Ok(Value::Null)
}
