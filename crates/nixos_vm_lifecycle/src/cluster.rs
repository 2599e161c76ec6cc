//! What is asked of the cluster beyond the VM.

use ansible_module::Failure;
use deadline::Deadline;
use serde_json::Value;

use crate::context::Context;

/// Whether a guest with this number exists, which PVE also says of one that the caller may not see.
///
/// # Errors
/// Those of the API.
pub async fn is_taken(
    context: &Context<'_>,
    vmid: u32,
    deadline: &Deadline,
) -> Result<bool, Failure> {
    let query = [("vmid", vmid.to_string())];
    let what = format!("ask whether VM {vmid} exists");
    match context
        .get(&what, "/cluster/nextid", &query, deadline)
        .await
    {
        Ok(_) => Ok(false),
        Err(failure) if failure.status == Some(400) => Ok(true),
        Err(failure) => Err(failure),
    }
}

/// Whether a container has this number, so that no VM can have it.
pub async fn is_container(
    context: &Context<'_>,
    vmid: u32,
    deadline: &Deadline,
) -> Result<bool, Failure> {
    let query = [("type", "vm".to_owned())];
    let what = "list the guests of the cluster";
    let guests = context
        .get(what, "/cluster/resources", &query, deadline)
        .await?;
    let is_it = |guest: &Value| {
        guest.get("type").and_then(Value::as_str) == Some("lxc")
            && guest.get("vmid").and_then(Value::as_u64) == Some(vmid.into())
    };
    Ok(guests
        .as_array()
        .is_some_and(|guests| guests.iter().any(is_it)))
}

/// What identifies the cluster: the fingerprint of its own certificate authority, which every user may read
/// (PVE::API2::Certificates). Where there is none, the addresses of the API.
pub async fn cluster(context: &Context<'_>, deadline: &Deadline) -> Result<String, Failure> {
    let path = "/nodes/localhost/certificates/info";
    let list = match context
        .get("read the certificates of the cluster", path, &[], deadline)
        .await
    {
        Ok(list) => list,
        // A server that does not have this call.
        Err(failure) if matches!(failure.status, Some(404 | 501)) => Value::Null,
        Err(failure) => return Err(failure),
    };
    let root = list.as_array().and_then(|list| {
        let is_root = |entry: &&Value| {
            entry.get("filename").and_then(Value::as_str) == Some("pve-root-ca.pem")
        };
        list.iter().find(is_root)?.get("fingerprint")?.as_str()
    });
    let connection = &context.settings().connection;
    Ok(match root {
        Some(fingerprint) => fingerprint.to_owned(),
        None => format!("{}:{}", connection.api_host.join(","), connection.api_port),
    })
}
