//! Keeping secrets out of everything that is written.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::{Map, Value};

use crate::coerce::{python_repr, python_str, to_dict};
use crate::spec::{Kind, Spec, Type};

/// What Ansible shows instead of a value that is a secret as a whole.
const WHOLE: &str = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER";
/// What Ansible shows instead of a secret within a text.
const PART: &str = "********";
/// Below this length other spellings of a secret, and its lines, are not looked for: they would
/// mask ordinary words.
const SHORTEST: usize = 6;

/// The strings to mask, shared by everything that writes.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Mutex<Vec<String>>>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Secrets {
    /// Mask `value` from now on, in every spelling that it may come back in.
    pub fn add(&self, value: &str) {
        self.add_all(spellings(value));
    }

    fn add_all(&self, spellings: Vec<String>) {
        let mut secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.extend(spellings);
        // Longer first, so that a secret within another does not leave the other's rest behind.
        secrets.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        secrets.dedup();
    }

    /// Mask every scalar within `value` from now on. Short ones within a dictionary are left out:
    /// a whole document may be a secret (user-data), but its every `root` and `1` is not.
    pub fn add_value(&self, value: &Value) {
        let mut found = Vec::new();
        scalars(value, 1, &mut found);
        self.add_all(found);
    }

    /// Mask the values of all `no_log` options among `params`.
    pub fn add_options(&self, spec: &Spec, params: &Map<String, Value>) {
        for (name, value) in params {
            let option = spec.option(name).or_else(|| spec.option_by_alias(name));
            match option {
                Some(option) if option.no_log => self.add_value(value),
                Some(option) => self.add_within(&option.ty, value),
                // Perhaps a secret whose option is misspelt; its value is masked in
                // `invocation`, but too little is known to mask it everywhere.
                None => {}
            }
        }
    }

    fn add_within(&self, ty: &Type, value: &Value) {
        match (&ty.kind, value) {
            (Kind::Struct(spec), value) => {
                if let Ok(params) = to_dict(value) {
                    self.add_options(spec, &params);
                }
            }
            (Kind::List(element), Value::Array(items)) => {
                items.iter().for_each(|item| self.add_within(element, item));
            }
            (Kind::Map(element), Value::Object(map)) => {
                map.values().for_each(|item| self.add_within(element, item));
            }
            (Kind::Either(types), value) => {
                types.iter().for_each(|ty| self.add_within(ty, value));
            }
            _ => {}
        }
    }

    /// `value` with every secret masked, in keys too.
    pub fn scrub(&self, value: Value) -> Value {
        let secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        scrub(value, &secrets)
    }
}

/// All spellings of the scalars within `value` that have at least `shortest` bytes.
fn scalars(value: &Value, shortest: usize, found: &mut Vec<String>) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Array(items) => items.iter().for_each(|item| scalars(item, shortest, found)),
        Value::Object(map) => map.values().for_each(|item| scalars(item, SHORTEST, found)),
        scalar => {
            let text = python_str(scalar);
            if text.len() >= shortest {
                found.extend(spellings(&text));
            }
        }
    }
}

/// The forms in which a text may come back: as it is, escaped, encoded, and line by line.
fn spellings(value: &str) -> Vec<String> {
    if value.is_empty() {
        return Vec::new();
    }
    let mut found = vec![value.to_owned()];
    if value.len() < SHORTEST {
        return found;
    }
    found.extend(escapes(value));
    let trimmed = value.trim();
    if trimmed != value && trimmed.len() >= SHORTEST {
        found.push(trimmed.to_owned());
        found.extend(escapes(trimmed));
    }
    if value.trim().contains('\n') {
        // A key is often shown or quoted line by line; its markers are no secret.
        let lines = value.lines().map(str::trim);
        found.extend(
            lines
                .filter(|line| line.len() >= SHORTEST && !line.starts_with("-----"))
                .map(str::to_owned),
        );
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

fn scrub(value: Value, secrets: &[String]) -> Value {
    match value {
        Value::String(text) => Value::String(scrub_text(text, secrets)),
        Value::Array(items) => items.into_iter().map(|v| scrub(v, secrets)).collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| (scrub_key(key, secrets), scrub(value, secrets)))
            .collect(),
        // Unlike Ansible we leave a number that merely contains a secret: with the secret "1"
        // there would be no VMID left.
        Value::Number(n) if secrets.contains(&n.to_string()) => Value::from(WHOLE),
        other => other,
    }
}

fn scrub_text(text: String, secrets: &[String]) -> String {
    // What is masked already needs no look at every secret: there may be thousands of both.
    if text == WHOLE || secrets.contains(&text) {
        return WHOLE.to_owned();
    }
    secrets.iter().fold(text, |text, secret| {
        if text.contains(secret.as_str()) {
            text.replace(secret.as_str(), PART)
        } else {
            text
        }
    })
}

/// Keys are the module's own words as a rule: only what can hardly be one is masked.
fn scrub_key(key: String, secrets: &[String]) -> String {
    secrets
        .iter()
        .filter(|secret| secret.len() >= SHORTEST)
        .fold(key, |key, secret| key.replace(secret.as_str(), PART))
}

/// `params` as they may be shown: secret options, and what is under an unknown name (perhaps
/// a secret whose option is misspelt), are masked.
pub fn invocation(spec: &Spec, params: &Map<String, Value>) -> Value {
    params
        .iter()
        .map(|(name, value)| {
            let option = spec.option(name).or_else(|| spec.option_by_alias(name));
            let shown = match option {
                Some(option) if !option.no_log => shown(&option.ty, value),
                _ => masked(value),
            };
            (name.clone(), shown)
        })
        .collect()
}

fn shown(ty: &Type, value: &Value) -> Value {
    match (&ty.kind, value) {
        (Kind::Struct(spec), Value::Object(params)) => invocation(spec, params),
        (Kind::List(element), Value::Array(items)) => {
            items.iter().map(|item| shown(element, item)).collect()
        }
        (Kind::Map(element), Value::Object(map)) => map
            .iter()
            .map(|(key, value)| (key.clone(), shown(element, value)))
            .collect(),
        (Kind::Either(types), Value::Object(_)) => {
            let mut structs = types
                .iter()
                .filter(|ty| matches!(ty.kind, Kind::Struct(_) | Kind::Map(_)));
            match (structs.next(), structs.next()) {
                (Some(ty), None) => shown(ty, value),
                _ => value.clone(),
            }
        }
        // What could not be read as this type: its secrets may be anywhere within.
        (Kind::Struct(_) | Kind::List(_) | Kind::Map(_), value) if has_secrets(ty) => masked(value),
        _ => value.clone(),
    }
}

fn has_secrets(ty: &Type) -> bool {
    match &ty.kind {
        Kind::Struct(spec) => spec
            .options
            .iter()
            .any(|option| option.no_log || has_secrets(&option.ty)),
        Kind::List(element) | Kind::Map(element) => has_secrets(element),
        Kind::Either(types) => types.iter().any(has_secrets),
        _ => false,
    }
}

fn masked(value: &Value) -> Value {
    match value {
        Value::Null | Value::Bool(_) => value.clone(),
        Value::Array(items) => items.iter().map(masked).collect(),
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), masked(v))).collect(),
        Value::String(text) if text.is_empty() => value.clone(),
        _ => Value::from(WHOLE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scrubbed(secret: &str, value: Value) -> Value {
        let secrets = Secrets::default();
        secrets.add(secret);
        secrets.scrub(value)
    }

    #[test]
    fn every_spelling_is_masked() {
        let secret = "pa ss/\"wörd\"";
        for text in [
            secret.to_owned(),
            Value::from(secret).to_string(),
            "GET /?p=pa%20ss%2F%22w%C3%B6rd%22".into(),
            "GET /?p=pa%20ss%2f%22w%c3%b6rd%22".into(),
            "p=pa+ss%2F%22w%C3%B6rd%22".into(),
            format!("Basic {}==", STANDARD_NO_PAD.encode(secret)),
        ] {
            let masked = scrubbed(secret, json!({"a": [format!("<{text}>")]})).to_string();
            assert!(masked.contains(PART), "{masked}");
            assert!(!masked.contains("rd"), "{masked}");
        }
    }

    #[test]
    fn the_lines_of_a_key_are_masked_and_its_markers_are_not() {
        let key = "-----BEGIN X-----\nb3BlbnNzaC1rZXk\nAAAAB3NzaC1yc2E\n-----END X-----\n";
        assert_eq!(
            scrubbed(
                key,
                json!("line 2: AAAAB3NzaC1yc2E, after -----BEGIN X-----")
            ),
            json!("line 2: ********, after -----BEGIN X-----")
        );
        assert_eq!(scrubbed(key, json!(key.trim())), json!(WHOLE));
        assert_eq!(
            scrubbed(key, json!(format!("said {key:?}"))),
            json!("said \"********\"")
        );
    }

    #[test]
    fn numbers_and_keys() {
        assert_eq!(scrubbed("1", json!({"vmid": 101})), json!({"vmid": 101}));
        assert_eq!(scrubbed("1", json!({"n": 1})), json!({"n": WHOLE}));
        assert_eq!(scrubbed("msg", json!({"msg": "a"})), json!({"msg": "a"}));
        assert_eq!(
            scrubbed("long-secret", json!({"x long-secret": 1})),
            json!({"x ********": 1})
        );
    }

    #[test]
    fn a_secret_within_another_leaves_nothing_behind() {
        let secrets = Secrets::default();
        secrets.add("abc");
        secrets.add("abcdef");
        assert_eq!(secrets.scrub(json!("<abcdef>")), json!("<********>"));
    }

    #[test]
    fn short_words_of_a_secret_document_stay_readable() {
        let secrets = Secrets::default();
        secrets.add_value(&json!({"users": [{"name": "nixos"}], "n": 1, "password": "hunter22"}));
        secrets.add_value(&json!(["pin7"]));
        assert_eq!(
            secrets.scrub(json!("nixos-proxmox 101 hunter22 pin7")),
            json!("nixos-proxmox 101 ******** ********")
        );
    }

    #[test]
    fn an_empty_secret_masks_nothing() {
        assert_eq!(scrubbed("", json!("text")), json!("text"));
    }
}
