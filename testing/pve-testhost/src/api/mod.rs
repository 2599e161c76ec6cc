//! From a request to its handler: authentication, routing, privileges, verification.

pub mod agent;
pub mod checksum;
pub mod cluster;
pub mod download;
pub mod guests;
pub mod ha;
pub mod snapshot;
pub mod storage;
pub mod tasks;

pub use crate::context::Context;

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::access::Identity;
use crate::error::{ApiError, ApiResult};
use crate::faults::{Action, Interrupt};
use crate::host::{Host, lock_timeout};
use crate::http::{self, Answer, Head};
use crate::schema::{self, Params};

/// A received upload.
pub struct Upload {
    /// content, checksum, checksum-algorithm, filename; from the query too.
    pub params: Params,
    /// The file on the node, of full size. Stays behind when a check fails, as on a real node.
    pub file: PathBuf,
    /// Its size in bytes.
    pub size: u64,
}

/// A call whose user is known.
pub struct Call {
    host: Arc<Host>,
    who: Option<Identity>,
    method: String,
    /// Below `/api2/FORMAT`.
    path: String,
    /// The `extjs` formatter.
    extjs: bool,
}

/// An answer that is not just `data`.
pub enum Reply {
    /// `{"data": ...}`.
    Data(Value),
    /// `{"data": ..., NAME: ...}`.
    With(Value, &'static str, Value),
    /// A text file.
    Text(String, String),
}

impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        Self::Data(value)
    }
}

impl Call {
    /// Find out who asks.
    pub fn authenticate(host: &Arc<Host>, head: &Head, path: &str) -> Result<Self, ApiError> {
        let open = matches!(
            (head.method.as_str(), path),
            ("GET", "/access/domains") | ("GET" | "POST", "/access/ticket")
        );
        let mut call = Self {
            host: host.clone(),
            who: None,
            method: head.method.clone(),
            path: path.to_owned(),
            extjs: head.path.trim_start_matches('/').starts_with("api2/extjs"),
        };
        if open {
            return Ok(call);
        }
        let authorization = head.header("authorization").unwrap_or("");
        if let Some(token) = authorization
            .strip_prefix("PVEAPIToken")
            .map(|rest| rest.trim_start_matches(['=', ' ']))
        {
            let identity = host.access.token(token);
            call.who =
                Some(identity.ok_or_else(|| ApiError::unauthorized("Authentication failed!"))?);
            return Ok(call);
        }
        let cookies = head.header("cookie").unwrap_or("");
        let ticket = authorization
            .strip_prefix("PVEAuthCookie=")
            .or_else(|| {
                cookies
                    .split(';')
                    .find_map(|cookie| cookie.trim().strip_prefix("PVEAuthCookie="))
            })
            .ok_or_else(|| ApiError::unauthorized("No ticket"))?;
        let ticket = percent_encoding::percent_decode_str(ticket).decode_utf8_lossy();
        let identity = host
            .access
            .ticket(&ticket)
            .ok_or_else(|| ApiError::unauthorized("permission denied - invalid PVE ticket"))?;
        let upload = head.method == "POST" && call.is_upload();
        if head.method != "GET" && !upload {
            let csrf = head.header("csrfpreventiontoken").unwrap_or("");
            if !host.access.csrf(&identity.user, csrf) {
                return Err(ApiError::unauthorized(
                    "Permission denied - invalid csrf token",
                ));
            }
        }
        call.who = Some(identity);
        Ok(call)
    }

    /// The user or token, for the request log.
    pub fn user(&self) -> Option<String> {
        self.who.as_ref().map(Identity::id)
    }

    /// Does this call carry a file?
    pub fn is_upload(&self) -> bool {
        schema::route("POST", &self.path)
            .is_some_and(|route| route.template == "/nodes/{node}/storage/{storage}/upload")
    }

    /// May this user upload there? Known before the body is read; the 403 has no body.
    pub fn check_upload_permission(&self) -> Result<(), ApiError> {
        let Some(route) = schema::route("POST", &self.path) else {
            return Ok(());
        };
        let who = self
            .who
            .as_ref()
            .ok_or_else(|| ApiError::unauthorized("No ticket"))?;
        self.host
            .access
            .check_expression(who, &route.endpoint.perm, &route.params)
            .map_err(|error| ApiError::empty(403, error.message))
    }

    /// An upload whose body has been received.
    pub async fn upload(
        &self,
        upload: Upload,
        action: Option<&Action>,
    ) -> Result<Answer, ApiError> {
        let size = upload.size;
        let file = upload.file.clone();
        let (reply, relayed) = self
            .dispatch(upload.params, action, Some((file, size)))
            .await?;
        Ok(self.answer(reply, relayed))
    }

    /// Any other call.
    pub async fn run(&self, params: Params, action: Option<&Action>) -> Result<Answer, ApiError> {
        let (reply, relayed) = self.dispatch(params, action, None).await?;
        Ok(self.answer(reply, relayed))
    }

    fn answer(&self, reply: Reply, relayed: bool) -> Answer {
        let mut answer = match reply {
            Reply::Data(data) if self.extjs => Answer::json(&json!({"data": data, "success": 1})),
            Reply::Data(data) => Answer::json(&json!({"data": data})),
            Reply::With(data, name, value) => Answer::json(&json!({"data": data, name: value})),
            Reply::Text(name, text) => Answer {
                content_type: Some("text/plain"),
                headers: vec![(
                    "Content-Disposition",
                    format!("attachment; filename=\"{name}\""),
                )],
                body: text.into_bytes(),
                ..Answer::json(&Value::Null)
            },
        };
        answer.relayed = relayed;
        answer
    }

    async fn dispatch(
        &self,
        mut params: Params,
        action: Option<&Action>,
        file: Option<(std::path::PathBuf, u64)>,
    ) -> Result<(Reply, bool), ApiError> {
        let Some(route) = schema::route(&self.method, &self.path) else {
            return self.index().map(|data| (Reply::Data(data), false));
        };
        let world = route.endpoint.perm == json!("world");
        let who = match &self.who {
            Some(who) => who.clone(),
            None if world => Identity {
                user: String::new(),
                token: None,
            },
            None => return Err(ApiError::unauthorized("No ticket")),
        };
        params.extend(route.params);
        let mut host = self.host.clone();
        if let Some(node) = params.get_mut("node") {
            if node == "localhost" {
                node.clone_from(&self.host.node);
            }
            host = self.host.peer(node).ok_or_else(|| ApiError::failed(format!(
                "hostname lookup '{node}' failed - failed to get address info for: {node}: Name or service not known"
            )))?;
        }
        host.access
            .check_expression(&who, &route.endpoint.perm, &params)?;
        // The node that is asked passes the call on.
        if host.facts().offline && params.contains_key("node") {
            return Err(ApiError::empty(595, "Connection refused"));
        }
        route.endpoint.verify(&params)?;
        crate::cpu::verify(&host.dir, &params)?;
        // root's tokens are not root.
        if params.get("skiplock").is_some_and(|value| value == "1") && !who.is_root() {
            return Err(ApiError::param(
                "skiplock",
                "Only root may use this option.",
            ));
        }
        let mut fail = None;
        let mut interrupt = Interrupt::default();
        match action {
            Some(Action::SlowCopy(time)) => interrupt.slow = *time,
            Some(Action::Kill) => interrupt.kill = true,
            Some(Action::Orphan) => {
                // pvedaemon dies between the configuration and the task.
                if self.method == "POST" && route.template == "/nodes/{node}/qemu" {
                    let vmid = params.get("vmid").and_then(|vmid| vmid.parse().ok());
                    crate::vm::create::reserve(&host, vmid.unwrap_or(0), "create")?;
                }
                return Err(ApiError::empty(596, "Connection timed out"));
            }
            Some(Action::Lock) => {
                let vmid = params
                    .get("vmid")
                    .and_then(|vmid| vmid.parse().ok())
                    .unwrap_or(0);
                return Err(ApiError::failed(lock_timeout(vmid)));
            }
            Some(Action::Fail(text)) => fail = Some(text.clone()),
            _ => {}
        }
        let context = Context {
            host,
            who,
            params,
            fail,
            interrupt,
        };
        let reply = handle(&self.method, route.template, context, file).await?;
        Ok((reply, route.endpoint.protected == 1))
    }

    /// Folders of the API answer with their children; anything else is not implemented.
    fn index(&self) -> ApiResult {
        let children = schema::children(&self.path);
        if self.method != "GET" || children.is_empty() {
            return Err(ApiError::not_implemented(&self.method, &self.path));
        }
        Ok(children
            .into_iter()
            .map(|name| json!({"subdir": name}))
            .collect())
    }
}

/// Everything the host answers to.
async fn handle(
    method: &str,
    template: &str,
    context: Context,
    file: Option<(std::path::PathBuf, u64)>,
) -> Result<Reply, ApiError> {
    const VM: &str = "/nodes/{node}/qemu/{vmid}";
    if let Some(rest) = template.strip_prefix(VM) {
        return match rest.strip_prefix("/agent") {
            Some(rest) => agent::handle(method, rest, context).await.map(Reply::Data),
            None => guests::handle(method, rest, context).await,
        };
    }
    match (method, template) {
        ("GET", "/nodes/{node}/qemu") => guests::list(&context).map(Reply::Data),
        ("POST", "/nodes/{node}/qemu") => crate::vm::create::create(context).await.map(Reply::Data),
        (_, template) if template.starts_with("/nodes/{node}/storage") => {
            storage::handle(method, template, context, file)
                .await
                .map(Reply::Data)
        }
        ("GET", "/storage") => storage::configurations(&context).map(Reply::Data),
        ("GET", "/storage/{storage}") => storage::configuration(&context).map(Reply::Data),
        ("GET", "/nodes/{node}/query-url-metadata") => {
            download::url_metadata(&context).await.map(Reply::Data)
        }
        (_, template) if template.starts_with("/cluster/ha/") => {
            ha::handle(method, template.trim_start_matches("/cluster/ha"), &context)
                .map(Reply::Data)
        }
        (_, template) if template.contains("/tasks") => tasks::handle(method, template, &context),
        _ => cluster::handle(method, template, &context).map(Reply::Data),
    }
}

/// Parameters of a call: query and body merged.
pub fn parameters(head: &Head, body: &[u8]) -> Result<Params, ApiError> {
    let mut params = http::decode_form(&head.query);
    if body.is_empty() {
        return Ok(params);
    }
    let kind = head
        .header("content-type")
        .unwrap_or("")
        .split(';')
        .next()
        .unwrap_or("")
        .trim()
        .to_ascii_lowercase();
    match kind.as_str() {
        "" | "application/x-www-form-urlencoded" => {
            params.extend(http::decode_form(&String::from_utf8_lossy(body)));
        }
        "application/json" => {
            let malformed = |error: &dyn std::fmt::Display| {
                ApiError::text(500, format!("malformed JSON string: {error}"))
            };
            let value: Value = serde_json::from_slice(body).map_err(|error| malformed(&error))?;
            let Value::Object(map) = value else {
                return Err(malformed(&"not an object"));
            };
            params.extend(
                map.into_iter()
                    .filter_map(|(name, value)| Some((name, scalar(&value)?))),
            );
        }
        other => {
            return Err(ApiError::text(
                506,
                format!("upload 'Content-Type '{other}' not implemented"),
            ));
        }
    }
    Ok(params)
}

/// A JSON value as a form would carry it; null is not given.
fn scalar(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(flag) => u8::from(*flag).to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items
            .iter()
            .filter_map(scalar)
            .collect::<Vec<_>>()
            .join("\0"),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let params = http::decode_form("delete=tags&delete=onboot&boot=order=ide2&name=a%3Db+c");
        assert_eq!(params["delete"], "tags\0onboot");
        assert_eq!(params["boot"], "order");
        assert_eq!(params["name"], "a=b c");
    }
}
