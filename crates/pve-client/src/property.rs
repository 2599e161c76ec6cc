//! Property strings: `local:32,discard=on,size=32G`, the small language of PVE's options.

use std::fmt;

use crate::error::shown;

/// No format of PVE's has nearly so many keys, and each occurs once.
const MOST_PARTS: usize = 256;

/// A parsed property string. The order of the parts is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertyString {
    default_key: Option<String>,
    parts: Vec<(String, String)>,
}

/// A text that is not a property string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}': {problem}")]
pub struct InvalidProperty {
    text: String,
    problem: String,
}

impl PropertyString {
    /// Parse as PVE's `parse_property_string` does: parts separated by commas, empty parts
    /// skipped, each `key=value` or a value alone, which belongs to `default_key` (`file` for
    /// drives, `model` for nics). Duplicate keys, a missing key or value are errors.
    pub fn parse(text: &str, default_key: Option<&str>) -> Result<Self, InvalidProperty> {
        let invalid = |problem: String| InvalidProperty {
            text: shown(text),
            problem: shown(&problem),
        };
        let mut parts: Vec<(String, String)> = Vec::new();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let (key, value) = match part.split_once('=') {
                Some((key, value)) if !key.trim().is_empty() && !value.is_empty() => {
                    (key.trim(), value)
                }
                Some(_) => return Err(invalid(format!("key or value missing in '{part}'"))),
                None => match default_key {
                    Some(key) => (key, part),
                    None => return Err(invalid(format!("'{part}' is a value without a key"))),
                },
            };
            if parts.iter().any(|(known, _)| known == key) {
                return Err(invalid(match part.contains('=') {
                    true => format!("'{key}' occurs twice"),
                    // A list that was written with commas.
                    false => format!(
                        "'{part}' has no key, and {key} is there already; several values of one key are joined by ';'"
                    ),
                }));
            }
            if parts.len() == MOST_PARTS {
                return Err(invalid(format!("more than {MOST_PARTS} parts")));
            }
            parts.push((key.to_string(), value.to_string()));
        }
        Ok(Self {
            default_key: default_key.map(str::to_string),
            parts,
        })
    }

    /// An empty one, to be filled with [`PropertyString::set`].
    pub fn new(default_key: Option<&str>) -> Self {
        Self {
            default_key: default_key.map(str::to_string),
            parts: Vec::new(),
        }
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.parts
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, value)| value.as_str())
    }

    /// The value of the default key: a drive's volume, a nic's model.
    pub fn default_value(&self) -> Option<&str> {
        self.default_key.as_deref().and_then(|key| self.get(key))
    }

    /// Set `key`, in its place if it is there already, else at the end.
    pub fn set(&mut self, key: &str, value: impl ToString) {
        match self.parts.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value.to_string(),
            None => self.parts.push((key.to_string(), value.to_string())),
        }
    }

    /// Remove `key` and return its value.
    pub fn remove(&mut self, key: &str) -> Option<String> {
        let index = self.parts.iter().position(|(known, _)| known == key)?;
        Some(self.parts.remove(index).1)
    }

    /// Keys and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parts
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether both mean the same: the same keys in any order, with [equal values](same_value).
    pub fn same(&self, other: &Self) -> bool {
        self.parts.len() == other.parts.len()
            && self.iter().all(|(key, value)| {
                other
                    .get(key)
                    .is_some_and(|theirs| same_value(key, value, theirs))
            })
    }
}

impl fmt::Display for PropertyString {
    /// The default key's value is written first and without its key, as PVE writes it. With it where the value alone
    /// would be read as something else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_default = |key: &str| self.default_key.as_deref() == Some(key);
        let mut texts = Vec::with_capacity(self.parts.len());
        for (key, value) in self.iter() {
            match is_default(key) {
                true if value.contains('=') || value.trim().is_empty() => {
                    texts.insert(0, format!("{key}={value}"));
                }
                true => texts.insert(0, value.to_string()),
                false => texts.push(format!("{key}={value}")),
            }
        }
        f.write_str(&texts.join(","))
    }
}

/// Whether two values of `key` mean the same: booleans in any of PVE's spellings, sizes in any
/// unit, MAC addresses in any case.
pub fn same_value(key: &str, a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    match key {
        "size" => parse_size(a).is_some() && parse_size(a) == parse_size(b),
        "macaddr" | "virtio" | "e1000" | "e1000e" | "rtl8139" | "vmxnet3" => {
            a.eq_ignore_ascii_case(b)
        }
        _ => parse_bool(a).is_some() && parse_bool(a) == parse_bool(b),
    }
}

/// A boolean as PVE's `parse_boolean` reads it: 1, on, yes, true / 0, off, no, false in any case.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "on" | "yes" | "true" => Some(true),
        "0" | "off" | "no" | "false" => Some(false),
        _ => None,
    }
}

/// A disk size such as `32G`, `528K`, `1.5T` or plain bytes, in bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = match text.char_indices().last()? {
        (at, 'K') => (&text[..at], 1u64 << 10),
        (at, 'M') => (&text[..at], 1 << 20),
        (at, 'G') => (&text[..at], 1 << 30),
        (at, 'T') => (&text[..at], 1 << 40),
        _ => (text, 1),
    };
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    match number.split_once('.') {
        None if digits(number) => number.parse::<u64>().ok()?.checked_mul(unit),
        Some((whole, fraction)) if digits(whole) && digits(fraction) => {
            let bytes = number.parse::<f64>().ok()? * unit as f64;
            (bytes < u64::MAX as f64).then_some(bytes as u64)
        }
        _ => None,
    }
}

/// A size in bytes as PVE writes it: the largest unit that divides it without a rest.
pub fn format_size(bytes: u64) -> String {
    for (unit, letter) in [
        (1u64 << 40, "T"),
        (1 << 30, "G"),
        (1 << 20, "M"),
        (1 << 10, "K"),
    ] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{}{letter}", bytes / unit);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drive(text: &str) -> PropertyString {
        PropertyString::parse(text, Some("file")).unwrap()
    }

    #[test]
    fn a_drive_round_trips() {
        let parsed = drive("local:101/vm-101-disk-1.raw,discard=on,size=2G");
        assert_eq!(parsed.default_value(), Some("local:101/vm-101-disk-1.raw"));
        assert_eq!(parsed.get("size"), Some("2G"));
        assert_eq!(
            parsed.to_string(),
            "local:101/vm-101-disk-1.raw,discard=on,size=2G"
        );
    }

    #[test]
    fn meaning_is_compared_and_not_spelling() {
        assert!(drive("file=local:1,discard=on,ssd=1").same(&drive("local:1,ssd=yes,discard=on")));
        assert!(drive("local:1,size=2G").same(&drive("local:1,size=2048M")));
        assert!(!drive("local:1,size=2G").same(&drive("local:1,size=3G")));
        assert!(!drive("local:1").same(&drive("local:1,ssd=1")));
        let nic = |text| PropertyString::parse(text, Some("model")).unwrap();
        assert!(
            nic("virtio=bc:24:11:00:00:01,bridge=vmbr0")
                .same(&nic("virtio=BC:24:11:00:00:01,bridge=vmbr0"))
        );
    }

    #[test]
    fn what_pve_refuses_is_refused() {
        for text in ["local:1,ssd=", "=x", "local:1,local:2", "ssd=1,ssd=0"] {
            assert!(PropertyString::parse(text, Some("file")).is_err(), "{text}");
        }
        assert!(PropertyString::parse("x", None).is_err());
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("528K"), Some(540_672));
        assert_eq!(parse_size("1.5G"), Some(1_610_612_736));
        assert_eq!(
            (
                parse_size("G"),
                parse_size("2g"),
                parse_size("-1"),
                parse_size("")
            ),
            (None, None, None, None)
        );
        assert_eq!(format_size(540_672), "528K");
        assert_eq!(format_size(32 << 30), "32G");
    }

    proptest! {
        #[test]
        fn formatting_and_parsing_agree(
            parts in proptest::collection::btree_map("[a-z][a-z0-9_-]{0,6}", "[A-Za-z0-9:/;._-]{1,12}", 1..6)
        ) {
            let mut made = PropertyString::new(Some("file"));
            for (key, value) in &parts {
                made.set(key, value);
            }
            let read = PropertyString::parse(&made.to_string(), Some("file")).unwrap();
            prop_assert!(made.same(&read));
        }

        #[test]
        fn any_text_is_parsed_or_refused_without_panicking(text in ".*") {
            let _ = PropertyString::parse(&text, Some("file"));
            let _ = parse_size(&text);
        }

        #[test]
        fn sizes_round_trip(bytes in 1u64..(1 << 50)) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Some(bytes));
        }
    }
}
