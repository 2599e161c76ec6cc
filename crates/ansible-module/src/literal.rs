//! Python's literals, which people write on Ansible's command line: `scsi={'scsi0': 'local:6'}`.

use serde_json::{Map, Value};

/// Literals are not nested deeper.
const DEEPEST: usize = 32;

/// The dict that `text` is, as Python's `ast.literal_eval` reads it.
pub fn dict(text: &str) -> Option<Map<String, Value>> {
    let mut reader = Reader { rest: text.trim() };
    let value = reader.value(0)?;
    match value {
        Value::Object(map) if reader.skip().is_empty() => Some(map),
        _ => None,
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn skip(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        self.rest
    }

    fn take(&mut self, token: &str) -> bool {
        match self.skip().strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > DEEPEST {
            return None;
        }
        match self.skip().chars().next()? {
            '{' => self.map(depth),
            '[' => self.items('[', ']', depth),
            '(' => self.items('(', ')', depth),
            '\'' | '"' => self.text().map(Value::String),
            _ => self.word(),
        }
    }

    fn map(&mut self, depth: usize) -> Option<Value> {
        self.take("{");
        let mut map = Map::new();
        while !self.take("}") {
            let key = match self.value(depth + 1)? {
                Value::String(key) => key,
                Value::Number(key) => key.to_string(),
                _ => return None,
            };
            if !self.take(":") {
                return None;
            }
            map.insert(key, self.value(depth + 1)?);
            if !self.take(",") && !self.skip().starts_with('}') {
                return None;
            }
        }
        Some(Value::Object(map))
    }

    fn items(&mut self, open: char, close: char, depth: usize) -> Option<Value> {
        self.rest = self.rest.strip_prefix(open)?;
        let mut items = Vec::new();
        loop {
            if let Some(rest) = self.skip().strip_prefix(close) {
                self.rest = rest;
                return Some(Value::Array(items));
            }
            items.push(self.value(depth + 1)?);
            if !self.take(",") && !self.skip().starts_with(close) {
                return None;
            }
        }
    }

    fn text(&mut self) -> Option<String> {
        let quote = self.rest.chars().next()?;
        let mut chars = self.rest.char_indices().skip(1);
        let mut text = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.rest = &self.rest[at + c.len_utf8()..];
                    return Some(text);
                }
                '\\' => match chars.next()?.1 {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    c @ ('\\' | '\'' | '"') => text.push(c),
                    c => text.extend(['\\', c]),
                },
                '\n' => return None,
                c => text.push(c),
            }
        }
        None
    }

    fn word(&mut self) -> Option<Value> {
        let end = self
            .rest
            .find(|c: char| matches!(c, ',' | ':' | '}' | ']' | ')') || c.is_whitespace());
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        match word {
            "True" | "true" => Some(Value::Bool(true)),
            "False" | "false" => Some(Value::Bool(false)),
            "None" | "null" => Some(Value::Null),
            word if word.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
                serde_json::from_str(word).ok()
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coerce::python_repr;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn what_people_write_on_the_command_line() {
        for (text, value) in [
            ("{'scsi0':'local:6'}", json!({"scsi0": "local:6"})),
            (
                "{ 'a': {\"b\": True, 'c': None,}, }",
                json!({"a": {"b": true, "c": null}}),
            ),
            (
                "{'a': [1, -2.5, ('x',)], 3: 'it\\'s'}",
                json!({"a": [1, -2.5, ["x"]], "3": "it's"}),
            ),
            ("{}", json!({})),
        ] {
            assert_eq!(dict(text).map(Value::Object), Some(value), "{text}");
        }
        for text in [
            "{",
            "{'a'}",
            "{'a': b}",
            "{'a': 1} x",
            "{'a': __import__('os')}",
            "['a']",
            "{'a': 1 'b': 2}",
            "{'a': 'x}",
        ] {
            assert_eq!(dict(text), None, "{text}");
        }
        assert_eq!(dict(&"{'a':".repeat(10_000)), None);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~äß\n\t]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z'\"0-9]{0,5}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_python_writes_is_read(value in value()) {
            let whole = json!({"a": value});
            prop_assert_eq!(dict(&python_repr(&whole)).map(Value::Object), Some(whole));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = dict(&text);
        }
    }
}
