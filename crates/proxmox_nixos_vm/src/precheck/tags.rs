//! Which tags the cluster lets the caller set (`user-tag-access` and `registered-tags` of datacenter.cfg, PVE::DataCenterConfig).

use std::collections::BTreeSet;

use ansible_module::Failure;
use serde_json::Value;

use crate::config::normalise;
use crate::context::Context;
use crate::error::Error;
use crate::plan::Plan;

/// The user who may set any tag.
const ROOT: &str = "root@pam";

/// Refuse a plan that sets or removes tags which the caller may not. PVE compares tags with those that are allowed as they are written, so
/// they are spelled as these. Who lacks Sys.Audit on / sees which tags it may set, and not
/// whether it may set others too: that is found when the VM is made or changed.
///
/// # Errors
/// [`Error::TagsNotAllowed`].
pub async fn check(context: &Context<'_>, plan: &mut Plan, object: &str) -> Result<(), Failure> {
    let text = |map: &serde_json::Map<String, Value>| {
        let tags = map.get("tags").and_then(Value::as_str);
        normalise::tags(tags.unwrap_or_default())
    };
    let wanted = plan.set.get("tags").map(|tags| normalise::tags(tags));
    let removed = plan.delete.contains("tags").then(BTreeSet::new);
    let Some(after) = wanted.or(removed) else {
        return Ok(());
    };
    if context.client.caller() == ROOT {
        return Ok(());
    }
    let before = text(&plan.before);
    let changed: BTreeSet<String> = before.symmetric_difference(&after).cloned().collect();
    if changed.is_empty() {
        return Ok(());
    }
    let options = options(context).await?;
    if let Some(tags) = plan.set.get_mut("tags") {
        *tags = spelled(&options, tags);
        plan.after.insert("tags".into(), tags.clone().into());
    }
    if !is_restricted(&options, &changed) {
        return Ok(());
    }
    let lacking = not_allowed(&options, &changed);
    if lacking.is_empty() || may_set_any(context).await {
        return Ok(());
    }
    Err(refusal(context, &options, lacking, object).into())
}

/// Refuse tags of which PVE has refused some, if the caller may not set all of them; otherwise the tags as they may be set. Then it was PVE's own mistake: with restricted
/// tags it lets nobody without Sys.Modify on / make a VM that has any (PVE 9.2, assert_tag_permissions in PVE::API2::Qemu).
///
/// # Errors
/// [`Error::TagsNotAllowed`].
pub async fn check_refused(
    context: &Context<'_>,
    tags: &str,
    object: &str,
) -> Result<String, Failure> {
    let options = options(context).await?;
    let lacking = not_allowed(&options, &normalise::tags(tags));
    match lacking.is_empty() {
        true => Ok(spelled(&options, tags)),
        false => Err(refusal(context, &options, lacking, object).into()),
    }
}

/// The tags, spelled as those that are allowed.
fn spelled(options: &Value, tags: &str) -> String {
    let allowed = raw_list(options, "allowed-tags");
    let spelled = tags.split(';').map(|tag| {
        let same = |known: &&&str| known.to_lowercase() == tag.to_lowercase();
        match allowed.contains(&tag) {
            true => tag,
            false => allowed.iter().find(same).copied().unwrap_or(tag),
        }
    });
    spelled.collect::<Vec<_>>().join(";")
}

async fn options(context: &Context<'_>) -> Result<Value, Failure> {
    let wrong = pve_module::doing("read the options of the cluster");
    context.get_shared("/cluster/options", &[], wrong).await
}

/// Whether the options, as far as the caller sees them, keep others than privileged users from setting one of these tags.
fn is_restricted(options: &Value, tags: &BTreeSet<String>) -> bool {
    let access = options.get("user-tag-access");
    let mode = access
        .and_then(|access| access.get("user-allow"))
        .and_then(Value::as_str);
    let registered = list(options, "registered-tags");
    matches!(mode, Some("none" | "list" | "existing"))
        || tags.iter().any(|tag| registered.contains(tag))
}

fn not_allowed(options: &Value, tags: &BTreeSet<String>) -> Vec<String> {
    let allowed = list(options, "allowed-tags");
    tags.difference(&allowed).cloned().collect()
}

fn list(options: &Value, name: &str) -> BTreeSet<String> {
    let tags = raw_list(options, name).into_iter();
    tags.map(str::to_lowercase).collect()
}

fn raw_list<'a>(options: &'a Value, name: &str) -> Vec<&'a str> {
    let tags = options.get(name).and_then(Value::as_array);
    let tags = tags.into_iter().flatten().filter_map(Value::as_str);
    tags.collect()
}

/// Whether the caller has Sys.Modify on /; if that cannot be read, PVE says it later.
async fn may_set_any(context: &Context<'_>) -> bool {
    let query = [("path", "/".to_owned())];
    let answer = context
        .client
        .get("/access/permissions", &query, context.deadline)
        .await;
    answer.map_or(true, |held| {
        held.get("/")
            .is_some_and(|held| held.get("Sys.Modify").is_some())
    })
}

fn refusal(context: &Context<'_>, options: &Value, tags: Vec<String>, object: &str) -> Error {
    Error::TagsNotAllowed {
        object: object.to_owned(),
        caller: context.client.caller().to_owned(),
        tags,
        allowed: list(options, "allowed-tags").into_iter().collect(),
    }
}
