//! The lines that tools write: `sha256sum` and its kin, `shasum --tag`, BSD's `sha256`, `openssl dgst`, `gpg --print-md`.

use super::entry::{AlgorithmHint, Entry, algorithm_hint};
use crate::checksum::{Algorithm, Digest, is_checksum, is_hex};

/// Lines, with those joined that `gpg --print-md` breaks: `NAME: 01234567 89ABCDEF` and indented ones.
pub fn joined(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let groups = |text: &str| {
            !text.trim().is_empty()
                && text
                    .split_whitespace()
                    .all(|group| matches!(group.len(), 2 | 4 | 8) && is_hex(group))
        };
        match lines.last_mut() {
            Some(last)
                if line.starts_with([' ', '\t'])
                    && groups(line)
                    && (last.contains(": ") || last.ends_with(':')) =>
            {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => lines.push(line.to_string()),
        }
    }
    lines
}

/// What such a line has.
pub enum Line {
    Entry(Entry),
    /// A checksum that cannot be used.
    Other,
}

/// Read one line.
pub fn parse(line: &str, section: AlgorithmHint) -> Option<Line> {
    // GNU marks names with escaped characters by a leading backslash.
    let (line, escaped) = match line.strip_prefix('\\') {
        Some(rest) => (rest, true),
        None => (line, false),
    };
    let context = LineContext { section, escaped };
    if let Some((tag, file, digits)) = tagged(line) {
        return context.labelled(algorithm_hint(tag)?, file, digits);
    }
    if let Some(entry) = table_row(line) {
        return Some(Line::Entry(entry));
    }
    let Some((digits, file)) = line.split_once([' ', '\t']) else {
        // `sha256:HEX`, or the checksum alone.
        return match line.split_once(':') {
            Some((tag, digits)) => context.labelled(algorithm_hint(tag)?, "", digits),
            None => context.unlabelled(line, ""),
        };
    };
    let file = file.trim();
    let file = file.strip_prefix('*').unwrap_or(file);
    context
        .unlabelled(digits, file)
        .or_else(|| context.name_first(line))
}

/// A row of a table: algorithm, checksum, path (PowerShell's Get-FileHash).
fn table_row(line: &str) -> Option<Entry> {
    let (tag, rest) = line.split_once(char::is_whitespace)?;
    let Some(AlgorithmHint::Of(algorithm)) = algorithm_hint(tag) else {
        return None;
    };
    let (digits, file) = rest.trim_start().split_once(char::is_whitespace)?;
    let digest = Digest::new(algorithm, digits)?;
    let file = file.trim().to_string();
    Some(Entry { digest, file })
}

/// What holds for the words of a line.
#[derive(Clone, Copy)]
struct LineContext {
    section: AlgorithmHint,
    /// Whether the name has escaped characters.
    escaped: bool,
}

impl LineContext {
    fn entry(self, digest: Digest, file: &str) -> Line {
        let file = match self.escaped {
            true => unescape(file),
            false => file.to_string(),
        };
        Line::Entry(Entry { digest, file })
    }

    /// A checksum whose algorithm the line names.
    fn labelled(self, label: AlgorithmHint, file: &str, digits: &str) -> Option<Line> {
        match label {
            AlgorithmHint::Of(algorithm) => {
                Digest::new(algorithm, digits).map(|digest| self.entry(digest, file))
            }
            _ => Some(Line::Other),
        }
    }

    /// A checksum whose algorithm shows in the section or in its length; nothing if it cannot be one.
    fn unlabelled(self, digits: &str, file: &str) -> Option<Line> {
        if !is_checksum(digits) {
            return None;
        }
        let digest = match self.section {
            AlgorithmHint::Other => None,
            AlgorithmHint::Of(algorithm) if algorithm.fits(digits) => {
                Digest::new(algorithm, digits)
            }
            _ => Algorithm::of_digits(digits).and_then(|algorithm| Digest::new(algorithm, digits)),
        };
        // `-` is what came from a pipe.
        let file = if file == "-" { "" } else { file };
        Some(digest.map_or(Line::Other, |digest| self.entry(digest, file)))
    }

    /// The name first: `NAME: 01234567 89ABCDEF ...`, `NAME HEX`, `sha256: HEX`, `HASH = HEX`.
    fn name_first(self, line: &str) -> Option<Line> {
        let joined = |groups: &str| groups.split_whitespace().collect::<String>();
        let (file, digits) = match line.split_once(": ") {
            Some((file, groups)) => (file, joined(groups)),
            None => {
                let (file, digits) = line.rsplit_once([' ', '\t'])?;
                (file.trim_end().trim_end_matches('='), digits.to_string())
            }
        };
        let file = file.trim();
        // `NAME: SHA256 = 01234567 89ABCDEF` (gpg --print-mds), `NAME SHA-256: HEX`.
        let after_colon = line.split_once(": ").map(|(_, rest)| rest);
        let labelled = match after_colon.and_then(|rest| rest.split_once('=')) {
            Some((tag, groups)) => {
                algorithm_hint(tag.trim()).map(|label| (label, file, joined(groups)))
            }
            None => file
                .rsplit_once([' ', '\t'])
                .and_then(|(file, tag)| Some((algorithm_hint(tag)?, file.trim(), digits.clone()))),
        };
        if let Some((label, file, digits)) = labelled {
            return self.labelled(label, file, &digits);
        }
        match algorithm_hint(file).filter(|_| !file.contains('.')) {
            Some(label) => self.labelled(label, "", &digits),
            None => self.unlabelled(&digits, file),
        }
    }
}

/// `SHA256 (NAME) = HEX` of BSD, `SHA256(NAME)= HEX` and `SHA2-256(NAME)= HEX` of OpenSSL.
fn tagged(line: &str) -> Option<(&str, &str, &str)> {
    let (tag, rest) = line.split_once('(')?;
    let tag = tag.trim_end();
    algorithm_hint(tag).filter(|_| !tag.contains([' ', '\t', '.']))?;
    let (file, digits) = rest.rsplit_once(')')?;
    let digits = digits.trim_start().strip_prefix('=')?.trim();
    Some((tag, file, digits))
}

fn unescape(file: &str) -> String {
    let mut plain = String::with_capacity(file.len());
    let mut chars = file.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => plain.push('\n'),
                Some('r') => plain.push('\r'),
                Some(other) => plain.push(other),
                None => plain.push('\\'),
            },
            c => plain.push(c),
        }
    }
    plain
}
