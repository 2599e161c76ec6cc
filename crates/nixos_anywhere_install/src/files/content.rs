//! The content of a file, given as text or as data.

use std::borrow::Cow;
use std::io::{self, Write};

use ansible_module::Secret;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::ser::Formatter;

/// A file's content. ansible-core 2.15 to 2.18 turn a template whose text is JSON into a dict or
/// list before the module sees it, so data is accepted and written as `ansible.builtin.copy`
/// writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content(Secret);

impl Content {
    /// What to write into the file.
    pub(crate) fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(text(&Value::deserialize(deserializer)?).into()))
    }
}

impl JsonSchema for Content {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Content".into()
    }

    /// Several types make it `raw`; the format makes it `no_log`.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "object", "array", "boolean", "number"],
            "format": "password"
        })
    }
}

/// A text as it is; anything else as Python's `json.dumps` writes it. A single boolean keeps its
/// first letter: those ansible-core versions turn the texts `True` and `False` into booleans too,
/// and `copy` writes them back like this.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Null => String::new(),
        other => {
            let mut bytes = Vec::new();
            let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Python);
            // Writing to memory does not fail, and the keys of a `Value` are strings.
            let _ = other.serialize(&mut serializer);
            String::from_utf8(bytes).unwrap_or_default()
        }
    }
}

/// `json.dumps` with its default arguments.
struct Python;

impl Formatter for Python {
    fn begin_array_value<W: ?Sized + Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        to.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        to.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        to.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        to: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for c in fragment.chars() {
            if matches!(c, ' '..='~') {
                write!(to, "{c}")?;
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(to, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }

    fn write_f64<W: ?Sized + Write>(&mut self, to: &mut W, value: f64) -> io::Result<()> {
        // Both languages write the shortest text that reads back; Python's exponent has a sign and
        // two digits.
        let text = format!("{value:?}");
        match text.split_once('e') {
            None => to.write_all(text.as_bytes()),
            Some((digits, exponent)) => {
                let digits = digits.strip_suffix(".0").unwrap_or(digits);
                match exponent.strip_prefix('-') {
                    Some(exponent) => write!(to, "{digits}e-{exponent:0>2}"),
                    None => write!(to, "{digits}e+{exponent:0>2}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn data_is_written_as_ansibles_copy_writes_it() {
        let cases = [
            (json!("plain {\n"), "plain {\n"),
            (
                json!({"listen": "0.0.0.0:80", "tls": true, "up": null}),
                r#"{"listen": "0.0.0.0:80", "tls": true, "up": null}"#,
            ),
            (json!([1, [2.5, {}], []]), "[1, [2.5, {}], []]"),
            (
                json!({"é": "\u{1f600}\n\"\\\u{7f}"}),
                "{\"\\u00e9\": \"\\ud83d\\ude00\\n\\\"\\\\\\u007f\"}",
            ),
            (json!([1e16, 1e-5, 1.0, -0.5]), "[1e+16, 1e-05, 1.0, -0.5]"),
            (json!(true), "True"),
            (json!(7), "7"),
        ];
        for (value, expected) in cases {
            let content: Content = serde_json::from_value(value).unwrap();
            assert_eq!(content.expose(), expected);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(keys in prop::collection::vec(any::<String>(), 0..8), number in any::<f64>()) {
            let number = if number.is_finite() { number } else { 0.0 };
            let value = json!({"keys": keys, "number": number, "nested": {"a": [null, false, 1u64 << 60]}});
            let text = text(&value);
            prop_assert!(text.is_ascii());
            let back: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&back["keys"], &value["keys"]);
            prop_assert_eq!(&back["nested"], &value["nested"]);
        }
    }
}
