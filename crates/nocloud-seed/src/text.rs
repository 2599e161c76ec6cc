//! Texts that are passed on as they are: whether cloud-init will know what to do with them. What it does not recognise
//! it leaves aside with no more than a warning in the guest's own log.

use serde_yaml_ng::Value;

use crate::Error;

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
pub(crate) fn user_data(what: &'static str, text: &str) -> Result<(), Error> {
    let lower = text.trim_start().to_lowercase();
    let head: String = lower.chars().take(MIME_WITHIN).collect();
    let known = |text: &str| BEGINNINGS.iter().any(|known| text.starts_with(known));
    if lower.is_empty() || head.contains("mime-version:") || known(&lower) {
        return Ok(());
    }
    if let Some(template) = lower.strip_prefix(TEMPLATE) {
        // What is below is no YAML until the guest has filled it in.
        let body = template
            .split_once('\n')
            .map_or("", |(_, body)| body.trim_start());
        return if body.starts_with(CLOUD_CONFIG) || known(body) {
            Ok(())
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
        problem: "begins with nothing that cloud-init knows (#cloud-config, #!, a MIME header, #include, ## template: jinja), \
                  so the guest would ignore it; give a dictionary, or begin the text with #cloud-config"
            .into(),
    })
}

/// Check a text that must be a YAML mapping; `empty` says whether nothing at all will do.
pub(crate) fn yaml(what: &'static str, text: &str, empty: bool) -> Result<(), Error> {
    let problem = match serde_yaml_ng::from_str::<Value>(text) {
        Ok(Value::Mapping(_)) => return Ok(()),
        Ok(Value::Null) if empty => return Ok(()),
        Ok(_) => "is no YAML mapping (lines of `key: value`)".to_owned(),
        // The parser's own words may quote the text, which may hold secrets.
        Err(error) => match error.location() {
            Some(at) => format!("is no YAML: line {}, column {}", at.line(), at.column()),
            None => "is no YAML".to_owned(),
        },
    };
    Err(Error::Text { what, problem })
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
            assert_eq!(user_data("user_data", text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_the_guest_would_ignore() {
        for (text, part) in [
            (
                "packages: [a]\n",
                "begins with nothing that cloud-init knows",
            ),
            ("# cloud-config\na: 1", "begins with nothing"),
            ("#cloud-config\na: [secret\n", "is no YAML: line"),
            ("#cloud-config\n- secret\n", "is no YAML mapping"),
            ("#cloud-config\na: 1\na: 2\n", "is no YAML"),
            (
                "## template: jinja\nsecret: 1\n",
                "Jinja template of nothing",
            ),
        ] {
            let error = user_data("user_data", text).unwrap_err().to_string();
            assert!(error.starts_with("user_data "), "{error}");
            assert!(error.contains(part) && !error.contains("secret"), "{error}");
        }
        assert!(yaml("network_config", "", false).is_err());
        assert!(yaml("network_config", "version: 2\n", false).is_ok());
    }
}
