//! Where each of `nix_options` is written, and what in it is a secret.

use ansible_module::to_dict;
use serde_json::{Map, Value};

use super::settings::{NIX, text};
use crate::options::Options;

/// The settings for `NIX_CONFIG`, which only the user and root can read.
pub(crate) fn for_nix_config(options: &Options) -> impl Iterator<Item = (&str, String)> {
    all(options).filter(|(_, value)| fits_nix_conf(value))
}

/// The settings for the command line, which process lists show: those that a line of `nix.conf` cannot hold.
pub(crate) fn for_command_line(options: &Options) -> impl Iterator<Item = (&str, String)> {
    all(options).filter(|(_, value)| !fits_nix_conf(value))
}

/// All settings as text. One that has no text was refused before.
pub(crate) fn all(options: &Options) -> impl Iterator<Item = (&str, String)> {
    options
        .nix_options
        .iter()
        .map(|(name, value)| (name.as_str(), text(value, &NIX).unwrap_or_default()))
}

/// Whether `nix.conf` can hold this value: its lines end at a `#`, and blanks only separate words
/// (`applyConfigInner` in Nix's `libutil`).
pub(crate) fn fits_nix_conf(value: &str) -> bool {
    let words: Vec<&str> = value.split_ascii_whitespace().collect();
    !value.contains('#') && words.join(" ") == value
}

/// Settings that are lists of `NAME=SECRET`.
const PAIRS: [&str; 2] = ["access-tokens", "impure-env"];

/// Parts of the names of what holds a secret.
const SECRET: [&str; 5] = ["token", "secret", "passw", "credential", "api-key"];

/// The secrets in the setting `name`.
pub(crate) fn secrets_in(name: &str, value: &str) -> Vec<String> {
    let name = name.strip_prefix("extra-").unwrap_or(name);
    let mut found = Vec::new();
    let words: Vec<&str> = value.split_ascii_whitespace().collect();
    for (index, word) in words.iter().enumerate() {
        found.extend(secrets_in_uri(word));
        if PAIRS.contains(&name) {
            let secret = word.split_once('=').map_or(*word, |(_, secret)| secret);
            found.push(secret.to_owned());
            // As GitLab has them: PAT:..., OAuth2:...
            let bare = secret.split_once(':').map(|(_, bare)| bare.to_owned());
            found.extend(bare);
        } else if is_secret(name) {
            found.push((*word).to_owned());
        }
        // As in a netrc.
        if *word == "password" {
            found.extend(words.get(index + 1).map(|&word| word.to_owned()));
        }
    }
    found.retain(|secret| !secret.is_empty());
    found
}

/// Whether the value under this name is a secret, rather than the path of a file that has one.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('_', "-");
    let path = ["-file", "-files", "-path"];
    SECRET.iter().any(|part| name.contains(part)) && !path.iter().any(|end| name.ends_with(end))
}

/// The password of a URI, and its parameters that are secrets.
pub fn secrets_in_uri(word: &str) -> Vec<String> {
    let Some((_, rest)) = word.split_once("://") else {
        return Vec::new();
    };
    let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let mut found = Vec::new();
    // A password may have a slash that should have been encoded.
    if let Some((userinfo, _)) = rest.rsplit_once('@')
        && let Some((user, password)) = userinfo.split_once(':')
    {
        // Some servers take a token as the user's name.
        let secret = if password.is_empty() { user } else { password };
        found.push(secret.to_owned());
    }
    for parameter in parameters.split('&') {
        if let Some((name, value)) = parameter.split_once('=')
            && is_secret(name)
        {
            found.push(value.to_owned());
        }
    }
    found
}

/// The secrets in the option `nix_options` among `params`, as they were given.
pub(crate) fn secrets(params: &Map<String, Value>) -> Vec<String> {
    let Some(Ok(settings)) = params.get("nix_options").map(to_dict) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (name, value) in &settings {
        let items = match value {
            Value::Array(items) => items.as_slice(),
            value => std::slice::from_ref(value),
        };
        for item in items.iter().filter_map(Value::as_str) {
            found.extend(secrets_in(name, item));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_found_in_settings() {
        for (name, value, expected) in [
            (
                "access-tokens",
                "github.com=ghp_1 gitlab.com=PAT:glpat-2",
                &["ghp_1", "PAT:glpat-2", "glpat-2"][..],
            ),
            ("extra-access-tokens", "github.com=a=b", &["a=b"]),
            ("impure-env", "KEY=v", &["v"]),
            (
                "substituters",
                "https://me:pw@c/x?priority=1 https://d?token=t",
                &["pw", "t"],
            ),
            ("extra-substituters", "https://ghp_1:@c", &["ghp_1"]),
            ("netrc", "machine c login me password p", &["p"]),
            ("my-password", "p", &["p"]),
            // Paths, users and ports are none.
            ("secret-key-files", "/etc/nix/key", &[]),
            ("netrc-file", "/etc/nix/netrc", &[]),
            ("builders", "ssh://me@build1:22 x86_64-linux", &[]),
            (
                "substituters",
                "https://c:8080 s3://bucket?region=eu&profile=x",
                &[],
            ),
            ("trusted-public-keys", "cache.nixos.org-1:6NCH=", &[]),
        ] {
            assert_eq!(secrets_in(name, value), expected, "{name}: {value}");
        }
        let params = json!({"nix_options": {"access-tokens": ["a=x1", "b=x2"], "cores": 2}});
        assert_eq!(secrets(params.as_object().unwrap()), ["x1", "x2"]);
        assert_eq!(secrets(&Map::new()), Vec::<String>::new());
    }

    #[test]
    fn what_nix_conf_would_change_is_no_line_of_it() {
        for value in ["", "2", "https://a https://b", "a=b", "= x"] {
            assert!(fits_nix_conf(value), "{value:?}");
        }
        for value in ["a#b", "#", " a", "a  b", "a "] {
            assert!(!fits_nix_conf(value), "{value:?}");
        }
    }
}
