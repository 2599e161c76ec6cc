//! Texts that are passed on as they are: whether cloud-init will know what to do with them. What it does not recognise
//! it leaves aside with no more than a warning in the guest's own log.

use std::rc::Rc;

use serde_json::Value;

use crate::Error;
use crate::cloud_config::KEYS;
use crate::mime;
use crate::pyyaml::{self, Node};

/// What a text is for cloud-init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    CloudConfig,
    Archive,
    JsonPatch,
    Script,
    Include,
    Boothook,
    PartHandler,
    Template,
}

const CLOUD_CONFIG: &str = "#cloud-config";
const TEMPLATE: &str = "## template: jinja";
const BOOTHOOK: &str = "#cloud-boothook";

/// How texts begin (cloudinit/handlers/__init__.py, `INCLUSION_TYPES_MAP`), longer ones first.
const BEGINNINGS: [(&str, Kind); 8] = [
    ("#cloud-config-archive", Kind::Archive),
    ("#cloud-config-jsonp", Kind::JsonPatch),
    (TEMPLATE, Kind::Template),
    (BOOTHOOK, Kind::Boothook),
    (CLOUD_CONFIG, Kind::CloudConfig),
    ("#part-handler", Kind::PartHandler),
    ("#include", Kind::Include),
    ("#!", Kind::Script),
];
/// The content types of the parts of a message.
const TYPES: [(&str, Kind); 12] = [
    ("text/cloud-boothook", Kind::Boothook),
    ("text/cloud-config", Kind::CloudConfig),
    ("text/cloud-config-archive", Kind::Archive),
    ("text/cloud-config-jsonp", Kind::JsonPatch),
    ("text/jinja2", Kind::Template),
    ("text/part-handler", Kind::PartHandler),
    ("text/x-include-once-url", Kind::Include),
    ("text/x-include-url", Kind::Include),
    ("text/x-shellscript", Kind::Script),
    ("text/x-shellscript-per-boot", Kind::Script),
    ("text/x-shellscript-per-instance", Kind::Script),
    ("text/x-shellscript-per-once", Kind::Script),
];
/// The content types that cloud-init replaces by what the beginning says (cloudinit/user_data.py, `TYPE_NEEDED`).
const UNTYPED: [&str; 3] = ["text/plain", "text/x-not-multipart", "text/x-shellscript"];
/// cloud-init looks for the MIME header in so many characters (cloudinit/user_data.py, `convert_string`).
const MIME_WITHIN: usize = 4096;
/// How deep archives may stand within each other.
const DEEPEST: usize = 10;

/// A cloud-config in user-data or vendor-data.
#[derive(Debug)]
pub(crate) struct CloudConfig {
    /// The option, with the part in it where the lines are those of the part.
    pub what: String,
    pub root: Rc<Node>,
}

/// Check user-data or vendor-data, which is called `what`.
///
/// Returns each cloud-config in it.
pub(crate) fn user_data(
    what: &str,
    text: &str,
    warnings: &mut Vec<String>,
) -> Result<Vec<CloudConfig>, Error> {
    let mut found = Vec::new();
    let head: String = text.chars().take(MIME_WITHIN).collect();
    if !head.to_lowercase().contains("mime-version:") {
        Document::new(what, text).check_untyped(&mut found)?;
        return Ok(found);
    }
    let parts = mime::parts(text)
        .map_err(|(line, problem)| refusal(what, format!("line {line}: {problem}")))?;
    let own_handler = parts.iter().any(|part| part.kind == "text/part-handler");
    for (number, part) in (1..).zip(&parts) {
        let Some(content) = &part.text else {
            continue;
        };
        let document = Document {
            what: match part.before {
                Some(_) => what.to_owned(),
                None => format!("{what}: part {number}"),
            },
            text: content,
            before: part.before.unwrap_or_default(),
            depth: 0,
        };
        let untyped = UNTYPED.contains(&part.kind.as_str());
        let kind = untyped.then(|| kind_of(content)).flatten();
        let typed = TYPES.iter().find(|(name, _)| *name == part.kind);
        match kind.or(typed.map(|(_, kind)| *kind)) {
            Some(kind) => document.check(kind, &mut found)?,
            // A handler of its own may take any type, also text/plain.
            None if own_handler => {}
            None if untyped => document.check_untyped(&mut found)?,
            None if !part.kind.starts_with("text/") => {}
            None => warnings.push(format!(
                "{what}: part {number} has a content type that cloud-init does not know, so the guest ignores it"
            )),
        }
    }
    Ok(found)
}

fn refusal(what: &str, problem: impl Into<String>) -> Error {
    Error::Text {
        what: what.to_owned(),
        problem: problem.into(),
    }
}

/// What a text is, by its first characters that are not blank.
fn kind_of(text: &str) -> Option<Kind> {
    let begins = |(beginning, _): &&(&str, Kind)| has_prefix(text.trim_start(), beginning);
    BEGINNINGS.iter().find(begins).map(|(_, kind)| *kind)
}

/// Whether a text begins so, in capitals or not.
fn has_prefix(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len())
        .is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
}

/// A text, or a part of one.
struct Document<'a> {
    what: String,
    text: &'a str,
    /// The lines before it.
    before: usize,
    depth: usize,
}

impl<'a> Document<'a> {
    fn new(what: &str, text: &'a str) -> Self {
        Self {
            what: what.to_owned(),
            text,
            before: 0,
            depth: 0,
        }
    }

    /// The number of the first line that is not empty.
    fn first_line(&self) -> usize {
        let empty = self.text.lines().take_while(|line| line.trim().is_empty());
        self.before + empty.count() + 1
    }

    fn refuse<T>(&self, line: usize, problem: &str) -> Result<T, Error> {
        Err(refusal(&self.what, format!("line {line}: {problem}")))
    }

    /// Checks a text whose beginning has to say what it is.
    fn check_untyped(&self, found: &mut Vec<CloudConfig>) -> Result<(), Error> {
        match kind_of(self.text) {
            Some(kind) => self.check(kind, found),
            None if self.text.trim().is_empty() => Ok(()),
            None => Err(refusal(&self.what, unknown_beginning(self.text))),
        }
    }

    fn check(&self, kind: Kind, found: &mut Vec<CloudConfig>) -> Result<(), Error> {
        let line = self.first_line();
        match kind {
            Kind::CloudConfig => self.cloud_config(found),
            Kind::Archive => self.archive(found),
            Kind::JsonPatch => match self.read()? {
                Some(root) if root.is_list() => Ok(()),
                _ => self.refuse(line, "is not a list of changes, which #cloud-config-jsonp must be"),
            },
            // cloud-init writes it into a file as it is, except that it makes LF of CR LF (`dos2unix`).
            Kind::Script if !self.text.starts_with("#!") => self.refuse(
                line,
                "a script must begin with #! and its interpreter, without a blank or an empty line before it",
            ),
            Kind::Boothook => {
                let text = self.text.trim_start();
                let script = match has_prefix(text, BOOTHOOK) {
                    true => &text[BOOTHOOK.len()..],
                    false => text,
                };
                match script.trim_start().starts_with("#!") {
                    true => Ok(()),
                    false => self.refuse(
                        line,
                        "a boothook is a script; below #cloud-boothook it must begin with #! and its interpreter",
                    ),
                }
            }
            Kind::Include => self.include(),
            Kind::Template => self.template(found),
            Kind::Script | Kind::PartHandler => Ok(()),
        }
    }

    /// The YAML in it, whose lines are those of the whole.
    fn read(&self) -> Result<Option<Rc<Node>>, Error> {
        let text = format!("{}{}", "\n".repeat(self.before), self.text);
        pyyaml::read(&text).or_else(|fault| self.refuse(fault.line, &fault.problem))
    }

    fn cloud_config(&self, found: &mut Vec<CloudConfig>) -> Result<(), Error> {
        let first = first_line(self.text);
        let rest = match has_prefix(first, CLOUD_CONFIG) {
            true => first[CLOUD_CONFIG.len()..].trim(),
            false => "",
        };
        let key = rest.split(':').next().unwrap_or_default();
        let is_content = |line: &str| !line.is_empty() && !line.starts_with('#');
        let is_key = KEYS.iter().any(|(known, _)| *known == key)
            || !self.text.lines().any(|line| is_content(line.trim()));
        let is_config = rest.contains(':') && !rest.starts_with('#') && is_key;
        if is_config || rest.contains("\\n") {
            return self.refuse(
                self.first_line(),
                "goes on behind #cloud-config, so it is a comment as a whole; begin a new line there (a block of YAML \
                 keeps its lines after | but not after >)",
            );
        }
        let mut comments = self.text.lines().take_while(|line| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#')
        });
        if let Some(at) = comments.position(|line| has_prefix(line.trim(), "## template:")) {
            return self.refuse(
                self.before + at + 1,
                "## template: jinja has an effect in the first line only; move it to the top, above #cloud-config",
            );
        }
        match self.read()? {
            None => Ok(()),
            Some(root) if root.is_map() => {
                let what = self.what.clone();
                found.push(CloudConfig { what, root });
                Ok(())
            }
            Some(root) => self.refuse(root.line, NO_MAPPING),
        }
    }

    /// A list of parts, each a text or a mapping (cloudinit/user_data.py, `_explode_archive`).
    fn archive(&self, found: &mut Vec<CloudConfig>) -> Result<(), Error> {
        let root = self.read()?;
        let Some(Value::Array(parts)) = root.as_ref().map(|root| root.to_json()) else {
            return Err(refusal(
                &self.what,
                "is not a list of parts, which #cloud-config-archive must be",
            ));
        };
        if self.depth >= DEEPEST {
            return self.refuse(self.first_line(), "has archives within archives too deep");
        }
        for (index, part) in parts.iter().enumerate() {
            let line = root
                .as_ref()
                .map_or(1, |root| root.line_of(&[index.to_string()]));
            let (content, kind) = match part {
                Value::String(content) => (Some(content), None),
                Value::Object(part) => {
                    let text = |key: &str| match part.get(key) {
                        Some(Value::String(text)) => Some(text),
                        _ => None,
                    };
                    (text("content"), text("type"))
                }
                _ => (None, None),
            };
            let Some(content) = content else {
                return self.refuse(
                    line,
                    "a part must be a text, or a mapping with type and content",
                );
            };
            let document = Document {
                what: format!("{}: part {}", self.what, index + 1),
                text: content,
                before: 0,
                depth: self.depth + 1,
            };
            let typed = kind.and_then(|kind| TYPES.iter().find(|(name, _)| name == kind));
            match (kind, typed) {
                (None, _) => {
                    document.check(kind_of(content).unwrap_or(Kind::CloudConfig), found)?
                }
                (Some(_), Some((_, kind))) => document.check(*kind, found)?,
                (Some(kind), None) if !kind.contains('/') => {
                    return self.refuse(
                        line,
                        "type must be a content type such as text/cloud-config",
                    );
                }
                (Some(_), None) => {}
            }
        }
        Ok(())
    }

    /// Lines of addresses (cloudinit/user_data.py, `_do_include`).
    fn include(&self) -> Result<(), Error> {
        let mut named = false;
        for (number, line) in (self.before + 1..).zip(self.text.lines()) {
            let address = match has_prefix(line, "#include") {
                true => line["#include".len()..].trim_start_matches("-once").trim(),
                false if line.starts_with('#') => "",
                false => line.trim(),
            };
            if address.is_empty() {
                continue;
            }
            if !address.contains("://") && !address.starts_with('/') {
                return self.refuse(
                    number,
                    "is not an address (https://...), which every line below #include must be",
                );
            }
            named = true;
        }
        match named {
            true => Ok(()),
            false => self.refuse(self.first_line(), "no address stands below #include"),
        }
    }

    fn template(&self, found: &mut Vec<CloudConfig>) -> Result<(), Error> {
        let first = first_line(self.text);
        let rest = match has_prefix(first, TEMPLATE) {
            true => &first[TEMPLATE.len()..],
            false => "",
        };
        if !rest.trim().is_empty() {
            return self.refuse(
                self.first_line(),
                "must be ## template: jinja and nothing else",
            );
        }
        let start = self.text.len() - self.text.trim_start().len();
        let body = self.text[start..]
            .split_once('\n')
            .map_or("", |(_, body)| body);
        let Some(kind) = kind_of(body).filter(|kind| *kind != Kind::Template) else {
            return Err(refusal(
                &self.what,
                "is a Jinja template of nothing that cloud-init knows; its second line must be #cloud-config or begin with #!",
            ));
        };
        let document = Document {
            what: self.what.clone(),
            text: body,
            before: self.before
                + self.text[..self.text.len() - body.len()]
                    .matches('\n')
                    .count(),
            depth: self.depth + 1,
        };
        match jinja(body) {
            // Without anything to fill in it stays what it is.
            Ok(false) => document.check(kind, found),
            // It is not YAML until the guest has filled it in.
            Ok(true) => Ok(()),
            Err(line) => document.refuse(
                document.before + line,
                "{{, {% or {# is not closed, so the guest would ignore the template",
            ),
        }
    }
}

/// Whether there is anything that Jinja fills in; the line of a part that does not end.
fn jinja(text: &str) -> Result<bool, usize> {
    const MARKS: [(&str, &str); 3] = [("{{", "}}"), ("{%", "%}"), ("{#", "#}")];
    let mut at = 0;
    let mut found = false;
    while let Some((start, close)) = MARKS
        .iter()
        .filter_map(|(open, close)| Some((at + text[at..].find(open)?, close)))
        .min()
    {
        let end = text[start + 2..].find(close);
        let Some(end) = end else {
            // What is marked as raw may have anything in it.
            return match text.contains("raw") {
                true => Ok(true),
                false => Err(1 + text[..start].matches('\n').count()),
            };
        };
        found = true;
        at = start + 2 + end + close.len();
    }
    Ok(found)
}

fn first_line(text: &str) -> &str {
    text.trim_start().lines().next().unwrap_or_default()
}

/// Why a guest would ignore a text.
fn unknown_beginning(text: &str) -> &'static str {
    let lower = text.trim_start().to_lowercase();
    let has_header = lower.lines().any(|line| line.trim() == CLOUD_CONFIG);
    let first = first_line(&lower).replace([' ', '#'], "");
    if text.starts_with('\u{feff}') {
        "begins with a byte order mark, so the guest would ignore it; save the file as UTF-8 without one"
    } else if lower.starts_with("content-type:") && !lower.contains("mime-version:") {
        "has no header MIME-Version: 1.0, so the guest would ignore it; add it above the parts"
    } else if lower.starts_with("content-type:") || lower.starts_with("mime-version:") {
        "has a blank or an empty line before its MIME headers, so the guest would ignore it; begin with them"
    } else if lower.starts_with('#') && first.starts_with("template:jinja") {
        "begins with a misspelt header, so the guest would ignore it; the first line must be ## template: jinja"
    } else if has_header && lower.starts_with('#') {
        "begins with a comment, so the guest would ignore it; move the line #cloud-config above the comment, to the top"
    } else if has_header {
        "has #cloud-config below other lines, so the guest would ignore it; move it to the top"
    } else if ["cloud-config", "cloud_config", "cloudconfig"].contains(&first.as_str()) {
        "begins with a misspelt header, so the guest would ignore it; the first line must be #cloud-config, without a blank"
    } else if lower.starts_with("---") {
        "begins with ---, so the guest would ignore it; the first line must be #cloud-config"
    } else if lower.starts_with("$ansible_vault") {
        "is encrypted by Ansible Vault; decrypt it with a lookup (ansible.builtin.file does so, ansible.builtin.unvault too)"
    } else {
        let is_base64 =
            |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c) || c.is_whitespace();
        let decoded = text
            .chars()
            .all(is_base64)
            .then(|| mime::decoded(text))
            .flatten();
        match decoded {
            Some(bytes) if bytes.starts_with(&[0x1f, 0x8b]) => {
                "is compressed and in base64, which a NoCloud drive does not carry; give the text itself"
            }
            Some(bytes)
                if std::str::from_utf8(&bytes).is_ok_and(|text| kind_of(text).is_some()) =>
            {
                "is in base64, so the guest would ignore it; decode it (the filter b64decode)"
            }
            _ => {
                "begins with nothing that cloud-init knows (#cloud-config, #!, a MIME header, #include, ## template: jinja), so \
                 the guest would ignore it; give a dictionary, or begin the text with #cloud-config"
            }
        }
    }
}

const NO_MAPPING: &str = "is not a YAML mapping (lines of `key: value`)";

/// Reads a text that must be a YAML mapping.
pub(crate) fn yaml(what: &str, text: &str) -> Result<Rc<Node>, Error> {
    let refuse = |line: usize, problem: &str| refusal(what, format!("line {line}: {problem}"));
    let root = pyyaml::read(text).map_err(|fault| refuse(fault.line, &fault.problem))?;
    match root {
        Some(root) if root.is_map() => Ok(root),
        root => Err(refuse(root.map_or(1, |root| root.line), NO_MAPPING)),
    }
}

#[cfg(test)]
mod tests;
