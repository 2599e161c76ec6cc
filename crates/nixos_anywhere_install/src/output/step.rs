//! What Nix does, as its output says.

/// What a line of Nix's standard error says that it does now, in a few words.
pub(crate) fn of(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(rest) = line.strip_prefix("copying path ") {
        return Some(format!("copying {}", name(rest)?));
    }
    if let Some(rest) = line.strip_prefix("copying ")
        && let Some(count) = rest.strip_suffix(" paths...")
    {
        return number(count).map(|count| format!("copying {count} paths"));
    }
    if let Some(rest) = line.strip_prefix("building ") {
        return Some(format!("building {}", name(rest)?));
    }
    if let Some(rest) = line.strip_prefix("unpacking ") {
        return rest.starts_with('\'').then(|| "unpacking a source".into());
    }
    if line.starts_with("downloading '") {
        return Some("downloading".into());
    }
    if line.starts_with("evaluating derivation '") || line.starts_with("evaluating file '") {
        return Some("evaluating".into());
    }
    if line.contains("unable to download '") {
        return Some("waiting for a download".into());
    }
    planned(line)
}

/// `these 3 derivations will be built:` and its like.
fn planned(line: &str) -> Option<String> {
    let rest = line.strip_prefix("these ").or(line.strip_prefix("this "))?;
    let (count, rest) = match rest.split_once(' ')? {
        (count, rest) if count.bytes().all(|b| b.is_ascii_digit()) => (count, rest),
        _ => ("1", rest),
    };
    let count = number(count)?;
    if rest.starts_with("derivation") && rest.contains(" will be built") {
        return Some(format!("building, {count} to do"));
    }
    let size = rest
        .split_once('(')
        .and_then(|(_, rest)| rest.split_once(" download"))
        .map(|(size, _)| size);
    match size {
        Some(size) if rest.starts_with("path") && rest.contains(" will be fetched") => {
            Some(format!("fetching {count} paths ({size})"))
        }
        _ => None,
    }
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

/// The name of a quoted store path, without its hash.
fn name(rest: &str) -> Option<&str> {
    let path = rest.strip_prefix('\'')?.split('\'').next()?;
    let base = path.rsplit('/').next()?;
    let name = base.split_once('-').map_or(base, |(_, name)| name);
    let name = name.strip_suffix(".drv").unwrap_or(name);
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_nix_are_understood() {
        for (line, expected) in [
            ("copying 12 paths...", Some("copying 12 paths")),
            (
                "copying path '/nix/store/abc-glibc-2.40' to 'ssh://root@h'...",
                Some("copying glibc-2.40"),
            ),
            (
                "building '/nix/store/abc-nixos-system-web1.drv'...",
                Some("building nixos-system-web1"),
            ),
            (
                "these 3 derivations will be built:",
                Some("building, 3 to do"),
            ),
            ("this derivation will be built:", Some("building, 1 to do")),
            (
                "these 40 paths will be fetched (95.50 MiB download, 400.00 MiB unpacked):",
                Some("fetching 40 paths (95.50 MiB)"),
            ),
            (
                "warning: error: unable to download 'https://cache.nixos.org/nix-cache-info': Timeout was reached",
                Some("waiting for a download"),
            ),
            ("copying channel...", None),
            ("building the configuration", None),
            ("these are words", None),
            ("", None),
        ] {
            assert_eq!(of(line).as_deref(), expected, "{line}");
        }
    }
}
