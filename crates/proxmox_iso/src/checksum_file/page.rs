//! Checksums in the lines of a page: Markdown's tables and lists, and lines with words around a checksum. A line counts only if it
//! names one file at most.

use super::entry::{AlgorithmHint, Entry, algorithm_hint};
use crate::checksum::{Algorithm, Digest, is_checksum};

/// The endings of the names that lie beside checksums. Others, such as `nixos.org`, are no files.
const ENDINGS: &[&str] = &[
    "iso",
    "img",
    "raw",
    "qcow2",
    "vmdk",
    "vdi",
    "vhd",
    "vhdx",
    "vma",
    "efi",
    "xz",
    "gz",
    "zst",
    "bz2",
    "lz4",
    "lzma",
    "zip",
    "tar",
    "tgz",
    "7z",
    "txt",
    "sig",
    "asc",
    "minisig",
    "sha256",
    "sha384",
    "sha512",
    "sha256sum",
    "sha512sum",
    "md5",
    "torrent",
    "zsync",
    "json",
    "squashfs",
    "box",
    "ova",
    "deb",
    "rpm",
    "exe",
    "dmg",
    "msi",
    "bin",
];

/// Longer lines are not written by people.
const MOST_LINE: usize = 8192;
/// More files in a line are not looked at: it is clear of none.
const MOST_FILES: usize = 32;

/// The file that a word names, without its directory or address.
pub fn file_in<'a>(word: &'a str, wanted: &[String]) -> Option<&'a str> {
    let path = word.split(['?', '#']).next().unwrap_or(word);
    let base = path.rsplit(['/', '\\']).next().unwrap_or(path);
    let is_wanted = wanted.iter().any(|name| name == base);
    let ending = base.rsplit_once('.').map(|(_, ending)| ending);
    let is_known = ending.is_some_and(|ending| {
        ENDINGS
            .iter()
            .any(|known| known.eq_ignore_ascii_case(ending))
    });
    (is_wanted || is_known).then_some(base)
}

/// What a line holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PageLine {
    /// Its checksums.
    pub entries: Vec<Entry>,
    /// How many of its checksums are of other algorithms.
    pub others: usize,
    /// Whether it has a checksum of which it cannot be told what it is of.
    pub is_ambiguous: bool,
}

impl PageLine {
    /// Whether the line has no checksum.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The kinds of the columns of the table that a line is in.
pub type Columns = Vec<Option<AlgorithmHint>>;

/// What the lines above say of a line.
#[derive(Debug, Clone, Default)]
pub struct PagePosition {
    /// The file that the last heading names.
    pub file: Option<String>,
    /// The columns of the table, if it is in one.
    pub columns: Option<Columns>,
}

impl PagePosition {
    /// Read a line that is not in the form of any tool.
    pub fn read(&mut self, line: &str, section: AlgorithmHint, wanted: &[String]) -> PageLine {
        if line.len() > MOST_LINE {
            return PageLine::default();
        }
        let words: Vec<(usize, &str)> = words(line).collect();
        let mut label = None;
        let mut found = Vec::new();
        let mut held = PageLine::default();
        for (column, word) in &words {
            let of_column = self
                .columns
                .as_ref()
                .and_then(|columns| columns.get(*column));
            let known = label.or(of_column.copied().flatten()).unwrap_or(section);
            match checksum(word, known, words.len() <= 2) {
                Some(Ok(digest)) => found.push(digest),
                Some(Err(Unusable)) => held.others += 1,
                None if file_in(word, wanted).is_none() => label = algorithm_hint(word).or(label),
                None => {}
            }
        }
        let files = files(&words, wanted);
        if found.is_empty() {
            if held.others == 0 {
                self.follow(line, &words, &files);
            }
            return held;
        }
        let of = match files.as_slice() {
            [] => self.file.clone().unwrap_or_default(),
            [one] => (*one).to_owned(),
            _ => {
                held.is_ambiguous = true;
                return held;
            }
        };
        let entry = |digest| Entry {
            digest,
            file: of.clone(),
        };
        held.entries = found.into_iter().map(entry).collect();
        held
    }

    /// Whether the lines below are of the file of this line: a heading, `File: NAME`, an item of a list, bold text.
    fn follow(&mut self, line: &str, words: &[(usize, &str)], files: &[&str]) {
        let is_heading = line.starts_with('#');
        let is_label = |word: &str| {
            let word = word.to_ascii_lowercase();
            ["name", "file", "filename", "image", "download", "url"].contains(&word.as_str())
        };
        let labels = words.iter().filter(|(_, word)| is_label(word)).count();
        let marked = labels > 0 || line.ends_with(':') || line.starts_with(['*', '+', '`', '[']);
        let mut named: Vec<&str> = words.iter().map(|(_, word)| *word).collect();
        named.retain(|word| !is_label(word) && !word.contains("://"));
        let alone = marked && named.len() <= 1;
        match files {
            [one] if is_heading || alone => self.file = Some((*one).to_owned()),
            // A heading such as `SHA256` is one within the part of a file.
            _ if is_heading && !words.iter().any(|(_, word)| algorithm_hint(word).is_some()) => {
                self.file = None;
            }
            _ => {}
        }
    }
}

/// The kinds of the columns, if the second line is that below the head of a table.
pub fn columns(head: &str, below: &str) -> Option<Columns> {
    let is_rule = below.contains('|') && below.contains("--");
    let is_rule = is_rule && below.chars().all(|c| "|-: \t".contains(c));
    let algorithm = |cell: &str| words(cell).find_map(|(_, word)| algorithm_hint(word));
    is_rule.then(|| cells(head).map(algorithm).collect())
}

/// A checksum that is not of SHA-2, or not whole.
struct Unusable;

/// The checksum that a word is. `alone` says whether the line has no words but it and perhaps a name.
fn checksum(word: &str, section: AlgorithmHint, alone: bool) -> Option<Result<Digest, Unusable>> {
    if let Some(digest) = Digest::labelled(word) {
        return Some(Ok(digest));
    }
    if let AlgorithmHint::Of(algorithm) = section
        && let Some(digest) = Digest::encoded(algorithm, word)
    {
        return Some(Ok(digest));
    }
    if is_checksum(word) {
        let digest = Algorithm::of_digits(word).filter(|_| section != AlgorithmHint::Other);
        let digest = digest.and_then(|algorithm| Digest::new(algorithm, word));
        return Some(digest.ok_or(Unusable));
    }
    let nix32 = || Digest::nix32(Algorithm::Sha256, word);
    (alone && section != AlgorithmHint::Other)
        .then(nix32)
        .flatten()
        .map(Ok)
}

/// The files that a line names. One that is only a signature or the like of another does not count.
fn files<'a>(words: &[(usize, &'a str)], wanted: &[String]) -> Vec<&'a str> {
    let named = words.iter();
    let mut named: Vec<&str> = named
        .filter_map(|(_, word)| file_in(word, wanted))
        .collect();
    named.sort_unstable();
    named.dedup();
    if named.len() > MOST_FILES {
        return named;
    }
    let all = named.clone();
    let is_beside = |name: &str| {
        let mut others = all.iter();
        others.any(|other| {
            name.strip_prefix(other)
                .is_some_and(|rest| rest.starts_with('.'))
        })
    };
    named.retain(|name| !is_beside(name));
    named
}

fn cells(line: &str) -> impl Iterator<Item = &str> {
    line.trim().trim_start_matches('|').split('|')
}

/// The words of a line, each with the column that it is in, without what Markdown and the like put around them.
fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let separators = |c: char| c.is_whitespace() || "`\"'<>()[]{},;".contains(c);
    let parts = cells(line).enumerate().flat_map(move |(column, cell)| {
        let words = cell.split(separators);
        let words = words.flat_map(|word| {
            // `sha256=HEX`, but not the padding of Base64.
            let (first, second) = match word.split_once('=') {
                Some((first, second)) if !second.trim_matches('=').is_empty() => (first, second),
                _ => (word, ""),
            };
            [first, second]
        });
        words.map(move |word| (column, word))
    });
    let parts = parts.map(|(column, word)| {
        let word = word.trim_start_matches(['*', '_', '#']);
        (column, word.trim_end_matches(['*', ':', '.']))
    });
    parts.filter(|(_, word)| word.chars().any(char::is_alphanumeric))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_from_other_words() {
        let wanted = ["nixos".to_owned()];
        for (word, expected) in [
            ("x.iso", Some("x.iso")),
            ("https://h.example/a/x.iso?raw=1#top", Some("x.iso")),
            ("X.ISO", Some("X.ISO")),
            ("images/nixos", Some("nixos")),
            ("nixos.org", None),
            ("25.05.812345", None),
            ("iso", None),
        ] {
            assert_eq!(file_in(word, &wanted), expected, "{word}");
        }
    }

    #[test]
    fn words_have_nothing_around_them() {
        let line = "| **[x.iso](https://h/x.iso)** | sha256=`ab` | sha256-q6s= |";
        let words: Vec<(usize, &str)> = words(line).collect();
        assert_eq!(
            words,
            [
                (0, "x.iso"),
                (0, "https://h/x.iso"),
                (1, "sha256="),
                (1, "ab"),
                (2, "sha256-q6s=")
            ]
        );
    }
}
