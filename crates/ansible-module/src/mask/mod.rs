//! Keeping secrets out of everything that is written.
//!
//! The rules are those of Ansible's own masker (ansible-core 2.22) where it has one, by the length of
//! a secret: see [`Reach`]. Beyond it, a secret is found in the spellings in which servers and
//! programs repeat it, and facts that a module computes are left whole: a tag or a store path that
//! happens to contain the word that is somebody's password must not be recorded as `********`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::{Map, Value};

use crate::coerce::{python_repr, python_str, to_dict};
use crate::spec::{Kind, OptionSpec, Spec, Type};
use crate::text::printable;

/// What Ansible shows instead of a value that is a secret as a whole.
const WHOLE: &str = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER";
/// What Ansible shows instead of a secret within a text.
const PART: &str = "********";
/// A shorter secret is not masked in texts: there would be nothing left to read (ansible-core 2.22).
const SHORTEST: usize = 4;
/// A shorter secret is masked only where it is a word of its own (ansible-core 2.22).
const LONG: usize = 7;
/// Below this length other spellings of a secret, its lines, and the short words of a secret
/// document are not looked for.
const SPELT: usize = 6;

/// Where a secret is masked. Each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// In texts, where it is a word of its own.
    Word,
    /// In texts, within other words too.
    Text,
    /// In the module's return values too.
    Values,
}

/// The strings to mask, shared by everything that writes.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// Longer first.
    spellings: Vec<(String, Reach)>,
    /// Options whose values are too short to be masked everywhere, with their lengths.
    short: BTreeMap<String, usize>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What nobody wants to hide: the fragments of a secret document that also stand here are masked
/// nowhere, so that a message can say `#cloud-config` although user-data begins with it.
#[derive(Debug, Default)]
pub struct Public {
    /// Values of options that are not secret.
    values: std::collections::HashSet<String>,
    /// What the module's documentation says.
    documentation: String,
}

/// First lines and words that tell cloud-init what a document is, and words of advice; messages about documents name them.
const FORMATS: [&str; 19] = [
    "#cloud-config",
    "#cloud-config-archive",
    "#cloud-config-jsonp",
    "#cloud-boothook",
    "#part-handler",
    "#include",
    "#include-once",
    "#upstart-job",
    "## template: jinja",
    "Content-Type: multipart/mixed",
    "MIME-Version: 1.0",
    "preserve_hostname",
    "root:wheel",
    "text/plain",
    "base64",
    "gz+b64",
    "gz+base64",
    "gzip+b64",
    "gzip+base64",
];

impl Public {
    /// Everything that `params` give in the open, and that the options' documentation says.
    pub fn of(spec: &Spec, params: &Map<String, Value>) -> Self {
        let mut public = Self::default();
        public.documented(spec);
        public.open(spec, params);
        public
    }

    fn documented(&mut self, spec: &Spec) {
        for option in &spec.options {
            for line in &option.description {
                self.documentation.push_str(line);
                self.documentation.push('\n');
            }
            self.documented_type(&option.ty);
        }
    }

    fn documented_type(&mut self, ty: &Type) {
        match &ty.kind {
            Kind::Struct(spec) => self.documented(spec),
            Kind::List(inner) | Kind::Map(inner) => self.documented_type(inner),
            Kind::Either(types) => types.iter().for_each(|ty| self.documented_type(ty)),
            _ => {}
        }
    }

    fn open(&mut self, spec: &Spec, params: &Map<String, Value>) {
        for (name, value) in params {
            match spec.option(name).or_else(|| spec.option_by_alias(name)) {
                Some(option) if !option.no_log => self.open_within(&option.ty, value),
                // A secret, or perhaps one whose option is misspelt.
                _ => {}
            }
        }
    }

    fn open_within(&mut self, ty: &Type, value: &Value) {
        if !has_secrets(ty) {
            return self.open_value(value);
        }
        match (&ty.kind, value) {
            (Kind::Struct(spec), Value::Object(params)) => self.open(spec, params),
            (Kind::List(element), Value::Array(items)) => {
                items.iter().for_each(|v| self.open_within(element, v));
            }
            (Kind::Map(element), Value::Object(map)) => {
                map.values().for_each(|v| self.open_within(element, v));
            }
            _ => {}
        }
    }

    fn open_value(&mut self, value: &Value) {
        match value {
            Value::String(text) => {
                self.values.insert(text.trim().to_owned());
            }
            Value::Array(items) => items.iter().for_each(|item| self.open_value(item)),
            Value::Object(map) => map.values().for_each(|item| self.open_value(item)),
            _ => {}
        }
    }

    fn has(&self, fragment: &str) -> bool {
        let fragment = fragment.trim();
        FORMATS.contains(&fragment)
            || fragment.starts_with("#!")
            || self.values.contains(fragment)
            || self.documentation.contains(fragment)
    }
}

impl Secrets {
    /// Mask the credential `value` from now on, in every spelling that it may come back in.
    pub fn add(&self, value: &str) {
        let mut found = Vec::new();
        credential(value, &mut found);
        self.add_all(found);
    }

    fn add_all(&self, found: Vec<(String, Reach)>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.spellings.extend(found);
        // Longer first, so that a text that is a secret as a whole is found at once; of equal ones
        // the one that reaches further.
        known
            .spellings
            .sort_by(|a, b| (b.0.len(), &a.0, b.1).cmp(&(a.0.len(), &b.0, a.1)));
        known.spellings.dedup_by(|b, a| a.0 == b.0);
    }

    /// Mask the values of all `no_log` options among `params`.
    pub fn add_options(&self, spec: &Spec, params: &Map<String, Value>, public: &Public) {
        self.add_level(spec, params, public, "");
    }

    fn add_level(&self, spec: &Spec, params: &Map<String, Value>, public: &Public, prefix: &str) {
        for (name, value) in params {
            let option = spec.option(name).or_else(|| spec.option_by_alias(name));
            let name = format!("{prefix}{name}");
            match option {
                Some(option) if option.no_log => self.add_option(option, &name, value, public),
                Some(option) => self.add_within(&option.ty, &name, value, public),
                // Perhaps a secret whose option is misspelt; its value is masked in
                // `invocation`, but too little is known to mask it everywhere.
                None => {}
            }
        }
    }

    fn add_option(&self, option: &OptionSpec, name: &str, value: &Value, public: &Public) {
        let mut found = Vec::new();
        if option.document {
            document(value, SHORTEST, public, &mut found);
        } else {
            credentials(value, &mut found);
            let length = python_str(value).trim().chars().count();
            if length > 0 && length < LONG && !value.is_array() && !value.is_object() {
                let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if !value.is_null() && !value.is_boolean() {
                    known.short.insert(name.to_owned(), length);
                }
            }
        }
        self.add_all(found);
    }

    fn add_within(&self, ty: &Type, name: &str, value: &Value, public: &Public) {
        match (&ty.kind, value) {
            (Kind::Struct(spec), value) => {
                if let Ok(params) = to_dict(value) {
                    self.add_level(spec, &params, public, &format!("{name}."));
                }
            }
            (Kind::List(element), Value::Array(items)) => {
                let each = items.iter();
                each.for_each(|item| self.add_within(element, name, item, public));
            }
            (Kind::Map(element), Value::Object(map)) => {
                let each = map.values();
                each.for_each(|item| self.add_within(element, name, item, public));
            }
            (Kind::Either(types), value) => {
                let each = types.iter();
                each.for_each(|ty| self.add_within(ty, name, value, public));
            }
            _ => {}
        }
    }

    /// Have [`Self::warnings`] name options as `rename` does.
    pub fn rename_options(&self, rename: impl Fn(String) -> String) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let short = std::mem::take(&mut known.short).into_iter();
        known.short = short.map(|(name, length)| (rename(name), length)).collect();
    }

    /// What to say about secrets that are too short to be kept out of every text.
    pub fn warnings(&self) -> Vec<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let warning = |(name, length): (&String, &usize)| match *length < SHORTEST {
            true => format!(
                "{name}: a value of fewer than {SHORTEST} characters is not masked in messages; use a longer one"
            ),
            false => format!(
                "{name}: a value of fewer than {LONG} characters is not masked inside other words; use a longer one"
            ),
        };
        known.short.iter().map(warning).collect()
    }

    /// Free text with every secret masked, in all strings of `value`, and [`printable`].
    pub fn scrub(&self, value: Value) -> Value {
        self.scrub_to(value, Reach::Word)
    }

    /// What the module says itself, [`printable`] too, where only a secret is masked that can hardly be a part of it.
    pub fn scrub_own(&self, value: Value) -> Value {
        self.scrub_to(value, Reach::Values)
    }

    fn scrub_to(&self, value: Value, least: Reach) -> Value {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let spellings: Vec<(&str, Reach)> = known
            .spellings
            .iter()
            .filter(|(_, reach)| *reach >= least)
            .map(|(text, reach)| (text.as_str(), *reach))
            .collect();
        scrub(value, &spellings)
    }
}

/// Every credential within `value`: a scalar, or a list or dict of them.
fn credentials(value: &Value, found: &mut Vec<(String, Reach)>) {
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
fn credential(value: &str, found: &mut Vec<(String, Reach)>) {
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
fn document(value: &Value, shortest: usize, public: &Public, found: &mut Vec<(String, Reach)>) {
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

fn scrub(value: Value, secrets: &[(&str, Reach)]) -> Value {
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

    fn holding(document_: Value, public: &Public) -> Secrets {
        let secrets = Secrets::default();
        let mut found = Vec::new();
        document(&document_, SHORTEST, public, &mut found);
        secrets.add_all(found);
        secrets
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
        assert_eq!(scrubbed("1234", json!({"n": 12345})), json!({"n": 12345}));
        assert_eq!(scrubbed("1234", json!({"n": 1234})), json!({"n": WHOLE}));
        assert_eq!(scrubbed("1", json!({"n": 1})), json!({"n": 1}));
        assert_eq!(scrubbed("msg", json!({"msg": "a"})), json!({"msg": "a"}));
        assert_eq!(
            scrubbed("long-secret", json!({"x long-secret": 1})),
            json!({"x ********": 1})
        );
    }

    /// As ansible-core 2.22 has it.
    #[test]
    fn a_short_secret_is_masked_where_it_is_a_word() {
        for (secret, given, shown) in [
            ("abc", "<abc>", "<abc>"),
            (
                "nixos",
                "nixos-installed nixosx xnixos",
                "********-installed nixosx xnixos",
            ),
            (
                "local",
                "storage 'local', local-zfs, locally",
                "storage '********', ********-zfs, locally",
            ),
            ("install", "preinstalled", "pre********ed"),
            ("nixos", "nixos", WHOLE),
        ] {
            assert_eq!(scrubbed(secret, json!(given)), json!(shown));
        }
    }

    #[test]
    fn secrets_within_each_other_leave_nothing_behind() {
        let secrets = Secrets::default();
        for secret in ["password", "passwords-all", "all-that-is"] {
            secrets.add(secret);
        }
        for text in ["passwords-all-that-is", "passwordpassword", "passwords-all"] {
            let shown = secrets.scrub(json!(format!("<{text}>")));
            assert!(
                ["<********>", "<****************>"]
                    .iter()
                    .any(|s| shown == *s),
                "{shown}"
            );
        }
        assert_eq!(
            scrubbed("aabaabaa", json!("<aabaabaabaa>")),
            json!("<********>")
        );
    }

    #[test]
    fn what_a_module_computes_is_left_whole() {
        let facts = json!({
            "closure": "/nix/store/0c5b8vw40d1178xlpddw65q9gf1h2186-nixos-system-web-server",
            "tags": ["nixos-proxmox", "nixos-installed", "local", "install"],
            "volid": "local:iso/nixos-installer.iso",
            "vmid": 1234567,
        });
        let words = [
            "nixos",
            "install",
            "local",
            "proxmox",
            "nixos-installed",
            "web-server",
            "server",
            "iso",
            "1",
            "1234567",
            "installed",
            "nixos-system",
            "local:iso",
            "/nix/store",
            "linux",
            "system",
        ];
        for word in words {
            let secrets = Secrets::default();
            secrets.add(word);
            assert_eq!(
                secrets.scrub_own(facts.clone())["closure"],
                facts["closure"],
                "{word}"
            );
            assert_eq!(
                secrets.scrub_own(facts.clone())["tags"],
                facts["tags"],
                "{word}"
            );
            assert_eq!(
                secrets.scrub_own(facts.clone())["volid"],
                facts["volid"],
                "{word}"
            );
        }
        for text in [
            "web-server\n",
            "# hosts\nweb-server\nlocalhost\n",
            "nixos-2605",
            "local:iso/nixos-installer.iso",
        ] {
            let secrets = holding(json!(text), &Public::default());
            assert_eq!(secrets.scrub_own(facts.clone()), facts, "{text}");
        }
        for secret in [
            "hunter22",
            "hunter2-",
            "correct horse",
            "0b5a7c1e-93f1-4a3c-8f0e-2d3b4c5d6e7f",
        ] {
            let secrets = Secrets::default();
            secrets.add(secret);
            let shown = secrets.scrub_own(json!({"said": format!("<{secret}>")}));
            assert_eq!(shown["said"], "<********>");
        }
        let key = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW";
        let secrets = holding(
            json!({"write_files": [{"content": format!("a\n{key}\n")}]}),
            &Public::default(),
        );
        assert_eq!(secrets.scrub_own(json!(format!("<{key}>"))), "<********>");
    }

    #[test]
    fn a_document_hides_what_is_not_public() {
        let mut public = Public::default();
        public.open_value(&json!({"name": "web1-prod"}));
        let text = "# made by Ansible\n#cloud-config\nhostname: web1\npassword: hunter22\nweb1-prod\n#!/bin/sh\n";
        let secrets = holding(json!(text), &public);
        assert_eq!(
            secrets.scrub(json!("begin with #cloud-config or #!/bin/sh, not '# made by Ansible' (web1-prod, hunter22)")),
            "begin with #cloud-config or #!/bin/sh, not '********' (web1-prod, ********)"
        );
        assert_eq!(secrets.scrub(json!(text)), json!(WHOLE));
        let secrets = holding(
            json!("#cloud-config\nwrite_files:\n  path: /secret/path\n"),
            &public,
        );
        assert_eq!(
            secrets.scrub(json!(
                "line 2: write_files: must be a list, not path: /secret/path"
            )),
            "line 2: write_files: must be a list, not ********"
        );
        let secrets = holding(
            json!({"owner": "root:wheel", "encoding": "gzip+base64"}),
            &public,
        );
        let advice = "must be a text such as 'root:wheel' (gz+base64, gzip+base64, text/plain)";
        assert_eq!(secrets.scrub(json!(advice)), json!(advice));
        // Advice may show what stands in the document, too.
        let advice = "for a block: content: |; lock_passwd: false is needed (disable_root: False)";
        let text = "#cloud-config\n- content: |\n  lock_passwd: false\n  disable_root: False\n  a: |2-\n  content: the-secret\n";
        let secrets = holding(json!(text), &public);
        assert_eq!(secrets.scrub(json!(advice)), json!(advice));
        assert_eq!(secrets.scrub(json!("<content: the-secret>")), "<********>");
        let document = json!({"hostname": "web1-prod", "users": [{"name": "nixos", "passwd": "default"}], "n": 1});
        let secrets = holding(document, &public);
        assert_eq!(
            secrets.scrub(json!("web1-prod nixos 101 default")),
            json!("web1-prod nixos 101 ********")
        );
        assert_eq!(
            holding(json!(["pin7"]), &public).scrub(json!("pin7")),
            json!(WHOLE)
        );
    }

    #[test]
    fn a_secret_with_controls_or_colours_in_it_is_masked() {
        for (secret, given) in [
            ("hunter2-and-more", "<hun\u{1b}[1mter2-and\u{1b}[0m-more>"),
            ("hun\u{7}ter22", "<hun\u{7}ter22>"),
            ("line one\r\nline two", "<line one\r\nline two>"),
            ("line one\r\nline two", "<line one\nline two>"),
        ] {
            assert_eq!(scrubbed(secret, json!(given)), "<********>", "{given:?}");
        }
    }

    #[test]
    fn an_empty_secret_masks_nothing() {
        assert_eq!(scrubbed("", json!("text")), json!("text"));
    }
}
