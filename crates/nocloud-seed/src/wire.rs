//! SSH's wire encoding (RFC 4251, section 5): strings with a big-endian length of four bytes in front.

/// A length-prefixed string, and what follows it.
pub(crate) fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}

/// All the strings of a text that holds nothing else.
pub(crate) fn strings(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (next, rest) = string(bytes)?;
        found.push(next);
        bytes = rest;
    }
    Some(found)
}
