//! Checksums: SHA-256, SHA-384 and SHA-512, as people write them and as Proxmox VE compares them.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::digest::{Algorithm as RingAlgorithm, Context, SHA256, SHA384, SHA512};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Error;

/// How a checksum is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// Its name for Proxmox VE.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Bytes of a checksum.
    pub fn bytes(self) -> usize {
        self.ring().output_len()
    }

    fn ring(self) -> &'static RingAlgorithm {
        match self {
            Self::Sha256 => &SHA256,
            Self::Sha384 => &SHA384,
            Self::Sha512 => &SHA512,
        }
    }

    /// By a name such as `sha256`, `SHA-256` or `SHA2-256`.
    pub fn named(text: &str) -> Option<Self> {
        let plain: String = text
            .chars()
            .filter(|c| !matches!(c, '-' | '_' | ' '))
            .collect();
        let plain = plain.to_ascii_lowercase();
        let bits = plain
            .strip_prefix("sha2")
            .filter(|bits| bits.len() == 3)
            .or_else(|| plain.strip_prefix("sha"))?;
        Self::ALL
            .into_iter()
            .find(|algorithm| (algorithm.bytes() * 8).to_string() == bits)
    }

    /// Whether these are the hex digits of such a checksum.
    pub fn fits(self, digits: &str) -> bool {
        digits.len() == 2 * self.bytes() && is_hex(digits)
    }

    /// The algorithm whose checksums have so many hex digits.
    pub fn of_digits(digits: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.fits(digits))
    }
}

/// A checksum. Written as `sha256:HEX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// How it was made.
    pub algorithm: Algorithm,
    /// Lower-case hex digits.
    pub hex: String,
}

impl Digest {
    /// The checksum with these digits, if that is what they are.
    pub fn new(algorithm: Algorithm, digits: &str) -> Option<Self> {
        algorithm.fits(digits).then(|| Self {
            algorithm,
            hex: digits.to_ascii_lowercase(),
        })
    }
}

/// The characters of Nix's base 32, which are in no other base's order.
const NIX32: &[u8] = b"0123456789abcdfghijklmnpqrsvwxyz";

impl Digest {
    /// The checksum in any of its encodings: hex digits, Base64, or Nix's base 32. Their lengths differ.
    pub fn encoded(algorithm: Algorithm, text: &str) -> Option<Self> {
        if text.len() > 2 * algorithm.bytes() {
            return None;
        }
        let bytes = || {
            // The padding gets lost where people copy it by a double click.
            let base64 = STANDARD_NO_PAD.decode(text.trim_end_matches('=')).ok();
            base64.filter(|bytes| bytes.len() == algorithm.bytes())
        };
        Self::new(algorithm, text)
            .or_else(|| Self::nix32(algorithm, text))
            .or_else(|| Self::new(algorithm, &hex::encode(bytes()?)))
    }

    /// The checksum in Nix's base 32, which begins with the last bits.
    pub fn nix32(algorithm: Algorithm, text: &str) -> Option<Self> {
        let mut bytes = vec![0_u8; algorithm.bytes()];
        if text.len() != (8 * bytes.len()).div_ceil(5) {
            return None;
        }
        for (n, c) in text.bytes().rev().enumerate() {
            let digit = NIX32.iter().position(|known| *known == c)?;
            let (at, shift) = (5 * n / 8, 5 * n % 8);
            let bits = u16::try_from(digit).ok()? << shift;
            let [low, high] = bits.to_le_bytes();
            bytes[at] |= low;
            match bytes.get_mut(at + 1) {
                Some(next) => *next |= high,
                None if high > 0 => return None,
                None => {}
            }
        }
        Self::new(algorithm, &hex::encode(bytes))
    }

    /// A checksum that names its algorithm: `ALGORITHM:` and any encoding, or `ALGORITHM-BASE64` (SRI).
    pub fn labelled(text: &str) -> Option<Self> {
        let of = |separator: char| {
            let (name, rest) = text.split_once(separator)?;
            Some((Algorithm::named(name)?, rest.trim_start()))
        };
        if let Some((algorithm, rest)) = of(':') {
            return Self::encoded(algorithm, rest);
        }
        let (algorithm, rest) = of('-')?;
        // Neither hex digits nor base 32 are written so: `sha256-HEX` may be a file's name.
        let is_base64 = rest.trim_end_matches('=').len() == (8 * algorithm.bytes()).div_ceil(6);
        Self::encoded(algorithm, rest).filter(|_| is_base64)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, digits) = text.split_once(':').unwrap_or(("", text));
        Algorithm::named(name)
            .and_then(|algorithm| Self::new(algorithm, digits))
            .ok_or_else(|| format!("'{text}' is not a checksum"))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Whether a text is hex digits, and nothing else.
pub fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a text has as many hex digits as a checksum at least, of whatever algorithm.
pub fn is_checksum(text: &str) -> bool {
    text.len() >= 32 && is_hex(text)
}

/// What the option `checksum` gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChecksumOption {
    /// The checksum itself.
    Digest(Digest),
    /// The address of a file of checksums, and the algorithm to prefer in it.
    Published(Algorithm, String),
}

/// Read the option `checksum`: `ALGORITHM:HEX`, `ALGORITHM-BASE64` or `ALGORITHM:BASE32` as Nix writes it, or `ALGORITHM:URL`.
///
/// # Errors
/// When it has none of these forms.
pub fn parse_option(text: &str) -> Result<ChecksumOption, Error> {
    let trimmed = text.trim();
    let read = |separator: char| {
        let (name, rest) = trimmed.split_once(separator)?;
        Some((Algorithm::named(name)?, rest.trim()))
    };
    if let Some((algorithm, rest)) = read(':') {
        let lower = rest.to_ascii_lowercase();
        if lower.starts_with("https://") || lower.starts_with("http://") {
            return Ok(ChecksumOption::Published(algorithm, rest.to_string()));
        }
    }
    if let Some(digest) = Digest::labelled(trimmed) {
        return Ok(ChecksumOption::Digest(digest));
    }
    // The right form with digits of another length: of another algorithm, or not copied as a whole.
    if let Some((algorithm, digits)) = read(':')
        && !digits.is_empty()
        && is_hex(digits)
    {
        return Err(Error::ChecksumLength {
            algorithm: algorithm.name(),
            digits: 2 * algorithm.bytes(),
            got: digits.len(),
            fitting: Algorithm::of_digits(digits).map(Algorithm::name),
        });
    }
    let shown = crate::address::masked_text(trimmed);
    let lower = trimmed.to_ascii_lowercase();
    let is_address = lower.starts_with("https://") || lower.starts_with("http://");
    // A line of `sha256sum`, and `sha256=HEX`.
    let word = trimmed.split_whitespace().next().unwrap_or_default();
    let word = word.rsplit('=').next().unwrap_or_default();
    let hint = match Algorithm::of_digits(word) {
        Some(algorithm) => format!("write {}:{word}", algorithm.name()),
        None if is_address => format!("write sha256:{shown}, if it is a checksum file"),
        None => "give sha256:HEX, sha384:HEX, sha512:HEX, or sha256:URL of a file of checksums; MD5 and SHA-1 are not accepted"
            .to_string(),
    };
    Err(Error::InvalidChecksum { shown, hint })
}

/// Makes the checksums of several algorithms in one pass.
#[derive(Clone)]
pub struct Hasher(Vec<(Algorithm, Context)>);

impl Hasher {
    /// For SHA-256 and, if they are others, `also`.
    pub fn new(also: impl IntoIterator<Item = Algorithm>) -> Self {
        let mut wanted = vec![Algorithm::Sha256];
        for algorithm in also {
            if !wanted.contains(&algorithm) {
                wanted.push(algorithm);
            }
        }
        Self::of(&wanted)
    }

    /// For these algorithms.
    pub fn of(algorithms: &[Algorithm]) -> Self {
        Self(
            algorithms
                .iter()
                .map(|algorithm| (*algorithm, Context::new(algorithm.ring())))
                .collect(),
        )
    }

    /// Take in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0
            .iter_mut()
            .for_each(|(_, context)| context.update(bytes));
    }

    /// The checksums of all bytes so far.
    pub fn digests(&self) -> Vec<Digest> {
        self.0
            .iter()
            .map(|(algorithm, context)| Digest {
                algorithm: *algorithm,
                hex: hex::encode(context.clone().finish()),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ansible_module::Failure;
    use proptest::prelude::*;

    /// What `nix hash convert --to nix32` says of 32 bytes 0xab.
    const NIX32_OF_AB: &str = "1axbmfmspaxbmfmspaxbmfmspaxbmfmspaxbmfmspaxbmfmspaxb";

    #[test]
    fn nix_base_32_is_read() {
        // The SHA-256 of nothing, as `nix-prefetch-url` writes it.
        let empty = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let read = |text: &str| Digest::nix32(Algorithm::Sha256, text).map(|digest| digest.hex);
        assert_eq!(read(empty).as_deref(), Some(hex));
        for text in [
            // More than 256 bits, a letter that is not used, another length.
            format!("2{}", &empty[1..]),
            format!("e{}", &empty[1..]),
            empty[1..].to_owned(),
            String::new(),
        ] {
            assert_eq!(read(&text), None, "{text}");
        }
    }

    #[test]
    fn checksums_as_people_write_them() {
        let (hex256, hex512) = ("ab".repeat(32), "CD".repeat(64));
        let digest =
            |algorithm, hex: &str| ChecksumOption::Digest(Digest::new(algorithm, hex).unwrap());
        let is_256 = digest(Algorithm::Sha256, &hex256);
        for text in [
            format!("sha256:{hex256}"),
            format!(" SHA256:{} \n", hex256.to_uppercase()),
            format!("sha-256: {hex256}"),
            format!(
                "sha256-{}",
                base64::engine::general_purpose::STANDARD.encode([0xab; 32])
            ),
            format!("sha256-{}", STANDARD_NO_PAD.encode([0xab; 32])),
            format!(
                "sha256:{}",
                base64::engine::general_purpose::STANDARD.encode([0xab; 32])
            ),
            format!("sha256:{NIX32_OF_AB}"),
        ] {
            assert_eq!(parse_option(&text).unwrap(), is_256, "{text}");
        }
        assert_eq!(
            parse_option(&format!("sha512:{hex512}")).unwrap(),
            digest(Algorithm::Sha512, &hex512)
        );
        assert_eq!(
            parse_option("sha256:https://x.example/SHA256SUMS").unwrap(),
            ChecksumOption::Published(Algorithm::Sha256, "https://x.example/SHA256SUMS".into())
        );
        for text in [
            "sha256:ftp://x.example/SHA256SUMS",
            "sha256:abc",
            "md5:0123456789abcdef0123456789abcdef",
            "sha3-256:00",
            "",
            "sha256",
            "sha512:",
        ] {
            assert!(parse_option(text).is_err(), "{text}");
        }
        let refused = |text: &str| Failure::from(parse_option(text).unwrap_err());
        let short = refused(&format!("sha512:{hex256}"));
        assert_eq!(short.msg, "checksum: sha512: needs 128 hex digits (got 64)");
        assert!(short.hint.unwrap().contains("sha256:"));
        let bare = refused(&hex256);
        assert_eq!(bare.hint.unwrap(), format!("write sha256:{hex256}"));
        for (text, hint) in [
            (format!("{hex256}  x.iso"), format!("write sha256:{hex256}")),
            (format!("sha256={hex256}"), format!("write sha256:{hex256}")),
            (
                "https://me:pass-word@x.example/SHA256SUMS".to_owned(),
                "write sha256:https://".to_owned(),
            ),
        ] {
            let found = refused(&text).hint.unwrap();
            assert!(
                found.starts_with(&hint) && !found.contains("pass-word"),
                "{found}"
            );
        }
        let secret = refused("sha256:ftp://me:pass-word@x.example/y?sig=abc");
        assert!(!secret.msg.contains("pass-word") && !secret.msg.contains("sig="));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let _ = parse_option(&text);
        }

        #[test]
        fn what_is_written_is_read_again(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut hasher = Hasher::of(&Algorithm::ALL);
            hasher.update(&bytes);
            for digest in hasher.digests() {
                prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest.clone()));
                prop_assert_eq!(parse_option(&digest.to_string()).unwrap(), ChecksumOption::Digest(digest));
            }
        }
    }
}
