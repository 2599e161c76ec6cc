//! How messages name the options, so that a role can put its own variables in their place.

/// The options that messages name.
const NAMES: [&str; 13] = [
    "src",
    "url",
    "github_release",
    "download_by",
    "checksum",
    "content",
    "content_check",
    "cache_dir",
    "name",
    "force",
    "node",
    "storage",
    "timeout",
];

/// A text of this crate with each option's name replaced by what `rename` gives for it.
///
/// Messages and hints write an option as `checksum: ...`, or with its suboption as `github_release.token`. The same word
/// elsewhere is not an option.
pub fn rename_options(text: &str, rename: impl Fn(&str) -> Option<String>) -> String {
    let is_part = |c: char| c.is_alphanumeric() || "_-./'\"?&=:".contains(c);
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_lowercase()) {
        let (before, word) = rest.split_at(start);
        out.push_str(before);
        let end = word.find(|c: char| !is_part(c)).unwrap_or(word.len());
        let (word, after) = word.split_at(end);
        let boundary = !out.ends_with(is_part);
        let option = word.strip_suffix(':').unwrap_or(word);
        let (top, sub) = option.split_once('.').unwrap_or((option, ""));
        let named = NAMES.contains(&top)
            && match sub {
                "" => option.len() < word.len() && (after.is_empty() || after.starts_with(' ')),
                sub => top == "github_release" && !sub.contains('.'),
            };
        match rename(option).filter(|_| named && boundary) {
            Some(name) => {
                out.push_str(&name);
                out.push_str(&word[option.len()..]);
            }
            None => out.push_str(word),
        }
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_get_other_names_and_words_stay() {
        let role = |option: &str| {
            Some(match option {
                "url" | "src" => "role_iso".into(),
                "github_release.token" => "role_token".into(),
                "storage" => return None,
                other => format!("role_options.{other}"),
            })
        };
        for (text, expected) in [
            (
                "url: 'x' is not an address",
                "role_iso: 'x' is not an address",
            ),
            (
                "set force: true, name: OTHER.iso or checksum: ALGORITHM:HEX to have its content compared",
                "set role_options.force: true, role_options.name: OTHER.iso or role_options.checksum: ALGORITHM:HEX to have its content compared",
            ),
            (
                "set github_release.token, or wait",
                "set role_token, or wait",
            ),
            (
                "(github_release.token or GITHUB_TOKEN)",
                "(role_token or GITHUB_TOKEN)",
            ),
            ("or set storage: OTHER", "or set storage: OTHER"),
            (
                "content_check: false takes",
                "role_options.content_check: false takes",
            ),
            // Words, addresses and names of files.
            (
                "checksum mismatch: the name of the url",
                "checksum mismatch: the name of the url",
            ),
            (
                "https://h/url:1/x?name=force: y",
                "https://h/url:1/x?name=force: y",
            ),
            ("'url: x' x-url: y", "'url: x' x-url: y"),
            ("ä url: ö", "ä role_iso: ö"),
            ("", ""),
        ] {
            assert_eq!(rename_options(text, role), expected);
        }
    }
}
