//! One checksum of a file of checksums, and what words say of its algorithm.

use crate::checksum::{Algorithm, Digest};

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

/// The last part of a path.
pub fn base(file: &str) -> &str {
    file.rsplit(['/', '\\']).next().unwrap_or(file)
}

/// The algorithm of checksums, as what is around them says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlgorithmHint {
    /// Digits alone say which algorithm.
    Any,
    /// This one.
    Of(Algorithm),
    /// One that is not of SHA-2.
    Other,
}

impl AlgorithmHint {
    /// What the name of a file of checksums says, where digits alone do not.
    pub fn of_file(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let others = ["b2sum", "blake2", "b3sum", "blake3", "sha3sum", "sha3-"];
        let known = ["sha256", "sha384", "sha512"];
        let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
        match has(&others) && !has(&known) {
            true => Self::Other,
            false => Self::Any,
        }
    }

    pub fn of_comment(comment: &str, before: Self) -> Self {
        let words: Vec<String> = comment
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'))
            .map(str::to_ascii_lowercase)
            .filter(|word| !word.is_empty())
            .collect();
        // A heading is short; other comments say what they like.
        if words.len() > 3 {
            return before;
        }
        let name = words.iter().find_map(|word| algorithm_hint(word));
        name.unwrap_or(before)
    }
}

/// The algorithm that a word names.
pub fn algorithm_hint(word: &str) -> Option<AlgorithmHint> {
    let plain: String = word.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let plain = plain.to_ascii_lowercase();
    let plain = plain
        .strip_suffix("sums")
        .or(plain.strip_suffix("sum"))
        .unwrap_or(&plain);
    if let Some(algorithm) = Algorithm::named(word).or_else(|| Algorithm::named(plain)) {
        return Some(AlgorithmHint::Of(algorithm));
    }
    OTHERS
        .iter()
        .any(|other| plain.starts_with(other))
        .then_some(AlgorithmHint::Other)
}
