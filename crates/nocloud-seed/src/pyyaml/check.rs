//! What PyYAML refuses in a tree of values, and values that are not what was meant.

use std::collections::HashMap;
use std::rc::Rc;

use super::node::{Data, Fault, Node, Trap, fault};

/// Keys whose number is a file mode, which is octal.
const MODES: [&str; 4] = ["permissions", "mode", "umask", "defer_mode"];
/// Keys whose value is a text in every part of cloud-config.
const TEXTS: [&str; 24] = [
    "content",
    "default",
    "domain",
    "encoding",
    "fqdn",
    "gecos",
    "group",
    "hashed_passwd",
    "homedir",
    "hostname",
    "key",
    "label",
    "local-hostname",
    "message",
    "name",
    "owner",
    "passwd",
    "password",
    "path",
    "plain_text_passwd",
    "shell",
    "source",
    "timezone",
    "url",
];

/// Looks for what PyYAML refuses in a tree, and for values that are not what was meant. `key` is the key it stands under,
/// nothing for an item of a list.
pub(super) fn check(node: &Node, key: Option<&str>) -> Result<(), Fault> {
    match &node.data {
        Data::Scalar(value) => {
            if value == "=" {
                return fault(node.line, "a lone = is not allowed; quote it");
            }
            match node.trap {
                Some(trap) => trapped(trap, key, node.line),
                None => Ok(()),
            }
        }
        Data::List(items) => items.iter().try_for_each(|item| check(item, None)),
        Data::Map(entries) => {
            let mut seen: HashMap<String, usize> = HashMap::new();
            for (key, value) in entries {
                let Data::Scalar(name) = &key.data else {
                    return fault(
                        key.line,
                        "braces or brackets stand where a key is expected; quote the value, as in \"{{ x }}\" (a template \
                         for the guest begins with `## template: jinja`)",
                    );
                };
                if key.is_merge() {
                    if !value.sources().iter().all(|source| source.is_map()) {
                        return fault(
                            key.line,
                            "<< must stand for a mapping or a list of mappings",
                        );
                    }
                    check(value, None)?;
                    continue;
                }
                match key.trap {
                    Some(Trap::Word) => {
                        return fault(
                            key.line,
                            "a key yes, no, on or off is read as true or false; quote it",
                        );
                    }
                    Some(Trap::Date | Trap::Time | Trap::Fraction) | None => {}
                    Some(trap) => trapped(trap, None, key.line)?,
                }
                let text = key.key_text();
                // A number and a text are two keys.
                let identity = format!("{}{text}", if name.is_string() { 's' } else { 'v' });
                if let Some(first) = seen.insert(identity, key.line) {
                    return fault(
                        key.line,
                        format!(
                            "{} is given twice (first in line {first}), and cloud-init keeps the last one only; join them",
                            shown(&text)
                        ),
                    );
                }
                let other = text.replace('-', "_");
                if other != text && SPELLINGS.contains(&other.as_str()) {
                    let is_other = |(key, _): &&(Rc<Node>, Rc<Node>)| key.key_text() == other;
                    if let Some((first, _)) = entries.iter().find(is_other) {
                        return fault(
                            key.line.max(first.line),
                            format!(
                                "'{text}' and '{other}' are one key, and cloud-init keeps the last one only; join them"
                            ),
                        );
                    }
                }
                check(value, Some(&text))?;
            }
            Ok(())
        }
    }
}

/// Keys of users that cloud-init knows in two spellings (`normalize_users_groups`).
pub(crate) const SPELLINGS: [&str; 12] = [
    "create_groups",
    "hashed_passwd",
    "lock_passwd",
    "no_create_home",
    "no_log_init",
    "no_user_group",
    "plain_text_passwd",
    "primary_group",
    "selinux_user",
    "ssh_authorized_keys",
    "ssh_import_id",
    "ssh_redirect_user",
];

/// A key for a message, if it is a plain word.
fn shown(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    match !key.is_empty() && key.len() <= 40 && key.chars().all(plain) {
        true => format!("'{key}'"),
        false => "a key".to_owned(),
    }
}

fn trapped(trap: Trap, key: Option<&str>, line: usize) -> Result<(), Fault> {
    match (trap, key) {
        (Trap::Sixty, _) => fault(
            line,
            "digits with colons are read as a number to the base 60 (a MAC address, a time); quote them",
        ),
        (Trap::Underscore, _) => fault(
            line,
            "digits with underscores are read as a number without them; quote them if a text is meant",
        ),
        (Trap::Octal(_), Some(key)) if MODES.contains(&key) => Ok(()),
        (Trap::Octal(value), _) => fault(
            line,
            format!(
                "a number with a leading zero is octal, so it is read as {value}; quote it if a text is meant"
            ),
        ),
        (Trap::Word, None) => fault(
            line,
            "an item yes, no, on or off is read as true or false; quote it if a text is meant",
        ),
        (Trap::Word, Some(key)) if TEXTS.contains(&key) => fault(
            line,
            format!(
                "the value of '{key}' is a text, but yes, no, on and off are read as true or false; quote it"
            ),
        ),
        (Trap::Fraction, _) => fault(
            line,
            "a number with a point that ends in 0 (a version such as 3.10) is read without the 0; quote it",
        ),
        (Trap::Date | Trap::Time, Some(key)) if TEXTS.contains(&key) => fault(
            line,
            format!(
                "the value of '{key}' is a text, but looks like a date and is read as one; quote it"
            ),
        ),
        (Trap::Time, None) => fault(
            line,
            "an item that looks like a date with a time is read as one and written otherwise; quote it",
        ),
        (Trap::Word | Trap::Date | Trap::Time, _) => Ok(()),
    }
}
