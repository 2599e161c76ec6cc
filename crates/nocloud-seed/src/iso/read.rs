//! The reader: follows what an image says, and believes none of it.

use std::collections::{BTreeMap, BTreeSet};

use super::format::{
    FIRST_DESCRIPTOR, FLAG_DIRECTORY, FLAG_MULTI_EXTENT, JOLIET_ESCAPES, SECTOR, STANDARD_ID,
};

/// Deepest directory that is looked into; ISO 9660 allows eight, Rock Ridge more.
const DEEPEST: usize = 32;

/// The bytes are no ISO 9660 image, or one too damaged to list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a readable ISO 9660 image: {0}")]
pub struct NotAnIso(&'static str);

/// The volume label of an image, as its primary volume descriptor has it
/// without the padding. Only the first 34 KiB are looked at, so the beginning
/// of a large image is enough.
///
/// # Errors
/// [`NotAnIso`] when there is no primary volume descriptor.
pub fn label(image: &[u8]) -> Result<String, NotAnIso> {
    let primary = slice(image, FIRST_DESCRIPTOR * SECTOR, SECTOR)?;
    if primary[0] != 1 || &primary[1..6] != STANDARD_ID {
        return Err(NotAnIso("no primary volume descriptor"));
    }
    let label = String::from_utf8_lossy(&primary[40..72]);
    Ok(label.trim_end_matches([' ', '\0']).to_owned())
}

/// All files of an image, by path (`user-data`, `openstack/latest/user_data`).
///
/// Names are the Rock Ridge ones when the image has them, else the Joliet ones,
/// else the ISO 9660 identifiers in lower case without their version. Symbolic
/// links and device files are left out.
///
/// # Errors
/// [`NotAnIso`] when a descriptor, a directory or a file's extent lies outside
/// of the image, or directories form a loop.
pub fn read(image: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, NotAnIso> {
    label(image)?;
    let primary = slice(image, FIRST_DESCRIPTOR * SECTOR, SECTOR)?;
    let root = Record::parse(&primary[156..190]).ok_or(NotAnIso("no root directory"))?;
    let mut reader = Reader {
        image,
        names: Names::Plain,
        seen: BTreeSet::new(),
        budget: image.len(),
        files: BTreeMap::new(),
    };
    if let Some(skip) = reader.rock_ridge(&root)? {
        reader.names = Names::RockRidge { skip };
        reader.directory(&root, "", 0)?;
    } else if let Some(joliet) = joliet_root(image) {
        reader.names = Names::Joliet;
        reader.directory(&joliet, "", 0)?;
    } else {
        reader.directory(&root, "", 0)?;
    }
    Ok(reader.files)
}

/// `length` bytes of the image from `start`.
fn slice(image: &[u8], start: usize, length: usize) -> Result<&[u8], NotAnIso> {
    let end = start
        .checked_add(length)
        .ok_or(NotAnIso("an extent beyond the end"))?;
    image
        .get(start..end)
        .ok_or(NotAnIso("an extent beyond the end"))
}

/// The root of the Joliet tree, if a supplementary descriptor says there is one.
fn joliet_root(image: &[u8]) -> Option<Record<'_>> {
    for sector in FIRST_DESCRIPTOR + 1.. {
        let descriptor = slice(image, sector * SECTOR, SECTOR).ok()?;
        if &descriptor[1..6] != STANDARD_ID || descriptor[0] == 255 {
            return None;
        }
        if descriptor[0] == 2
            && JOLIET_ESCAPES
                .iter()
                .any(|e| descriptor[88..].starts_with(*e))
        {
            return Record::parse(&descriptor[156..190]);
        }
    }
    None
}

/// Where names are taken from.
#[derive(Clone, Copy)]
enum Names {
    /// Rock Ridge, with so many bytes to skip at the start of each system use
    /// area (SUSP 5.3, LEN_SKP).
    RockRidge {
        skip: usize,
    },
    Joliet,
    Plain,
}

/// A directory record (ECMA-119 9.1), its parts checked to lie within it.
struct Record<'a> {
    start: usize,
    length: usize,
    flags: u8,
    identifier: &'a [u8],
    system_use: &'a [u8],
}

impl<'a> Record<'a> {
    /// Parses a record that fills `bytes` exactly.
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() < 34 {
            return None;
        }
        let name_length = bytes[32] as usize;
        let identifier = bytes.get(33..33 + name_length)?;
        // A padding byte follows an identifier of even length.
        let system_use = bytes
            .get(33 + name_length + (1 - name_length % 2)..)
            .unwrap_or(&[]);
        Some(Record {
            start: le32(&bytes[2..]) * SECTOR + bytes[1] as usize * SECTOR,
            length: le32(&bytes[10..]),
            flags: bytes[25],
            identifier,
            system_use,
        })
    }

    fn is_directory(&self) -> bool {
        self.flags & FLAG_DIRECTORY != 0
    }

    /// The records for the directory itself and its parent.
    fn is_dot(&self) -> bool {
        matches!(self.identifier, [0] | [1])
    }
}

struct Reader<'a> {
    image: &'a [u8],
    names: Names,
    /// Starts of the directories visited, against loops.
    seen: BTreeSet<usize>,
    /// Bytes that may still be copied: an honest image holds no more than its
    /// own size, a crafted one could name the same extent over and over.
    budget: usize,
    files: BTreeMap<String, Vec<u8>>,
}

impl<'a> Reader<'a> {
    /// The records of a directory's extent; they never cross a sector's end.
    fn records(&self, dir: &Record) -> Result<Vec<Record<'a>>, NotAnIso> {
        let mut records = Vec::new();
        for sector in slice(self.image, dir.start, dir.length)?.chunks(SECTOR) {
            let mut rest = sector;
            while let Some(&length) = rest.first()
                && length != 0
            {
                let (bytes, after) = rest
                    .split_at_checked(length as usize)
                    .ok_or(NotAnIso("a directory record beyond its sector"))?;
                records.push(Record::parse(bytes).ok_or(NotAnIso("a broken directory record"))?);
                rest = after;
            }
        }
        Ok(records)
    }

    /// Whether the tree has Rock Ridge entries: the root's own record begins
    /// with `SP` (SUSP 5.3), and some record has a Rock Ridge name.
    fn rock_ridge(&self, root: &Record) -> Result<Option<usize>, NotAnIso> {
        let records = self.records(root)?;
        let Some(own) = records.first() else {
            return Ok(None);
        };
        if !(own.system_use.starts_with(b"SP\x07\x01\xBE\xEF")) {
            return Ok(None);
        }
        let skip = own.system_use.get(6).copied().unwrap_or(0) as usize;
        let mut named = records.iter().filter(|r| !r.is_dot());
        // An empty directory has no names of any kind.
        Ok(named
            .all(|r| self.rock_ridge_name(r, skip).is_some())
            .then_some(skip))
    }

    /// The name in a record's `NM` entries (RRIP 4.1.4), following continuation
    /// areas (`CE`, SUSP 5.1).
    fn rock_ridge_name(&self, record: &Record<'a>, skip: usize) -> Option<String> {
        let mut name = Vec::new();
        let mut found = false;
        let mut area = record.system_use.get(skip..)?;
        // Each continuation is one sector at most; more than a few are a loop.
        for _ in 0..DEEPEST {
            let mut next = None;
            while area.len() >= 4 && area[2] >= 4 && area[2] as usize <= area.len() {
                let (entry, rest) = area.split_at(area[2] as usize);
                match &entry[..2] {
                    b"NM" if entry.len() >= 5 => {
                        found = true;
                        name.extend_from_slice(&entry[5..]);
                    }
                    b"CE" if entry.len() >= 28 => {
                        let start = le32(&entry[4..]) * SECTOR + le32(&entry[12..]);
                        next = slice(self.image, start, le32(&entry[20..])).ok();
                    }
                    b"ST" => break,
                    _ => {}
                }
                area = rest;
            }
            match next {
                Some(continuation) => area = continuation,
                None => break,
            }
        }
        found.then(|| String::from_utf8_lossy(&name).into_owned())
    }

    /// Whether a record is a regular file as far as Rock Ridge's `PX` says
    /// (links and devices are not).
    fn is_regular(&self, record: &Record) -> bool {
        let Names::RockRidge { skip } = self.names else {
            return true;
        };
        let mut area = record.system_use.get(skip..).unwrap_or(&[]);
        while area.len() >= 4 && area[2] >= 4 && area[2] as usize <= area.len() {
            let (entry, rest) = area.split_at(area[2] as usize);
            if entry.starts_with(b"PX") && entry.len() >= 12 {
                return le32(&entry[4..]) & 0o170_000 == 0o100_000;
            }
            area = rest;
        }
        true
    }

    fn name(&self, record: &Record<'a>) -> String {
        let plain = |text: &str| {
            let bare = text.split_once(';').map_or(text, |(name, _version)| name);
            bare.strip_suffix('.').unwrap_or(bare).to_owned()
        };
        match self.names {
            Names::RockRidge { skip } => self
                .rock_ridge_name(record, skip)
                .unwrap_or_else(|| plain(&String::from_utf8_lossy(record.identifier))),
            Names::Joliet => {
                let units = record.identifier.chunks_exact(2);
                let units: Vec<u16> = units.map(|c| u16::from_be_bytes([c[0], c[1]])).collect();
                let name = String::from_utf16_lossy(&units);
                name.strip_suffix(";1").unwrap_or(&name).to_owned()
            }
            Names::Plain => plain(&String::from_utf8_lossy(record.identifier)).to_lowercase(),
        }
    }

    fn directory(&mut self, dir: &Record, prefix: &str, depth: usize) -> Result<(), NotAnIso> {
        if depth > DEEPEST || !self.seen.insert(dir.start) {
            return Err(NotAnIso("directories in a loop"));
        }
        // A file of several extents has several records in a row.
        let mut gathered: Vec<u8> = Vec::new();
        for record in self.records(dir)? {
            if record.is_dot() {
                continue;
            }
            let path = format!("{prefix}{}", self.name(&record));
            if record.is_directory() {
                self.directory(&record, &format!("{path}/"), depth + 1)?;
                continue;
            }
            if !self.is_regular(&record) {
                continue;
            }
            self.budget = self
                .budget
                .checked_sub(record.length)
                .ok_or(NotAnIso("files that share their content too often"))?;
            if record.length > 0 {
                gathered.extend_from_slice(slice(self.image, record.start, record.length)?);
            }
            if record.flags & FLAG_MULTI_EXTENT == 0 {
                self.files.insert(path, std::mem::take(&mut gathered));
            }
        }
        Ok(())
    }
}

/// The little-endian half of a number written in both byte orders.
fn le32(bytes: &[u8]) -> usize {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize
}
