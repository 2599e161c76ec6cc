//! The parts of devices and other options that are described as dicts.

use pve_schema::spelling::{close, did_you_mean};
use serde_json::Value;

use crate::config::text;

/// The value of one part of a property string: a list is joined as PVE does, and nothing can become another part.
pub fn part(name: &str, value: &Value) -> Result<String, String> {
    let text = match value {
        Value::Array(items) if items.is_empty() => {
            return Err(format!("{name}: the list is empty; leave it out"));
        }
        Value::Array(items) => {
            let items = items
                .iter()
                .map(|item| text::scalar(item).filter(|text| !text.is_empty()));
            let items = items.collect::<Option<Vec<_>>>();
            items.map(|items| items.join(";"))
        }
        value => text::scalar(value),
    };
    let text = text.ok_or_else(|| {
        format!("{name}: expected text, a number, a boolean or a list of these (got {value})")
    })?;
    if text.is_empty() {
        return Err(format!("{name}: the value is empty; leave it out"));
    }
    if let Some(c) = text.chars().find(|c| matches!(c, ',' | '\n' | '\r' | '\0')) {
        let instead = match c {
            ',' => format!(
                "; separate several values with ';' ({}), or give a list",
                text.replace(',', ";")
            ),
            _ => String::new(),
        };
        return Err(format!(
            "{name}: {text:?} contains {c:?}, which ends an option in PVE's text{instead}"
        ));
    }
    Ok(text)
}

/// Refuse a key of a dict that is not one of `known`. What a later PVE may have besides can be given as PVE's text.
pub fn check_key(key: &str, known: &[&str]) -> Result<(), String> {
    if known.contains(&key) {
        return Ok(());
    }
    let meant = did_you_mean(&close(key, known.iter().copied()));
    let known = known.join(", ");
    Err(format!(
        "{key} is not one of {known} (PVE's own text takes any){meant}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use pve_client::property::PropertyString;
    use serde_json::json;

    proptest! {
        #[test]
        fn a_value_never_becomes_another_option(value in ".*") {
            if let Ok(text) = part("mapping", &json!(value)) {
                let whole = format!("mapping={text}");
                let parsed = PropertyString::parse(&whole, None).unwrap();
                prop_assert_eq!(parsed.iter().count(), 1);
                prop_assert_eq!(parsed.get("mapping"), Some(text.as_str()));
            }
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_the_known_ones() {
        let error = check_key("vlan", &["bridge", "tag"]).unwrap_err();
        assert!(
            error.starts_with("vlan is not one of bridge, tag"),
            "{error}"
        );
    }
}
