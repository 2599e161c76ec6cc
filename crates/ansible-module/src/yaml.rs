//! Writing YAML that people like to read: wrapped, and clean for yamllint's default rules.

use serde_json::{Map, Value};

/// The longest line, where there is a choice.
const WIDTH: usize = 80;

/// `value` as a YAML document, without its start mark.
pub fn render(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) => mapping(map, 0, &mut out),
        other => {
            out.push_str(&inline(other));
            out.push('\n');
        }
    }
    out
}

/// A scalar or an empty collection, on one line.
pub fn inline(value: &Value) -> String {
    match value {
        Value::String(text) if plain(text) => text.clone(),
        // Only double quotes can hold control characters; JSON's form is YAML's.
        Value::String(text) if text.chars().any(char::is_control) => value.to_string(),
        Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        other => other.to_string(),
    }
}

fn mapping(map: &Map<String, Value>, indent: usize, out: &mut String) {
    for (key, value) in map {
        out.push_str(&" ".repeat(indent));
        out.push_str(&inline(&Value::from(key.as_str())));
        out.push(':');
        node(value, indent, indent + key.len() + 2, out);
    }
}

/// A value after `key:` or `-` at `indent`; on the same line it would start at `column`.
fn node(value: &Value, indent: usize, column: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            mapping(map, indent + 2, out);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            for item in items {
                out.push_str(&" ".repeat(indent + 2));
                out.push('-');
                match item {
                    // The first key stands on the dash's line.
                    Value::Object(map) if !map.is_empty() => {
                        let mut inner = String::new();
                        mapping(map, indent + 4, &mut inner);
                        out.push(' ');
                        out.push_str(inner.trim_start());
                    }
                    item => node(item, indent + 2, indent + 4, out),
                }
            }
        }
        Value::String(text) if literal(text) => {
            let mark = if text.ends_with('\n') { "|" } else { "|-" };
            out.push_str(&format!(" {mark}\n"));
            for line in text.lines() {
                if !line.is_empty() {
                    out.push_str(&" ".repeat(indent + 2));
                    out.push_str(line);
                }
                out.push('\n');
            }
        }
        Value::String(text) if column + inline(value).len() > WIDTH && foldable(text) => {
            out.push_str(" >-\n");
            fold(text, indent + 2, out);
        }
        scalar => {
            out.push(' ');
            out.push_str(&inline(scalar));
            out.push('\n');
        }
    }
}

/// Whether a text reads best, and reads back, as a literal block.
fn literal(text: &str) -> bool {
    text.trim_end().contains('\n')
        && !text.starts_with([' ', '\n'])
        && !text.ends_with("\n\n")
        && !text.chars().any(|c| c.is_control() && c != '\n')
}

/// Whether a text is words with single blanks between them.
fn foldable(text: &str) -> bool {
    text.split(' ').all(|word| !word.is_empty()) && !text.chars().any(char::is_control)
}

fn fold(text: &str, indent: usize, out: &mut String) {
    let mut column = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > WIDTH {
            out.push('\n');
            column = 0;
        }
        if column == 0 {
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out.push('\n');
}

/// Whether a text can stand unquoted: rather quoted once too often.
fn plain(text: &str) -> bool {
    let words = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.chars().any(char::is_control)
        && !words.contains(&text.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn everything_reads_back() {
        let long = "word ".repeat(40).trim().to_owned();
        let value = json!({
            "plain": "a word",
            "colon": "a: b",
            "end": "a:",
            "hash": "a #b",
            "quote": "it's",
            "yes": "yes",
            "number": "12",
            "octal": 8006,
            "float": 1.5,
            "null": null,
            "flag": true,
            "empty": "",
            "none": [],
            "nothing": {},
            "long": long,
            "long odd": format!("- {long}: {long} # x"),
            "two  blanks": format!("{long}  {long}"),
            "lines": "a\n\n  b: c\nd\n",
            "open": "a\nb",
            "tab": "a\tb",
            "bell": "a\u{7}\nb",
            "leading": " a",
            "list": ["a", {"b": ["c", {"d": long}], "e": "f"}, [1, 2], long],
        });
        let text = render(&value);
        let back: Value = serde_yaml_ng::from_str(&text).unwrap();
        assert_eq!(back, value, "{text}");
        assert!(
            text.lines()
                .all(|l| l.chars().count() <= 84 || l.contains("blanks")),
            "{text}"
        );
    }
}
