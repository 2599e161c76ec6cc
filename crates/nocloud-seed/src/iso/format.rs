//! Numbers and texts of the format, for reading and writing.

/// Bytes in a logical sector, and in a logical block of the images written.
pub const SECTOR: usize = 2048;

/// The first sector after the system area (ECMA-119 6.2.1).
pub(super) const FIRST_DESCRIPTOR: usize = 16;

/// What every volume descriptor has in its bytes 1 to 5 (ECMA-119 8.1.2).
pub(super) const STANDARD_ID: &[u8; 5] = b"CD001";

/// Escape sequences that mark a supplementary descriptor as Joliet: UCS-2
/// levels 1, 2 and 3 (Joliet, "SVD Escape Sequences Field").
pub(super) const JOLIET_ESCAPES: [&[u8; 3]; 3] = [b"%/@", b"%/C", b"%/E"];

/// Flag of a directory record: it is a directory (ECMA-119 9.1.6).
pub(super) const FLAG_DIRECTORY: u8 = 0x02;

/// Flag of a directory record: more extents of the same file follow.
pub(super) const FLAG_MULTI_EXTENT: u8 = 0x80;
