//! Multi-part user-data, taken apart as cloud-init does it with Python's `email` (email/feedparser.py): what that does
//! not find, the guest does not get.

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
            decoded_leniently(&raw).and_then(|bytes| String::from_utf8(bytes).ok()),
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

/// Base64 as Python's `b64decode` reads it (`binascii.a2b_base64`, not strict). It passes over all
/// characters that are not of the alphabet, takes more padding than is needed, and ends at the first
/// complete padding. Nothing where it raises an error.
pub(crate) fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    // The characters of an unfinished group of four, as a number, and the padding after them.
    let (mut group, mut count, mut pads) = (0u32, 0, 0);
    for byte in text.bytes() {
        let Some(value) = sextet(byte) else {
            pads += usize::from(byte == b'=' && count >= 2);
            if byte == b'=' && count >= 2 && count + pads >= 4 {
                return Some(out);
            }
            continue;
        };
        (group, count, pads) = (group << 6 | u32::from(value), count + 1, 0);
        // Each character after the first of a group completes a byte.
        match count {
            1 => {}
            2 => out.push((group >> 4) as u8),
            3 => out.push((group >> 2) as u8),
            _ => {
                out.push(group as u8);
                (group, count) = (0, 0);
            }
        }
    }
    (count == 0).then_some(out)
}

/// Base64 as Python's `email` reads it (email/_encoded_words.py, `decode_b`), which adds padding that
/// lacks. Nothing where it gives up.
pub(crate) fn decoded_leniently(text: &str) -> Option<Vec<u8>> {
    decoded(text).or_else(|| decoded(&format!("{text}==")))
}

pub(crate) const BASE64URL: &str =
    "has characters of base64url (- and _), which cloud-init leaves out; write + and / instead";

/// What is wrong with base64 although Python decodes it: the result is another than was meant.
pub(crate) fn misread(text: &str) -> Option<&'static str> {
    let is_known = |c: char| {
        c.is_ascii_whitespace() || c == '=' || u8::try_from(c).is_ok_and(|b| sextet(b).is_some())
    };
    let mut others = text.chars().filter(|c| !is_known(*c)).peekable();
    if others.peek().is_some() {
        return Some(
            match others.all(|c| "-_".contains(c)) && !text.contains("--") {
                true => BASE64URL,
                false => {
                    "has characters that are not base64, which cloud-init leaves out, so that it would write something else"
                }
            },
        );
    }
    let rest = text.trim_end_matches(|c: char| c.is_ascii_whitespace() || c == '=');
    rest.contains('=').then_some(
        "goes on after its padding (=), where cloud-init stops reading; encode it as a whole",
    )
}

/// The value of a character of base64.
fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
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
        // Held against Python 3.11.
        for (text, expected) in [
            ("aGVs\n bG8=", Some(&b"hello"[..])),
            ("aGVsbG8==", Some(b"hello")),
            ("YQ===", Some(b"a")),
            ("YWJj=", Some(b"abc")),
            ("YQ==YQ==", Some(b"a")),
            ("YQ=x=", Some(b"a\x0c")),
            ("=YQ==", Some(b"a")),
            ("Y=Q==", Some(b"a")),
            ("hello wor", Some(b"\x85\xe9e\xa3\n+")),
            ("", Some(b"")),
            ("YQ=", None),
            ("aGVsbG8", None),
            ("a", None),
            ("not base64!", None),
        ] {
            assert_eq!(decoded(text).as_deref(), expected, "{text}");
        }
        // In a message what lacks is added.
        assert_eq!(decoded_leniently("aGVsbG8").as_deref(), Some(&b"hello"[..]));
        assert_eq!(decoded_leniently("YQ=").as_deref(), Some(&b"a"[..]));
        assert_eq!(decoded_leniently("a"), None);
    }

    #[test]
    fn base64_that_becomes_something_else() {
        for text in ["aGVs\n bG8=\n", "aGVsbG8==", "YQ===", ""] {
            assert_eq!(misread(text), None, "{text}");
        }
        for (text, part) in [
            ("a-_b", "base64url"),
            ("hello, wor", "not base64"),
            ("YQ==YQ==", "after its padding"),
            ("YQ=x=", "after its padding"),
        ] {
            assert!(misread(text).unwrap().contains(part), "{text}");
        }
    }
}
