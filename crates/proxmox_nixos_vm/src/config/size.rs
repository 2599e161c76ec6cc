//! Disk sizes: PVE's `32G`, the GiB of its `storage:SIZE` syntax, and what storages make of them.

use pve_client::property;

/// One GiB in bytes, the unit of PVE's `storage:SIZE` syntax.
pub const GIB: u64 = 1 << 30;

/// Storages round a new volume up (LVM to whole extents, ZFS to blocks), so a disk that is larger than
/// described by less than this is the disk that was described.
const ROUNDING: u64 = 64 << 20;

/// Parse a size as users write it: `512M`, `32G`, `10 GiB`, or a number of GiB. In bytes, whole KiB as PVE keeps them.
pub fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let bytes = if text.ends_with(|c: char| c.is_ascii_digit()) {
        property::parse_size(&format!("{text}G"))?
    } else {
        with_unit(text)?
    };
    Some(bytes >> 10 << 10)
}

/// A size with a unit in one of the spellings that people use: `512M`, `10GB`, `2 GiB`. In bytes.
pub fn with_unit(text: &str) -> Option<u64> {
    let at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(at);
    let unit = unit.to_ascii_uppercase();
    // PVE's units are powers of 1024, whatever they are called.
    let letter = ["", "B", "IB", "I"].iter().find_map(|end| {
        unit.strip_suffix(end)
            .filter(|letter| ["K", "M", "G", "T"].contains(letter))
    })?;
    property::parse_size(&format!("{}{letter}", number.trim()))
}

/// The number that PVE's `storage:SIZE` syntax wants: GiB, with a fraction where needed.
pub fn gib(bytes: u64) -> String {
    format!("{}", bytes as f64 / GIB as f64)
}

/// How a disk relates to its description.
#[derive(Debug, PartialEq, Eq)]
pub enum Fit {
    /// The same, up to what storages round.
    Same,
    /// The disk must grow.
    Grow,
    /// The disk is larger than described.
    Larger,
}

/// Compare a disk's size with the described one, both in bytes.
pub fn fit(want: u64, have: u64) -> Fit {
    if want > have {
        Fit::Grow
    } else if have - want < ROUNDING {
        Fit::Same
    } else {
        Fit::Larger
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_number_is_gib() {
        for (text, bytes) in [
            ("32G", 32 * GIB),
            ("32g", 32 * GIB),
            ("32", 32 * GIB),
            ("1.5G", 1536 << 20),
            ("512M", 512 << 20),
            ("0.1", 104_857 << 10),
            ("1024MB", GIB),
            ("10GiB", 10 * GIB),
            ("2 gib", 2 * GIB),
            ("1Ti", 1024 * GIB),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for bad in ["", "G", "-1", "1e3", "32 GX", "x", ".5", "1.2.3"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn gib_keeps_fractions() {
        assert_eq!(gib(32 * GIB), "32");
        assert_eq!(gib(512 << 20), "0.5");
    }

    #[test]
    fn rounding_up_is_not_a_difference() {
        assert_eq!(fit(GIB, GIB), Fit::Same);
        assert_eq!(fit(GIB, GIB + (4 << 20)), Fit::Same);
        assert_eq!(fit(GIB, 2 * GIB), Fit::Larger);
        assert_eq!(fit(2 * GIB, GIB), Fit::Grow);
    }
}
