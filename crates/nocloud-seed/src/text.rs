//! Texts that are passed on as they are: whether cloud-init will know what to do with them. What it does not recognise
//! it leaves aside with no more than a warning in the guest's own log.

use std::rc::Rc;

use crate::Error;
use crate::pyyaml::{self, Node};

/// How texts begin (cloudinit/handlers/__init__.py, `INCLUSION_TYPES_MAP`), beside `#cloud-config` and templates.
const BEGINNINGS: [&str; 5] = [
    "#!",
    "#include",
    "#part-handler",
    "#cloud-boothook",
    "#cloud-config-",
];
const TEMPLATE: &str = "## template: jinja";
const CLOUD_CONFIG: &str = "#cloud-config";
/// cloud-init looks for the MIME header in so many characters (cloudinit/user_data.py, `convert_string`).
const MIME_WITHIN: usize = 4096;

/// Check user-data or vendor-data, which is called `what`.
///
/// Returns the cloud-config if it is one.
pub(crate) fn user_data(what: &'static str, text: &str) -> Result<Option<Rc<Node>>, Error> {
    let lower = text.trim_start().to_lowercase();
    let head: String = lower.chars().take(MIME_WITHIN).collect();
    let known = |text: &str| BEGINNINGS.iter().any(|known| text.starts_with(known));
    if lower.is_empty() || head.contains("mime-version:") || known(&lower) {
        return Ok(None);
    }
    if let Some(template) = lower.strip_prefix(TEMPLATE) {
        // What is below is no YAML until the guest has filled it in.
        let body = template
            .split_once('\n')
            .map_or("", |(_, body)| body.trim_start());
        return if body.starts_with(CLOUD_CONFIG) || known(body) {
            Ok(None)
        } else {
            Err(Error::Text {
                what,
                problem: "is a Jinja template of nothing that cloud-init knows; its second line must be #cloud-config or begin with #!".into(),
            })
        };
    }
    if lower.starts_with(CLOUD_CONFIG) {
        return yaml(what, text, true);
    }
    Err(Error::Text {
        what,
        problem: unknown_beginning(text, &lower).into(),
    })
}

/// Why a guest would ignore a text.
fn unknown_beginning(text: &str, lower: &str) -> &'static str {
    let has_header = lower.lines().any(|line| line.trim() == CLOUD_CONFIG);
    if text.starts_with('\u{feff}') {
        "begins with a byte order mark, so the guest would ignore it; save the file as UTF-8 without one"
    } else if has_header && lower.starts_with('#') {
        "begins with a comment, so the guest would ignore it; move the line #cloud-config above the comment, to the top"
    } else if has_header {
        "has #cloud-config below other lines, so the guest would ignore it; move it to the top"
    } else if lower.starts_with("# cloud-config") || lower.starts_with("#cloud_config") {
        "begins with a misspelt header, so the guest would ignore it; the first line must be #cloud-config, without a blank"
    } else if lower.starts_with("---") {
        "begins with ---, so the guest would ignore it; the first line must be #cloud-config"
    } else if lower.starts_with("$ansible_vault") {
        "is encrypted by Ansible Vault; decrypt it with a lookup (ansible.builtin.file does so, ansible.builtin.unvault too)"
    } else {
        "begins with nothing that cloud-init knows (#cloud-config, #!, a MIME header, #include, ## template: jinja), so \
         the guest would ignore it; give a dictionary, or begin the text with #cloud-config"
    }
}

/// Reads a text that must be a YAML mapping; `empty` says whether nothing at all will do.
pub(crate) fn yaml(what: &'static str, text: &str, empty: bool) -> Result<Option<Rc<Node>>, Error> {
    let refuse = |line: usize, problem: &str| Error::Text {
        what,
        problem: format!("line {line}: {problem}"),
    };
    let root = pyyaml::read(text).map_err(|fault| refuse(fault.line, &fault.problem))?;
    match root {
        Some(root) if root.is_map() => Ok(Some(root)),
        None if empty => Ok(None),
        root => Err(refuse(
            root.map_or(1, |root| root.line),
            "is not a YAML mapping (lines of `key: value`)",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cloud_init_knows() {
        for text in [
            "",
            "#cloud-config\n",
            "#cloud-config\npackages: [a]\n",
            "\n#Cloud-Config\na: 1",
            "#!/bin/sh\n: {",
            "#include\nhttp://192.0.2.1/x\n",
            "#cloud-config-archive\n- a\n",
            "## template: jinja\n#cloud-config\na: {{ v1.region }}\n",
            "Content-Type: multipart/mixed; boundary=\"x\"\nMIME-Version: 1.0\n\n--x--\n",
        ] {
            assert!(user_data("user_data", text).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_the_guest_would_ignore() {
        for (text, part) in [
            (
                "packages: [a]\n",
                "begins with nothing that cloud-init knows",
            ),
            ("# cloud-config\na: 1", "without a blank"),
            (
                "# Ansible managed\n#cloud-config\na: 1",
                "above the comment",
            ),
            ("packages: [a]\n#cloud-config\n", "move it to the top"),
            ("---\npackages: [a]\n", "begins with ---"),
            ("\u{feff}#cloud-config\n", "byte order mark"),
            ("$ANSIBLE_VAULT;1.1;AES256\n6162\n", "Ansible Vault"),
            ("#cloud-config\na: [secret\n", "line 3: not valid YAML"),
            ("#cloud-config\n- secret\n", "line 2: is not a YAML mapping"),
            (
                "#cloud-config\na: 1\na: 2\n",
                "line 3: 'a' is given twice (first in line 2)",
            ),
            (
                "## template: jinja\nsecret: 1\n",
                "Jinja template of nothing",
            ),
        ] {
            let error = user_data("user_data", text).unwrap_err().to_string();
            assert!(error.starts_with("user_data: "), "{error}");
            assert!(error.contains(part) && !error.contains("secret"), "{error}");
        }
        assert!(yaml("network_config", "", false).is_err());
        assert!(yaml("network_config", "version: 2\n", false).is_ok());
    }
}
