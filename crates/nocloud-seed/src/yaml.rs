//! A writer of the little YAML that cloud-init needs.
//!
//! cloud-init reads YAML 1.1 (PyYAML), where `0600`, `1:30`, `no` and `on` are
//! not strings. The YAML 1.2 serializers of the Rust world leave some of those
//! unquoted. This one quotes every string that is not plainly a word, and
//! escapes everything that is not printable ASCII, so any YAML reader gets back
//! exactly the value written.

use serde_json::Value;

/// A longer key must be marked as one: readers look for its colon in 1024 characters only (YAML 1.1, 9.1.1).
const LONGEST_KEY: usize = 1000;

/// Writes a value as block-style YAML, ending in a line break.
pub fn to_string(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(value, 0, &mut out),
        Value::Array(items) if !items.is_empty() => block(value, 0, &mut out),
        scalar => out.push_str(&flow(scalar)),
    }
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

/// A non-empty mapping or sequence, every line indented by `indent` blanks.
fn block(value: &Value, indent: usize, out: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = text(key);
                out.push_str(&match key.len() > LONGEST_KEY {
                    true => format!("{pad}? {key}\n{pad}:"),
                    false => format!("{pad}{key}:"),
                });
                nested(value, indent, out);
            }
        }
        Value::Array(items) => {
            for item in items {
                match item {
                    // The first key of a mapping stands beside the dash.
                    Value::Object(map) if !map.is_empty() => {
                        let start = out.len();
                        block(item, indent + 2, out);
                        out.replace_range(start + indent..start + indent + 1, "-");
                    }
                    _ => {
                        out.push_str(&format!("{pad}-"));
                        nested(item, indent, out);
                    }
                }
            }
        }
        _ => unreachable!("only collections are written as blocks"),
    }
}

/// What follows a key's colon or an item's dash.
fn nested(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            block(value, indent + 2, out);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            block(value, indent + 2, out);
        }
        scalar => {
            out.push(' ');
            out.push_str(&flow(scalar));
            out.push('\n');
        }
    }
}

/// A scalar or an empty collection.
fn flow(value: &Value) -> String {
    match value {
        Value::String(string) => text(string),
        Value::Object(_) => "{}".to_owned(),
        Value::Array(_) => "[]".to_owned(),
        // Null, booleans and numbers are the same in JSON and YAML, except
        // that YAML 1.1 wants a dot and a sign in `1e20`.
        Value::Number(n) if n.is_f64() => {
            let plain = format!("{:?}", n.as_f64().unwrap_or_default());
            match plain.split_once('e') {
                Some((mantissa, exponent)) => {
                    let mantissa = if mantissa.contains('.') {
                        mantissa.into()
                    } else {
                        format!("{mantissa}.0")
                    };
                    let sign = if exponent.starts_with('-') { "" } else { "+" };
                    format!("{mantissa}e{sign}{exponent}")
                }
                None => plain,
            }
        }
        other => other.to_string(),
    }
}

/// A string: bare when it is plainly a word or a path, else double-quoted.
fn text(string: &str) -> String {
    // Words that YAML 1.1 takes for something else.
    const NOT_STRINGS: [&str; 10] = [
        "y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan",
    ];
    let starts = string.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let plain = |c: char| c.is_ascii_alphanumeric() || "/_.-".contains(c);
    let lower = string.to_ascii_lowercase();
    if starts && string.chars().all(plain) && !NOT_STRINGS.contains(&lower.as_str()) {
        return string.to_owned();
    }
    let mut quoted = String::from('"');
    for c in string.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            ' '..='~' => quoted.push(c),
            _ if u32::from(c) <= 0xFFFF => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            _ => quoted.push_str(&format!("\\U{:08X}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}
