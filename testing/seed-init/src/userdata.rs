//! From user-data and meta-data to what the system shall be.

use base64::Engine as _;
use serde_yaml_ng::Value;

use crate::seed::{Seed, yaml};

/// A user to be there, with keys that may log in.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Lines for `authorized_keys`.
    pub keys: Vec<String>,
    /// Whether the user may become root without a password.
    pub sudo: bool,
}

/// A file to write.
#[derive(Debug, Clone, PartialEq)]
pub struct File {
    /// Absolute path in the guest.
    pub path: String,
    /// Its content.
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Add to what is there instead of replacing it.
    pub append: bool,
}

/// What the drive asks for, less the network.
#[derive(Debug, Default)]
pub struct System {
    /// Host name, when one is given (without its domain).
    pub hostname: Option<String>,
    /// Files, in their order.
    pub files: Vec<File>,
    /// Users, in their order; root may be among them.
    pub users: Vec<User>,
    /// SSH host keys given as `ssh_keys`, written after all other files.
    pub host_keys: Vec<File>,
    /// Delete the host keys that `files` brought (cloud-init's own default).
    pub delete_host_keys: bool,
}

/// The user that `default` stands for when the drive does not name one with `user:`.
const DEFAULT_USER: &str = "nixos";

/// Reads the user-data (falling back to vendor-data key by key, as cloud-init does) and meta-data.
pub fn parse(seed: &Seed, warnings: &mut Vec<String>) -> Result<System, String> {
    let user = cloud_config("user-data", &seed.user_data, warnings)?;
    let vendor = cloud_config("vendor-data", &seed.vendor_data, warnings)?;
    let get = |key: &str| {
        let given = user.get(key).filter(|value| !value.is_null());
        given
            .or_else(|| vendor.get(key))
            .cloned()
            .unwrap_or(Value::Null)
    };
    let mut system = System {
        delete_host_keys: get("ssh_deletekeys").as_bool().unwrap_or(true),
        hostname: hostname(&get, &seed.meta_data),
        ..System::default()
    };
    for entry in list(&get("write_files")) {
        match file(&entry) {
            Ok(file) => system.files.push(file),
            Err(problem) => warnings.push(format!("write_files: {problem}")),
        }
    }
    system.host_keys = host_keys(&get("ssh_keys"));
    system.users = users(&get, &seed.meta_data);
    Ok(system)
}

fn cloud_config(what: &str, text: &str, warnings: &mut Vec<String>) -> Result<Value, String> {
    let first = text.trim_start().lines().next().unwrap_or("").trim_end();
    if first.is_empty() || first == "#cloud-config" {
        return yaml(what, text);
    }
    warnings.push(format!(
        "{what} begins with {first:?}: only #cloud-config is understood, ignored"
    ));
    Ok(Value::Null)
}

fn hostname(get: &dyn Fn(&str) -> Value, meta_data: &Value) -> Option<String> {
    let named = ["hostname", "fqdn"].into_iter().map(get);
    let meta = ["local-hostname", "hostname"]
        .into_iter()
        .map(|key| meta_data[key].clone());
    let name = named
        .chain(meta)
        .find_map(|value| value.as_str().map(str::to_owned))?;
    let short = name.split('.').next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (!short.is_empty() && short.chars().all(plain)).then(|| short.to_owned())
}

fn file(entry: &Value) -> Result<File, String> {
    let path = entry["path"].as_str().ok_or("an entry has no path")?;
    if !path.starts_with('/') {
        return Err(format!("{path} is not an absolute path"));
    }
    let content = entry["content"].as_str().unwrap_or("");
    let content = match entry["encoding"].as_str().unwrap_or("text/plain") {
        "b64" | "base64" => {
            let packed: String = content.split_ascii_whitespace().collect();
            base64::engine::general_purpose::STANDARD
                .decode(packed)
                .map_err(|error| format!("{path}: {error}"))?
        }
        "text/plain" => content.as_bytes().to_vec(),
        other => {
            return Err(format!(
                "{path}: the encoding {other:?} is not understood here"
            ));
        }
    };
    let mode = match &entry["permissions"] {
        Value::Null => 0o644,
        Value::String(digits) => u32::from_str_radix(digits.trim_start_matches("0o"), 8)
            .map_err(|_| format!("{path}: permissions {digits:?} are not octal"))?,
        // YAML 1.2 reads an unquoted 0600 as the number 600: the digits are what was meant.
        Value::Number(number) => u32::from_str_radix(&number.to_string(), 8)
            .map_err(|_| format!("{path}: permissions {number} are not octal"))?,
        other => return Err(format!("{path}: permissions {other:?} are not octal")),
    };
    let append = entry["append"].as_bool().unwrap_or(false);
    Ok(File {
        path: path.to_owned(),
        content,
        mode,
        append,
    })
}

/// `ssh_keys: {ed25519_private: .., ed25519_public: ..}`.
fn host_keys(value: &Value) -> Vec<File> {
    let mut files = Vec::new();
    for kind in ["rsa", "ecdsa", "ed25519"] {
        let base = format!("/etc/ssh/ssh_host_{kind}_key");
        for (part, path, mode) in [
            ("private", base.clone(), 0o600),
            ("public", format!("{base}.pub"), 0o644),
        ] {
            if let Some(text) = value[format!("{kind}_{part}").as_str()].as_str() {
                let mut content = text.trim_end().as_bytes().to_vec();
                content.push(b'\n');
                files.push(File {
                    path,
                    content,
                    mode,
                    append: false,
                });
            }
        }
    }
    files
}

fn users(get: &dyn Fn(&str) -> Value, meta_data: &Value) -> Vec<User> {
    let default = match &get("user") {
        Value::String(name) => name.clone(),
        Value::Mapping(entry) => entry
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or(DEFAULT_USER)
            .to_owned(),
        _ => DEFAULT_USER.to_owned(),
    };
    let mut users: Vec<User> = Vec::new();
    for entry in list(&get("users")) {
        let name = match &entry {
            Value::String(name) => name.as_str(),
            other => other["name"].as_str().unwrap_or_default(),
        };
        let name = if name == "default" { &default } else { name };
        if name.is_empty() {
            continue;
        }
        let mut keys = strings(&entry["ssh_authorized_keys"]);
        keys.extend(strings(&entry["ssh-authorized-keys"]));
        let sudo = name == default || !matches!(entry["sudo"], Value::Null | Value::Bool(false));
        user(&mut users, name, sudo).keys.extend(keys);
    }
    // Top-level keys are the default user's, and root's too unless root is disabled.
    let mut shared = strings(&get("ssh_authorized_keys"));
    shared.extend(strings(&meta_data["public-keys"]));
    shared.extend(strings(&meta_data["public_keys"]));
    if !shared.is_empty() {
        user(&mut users, &default, true)
            .keys
            .extend(shared.iter().cloned());
        if get("disable_root").as_bool() == Some(false) {
            user(&mut users, "root", true).keys.extend(shared);
        }
    }
    users
}

/// The entry of that name, added when there is none.
fn user<'a>(users: &'a mut Vec<User>, name: &str, sudo: bool) -> &'a mut User {
    let index = users
        .iter()
        .position(|user| user.name == name)
        .unwrap_or_else(|| {
            users.push(User {
                name: name.to_owned(),
                keys: Vec::new(),
                sudo,
            });
            users.len() - 1
        });
    &mut users[index]
}

fn list(value: &Value) -> Vec<Value> {
    value.as_sequence().cloned().unwrap_or_default()
}

/// A string's lines, a list's strings, or a map's strings.
fn strings(value: &Value) -> Vec<String> {
    let text: Vec<&str> = match value {
        Value::String(text) => text.lines().collect(),
        Value::Sequence(items) => items.iter().filter_map(Value::as_str).collect(),
        Value::Mapping(map) => map.values().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    text.into_iter()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(user_data: &str, meta_data: &str) -> (System, Vec<String>) {
        let seed = Seed {
            user_data: user_data.to_owned(),
            meta_data: yaml("meta-data", meta_data).unwrap(),
            ..Seed::default()
        };
        let mut warnings = Vec::new();
        let system = parse(&seed, &mut warnings).unwrap();
        (system, warnings)
    }

    #[test]
    fn a_seed_with_host_keys() {
        let (system, warnings) = system(
            "#cloud-config\nhostname: web1\nssh_deletekeys: false\nssh_genkeytypes: []\ndisable_root: false\n\
             users:\n- name: root\n  ssh_authorized_keys: [ssh-ed25519 AAAA me]\n\
             write_files:\n- {path: /etc/ssh/ssh_host_ed25519_key, encoding: b64, content: a2V5Cg==, permissions: '0600', owner: 'root:root'}\n",
            "instance-id: x\nlocal-hostname: other\n",
        );
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(system.hostname.as_deref(), Some("web1"));
        assert!(!system.delete_host_keys);
        assert_eq!(system.files[0].content, b"key\n");
        assert_eq!(system.files[0].mode, 0o600);
        assert_eq!(system.users.len(), 1);
        assert_eq!(system.users[0].keys, ["ssh-ed25519 AAAA me"]);
    }

    #[test]
    fn pves_native_drive() {
        let (system, warnings) = system(
            "#cloud-config\nhostname: web1\nmanage_etc_hosts: true\nfqdn: web1.example.net\nuser: alice\n\
             disable_root: False\npassword: $5$x$y\nssh_authorized_keys:\n  - ssh-ed25519 AAAA me\n\
             chpasswd:\n  expire: False\nusers:\n  - default\npackage_upgrade: true\n",
            "instance-id: 0123\n",
        );
        assert!(warnings.is_empty(), "{warnings:?}");
        assert!(system.delete_host_keys);
        let names: Vec<_> = system
            .users
            .iter()
            .map(|user| (user.name.as_str(), user.keys.len()))
            .collect();
        assert_eq!(names, [("alice", 1), ("root", 1)]);
        assert!(system.users[0].sudo);
    }

    #[test]
    fn root_gets_no_shared_keys_unless_it_is_enabled() {
        let (system, _) = system(
            "#cloud-config\nssh_authorized_keys: [k]\n",
            "local-hostname: h.example\n",
        );
        assert_eq!(
            system.users,
            [User {
                name: "nixos".into(),
                keys: vec!["k".into()],
                sudo: true
            }]
        );
        assert_eq!(system.hostname.as_deref(), Some("h"));
    }

    #[test]
    fn what_is_not_understood_is_said() {
        let (_, warnings) = system("#!/bin/sh\necho\n", "");
        assert!(warnings[0].contains("#!/bin/sh"));
        let (system, warnings) = system(
            "#cloud-config\nwrite_files:\n- {path: x}\n- {path: /x, encoding: gz+b64}\n- {path: /y, permissions: 0600}\n",
            "",
        );
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert_eq!((system.files.len(), system.files[0].mode), (1, 0o600));
    }
}
