//! JSON values as PVE's texts.

use serde_json::Value;

/// A property string without the blanks around its keys and values, which PVE would take for parts of them.
pub fn without_blanks(text: &str) -> String {
    let parts = text.split(',').map(|part| match part.split_once('=') {
        Some((key, value)) => format!("{}={}", key.trim(), value.trim()),
        None => part.trim().to_owned(),
    });
    let parts: Vec<String> = parts.filter(|part| !part.is_empty()).collect();
    parts.join(",")
}

/// A scalar as PVE writes it: booleans are `1` and `0`. Nothing for lists, dicts and null.
pub fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(on) => Some(String::from(if *on { "1" } else { "0" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use pve_client::property::PropertyString;

    #[test]
    fn blanks_around_keys_and_values_go() {
        for (text, expected) in [
            ("host, flags=+aes", "host,flags=+aes"),
            (
                " virtio = BC:24:11:00:00:01 ,\n bridge=vmbr0,\n",
                "virtio=BC:24:11:00:00:01,bridge=vmbr0",
            ),
            ("product=a b,serial=c", "product=a b,serial=c"),
            ("/dev/disk/by-id/a=b", "/dev/disk/by-id/a=b"),
            ("", ""),
            (" , ", ""),
        ] {
            assert_eq!(without_blanks(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_parts_stay_the_same(text in "[a-c =,;]{0,30}") {
            let (before, after) = (PropertyString::parse(&text, Some("x")), PropertyString::parse(&without_blanks(&text), Some("x")));
            if let (Ok(before), Ok(after)) = (before, after) {
                let trimmed: Vec<(&str, &str)> = before.iter().map(|(key, value)| (key, value.trim())).collect();
                prop_assert_eq!(trimmed, after.iter().collect::<Vec<_>>());
            }
        }
    }
}
