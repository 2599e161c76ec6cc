//! JSON values as PVE's texts.

use serde_json::Value;

/// A scalar as PVE writes it: booleans are `1` and `0`. Nothing for lists, dicts and null.
pub fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(on) => Some(String::from(if *on { "1" } else { "0" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
