//! Files of checksums as they are published: by `sha256sum` and its kin (GNU), `shasum --tag`, BSD's
//! `sha256`, `openssl dgst` and `gpg --print-md`, with one bare checksum, with comments, and signed
//! in clear text (the signature is not verified); in Markdown; in JSON and YAML; as Nix writes them.

mod document;
mod entry;
mod lines;
mod page;

use std::collections::BTreeSet;

use entry::{AlgorithmHint, Entry, base};
use lines::{Line, parse};
use page::{PagePosition, columns};

use crate::checksum::{Algorithm, Digest};

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
    if let Some(tree) = document::read(text, wanted.of, wanted.names) {
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
    let mut position = PagePosition::default();
    // The algorithm of the lines below a comment such as `# SHA512 HASH`.
    let mut section = AlgorithmHint::of_file(wanted.of);
    let (mut signed_head, mut signature) = (false, false);
    let lines: Vec<String> = lines::joined(&text);
    for (at, line) in lines.iter().map(|line| line.trim()).enumerate() {
        let below = lines.get(at + 1).map_or("", |line| line.trim());
        match columns(line, below) {
            Some(columns) => position.columns = Some(columns),
            None if !line.contains('|') => position.columns = None,
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
                    section = AlgorithmHint::of_comment(comment, section);
                    if line.starts_with('#') && loose {
                        position.read(line, section, wanted.names);
                    }
                    continue;
                }
                let parsed = parse(line, section);
                let is_of_image = matches!(&parsed, Some(Line::Entry(entry)) if wanted.names.iter().any(|name| base(&entry.file) == name));
                // What tools write has neither bullets nor Markdown around it.
                let page_line = (loose && is_page(line) && !is_of_image)
                    .then(|| position.read(line, section, wanted.names));
                let page_line = page_line.filter(|line| !line.is_empty());
                match parsed.filter(|_| page_line.is_none()) {
                    Some(Line::Entry(mut entry)) => {
                        if entry.file.is_empty() {
                            entry.file = position.file.clone().unwrap_or_default();
                        }
                        found.push(entry);
                    }
                    Some(Line::Other) => others += 1,
                    None if loose => {
                        let page_line =
                            page_line.unwrap_or_else(|| position.read(line, section, wanted.names));
                        found.extend(page_line.entries);
                        others += page_line.others;
                        if page_line.is_ambiguous {
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

#[cfg(test)]
mod tests;
