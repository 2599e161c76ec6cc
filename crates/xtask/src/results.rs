//! `docs/reference/NAME.results.json`: the JSON Schema of what a module answers, made of the return values that its
//! documentation names. For programs that read results; the number of the schema is in each answer as `schema_version`.

use ansible_module::SCHEMA_VERSION;
use anyhow::{Context, bail};
use serde_json::{Map, Value, json};

use crate::errors;
use crate::modules::all;
use crate::reference::{self, prose};

/// The generated files: path below the project's root, and text.
pub fn files() -> anyhow::Result<Vec<(String, String)>> {
    let mut made = Vec::new();
    for module in all() {
        let docs: Value = serde_yaml_ng::from_str(&(module.docs)()?)?;
        let schema =
            of_module(module.name, &docs["RETURN"]).with_context(|| module.name.to_owned())?;
        let text = serde_json::to_string_pretty(&schema)? + "\n";
        made.push((format!("docs/reference/{}.results.json", module.name), text));
    }
    Ok(made)
}

/// Keys that are not named are allowed: some are Ansible's own, and later versions add more.
fn of_module(name: &str, returns: &Value) -> anyhow::Result<Value> {
    let Value::Object(schema) = object(returns)? else {
        bail!("no return values");
    };
    let mut whole = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("What {name} answers, version {SCHEMA_VERSION}"),
    });
    if let Some(whole) = whole.as_object_mut() {
        whole.extend(schema);
    }
    let properties = &mut whole["properties"];
    properties["schema_version"]["const"] = SCHEMA_VERSION.into();
    properties["changed"] = json!({"type": "boolean"});
    let kinds: Vec<String> = errors::kinds()?.into_iter().map(|(kind, _)| kind).collect();
    properties["error"]["properties"]["kind"]["enum"] = kinds.into();
    properties["failed"] = json!({"type": "boolean"});
    let failed = json!({"required": ["failed"], "properties": {"failed": {"const": true}}});
    whole["if"] = failed;
    whole["then"] = json!({"required": ["changed", "error"]});
    let mut succeeded = named(returns, &["success"]);
    succeeded.push("changed".into());
    whole["else"] = json!({"required": succeeded});
    Ok(whole)
}

/// The members that are said to be returned at these times.
fn named(members: &Value, returned: &[&str]) -> Vec<Value> {
    let members = reference::members(members).filter(|(_, value)| is_returned(value, returned));
    members.map(|(name, _)| name.clone().into()).collect()
}

fn is_returned(value: &Value, times: &[&str]) -> bool {
    value["returned"]
        .as_str()
        .is_some_and(|time| times.contains(&time))
}

fn object(members: &Value) -> anyhow::Result<Value> {
    let mut properties = Map::new();
    for (name, value) in reference::members(members) {
        properties.insert(name.clone(), property(value).with_context(|| name.clone())?);
    }
    Ok(json!({
        "type": "object",
        "required": named(members, &["always"]),
        "properties": properties,
    }))
}

fn property(value: &Value) -> anyhow::Result<Value> {
    let kind = value["type"].as_str().unwrap_or_default();
    let mut schema = match kind {
        "dict" if value["contains"].is_object() => object(&value["contains"])?,
        "list" => {
            let elements = match &value["contains"] {
                Value::Object(_) => object(&value["contains"])?,
                _ => json!({"type": json_type(value["elements"].as_str().unwrap_or_default())?}),
            };
            json!({"type": "array", "items": elements})
        }
        kind => json!({"type": json_type(kind)?}),
    };
    // What is there at times only may be null as well.
    if !is_returned(value, &["always", "success", "failure"]) {
        schema["type"] = json!([schema["type"], "null"]);
    }
    schema["description"] = prose(&value["description"]).into();
    Ok(schema)
}

fn json_type(kind: &str) -> anyhow::Result<&'static str> {
    Ok(match kind {
        "str" => "string",
        "int" => "integer",
        "float" => "number",
        "bool" => "boolean",
        "dict" => "object",
        "list" => "array",
        other => bail!("no JSON type for {other:?}"),
    })
}
