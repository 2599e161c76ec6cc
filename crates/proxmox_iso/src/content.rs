//! What the first bytes of a file say that it is. An ISO 9660 image has `CD001` in its 17th sector
//! (ECMA-119, 8.1), a UDF image `NSR02` or `NSR03` in its volume recognition sequence (ECMA-167, 3/9).

use crate::compression::Compression;
use crate::error::Error;
use crate::wanted::{DiskFormat, Wanted};

/// So many bytes from the start decide.
pub const HEAD: usize = 64 * 1024;
/// Where the volume descriptors begin, and how far apart they are.
const DESCRIPTORS: usize = 32 * 1024;
const SECTOR: usize = 2048;
/// Padding at the end that writers count and downloads may lack.
const PADDING: u64 = 1 << 20;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An ISO 9660 or UDF image; the bytes that an ISO 9660 image says it has at least.
    Image(Option<u64>),
    /// Something compressed that can be unpacked.
    Compressed(Compression),
    /// An image of a disk that stands alone, in words, and what to do about it where an ISO image is wanted.
    Disk(DiskFormat, &'static str),
    /// Something else, in words, and what to do about it.
    Other(&'static str, Option<&'static str>),
}

const UNPACK: Option<&str> = Some("unpack it first and give the image that is in it");
const DISK: Option<&str> =
    Some("it is the image of a disk, which no CD-ROM drive boots from; use the installer's ISO");
const CONVERT: Option<&str> =
    Some("convert it: qemu-img convert -O qcow2 IMAGE NEW.qcow2, and give the new one");

/// Signatures at the start of files.
const MAGIC: &[(&[u8], &str, Option<&str>)] = &[
    (b"PK\x03\x04", "a ZIP archive", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (
        b"\x89LZO\x00\x0d\x0a\x1a\x0a",
        "compressed with lzop",
        UNPACK,
    ),
    (b"\x04\x22\x4d\x18", "compressed with lz4", UNPACK),
    (b"LZIP", "compressed with lzip", UNPACK),
    (b"LRZI", "compressed with lrzip", UNPACK),
    (b"\x5d\x00\x00", "compressed with lzma", UNPACK),
    (b"\x1f\x9d", "compressed with compress", UNPACK),
    (b"CISO", "a compressed CISO image", UNPACK),
    (b"# Disk DescriptorFile", "a VMDK descriptor", CONVERT),
    (b"vhdxfile", "a VHDX disk image", CONVERT),
    (b"conectix", "a VHD disk image", CONVERT),
    (b"<<< ", "a VDI disk image", CONVERT),
    (b"hsqs", "a squashfs file system", None),
    (b"\x7fELF", "a program", None),
    (b"MZ", "a Windows program", None),
    (b"%PDF", "a PDF document", None),
    (b"-----BEGIN PGP", "a signature", None),
    (
        b"version https://git-lfs",
        "a pointer of Git LFS",
        Some("fetch the file itself (git lfs pull)"),
    ),
];

/// What the file with this beginning is. `size` is that of the whole file, where it is known.
pub fn kind(head: &[u8], size: Option<u64>) -> Kind {
    if let Some(image) = image(head) {
        return image;
    }
    if let Some(compression) = Compression::of_bytes(head) {
        return Kind::Compressed(compression);
    }
    if let Some(disk) = disk(head) {
        return disk;
    }
    for (magic, what, hint) in MAGIC {
        if head.starts_with(magic) {
            return Kind::Other(what, *hint);
        }
    }
    if head.is_empty() {
        return Kind::Other("empty", None);
    }
    if head.get(257..262) == Some(b"ustar") {
        return Kind::Other("a tar archive", UNPACK);
    }
    if let Some(what) = text(head) {
        return what;
    }
    if head.get(512..520) == Some(b"EFI PART") || head.get(510..512) == Some(b"\x55\xaa") {
        return Kind::Disk(DiskFormat::Raw, "a raw disk image");
    }
    if head.get(1080..1082) == Some(b"\x53\xef") {
        return Kind::Disk(DiskFormat::Raw, "an ext file system");
    }
    if head.iter().all(|byte| *byte == 0) {
        return Kind::Other("nothing but zeros at its start", None);
    }
    if size.is_some_and(|size| size < (DESCRIPTORS + SECTOR) as u64) {
        return Kind::Other("shorter than any ISO image", None);
    }
    Kind::Other("of an unknown format", None)
}

/// An image of a disk that has a header. The name of a backing file is at the offset in the bytes 8 to 15 of a qcow2 image
/// (docs/interop/qcow2.rst of QEMU); PVE refuses such an image.
fn disk(head: &[u8]) -> Option<Kind> {
    if head.starts_with(b"KDMV") {
        return Some(Kind::Disk(DiskFormat::Vmdk, "a VMDK disk image"));
    }
    let header = head.strip_prefix(b"QFI\xfb")?;
    match header.get(4..12) {
        Some([0, 0, 0, 0, 0, 0, 0, 0]) => Some(Kind::Disk(DiskFormat::Qcow2, "a qcow2 disk image")),
        _ => Some(Kind::Other(
            "a qcow2 disk image that needs a backing file, or that is cut short",
            CONVERT,
        )),
    }
}

/// An ISO 9660 or UDF image.
fn image(head: &[u8]) -> Option<Kind> {
    let descriptor = |sector: usize| head.get(DESCRIPTORS + sector * SECTOR..);
    let identifier = |sector: usize| descriptor(sector)?.get(1..6);
    match identifier(0)? {
        b"CD001" => {
            let primary = descriptor(0)?;
            let number = |at: usize, bytes: usize| {
                let bytes = primary.get(at..at + bytes)?;
                Some(
                    bytes
                        .iter()
                        .rev()
                        .fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)),
                )
            };
            // Volume space size and logical block size, each little-endian first.
            let size = match (primary.first(), number(80, 4), number(128, 2)) {
                (Some(1), Some(blocks), Some(block @ (512 | 1024 | 2048))) => Some(blocks * block),
                _ => None,
            };
            Some(Kind::Image(size))
        }
        b"BEA01" => (1..16)
            .map_while(identifier)
            .any(|id| matches!(id, b"NSR02" | b"NSR03"))
            .then_some(Kind::Image(None)),
        b"NSR02" | b"NSR03" => Some(Kind::Image(None)),
        _ => None,
    }
}

/// Texts that servers answer instead of a file.
fn text(head: &[u8]) -> Option<Kind> {
    let start = &head[..head.len().min(512)];
    let start = String::from_utf8_lossy(start);
    let start = start
        .trim_start_matches('\u{feff}')
        .trim_start()
        .to_ascii_lowercase();
    let page = Some("look at the address in a browser: it may want a login, or no longer exist");
    if start.starts_with("<!doctype html") || start.starts_with("<html") || start.contains("<head>")
    {
        return Some(Kind::Other("an HTML page", page));
    }
    if start.starts_with("<?xml") {
        return Some(Kind::Other(
            "an XML document, perhaps an error of the server",
            page,
        ));
    }
    let printable = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7e);
    let readable = !start.is_empty() && head[..head.len().min(512)].iter().all(printable);
    readable.then_some(Kind::Other("a text", page))
}

impl Kind {
    /// What it is in words, and what to do about it, if it is not an image.
    fn described(self, wanted: Wanted) -> (String, Option<&'static str>) {
        match self {
            Self::Other(what, hint) => (what.to_owned(), hint),
            Self::Compressed(again) => (format!("compressed ({})", again.name()), UNPACK),
            Self::Disk(_, what) => {
                let hint = match wanted {
                    Wanted::Iso => DISK,
                    Wanted::Disk(_) => Some("give it a name that ends in the format of the image"),
                };
                ((*what).to_owned(), hint)
            }
            Self::Image(_) => (
                "an ISO image".to_owned(),
                Some("give the image of a disk, or set content: iso"),
            ),
        }
    }

    /// Whether it is what is wanted: the bytes that it says it has at least, or else what it is.
    ///
    /// # Errors
    /// What it is instead.
    pub fn expect(self, wanted: Wanted) -> Result<Option<u64>, Self> {
        match (self, wanted) {
            (Self::Image(says), Wanted::Iso) => Ok(says),
            (Self::Disk(format, _), Wanted::Disk(wanted)) if format == wanted => Ok(None),
            (other, _) => Err(other),
        }
    }

    /// The refusal of what is not what is wanted, in a file that is compressed.
    pub fn refuse_unpacked(self, shown: String, compression: Compression, wanted: Wanted) -> Error {
        let (found, hint) = self.described(wanted);
        Error::CompressedNotAnImage {
            shown,
            compression,
            wanted,
            found,
            hint,
        }
    }
}

/// Refuse what is neither the image that is wanted nor, unless it must not be, compressed.
///
/// # Errors
/// When it is one of these, or an image that is cut short.
pub fn check(
    shown: &str,
    head: &[u8],
    size: Option<u64>,
    wanted: Wanted,
) -> Result<Option<Compression>, Error> {
    let shown = shown.to_owned();
    match kind(head, size).expect(wanted) {
        Ok(says) => match size.and_then(|size| lacks(says, size)) {
            Some(lacking) => Err(Error::CutShort { shown, lacking }),
            None => Ok(None),
        },
        Err(Kind::Compressed(compression)) => Ok(Some(compression)),
        Err(other) => {
            let (found, hint) = other.described(wanted);
            Err(Error::NotAnImage {
                shown,
                wanted,
                found,
                hint,
            })
        }
    }
}

/// How many bytes an image lacks that says that it has `says`; an interrupted download lacks some.
pub fn lacks(says: Option<u64>, size: u64) -> Option<u64> {
    says?.checked_sub(size).filter(|lacking| *lacking > PADDING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use pve_client::Content;

    fn at(offset: usize, bytes: &[u8]) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        head[offset..offset + bytes.len()].copy_from_slice(bytes);
        head
    }

    #[test]
    fn images_are_known_by_their_descriptors() {
        assert_eq!(
            kind(&at(32768, b"\x01CD001\x01\x00"), None),
            Kind::Image(None)
        );
        let mut sized = at(32768, b"\x01CD001\x01\x00");
        sized[32768 + 80..32768 + 84].copy_from_slice(&1000u32.to_le_bytes());
        sized[32768 + 128..32768 + 130].copy_from_slice(&2048u16.to_le_bytes());
        assert_eq!(kind(&sized, None), Kind::Image(Some(2_048_000)));
        // A hybrid image has a partition table too.
        sized[510..512].copy_from_slice(b"\x55\xaa");
        assert!(matches!(kind(&sized, None), Kind::Image(_)));
        let mut udf = at(32768, b"\x00BEA01\x01");
        assert!(matches!(kind(&udf, None), Kind::Other(..)));
        udf[34817..34822].copy_from_slice(b"NSR03");
        assert_eq!(kind(&udf, None), Kind::Image(None));
        assert_eq!(lacks(Some(10 << 20), 9 << 20), None);
        assert_eq!(lacks(Some(10 << 20), 5 << 20), Some(5 << 20));
        assert_eq!(lacks(None, 5), None);
    }

    #[test]
    fn what_is_something_else_is_named() {
        for (head, what) in [
            (vec![], "empty"),
            (vec![0; HEAD], "zeros"),
            (at(0, b"QFI\xfb\0\0\0\x03"), "qcow2 disk image"),
            (at(0, b"QFI\xfb\0\0\0\x03\0\0\0\0\0\0\x01\0"), "backing"),
            (at(0, b"KDMV"), "VMDK"),
            (at(0, b"PK\x03\x04"), "ZIP"),
            (at(0, b"7z\xbc\xaf\x27\x1c"), "7-Zip"),
            (at(257, b"ustar"), "tar"),
            (at(510, b"\x55\xaa"), "raw disk"),
            (at(1080, b"\x53\xef"), "ext file system"),
            (b"\n <!DOCTYPE HTML><title>Sign in".to_vec(), "HTML"),
            (b"<?xml version='1.0'?><Error>AccessDenied".to_vec(), "XML"),
            (b"Not found\n".to_vec(), "text"),
            (b"{\"message\":\"Not Found\"}".to_vec(), "text"),
            (vec![1, 2, 0xff], "shorter"),
            // A compressor's name in the wrong place is nothing.
            (at(100, b"\xfd7zXZ\0"), "unknown format"),
        ] {
            let size = (head.len() < HEAD).then_some(head.len() as u64);
            match kind(&head, size) {
                Kind::Other(text, _) | Kind::Disk(_, text) => {
                    assert!(text.contains(what), "{text} for {what}");
                }
                other => panic!("{other:?} for {what}"),
            }
        }
        for (bytes, compression) in [
            (&b"\xfd7zXZ\0"[..], Compression::Xz),
            (b"\x28\xb5\x2f\xfd", Compression::Zstd),
            (b"\x1f\x8b\x08\0", Compression::Gzip),
            (b"BZh91AY&SY", Compression::Bzip2),
        ] {
            assert_eq!(kind(&at(0, bytes), None), Kind::Compressed(compression));
        }
    }

    #[test]
    fn a_disk_image_has_the_format_of_its_name() {
        let qcow2 = at(0, b"QFI\xfb\0\0\0\x03");
        let backed = at(0, b"QFI\xfb\0\0\0\x03\0\0\0\0\0\0\x01\0");
        let raw = at(510, b"\x55\xaa");
        let iso = at(32768, b"\x01CD001\x01\x00");
        let packed = at(0, b"\x28\xb5\x2f\xfd");
        let check = |head: &[u8], name| {
            check("x", head, None, Wanted::of(Content::Import, name)).map_err(|e| e.to_string())
        };
        assert_eq!(check(&qcow2, "a.qcow2"), Ok(None));
        assert_eq!(check(&raw, "a.raw"), Ok(None));
        assert_eq!(check(&at(0, b"KDMV"), "a.vmdk"), Ok(None));
        assert_eq!(check(&packed, "a.qcow2"), Ok(Some(Compression::Zstd)));
        for (head, name, problem) in [
            (
                &qcow2,
                "a.raw",
                "x is not a raw disk image: it is a qcow2 disk image",
            ),
            (
                &raw,
                "a.qcow2",
                "x is not a qcow2 disk image: it is a raw disk image",
            ),
            (
                &iso,
                "a.raw",
                "x is not a raw disk image: it is an ISO image",
            ),
            (
                &backed,
                "a.qcow2",
                "x is not a qcow2 disk image: it is a qcow2 disk image that needs a backing file, or that is cut short",
            ),
        ] {
            assert_eq!(check(head, name), Err(problem.to_owned()));
        }
    }

    proptest! {
        /// Without a descriptor in its place nothing is an image, with one everything is.
        #[test]
        fn only_the_descriptor_decides(mut head in proptest::collection::vec(any::<u8>(), 0..40_000)) {
            if head.len() > 32774 {
                head[32769..32774].copy_from_slice(b"XXXXX");
            }
            prop_assert!(!matches!(kind(&head, None), Kind::Image(_)));
            head.resize(40_000, 7);
            head[32768..32775].copy_from_slice(b"\x01CD001\x01");
            prop_assert!(matches!(kind(&head, None), Kind::Image(_)));
        }
    }
}
