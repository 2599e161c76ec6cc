//! The errors an API call answers with, in PVE's shapes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A failed API call: the status line and the JSON body PVE would send.
#[derive(Debug, Clone)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// Message; its first line is also the reason phrase.
    pub message: String,
    /// Per-parameter texts of a 400.
    pub errors: BTreeMap<String, String>,
    /// The body is empty instead of JSON (errors that pveproxy raises itself).
    pub empty_body: bool,
    /// The body is the reason instead of JSON.
    pub text_body: bool,
    /// Wait as long as PVE does before it answers 401.
    pub delayed: bool,
}

/// What handlers return: the `data` of the answer.
pub type ApiResult = Result<Value, ApiError>;

impl ApiError {
    /// An operational error: status 500 and its text.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::status(500, message)
    }

    /// Any other status with a JSON body.
    pub fn status(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            errors: BTreeMap::new(),
            empty_body: false,
            text_body: false,
            delayed: false,
        }
    }

    /// An answer without a body.
    pub fn empty(status: u16, message: impl Into<String>) -> Self {
        Self {
            empty_body: true,
            ..Self::status(status, message)
        }
    }

    /// An answer whose body is the reason as text: what pveproxy refuses before it looks at the call.
    pub fn text(status: u16, message: impl Into<String>) -> Self {
        Self {
            text_body: true,
            ..Self::empty(status, message)
        }
    }

    /// 401 without a body, delayed as PVE delays it.
    pub fn unauthorized(message: &str) -> Self {
        Self {
            delayed: true,
            ..Self::empty(401, message)
        }
    }

    /// One parameter is wrong.
    pub fn param(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self::params(BTreeMap::from([(name.into(), text.into())]))
    }

    /// Several parameters are wrong.
    pub fn params(errors: BTreeMap<String, String>) -> Self {
        Self {
            errors,
            ..Self::status(400, "Parameter verification failed.")
        }
    }

    /// The user lacks a privilege.
    pub fn forbidden(path: &str, privileges: &str) -> Self {
        Self::status(
            403,
            format!("Permission check failed ({path}, {privileges})"),
        )
    }

    /// Unknown path or wrong method.
    pub fn not_implemented(method: &str, path: &str) -> Self {
        Self::status(501, format!("Method '{method} {path}' not implemented"))
    }

    /// The reason phrase: the first line of the message.
    pub fn reason(&self) -> &str {
        self.message.lines().next().unwrap_or("")
    }

    /// The error as a task shows it.
    pub fn task_text(self) -> String {
        if self.status == 403 {
            return format!("403 {}", self.message);
        }
        match self.errors.iter().next() {
            Some((key, text)) => format!("{}\n{key}: {text}", self.message),
            None => self.message,
        }
    }

    /// The JSON body.
    pub fn body(&self) -> Value {
        // Of all errors only this one comes without a line end.
        let message = if self.status == 501 {
            self.message.clone()
        } else {
            format!("{}\n", self.message)
        };
        let mut body = json!({"data": null, "message": message});
        if !self.errors.is_empty() {
            body["errors"] = json!(self.errors);
        }
        body
    }
}

impl From<std::io::Error> for ApiError {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error.to_string())
    }
}
