//! Random values that nobody can guess.

use ansible_module::{Failure, FailureKind};

fn bytes<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| {
        Failure::new(
            FailureKind::Internal,
            format!("the system gives no random numbers: {e}"),
        )
    })?;
    Ok(bytes)
}

/// `2 * N` hexadecimal digits.
///
/// # Errors
/// Kind `internal`.
pub fn hex_digits<const N: usize>() -> Result<String, Failure> {
    Ok(hex::encode(bytes::<N>()?))
}

/// A UUID (version 4) in lower case.
///
/// # Errors
/// Kind `internal`.
pub fn uuid() -> Result<String, Failure> {
    let mut bytes = bytes::<16>()?;
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let text = hex::encode(bytes);
    let groups = [
        &text[..8],
        &text[8..12],
        &text[12..16],
        &text[16..20],
        &text[20..],
    ];
    Ok(groups.join("-"))
}
