//! What a guest says that it is.

use std::collections::BTreeMap;

use deadline::Deadline;
use serde::Serialize;

use crate::{Connection, Error, Label};

/// What kind of system a guest runs, by nixos-anywhere's own rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A NixOS installer: `ID` or `ID_LIKE` is nixos and `VARIANT_ID` is installer.
    Installer,
    /// NixOS that is not an installer.
    Installed,
    /// Anything else.
    Other,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Kind::Installer => "an installer",
            Kind::Installed => "an installed NixOS",
            Kind::Other => "another system",
        })
    }
}

/// A guest, as it described itself over a verified connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Guest {
    /// What kind of system it runs.
    pub kind: Kind,
    /// `ID` of its os-release.
    pub id: String,
    /// `VARIANT_ID` of its os-release; empty when there is none.
    pub variant_id: String,
    /// `VERSION_ID` of its os-release; empty when there is none.
    pub version: String,
    /// `PRETTY_NAME` of its os-release, for people.
    pub name: String,
    /// Where `/run/current-system` leads: the store path of the system that runs. None when there
    /// is no such link.
    pub system: Option<String>,
    /// Kernel name, release and machine: `Linux 6.12.1 x86_64`.
    pub kernel: String,
    /// Its host name.
    pub hostname: String,
    /// Which of the known host keys it has.
    pub host_key: Label,
}

/// The most bytes of the answer. An os-release has less than 2 KiB.
const MOST_ANSWER: usize = 64 << 10;

/// The most characters that are kept of one thing that a guest says of itself. A host name has at most 64,
/// a store path at most 211 and its directory.
const LONGEST: usize = 256;

/// As much of `text` as is kept.
fn part(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}

/// Sent to `sh` on the guest. Nothing in it needs more than a POSIX shell and busybox.
const QUESTIONS: &str = r#"
printf 'kernel=%s\n' "$(uname -srm)"
printf 'hostname=%s\n' "$(hostname 2>/dev/null || uname -n)"
printf 'system=%s\n' "$(readlink /run/current-system 2>/dev/null)"
echo os-release:
cat /etc/os-release
"#;

impl Connection {
    /// Ask the guest what it is.
    ///
    /// # Errors
    /// [`Error::Exec`] when it has no POSIX shell or no os-release.
    pub async fn identify(&self, deadline: &Deadline) -> Result<Guest, Error> {
        let what = "the question what it is";
        let output = self
            .exec_within(MOST_ANSWER, what, "exec sh", QUESTIONS.as_bytes(), deadline)
            .await?;
        let fail = |reason: String| Error::Exec {
            address: self.address().to_owned(),
            what: what.to_owned(),
            reason,
        };
        if !output.ok() {
            return Err(fail(output.failure()));
        }
        Guest::parse(&output.text(), self.label())
            .ok_or_else(|| fail(format!("unexpected answer {:?}", part(&output.text()))))
    }
}

impl Guest {
    fn parse(answer: &str, host_key: Label) -> Option<Self> {
        let (head, release) = answer.split_once("os-release:\n")?;
        let fact = |name: &str| {
            let line = head
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            part(line.unwrap_or_default().trim())
        };
        let release = OsRelease::parse(release);
        let field = |name| part(release.get(name));
        Some(Self {
            kind: release.kind(),
            id: field("ID"),
            variant_id: field("VARIANT_ID"),
            version: field("VERSION_ID"),
            name: field("PRETTY_NAME"),
            system: Some(fact("system")).filter(|path| path.starts_with('/')),
            kernel: fact("kernel"),
            hostname: fact("hostname"),
            host_key,
        })
    }
}

/// The fields of an os-release file (os-release(5)).
#[derive(Clone, Debug, Default)]
pub struct OsRelease(BTreeMap<String, String>);

impl OsRelease {
    /// Read the `NAME=value` lines, unquoted as a shell would; others are ignored.
    pub fn parse(text: &str) -> Self {
        let fields = text.lines().filter_map(|line| {
            let (name, value) = line.trim().split_once('=')?;
            Some((name.to_owned(), unquote(value)))
        });
        Self(fields.collect())
    }

    /// A field's value; empty when there is none.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// nixos-anywhere's rule (get-facts.sh): NixOS is `ID(_LIKE)?="?nixos"?`, an installer has
    /// `VARIANT_ID="?installer"?` too.
    pub fn kind(&self) -> Kind {
        let nixos = ["ID", "ID_LIKE"]
            .iter()
            .any(|name| self.get(name) == "nixos");
        match nixos {
            true if self.get("VARIANT_ID") == "installer" => Kind::Installer,
            true => Kind::Installed,
            false => Kind::Other,
        }
    }
}

fn unquote(value: &str) -> String {
    let quoted = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    if let Some(inner) = quoted('\'') {
        return inner.to_owned();
    }
    let Some(inner) = quoted('"') else {
        return value.to_owned();
    };
    let mut out = String::new();
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        out.push(match character {
            '\\' => characters.next().unwrap_or('\\'),
            other => other,
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Kind {
        OsRelease::parse(text).kind()
    }

    #[test]
    fn the_kind_follows_nixos_anywheres_rule() {
        assert_eq!(kind("ID=nixos\nVARIANT_ID=installer\n"), Kind::Installer);
        assert_eq!(
            kind("ID=\"nixos\"\nVARIANT_ID=\"installer\""),
            Kind::Installer
        );
        assert_eq!(
            kind("ID=mine\nID_LIKE=nixos\nVARIANT_ID=installer"),
            Kind::Installer
        );
        assert_eq!(kind("ID=nixos\nVARIANT_ID=\"\""), Kind::Installed);
        assert_eq!(kind("ID=nixos"), Kind::Installed);
        assert_eq!(kind("ID=debian\nVARIANT_ID=installer"), Kind::Other);
        assert_eq!(kind("BUILD_ID=nixos"), Kind::Other);
        assert_eq!(kind(""), Kind::Other);
    }

    #[test]
    fn values_are_unquoted() {
        let release = OsRelease::parse("PRETTY_NAME=\"a \\\"b\\\" c\"\nX='d \\e'\n# ID=nixos\n");
        assert_eq!(release.get("PRETTY_NAME"), "a \"b\" c");
        assert_eq!(release.get("X"), "d \\e");
        assert_eq!(release.get("ID"), "");
    }

    #[test]
    fn an_answer_becomes_a_guest() {
        let answer = "kernel=Linux 6.12.1 x86_64\nhostname=web1\nsystem=/nix/store/abc-nixos-system-web1\n\
                      os-release:\nID=nixos\nVERSION_ID=\"26.05\"\n";
        let guest = Guest::parse(answer, Label::Installed).unwrap();
        assert_eq!(guest.kind, Kind::Installed);
        assert_eq!(guest.hostname, "web1");
        assert_eq!(guest.version, "26.05");
        assert_eq!(
            guest.system.as_deref(),
            Some("/nix/store/abc-nixos-system-web1")
        );
        assert_eq!(Guest::parse("no shell here", Label::Installed), None);
    }
}
