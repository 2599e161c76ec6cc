//! Small ISO 9660 images: written deterministically, read back tolerantly.
//!
//! A cloud-init drive holds a handful of small files, but their names
//! (`user-data`, `meta_data.json`) do not fit ISO 9660's own character set, so
//! an image carries them twice more: as Rock Ridge entries (read by Linux) and
//! as a Joliet tree (read by everything else). [`write()`] writes all three,
//! [`read`] prefers them in that order.
//!
//! Sources, by section where the code follows one:
//! * ECMA-119 (4th edition), the text of ISO 9660;
//! * SUSP 1.12 (System Use Sharing Protocol, IEEE P1281) and RRIP 1.12 (Rock
//!   Ridge Interchange Protocol, IEEE P1282);
//! * Joliet Specification, 22 May 1995 (Microsoft).
//!
//! Not here, because no cloud-init drive needs it: El Torito boot records,
//! symbolic links, files of 4 GiB and more, several sessions.

mod read;
mod write;

pub use read::{NotAnIso, label, read};
pub use write::write;

/// Bytes in a logical sector, and in a logical block of the images written.
pub const SECTOR: usize = 2048;

/// The first sector after the system area (ECMA-119 6.2.1).
const FIRST_DESCRIPTOR: usize = 16;

/// What every volume descriptor has in its bytes 1 to 5 (ECMA-119 8.1.2).
const STANDARD_ID: &[u8; 5] = b"CD001";

/// Escape sequences that mark a supplementary descriptor as Joliet: UCS-2
/// levels 1, 2 and 3 (Joliet, "SVD Escape Sequences Field").
const JOLIET_ESCAPES: [&[u8; 3]; 3] = [b"%/@", b"%/C", b"%/E"];

/// Flag of a directory record: it is a directory (ECMA-119 9.1.6).
const FLAG_DIRECTORY: u8 = 0x02;

/// Flag of a directory record: more extents of the same file follow.
const FLAG_MULTI_EXTENT: u8 = 0x80;
