//! Checksums in JSON and YAML: releases of GitHub, indexes of images, hashes of Nix, attestations.

use serde_json::{Map, Value};

use super::entry::{AlgorithmHint, Entry, algorithm_hint};
use super::page::file_in;
use crate::checksum::{Algorithm, Digest, is_checksum};

/// Longer YAML is not read as such: aliases make it larger than it looks.
const MOST_YAML: usize = 1 << 20;

/// YAML with more brackets open at once is not read as such: the time for it grows with their square.
const MOST_OPEN: usize = 100;

/// Keys of the name of a file.
const NAMES: &[&str] = &["name", "file", "filename", "path"];
/// Keys of its address, which are looked at if there is no name.
const ADDRESSES: &[&str] = &[
    "browserdownloadurl",
    "url",
    "downloadurl",
    "location",
    "href",
    "link",
    "src",
    "source",
    "uri",
    "iso",
    "image",
    "artifact",
];
/// Keys of the name of an algorithm.
const ALGORITHMS: &[&str] = &[
    "algorithm",
    "alg",
    "algo",
    "type",
    "hashalgorithm",
    "hashtype",
    "checksumtype",
];
/// Keys of a checksum that do not name its algorithm.
const CHECKSUMS: &[&str] = &[
    "digest",
    "checksum",
    "checksumvalue",
    "hash",
    "hex",
    "value",
    "content",
    "sum",
    "sri",
    "integrity",
    "narhash",
    "outputhash",
];

/// What a document says.
#[derive(Debug, Default)]
pub struct Tree {
    /// Its checksums.
    pub entries: Vec<Entry>,
    /// How many of its checksums are of other algorithms.
    pub others: usize,
}

/// The checksums of a JSON or YAML document, if the text is one. `name` is that of its file.
pub fn read(text: &str, name: &str, wanted: &[String]) -> Option<Tree> {
    let value = document(text, name)?;
    let mut walk = Walk {
        wanted,
        tree: Tree::default(),
    };
    walk.value(&value, &Surroundings::default());
    Some(walk.tree)
}

fn document(text: &str, name: &str) -> Option<Value> {
    let text = text.trim_start_matches('\u{feff}');
    let start = text.trim_start();
    let value = if start.starts_with(['{', '[']) {
        serde_json::from_str(start).ok()
    } else {
        None
    };
    let name = name.to_ascii_lowercase();
    let is_named = name
        .split_whitespace()
        .any(|name| name.ends_with(".yml") || name.ends_with(".yaml"));
    let is_yaml = is_named || start.starts_with("---\n") || start.starts_with("---\r\n");
    let value = match value {
        None if is_yaml && text.len() <= MOST_YAML && !is_deep(text) => {
            serde_yaml_ng::from_str(text).ok()
        }
        value => value,
    };
    value.filter(|value: &Value| value.is_object() || value.is_array())
}

/// Whether more brackets are open at once than in any index.
fn is_deep(text: &str) -> bool {
    let mut open: usize = 0;
    text.bytes().any(|byte| {
        open = match byte {
            b'[' | b'{' => open + 1,
            b']' | b'}' => open.saturating_sub(1),
            _ => open,
        };
        open > MOST_OPEN
    })
}

/// What the keys around a value say of it.
#[derive(Debug, Clone, Default)]
struct Surroundings {
    files: Vec<String>,
    algorithm: Option<AlgorithmHint>,
    /// Whether its key says that it is a checksum.
    is_checksum: bool,
}

struct Walk<'a> {
    wanted: &'a [String],
    tree: Tree,
}

impl Walk<'_> {
    fn value(&mut self, value: &Value, of: &Surroundings) {
        match value {
            Value::Object(map) => self.object(map, of),
            Value::Array(items) => items.iter().for_each(|item| self.value(item, of)),
            Value::String(text) => self.text(text.trim(), of),
            _ => {}
        }
    }

    fn object(&mut self, map: &Map<String, Value>, around: &Surroundings) {
        let text = |keys: &'static [&'static str]| {
            let pairs = map.iter();
            pairs.filter_map(move |(key, value)| {
                keys.contains(&plain(key).as_str())
                    .then(|| value.as_str())?
            })
        };
        let files = |keys| -> Vec<String> {
            let files = text(keys).filter(|name| file_in(name, self.wanted).is_some());
            files.map(str::to_owned).collect()
        };
        let mut own = files(NAMES);
        if own.is_empty() {
            own = files(ADDRESSES);
        }
        let algorithm = text(ALGORITHMS).find_map(algorithm_hint);
        for (key, value) in map {
            let mut of = Surroundings {
                files: around.files.clone(),
                algorithm: algorithm.or(around.algorithm),
                is_checksum: false,
            };
            if file_in(key, self.wanted).is_some() {
                of.files = vec![key.clone()];
                // `"x.iso": "HEX"`.
                of.is_checksum = true;
            } else if !own.is_empty() {
                of.files.clone_from(&own);
            }
            if let Some(named) = algorithm_hint(key) {
                of.algorithm = Some(named);
                of.is_checksum = true;
            } else if CHECKSUMS.contains(&plain(key).as_str()) {
                of.is_checksum = true;
            }
            self.value(value, &of);
        }
    }

    fn text(&mut self, text: &str, of: &Surroundings) {
        let digest = match (Digest::labelled(text), of.algorithm) {
            (Some(digest), _) => digest,
            (None, _) if !of.is_checksum => return,
            (None, Some(AlgorithmHint::Of(algorithm))) => match Digest::encoded(algorithm, text) {
                Some(digest) => digest,
                None => return,
            },
            (None, Some(AlgorithmHint::Other)) => {
                self.tree.others += 1;
                return;
            }
            (None, _) => {
                let label = text
                    .split_once([':', '-'])
                    .and_then(|(name, _)| algorithm_hint(name));
                let digest = Algorithm::of_digits(text).and_then(|it| Digest::new(it, text));
                match digest {
                    Some(digest) => digest,
                    None => {
                        self.tree.others +=
                            usize::from(is_checksum(text) || label == Some(AlgorithmHint::Other));
                        return;
                    }
                }
            }
        };
        let entry = |file: &str| Entry {
            digest: digest.clone(),
            file: file.to_owned(),
        };
        match of.files.as_slice() {
            [] => self.tree.entries.push(entry("")),
            files => self
                .tree
                .entries
                .extend(files.iter().map(|file| entry(file))),
        }
    }
}

fn plain(key: &str) -> String {
    let letters = key.chars().filter(char::is_ascii_alphanumeric);
    letters.map(|c| c.to_ascii_lowercase()).collect()
}
