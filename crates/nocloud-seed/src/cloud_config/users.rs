//! Users, their keys and passwords, and the guest's host keys.

use serde_json::{Map, Value};

use super::keys::{USER, items};
use crate::crypt;
use crate::findings::Findings;
use crate::pyyaml::SPELLINGS;
use crate::spelling::similar;
use crate::{HostKey, KeyKind, PublicKeyLine};

pub(super) fn user(
    path: &[&str],
    user: &Map<String, Value>,
    needs_name: bool,
    findings: &mut Findings,
) {
    let named = |key: &str| user.contains_key(key);
    if needs_name && !named("name") && !named("snapuser") {
        findings.refuse(path, "has no name");
    } else if !user.get("name").is_none_or(Value::is_string) {
        findings.refuse(&[path, &["name"]].concat(), "must be a text; quote it");
    }
    for (key, value) in user {
        let plain = key.replace('-', "_");
        let path = [path, &[key]].concat();
        match plain.as_str() {
            "ssh_authorized_keys" => key_lines(&path, Some(value), findings),
            "passwd" | "hashed_passwd" => match value {
                Value::String(hash) => {
                    if let Err(problem) = crypt::check_hash(hash) {
                        findings.refuse(&path, problem);
                    }
                }
                Value::Null | Value::Bool(_) => {}
                _ => findings.refuse(&path, "must be a text; quote it"),
            },
            "plain_text_passwd" => match value {
                Value::String(password) if crypt::looks_hashed(password) => findings.refuse(
                    &path,
                    "is a hash, which would become the password itself; give it as hashed_passwd",
                ),
                Value::Number(_) | Value::Bool(_) => {
                    findings.refuse(&path, "must be a text; quote it");
                }
                _ => {}
            },
            // cloud-init calls it so itself; a user of Ansible's does not.
            "authorized_keys" | "ssh_keys" | "ssh_key" => findings.refuse(
                &path,
                "is not a key that cloud-init knows; did you mean ssh_authorized_keys?",
            ),
            "password" => findings.refuse(
                &path,
                "is not a key that cloud-init knows; did you mean hashed_passwd or plain_text_passwd?",
            ),
            _ if !USER.contains(&plain.as_str()) => {
                if let Some(known) = similar(&plain, USER) {
                    findings.refuse(
                        &path,
                        format!("is not a key that cloud-init knows; did you mean {known}?"),
                    );
                }
            }
            _ => {}
        }
        if plain != *key
            && SPELLINGS.contains(&plain.as_str())
            && user.contains_key(&plain)
            && plain != "ssh_authorized_keys"
        {
            findings.refuse(
                &path,
                format!(
                    "and {plain} are one key, and cloud-init keeps the last one only; join them"
                ),
            );
        }
    }
}

/// Lines of public keys, one or a list.
pub(super) fn key_lines(path: &[&str], value: Option<&Value>, findings: &mut Findings) {
    let mut check = |path: &[&str], line: &Value| {
        let Value::String(line) = line else {
            return findings.refuse(path, "must be a text: the key's line");
        };
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            return;
        }
        if let Err(problem) = PublicKeyLine::parse(line) {
            findings.refuse(path, problem);
        }
    };
    match value {
        Some(Value::Array(lines)) => {
            for (n, line) in lines.iter().enumerate() {
                let n = n.to_string();
                check(&[path, &[n.as_str()]].concat(), line);
            }
        }
        Some(line @ Value::String(_)) => check(path, line),
        Some(Value::Null) | None => {}
        Some(_) => check(path, &Value::Null),
    }
}

/// Passwords that cloud-init would set as they are although they are hashes, and the other way round.
pub(super) fn passwords(config: &Map<String, Value>, findings: &mut Findings) {
    const AGAIN: &str = "is a hash of a scheme that cloud-init takes for the password itself here; give it as hashed_passwd of the user, \
                         or in chpasswd.users with type: hash";
    let again = |text: &str| crypt::looks_hashed(text) && !crypt::is_hash_to_chpasswd(text);
    match config.get("password") {
        Some(Value::String(password)) if again(password) => findings.refuse(&["password"], AGAIN),
        Some(Value::Number(_) | Value::Bool(_)) => {
            findings.refuse(&["password"], "must be a text; quote it")
        }
        _ => {}
    }
    let Some(Value::Object(chpasswd)) = config.get("chpasswd") else {
        return;
    };
    let lines: Vec<&str> = match chpasswd.get("list") {
        Some(Value::String(text)) => text.lines().collect(),
        Some(Value::Array(lines)) => {
            for (n, line) in (0..).zip(lines).filter(|(_, line)| !line.is_string()) {
                let problem = match line.is_object() {
                    true => {
                        "is a mapping: a colon and a blank make it one; write NAME:PASSWORD, in quotes"
                    }
                    false => "must be a text NAME:PASSWORD; quote it",
                };
                findings.refuse(&["chpasswd", "list", &n.to_string()], problem);
            }
            lines.iter().filter_map(Value::as_str).collect()
        }
        _ => Vec::new(),
    };
    for line in lines
        .iter()
        .map(|line| line.trim())
        .filter(|line| !line.is_empty())
    {
        match line.split_once(':') {
            Some((_, password)) if again(password) => findings.refuse(&["chpasswd", "list"], AGAIN),
            Some(_) => {}
            None => findings.refuse(
                &["chpasswd", "list"],
                "has a line that is not NAME:PASSWORD",
            ),
        }
    }
    for (n, user) in items(chpasswd.get("users")) {
        let path = ["chpasswd", "users", &n];
        if user.get("name").is_none() {
            findings.refuse(&path, "has no name");
        }
        if let Some(Value::Number(_) | Value::Bool(_)) = user.get("password") {
            findings.refuse(
                &["chpasswd", "users", &n, "password"],
                "must be a text; quote it",
            );
        }
        let (Some(Value::String(password)), kind) = (user.get("password"), user.get("type")) else {
            continue;
        };
        let path = ["chpasswd", "users", &n, "password"];
        match kind.and_then(Value::as_str).unwrap_or("hash") {
            "hash" => {
                if let Err(problem) = crypt::check_hash(password) {
                    findings.refuse(
                        &path,
                        format!("{problem}; a password itself goes with type: text"),
                    );
                }
            }
            "text" if crypt::looks_hashed(password) => {
                findings.refuse(
                    &path,
                    "is a hash, but type: text makes it the password itself; use type: hash",
                );
            }
            _ => {}
        }
    }
}

/// Host keys that cloud-init would write as they are, although sshd does not load them.
pub(super) fn host_keys(config: &Map<String, Value>, findings: &mut Findings) {
    let Some(Value::Object(keys)) = config.get("ssh_keys") else {
        return;
    };
    for kind in KeyKind::ALL {
        let key = format!("{}_private", kind.name());
        let text = |key: &str| keys.get(key).and_then(Value::as_str);
        let Some(private) = text(&key) else { continue };
        let public = text(&format!("{}_public", kind.name()));
        let problem = match HostKey::new(kind, private, public) {
            Err(error) => error.host_key_problem(),
            Ok(_) if is_loaded(private) => continue,
            Ok(_) => {
                "has lost its line breaks or is indented, so sshd would not load it; give it as a block (|)"
            }
        };
        findings.refuse(&["ssh_keys", &key], problem);
    }
}

/// Whether sshd loads a key that is one with these lines.
fn is_loaded(private: &str) -> bool {
    let private = private.trim_end_matches('\n');
    let is_mark = |line: &str, mark: &str| line.starts_with(mark) && line.ends_with("-----");
    // The marks of a block of parameters before the key have blanks.
    let is_plain =
        |line: &str| is_mark(line, "-----") || !line.contains(|c: char| c.is_whitespace());
    let lines: Vec<&str> = private.split('\n').collect();
    match lines[..] {
        [first, ref body @ .., last] => {
            is_mark(first, "-----BEGIN")
                && is_mark(last, "-----END")
                && body.iter().all(|line| is_plain(line))
        }
        _ => false,
    }
}
