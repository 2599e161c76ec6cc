//! The guest agent's protocol, over the socket that QEMU connects to the guest's serial port.
//!
//! The port has no connections: what an earlier, abandoned command was answered may still be in
//! it. So each exchange begins with `guest-sync-delimited`, whose answer carries our number behind
//! a byte (0xFF) that no JSON text contains.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// How long an agent that is there may take to show it. Guests without KVM are slow.
pub(super) const SYNC_LIMIT: Duration = Duration::from_secs(10);

/// How long a command may take.
pub(super) const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Longest answer read: the agent itself limits a file read to 48 MiB, before base64.
const LONGEST_ANSWER: u64 = 80 << 20;

const DELIMITER: u8 = 0xFF;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Error {
    /// Nothing answered in time.
    Silent,
    /// The command was sent and not answered in time.
    Timeout,
    /// The agent's own text.
    Refused(String),
}

/// Whether the agent answers this command at all: it does not when the guest goes down by it.
fn answers(command: &str) -> bool {
    !matches!(
        command,
        "guest-shutdown" | "guest-suspend-ram" | "guest-suspend-disk" | "guest-suspend-hybrid"
    )
}

/// Run one command and return what is in its `return`.
pub(super) async fn call(
    stream: UnixStream,
    command: &str,
    arguments: &Value,
) -> Result<Value, Error> {
    let mut stream = BufReader::new(stream);
    tokio::time::timeout(SYNC_LIMIT, synchronise(&mut stream))
        .await
        .map_err(|_| Error::Silent)?
        .ok_or(Error::Silent)?;
    let request = json!({"execute": command, "arguments": arguments});
    let exchange = async {
        send(&mut stream, &[], &request).await?;
        answer(&mut stream).await
    };
    let limit = if answers(command) {
        COMMAND_LIMIT
    } else {
        Duration::from_secs(2)
    };
    match tokio::time::timeout(limit, exchange).await {
        Ok(Some(answer)) => match answer["error"]["desc"].as_str() {
            Some(text) => Err(Error::Refused(text.to_owned())),
            None => Ok(answer["return"].clone()),
        },
        Ok(None) | Err(_) if !answers(command) => Ok(json!({})),
        Ok(None) => Err(Error::Silent),
        Err(_) => Err(Error::Timeout),
    }
}

/// `None` when the connection ended.
async fn synchronise(stream: &mut BufReader<UnixStream>) -> Option<()> {
    let mut number = [0; 4];
    getrandom::fill(&mut number).ok()?;
    let number = u32::from_le_bytes(number);
    let request = json!({"execute": "guest-sync-delimited", "arguments": {"id": number}});
    // The leading delimiter makes the agent drop a half command that somebody left in the port.
    send(stream, &[DELIMITER], &request).await?;
    loop {
        let mut before = Vec::new();
        if stream.read_until(DELIMITER, &mut before).await.ok()? == 0 {
            return None;
        }
        if answer(stream).await?["return"] == json!(number) {
            return Some(());
        }
    }
}

async fn send(stream: &mut BufReader<UnixStream>, before: &[u8], request: &Value) -> Option<()> {
    let mut bytes = before.to_vec();
    bytes.extend_from_slice(request.to_string().as_bytes());
    bytes.push(b'\n');
    stream.write_all(&bytes).await.ok()
}

/// The next line as JSON; something else reads as null.
async fn answer(stream: &mut BufReader<UnixStream>) -> Option<Value> {
    let mut line = Vec::new();
    let mut limited = stream.take(LONGEST_ANSWER);
    if limited.read_until(b'\n', &mut line).await.ok()? == 0 {
        return None;
    }
    Some(serde_json::from_slice(&line).unwrap_or(Value::Null))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An agent that has stale output in its port, then answers one command with `answer`.
    async fn agent(stream: UnixStream, answer: &'static str) {
        let mut stream = BufReader::new(stream);
        stream
            .write_all(b"{\"return\": {\"stale\": true}}\n\xff{\"return\": 1}\n")
            .await
            .unwrap();
        let mut line = Vec::new();
        stream.read_until(b'\n', &mut line).await.unwrap();
        assert_eq!(line.remove(0), DELIMITER);
        let sync: Value = serde_json::from_slice(&line).unwrap();
        let number = &sync["arguments"]["id"];
        let text = format!("{{\"return\": {number}}}\n");
        stream.write_all(&[DELIMITER]).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        line.clear();
        stream.read_until(b'\n', &mut line).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
    }

    async fn exchange(command: &str, reply: &'static str) -> Result<Value, Error> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        tokio::spawn(agent(theirs, reply));
        call(ours, command, &json!({})).await
    }

    #[tokio::test]
    async fn answers_errors_and_stale_output() {
        assert_eq!(
            exchange("guest-exec", "{\"return\": {\"pid\": 5}}\n").await,
            Ok(json!({"pid": 5}))
        );
        assert_eq!(
            exchange(
                "guest-file-open",
                "{\"error\": {\"class\": \"GenericError\", \"desc\": \"failed to open file\"}}\n"
            )
            .await,
            Err(Error::Refused("failed to open file".into()))
        );
    }

    #[tokio::test]
    async fn a_shutdown_is_not_answered() {
        assert_eq!(exchange("guest-shutdown", "").await, Ok(json!({})));
        assert_eq!(exchange("guest-ping", "").await, Err(Error::Silent));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_there() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let silent = call(ours, "guest-ping", &json!({})).await;
        assert_eq!(silent, Err(Error::Silent));
    }
}
