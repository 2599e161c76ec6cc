//! Ansible's conversions of single values, with the texts of
//! `ansible.module_utils.common.validation` (ansible-core 2.19).

use std::path::PathBuf;

use serde_json::{Map, Number, Value};

use crate::literal;

/// Python's name of the type of a JSON value.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

/// Python's `str(value)`.
pub fn python_str(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => python_repr(other),
    }
}

/// Python's `repr(value)`.
pub fn python_repr(value: &Value) -> String {
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Number(n) => match n.as_f64() {
            Some(float) if n.is_f64() => python_float(float),
            _ => n.to_string(),
        },
        Value::String(text) => quoted(text),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(python_repr).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) => {
            let items: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{}: {}", quoted(key), python_repr(value)))
                .collect();
            format!("{{{}}}", items.join(", "))
        }
    }
}

/// Both languages print the shortest text that reads back; only the exponent differs (`1e+16`).
fn python_float(float: f64) -> String {
    let text = format!("{float:?}");
    match text.split_once('e') {
        None => text,
        Some((digits, exponent)) => {
            let digits = digits.strip_suffix(".0").unwrap_or(digits);
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{exponent:0>2}")
        }
    }
}

fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// `check_type_str`, which makes Python's `repr` of a list or dict. Nobody means that, so we refuse
/// those.
pub fn to_str(value: &Value) -> Result<Value, String> {
    match value {
        Value::Null => Ok(Value::String(String::new())),
        Value::Array(_) | Value::Object(_) => Err(expected("text", value)),
        other => Ok(Value::String(python_str(other))),
    }
}

/// The error for a list or dict where a scalar is expected.
fn expected(what: &str, value: &Value) -> String {
    format!("expected {what} (got a {})", type_name(value))
}

/// `check_type_int`.
pub fn to_int(value: &Value) -> Result<Value, String> {
    let refused = || format!("\"{}\" cannot be converted to an int", python_repr(value));
    match value {
        Value::Bool(flag) => Ok(Value::from(u8::from(*flag))),
        Value::Number(n) if !n.is_f64() => Ok(value.clone()),
        Value::Number(n) => decimal(&n.to_string()).ok_or_else(refused),
        Value::String(text) => decimal(text).ok_or_else(refused),
        Value::Array(_) | Value::Object(_) => Err(expected("an integer", value)),
        Value::Null => Err(refused()),
    }
}

/// An integer written as Python's `Decimal` reads it: blanks around, underscores within, a
/// fraction of zeros and an exponent are all fine.
fn decimal(text: &str) -> Option<Value> {
    let text = text.trim().replace('_', "").to_ascii_lowercase();
    let (mantissa, exponent) = match text.split_once('e') {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text.as_str(), 0),
    };
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?;
    let point = usize::try_from(point.max(0)).ok()?;
    // No integer that an option can hold has more digits.
    if point > 40 {
        return None;
    }
    let (whole, fraction) = if point >= digits.len() {
        (format!("{digits:0<point$}"), "")
    } else {
        (digits[..point].to_owned(), &digits[point..])
    };
    if fraction.bytes().any(|b| b != b'0') {
        return None;
    }
    let whole = if whole.is_empty() { "0" } else { &whole };
    let number = format!("{sign}{whole}").parse::<i128>().ok()?;
    Number::from_i128(number).map(Value::Number)
}

/// `check_type_float`.
pub fn to_float(value: &Value) -> Result<Value, String> {
    let float = match value {
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        Value::Number(n) => n.as_f64(),
        Value::String(text) => text.trim().replace('_', "").parse().ok(),
        _ => None,
    };
    // JSON has no infinities, so those are refused too.
    float
        .and_then(Number::from_f64)
        .map(Value::Number)
        .ok_or_else(|| {
            format!(
                "<class '{}'> cannot be converted to a float",
                type_name(value)
            )
        })
}

/// `check_type_bool`. Ansible lists the valid texts in an order that changes from run to run.
pub fn to_bool(value: &Value) -> Result<Value, String> {
    let text = match value {
        Value::Bool(_) => return Ok(value.clone()),
        Value::String(text) => text.trim().to_lowercase(),
        Value::Number(n) => match n.as_f64() {
            Some(0.0) => "0".into(),
            Some(1.0) => "1".into(),
            _ => n.to_string(),
        },
        _ => {
            return Err(format!(
                "<class '{}'> cannot be converted to a bool",
                type_name(value)
            ));
        }
    };
    match text.as_str() {
        "y" | "yes" | "on" | "1" | "true" | "t" => Ok(Value::Bool(true)),
        "n" | "no" | "off" | "0" | "false" | "f" => Ok(Value::Bool(false)),
        _ => Err(format!(
            "The value '{}' is not a valid boolean. Valid booleans include: 'y', 'yes', 'on', \
             '1', 'true', 't', 1, 'n', 'no', 'off', '0', 'false', 'f', 0",
            python_str(value)
        )),
    }
}

/// `check_type_list`.
pub fn to_list(value: &Value) -> Result<Vec<Value>, String> {
    match value {
        Value::Array(items) => Ok(items.clone()),
        Value::String(text) => Ok(text.split(',').map(Value::from).collect()),
        Value::Number(_) | Value::Bool(_) => Ok(vec![Value::String(python_str(value))]),
        _ => Err(format!(
            "<class '{}'> cannot be converted to a list",
            type_name(value)
        )),
    }
}

/// `check_type_dict`.
pub fn to_dict(value: &Value) -> Result<Map<String, Value>, String> {
    match value {
        Value::Object(map) => Ok(map.clone()),
        Value::String(text) if text.starts_with('{') => serde_json::from_str(text)
            .ok()
            .or_else(|| literal::dict(text))
            .ok_or_else(|| "unable to evaluate string as dictionary".to_owned()),
        Value::String(text) if text.contains('=') => key_values(text).ok_or_else(|| {
            "unable to evaluate string in the \"key=value\" format as dictionary".to_owned()
        }),
        Value::String(_) => {
            Err("dictionary requested, could not parse JSON or key=value".to_owned())
        }
        _ => Err(format!(
            "<class '{}'> cannot be converted to a dict",
            type_name(value)
        )),
    }
}

/// `k=v, k2="v 2"`: separated by commas or blanks, with quotes and backslashes.
fn key_values(text: &str) -> Option<Map<String, Value>> {
    let mut fields = vec![String::new()];
    let mut quote = None;
    let mut chars = text.trim().chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) => push(&mut fields, chars.next()),
            (c, Some(q)) if c == q => quote = None,
            ('\'' | '"', None) => quote = Some(c),
            (',' | ' ', None) => fields.push(String::new()),
            (c, _) => push(&mut fields, Some(c)),
        }
    }
    fields
        .iter()
        .filter(|field| !field.is_empty())
        .map(|field| {
            let (key, value) = field.split_once('=')?;
            Some((key.to_owned(), Value::from(value)))
        })
        .collect()
}

fn push(fields: &mut [String], c: Option<char>) {
    if let (Some(field), Some(c)) = (fields.last_mut(), c) {
        field.push(c);
    }
}

/// `check_type_path`: a string with environment variables and a leading `~` expanded.
pub fn to_path(value: &Value) -> Result<Value, String> {
    let text = to_str(value)?;
    let text = text.as_str().unwrap_or_default();
    Ok(Value::String(expand_user(expand_vars(text))))
}

/// `os.path.expandvars`: `$NAME` and `${NAME}`; unknown names are left as they are.
fn expand_vars(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (name, length) = match after.strip_prefix('{') {
            Some(braced) => match braced.find('}') {
                Some(end) => (&braced[..end], end + 2),
                None => ("", 0),
            },
            None => {
                let end = after
                    .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                    .unwrap_or(after.len());
                (&after[..end], end)
            }
        };
        match std::env::var(name) {
            Ok(value) if !name.is_empty() => {
                out.push_str(&value);
                rest = &after[length..];
            }
            _ => {
                out.push('$');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// `os.path.expanduser`: `~` and `~user`; unknown users are left as they are.
fn expand_user(text: String) -> String {
    let Some(rest) = text.strip_prefix('~') else {
        return text;
    };
    let (user, tail) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    match home(user) {
        Some(home) => {
            let path = format!("{}{tail}", home.display().to_string().trim_end_matches('/'));
            if path.is_empty() { "/".into() } else { path }
        }
        None => text,
    }
}

/// The home directory of `user`, or of the one who runs this when it is empty.
fn home(user: &str) -> Option<PathBuf> {
    if user.is_empty()
        && let Some(home) = std::env::var_os("HOME")
    {
        return Some(home.into());
    }
    let uid = rustix::process::getuid().as_raw().to_string();
    std::fs::read_to_string("/etc/passwd")
        .ok()?
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| {
            if user.is_empty() {
                fields.get(2) == Some(&uid.as_str())
            } else {
                fields.first() == Some(&user)
            }
        })
        .and_then(|fields| fields.get(5).map(PathBuf::from))
}
