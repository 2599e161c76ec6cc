//! Replacing secrets in texts.

use std::borrow::Cow;

use serde_json::Value;

use crate::mask::rules::{PART, Reach, WHOLE};
use crate::text::printable;

pub(super) fn scrub(value: Value, secrets: &[(&str, Reach)]) -> Value {
    match value {
        Value::String(text) => Value::String(scrub_text(text, secrets)),
        Value::Array(items) => items.into_iter().map(|v| scrub(v, secrets)).collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| (scrub_key(key, secrets), scrub(value, secrets)))
            .collect(),
        // Unlike Ansible we leave a number that merely contains a secret.
        Value::Number(n) if is_one(&n.to_string(), secrets) => Value::from(WHOLE),
        other => other,
    }
}

fn is_one(text: &str, secrets: &[(&str, Reach)]) -> bool {
    secrets.iter().any(|(secret, _)| *secret == text)
}

fn scrub_text(text: String, secrets: &[(&str, Reach)]) -> String {
    // First, since what is left out of a text may have stood in the middle of a secret.
    let text = match printable(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(shown) => shown,
    };
    // What is masked already needs no look at every secret: there may be thousands of both.
    if text == WHOLE || is_one(&text, secrets) {
        return WHOLE.to_owned();
    }
    hide(text, secrets.iter().copied())
}

/// Keys are the module's own words as a rule: only what can hardly be one is masked.
fn scrub_key(key: String, secrets: &[(&str, Reach)]) -> String {
    let long = secrets.iter().filter(|(_, reach)| *reach > Reach::Word);
    hide(printable(&key).into_owned(), long.copied())
}

/// `text` with each run of characters that belong to a secret replaced.
fn hide<'a>(text: String, secrets: impl Iterator<Item = (&'a str, Reach)>) -> String {
    let mut spans = Vec::new();
    for (secret, reach) in secrets {
        let mut from = 0;
        while let Some(at) = text[from..].find(secret) {
            let (start, end) = (from + at, from + at + secret.len());
            if reach > Reach::Word || is_word(&text, start, end) {
                spans.push((start, end));
            }
            // Occurrences may overlap each other.
            from = start + text[start..].chars().next().map_or(1, char::len_utf8);
        }
    }
    if spans.is_empty() {
        return text;
    }
    spans.sort_unstable();
    let mut out = String::with_capacity(text.len());
    let mut shown = 0;
    for (start, end) in spans {
        if end <= shown {
            continue;
        }
        if start >= shown {
            out.push_str(&text[shown..start]);
            out.push_str(PART);
        }
        shown = end;
    }
    out.push_str(&text[shown..]);
    out
}

/// Whether neither neighbour of `text[start..end]` belongs to the same word.
fn is_word(text: &str, start: usize, end: usize) -> bool {
    let before = text[..start].chars().next_back();
    let after = text[end..].chars().next();
    !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
}
