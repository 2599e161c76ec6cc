//! Numbers of bytes.

/// A number of bytes for people: `1.5 GiB`.
pub fn bytes(count: i64) -> String {
    let mut number = count as f64;
    for unit in ["B", "KiB", "MiB"] {
        if number.abs() < 1024.0 {
            return match unit {
                "B" => format!("{count} B"),
                _ => format!("{number:.1} {unit}"),
            };
        }
        number /= 1024.0;
    }
    format!("{number:.1} GiB")
}

/// A number of bytes that may be added to and taken from.
pub fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (count, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (5 << 20, "5.0 MiB"),
            (3 << 40, "3072.0 GiB"),
            (-(2 << 30), "-2.0 GiB"),
        ] {
            assert_eq!(bytes(count), expected);
        }
    }
}
