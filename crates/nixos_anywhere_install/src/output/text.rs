//! Text of other programs and of the machine, made safe to print.

/// The most characters of a line that a result or an error shows.
const LONGEST: usize = 1000;

/// `line` without what a terminal acts on: colours and other escape sequences are left out, other
/// control characters and those that reorder text become `\u{..}`.
pub fn printable(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            '\u{9b}' => skip_sequence(&mut chars),
            '\t' => out.push('\t'),
            c if c.is_control() || reorders(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// The beginning of a line, for results.
pub(crate) fn shortened(line: &str) -> String {
    match line.char_indices().nth(LONGEST) {
        None => line.to_owned(),
        Some((at, _)) => format!("{}... ({} bytes)", &line[..at], line.len()),
    }
}

/// Characters of Unicode that change the direction of text, or end lines.
fn reorders(c: char) -> bool {
    matches!(
        c,
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
    )
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Skip what follows ESC (ECMA-48).
fn skip_escape(chars: &mut Chars) {
    match chars.peek() {
        Some('[') => {
            chars.next();
            skip_sequence(chars);
        }
        // A string (OSC, DCS, SOS, PM, APC), up to BEL or ESC \.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(c) = chars.next() {
                match c {
                    '\u{7}' | '\u{9c}' => return,
                    '\u{1b}' => {
                        chars.next_if_eq(&'\\');
                        return;
                    }
                    _ => {}
                }
            }
        }
        Some(' '..='/') => {
            while chars.next_if(|c| matches!(c, ' '..='/')).is_some() {}
            chars.next_if(|c| matches!(c, '0'..='~'));
        }
        Some('0'..='~') => {
            chars.next();
        }
        _ => {}
    }
}

/// Skip the parameters and the end of a control sequence.
fn skip_sequence(chars: &mut Chars) {
    while chars.next_if(|c| matches!(c, ' '..='?')).is_some() {}
    chars.next_if(|c| matches!(c, '@'..='~'));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_are_left_out_and_controls_are_shown() {
        for (line, expected) in [
            ("plain é\ttext", "plain é\ttext"),
            ("\u{1b}[31;1mred\u{1b}[0m", "red"),
            ("\u{1b}]0;pwn\u{7}title", "title"),
            ("\u{1b}]8;;http://x\u{1b}\\link", "link"),
            ("\u{1b}(Bx\u{1b}cy", "xy"),
            ("\u{9b}31mred", "red"),
            ("a\u{0}b\u{8}c\u{7f}", "a\\u{0}b\\u{8}c\\u{7f}"),
            ("\u{202e}txt", "\\u{202e}txt"),
            ("end\u{1b}", "end"),
            ("\u{1b}[", ""),
            ("\u{1b}]open", ""),
        ] {
            assert_eq!(printable(line), expected, "{line:?}");
        }
        assert_eq!(shortened("short"), "short");
        let long = shortened(&"é".repeat(5000));
        assert!(long.ends_with("... (10000 bytes)"), "{long}");
    }

    proptest! {
        #[test]
        fn nothing_that_a_terminal_acts_on_is_left(line in "[a-z\u{1b}\u{9b}\u{7}\\[\\];\\\\0-9\u{0}-\u{1f}\u{7f}-\u{9f}\u{202e}é]{0,60}") {
            let out = printable(&line);
            prop_assert!(!out.chars().any(|c| c != '\t' && (c.is_control() || reorders(c))));
        }
    }
}
