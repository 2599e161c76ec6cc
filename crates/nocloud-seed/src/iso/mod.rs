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

mod format;
mod read;
mod write;

pub use format::SECTOR;
pub use read::{NotAnIso, label, read};
pub use write::write;
