//! Multi-part user-data, taken apart as cloud-init does it with Python's `email` (email/feedparser.py): what that does
//! not find, the guest does not get.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// How deep parts may stand within each other.
const DEEPEST: usize = 20;

/// A part that is not a container.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its content type in lower case; `text/plain` where none is given.
    pub kind: String,
    /// Its content, nothing if it is not text once it is decoded.
    pub text: Option<String>,
    /// The lines of the whole text before its content, if that stands there as it is.
    pub before: Option<usize>,
}

/// Why a text cannot be taken apart, and in which line.
pub(crate) type Fault = (usize, &'static str);

/// The parts of a message. A text without headers is one part.
pub(crate) fn parts(text: &str) -> Result<Vec<Part>, Fault> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut parts = Vec::new();
    message(&lines, 0, 0, &mut parts)?;
    Ok(parts)
}

/// `first` is how many lines are before `lines`.
fn message(lines: &[&str], first: usize, depth: usize, parts: &mut Vec<Part>) -> Result<(), Fault> {
    if depth > DEEPEST {
        return Err((first + 1, "has parts within parts too deep"));
    }
    let (headers, body) = headers(lines);
    let header = |name: &str| {
        let named = |(known, _): &&(String, String)| known == name;
        headers.iter().find(named).map(|(_, value)| value.as_str())
    };
    let kind = header("content-type").unwrap_or("text/plain");
    let (kind, parameters) = kind.split_once(';').unwrap_or((kind, ""));
    let kind = kind.trim().to_lowercase();
    let before = first + body;
    let content = &lines[body..];
    if kind.starts_with("multipart/") {
        let boundary = parameter(parameters, "boundary").ok_or((
            first + 1,
            "a multi-part message has no boundary=\"...\" in its Content-Type, so the guest would ignore it",
        ))?;
        let found = sections(content, &boundary).ok_or((
            first + 1,
            "a multi-part message has no line that begins a part (-- and its boundary), so the guest would ignore it",
        ))?;
        return found.into_iter().try_for_each(|(start, end)| {
            message(&content[start..end], before + start, depth + 1, parts)
        });
    }
    let encoding = header("content-transfer-encoding").unwrap_or_default();
    let raw = content.concat();
    // The line break before a boundary belongs to the boundary.
    let (text, before) = match encoding.trim().to_lowercase().as_str() {
        "base64" => (
            decoded(&raw).and_then(|bytes| String::from_utf8(bytes).ok()),
            None,
        ),
        "quoted-printable" => (String::from_utf8(unquoted(&raw)).ok(), None),
        _ => (Some(raw), Some(before)),
    };
    parts.push(Part { kind, text, before });
    Ok(())
}

/// The headers with their names in lower case, and the number of lines before the body.
fn headers(lines: &[&str]) -> (Vec<(String, String)>, usize) {
    let mut found: Vec<(String, String)> = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let plain = line.trim_end_matches(['\r', '\n']);
        // The separator line of a mailbox, which is not a header.
        if number == 0 && plain.starts_with("From ") {
            continue;
        }
        if plain.is_empty() {
            return (found, number + 1);
        }
        if plain.starts_with([' ', '\t']) {
            if let Some((_, value)) = found.last_mut() {
                value.push_str(plain);
            }
            continue;
        }
        let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
        match plain.split_once(':').filter(|(name, _)| is_name(name)) {
            Some((name, value)) => found.push((name.to_lowercase(), value.trim().to_owned())),
            None => return (found, number),
        }
    }
    (found, lines.len())
}

/// A parameter of a header. A semicolon within quotation marks belongs to the value; a backslash escapes the next character.
fn parameter(text: &str, name: &str) -> Option<String> {
    let (mut quoted, mut escaped) = (false, false);
    let mut parts = text.split(|c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        c == ';' && !quoted
    });
    parts.find_map(|part| {
        let (key, value) = part.split_once('=')?;
        let value = value.trim();
        let value = match value.strip_prefix('"') {
            Some(inner) => without_backslashes(inner.strip_suffix('"').unwrap_or(inner)),
            None => value.to_owned(),
        };
        (key.trim().eq_ignore_ascii_case(name) && !value.is_empty()).then_some(value)
    })
}

/// The content of a quoted string (email.utils.unquote).
fn without_backslashes(text: &str) -> String {
    text.replace("\\\\", "\\").replace("\\\"", "\"")
}

/// Where the parts between lines of `--BOUNDARY` are; nothing without any such line.
fn sections(lines: &[&str], boundary: &str) -> Option<Vec<(usize, usize)>> {
    let mut found = Vec::new();
    let mut open = None;
    for (number, line) in lines.iter().enumerate() {
        let Some(rest) = line
            .strip_prefix("--")
            .and_then(|line| line.strip_prefix(boundary))
        else {
            continue;
        };
        let ends = rest.trim_end() == "--";
        if !ends && !rest.trim_end().is_empty() {
            continue;
        }
        if let Some(start) = open.take() {
            found.push((start, number));
        }
        if ends {
            return Some(found);
        }
        open = Some(number + 1);
    }
    let start = open?;
    found.push((start, lines.len()));
    Some(found)
}

/// Base64 as Python's `b64decode` reads it, which passes over all other characters.
pub(crate) fn decoded(text: &str) -> Option<Vec<u8>> {
    let is_base64 = |b: &u8| b.is_ascii_alphanumeric() || b"+/=".contains(b);
    let plain: Vec<u8> = text.bytes().filter(is_base64).collect();
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical)
        .with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(&STANDARD, config).decode(plain).ok()
}

fn unquoted(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, more)) = rest.split_first() {
        rest = more;
        let hex = (byte == b'=').then(|| more.get(..2)).flatten();
        match hex.and_then(|hex| hex::decode(hex).ok()) {
            Some(decoded) => {
                out.extend(decoded);
                rest = &more[2..];
            }
            None if byte == b'=' && more.starts_with(b"\r\n") => rest = &more[2..],
            None if byte == b'=' && more.starts_with(b"\n") => rest = &more[1..],
            None => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_apart(text: &str) -> Vec<(String, Option<String>, Option<usize>)> {
        let parts = parts(text).unwrap();
        parts
            .into_iter()
            .map(|part| (part.kind, part.text, part.before))
            .collect()
    }

    #[test]
    fn a_boundary_may_hold_what_stands_between_parameters() {
        for (header, boundary) in [
            (r#"type="a;b"; boundary="b;c""#, "b;c"),
            (r#"boundary="b\"c""#, "b\"c"),
            (r#"boundary="b=c"; x=y"#, "b=c"),
            ("Boundary = b", "b"),
        ] {
            let text = format!(
                "Content-Type: multipart/mixed; {header}\n\n--{boundary}\n\nx\n--{boundary}--\n"
            );
            let part = ("text/plain".to_owned(), Some("x\n".to_owned()), Some(4));
            assert_eq!(taken_apart(&text), [part], "{header}");
        }
    }

    #[test]
    fn parts_are_found_with_their_lines() {
        let text = "Content-Type: multipart/mixed;\n boundary=\"b\"\r\nMIME-Version: 1.0\n\npreamble\n--b\nContent-Type: text/Cloud-Config; \
                    charset=\"us-ascii\"\n\n#cloud-config\n--b \nContent-Type: multipart/mixed; boundary=c\n\n--c\n\nx\n--c--\n--b\nContent-Type: \
                    text/plain\nContent-Transfer-Encoding: base64\n\nI2luY2x1ZGUK\n--b\nContent-Transfer-Encoding: quoted-printable\n\na=3Db=\nc\n--b--\nend\n";
        assert_eq!(
            taken_apart(text),
            [
                (
                    "text/cloud-config".to_owned(),
                    Some("#cloud-config\n".to_owned()),
                    Some(8)
                ),
                ("text/plain".to_owned(), Some("x\n".to_owned()), Some(14)),
                ("text/plain".to_owned(), Some("#include\n".to_owned()), None),
                ("text/plain".to_owned(), Some("a=bc\n".to_owned()), None),
            ]
        );
    }

    #[test]
    fn what_has_no_headers_is_one_part() {
        for text in ["#cloud-config\nMIME-Version: 1.0\n", "x y\n"] {
            assert_eq!(
                taken_apart(text),
                [("text/plain".to_owned(), Some(text.to_owned()), Some(0))]
            );
        }
        // A blank line ends the headers before they begin.
        assert_eq!(taken_apart("\nContent-Type: a/b\n")[0].0, "text/plain");
        assert_eq!(taken_apart("")[0].1.as_deref(), Some(""));
    }

    #[test]
    fn what_holds_no_part() {
        assert!(
            parts("Content-Type: multipart/mixed\n\n--b\n\nx\n--b--\n")
                .unwrap_err()
                .1
                .contains("has no boundary")
        );
        assert!(
            parts("Content-Type: multipart/mixed; boundary=c\n\n--b\n\nx\n")
                .unwrap_err()
                .1
                .contains("no line that begins")
        );
    }

    #[test]
    fn base64_as_python_reads_it() {
        assert_eq!(decoded("aGVs\n bG8=").as_deref(), Some(&b"hello"[..]));
        assert_eq!(decoded("not base64!"), None);
        assert_eq!(decoded("aGVsbG8"), None);
    }
}
