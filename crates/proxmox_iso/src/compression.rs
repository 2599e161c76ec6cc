//! How files are compressed, and how that shows.

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// gzip.
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// The program's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }

    /// By the first bytes of a file.
    pub fn of_bytes(head: &[u8]) -> Option<Self> {
        match head {
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            [
                b'B',
                b'Z',
                b'h',
                b'1'..=b'9',
                0x31,
                0x41,
                0x59,
                0x26,
                0x53,
                0x59,
                ..,
            ]
            | [
                b'B',
                b'Z',
                b'h',
                b'1'..=b'9',
                0x17,
                0x72,
                0x45,
                0x38,
                0x50,
                0x90,
                ..,
            ] => Some(Self::Bzip2),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            _ => None,
        }
    }

    /// By the end of a name, which is taken off.
    pub fn of_name(name: &str) -> (&str, Option<Self>) {
        for (ending, compression) in [
            (".gz", Self::Gzip),
            (".gzip", Self::Gzip),
            (".bz2", Self::Bzip2),
            (".bzip2", Self::Bzip2),
            (".xz", Self::Xz),
            (".zst", Self::Zstd),
            (".zstd", Self::Zstd),
        ] {
            let at = name.len().saturating_sub(ending.len());
            if name.is_char_boundary(at) && name[at..].eq_ignore_ascii_case(ending) {
                return (&name[..at], Some(compression));
            }
        }
        (name, None)
    }
}
