//! `/cluster/ha`: resources, rules and, on a cluster of PVE 8, groups.

use serde_json::{Map, Value, json};

use super::Context;
use crate::error::{ApiError, ApiResult};
use crate::formats::list;
use crate::ha::Ha;

/// `rest` is what follows `/cluster/ha`.
pub fn handle(method: &str, rest: &str, context: &Context) -> ApiResult {
    let ha = Ha::read(&context.host.dir);
    match (method, rest) {
        // PVE 8 has no such path.
        (_, rest) if rest.starts_with("/rules") && ha.groups.is_some() => {
            let path = format!(
                "/cluster/ha{}",
                rest.replace("{rule}", context.get("rule").unwrap_or_default())
            );
            Err(ApiError::not_implemented(method, &path))
        }
        ("GET", "/resources") => Ok(resources(context, &ha)),
        ("POST", "/resources") => add_resource(context, ha),
        ("GET", "/resources/{sid}") => resource(&ha, &sid(context)?),
        ("PUT", "/resources/{sid}") => change_resource(context, ha),
        ("DELETE", "/resources/{sid}") => remove_resource(context, ha),
        ("GET", "/rules") => Ok(rules(context, &ha)),
        ("POST", "/rules") => add_rule(context, ha),
        ("GET", "/rules/{rule}") => rule(&ha, context.need("rule")?),
        ("PUT", "/rules/{rule}") => change_rule(context, ha),
        ("DELETE", "/rules/{rule}") => remove_rule(context, ha),
        (_, rest) if rest.starts_with("/groups") => groups(method, rest, context, ha),
        _ => Err(ApiError::not_implemented(method, rest)),
    }
}

/// `vm:100` of `100` or `vm:100`.
fn sid(context: &Context) -> Result<String, ApiError> {
    let text = context.need("sid")?;
    Ok(match text.contains(':') {
        true => text.to_owned(),
        false => format!("vm:{text}"),
    })
}

/// The parameters of a call that are properties of what it makes.
fn properties(context: &Context, not: &[&str]) -> Map<String, Value> {
    let shown = |(key, value): (&String, &String)| {
        let number = matches!(
            key.as_str(),
            "max_restart"
                | "max_relocate"
                | "failback"
                | "strict"
                | "disable"
                | "restricted"
                | "nofailback"
        );
        let value = match value.parse::<u64>() {
            Ok(number_value) if number => json!(number_value),
            _ => json!(value),
        };
        (key.clone(), value)
    };
    let own = context
        .params
        .iter()
        .filter(|(key, _)| !not.contains(&key.as_str()));
    own.map(shown).collect()
}

fn save(context: &Context, ha: &Ha) -> ApiResult {
    ha.save(&context.host.dir)?;
    Ok(Value::Null)
}

fn resources(context: &Context, ha: &Ha) -> Value {
    let wanted = context.get("type");
    let known = ha
        .resources
        .iter()
        .filter(|(_, resource)| wanted.is_none_or(|kind| resource["type"] == kind));
    known
        .map(|(sid, resource)| shown(ha, sid, resource))
        .collect()
}

fn shown(ha: &Ha, sid: &str, resource: &Value) -> Value {
    let mut shown = resource.clone();
    shown["sid"] = json!(sid);
    shown["digest"] = json!(ha.digest());
    shown
}

fn resource(ha: &Ha, sid: &str) -> ApiResult {
    let found = ha
        .resources
        .get(sid)
        .map(|resource| shown(ha, sid, resource));
    found.ok_or_else(|| ApiError::failed(format!("no such resource '{sid}'")))
}

fn check_group(context: &Context, ha: &Ha) -> Result<(), ApiError> {
    let Some(group) = context.get("group") else {
        return Ok(());
    };
    match &ha.groups {
        None => Err(ApiError::failed(
            "invalid parameter 'group': ha groups have been migrated to rules",
        )),
        Some(groups) if groups.contains_key(group) => Ok(()),
        Some(_) => Err(ApiError::failed(format!(
            "HA group '{group}' does not exist"
        ))),
    }
}

fn add_resource(context: &Context, mut ha: Ha) -> ApiResult {
    let sid = sid(context)?;
    check_group(context, &ha)?;
    let vmid: Option<u32> = sid.strip_prefix("vm:").and_then(|id| id.parse().ok());
    let exists = |vmid: u32| {
        crate::vm::everywhere(&context.host)
            .iter()
            .any(|(_, known)| *known == vmid)
    };
    if !vmid.is_some_and(exists) {
        return Err(ApiError::failed(format!(
            "resource '{sid}' does not exist in cluster"
        )));
    }
    if ha.resources.contains_key(&sid) {
        return Err(ApiError::failed(format!(
            "create resource failed: resource ID '{sid}' already defined"
        )));
    }
    let mut resource = properties(context, &["sid", "type"]);
    resource.insert("type".into(), json!("vm"));
    ha.resources.insert(sid, resource.into());
    save(context, &ha)
}

fn change_resource(context: &Context, mut ha: Ha) -> ApiResult {
    let sid = sid(context)?;
    check_group(context, &ha)?;
    check_digest(context, &ha)?;
    let Some(Value::Object(resource)) = ha.resources.get_mut(&sid) else {
        return Err(ApiError::failed(format!("no such resource '{sid}'")));
    };
    change(context, resource, &["sid", "type", "digest", "delete"]);
    save(context, &ha)
}

fn change(context: &Context, known: &mut Map<String, Value>, not: &[&str]) {
    known.extend(properties(context, not));
    for key in context.get("delete").map(list).unwrap_or_default() {
        known.remove(key);
    }
}

fn check_digest(context: &Context, ha: &Ha) -> Result<(), ApiError> {
    match context.get("digest") {
        Some(digest) if digest != ha.digest() => Err(ApiError::failed(
            "detected modified configuration - file changed by other user? Try again.",
        )),
        _ => Ok(()),
    }
}

fn remove_resource(context: &Context, mut ha: Ha) -> ApiResult {
    let sid = sid(context)?;
    if !ha.resources.contains_key(&sid) {
        return Err(ApiError::failed(format!(
            "cannot delete service '{sid}', not HA managed!"
        )));
    }
    ha.remove(&sid, context.get("purge") != Some("0"));
    save(context, &ha)
}

fn rules(context: &Context, ha: &Ha) -> Value {
    let fits = |rule: &Value| {
        let named = rule["resources"].as_str().unwrap_or_default();
        context.get("type").is_none_or(|kind| rule["type"] == kind)
            && context
                .get("resource")
                .is_none_or(|sid| list(named).contains(&sid))
    };
    let known = ha.rules.iter().filter(|(_, rule)| fits(rule));
    known.filter_map(|(name, _)| rule(ha, name).ok()).collect()
}

fn rule(ha: &Ha, name: &str) -> ApiResult {
    let place = ha.rules.keys().position(|known| known == name);
    let (Some(rule), Some(place)) = (ha.rules.get(name), place) else {
        return Err(ApiError::failed(format!("no such ha rule '{name}'")));
    };
    let mut shown = rule.clone();
    shown["rule"] = json!(name);
    shown["order"] = json!(place + 1);
    shown["digest"] = json!(ha.digest());
    if shown["type"] == "node-affinity" && shown["strict"].is_null() {
        shown["strict"] = json!(0);
    }
    Ok(shown)
}

/// Fail when a rule cannot hold.
fn check_rule(context: &Context, ha: &Ha, name: &str, rule: &Value) -> Result<(), ApiError> {
    let listed = |key: &str| list(rule[key].as_str().unwrap_or_default());
    let known = |sid: &&str| !ha.resources.contains_key(*sid);
    let mut unmanaged: Vec<&str> = listed("resources").into_iter().filter(known).collect();
    unmanaged.sort_unstable();
    let failed = |text: String| Err(ApiError::failed(format!("create ha rule failed: {text}")));
    if !unmanaged.is_empty() {
        return failed(format!(
            "cannot use unmanaged resource(s) {}.",
            unmanaged.join(", ")
        ));
    }
    let missing: Vec<&str> = listed("nodes")
        .into_iter()
        .filter(|node| {
            let name = node.split(':').next().unwrap_or_default();
            context.host.peer(name).is_none()
        })
        .collect();
    if !missing.is_empty() {
        return failed(format!(
            "cannot use non-existent node(s) {}.",
            missing.join(", ")
        ));
    }
    if rule["type"] != "resource-affinity" {
        return Ok(());
    }
    let count = listed("resources").len();
    let mut problems = Vec::new();
    if count < 2 {
        problems.push("rule is ineffective as there are less than two resources");
    }
    if rule["affinity"] == "negative" && count > context.host.nodes().len() {
        problems.push("rule defines more resources than available nodes");
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(ApiError {
        errors: [("resources".to_owned(), problems.join(", "))].into(),
        ..ApiError::status(400, format!("Rule '{name}' is invalid."))
    })
}

fn add_rule(context: &Context, mut ha: Ha) -> ApiResult {
    let name = context.need("rule")?.to_owned();
    if ha.rules.contains_key(&name) {
        return Err(ApiError::failed(format!(
            "create ha rule failed: HA rule '{name}' already defined"
        )));
    }
    let rule = Value::Object(properties(context, &["rule"]));
    check_rule(context, &ha, &name, &rule)?;
    ha.rules.insert(name, rule);
    save(context, &ha)
}

fn change_rule(context: &Context, mut ha: Ha) -> ApiResult {
    let name = context.need("rule")?.to_owned();
    check_digest(context, &ha)?;
    let Some(Value::Object(mut rule)) = ha.rules.get(&name).cloned() else {
        return Err(ApiError::failed(format!(
            "update HA rules failed: HA rule '{name}' does not exist"
        )));
    };
    change(context, &mut rule, &["rule", "digest", "delete"]);
    let rule = Value::Object(rule);
    check_rule(context, &ha, &name, &rule)?;
    ha.rules.insert(name, rule);
    save(context, &ha)
}

fn remove_rule(context: &Context, mut ha: Ha) -> ApiResult {
    ha.rules.shift_remove(context.need("rule")?);
    save(context, &ha)
}

/// Groups are gone from PVE 9 once they have been migrated to rules.
fn groups(method: &str, rest: &str, context: &Context, mut ha: Ha) -> ApiResult {
    let Some(groups) = &mut ha.groups else {
        let verb = match (method, rest) {
            ("GET", "/groups") => "index groups",
            ("GET", _) => "read group",
            ("POST", _) => "create group",
            ("PUT", _) => "update group",
            _ => "delete group",
        };
        // The real server answers a creation as it answers the list.
        let verb = if method == "POST" {
            "index groups"
        } else {
            verb
        };
        return Err(ApiError::failed(format!(
            "cannot {verb}: ha groups have been migrated to rules"
        )));
    };
    let named = |group: &Value, name: &str| {
        let mut shown = group.clone();
        shown["group"] = json!(name);
        shown["type"] = json!("group");
        shown
    };
    match (method, rest) {
        ("GET", "/groups") => Ok(groups
            .iter()
            .map(|(name, group)| named(group, name))
            .collect()),
        ("GET", _) => {
            let name = context.need("group")?;
            let found = groups.get(name).map(|group| named(group, name));
            found.ok_or_else(|| ApiError::failed(format!("no such ha group '{name}'")))
        }
        ("DELETE", _) => {
            groups.shift_remove(context.need("group")?);
            save(context, &ha)
        }
        _ => {
            let name = context.need("group")?.to_owned();
            if method == "POST" && groups.contains_key(&name) {
                return Err(ApiError::failed(format!(
                    "create ha group failed: ha group ID '{name}' already defined"
                )));
            }
            let group = properties(context, &["group", "type", "digest", "delete"]);
            groups.insert(name, group.into());
            save(context, &ha)
        }
    }
}
