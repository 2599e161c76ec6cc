//! From the bytes of a serial console to lines that a person can read.
//!
//! A guest prints what it likes: colours, cursor movements, boot menus drawn anew every second, bytes that are no
//! text, megabytes without a line end. What comes out has a bounded size and controls no terminal.

use std::collections::VecDeque;

/// The most bytes of a line; a longer one goes on in the next.
const LONGEST_LINE: usize = 500;
/// The most lines that are kept.
const MOST_LINES: usize = 100;
/// The most bytes of an escape sequence that names a title or the like. One that does not end is text from there on.
const LONGEST_ESCAPE: usize = 256;

/// Where in an escape sequence the last byte was (ECMA-48).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    /// In none.
    #[default]
    None,
    /// After ESC.
    Begun,
    /// After `ESC [`: ends with a byte from `@` to `~`.
    Control,
    /// In a string (a title, for example), of which this many bytes came: ends with BEL or `ESC \`.
    Text(usize),
}

/// The last lines of a console, and the line that is not ended yet.
#[derive(Debug, Default)]
pub struct Lines {
    escape: Escape,
    /// A carriage return came: what follows overwrites the line, unless it is a line end.
    returned: bool,
    current: Vec<u8>,
    last: VecDeque<String>,
}

impl Lines {
    /// Take these bytes; the lines that they end, cleaned. Blank lines are left out.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut ended = Vec::new();
        for &byte in bytes {
            if let Some(line) = self.take(byte) {
                if self.last.len() == MOST_LINES {
                    self.last.pop_front();
                }
                self.last.push_back(line.clone());
                ended.push(line);
            }
        }
        ended
    }

    /// The last `most` lines, the one that is not ended yet among them.
    pub fn last(&self, most: usize) -> Vec<String> {
        let mut lines: Vec<String> = self.last.iter().cloned().collect();
        lines.extend(cleaned(&self.current));
        lines.split_off(lines.len().saturating_sub(most))
    }

    /// The line that this byte ends.
    fn take(&mut self, byte: u8) -> Option<String> {
        match self.escape {
            Escape::None => return self.printed(byte),
            Escape::Begun => {
                self.escape = match byte {
                    b'[' => Escape::Control,
                    b']' | b'P' | b'X' | b'^' | b'_' => Escape::Text(0),
                    b' '..=b'/' => Escape::Begun,
                    _ => Escape::None,
                };
            }
            Escape::Control => match byte {
                b'\x1b' => self.escape = Escape::Begun,
                // The cursor is set elsewhere: what follows belongs to another line.
                b'H' | b'f' => {
                    self.escape = Escape::None;
                    return self.end();
                }
                b'@'..=b'~' => self.escape = Escape::None,
                b'\n' => {
                    self.escape = Escape::None;
                    return self.end();
                }
                _ => {}
            },
            Escape::Text(length) => match byte {
                b'\x07' => self.escape = Escape::None,
                b'\x1b' => self.escape = Escape::Begun,
                _ if length == LONGEST_ESCAPE || byte == b'\n' => {
                    self.escape = Escape::None;
                    return self.printed(byte);
                }
                _ => self.escape = Escape::Text(length + 1),
            },
        }
        None
    }

    fn printed(&mut self, byte: u8) -> Option<String> {
        match byte {
            b'\n' => return self.end(),
            b'\r' => self.returned = true,
            b'\x1b' => self.escape = Escape::Begun,
            b'\x08' => drop(self.current.pop()),
            b'\t' => self.current.push(b' '),
            0..b' ' | 0x7f => {}
            _ => {
                if std::mem::take(&mut self.returned) {
                    self.current.clear();
                }
                self.current.push(byte);
                // Not within a character: a byte that begins with 10 goes on with one.
                if self.current.len() >= LONGEST_LINE && byte < 0x80
                    || self.current.len() >= LONGEST_LINE + 4
                {
                    return self.end();
                }
            }
        }
        None
    }

    fn end(&mut self) -> Option<String> {
        self.returned = false;
        cleaned(&std::mem::take(&mut self.current))
    }
}

/// The text of a line; none of a blank one.
fn cleaned(line: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(line);
    let text: String = text.chars().filter(|c| !is_hidden(*c)).collect();
    let text = text.trim_end();
    (!text.trim_start().is_empty()).then(|| text.to_owned())
}

/// What shows nothing, and may turn the order of the letters around.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(bytes: &[u8]) -> Vec<String> {
        let mut lines = Lines::default();
        lines.push(bytes);
        lines.last(MOST_LINES)
    }

    #[test]
    fn what_a_terminal_shows_is_left() {
        for (bytes, shown) in [
            (
                &b"one\r\ntwo\r\n\r\n  \nthree"[..],
                &["one", "two", "three"][..],
            ),
            (b"\x1b[0;1;31mRED\x1b[0m text\n", &["RED text"]),
            (b"\x1b]0;owned\x07title\n", &["title"]),
            (b"\x1bP1$r\x1b\\after\n", &["after"]),
            (b"10%\r20%\r100%\r\n", &["100%"]),
            (b"pty\r\r\nnext\n", &["pty", "next"]),
            (
                b"\x1b[2J\x1b[1;1HNixOS\x1b[3;5HMemtest\x1b[4;5H",
                &["NixOS", "Memtest"],
            ),
            (b"pasx\x08sword\ta\x00b\x7f\n", &["password ab"]),
            (
                b"\xff\xfe \xc3\xa9t\xc3\xa9\n",
                &["\u{fffd}\u{fffd} \u{e9}t\u{e9}"],
            ),
            ("\u{202e}evil\u{9b}31m\n".as_bytes(), &["evil31m"]),
            (b"\x1b[12", &[]),
            (b"\x1b]never ended\nreal\n", &["real"]),
        ] {
            assert_eq!(lines(bytes), shown, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_flood_takes_little_room() {
        let mut lines = Lines::default();
        for _ in 0..1000 {
            lines.push(&[b'x'; 10_000]);
            lines.push(b"\x1b]");
        }
        let last = lines.last(usize::MAX);
        assert!(last.len() <= MOST_LINES + 1 && last.iter().all(|line| line.len() <= LONGEST_LINE));
    }

    #[test]
    fn only_the_last_lines_are_given() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"a\nb\nc"), ["a", "b"]);
        assert_eq!(lines.last(2), ["b", "c"]);
        assert_eq!(lines.push(b"d\n"), ["cd"]);
    }

    proptest! {
        #[test]
        fn lines_control_no_terminal_however_the_bytes_are_cut(bytes: Vec<u8>, cut: prop::sample::Index) {
            let whole = lines(&bytes);
            let cut = cut.index(bytes.len() + 1);
            let mut parts = Lines::default();
            parts.push(&bytes[..cut]);
            parts.push(&bytes[cut..]);
            prop_assert_eq!(&parts.last(MOST_LINES), &whole);
            prop_assert!(whole.iter().all(|line| !line.chars().any(char::is_control)));
        }
    }
}
