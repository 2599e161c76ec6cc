//! The log of requests, `requests.jsonl`, by which tests count calls.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::host::Host;
use crate::http::{Answer, Head, api_path};
use crate::schema::Params;

/// Parameters whose values are never written down.
const SECRET: [&str; 6] = [
    "password",
    "cipassword",
    "otp",
    "tfa-challenge",
    "content",
    "vncticket",
];

/// One request while it is answered.
pub struct Record {
    method: String,
    path: String,
    connection: u16,
    /// Who asked.
    pub user: Option<String>,
    /// Its parameters.
    pub params: Params,
}

impl Record {
    /// A request that came in from `peer`.
    pub fn new(head: &Head, peer: SocketAddr) -> Self {
        Self {
            method: head.method.clone(),
            path: api_path(&head.path),
            connection: peer.port(),
            user: None,
            params: crate::http::decode_form(&head.query),
        }
    }

    /// Write it down; `None` is a dropped connection.
    pub fn finish(self, host: &Host, answer: Option<&Answer>, took: Duration) {
        let upload = self.path.ends_with("/upload");
        let params: serde_json::Map<String, Value> = self
            .params
            .into_iter()
            .map(|(name, value)| {
                // `content` is a kind of volume everywhere but in agent/file-write.
                let secret = SECRET.contains(&name.as_str())
                    && !(name == "content" && (upload || self.method == "GET"));
                let value = if secret {
                    "***".to_owned()
                } else {
                    value.replace('\0', ",")
                };
                (name, Value::String(value))
            })
            .collect();
        host.log_request(&json!({
            "time": crate::clock::now_millis(),
            "connection": self.connection,
            "method": self.method,
            "path": self.path,
            "params": params,
            "user": self.user,
            "status": answer.map(|answer| answer.status),
            "reason": answer.map(|answer| answer.reason.clone()),
            "ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }));
    }
}
