//! Rules for `.sops.yaml`: for whom sops encrypts which file.

use std::fmt::Write as _;

/// The rule for the secrets of one host: `secrets/HOST.yaml`, or files in `secrets/HOST/`.
pub fn rule(host: &str, recipients: &[String]) -> String {
    let pattern = format!(
        "(^|/)secrets/{}(/[^/]+)?\\.(ya?ml|json|env|ini)$",
        escaped(host)
    );
    let mut text = format!(
        "  - path_regex: {}\n    key_groups:\n      - age:\n",
        quoted(&pattern)
    );
    for recipient in recipients {
        let _ = writeln!(text, "          - {}", quoted(recipient.trim()));
    }
    text
}

/// What is wrong with a recipient that the user gives: it will stand in a file for the repository.
pub fn mistake(recipient: &str) -> Option<&'static str> {
    let recipient = recipient.trim();
    if recipient.to_uppercase().contains("SECRET-KEY") {
        return Some("holds a private key; give the public one (age-keygen -y)");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || " -_+/=.@".contains(c);
    let known = recipient.starts_with("age1") || recipient.starts_with("ssh-");
    (!known || !recipient.chars().all(plain)).then_some("must begin with age1 or ssh-, on one line")
}

/// A file with these rules.
pub fn file(rules: impl IntoIterator<Item = String>) -> String {
    let mut text = "# Written by playbooks/keys.yml. Copy the rules to your .sops.yaml: sops uses the first one that a file's path fits.\n\
                    creation_rules:\n"
        .to_owned();
    let before = text.len();
    rules.into_iter().for_each(|rule| text.push_str(&rule));
    if text.len() == before {
        text.truncate(before - 1);
        text.push_str(" []\n");
    }
    text
}

/// The text as a regular expression that fits only itself, in the syntax of Go's regexp.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if c.is_ascii_punctuation() && !matches!(c, '-' | '_' | '/') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// A scalar in YAML's single quotes, in which only the quote itself is special.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
