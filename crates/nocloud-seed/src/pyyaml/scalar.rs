//! How YAML 1.1 reads a scalar.

use std::sync::LazyLock;

use regex_lite::{Captures, Regex};
use saphyr_parser::{ScalarStyle, Tag};
use serde_json::{Number, Value};

use super::node::{Fault, MERGE, Trap, fault};
use super::tag::{is_plain_tag, standard, unknown_tag};
use crate::mime;

macro_rules! pattern {
    ($name:ident, $text:expr) => {
        static $name: LazyLock<Regex> =
            LazyLock::new(|| Regex::new($text).expect("a pattern of this crate"));
    };
}

// PyYAML's resolvers (lib/yaml/resolver.py).
pattern!(WORD, "^(?:yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF)$");
pattern!(BOOL, "^(?:true|True|TRUE|false|False|FALSE)$");
pattern!(NULL, "^(?:~|null|Null|NULL|)$");
pattern!(OCTAL, "^[-+]?0[0-7_]+$");
pattern!(OTHER_BASE, "^[-+]?0(?:b[01_]+|x[0-9a-fA-F_]+)$");
pattern!(DECIMAL, "^[-+]?(?:0|[1-9][0-9_]*)$");
pattern!(
    SIXTY,
    "^[-+]?(?:[1-9][0-9_]*(?::[0-5]?[0-9])+|[0-9][0-9_]*(?::[0-5]?[0-9])+\\.[0-9_]*)$"
);
pattern!(
    FLOAT,
    "^(?:[-+]?(?:[0-9][0-9_]*)\\.[0-9_]*(?:[eE][-+][0-9]+)?|\\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?\\.(?:inf|Inf|INF)|\\.(?:nan|NaN|NAN))$"
);
pattern!(
    DATE,
    "^([0-9]{4})-([0-9][0-9]?)-([0-9][0-9]?)(?:(?:[Tt]|[ \\t]+)([0-9][0-9]?):([0-9][0-9]):([0-9][0-9])(?:\\.[0-9]*)?(?:[ \\t]*(?:Z|[-+]([0-9][0-9]?)(?::([0-9][0-9]))?))?)?$"
);

/// The value of a scalar, and what is to be said of it.
pub(super) fn scalar(
    text: &str,
    style: ScalarStyle,
    tag: Option<&Tag>,
    line: usize,
) -> Result<(Value, Option<Trap>), Fault> {
    if let Some(tag) = tag.filter(|tag| !is_plain_tag(tag)) {
        let Some(name) = standard(tag) else {
            return unknown_tag(tag, line);
        };
        return match name {
            "binary" if mime::decoded(text).is_none() => {
                fault(line, "a value is not base64, which its tag !!binary says")
            }
            "str" | "binary" | "python/unicode" => Ok((text.into(), None)),
            "null" => Ok((Value::Null, None)),
            "int" | "float" | "bool" | "timestamp" => match plain(text, line)? {
                (Value::String(_), _) if name != "timestamp" || !DATE.is_match(text) => {
                    fault(line, "a value is not what its tag says")
                }
                found => Ok(found),
            },
            _ => unknown_tag(tag, line),
        };
    }
    match style {
        ScalarStyle::Plain => plain(text, line),
        _ => Ok((text.into(), None)),
    }
}

/// The value of a plain scalar in YAML 1.1.
fn plain(text: &str, line: usize) -> Result<(Value, Option<Trap>), Fault> {
    // Most values begin with none of these.
    if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.~=<yYnNtTfFoO".contains(c))
        && !text.is_empty()
    {
        return Ok((text.into(), None));
    }
    let underscore = text.contains('_').then_some(Trap::Underscore);
    Ok(if text == "<<" {
        (MERGE.into(), None)
    } else if text == "=" {
        // PyYAML has no constructor for it, but takes it as a key.
        (text.into(), None)
    } else if WORD.is_match(text) {
        let on = matches!(text.to_ascii_lowercase().as_str(), "yes" | "on");
        (on.into(), Some(Trap::Word))
    } else if BOOL.is_match(text) {
        (text.eq_ignore_ascii_case("true").into(), None)
    } else if NULL.is_match(text) {
        (Value::Null, None)
    } else if OCTAL.is_match(text) {
        let (value, trap) = octal(text, line)?;
        (value, underscore.or(trap))
    } else if OTHER_BASE.is_match(text) {
        let radix = if text.contains('b') && !text.contains('x') {
            2
        } else {
            16
        };
        (integer(text, radix, 2, line)?, underscore)
    } else if DECIMAL.is_match(text) {
        (integer(text, 10, 0, line)?, underscore)
    } else if SIXTY.is_match(text) {
        (Value::from(0), Some(Trap::Sixty))
    } else if FLOAT.is_match(text) {
        let (value, trap) = fraction(text);
        (value, underscore.or(trap))
    } else if let Some(found) = DATE.captures(text) {
        (text.into(), date(text, &found, line)?)
    } else {
        (text.into(), None)
    })
}

/// A whole number in this base. `prefix` is how many characters there are between its sign and its digits.
fn integer(text: &str, radix: u32, prefix: usize, line: usize) -> Result<Value, Fault> {
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let digits: String = digits.chars().skip(prefix).filter(|c| *c != '_').collect();
    match i128::from_str_radix(&digits, radix) {
        Ok(number) => Ok(number_value(if sign { -number } else { number })),
        // More digits than any number that cloud-init takes.
        Err(_) if !digits.is_empty() => Ok(Value::from(0)),
        Err(_) => fault(line, "a number without digits is not allowed; quote it"),
    }
}

fn octal(text: &str, line: usize) -> Result<(Value, Option<Trap>), Fault> {
    let value = integer(text, 8, 0, line)?;
    let decimal = text.trim_start_matches(['+', '-']).parse::<i64>().ok();
    let differs = value.as_i64().map(i64::abs) != decimal;
    let trap = value
        .as_i64()
        .filter(|_| differs)
        .map(|v| Trap::Octal(v.unsigned_abs()));
    Ok((value, trap))
}

fn fraction(text: &str) -> (Value, Option<Trap>) {
    let number = text
        .replace('_', "")
        .parse::<f64>()
        .ok()
        .and_then(Number::from_f64);
    let ends_in_0 = text
        .split_once('.')
        .is_some_and(|(_, part)| part.len() > 1 && part.ends_with('0'));
    let trap = ends_in_0.then_some(Trap::Fraction);
    (number.map_or(Value::from(0), Value::Number), trap)
}

/// What [`DATE`] found in a text: refused if PyYAML would fail to make a date of it.
fn date(text: &str, found: &Captures<'_>, line: usize) -> Result<Option<Trap>, Fault> {
    let part = |n: usize| {
        found
            .get(n)
            .map_or(0, |part| part.as_str().parse::<u32>().unwrap_or(u32::MAX))
    };
    let (year, month, day) = (part(1), part(2), part(3));
    // Without a time the digits must be two each.
    let is_date = found.get(4).is_some() || text.len() == 10;
    let days = match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let exists = year > 0
        && (1..=12).contains(&month)
        && (1..=days).contains(&day)
        && part(4) < 24
        && part(5) < 60
        && part(6) < 60
        && part(7) < 24;
    if is_date && !exists {
        return fault(
            line,
            "a value looks like a date, but there is no such day or time; quote it",
        );
    }
    let trap = match found.get(4) {
        Some(_) => Trap::Time,
        None => Trap::Date,
    };
    Ok(is_date.then_some(trap))
}

fn number_value(number: i128) -> Value {
    i64::try_from(number)
        .map(Value::from)
        .or_else(|_| u64::try_from(number).map(Value::from))
        .unwrap_or(Value::from(0))
}
