//! Files of checksums as they are published: by `sha256sum` and its kin (GNU), `shasum --tag`, BSD's
//! `sha256`, `openssl dgst` and `gpg --print-md`, with one bare checksum, with comments, and signed
//! in clear text (the signature is not verified); in Markdown; in JSON and YAML; as Nix writes them.

use std::collections::BTreeSet;

use crate::checksum::{Algorithm, Digest};
use crate::checksum_tree;
use crate::checksum_words::{Place, columns};

/// Algorithms that are named in such files beside those of [`Algorithm`].
const OTHERS: &[&str] = &[
    "md5",
    "sha1",
    "sha224",
    "sha512224",
    "sha512256",
    "sha3",
    "blake",
    "b2sum",
    "whirlpool",
    "rmd160",
    "ripemd",
    "crc",
    "streebog",
    "sm3",
    "tiger",
    "skein",
];

/// One checksum in such a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The checksum.
    pub digest: Digest,
    /// The file it is of; empty when it stands alone.
    pub file: String,
}

/// A checksum that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The checksum.
    pub digest: Digest,
    /// The other file that the line names, if the checksum was taken because it is the only one.
    pub only_of: Option<String>,
}

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The names that the image goes by.
    pub names: &'a [String],
    /// The path of its address, which tells `a/x.iso` and `b/x.iso` apart.
    pub path: &'a str,
    /// The algorithm to prefer.
    pub prefer: Algorithm,
    /// The name of the file of checksums: in `b2sums.txt` they are as long as those of SHA-512.
    pub of: &'a str,
}

/// The checksum of an image in the text of such a file. A file with a single checksum is of whatever
/// it lies beside: what it is compared with tells.
///
/// # Errors
/// What is wrong, in words.
pub fn find(text: &str, wanted: Wanted<'_>) -> Result<Found, String> {
    let Read {
        entries,
        others,
        unclear,
    } = entries(text, wanted);
    let named: Vec<&Entry> = entries
        .iter()
        .filter(|entry| wanted.names.iter().any(|name| base(&entry.file) == name))
        .collect();
    // The longest path that the address ends in.
    let fits = |entry: &&&Entry| {
        let file = entry.file.trim_start_matches("./").trim_start_matches('/');
        match wanted.path == file || wanted.path.ends_with(&format!("/{file}")) {
            true => file.len(),
            false => 0,
        }
    };
    let best = named.iter().map(|entry| fits(&entry)).max().unwrap_or(0);
    let candidates: Vec<&Entry> = named
        .into_iter()
        .filter(|entry| fits(&entry) == best)
        .collect();
    let first = wanted.names.first().map_or("the image", String::as_str);
    if !candidates.is_empty() {
        let digest = choose(&candidates, wanted.prefer)
            .map_err(|several| format!("it has several checksums of {first}: {several}"))?;
        return Ok(Found {
            digest,
            only_of: None,
        });
    }
    let mut files: Vec<&str> = entries.iter().map(|entry| entry.file.as_str()).collect();
    files.dedup();
    if let [file] = files.as_slice()
        && unclear.is_none()
    {
        let all: Vec<&Entry> = entries.iter().collect();
        if let Ok(digest) = choose(&all, wanted.prefer) {
            let only_of = Some(file.to_string()).filter(|file| !file.is_empty());
            return Ok(Found { digest, only_of });
        }
    }
    Err(match (entries.len(), unclear) {
        _ if is_html(text) => "it is an HTML page".into(),
        (_, Some(line)) => format!(
            "no line names {first} as its only file (first ambiguous line: '{}')",
            some_of([line.as_str()].into_iter())
        ),
        (0, _) if others > 0 => "its checksums are neither SHA-256, SHA-384 nor SHA-512".into(),
        (0, _) => "it has no checksum".into(),
        (count, _) => {
            let names = some_of(files.iter().filter(|file| !file.is_empty()).copied());
            let names = match names.is_empty() {
                true => String::new(),
                false => format!(": {names}"),
            };
            format!("it has no checksum of {first} ({count} of other files{names})")
        }
    })
}

/// Whether a line is one of Markdown, rather than a tool's.
fn is_page(line: &str) -> bool {
    let marks = ["|", "`", "](", "**"];
    let starts = ["* ", "+ ", "> "];
    marks.iter().any(|mark| line.contains(mark))
        || starts.iter().any(|start| line.starts_with(start))
}

fn is_html(text: &str) -> bool {
    let start = text.trim_start_matches('\u{feff}').trim_start();
    let has = |head: &str| {
        let begin = start.get(..head.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(head))
    };
    has("<!doctype") || has("<html")
}

/// A few texts for a message, each one line and not too long.
fn some_of<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let texts: BTreeSet<&str> = texts.collect();
    let mut shown: Vec<String> = texts
        .iter()
        .take(3)
        .map(|text| {
            text.chars()
                .take(100)
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect()
        })
        .collect();
    if texts.len() > 3 {
        shown.push("...".into());
    }
    shown.join(", ")
}

/// The preferred checksum, else the strongest. The error lists them when there are several of one algorithm.
fn choose(entries: &[&Entry], prefer: Algorithm) -> Result<Digest, String> {
    let order = [prefer].into_iter().chain(Algorithm::ALL.into_iter().rev());
    for algorithm in order {
        let mut of_it = entries
            .iter()
            .map(|entry| &entry.digest)
            .filter(|digest| digest.algorithm == algorithm);
        if let Some(first) = of_it.next() {
            let all: Vec<String> = of_it.map(ToString::to_string).collect();
            let same = all.iter().all(|other| *other == first.to_string());
            return match same {
                true => Ok(first.clone()),
                false => {
                    let first = first.to_string();
                    Err(some_of(all.iter().chain([&first]).map(String::as_str)))
                }
            };
        }
    }
    Err("none".into())
}

fn base(file: &str) -> &str {
    file.rsplit(['/', '\\']).next().unwrap_or(file)
}

/// The checksums in a text.
struct Read {
    entries: Vec<Entry>,
    /// How many there are of other algorithms.
    others: usize,
    /// The first line with a checksum that is not clearly of one file.
    unclear: Option<String>,
}

/// The checksums in the text.
fn entries(text: &str, wanted: Wanted<'_>) -> Read {
    if let Some(tree) = checksum_tree::read(text, wanted.of, wanted.names) {
        return Read {
            entries: tree.entries,
            others: tree.others,
            unclear: None,
        };
    }
    let loose = !is_html(text);
    let text = text
        .trim_start_matches('\u{feff}')
        .replace("\r\n", "\n")
        .replace('\r', "\n");
    let (mut found, mut others) = (Vec::new(), 0);
    let mut unclear: Option<String> = None;
    let mut place = Place::default();
    // The algorithm of the lines below a comment such as `# SHA512 HASH`.
    let mut section = Section::of_file(wanted.of);
    let (mut signed_head, mut signature) = (false, false);
    let lines: Vec<String> = joined(&text);
    for (at, line) in lines.iter().map(|line| line.trim()).enumerate() {
        let below = lines.get(at + 1).map_or("", |line| line.trim());
        match columns(line, below) {
            Some(columns) => place.columns = Some(columns),
            None if !line.contains('|') => place.columns = None,
            None => {}
        }
        match line {
            "-----BEGIN PGP SIGNED MESSAGE-----" => signed_head = true,
            "-----BEGIN PGP SIGNATURE-----" => signature = true,
            "-----END PGP SIGNATURE-----" => signature = false,
            "" => signed_head = false,
            _ if signed_head || signature => {}
            _ => {
                // Lines of a signed text that begin with a dash have `- ` before it.
                let line = line.strip_prefix("- ").unwrap_or(line);
                if let Some(comment) = line.strip_prefix(['#', ';']) {
                    section = Section::of(comment, section);
                    if line.starts_with('#') && loose {
                        place.read(line, section, wanted.names);
                    }
                    continue;
                }
                let parsed = parse(line, section);
                let is_of_image = matches!(&parsed, Some(Line::Entry(entry)) if wanted.names.iter().any(|name| base(&entry.file) == name));
                // What tools write has neither bullets nor Markdown around it.
                let said = (loose && is_page(line) && !is_of_image)
                    .then(|| place.read(line, section, wanted.names));
                let said = said.filter(|said| !said.is_empty());
                match parsed.filter(|_| said.is_none()) {
                    Some(Line::Entry(mut entry)) => {
                        if entry.file.is_empty() {
                            entry.file = place.file.clone().unwrap_or_default();
                        }
                        found.push(entry);
                    }
                    Some(Line::Other) => others += 1,
                    None if loose => {
                        let said = said.unwrap_or_else(|| place.read(line, section, wanted.names));
                        found.extend(said.entries);
                        others += said.others;
                        if said.unclear {
                            unclear.get_or_insert_with(|| line.to_owned());
                        }
                    }
                    None => {}
                }
            }
        }
    }
    Read {
        entries: found,
        others,
        unclear,
    }
}

/// Lines, with those joined that `gpg --print-md` breaks: `NAME: 01234567 89ABCDEF` and indented ones.
fn joined(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let groups = |text: &str| {
            !text.trim().is_empty()
                && text.split_whitespace().all(|group| {
                    matches!(group.len(), 2 | 4 | 8) && group.bytes().all(|b| b.is_ascii_hexdigit())
                })
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

/// The algorithm of checksums, as what is around them says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// Digits alone say which algorithm.
    Any,
    /// This one.
    Of(Algorithm),
    /// One that is not of SHA-2.
    Other,
}

impl Section {
    /// What the name of a file of checksums says, where digits alone do not.
    fn of_file(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let others = ["b2sum", "blake2", "b3sum", "blake3", "sha3sum", "sha3-"];
        let known = ["sha256", "sha384", "sha512"];
        let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
        match has(&others) && !has(&known) {
            true => Self::Other,
            false => Self::Any,
        }
    }

    fn of(comment: &str, before: Self) -> Self {
        let words: Vec<String> = comment
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'))
            .map(str::to_ascii_lowercase)
            .filter(|word| !word.is_empty())
            .collect();
        // A heading is short; other comments say what they like.
        if words.len() > 3 {
            return before;
        }
        let name = words.iter().find_map(|word| kind(word));
        name.unwrap_or(before)
    }
}

/// The algorithm that a word names.
pub fn kind(word: &str) -> Option<Section> {
    let plain: String = word.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let plain = plain.to_ascii_lowercase();
    let plain = plain
        .strip_suffix("sums")
        .or(plain.strip_suffix("sum"))
        .unwrap_or(&plain);
    if let Some(algorithm) = Algorithm::named(word).or_else(|| Algorithm::named(plain)) {
        return Some(Section::Of(algorithm));
    }
    OTHERS
        .iter()
        .any(|other| plain.starts_with(other))
        .then_some(Section::Other)
}

enum Line {
    Entry(Entry),
    /// A checksum that cannot be used.
    Other,
}

/// One line.
fn parse(line: &str, section: Section) -> Option<Line> {
    // GNU marks names with escaped characters by a leading backslash.
    let (line, escaped) = match line.strip_prefix('\\') {
        Some(rest) => (rest, true),
        None => (line, false),
    };
    let words = Words { section, escaped };
    if let Some((tag, file, digits)) = tagged(line) {
        return words.labelled(kind(tag)?, file, digits);
    }
    if let Some(entry) = table_row(line) {
        return Some(Line::Entry(entry));
    }
    let Some((digits, file)) = line.split_once([' ', '\t']) else {
        // `sha256:HEX`, or the checksum alone.
        return match line.split_once(':') {
            Some((tag, digits)) => words.labelled(kind(tag)?, "", digits),
            None => words.unlabelled(line, ""),
        };
    };
    let file = file.trim();
    let file = file.strip_prefix('*').unwrap_or(file);
    words
        .unlabelled(digits, file)
        .or_else(|| words.name_first(line))
}

/// A row of a table: algorithm, checksum, path (PowerShell's Get-FileHash).
fn table_row(line: &str) -> Option<Entry> {
    let (tag, rest) = line.split_once(char::is_whitespace)?;
    let Some(Section::Of(algorithm)) = kind(tag) else {
        return None;
    };
    let (digits, file) = rest.trim_start().split_once(char::is_whitespace)?;
    let digest = Digest::new(algorithm, digits)?;
    let file = file.trim().to_string();
    Some(Entry { digest, file })
}

/// What holds for the words of a line.
#[derive(Clone, Copy)]
struct Words {
    section: Section,
    /// Whether the name has escaped characters.
    escaped: bool,
}

impl Words {
    fn entry(self, digest: Digest, file: &str) -> Line {
        let file = match self.escaped {
            true => unescape(file),
            false => file.to_string(),
        };
        Line::Entry(Entry { digest, file })
    }

    /// A checksum whose algorithm the line names.
    fn labelled(self, label: Section, file: &str, digits: &str) -> Option<Line> {
        match label {
            Section::Of(algorithm) => {
                Digest::new(algorithm, digits).map(|digest| self.entry(digest, file))
            }
            _ => Some(Line::Other),
        }
    }

    /// A checksum whose algorithm shows in the section or in its length; nothing if it cannot be one.
    fn unlabelled(self, digits: &str, file: &str) -> Option<Line> {
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) || digits.len() < 32 {
            return None;
        }
        let digest = match self.section {
            Section::Other => None,
            Section::Of(algorithm) if algorithm.fits(digits) => Digest::new(algorithm, digits),
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
            Some((tag, groups)) => kind(tag.trim()).map(|kind| (kind, file, joined(groups))),
            None => file
                .rsplit_once([' ', '\t'])
                .and_then(|(file, tag)| Some((kind(tag)?, file.trim(), digits.clone()))),
        };
        if let Some((label, file, digits)) = labelled {
            return self.labelled(label, file, &digits);
        }
        match kind(file).filter(|_| !file.contains('.')) {
            Some(label) => self.labelled(label, "", &digits),
            None => self.unlabelled(&digits, file),
        }
    }
}

/// `SHA256 (NAME) = HEX` of BSD, `SHA256(NAME)= HEX` and `SHA2-256(NAME)= HEX` of OpenSSL.
fn tagged(line: &str) -> Option<(&str, &str, &str)> {
    let (tag, rest) = line.split_once('(')?;
    let tag = tag.trim_end();
    kind(tag).filter(|_| !tag.contains([' ', '\t', '.']))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn look(text: &str, name: &str) -> Result<String, String> {
        let names = [name.to_string()];
        let wanted = Wanted {
            names: &names,
            path: &format!("/iso/amd64/{name}"),
            prefer: Algorithm::Sha256,
            of: "SHA256SUMS",
        };
        find(text, wanted).map(|found| found.digest.to_string())
    }

    #[test]
    fn every_published_form() {
        let (a, b) = ("ab".repeat(32), "CD".repeat(32));
        let (big, other) = ("ef".repeat(64), "0".repeat(64));
        let grouped = "ABABABAB ".repeat(8);
        let (is_a, is_big) = (format!("sha256:{a}"), format!("sha512:{big}"));
        for text in [
            format!("{other}  other.iso\n{a}  x.iso\n"),
            format!("{other} *other.iso\r\n{a} *x.iso\r\n"),
            format!("{other}\tother.iso\n{a}\tx.iso\n"),
            format!("\u{feff}{}  x.iso", a.to_uppercase()),
            format!("# made today by me, with care\n{a}  ./x.iso\n{other}  ./other.iso\n"),
            format!("{a}  dir\\x.iso\n{other} y\n"),
            format!("{a}  /srv/iso/x.iso\n{other}  y\n"),
            format!(
                "MD5 (x.iso) = {}\nSHA1 (x.iso) = {}\nSHA256 (y.iso) = {b}\nSHA256 (x.iso) = {a}\n",
                "0".repeat(32),
                "0".repeat(40)
            ),
            format!("SHA256(x.iso)= {a}\nSHA2-256(y.iso)= {b}\n"),
            format!("SHA2-256(x.iso)= {a}\n"),
            format!("x.iso: {grouped}\n"),
            format!(
                "x.iso:\n{:>7}{}\n{:>7}{}\n",
                "",
                "ABABABAB ".repeat(4),
                "",
                "ABABABAB ".repeat(4)
            ),
            format!("x.iso {a}\ny.iso {b}\n"),
            // gpg --print-mds, PowerShell, and a label behind the name.
            format!(
                "x.iso:    MD5 = {}\nx.iso:   SHA1 = {}\nx.iso: SHA256 = {}\n{:>15}{}\ny.iso: SHA256 = {b}\n",
                "AB ".repeat(16),
                "ABAB ".repeat(10),
                "ABABABAB ".repeat(6),
                "",
                "ABABABAB ".repeat(2)
            ),
            format!(
                "\r\nAlgorithm       Hash     Path\r\n---------       ----     ----\r\nSHA256          {}       C:\\iso\\x.iso\r\nSHA256 {b} C:\\y.iso",
                a.to_uppercase()
            ),
            format!("x.iso SHA-256: {a}\ny.iso SHA-256: {b}\n"),
            format!("{a}\n"),
            format!("{a}\r\n"),
            format!("  {a}  "),
            format!("{a}  -\n"),
            format!("{a} *-"),
            format!("sha256:{a}\n"),
            format!("SHA256: {a}\n"),
            format!("sha256 = {a}\n"),
            // One checksum, of whatever it lies beside.
            format!("{a}  nixos-minimal-25.05.812345.abcdef012345-x86_64-linux.iso\n"),
            format!(
                "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{a}  x.iso\n{b}  y.iso\n-----BEGIN PGP SIGNATURE-----\n\n{b}\n-----END PGP SIGNATURE-----\n"
            ),
            format!(
                "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# x.iso: 1 bytes\nSHA256 (x.iso) = {a}\n- - trailing\n"
            ),
            // The image's own directory, of several.
            format!("{b}  ./i386/x.iso\n{a}  ./amd64/x.iso\n"),
            // Both algorithms: the one asked for.
            format!("SHA512 (x.iso) = {big}\nSHA256 (x.iso) = {a}\n"),
        ] {
            assert_eq!(look(&text, "x.iso").as_ref(), Ok(&is_a), "{text}");
        }
        for text in [
            format!("{big}  x.iso\n{}  y.iso\n", "1".repeat(128)),
            format!(
                "SHA512 (x.iso) = {big}\nSHA1 (x.iso) = {}\n",
                "0".repeat(40)
            ),
            // Gentoo's DIGESTS: BLAKE2B has as many digits.
            format!(
                "# BLAKE2B HASH\n{}  x.iso\n# SHA512 HASH\n{big}  x.iso\n",
                "1".repeat(128)
            ),
        ] {
            assert_eq!(look(&text, "x.iso").as_ref(), Ok(&is_big), "{text}");
        }
        // Names with Markdown's characters.
        for name in ["a|x.iso", "`x`.iso", "a**x.iso"] {
            let text = format!("{a}  {name}\n{b}  x.iso\n");
            assert_eq!(look(&text, name).as_ref(), Ok(&is_a), "{text}");
        }
        // Names that GNU escapes.
        let odd = format!("\\{a}  a\\\\b\\nc.iso\n{b}  y.iso\n");
        let wanted = Wanted {
            names: &[],
            path: "",
            prefer: Algorithm::Sha256,
            of: "",
        };
        let found = entries(&odd, wanted).entries;
        assert_eq!(found[0].file, "a\\b\nc.iso");
        let spaces = format!("SHA256 (a (1).iso) = {a}\nSHA256 (x.iso) = {b}\n");
        assert_eq!(look(&spaces, "a (1).iso"), Ok(is_a));
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let (a, b) = ("ab".repeat(32), "cd".repeat(32));
        for (text, expected) in [
            (
                format!("{a}  y.iso\n{b}  z.iso\n"),
                "no checksum of x.iso (2 of other files: y.iso, z.iso)",
            ),
            (
                format!("{a}  y-x.iso\n{b}  x.iso.sig\n"),
                "no checksum of x.iso",
            ),
            (
                format!("{a}  x.iso\n{b}  x.iso\n"),
                "several checksums of x.iso",
            ),
            (format!("{a}\n{b}\n"), "no checksum of x.iso"),
            (
                "<!DOCTYPE html><title>Log in</title>".into(),
                "an HTML page",
            ),
            (String::new(), "no checksum"),
            (
                format!("MD5 (x.iso) = {}\n", "0".repeat(32)),
                "neither SHA-256",
            ),
            (format!("{}  x.iso\n", "0".repeat(40)), "neither SHA-256"),
            (format!("SHA3-256 (x.iso) = {a}\n"), "neither SHA-256"),
            (format!("BLAKE2b (x.iso) = {a}{a}\n"), "neither SHA-256"),
        ] {
            let error = look(&text, "x.iso").unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn the_name_of_the_file_tells_what_digits_do_not() {
        let text = format!("{}  x.iso\n", "ef".repeat(64));
        let names = ["x.iso".to_string()];
        let look = |of| {
            let wanted = Wanted {
                names: &names,
                path: "/x.iso",
                prefer: Algorithm::Sha512,
                of,
            };
            find(&text, wanted)
        };
        for of in [
            "SHA512SUMS",
            "sha512sums.txt",
            "x.iso.sha512",
            "",
            "blake2-and-sha512.txt",
        ] {
            assert!(look(of).is_ok(), "{of}");
        }
        for of in ["b2sums.txt", "B2SUMS", "x.iso.blake2b", "x.iso.sha3-512"] {
            assert!(look(of).unwrap_err().contains("neither SHA-256"), "{of}");
        }
    }

    #[test]
    fn pages_and_documents() {
        let (a, b) = ("ab".repeat(32), "CD".repeat(32));
        let (big, other) = ("ef".repeat(64), "0".repeat(128));
        let sri = "sha256-q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=";
        let nix32 = "1axbmfmspaxbmfmspaxbmfmspaxbmfmspaxbmfmspaxbmfmspaxb";
        let is_a = format!("sha256:{a}");
        for text in [
            // Markdown.
            format!(
                "# Downloads\n\n| File | SHA-256 |\n|---|---|\n| y.iso | `{b}` |\n| [x.iso](https://h/x.iso) | `{a}` |\n"
            ),
            format!("File | Hash\n--- | ---\nx.iso | {a}\ny.iso | {b}\n"),
            format!(
                "| x.iso | 1.2 GB | {} | {} | {a} |\n| y.iso | 2 GB | {b} |",
                "0".repeat(32),
                "0".repeat(40)
            ),
            format!(
                "| File | BLAKE2b | SHA256 |\n|:--|:-:|--:|\n| x.iso | {other} | {a} |\n| y.iso | {other} | {b} |\n"
            ),
            format!(
                "- [x.iso](https://h/x.iso) ([signature](https://h/x.iso.sig)): `{a}`\n- y.iso: `{b}`\n"
            ),
            format!("## x.iso\n\nSHA256: `{a}`\n\n## y.iso\n\nSHA256: `{b}`\n"),
            format!("## x.iso\n\n### SHA256\n\n```\n{a}\n```\n## y.iso\n```\n{b}\n```\n"),
            format!(
                "* **x.iso**\n  * SHA-256: `{a}`\n  * SHA-1: `{}`\n* **y.iso**\n  * SHA-256: `{b}`\n",
                "0".repeat(40)
            ),
            format!("* x.iso {a}\n* y.iso {b}\n"),
            format!("File: y.iso\nSHA256: {b}\n\nFile: x.iso\nSize: 12\nSHA256: {a}\n"),
            format!("```\n{b}  y.iso\n{a}  x.iso\n```\n"),
            format!("`{a}  x.iso`\n`{b}  y.iso`"),
            format!(
                "Verify that the SHA-256 of x.iso is {a} before you use it.\nThat of y.iso is {b}.\n"
            ),
            // Nix.
            format!("x.iso {sri}\ny.iso sha256-{}\n", "q".repeat(44)),
            sri.to_owned(),
            nix32.to_owned(),
            format!("sha256:{nix32}"),
            format!("{nix32}  x.iso\n{b}  y.iso\n"),
            format!("iso = fetchurl {{\n  url = \"https://h/x.iso\";\n  hash = \"{sri}\";\n}};\n"),
            format!(
                "  url = \"https://h/y.iso\";\n  sha256 = \"{b}\";\n  url = \"https://h/x.iso\";\n  sha256 = \"{nix32}\";\n"
            ),
            // JSON.
            format!(
                r#"{{"tag_name": "v1", "assets": [{{"name": "y.iso", "digest": "sha256:{b}"}}, {{"name": "x.iso", "uploader": {{"name": "me"}}, "digest": "sha256:{a}"}}]}}"#
            ),
            format!(
                r#"{{"y.iso": {{"sha256": "{b}"}}, "x.iso": {{"sha512": "{big}", "sha256": "{a}"}}}}"#
            ),
            format!(r#"{{"x.iso": "{a}", "y.iso": "{b}"}}"#),
            format!(r#"{{"x.iso": "{sri}", "y.iso": null}}"#),
            format!(
                r#"[{{"path": "iso/x.iso", "hash": {{"algorithm": "SHA-256", "value": "{a}"}}}}, {{"path": "y.iso", "hash": {{"algorithm": "MD5", "value": "0"}}}}]"#
            ),
            format!(
                r#"{{"stream": "stable", "metal": {{"iso": {{"disk": {{"location": "https://h/x.iso", "signature": "https://h/x.iso.sig", "sha256": "{a}"}}}}}}, "pxe": {{"location": "https://h/kernel.img", "sha256": "{b}"}}}}"#
            ),
            format!(
                r#"{{"subject": [{{"name": "x.iso", "digest": {{"sha256": "{a}"}}}}, {{"name": "y.iso", "digest": {{"sha256": "{b}"}}}}]}}"#
            ),
            format!(
                r#"{{"files": [{{"fileName": "./x.iso", "checksums": [{{"algorithm": "SHA1", "checksumValue": "{}"}}, {{"algorithm": "SHA256", "checksumValue": "{a}"}}]}}]}}"#,
                "0".repeat(40)
            ),
            format!(r#"{{"url": "https://h/x.iso", "integrity": "{sri}"}}"#),
            format!(r#"{{"sha256": "{a}"}}"#),
            format!("\u{feff} [\"{sri}\"]"),
        ] {
            assert_eq!(look(&text, "x.iso").as_ref(), Ok(&is_a), "{text}");
        }
        for text in [
            format!("---\nx.iso:\n  sha256: {a}\ny.iso:\n  sha256: {b}\n"),
            format!(
                "images:\n  - name: y.iso\n    checksum: sha256:{b}\n  - url: https://h/x.iso\n    sha256: {a}\n"
            ),
            format!("x.iso: {a}\ny.iso: {b}\n"),
        ] {
            let names = ["x.iso".to_owned()];
            let wanted = Wanted {
                names: &names,
                path: "/x.iso",
                prefer: Algorithm::Sha256,
                of: "images.yml",
            };
            let found = find(&text, wanted).map(|found| found.digest.to_string());
            assert_eq!(found.as_ref(), Ok(&is_a), "{text}");
        }
    }

    #[test]
    fn what_is_ambiguous_is_refused_with_what_was_found() {
        let (a, b) = ("ab".repeat(32), "cd".repeat(32));
        for (text, expected) in [
            (
                format!("| x.iso | {a} |\n| x.iso | {b} |\n"),
                format!("it has several checksums of x.iso: sha256:{a}, sha256:{b}"),
            ),
            (
                format!("The SHA-256 of x.iso and y.iso is {a}.\n"),
                format!(
                    "no line names x.iso as its only file (first ambiguous line: 'The SHA-256 of x.iso and y.iso is {}",
                    &a[..40]
                ),
            ),
            (
                format!(r#"{{"name": "x.iso", "sha256": "{a}", "digest": "sha256:{b}"}}"#),
                "it has several checksums of x.iso: sha256:".to_owned(),
            ),
            (
                format!(r#"{{"y.iso": {{"sha256": "{a}"}}, "z.iso": {{"sha256": "{b}"}}}}"#),
                "it has no checksum of x.iso (2 of other files: y.iso, z.iso)".to_owned(),
            ),
            (
                format!("## y.iso\n`{a}`\n## z.iso\n`{b}`\n"),
                "it has no checksum of x.iso (2 of other files: y.iso, z.iso)".to_owned(),
            ),
            (
                format!(r#"["sha256:{a}", "sha256:{b}"]"#),
                "it has no checksum of x.iso (2 of other files)".to_owned(),
            ),
            (
                format!(r#"{{"x.iso": {{"md5": "{}"}}}}"#, "0".repeat(32)),
                "its checksums are neither SHA-256, ".to_owned(),
            ),
            ("{}".to_owned(), "it has no checksum".to_owned()),
            // Only the head of a table says that these are not of SHA-512.
            (
                format!(
                    "| File | BLAKE2b |\n|---|---|\n| x.iso | {} |\n",
                    "ef".repeat(64)
                ),
                "its checksums are neither SHA-256, ".to_owned(),
            ),
            (
                format!("<!DOCTYPE html><p>x.iso <code>{a}</code>"),
                "it is an HTML page".to_owned(),
            ),
        ] {
            let error = look(&text, "x.iso").unwrap_err();
            assert!(error.starts_with(&expected), "{text}: {error}");
        }
    }

    #[test]
    fn hostile_texts_end() {
        let a = "ab".repeat(32);
        let aliases: String = (1..30)
            .map(|n| format!("a{n}: &a{n} [{}]\n", format!("*a{},", n - 1).repeat(9)))
            .collect();
        for text in [
            "x.iso ".repeat(1 << 19),
            "|".repeat(1 << 20),
            format!("{}{a}\n", "y.iso.sig z.iso ".repeat(500)).repeat(50),
            format!("{}\n", "a|".repeat(4000)).repeat(5),
            "[".repeat(1 << 20),
            "{\"a\":".repeat(1 << 18),
            "- ".repeat(1 << 19),
            format!("a0: &a0 [{a}]\n{aliases}"),
            format!("## x.iso\n{a}\n").repeat(1 << 12),
        ] {
            for of in ["SHA256SUMS", "sums.yml"] {
                let names = ["x.iso".to_owned()];
                let wanted = Wanted {
                    names: &names,
                    path: "/x.iso",
                    prefer: Algorithm::Sha256,
                    of,
                };
                let _ = find(&text, wanted);
            }
        }
    }

    /// Pieces of which texts are made that nearly have a form.
    fn piece() -> impl Strategy<Value = String> {
        let hex = "ab".repeat(32);
        let fixed = [
            "x.iso",
            "y.iso",
            "|",
            "---",
            "\n",
            " ",
            "\t",
            "`",
            "**",
            "](",
            "# ",
            "- ",
            "* ",
            "sha256",
            "SHA512",
            "md5",
            ": ",
            "=",
            ":",
            "{",
            "}",
            "[",
            "]",
            "\"",
            ",",
            "https://h/x.iso?a#b",
            "sha256-q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=",
            "1axbmfmspaxbmfmspaxbmfmspaxbmfmspaxbmfmspaxbmfmspaxb",
            "name",
            "digest",
            "---\n",
            "é",
            "\u{2028}",
        ];
        let pieces: Vec<String> = fixed
            .iter()
            .map(|text| (*text).to_owned())
            .chain([hex])
            .collect();
        proptest::sample::select(pieces)
    }

    /// One line of each form, and whether its name survives in it.
    fn line() -> impl Strategy<Value = fn(&str, &str) -> String> {
        proptest::sample::select(vec![
            (|hex: &str, name: &str| format!("{hex}  {name}")) as fn(&str, &str) -> String,
            |hex, name| format!("{hex} *{name}"),
            |hex, name| format!("{}\t{name}", hex.to_uppercase()),
            |hex, name| format!("{hex}  ./dir/{name}\r"),
            |hex, name| format!("SHA256 ({name}) = {hex}"),
            |hex, name| format!("SHA2-256({name})= {hex}"),
            |hex, name| format!("{name}: {}", hex.to_uppercase()),
        ])
    }

    proptest! {
        /// In a file of any forms, with or without comments and a signature, each name has its own.
        #[test]
        fn each_name_has_its_own(forms in proptest::collection::vec((line(), any::<[u8; 32]>()), 2..8), signed: bool, comment in "[a-z ]{0,20}") {
            let mut text = String::new();
            if signed {
                text += "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n";
            }
            text += &format!("# {comment} of these five files\n");
            for (at, (form, bytes)) in forms.iter().enumerate() {
                text += &form(&hex::encode(bytes), &format!("nixos {at}.iso"));
                text.push('\n');
            }
            for (at, (_, bytes)) in forms.iter().enumerate() {
                prop_assert_eq!(look(&text, &format!("nixos {at}.iso")), Ok(format!("sha256:{}", hex::encode(bytes))), "{}", text);
            }
            prop_assert!(look(&text, "other.iso").is_err());
        }

        #[test]
        fn nearly_any_form_is_read_or_refused(pieces in proptest::collection::vec(piece(), 0..60), of in "(SHA256SUMS|a\\.json|a\\.yml|b2sums)") {
            let text = pieces.concat();
            let names = ["x.iso".to_owned()];
            let wanted = Wanted { names: &names, path: "/x.iso", prefer: Algorithm::Sha256, of: &of };
            let _ = find(&text, wanted);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(.|\n){0,400}") {
            let _ = look(&text, "x.iso");
        }
    }
}
