//! The values of a YAML text, with their lines.

use std::rc::Rc;

use serde_json::{Map, Value};

/// Why a text is not what was meant, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub line: usize,
    pub problem: String,
}

pub(super) fn fault<T>(line: usize, problem: impl Into<String>) -> Result<T, Fault> {
    Err(Fault {
        line,
        problem: problem.into(),
    })
}

/// How a plain scalar is read in YAML 1.1 although it looks like something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trap {
    /// `yes`, `no`, `on`, `off` in any case.
    Word,
    /// A number with a leading zero, which is octal.
    Octal(u64),
    /// A number to the base 60, written with colons.
    Sixty,
    /// A number with underscores.
    Underscore,
    /// A fraction that ends in 0.
    Fraction,
    /// A day.
    Date,
    /// A day and a time.
    Time,
}

/// A value and the line it is on.
#[derive(Debug)]
pub(crate) struct Node {
    pub line: usize,
    pub(super) data: Data,
    pub(super) trap: Option<Trap>,
    /// How many values it is with everything in it.
    pub(super) weight: u64,
}

#[derive(Debug)]
pub(super) enum Data {
    Scalar(Value),
    List(Vec<Rc<Node>>),
    Map(Vec<(Rc<Node>, Rc<Node>)>),
}

impl Node {
    /// A value whose lines are not known.
    pub(super) fn plain(value: &Value) -> Self {
        let data = match value {
            Value::Array(items) => Data::List(
                items
                    .iter()
                    .map(|item| Rc::new(Self::plain(item)))
                    .collect(),
            ),
            Value::Object(map) => Data::Map(
                map.iter()
                    .map(|(key, value)| {
                        let key = Self::plain(&Value::from(key.as_str()));
                        (Rc::new(key), Rc::new(Self::plain(value)))
                    })
                    .collect(),
            ),
            scalar => Data::Scalar(scalar.clone()),
        };
        Self {
            line: 1,
            data,
            trap: None,
            weight: 1,
        }
    }

    /// As JSON: a key that is not a text becomes one, a date stays text.
    pub fn to_json(&self) -> Value {
        match &self.data {
            Data::Scalar(value) => value.clone(),
            Data::List(items) => items.iter().map(|item| item.to_json()).collect(),
            Data::Map(entries) => {
                let mut map = Map::new();
                // Merged keys first: the mapping's own win.
                for (_, from) in entries.iter().filter(|(key, _)| key.is_merge()) {
                    for source in from.sources() {
                        if let Value::Object(more) = source.to_json() {
                            for (key, value) in more {
                                map.entry(key).or_insert(value);
                            }
                        }
                    }
                }
                for (key, value) in entries.iter().filter(|(key, _)| !key.is_merge()) {
                    map.insert(key.key_text(), value.to_json());
                }
                Value::Object(map)
            }
        }
    }

    /// The line of what is at this path, or of the last part of it that there is.
    pub fn line_of(&self, path: &[String]) -> usize {
        let Some((first, rest)) = path.split_first() else {
            return self.line;
        };
        let inner = match &self.data {
            Data::Map(entries) => entries
                .iter()
                .find(|(key, _)| key.key_text() == *first)
                .map(|(key, value)| if rest.is_empty() { key } else { value }),
            Data::List(items) => first.parse::<usize>().ok().and_then(|n| items.get(n)),
            Data::Scalar(_) => None,
        };
        inner.map_or(self.line, |inner| inner.line_of(rest))
    }

    pub(super) fn key_text(&self) -> String {
        match &self.data {
            Data::Scalar(Value::String(text)) => text.clone(),
            Data::Scalar(other) => other.to_string(),
            _ => String::new(),
        }
    }

    pub(super) fn is_merge(&self) -> bool {
        matches!(&self.data, Data::Scalar(Value::String(text)) if text == MERGE)
    }

    /// What a merge key takes in: a mapping, or a list of them.
    pub(super) fn sources(&self) -> Vec<&Node> {
        match &self.data {
            Data::List(items) => items.iter().map(|item| &**item).collect(),
            _ => vec![self],
        }
    }

    pub fn is_list(&self) -> bool {
        matches!(self.data, Data::List(_))
    }

    pub fn is_map(&self) -> bool {
        matches!(self.data, Data::Map(_))
    }
}

/// The merge key as it is kept here, which no other key can be.
pub(super) const MERGE: &str = "\0<<";
