//! Whether a `#cloud-config` is what cloud-init's modules take, by the types that its schema gives
//! (cloudinit/config/schemas/schema-cloud-config-v1.json) and what the modules do with other ones. cloud-init itself only
//! warns in the guest's log, and the module then fails or does something else.

mod keys;
mod users;

use serde_json::{Map, Value};

use crate::findings::Findings;
use crate::host_name::is_hostname;
use crate::mime;
use crate::spelling::similar;

pub(crate) use keys::KEYS;
use keys::{ENCODINGS, FILE, FILE_INSTEAD, Kind, items};
use users::{host_keys, key_lines, passwords, user};

pub(crate) fn check(config: &Map<String, Value>) -> Findings {
    let mut findings = Findings::default();
    for (key, value) in config {
        top_level(key, value, &mut findings);
    }
    for key in ["runcmd", "bootcmd"] {
        for (n, item) in items(config.get(key)) {
            command(key, &n, item, &mut findings);
        }
    }
    for (n, file) in items(config.get("write_files")) {
        write_file(&n, file, &mut findings);
    }
    for (n, user) in items(config.get("users")) {
        if let Value::Object(user) = user {
            self::user(&["users", &n], user, true, &mut findings);
        }
    }
    // The users may be a mapping by name, and the default user a mapping of what is other.
    for (name, user) in config
        .get("users")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if let Value::Object(user) = user {
            self::user(&["users", name], user, false, &mut findings);
        }
    }
    if let Some(Value::Object(user)) = config.get("user") {
        self::user(&["user"], user, false, &mut findings);
    }
    if let Some(Value::Object(user)) = config
        .get("system_info")
        .and_then(|info| info.get("default_user"))
    {
        self::user(&["system_info", "default_user"], user, false, &mut findings);
    }
    host_keys(config, &mut findings);
    for key in ["hostname", "fqdn"] {
        let name = config.get(key).and_then(Value::as_str).unwrap_or_default();
        let name = name.strip_suffix('.').unwrap_or(name);
        const MUST: &str =
            "must be letters, digits and dashes, in parts of at most 63 characters joined by dots";
        match name {
            "" => {}
            name if is_hostname(name) => {}
            // Not for DNS, but systemd takes it.
            name if is_hostname(&name.replace('_', "a")) => findings.warn(&[key], MUST),
            _ => findings.refuse(&[key], MUST),
        }
    }
    key_lines(
        &["ssh_authorized_keys"],
        config.get("ssh_authorized_keys"),
        &mut findings,
    );
    passwords(config, &mut findings);
    findings
}

fn top_level(key: &str, value: &Value, findings: &mut Findings) {
    let Some((_, kind)) = KEYS.iter().find(|(known, _)| *known == key) else {
        if !key.starts_with("x-") {
            let meant = similar(key, KEYS.iter().map(|(known, _)| *known));
            let spelling = |text: &str| text.to_ascii_lowercase().replace('-', "_");
            if let Some(known) = meant.filter(|known| spelling(known) == spelling(key)) {
                return findings.refuse(
                    &[key],
                    format!("is not a key that cloud-init knows; did you mean {known}?"),
                );
            }
            let hint = match (key, meant) {
                ("network", _) => "; give network_config instead".to_owned(),
                (_, Some(known)) => format!("; did you mean {known}?"),
                (_, None) => String::new(),
            };
            findings.warn(
                &[key],
                format!("is not a key that cloud-init knows, so it has no effect{hint}"),
            );
        }
        return;
    };
    let problem = match (kind, value) {
        (_, Value::Null) => return,
        (Kind::List, Value::Array(_)) | (Kind::Map, Value::Object(_)) | (Kind::Any, _) => return,
        (Kind::Text, Value::String(_)) | (Kind::Texts, Value::String(_) | Value::Array(_)) => {
            return;
        }
        (Kind::List, _) => "must be a list",
        (Kind::Map, _) => "must be a mapping",
        (Kind::Text, Value::Number(_) | Value::Bool(_)) => "must be a text; quote it",
        (Kind::Text, _) => "must be a text",
        (Kind::Texts, _) => "must be a text or a list",
    };
    findings.refuse(&[key], problem);
}

/// A command: a text for the shell, or a list of words.
fn command(key: &str, n: &str, item: &Value, findings: &mut Findings) {
    match item {
        Value::String(_) | Value::Null => {}
        Value::Array(words) => {
            for (word, value) in words.iter().enumerate() {
                if value.is_array() || value.is_object() {
                    findings.refuse(
                        &[key, n, &word.to_string()],
                        "must be a text; quote a word with a colon and a blank in it",
                    );
                }
            }
        }
        Value::Object(_) => findings.refuse(
            &[key, n],
            "is a mapping, not a command: a colon and a blank make it one; quote the whole command",
        ),
        _ => findings.refuse(&[key, n], "must be a text or a list of words; quote it"),
    }
}

fn write_file(n: &str, file: &Value, findings: &mut Findings) {
    let at = |key: &'static str| ["write_files", n, key];
    let Value::Object(file) = file else {
        return findings.refuse(
            &["write_files", n],
            "must be a mapping with path and content",
        );
    };
    for key in file.keys().filter(|key| !FILE.contains(&key.as_str())) {
        let meant = FILE_INSTEAD
            .iter()
            .find(|(other, _)| other == key)
            .map(|(_, known)| *known);
        if let Some(known) = meant.or_else(|| similar(key, FILE)) {
            findings.refuse(
                &["write_files", n, key],
                format!("is not a key that cloud-init knows; did you mean {known}?"),
            );
        }
    }
    match file.get("path") {
        Some(Value::String(path)) if path.starts_with('/') => {}
        Some(Value::String(_)) => findings.refuse(&at("path"), "must be an absolute path"),
        Some(_) => findings.refuse(&at("path"), "must be a text"),
        None => findings.refuse(
            &["write_files", n],
            "has no path, so cloud-init would not write it",
        ),
    }
    content(n, file, findings);
    if let Some(Value::String(encoding)) = file.get("encoding")
        && !ENCODINGS.contains(&encoding.trim().to_lowercase().as_str())
    {
        findings.refuse(
            &at("encoding"),
            format!(
                "is not one that cloud-init knows ({})",
                ENCODINGS.join(", ")
            ),
        );
    }
    permissions(n, file.get("permissions"), findings);
    if let Some(Value::Object(_) | Value::Array(_) | Value::Number(_)) = file.get("owner") {
        findings.refuse(&at("owner"), "must be a text such as 'root:wheel'");
    }
}

/// The content of a file, which must be what its encoding says.
fn content(n: &str, file: &Map<String, Value>, findings: &mut Findings) {
    let at = ["write_files", n, "content"];
    if let Some(content @ (Value::Object(_) | Value::Array(_))) = file.get("content") {
        let kind = if content.is_object() {
            "mapping"
        } else {
            "list"
        };
        findings.refuse(
            &at,
            format!("is a {kind}, but must be a text (for JSON: the filter to_json; for a block: content: |)"),
        );
    }
    if let Some(Value::Number(_) | Value::Bool(_)) = file.get("content") {
        findings.refuse(&at, "must be a text; quote it");
    }
    if let (Some(Value::String(encoding)), Some(Value::String(content))) =
        (file.get("encoding"), file.get("content"))
    {
        let encoding = encoding.trim().to_lowercase();
        let problem = match mime::decoded(content) {
            _ if !encoding.ends_with("b64") && !encoding.ends_with("base64") => None,
            None if mime::misread(content).is_none()
                && mime::decoded_leniently(content).is_some() =>
            {
                Some("lacks padding (= at the end), so cloud-init would write no file at all")
            }
            None if mime::misread(content) == Some(mime::BASE64URL) => Some(mime::BASE64URL),
            None => {
                Some("is not base64, which encoding says, so cloud-init would write no file at all")
            }
            Some(_) if mime::misread(content).is_some() => mime::misread(content),
            Some(bytes) if encoding.starts_with("gz") && !bytes.starts_with(&[0x1f, 0x8b]) => Some(
                "is not compressed with gzip, which encoding says, so cloud-init would write no file at all",
            ),
            Some(_) => None,
        };
        if let Some(problem) = problem {
            findings.refuse(&at, problem);
        }
    }
}

/// The mode of a file.
fn permissions(n: &str, given: Option<&Value>, findings: &mut Findings) {
    let at = ["write_files", n, "permissions"];
    match given {
        None | Some(Value::Null) => {}
        Some(Value::String(mode)) => {
            let digits = mode.trim().trim_start_matches("0o");
            if digits.is_empty()
                || digits.len() > 5
                || !digits.bytes().all(|b| (b'0'..=b'7').contains(&b))
            {
                findings.refuse(
                    &at,
                    "must be an octal mode such as '0644'; cloud-init would use 0644 instead",
                );
            }
        }
        Some(Value::Number(mode)) => {
            // 0644 without quotation marks arrives as 420, which cloud-init takes as 0644; 644 arrives as 01204.
            let typed = mode.to_string();
            let octal = typed.bytes().all(|b| (b'0'..=b'7').contains(&b));
            let common = ["400", "440", "444", "500"].contains(&typed.as_str());
            match mode.as_u64() {
                Some(value) if value <= 0o7777 && !(octal && (value > 0o777 || common)) => {}
                Some(value) => findings.refuse(
                    &at,
                    {
                        let other = match value > 777 && value <= 0o7777 {
                            true => format!(" or '{value:05o}'"),
                            false => String::new(),
                        };
                        format!("the number {typed} is the mode {value:05o}; write the mode as a text ('0{typed}'{other})")
                    },
                ),
                None => findings.refuse(&at, "must be an octal mode such as '0644'"),
            }
        }
        Some(_) => findings.refuse(&at, "must be an octal mode such as '0644'"),
    }
}
