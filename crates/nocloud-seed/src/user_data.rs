//! The user-data: the user's own dictionary with ours merged in.
//!
//! Keys and host keys go in as `users` and `write_files`, because cloud-init
//! applies those in its init stage, which NixOS and Debian order before sshd.
//! The better known top-level `ssh_authorized_keys` and `ssh_keys` are applied
//! in the config stage, beside or after a running sshd: first logins fail, and
//! the first connections see another host key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::{Error, HostKey, Input, KeyKind, Payload, PublicKeyLine};

/// The keys that name the guest.
const NAMES: [&str; 2] = ["hostname", "fqdn"];
/// The key with which cloud-init leaves the guest's name alone (cc_set_hostname).
const PRESERVE: &str = "preserve_hostname";

/// The `#cloud-config` dictionary for this input, `own` being the user's part.
pub(crate) fn cloud_config(
    input: &Input,
    mut own: Map<String, Value>,
) -> Result<Map<String, Value>, Error> {
    let mut config = Map::new();
    // A name that is nothing is none, and would win over ours.
    own.retain(|key, value| !NAMES.contains(&key.as_str()) || !(value.is_null() || value == ""));
    insert_host_name(input, &own, &mut config);
    let keys = authorized_keys(&input.authorized_keys)?;
    if !keys.is_empty() {
        config.insert("disable_root".into(), false.into());
    }
    if !input.host_keys.is_empty() {
        // cloud-init deletes and renews host keys once per instance otherwise.
        config.insert("ssh_deletekeys".into(), false.into());
        // Only the kinds that are there, so that none is made (cloud-init's
        // schema does not take an empty list).
        let kinds: Vec<&str> = input
            .host_keys
            .iter()
            .map(|key| key.kind().name())
            .collect();
        config.insert("ssh_genkeytypes".into(), kinds.into());
    }

    // The user's own values win over ours, except where keys would be lost.
    let own_users = take_list(&mut own, "users")?;
    let own_files = take_list(&mut own, "write_files")?;
    for (key, value) in own {
        config.insert(key, value);
    }
    if !input.host_keys.is_empty() && config["ssh_deletekeys"] != false {
        return Err(Error::UserData {
            key: "ssh_deletekeys",
            problem: "must be false or left out when host keys are given",
        });
    }
    if let Some(users) = users(own_users, keys)? {
        config.insert("users".into(), users.into());
    }
    let mut files = own_files.unwrap_or_default();
    files.extend(host_key_files(&input.host_keys));
    if !files.is_empty() {
        config.insert("write_files".into(), files.into());
    }
    Ok(config)
}

/// The guest's name, or that cloud-init leaves it alone.
fn insert_host_name(input: &Input, own: &Map<String, Value>, config: &mut Map<String, Value>) {
    let named = |map: &Map<String, Value>| NAMES.iter().any(|key| map.contains_key(*key));
    let meta = ["local-hostname", "hostname"]
        .iter()
        .any(|key| input.meta_data.contains_key(*key));
    match &input.hostname {
        // The user's own wins, and a name of ours beside it would be half of another.
        Some(name) if !named(own) && !meta => {
            let (host, domain) = name.split_once('.').unwrap_or((name, ""));
            config.insert("hostname".into(), host.into());
            if !domain.is_empty() {
                config.insert("fqdn".into(), name.as_str().into());
            }
        }
        Some(_) => {}
        // Without this cloud-init would call the guest "localhost". With it no name from anywhere has an effect.
        None => {
            let vendor = match &input.vendor_data {
                Some(Payload::Dict(dict)) => named(dict) || dict.contains_key(PRESERVE),
                Some(Payload::Text(text)) => text.contains("hostname") || text.contains("fqdn"),
                None => false,
            };
            if !named(own) && !meta && !vendor {
                config.insert(PRESERVE.into(), true.into());
            }
        }
    }
}

/// The files in which sshd looks for its keys.
fn host_key_files(keys: &[HostKey]) -> impl Iterator<Item = Value> {
    let file = |path: String, mode: &str, content: &str| {
        json!({
            "path": path,
            "owner": "root:root",
            "permissions": mode,
            "encoding": "b64",
            "content": STANDARD.encode(content),
        })
    };
    keys.iter().flat_map(move |key| {
        let path = format!("/etc/ssh/ssh_host_{}_key", key.kind().name());
        let public = file(format!("{path}.pub"), "0644", key.public());
        [file(path, "0600", key.private()), public]
    })
}

/// Writes the host keys in `ssh_keys` anew, whatever became of their lines. What cannot be one is left to the check.
pub(crate) fn rewrite_host_keys(own: &mut Map<String, Value>) {
    let Some(Value::Object(keys)) = own.get_mut("ssh_keys") else {
        return;
    };
    for kind in KeyKind::ALL {
        if let Some(Value::String(private)) = keys.get_mut(&format!("{}_private", kind.name()))
            && let Ok(key) = HostKey::new(kind, private, None)
        {
            *private = key.private().to_owned();
        }
    }
}

/// Takes a key that must be a list out of the user's dictionary.
fn take_list(own: &mut Map<String, Value>, key: &'static str) -> Result<Option<Vec<Value>>, Error> {
    match own.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items)),
        Some(_) => Err(Error::UserData {
            key,
            problem: "must be a list",
        }),
    }
}

/// The users: the user's own, with `keys` added for root.
fn users(own: Option<Vec<Value>>, keys: Vec<String>) -> Result<Option<Vec<Value>>, Error> {
    let mut users = own.unwrap_or_default();
    for user in users.iter_mut().filter_map(Value::as_object_mut) {
        one_spelling(user)?;
    }
    if keys.is_empty() {
        return Ok(Some(users).filter(|users| !users.is_empty()));
    }
    let root = users.iter_mut().find_map(|user| {
        user.as_object_mut()
            .filter(|user| user.get("name").is_some_and(|name| name == "root"))
    });
    match root {
        Some(root) => {
            let list = root.entry(KEYS).or_insert_with(|| json!([]));
            // One key may stand for a list of one.
            if list.is_string() {
                *list = json!([list.take()]);
            }
            if list.is_null() {
                *list = json!([]);
            }
            let Value::Array(list) = list else {
                return Err(Error::UserData {
                    key: "users",
                    problem: "has an ssh_authorized_keys that is not a list",
                });
            };
            for key in keys {
                if !list.iter().any(|known| *known == key) {
                    list.push(key.into());
                }
            }
        }
        // A bare "root" would be a second entry for the same account.
        None => {
            users.retain(|user| *user != "root");
            // lock_passwd: an installer's console login stays as it is.
            users.push(json!({ "name": "root", "lock_passwd": false, KEYS: keys }));
        }
    }
    Ok(Some(users))
}

const KEYS: &str = "ssh_authorized_keys";

/// All spellings of a user's keys are one list: cloud-init makes underscores of hyphens, and of equal keys keeps the last
/// (`normalize_users_groups`).
fn one_spelling(user: &mut Map<String, Value>) -> Result<(), Error> {
    let is_keys = |key: &str| key.replace('-', "_") == KEYS;
    let spellings = user.keys().filter(|key| is_keys(key)).count();
    if spellings == 0 || (spellings == 1 && user.contains_key(KEYS)) {
        return Ok(());
    }
    let mut joined: Vec<Value> = Vec::new();
    for (_, value) in user.iter().filter(|(key, _)| is_keys(key)) {
        let lines = match value {
            Value::Array(lines) => lines.clone(),
            Value::String(_) => vec![value.clone()],
            Value::Null => Vec::new(),
            _ => {
                return Err(Error::UserData {
                    key: "users",
                    problem: "has an ssh_authorized_keys that is not a list",
                });
            }
        };
        for line in lines {
            if !joined.contains(&line) {
                joined.push(line);
            }
        }
    }
    // The first of them keeps its place, under the name that ours are added to.
    let mut joined = Some(Value::from(joined));
    *user = std::mem::take(user)
        .into_iter()
        .filter_map(|(key, value)| match is_keys(&key) {
            true => Some((KEYS.to_owned(), joined.take()?)),
            false => Some((key, value)),
        })
        .collect();
    Ok(())
}

/// The lines, trimmed and without doubles.
fn authorized_keys(lines: &[String]) -> Result<Vec<String>, Error> {
    let mut keys: Vec<String> = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        PublicKeyLine::parse(line).map_err(|problem| Error::AuthorizedKey {
            number: index + 1,
            problem,
        })?;
        if !keys.iter().any(|known| known == line) {
            keys.push(line.to_owned());
        }
    }
    Ok(keys)
}
