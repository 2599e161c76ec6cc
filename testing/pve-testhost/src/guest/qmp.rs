//! QEMU's machine protocol: one connection to one QEMU, commands answered by id, events passed on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;

/// How long QEMU may take for a command: its main loop is slow on a loaded machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub(super) enum QmpError {
    #[error("QEMU is gone")]
    Gone,
    #[error("qmp command '{0}' failed - got timeout")]
    Timeout(String),
    #[error("qmp command '{command}' failed - {text}")]
    Refused { command: String, text: String },
}

/// A connection; clones share it. It ends when QEMU does, or when the last clone is dropped.
#[derive(Clone)]
pub(super) struct Qmp {
    writer: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
    pending: Pending,
    next: Arc<AtomicU64>,
}

type Answer = Result<Value, String>;

/// Who waits for the answer to which id.
type Waiting = HashMap<u64, oneshot::Sender<Answer>>;

/// Who waits; `None` once the connection ended.
#[derive(Clone)]
struct Pending(Arc<Mutex<Option<Waiting>>>);

impl Pending {
    fn with<T>(&self, f: impl FnOnce(&mut Option<Waiting>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Qmp {
    /// Negotiate on a fresh connection. `on_event` gets each event's name and data.
    pub(super) async fn new(
        stream: UnixStream,
        on_event: impl Fn(&str, &Value) + Send + 'static,
    ) -> Result<Self, QmpError> {
        let (reader, writer) = stream.into_split();
        let pending = Pending(Arc::new(Mutex::new(Some(HashMap::new()))));
        tokio::spawn(read(reader, pending.clone(), on_event));
        let qmp = Self {
            writer: Arc::new(tokio::sync::Mutex::new(writer)),
            pending,
            next: Arc::default(),
        };
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// Run a command and return what is in its `return`.
    pub(super) async fn execute(&self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.pending
            .with(|pending| pending.as_mut().map(|map| map.insert(id, sender)))
            .ok_or(QmpError::Gone)?;
        let request = json!({"execute": command, "arguments": arguments, "id": id});
        let exchange = async {
            self.writer
                .lock()
                .await
                .write_all(format!("{request}\n").as_bytes())
                .await
                .map_err(|_| QmpError::Gone)?;
            match receiver.await {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(text)) => Err(QmpError::Refused {
                    command: command.to_owned(),
                    text,
                }),
                Err(_) => Err(QmpError::Gone),
            }
        };
        let answer = tokio::time::timeout(ANSWER_LIMIT, exchange).await;
        answer.unwrap_or_else(|_| {
            self.pending.with(|pending| {
                if let Some(map) = pending {
                    map.remove(&id);
                }
            });
            Err(QmpError::Timeout(command.to_owned()))
        })
    }
}

async fn read(reader: OwnedReadHalf, pending: Pending, on_event: impl Fn(&str, &Value)) {
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(message) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        if let Some(event) = message["event"].as_str() {
            on_event(event, &message["data"]);
        } else if let Some(id) = message["id"].as_u64() {
            let answer = match message["error"]["desc"].as_str() {
                Some(text) => Err(text.to_owned()),
                None => Ok(message["return"].clone()),
            };
            let waiting = pending.with(|pending| pending.as_mut()?.remove(&id));
            if let Some(waiting) = waiting {
                // Whoever asked may have given up by now.
                let _ = waiting.send(answer);
            }
        }
    }
    pending.with(Option::take);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A QEMU that answers each request with what `answer` gives, until it gives nothing.
    async fn qemu(stream: UnixStream, answer: impl Fn(&Value) -> Option<String>) {
        let (reader, mut writer) = stream.into_split();
        let greeting = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n";
        writer.write_all(greeting.as_bytes()).await.unwrap();
        let mut lines = BufReader::new(reader).lines();
        while let Some(line) = lines.next_line().await.unwrap() {
            match answer(&serde_json::from_str(&line).unwrap()) {
                Some(text) => writer.write_all(text.as_bytes()).await.unwrap(),
                None => return,
            }
        }
    }

    #[tokio::test]
    async fn commands_events_errors_and_the_end() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        tokio::spawn(qemu(theirs, |request| {
            let id = &request["id"];
            match request["execute"].as_str()? {
                "qmp_capabilities" => Some(format!("{{\"return\": {{}}, \"id\": {id}}}\r\n")),
                "query-status" => Some(format!(
                    "{{\"event\": \"STOP\", \"data\": {{}}}}\r\n{{\"return\": {{\"status\": \"paused\"}}, \"id\": {id}}}\r\n"
                )),
                "eject" => Some(format!(
                    "{{\"error\": {{\"class\": \"GenericError\", \"desc\": \"Device 'ide2' is locked\"}}, \"id\": {id}}}\r\n"
                )),
                _ => None,
            }
        }));
        let events = Arc::new(Mutex::new(Vec::new()));
        let seen = events.clone();
        let qmp = Qmp::new(ours, move |event, _| {
            seen.lock().unwrap().push(event.to_owned())
        })
        .await
        .unwrap();
        let status = qmp.execute("query-status", json!({})).await.unwrap();
        assert_eq!(status["status"], "paused");
        assert_eq!(*events.lock().unwrap(), ["STOP"]);
        let refused = qmp
            .execute("eject", json!({"id": "ide2"}))
            .await
            .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "qmp command 'eject' failed - Device 'ide2' is locked"
        );
        assert!(matches!(
            qmp.execute("quit", json!({})).await,
            Err(QmpError::Gone)
        ));
        assert!(matches!(
            qmp.execute("quit", json!({})).await,
            Err(QmpError::Gone)
        ));
    }
}
