//! Small helpers for PVE's texts.

use serde_json::Value;

/// Whether `text` is the number at the end of a key such as `scsi0`.
pub fn is_index(text: &str) -> bool {
    let plain = text == "0" || !text.starts_with('0');
    plain && !text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit())
}

/// A scalar as PVE writes it: booleans are `1` and `0`. Nothing for lists, dicts and null.
pub fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(on) => Some(String::from(if *on { "1" } else { "0" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
