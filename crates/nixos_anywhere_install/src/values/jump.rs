//! The jump hosts before the machine.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use guest_ssh::{Identity, Jump};
use serde_json::Value;

use crate::options::Options;
use crate::values::path::absolute;
use crate::values::settings::{self, SSH};

/// The option of `ssh` that names jump hosts, too.
pub(crate) const PROXY_JUMP: &str = "ProxyJump";

/// Whether this is the option of `ssh` that names jump hosts.
pub fn is_proxy_jump(name: &str) -> bool {
    name.eq_ignore_ascii_case(PROXY_JUMP)
}

/// Options of `ssh` that are about the first connection, which is one to a jump host.
pub(crate) const OF_FIRST_CONNECTION: [&str; 3] = ["AddressFamily", "BindAddress", "BindInterface"];

/// A mistake: the option, and what is wrong with it.
type Wrong = (&'static str, String);

/// What a task says of jump hosts.
#[derive(Clone, Copy, Debug)]
pub struct JumpOptions<'a> {
    /// The option `jump_host`.
    pub jump_host: Option<&'a str>,
    /// The option `jump_host_keys`.
    pub keys: &'a [String],
    /// The option `jump_host_private_key_file`.
    pub private_key_file: Option<&'a Path>,
    /// `ProxyJump` of the option `ssh_options`.
    pub proxy_jump: Option<&'a Value>,
}

/// The jump hosts of the options; none where the machine is reached from here.
///
/// # Errors
/// Each mistake, with the option that has it.
pub(crate) fn jump(options: &Options) -> Result<Option<Jump>, Vec<Wrong>> {
    let proxy_jump = options
        .ssh_options
        .iter()
        .find(|(name, _)| is_proxy_jump(name));
    let options = JumpOptions {
        jump_host: options.jump_host.as_deref(),
        keys: &options.jump_host_keys,
        private_key_file: options.jump_host_private_key_file.as_deref(),
        proxy_jump: proxy_jump.map(|(_, value)| value),
    };
    options.read()
}

impl JumpOptions<'_> {
    /// The jump hosts; none where the machine is reached from here.
    ///
    /// # Errors
    /// Each mistake, with the option that has it.
    pub fn read(self) -> Result<Option<Jump>, Vec<Wrong>> {
        let Some((option, text)) = self.text().map_err(|wrong| vec![wrong])? else {
            return self.without();
        };
        let jump = Jump::parse(&text).map_err(|problem| {
            let problem = match option {
                "ssh_options" => format!("{PROXY_JUMP}: {problem}"),
                _ => problem,
            };
            vec![(option, problem)]
        })?;
        let mut mistakes = Vec::new();
        let jump = jump.with_keys(self.keys);
        if let Err(problem) = &jump {
            mistakes.push(("jump_host_keys", problem.clone()));
        }
        if let Some(problem) = self.private_key_file.and_then(unusable) {
            mistakes.push(("jump_host_private_key_file", problem));
        }
        match jump {
            Ok(jump) if mistakes.is_empty() => Ok(Some(Jump {
                identity: self.private_key_file.map(absolute),
                ..jump
            })),
            _ => Err(mistakes),
        }
    }

    /// The text that names the jump hosts, and the option that has it.
    fn text(&self) -> Result<Option<(&'static str, String)>, Wrong> {
        let given = self.jump_host.map(str::trim);
        let given = given.filter(|text| !text.is_empty());
        let also = self.proxy_jump.map(proxy_jump).transpose();
        let also = also.map_err(|problem| ("ssh_options", format!("{PROXY_JUMP}: {problem}")))?;
        match (given, also.flatten()) {
            (Some(given), Some(also)) if given != also => {
                let problem = format!(
                    "{PROXY_JUMP}: must be the same as jump_host, or left out (got {also} and jump_host: {given})"
                );
                Err(("ssh_options", problem))
            }
            (Some(given), _) => Ok(Some(("jump_host", given.to_owned()))),
            (None, also) => Ok(also.map(|also| ("ssh_options", also))),
        }
    }

    /// Without jump hosts, there is nothing to know of them.
    fn without(self) -> Result<Option<Jump>, Vec<Wrong>> {
        let mut mistakes = Vec::new();
        if !self.keys.is_empty() {
            mistakes.push(("jump_host_keys", "requires jump_host".to_owned()));
        }
        if self.private_key_file.is_some() {
            mistakes.push((
                "jump_host_private_key_file",
                "requires jump_host".to_owned(),
            ));
        }
        match mistakes.is_empty() {
            true => Ok(None),
            false => Err(mistakes),
        }
    }
}

/// The value of the option of `ssh`, where `none` stands for no jump host.
fn proxy_jump(value: &Value) -> Result<Option<String>, String> {
    let text = settings::text(value, &SSH)?;
    let text = text.trim();
    Ok((!text.is_empty() && !text.eq_ignore_ascii_case("none")).then(|| text.to_owned()))
}

/// Why `ssh` would not use this private key.
fn unusable(path: &Path) -> Option<String> {
    if let Err(guest_ssh::Error::Identity { path, reason }) =
        Identity::File(path.to_owned()).check()
    {
        return Some(format!("{}: {reason}", path.display()));
    }
    let shown = path.display();
    let odd = |c: char| c.is_control() || "\"\\$".contains(c);
    if path.to_str().is_none_or(|text| text.contains(odd)) {
        return Some(format!(
            "must be a path without quotation marks, backslashes and $ (got {shown})"
        ));
    }
    let mode = path.metadata().map(|file| file.mode()).unwrap_or_default() & 0o777;
    (mode & 0o077 != 0).then(|| {
        format!("{shown}: other users may read it (mode {mode:04o}), and ssh refuses such a key; run chmod 600 {shown}")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::options::from_json as options;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUfO5M4RfBxJuKdQDZ6vHxR0mXwq2l0vCUqk0Xn7W3k";

    fn shown(given: Value) -> Result<Option<String>, String> {
        match jump(&options(given)) {
            Ok(jump) => Ok(jump.map(|jump| jump.to_string())),
            Err(mistakes) => Err(mistakes
                .iter()
                .map(|(option, problem)| format!("{option}: {problem}"))
                .collect::<Vec<_>>()
                .join("\n")),
        }
    }

    #[test]
    fn jump_hosts_have_two_names() {
        let both = json!({"jump_host": "a", "ssh_options": {"proxyjump": "a"}});
        for given in [
            json!({"jump_host": "a"}),
            json!({"ssh_options": {"ProxyJump": "a"}}),
            both,
            json!({"jump_host": "a", "jump_host_keys": [KEY], "ssh_options": {"ProxyJump": "none"}}),
        ] {
            assert_eq!(shown(given), Ok(Some("a".into())));
        }
        for given in [
            json!({}),
            json!({"jump_host": " "}),
            json!({"ssh_options": {"ProxyJump": "none"}}),
        ] {
            assert_eq!(shown(given), Ok(None));
        }
    }

    #[test]
    fn mistakes_are_named_by_their_options() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key");
        std::fs::write(&key, "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
        for (given, expected) in [
            (
                json!({"jump_host": "a b"}),
                "jump_host: must be a host name",
            ),
            (
                json!({"ssh_options": {"ProxyJump": "a b"}}),
                "ssh_options: ProxyJump: must be a host name",
            ),
            (
                json!({"ssh_options": {"ProxyJump": ["a"]}}),
                "ssh_options: ProxyJump: must be one word",
            ),
            (
                json!({"jump_host": "a", "ssh_options": {"ProxyJump": "b"}}),
                "ssh_options: ProxyJump: must be the same as jump_host, or left out (got b and jump_host: a)",
            ),
            (
                json!({"jump_host": "a", "jump_host_keys": ["x"]}),
                "jump_host_keys: ",
            ),
            (
                json!({"jump_host_keys": [KEY]}),
                "jump_host_keys: requires jump_host",
            ),
            (
                json!({"jump_host": "a", "jump_host_private_key_file": key}),
                "jump_host_private_key_file: ",
            ),
            (
                json!({"jump_host_private_key_file": "/none"}),
                "jump_host_private_key_file: requires jump_host",
            ),
        ] {
            let text = shown(given.clone()).unwrap_err();
            assert!(text.starts_with(expected), "{given}: {text}");
        }
    }
}
