//! The forms in which a secret may come back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::{Map, Value};

use crate::coerce::{python_repr, python_str};
use crate::mask::public::Public;
use crate::mask::rules::{LONG, Reach, SHORTEST, SPELT};
use crate::text::printable;

/// Every credential within `value`: a scalar, or a list or dict of them.
pub(super) fn credentials(value: &Value, found: &mut Vec<(String, Reach)>) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Array(items) => items.iter().for_each(|item| credentials(item, found)),
        Value::Object(map) => map.values().for_each(|item| {
            let mut within = Vec::new();
            credentials(item, &mut within);
            within.retain(|(text, _)| text.len() >= SPELT);
            found.append(&mut within);
        }),
        scalar => credential(&python_str(scalar), found),
    }
}

/// The forms in which a credential may come back: as it is, escaped, encoded, and line by line.
pub(super) fn credential(value: &str, found: &mut Vec<(String, Reach)>) {
    let forms = spellings(value);
    let reach = match is_guessable(value) {
        true => Reach::Text,
        false => Reach::Values,
    };
    found.extend(forms.into_iter().filter_map(|form| reaching(form, reach)));
    for line in lines(value) {
        let reach = match is_guessable(&line) {
            true => Reach::Text,
            false => Reach::Values,
        };
        found.extend(reaching(line, reach));
    }
}

/// What of a secret document must not be shown: all of it as one, and each line or scalar that is
/// not public. Return values are spared unless a fragment looks like a key. Short words within a
/// dictionary are left out: a whole document may be a secret, but its every `root` and `yes` is not.
pub(super) fn document(
    value: &Value,
    shortest: usize,
    public: &Public,
    found: &mut Vec<(String, Reach)>,
) {
    let reach = |text: &str| match looks_random(text) {
        true => Reach::Values,
        false => Reach::Text,
    };
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Array(items) => {
            let each = items.iter();
            each.for_each(|item| document(item, shortest, public, found));
        }
        Value::Object(map) => {
            for (name, item) in map {
                match names_a_secret(name) {
                    true => credentials(
                        &Value::Object(Map::from_iter([(name.clone(), item.clone())])),
                        found,
                    ),
                    false => document(item, SPELT, public, found),
                }
            }
        }
        scalar => {
            let text = python_str(scalar);
            if text.len() < shortest || public.has(&text) {
                return;
            }
            let whole = reach(text.trim());
            let forms = spellings(&text).into_iter();
            found.extend(forms.filter_map(|form| reaching(form, whole)));
            for line in lines(&text).filter(|line| !public.has(line) && !is_key(line)) {
                if let Some(value) = assigned(&line) {
                    credential(value, found);
                }
                let reach = reach(&line);
                found.extend(reaching(line, reach));
            }
        }
    }
}

/// Whether a line is nothing but a key, which messages name: `write_files:`, or with the mark of a block or a word that
/// says yes or no, as advice shows it: `content: |`, `lock_passwd: false`.
fn is_key(line: &str) -> bool {
    const WORDS: [&str; 10] = [
        "", "true", "false", "yes", "no", "on", "off", "null", "[]", "{}",
    ];
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    let line = line.strip_prefix("- ").unwrap_or(line);
    line.split_once(':').is_some_and(|(key, value)| {
        let value = value.trim();
        let block = value
            .strip_prefix(['|', '>'])
            .is_some_and(|rest| rest.chars().all(|c| "+-123456789".contains(c)));
        let says = block || WORDS.contains(&value.to_ascii_lowercase().as_str());
        says && key.chars().all(plain) && !looks_random(key)
    })
}

/// Whether a key of a document is usually that of a secret.
fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let parts = ["pass", "secret", "token", "private"];
    parts.iter().any(|part| name.contains(part)) || name.ends_with("key")
}

/// The secret in a line such as `password: hunter22`.
fn assigned(line: &str) -> Option<&str> {
    let (name, value) = line.split_once([':', '='])?;
    let value = value.trim().trim_matches(['"', '\'']);
    (names_a_secret(name.trim()) && value.len() >= SPELT).then_some(value)
}

/// The lines of a text of several. A key is often shown or quoted line by line; its markers are no secret.
fn lines(text: &str) -> impl Iterator<Item = String> {
    let lines = text
        .trim()
        .contains('\n')
        .then(|| text.lines().map(str::trim));
    lines
        .into_iter()
        .flatten()
        .filter(|line| line.len() >= SPELT && !line.starts_with("-----"))
        .map(|line| printable(line).into_owned())
}

/// `form` with as much of `most` as its length permits; none when it is too short to be masked.
fn reaching(form: String, most: Reach) -> Option<(String, Reach)> {
    match form.chars().count() {
        0..SHORTEST => None,
        SHORTEST..LONG => Some((form, Reach::Word)),
        _ => Some((form, most)),
    }
}

/// Whether `text` may well be a part of a fact although nobody took it from there: it is short, or
/// consists of words, as names of systems, storages and tags do.
fn is_guessable(text: &str) -> bool {
    let text = text.trim();
    text.chars().count() < LONG
        || text
            .chars()
            .all(|c| c.is_alphabetic() || "-_./:@+".contains(c))
}

/// Whether `text` looks generated, like a key, a hash or a token.
fn looks_random(text: &str) -> bool {
    let count = |is: fn(&char) -> bool| text.chars().filter(is).count();
    let (digits, letters) = (
        count(char::is_ascii_digit),
        count(char::is_ascii_alphabetic),
    );
    let cases = text.contains(|c: char| c.is_ascii_lowercase())
        && text.contains(|c: char| c.is_ascii_uppercase());
    !text.contains(char::is_whitespace)
        && digits + letters >= 16
        && digits > 0
        && letters > 0
        && (cases || digits * 4 >= digits + letters)
}

/// The forms in which a text may come back as one: as it is, escaped and encoded.
fn spellings(value: &str) -> Vec<String> {
    let mut found = vec![value.to_owned(), printable(value).into_owned()];
    let trimmed = value.trim();
    if trimmed != value {
        found.push(printable(trimmed).into_owned());
    }
    if value.len() >= SPELT {
        found.extend(escapes(value));
    }
    if trimmed != value && trimmed.len() >= SPELT {
        found.extend(escapes(trimmed));
    }
    found
}

fn escapes(value: &str) -> Vec<String> {
    let json = Value::from(value).to_string();
    let python = python_repr(&Value::from(value));
    let rust = format!("{value:?}");
    vec![
        json[1..json.len() - 1].to_owned(),
        python[1..python.len() - 1].to_owned(),
        rust[1..rust.len() - 1].to_owned(),
        percent(value, false),
        percent(value, true),
        percent(value, true).replace("%20", "+"),
        STANDARD_NO_PAD.encode(value),
    ]
}

/// Percent-encoded as for a URL's component, in capitals or not.
fn percent(value: &str, capitals: bool) -> String {
    value
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ if capitals => format!("%{byte:02X}"),
            _ => format!("%{byte:02x}"),
        })
        .collect()
}
