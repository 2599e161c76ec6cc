//! Reading answers, and what went wrong below HTTP.

use std::sync::PoisonError;

use reqwest::Response;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Error;
use crate::answer::{self, Unread};
use crate::client::Client;
use crate::error::{Refusal, root_cause, shown};

impl Client {
    /// Read an answer: its `data`, or everything it says about the failure.
    pub(crate) async fn read<T: DeserializeOwned>(
        &self,
        mut response: Response,
        action: &str,
        write: bool,
    ) -> Result<T, Error> {
        let status = response.status();
        let reason = match response.extensions().get::<hyper::ext::ReasonPhrase>() {
            Some(phrase) => String::from_utf8_lossy(phrase.as_bytes()).into_owned(),
            None => status.canonical_reason().unwrap_or_default().to_string(),
        };
        let unexpected = |detail: String| Error::Unexpected {
            action: action.to_string(),
            detail,
        };
        let body = match answer::bytes(&mut response, !status.is_success()).await {
            Ok(body) => body,
            Err(Unread::Broken(error)) => return Err(self.transport(action, error, write)),
            Err(Unread::TooLarge(excess)) => return Err(unexpected(excess)),
        };
        if status.is_success() {
            return data(&body).map_err(unexpected);
        }
        let json = match answer::check(&body) {
            Ok(()) => serde_json::from_slice::<Value>(&body).ok(),
            Err(_) => None,
        };
        let mut refusal = Refusal {
            action: action.to_string(),
            caller: self.0.settings.credential.caller().to_string(),
            status: status.as_u16(),
            message: shown(&reason),
            reason,
            errors: Default::default(),
            retried: None,
            write,
        };
        if let Some(answer) = &json {
            if let Some(text) = answer
                .get("message")
                .and_then(Value::as_str)
                .map(str::trim)
                .filter(|t| !t.is_empty())
            {
                refusal.message = shown(text);
            }
            if let Some(errors) = answer.get("errors").and_then(Value::as_object) {
                let mut size = 0;
                refusal.errors = errors
                    .iter()
                    .map(|(name, text)| {
                        let text = text
                            .as_str()
                            .map_or_else(|| shown(&text.to_string()), shown);
                        (shown(name), text)
                    })
                    .take_while(|(name, text)| {
                        size += name.len() + text.len();
                        size <= LARGEST_ERRORS
                    })
                    .collect();
            }
        } else if refusal.message.is_empty() {
            refusal.message = excerpt(&body);
        }
        Err(Error::Refused(Box::new(refusal)))
    }

    /// [`Client::read`], for fuzz targets.
    #[cfg(fuzzing)]
    pub async fn read_any(&self, status: u16, body: Vec<u8>) -> Result<Value, Error> {
        let mut answer = hyper::http::Response::new(body);
        *answer.status_mut() = hyper::http::StatusCode::from_u16(status).unwrap_or_default();
        self.read(answer.into(), "GET /x", false).await
    }

    /// A failure below HTTP.
    pub(crate) fn transport(&self, action: &str, error: reqwest::Error, write: bool) -> Error {
        let action = action.to_string();
        let detail = root_cause(&error);
        if error.is_connect() {
            let rejected = self
                .0
                .rejected
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            return match rejected {
                Some(rejected) => Error::Untrusted {
                    action,
                    host: self.address(),
                    presented: Some(rejected.fingerprint),
                    detail: rejected.reason,
                },
                None => Error::Unreachable {
                    action,
                    hosts: self.addresses(),
                    detail,
                },
            };
        }
        Error::Interrupted {
            action,
            detail: format!("the connection to {} broke: {detail}", self.address()),
            may_have_happened: write,
        }
    }
}

/// The `data` of an answer, read into what it is to be without anything in between: a list of JSON
/// values takes many times the memory of the same list of structures.
fn data<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    answer::check(body)?;
    let foreign = || format!("not PVE's JSON: {}", excerpt(body));
    // A structure may be read from a list too.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(foreign());
    }
    let wrong = |error: serde_json::Error| match error.is_data() {
        true => shown(&error.to_string()),
        false => foreign(),
    };
    match serde_json::from_slice::<Envelope<T>>(body)
        .map_err(wrong)?
        .data
    {
        Some(data) => Ok(data),
        None => serde_json::from_value(Value::Null).map_err(wrong),
    }
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Envelope<T> {
    #[serde(default)]
    data: Option<T>,
}

/// The most of a refusal's texts by parameter that is kept, in bytes.
const LARGEST_ERRORS: usize = 20_000;

fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(200)]);
    let line = text.trim().lines().next().unwrap_or_default().to_string();
    if line.is_empty() {
        "an empty answer".into()
    } else {
        line
    }
}
