//! Whether a `#cloud-config` is what cloud-init's modules take, by the types that its schema gives
//! (cloudinit/config/schemas/schema-cloud-config-v1.json) and what the modules do with other ones. cloud-init itself only
//! warns in the guest's log, and the module then fails or does something else.

use serde_json::{Map, Value};

use crate::crypt;
use crate::findings::Findings;
use crate::host_name::is_hostname;
use crate::mime;
use crate::pyyaml::SPELLINGS;
use crate::spelling::similar;
use crate::{HostKey, KeyKind, PublicKeyLine};

/// What a key holds. Where the schema has a boolean, cloud-init takes every word for one.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    List,
    Map,
    Text,
    /// A text or a list of them.
    Texts,
    /// More than one of these, or nothing of interest.
    Any,
}

/// The keys of a cloud-config.
pub(crate) const KEYS: &[(&str, Kind)] = {
    use Kind::{Any, List, Map, Text, Texts};
    &[
        ("apt_sources", Any),
        ("allow_public_ssh_keys", Any),
        ("ansible", Map),
        ("apk_repos", Map),
        ("apt", Map),
        ("apt_pipelining", Any),
        ("apt_reboot_if_required", Any),
        ("apt_update", Any),
        ("apt_upgrade", Any),
        ("authkey_hash", Text),
        ("autoinstall", Map),
        ("bootcmd", List),
        ("byobu_by_default", Any),
        ("ca-certs", Map),
        ("ca_certs", Map),
        ("chef", Map),
        ("chpasswd", Map),
        ("cloud_config_modules", List),
        ("cloud_final_modules", List),
        ("cloud_init_modules", List),
        ("create_hostname_file", Any),
        ("datasource", Map),
        ("device_aliases", Map),
        ("disable_ec2_metadata", Any),
        ("disable_root", Any),
        ("disable_root_opts", Text),
        ("disk_setup", Map),
        ("drivers", Map),
        ("fan", Map),
        ("final_message", Text),
        ("fqdn", Text),
        ("fs_setup", List),
        ("groups", Any),
        ("growpart", Map),
        ("grub-dpkg", Map),
        ("grub_dpkg", Map),
        ("hostname", Text),
        ("keyboard", Map),
        ("landscape", Map),
        ("launch-index", Any),
        ("locale", Any),
        ("locale_configfile", Text),
        ("lxd", Map),
        ("manage_etc_hosts", Any),
        ("manage_resolv_conf", Any),
        ("mcollective", Map),
        ("merge_how", Any),
        ("merge_type", Any),
        ("migrate", Any),
        ("mount_default_fields", List),
        ("mounts", List),
        ("no_ssh_fingerprints", Any),
        ("ntp", Map),
        ("output", Map),
        ("package_reboot_if_required", Any),
        ("package_update", Any),
        ("package_upgrade", Any),
        ("packages", Texts),
        ("password", Any),
        ("phone_home", Map),
        ("power_state", Map),
        ("prefer_fqdn_over_hostname", Any),
        ("preserve_hostname", Any),
        ("puppet", Map),
        ("random_seed", Map),
        ("reporting", Map),
        ("resize_rootfs", Any),
        ("resolv_conf", Map),
        ("rh_subscription", Map),
        ("rpi", Map),
        ("rsyslog", Map),
        ("runcmd", List),
        ("salt_minion", Map),
        ("snap", Map),
        ("spacewalk", Map),
        ("ssh", Map),
        ("ssh_authorized_keys", List),
        ("ssh_deletekeys", Any),
        ("ssh_fp_console_blacklist", List),
        ("ssh_genkeytypes", List),
        ("ssh_import_id", Any),
        ("ssh_key_console_blacklist", List),
        ("ssh_keys", Map),
        ("ssh_publish_hostkeys", Map),
        ("ssh_pwauth", Any),
        ("ssh_quiet_keygen", Any),
        ("swap", Map),
        ("system_info", Map),
        ("timezone", Text),
        ("ubuntu-advantage", Map),
        ("ubuntu_advantage", Map),
        ("ubuntu_pro", Map),
        ("updates", Map),
        ("user", Any),
        ("users", Any),
        ("vendor_data", Map),
        ("version", Any),
        ("wireguard", Map),
        ("write_files", List),
        ("yum_repo_dir", Text),
        ("yum_repos", Map),
        ("zypper", Map),
    ]
};

/// How a file's content may be encoded (cloudinit/config/cc_write_files.py).
const ENCODINGS: [&str; 9] = [
    "gz",
    "gzip",
    "gz+base64",
    "gzip+base64",
    "gz+b64",
    "gzip+b64",
    "b64",
    "base64",
    "text/plain",
];

/// The keys of a user, with underscores.
const USER: [&str; 26] = [
    "name",
    "create_groups",
    "doas",
    "expiredate",
    "gecos",
    "groups",
    "hashed_passwd",
    "homedir",
    "inactive",
    "lock_passwd",
    "no_create_home",
    "no_log_init",
    "no_user_group",
    "passwd",
    "plain_text_passwd",
    "primary_group",
    "selinux_user",
    "shell",
    "snapuser",
    "ssh_authorized_keys",
    "ssh_import_id",
    "ssh_redirect_user",
    "sudo",
    "system",
    "uid",
    "uidmap",
];
/// The keys of a file.
const FILE: [&str; 8] = [
    "append",
    "content",
    "defer",
    "encoding",
    "owner",
    "path",
    "permissions",
    "source",
];
/// What Ansible calls them, and what cloud-init does.
const FILE_INSTEAD: [(&str, &str); 4] = [
    ("mode", "permissions"),
    ("dest", "path"),
    ("src", "source"),
    ("group", "owner"),
];

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

fn items(list: Option<&Value>) -> impl Iterator<Item = (String, &Value)> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    items.enumerate().map(|(n, item)| (n.to_string(), item))
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

fn user(path: &[&str], user: &Map<String, Value>, needs_name: bool, findings: &mut Findings) {
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
fn key_lines(path: &[&str], value: Option<&Value>, findings: &mut Findings) {
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
fn passwords(config: &Map<String, Value>, findings: &mut Findings) {
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
fn host_keys(config: &Map<String, Value>, findings: &mut Findings) {
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
