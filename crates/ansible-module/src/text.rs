//! Text of others on its way to a person's terminal.
//!
//! A guest, a PVE server, a proxy's HTML page or a program's output may hold escape sequences that
//! set a terminal's title, overwrite what stands above, or turn the order of the letters around.

use std::borrow::Cow;
use std::fmt::Write;

/// `text` with every character that controls a terminal, rather than being shown by it, as a
/// visible escape: `\x1b`, `\x9b`, `\u{202e}`. Line ends and tabs stay (`\r\n` becomes `\n`), and
/// so does everything that a script of any language needs. Colours (`ESC [ ... m`), which change
/// nothing but the look and which Nix and others print, are left out.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(controls) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\x1b' if colours(characters.clone()) => {
                characters.by_ref().find(|c| *c == 'm');
            }
            '\r' if characters.peek() == Some(&'\n') => {}
            c if !controls(c) => out.push(c),
            c if u32::from(c) < 0x100 => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
        }
    }
    Cow::Owned(out)
}

/// Whether what follows an ESC is `[ ... m`, which sets colours and typefaces (SGR).
fn colours(mut after: impl Iterator<Item = char>) -> bool {
    after.next() == Some('[') && after.find(|c| !matches!(c, '0'..='9' | ';' | ':')) == Some('m')
}

/// C0 (but for line end and tab), DEL and C1; the characters that override the direction of text
/// (Unicode's Bidi_Control without the plain marks, as rustc's lint has them); separators that some
/// terminals break lines at; and tags, which are invisible.
fn controls(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        '\u{2028}' | '\u{2029}' => true,
        '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
        c => c.is_control(),
    }
}

/// `text` in at most about `most` characters: of a longer one the beginning and the end, which
/// say most.
pub(crate) fn shortened(text: String, most: usize) -> String {
    // Characters are at most bytes.
    if text.len() <= most {
        return text;
    }
    let length = text.chars().count();
    if length <= most {
        return text;
    }
    let (first, last) = (most * 2 / 3, most / 3);
    let start: String = text.chars().take(first).collect();
    let end: String = text.chars().skip(length - last).collect();
    format!("{start} [... left out ...] {end}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_controls_a_terminal_is_escaped() {
        for (given, shown) in [
            ("\x1b]0;pwn\x07\x1b[31mRED", "\\x1b]0;pwn\\x07RED"),
            (
                "\x1b[31;1merror:\x1b[0m a\x1b[38:5:1mb\x1b[2Jc\x1b[",
                "error: ab\\x1b[2Jc\\x1b[",
            ),
            ("a\u{9b}2Jb", "a\\x9b2Jb"),
            ("ok\rfatal", "ok\\x0dfatal"),
            ("one\r\ntwo\ttab\n", "one\ntwo\ttab\n"),
            (
                "user\u{202e}txt.exe\u{2066}",
                "user\\u{202e}txt.exe\\u{2066}",
            ),
            ("a\u{2028}b\0c\u{7f}", "a\\u{2028}b\\x00c\\x7f"),
            ("\u{e0041}", "\\u{e0041}"),
        ] {
            assert_eq!(printable(given), shown);
        }
        for plain in [
            "",
            "VM 101 läuft",
            "שלום",
            "سلام\u{200c}",
            "👩\u{200d}🚀",
            "a\nb\tc",
        ] {
            assert_eq!(printable(plain), plain);
        }
    }

    #[test]
    fn a_long_text_keeps_both_ends() {
        let text = format!("begin {} end", "x".repeat(100_000));
        let short = shortened(text, 900);
        assert!(short.len() < 1000 && short.starts_with("begin x") && short.ends_with("x end"));
        assert!(short.contains("x [... left out ...] x"), "{short}");
        assert_eq!(shortened("é".repeat(900), 900).chars().count(), 900);
    }

    proptest! {
        #[test]
        fn nothing_that_is_shown_controls(text in any::<String>()) {
            let shown = printable(&text).into_owned();
            prop_assert!(!shown.chars().any(controls), "{shown:?}");
            prop_assert_eq!(printable(&shown), shown.clone());
        }
    }
}
