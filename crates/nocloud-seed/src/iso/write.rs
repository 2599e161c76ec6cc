//! The writer: one pass to lay the image out, one to fill it in.

use std::collections::{BTreeMap, VecDeque};

use super::format::{FIRST_DESCRIPTOR, FLAG_DIRECTORY, JOLIET_ESCAPES, SECTOR, STANDARD_ID};

/// Every date in an image is this one, so that equal files make equal bytes:
/// 1 January 2000, 00:00:00 UTC (ECMA-119 9.1.5).
const RECORD_DATE: [u8; 7] = [100, 1, 1, 0, 0, 0, 0];

/// The same instant as volume descriptors write it (ECMA-119 8.4.26.1).
const VOLUME_DATE: &[u8; 17] = b"2000010100000000\0";

/// "No date" in a volume descriptor.
const NO_DATE: &[u8; 17] = b"0000000000000000\0";

/// Longest name of a file or directory, in characters (Joliet's limit).
const LONGEST_NAME: usize = 64;

/// Longest label, in characters (Joliet holds 32 bytes of UCS-2).
const LONGEST_LABEL: usize = 16;

/// Deepest directory (ECMA-119 6.8.2.1).
const DEEPEST: usize = 8;

/// Writes an image with the given volume label and files.
///
/// `files` maps a path (`user-data`, `openstack/latest/user_data`) to its
/// content; directories are made as needed. The same input always gives the
/// same bytes. Files show as owned by root and readable by root only (0400),
/// because cloud-init data often holds keys. The image's length is a multiple
/// of 2048 bytes.
///
/// # Panics
/// The names are the caller's own, never a user's, so a wrong one is a bug and
/// panics: a label that is empty, longer than 16 characters or not printable
/// ASCII; an empty path component, `.`, `..`, one of more than 64 characters or
/// with anything but printable ASCII, or with one of `*/:;?\`; more than seven
/// directories in each other; a path that is a file and a directory at once;
/// content of 4 GiB or more.
pub fn write(label: &str, files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    assert!(
        !label.is_empty()
            && label.len() <= LONGEST_LABEL
            && label.bytes().all(|b| (b' '..=b'~').contains(&b)),
        "{label:?} is not a usable volume label"
    );
    let paths: Vec<&str> = files.keys().map(String::as_str).collect();
    let contents: Vec<&[u8]> = files.values().map(Vec::as_slice).collect();
    let root = nest(&paths);
    let primary = Tree::new(&root, Naming::Primary);
    let joliet = Tree::new(&root, Naming::Joliet);

    // Lay out: descriptors, path tables, directories, files.
    let mut next = FIRST_DESCRIPTOR + 3;
    let mut place = |length: usize| {
        let at = Extent {
            sector: u32::try_from(next).expect("an image of less than 8 TiB"),
            length: u32::try_from(length).expect("a file of less than 4 GiB"),
        };
        next += length.div_ceil(SECTOR);
        at
    };
    let mut tables = |tree: &Tree| {
        let length = tree
            .path_table(&[], u32::to_le_bytes, u16::to_le_bytes)
            .len();
        [place(length), place(length)]
    };
    let (primary_tables, joliet_tables) = (tables(&primary), tables(&joliet));
    let mut directories = |tree: &Tree| -> Vec<Extent> {
        (0..tree.dirs.len())
            .map(|dir| place(tree.directory(dir, &[], &[]).len()))
            .collect()
    };
    let (primary_dirs, joliet_dirs) = (directories(&primary), directories(&joliet));
    let places: Vec<Extent> = contents.iter().map(|data| place(data.len())).collect();
    let sectors = u32::try_from(next).expect("an image of less than 8 TiB");

    // Fill in.
    let mut image = vec![0; next * SECTOR];
    let mut put = |at: u32, data: &[u8]| {
        let start = at as usize * SECTOR;
        image[start..start + data.len()].copy_from_slice(data);
    };
    let first = FIRST_DESCRIPTOR as u32;
    put(
        first,
        &primary.descriptor(label, sectors, &primary_tables, primary_dirs[0]),
    );
    put(
        first + 1,
        &joliet.descriptor(label, sectors, &joliet_tables, joliet_dirs[0]),
    );
    put(first + 2, &[&[255], STANDARD_ID.as_slice(), &[1]].concat());
    for (tree, tables, dirs) in [
        (&primary, &primary_tables, &primary_dirs),
        (&joliet, &joliet_tables, &joliet_dirs),
    ] {
        put(
            tables[0].sector,
            &tree.path_table(dirs, u32::to_le_bytes, u16::to_le_bytes),
        );
        put(
            tables[1].sector,
            &tree.path_table(dirs, u32::to_be_bytes, u16::to_be_bytes),
        );
        for (dir, at) in dirs.iter().enumerate() {
            put(at.sector, &tree.directory(dir, dirs, &places));
        }
    }
    for (data, at) in contents.iter().zip(&places) {
        put(at.sector, data);
    }
    image
}

/// Where something lies: first sector, and length in bytes.
#[derive(Clone, Copy, Default)]
struct Extent {
    sector: u32,
    length: u32,
}

/// The paths as a tree of names; files by their index.
enum Node<'a> {
    File(usize),
    Dir(BTreeMap<&'a str, Node<'a>>),
}

/// Splits paths at `/` into a tree.
fn nest<'a>(paths: &[&'a str]) -> BTreeMap<&'a str, Node<'a>> {
    let mut root = BTreeMap::new();
    for (index, path) in paths.iter().enumerate() {
        let parts: Vec<&str> = path.split('/').collect();
        assert!(parts.len() <= DEEPEST, "{path:?} is nested too deeply");
        for part in &parts {
            assert!(is_name(part), "{part:?} in {path:?} is not a usable name");
        }
        let (file, dirs) = parts.split_last().expect("split gives one part at least");
        let mut here = &mut root;
        for dir in dirs {
            here = match here
                .entry(*dir)
                .or_insert_with(|| Node::Dir(BTreeMap::new()))
            {
                Node::Dir(children) => children,
                Node::File(_) => panic!("{dir:?} in {path:?} is a file already"),
            };
        }
        let before = here.insert(*file, Node::File(index));
        assert!(before.is_none(), "{path:?} is a directory already");
    }
    root
}

/// Whether all three naming schemes can hold this name.
fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() <= LONGEST_NAME
        && name
            .bytes()
            .all(|b| (b' '..=b'~').contains(&b) && !b"*/:;?\\".contains(&b))
}

/// The two directory hierarchies of an image.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Naming {
    /// ISO 9660 identifiers, with Rock Ridge entries in the system use areas.
    Primary,
    /// Joliet: big-endian UCS-2 identifiers.
    Joliet,
}

/// One hierarchy, its directories in the order of the path table (ECMA-119
/// 6.9.1): by depth, then by the parent's number, then by identifier.
struct Tree {
    naming: Naming,
    dirs: Vec<Dir>,
}

struct Dir {
    parent: usize,
    identifier: Vec<u8>,
    entries: Vec<Entry>,
}

struct Entry {
    identifier: Vec<u8>,
    name: String,
    target: Target,
}

#[derive(Clone, Copy)]
enum Target {
    File(usize),
    Dir(usize),
}

impl Tree {
    fn new(root: &BTreeMap<&str, Node>, naming: Naming) -> Self {
        let mut dirs = vec![Dir {
            parent: 0,
            identifier: vec![0],
            entries: Vec::new(),
        }];
        let mut queue = VecDeque::from([(0, root)]);
        while let Some((dir, children)) = queue.pop_front() {
            let mut named = match naming {
                Naming::Primary => primary_identifiers(children),
                Naming::Joliet => joliet_identifiers(children),
            };
            named.sort();
            for (identifier, name) in named {
                let target = match &children[name] {
                    Node::File(index) => Target::File(*index),
                    Node::Dir(grandchildren) => {
                        let index = dirs.len();
                        dirs.push(Dir {
                            parent: dir,
                            identifier: identifier.clone(),
                            entries: Vec::new(),
                        });
                        queue.push_back((index, grandchildren));
                        Target::Dir(index)
                    }
                };
                dirs[dir].entries.push(Entry {
                    identifier,
                    name: name.to_owned(),
                    target,
                });
            }
        }
        Tree { naming, dirs }
    }

    /// A primary or supplementary volume descriptor (ECMA-119 8.4 and 8.5).
    fn descriptor(&self, label: &str, sectors: u32, tables: &[Extent; 2], root: Extent) -> Vec<u8> {
        let text = |value: &str, bytes: usize| -> Vec<u8> {
            let mut field = match self.naming {
                Naming::Primary => value.as_bytes().to_vec(),
                Naming::Joliet => ucs2(value),
            };
            let blank: &[u8] = match self.naming {
                Naming::Primary => b" ",
                Naming::Joliet => b"\0 ",
            };
            while field.len() + blank.len() <= bytes {
                field.extend_from_slice(blank);
            }
            field.resize(bytes, 0);
            field
        };
        let mut d = vec![match self.naming {
            Naming::Primary => 1,
            Naming::Joliet => 2,
        }];
        d.extend_from_slice(STANDARD_ID);
        d.extend_from_slice(&[1, 0]);
        d.extend(text("LINUX", 32));
        d.extend(text(label, 32));
        d.extend_from_slice(&[0; 8]);
        d.extend(both32(sectors));
        let mut escapes = [0; 32];
        if self.naming == Naming::Joliet {
            escapes[..3].copy_from_slice(JOLIET_ESCAPES[2]);
        }
        d.extend_from_slice(&escapes);
        d.extend(both16(1)); // volumes in the set
        d.extend(both16(1)); // this one's number
        d.extend(both16(SECTOR as u16));
        d.extend(both32(tables[0].length));
        d.extend_from_slice(&tables[0].sector.to_le_bytes());
        d.extend_from_slice(&[0; 4]);
        d.extend_from_slice(&tables[1].sector.to_be_bytes());
        d.extend_from_slice(&[0; 4]);
        d.extend(record(&[0], root, FLAG_DIRECTORY, &[]));
        for bytes in [128, 128, 128, 128, 37, 37, 37] {
            d.extend(text("", bytes));
        }
        for date in [VOLUME_DATE, VOLUME_DATE, NO_DATE, NO_DATE] {
            d.extend_from_slice(date);
        }
        d.push(1); // file structure version
        d.resize(SECTOR, 0);
        d
    }

    /// The path table (ECMA-119 9.4) in one byte order. `extents` may be empty
    /// while only the length matters.
    fn path_table(
        &self,
        extents: &[Extent],
        long: fn(u32) -> [u8; 4],
        short: fn(u16) -> [u8; 2],
    ) -> Vec<u8> {
        let mut table = Vec::new();
        for (index, dir) in self.dirs.iter().enumerate() {
            table.push(dir.identifier.len() as u8);
            table.push(0);
            table.extend(long(extents.get(index).copied().unwrap_or_default().sector));
            let parent = u16::try_from(dir.parent + 1).expect("fewer than 65535 directories");
            table.extend(short(parent));
            table.extend_from_slice(&dir.identifier);
            if dir.identifier.len() % 2 == 1 {
                table.push(0);
            }
        }
        table
    }

    /// The records of a directory, padded to whole sectors. The extents may be
    /// empty while only the length matters: it does not depend on them.
    fn directory(&self, index: usize, dirs: &[Extent], files: &[Extent]) -> Vec<u8> {
        let dir = &self.dirs[index];
        let extent = |of: &[Extent], i: usize| of.get(i).copied().unwrap_or_default();
        let is_primary = self.naming == Naming::Primary;
        let system_use = |is_dir: bool, name: Option<&str>| match is_primary {
            true => rock_ridge(is_dir, name),
            false => Vec::new(),
        };

        let mut own = system_use(true, None);
        if is_primary && index == 0 {
            own = [SHARING_PROTOCOL, &own, EXTENSION_REFERENCE].concat();
        }
        let parent = system_use(true, None);
        let mut records = vec![
            record(&[0], extent(dirs, index), FLAG_DIRECTORY, &own),
            record(&[1], extent(dirs, dir.parent), FLAG_DIRECTORY, &parent),
        ];
        for entry in &dir.entries {
            let (at, flags, is_dir) = match entry.target {
                Target::File(file) => (extent(files, file), 0, false),
                Target::Dir(child) => (extent(dirs, child), FLAG_DIRECTORY, true),
            };
            let more = system_use(is_dir, Some(&entry.name));
            records.push(record(&entry.identifier, at, flags, &more));
        }

        let mut bytes: Vec<u8> = Vec::new();
        for record in records {
            // A record never crosses a sector's end (ECMA-119 6.8.1.1).
            if bytes.len() % SECTOR + record.len() > SECTOR {
                bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
            }
            bytes.extend(record);
        }
        bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
        bytes
    }
}

/// SUSP 5.3: `SP`, in the root's own record, says that system use entries follow.
const SHARING_PROTOCOL: &[u8] = b"SP\x07\x01\xBE\xEF\x00";

/// SUSP 5.5: `ER` names the extension in use, Rock Ridge. The texts that may
/// follow the name are left out: nothing reads them, and without them the
/// entry fits into the record.
const EXTENSION_REFERENCE: &[u8] = b"ER\x12\x01\x0A\x00\x00\x01RRIP_1991A";

/// The Rock Ridge entries of one record: `PX`, the POSIX attributes (RRIP
/// 4.1.1, in the 36-byte form that every reader knows), and `NM`, the name
/// (RRIP 4.1.4).
fn rock_ridge(is_dir: bool, name: Option<&str>) -> Vec<u8> {
    let (mode, links) = if is_dir {
        (0o040_500, 2)
    } else {
        (0o100_400, 1)
    };
    let mut entries = b"PX\x24\x01".to_vec();
    for value in [mode, links, 0, 0] {
        entries.extend(both32(value));
    }
    if let Some(name) = name {
        entries.extend_from_slice(&[b'N', b'M', 5 + name.len() as u8, 1, 0]);
        entries.extend_from_slice(name.as_bytes());
    }
    entries
}

/// A directory record (ECMA-119 9.1).
fn record(identifier: &[u8], at: Extent, flags: u8, system_use: &[u8]) -> Vec<u8> {
    let mut r = vec![0, 0];
    r.extend(both32(at.sector));
    r.extend(both32(at.length));
    r.extend_from_slice(&RECORD_DATE);
    r.extend_from_slice(&[flags, 0, 0]);
    r.extend(both16(1));
    r.push(identifier.len() as u8);
    r.extend_from_slice(identifier);
    if r.len() % 2 == 1 {
        r.push(0);
    }
    r.extend_from_slice(system_use);
    if r.len() % 2 == 1 {
        r.push(0);
    }
    r[0] = u8::try_from(r.len()).expect("name limits keep a record below 256 bytes");
    r
}

/// ISO 9660 identifiers (ECMA-119 7.5, level 2: up to 30 characters and the
/// dot), made unique within the directory.
fn primary_identifiers<'a>(children: &BTreeMap<&'a str, Node>) -> Vec<(Vec<u8>, &'a str)> {
    let plain = |text: &str, longest: usize| -> String {
        let upper = text.chars().map(|c| c.to_ascii_uppercase());
        upper
            .map(|c| {
                if c.is_ascii_uppercase() || c.is_ascii_digit() {
                    c
                } else {
                    '_'
                }
            })
            .take(longest)
            .collect()
    };
    let mut taken = std::collections::BTreeSet::new();
    let mut named = Vec::new();
    for (&name, node) in children {
        let (stem, suffix) = match (node, name.rsplit_once('.')) {
            (Node::File(_), Some((stem, extension))) => {
                (plain(stem, 20), format!(".{};1", plain(extension, 8)))
            }
            (Node::File(_), None) => (plain(name, 28), ".;1".to_owned()),
            (Node::Dir(_), _) => (plain(name, 28), String::new()),
        };
        let mut identifier = format!("{stem}{suffix}");
        let mut number = 0;
        while !taken.insert(identifier.clone()) {
            number += 1;
            let digits = number.to_string();
            let kept: String = stem.chars().take(20 - digits.len()).collect();
            identifier = format!("{kept}_{digits}{suffix}");
        }
        named.push((identifier.into_bytes(), name));
    }
    named
}

/// Joliet identifiers: the name in UCS-2, and a file's version as ISO 9660
/// wants it (readers strip `;1`).
fn joliet_identifiers<'a>(children: &BTreeMap<&'a str, Node>) -> Vec<(Vec<u8>, &'a str)> {
    let identifier = |name: &str, node: &Node| match node {
        Node::File(_) => ucs2(&format!("{name};1")),
        Node::Dir(_) => ucs2(name),
    };
    children
        .iter()
        .map(|(&name, node)| (identifier(name, node), name))
        .collect()
}

/// Big-endian UCS-2.
fn ucs2(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// A number in both byte orders, little-endian first (ECMA-119 7.3.3).
fn both32(value: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&value.to_le_bytes());
    bytes[4..].copy_from_slice(&value.to_be_bytes());
    bytes
}

/// A short number in both byte orders (ECMA-119 7.2.3).
fn both16(value: u16) -> [u8; 4] {
    let [a, b] = value.to_le_bytes();
    [a, b, b, a]
}
