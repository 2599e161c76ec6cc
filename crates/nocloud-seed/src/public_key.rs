//! Lines of `authorized_keys` (sshd(8), "AUTHORIZED_KEYS FILE FORMAT"). sshd passes over a line that it
//! cannot read without a word to the user, who sees a login that does not work.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::wire;

/// The shortest RSA modulus that OpenSSH takes, in bits (`SSH_RSA_MINIMUM_MODULUS_SIZE`).
const SHORTEST_RSA: usize = 1024;

/// The options of a line without a value; each may have `no-` in front (auth-options.c, `sshauthopt_parse`).
const FLAGS: [&str; 9] = [
    "agent-forwarding",
    "cert-authority",
    "port-forwarding",
    "pty",
    "restrict",
    "touch-required",
    "user-rc",
    "verify-required",
    "x11-forwarding",
];
/// The options of a line with a quoted value.
const VALUES: [&str; 8] = [
    "command",
    "environment",
    "expiry-time",
    "from",
    "permitlisten",
    "permitopen",
    "principals",
    "tunnel",
];

/// What the blob of a public key holds after the name of its type.
#[derive(Clone, Copy)]
enum Field {
    /// So many bytes.
    Bytes(usize),
    /// This text.
    Text(&'static str),
    /// The modulus of an RSA key.
    Modulus,
    /// Anything but nothing.
    Any,
}

/// A kind of key, by its name (RFC 4253, RFC 5656, RFC 8709, PROTOCOL.u2f).
struct Kind {
    name: &'static str,
    fields: &'static [Field],
}

use Field::{Any, Bytes, Modulus, Text};

const KINDS: [Kind; 7] = [
    Kind {
        name: "ssh-ed25519",
        fields: &[Bytes(32)],
    },
    Kind {
        name: "ssh-rsa",
        fields: &[Any, Modulus],
    },
    Kind {
        name: "ecdsa-sha2-nistp256",
        fields: &[Text("nistp256"), Bytes(65)],
    },
    Kind {
        name: "ecdsa-sha2-nistp384",
        fields: &[Text("nistp384"), Bytes(97)],
    },
    Kind {
        name: "ecdsa-sha2-nistp521",
        fields: &[Text("nistp521"), Bytes(133)],
    },
    Kind {
        name: "sk-ssh-ed25519@openssh.com",
        fields: &[Bytes(32), Any],
    },
    Kind {
        name: "sk-ecdsa-sha2-nistp256@openssh.com",
        fields: &[Text("nistp256"), Bytes(65), Any],
    },
];
const CERTIFICATE: &str = "-cert-v01@openssh.com";

/// A line of `authorized_keys` that holds a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKeyLine<'a> {
    /// The options in front of the key, as they are written.
    pub options: Option<&'a str>,
    /// The key's type.
    pub algorithm: &'a str,
    /// The key in base64.
    pub encoded: &'a str,
    /// The comment, which may be empty.
    pub comment: &'a str,
    /// Whether the key is a certificate, which sshd matches with no line of `authorized_keys`.
    pub is_certificate: bool,
}

impl<'a> PublicKeyLine<'a> {
    /// Reads a line: options, type, base64, comment.
    ///
    /// # Errors
    /// What is wrong with the line, without a word of it.
    pub fn parse(line: &'a str) -> Result<Self, &'static str> {
        let line = line.trim();
        if line.contains("PRIVATE KEY") {
            return Err("is a private key; give the public one");
        }
        if line.contains(['\n', '\r']) {
            return Err("has several lines; give one key an item");
        }
        let (first, rest) = word(line);
        let (options, algorithm, rest) = match is_algorithm(first) {
            true => (None, first, rest),
            false => {
                let (options, key) = after_options(line)
                    .ok_or("has a quotation mark without its counterpart in its options")?;
                let (algorithm, rest) = word(key);
                if !is_algorithm(algorithm) {
                    return Err(not_a_key(first, algorithm));
                }
                check_options(options)?;
                (Some(options), algorithm, rest)
            }
        };
        if algorithm == "ssh-dss" {
            return Err(
                "is a DSA key, which OpenSSH 7.0 and newer refuse; make an Ed25519 key (ssh-keygen -t ed25519)",
            );
        }
        let (encoded, comment) = word(rest);
        if encoded.is_empty() {
            return Err("ends after the key's type; the key itself is missing");
        }
        let blob = STANDARD.decode(encoded).map_err(|_| {
            "has a key that is not base64 (shortened, or broken by a line break?); copy the whole line of the .pub file"
        })?;
        check_blob(algorithm, &blob)?;
        // A comma or an escaped line break (\n) may join the second key's type to the word before it.
        let ends_in_type = |word: &str| {
            let mut ends = word.char_indices().map(|(at, _)| &word[at..]);
            ends.any(is_algorithm)
        };
        let words: Vec<&str> = comment.split_ascii_whitespace().collect();
        if words
            .windows(2)
            .any(|pair| ends_in_type(pair[0]) && pair[1].starts_with("AAAA"))
        {
            return Err(
                "goes on with a second key, which would be its comment; give each key a line or item of its own",
            );
        }
        Ok(Self {
            options,
            algorithm,
            encoded,
            comment,
            is_certificate: algorithm.ends_with(CERTIFICATE),
        })
    }
}

/// The first word, and what follows it.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let (word, rest) = text
        .split_once(|c: char| c.is_ascii_whitespace())
        .unwrap_or((text, ""));
    (word, rest.trim())
}

fn is_algorithm(word: &str) -> bool {
    word == "ssh-dss" || kind(word).is_some()
}

/// The kind of key or, of a certificate, of the key in it.
fn kind(algorithm: &str) -> Option<&'static Kind> {
    let plain = match algorithm.strip_suffix(CERTIFICATE) {
        Some(plain) => match plain {
            "sk-ssh-ed25519" | "sk-ecdsa-sha2-nistp256" => {
                return KINDS
                    .iter()
                    .find(|kind| kind.name.strip_suffix("@openssh.com") == Some(plain));
            }
            _ => plain,
        },
        None => algorithm,
    };
    KINDS.iter().find(|kind| kind.name == plain)
}

/// What to say of a line that has no type of key where one has to be.
fn not_a_key(first: &str, second: &str) -> &'static str {
    let signature = ["rsa-sha2-256", "rsa-sha2-512"];
    if signature.contains(&first) || signature.contains(&second) {
        return "names a signature algorithm; the type of an RSA key is ssh-rsa";
    }
    if first.starts_with("AAAA") {
        return "begins with the key itself; its type (ssh-ed25519, ssh-rsa, ...) is missing in front";
    }
    if first.starts_with("----") {
        return "is in another format than OpenSSH's; convert it (ssh-keygen -i -f FILE)";
    }
    if first.starts_with("http://") || first.starts_with("https://") || first.starts_with("gh:") {
        return "is an address and not a key; give the key's line, or ssh_import_id in user_data";
    }
    if first.starts_with('/') || first.starts_with('~') || first.ends_with(".pub") {
        return "is the name of a file and not a key; read the file (lookup('ansible.builtin.file', ...))";
    }
    "is not a public key line (options, type, base64, comment)"
}

/// The options that a line begins with, in which blanks stand within quotation marks only, and what follows.
fn after_options(line: &str) -> Option<(&str, &str)> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in line.char_indices() {
        match c {
            '\\' if quoted => {
                escaped = !escaped;
                continue;
            }
            '"' if !escaped => quoted = !quoted,
            c if c.is_ascii_whitespace() && !quoted => return Some((&line[..at], &line[at..])),
            _ => {}
        }
        escaped = false;
    }
    (!quoted).then_some((line, ""))
}

/// sshd passes over a line with an option that it does not know.
fn check_options(options: &str) -> Result<(), &'static str> {
    let mut rest = options;
    while !rest.is_empty() {
        let end = rest.find([',', '=']).unwrap_or(rest.len());
        let name = rest[..end].to_ascii_lowercase();
        let flag = name.strip_prefix("no-").unwrap_or(&name);
        rest = &rest[end..];
        if let Some(value) = rest.strip_prefix('=') {
            if !VALUES.contains(&name.as_str()) {
                return Err("has an option that sshd does not know, so sshd would pass over it");
            }
            let value = value
                .strip_prefix('"')
                .ok_or("has an option whose value is not within quotation marks")?;
            let close = closing(value)
                .ok_or("has a quotation mark without its counterpart in its options")?;
            rest = &value[close + 1..];
        } else if !FLAGS.contains(&flag) {
            return Err("has an option that sshd does not know, so sshd would pass over it");
        }
        match rest.strip_prefix(',') {
            Some(more) if !more.is_empty() => rest = more,
            Some(_) => return Err("has a comma after its last option"),
            None if rest.is_empty() => {}
            None => return Err("has options that are not separated by commas"),
        }
    }
    Ok(())
}

/// Where the quotation mark is that ends this.
fn closing(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends.then_some(at)
    })
}

/// Whether the decoded key is what its type says, and whole.
pub(crate) fn check_blob(algorithm: &str, blob: &[u8]) -> Result<(), &'static str> {
    const SHORTENED: &str =
        "has a key that is shortened or damaged; copy the whole line of the .pub file";
    let (name, _) = wire::string(blob).ok_or(SHORTENED)?;
    if name != algorithm.as_bytes() {
        return Err(match std::str::from_utf8(name).ok().and_then(kind) {
            Some(_) => "has a key of another type than the one in front of it",
            None => SHORTENED,
        });
    }
    if algorithm.ends_with(CERTIFICATE) {
        // A certificate goes on with numbers that are no strings (PROTOCOL.certkeys).
        return Ok(());
    }
    let kind = kind(algorithm).ok_or("is of a type that OpenSSH does not know")?;
    let fields = wire::strings(blob).ok_or(SHORTENED)?;
    if fields.len() != kind.fields.len() + 1 {
        return Err(SHORTENED);
    }
    for (found, field) in fields[1..].iter().zip(kind.fields) {
        match field {
            Bytes(length) if found.len() == *length => {}
            Text(text) if *found == text.as_bytes() => {}
            Any if !found.is_empty() => {}
            Modulus => {
                let modulus = found.strip_prefix(&[0]).unwrap_or(found);
                let zeros = modulus
                    .first()
                    .map_or(0, |byte| byte.leading_zeros() as usize);
                if modulus.len() * 8 - zeros < SHORTEST_RSA {
                    return Err("is an RSA key of less than 1024 bits, which OpenSSH refuses");
                }
            }
            _ => return Err(SHORTENED),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn string(bytes: &[u8]) -> Vec<u8> {
        [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
    }

    fn encode(fields: &[&[u8]]) -> String {
        STANDARD.encode(
            fields
                .iter()
                .flat_map(|field| string(field))
                .collect::<Vec<u8>>(),
        )
    }

    fn ed25519() -> String {
        encode(&[b"ssh-ed25519", &[7; 32]])
    }

    #[test]
    fn every_type_is_read() {
        let modulus = [vec![0, 0x80], vec![1; 127]].concat();
        let point = |length| [vec![4], vec![9; length]].concat();
        for (name, key) in [
            ("ssh-ed25519", ed25519()),
            ("ssh-rsa", encode(&[b"ssh-rsa", &[1, 0, 1], &modulus])),
            (
                "ecdsa-sha2-nistp256",
                encode(&[b"ecdsa-sha2-nistp256", b"nistp256", &point(64)]),
            ),
            (
                "ecdsa-sha2-nistp384",
                encode(&[b"ecdsa-sha2-nistp384", b"nistp384", &point(96)]),
            ),
            (
                "ecdsa-sha2-nistp521",
                encode(&[b"ecdsa-sha2-nistp521", b"nistp521", &point(132)]),
            ),
            (
                "sk-ssh-ed25519@openssh.com",
                encode(&[b"sk-ssh-ed25519@openssh.com", &[7; 32], b"ssh:"]),
            ),
            (
                "sk-ecdsa-sha2-nistp256@openssh.com",
                encode(&[
                    b"sk-ecdsa-sha2-nistp256@openssh.com",
                    b"nistp256",
                    &point(64),
                    b"ssh:",
                ]),
            ),
        ] {
            for options in [
                "",
                "no-pty ",
                "restrict,pty,command=\"echo \\\"a b\\\", c\",from=\"192.0.2.0/24,!*.example.org\" ",
                "cert-authority,principals=\"a,b\" ",
            ] {
                for comment in ["", " me@here", " several words, \"quoted\"", " team AAAA"] {
                    let line = format!("{options}{name} {key}{comment}");
                    let read =
                        PublicKeyLine::parse(&line).unwrap_or_else(|e| panic!("{line}: {e}"));
                    assert_eq!(
                        (read.algorithm, read.encoded, read.comment),
                        (name, key.as_str(), comment.trim())
                    );
                    assert_eq!(read.options.unwrap_or_default(), options.trim());
                }
            }
        }
        let certificate = format!(
            "ssh-ed25519-cert-v01@openssh.com {}",
            encode(&[b"ssh-ed25519-cert-v01@openssh.com", &[1; 32]])
        );
        assert!(PublicKeyLine::parse(&certificate).unwrap().is_certificate);
    }

    #[test]
    fn what_sshd_would_pass_over_is_refused() {
        let key = ed25519();
        let short = &key[..key.len() - 8];
        for (line, reason) in [
            ("ssh-ed25519 AAAAC3Nz... me".to_owned(), "not base64"),
            ("ssh-ed25519".to_owned(), "missing"),
            (format!("ssh-ed25519 {short} me"), "shortened"),
            (
                format!("ssh-ed25519 {}", &key[..key.len() - 1]),
                "not base64",
            ),
            (format!("ssh-rsa {key}"), "another type"),
            (format!("rsa-sha2-512 {key}"), "signature algorithm"),
            (key.clone(), "type (ssh-ed25519"),
            (format!("nopty ssh-ed25519 {key}"), "option"),
            (format!("command=ls ssh-ed25519 {key}"), "quotation"),
            (format!("command=\"ls ssh-ed25519 {key}"), "quotation"),
            (format!("pty, ssh-ed25519 {key}"), "comma"),
            (
                format!("ssh-dss {}", encode(&[b"ssh-dss", &[1; 20]])),
                "DSA",
            ),
            (
                format!("ssh-rsa {}", encode(&[b"ssh-rsa", &[1, 0, 1], &[0x7f; 96]])),
                "1024 bits",
            ),
            ("~/.ssh/id_ed25519.pub".to_owned(), "name of a file"),
            ("https://github.com/me.keys".to_owned(), "address"),
            (
                "---- BEGIN SSH2 PUBLIC KEY ----".to_owned(),
                "ssh-keygen -i",
            ),
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----".to_owned(),
                "private key",
            ),
            (
                format!("ssh-ed25519 {key}\nssh-ed25519 {key}"),
                "several lines",
            ),
            // Folded, escaped, or joined with commas.
            (
                format!("ssh-ed25519 {key} a ssh-ed25519 {key} b"),
                "a second key",
            ),
            (
                format!("ssh-ed25519 {key} a\\nssh-ed25519 {key} b"),
                "a second key",
            ),
            (
                format!("ssh-ed25519 {key} a,ssh-ed25519 {key} b"),
                "a second key",
            ),
            (
                format!("ssh-ed25519 {key} a,ssh-ed25519-cert-v01@openssh.com {key} b"),
                "a second key",
            ),
            (
                format!("ssh-ed25519 {key} a ssh-dss {key} b"),
                "a second key",
            ),
            ("hello world".to_owned(), "not a public key line"),
        ] {
            let refused = PublicKeyLine::parse(&line).unwrap_err();
            assert!(refused.contains(reason), "{line}: {refused}");
        }
    }

    proptest! {
        /// No part of a key is a key.
        #[test]
        fn a_shortened_key_is_refused(keep in 0usize..68) {
            let line = format!("ssh-ed25519 {} me", &ed25519()[..keep]);
            prop_assert!(PublicKeyLine::parse(&line).is_err(), "{}", line);
        }

        #[test]
        fn any_text_is_read_or_refused(text in prop_oneof![any::<String>(), "(ssh-rsa|pty|command=\"[^\"]{0,3}\"|[ ,\"=\\\\]|AAAA){0,8}"]) {
            let _ = PublicKeyLine::parse(&text);
        }
    }
}
