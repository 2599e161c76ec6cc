//! Files of checksums, as `sha256sum` (GNU), `shasum --tag` and BSD's `sha256` write them.

/// The SHA-256 of `name` in the text of such a file, in lower-case hex. A file that holds nothing
/// but one checksum is of whatever it lies beside.
///
/// # Errors
/// What is wrong, in words.
pub fn find(text: &str, name: &str) -> Result<String, String> {
    let mut found: Vec<String> = Vec::new();
    let mut names = 0;
    for line in text.lines().map(str::trim_end) {
        let Some((digits, file)) = parse(line) else {
            continue;
        };
        names += 1;
        if file.rsplit(['/', '\\']).next() == Some(name) && !found.contains(&digits) {
            found.push(digits);
        }
    }
    match found.len() {
        1 => Ok(found.swap_remove(0)),
        0 => match text.trim() {
            alone if names == 0 && is_sha256(alone) => Ok(alone.to_ascii_lowercase()),
            _ => Err(format!(
                "it has no SHA-256 of {name} ({names} of other files)"
            )),
        },
        _ => Err(format!("it has several checksums of {name}")),
    }
}

/// Checksum and file name of one line.
fn parse(line: &str) -> Option<(String, &str)> {
    let (digits, file) = match line.strip_prefix("SHA256 (") {
        Some(rest) => {
            let (file, digits) = rest.rsplit_once(") = ")?;
            (digits, file)
        }
        None => {
            // GNU marks names with escaped characters by a leading backslash.
            let line = line.strip_prefix('\\').unwrap_or(line);
            let (digits, file) = line.split_once(' ')?;
            let file = file.trim_start();
            (digits, file.strip_prefix('*').unwrap_or(file))
        }
    };
    is_sha256(digits).then(|| (digits.to_ascii_lowercase(), file))
}

/// Whether it is 64 hex digits.
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_formats() {
        let (a, b) = ("ab".repeat(32), "CD".repeat(32));
        let gnu = format!("{a}  ./other.iso\n{b} *dir/x.iso\r\n");
        assert_eq!(find(&gnu, "x.iso").unwrap(), b.to_lowercase());
        assert_eq!(find(&gnu, "other.iso").unwrap(), a);
        let bsd = format!(
            "# made today\nMD5 (x.iso) = 00\nSHA256 (a (1).iso) = {b}\nSHA256 (x.iso) = {a}\n"
        );
        assert_eq!(find(&bsd, "x.iso").unwrap(), a);
        assert_eq!(find(&bsd, "a (1).iso").unwrap(), b.to_lowercase());
        let signed = format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{a}  x.iso\n-----BEGIN PGP SIGNATURE-----\n"
        );
        assert_eq!(find(&signed, "x.iso").unwrap(), a);
        assert_eq!(find(&format!("{a}\n"), "x.iso").unwrap(), a);
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let a = "ab".repeat(32);
        assert!(
            find(&format!("{a}  y.iso\n"), "x.iso")
                .unwrap_err()
                .contains("x.iso")
        );
        assert!(find(&format!("{a}  y-x.iso\n"), "x.iso").is_err());
        assert!(
            find(
                &format!("{a}  x.iso\n{}  x.iso\n", "cd".repeat(32)),
                "x.iso"
            )
            .is_err()
        );
        assert!(find("<html>", "x.iso").is_err());
        // SHA-512 is not SHA-256.
        assert!(find(&format!("{a}{a}  x.iso\n"), "x.iso").is_err());
    }
}
