//! The resource pool of a VM.

use ansible_module::Failure;
use pve_client::{Error, Params};

use crate::config::text;
use crate::context::{Context, failed};

/// Whether the VM is in the pool.
///
/// # Errors
/// The API's; for a pool that does not exist, with the command that makes it.
pub async fn contains(context: &Context<'_>, pool: &str, vmid: u32) -> Result<bool, Failure> {
    let (path, query) = pool_path(pool);
    let query: Vec<(&str, String)> = query.map(|pool| ("poolid", pool)).into_iter().collect();
    let answer = context.client.get(&path, &query, context.deadline).await;
    let answer = answer.map_err(|e| {
        // Whoever may not see the pool is told so, and not that there is none.
        let missing = e
            .pve_message()
            .is_some_and(|text| text.contains("does not exist"));
        let failure = failed("read the pool", pool)(e);
        match missing {
            true => failure.hint(format!(
                "make the pool first: pvesh create /pools --poolid {pool}"
            )),
            false => failure,
        }
    })?;
    // Asked for by parameter, the pool comes in a list.
    let members = answer
        .get("members")
        .or_else(|| answer.get(0)?.get("members"))
        .and_then(|m| m.as_array());
    let id = |member: &serde_json::Value| member.get("vmid").and_then(text::scalar);
    Ok(members
        .into_iter()
        .flatten()
        .any(|member| id(member) == Some(vmid.to_string())))
}

/// Move the VM into the pool. Servers that know `allow-move` want it for a VM of another pool; older ones do not know it.
pub async fn add(context: &Context<'_>, pool: &str, vmid: u32) -> Result<(), Error> {
    let (path, parameter) = pool_path(pool);
    let mut params = Params::new().with("vms", vmid);
    if let Some(pool) = parameter {
        params.set("poolid", pool);
    }
    match context.client.put(&path, &params, context.deadline).await {
        Err(error)
            if error
                .pve_message()
                .is_some_and(|text| text.contains("allow-move")) =>
        {
            context
                .client
                .put(&path, &params.with("allow-move", 1), context.deadline)
                .await
                .map(|_| ())
        }
        other => other.map(|_| ()),
    }
}

/// The path of a pool, and the parameter that names it where the path cannot: nested pools have a slash.
fn pool_path(pool: &str) -> (String, Option<String>) {
    let plain = pool
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if plain {
        (format!("/pools/{pool}"), None)
    } else {
        ("/pools".into(), Some(pool.to_owned()))
    }
}
