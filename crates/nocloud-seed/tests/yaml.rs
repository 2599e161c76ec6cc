//! The YAML writer against a YAML reader.

use nocloud_seed::yaml;
use proptest::prelude::*;
use serde_json::{Value, json};

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::num::f64::NORMAL.prop_map(Value::from),
        ".*".prop_map(Value::from),
        "[a-zA-Z0-9:._/ #'\"-]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(".{0,8}", inner, 0..5).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {

    /// What is written is what is read.
    #[test]
    fn round_trip(value in json_value()) {
        let text = yaml::to_string(&value);
        let read: Value = serde_yaml_ng::from_str(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert_eq!(read, value, "{}", text);
    }

    /// Nothing that YAML 1.1 might not take as a character.
    #[test]
    fn only_printable_ascii(value in json_value()) {
        let text = yaml::to_string(&value);
        prop_assert!(text.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)), "{:?}", text);
    }
}

/// Strings that YAML 1.1, which cloud-init reads, would take for something else.
#[test]
fn strings_that_look_like_something_else_are_quoted() {
    for word in [
        "0600",
        "1:30",
        "no",
        "On",
        "y",
        "~",
        "null",
        ".inf",
        "1e3",
        "2026-01-01",
        "=",
        "<<",
        "- a",
        "a: b",
        "",
    ] {
        let text = yaml::to_string(&json!({ "k": word }));
        assert_eq!(text, format!("k: \"{word}\"\n"));
    }
    assert_eq!(
        yaml::to_string(&json!({"path": "/etc/ssh/x.pub", "number": 1, "l": [], "d": {}})),
        "path: /etc/ssh/x.pub\nnumber: 1\nl: []\nd: {}\n"
    );
    assert_eq!(
        yaml::to_string(&json!([{"a": 1, "b": [[1, 2], "x"]}, "y y"])),
        "- a: 1\n  b:\n    -\n      - 1\n      - 2\n    - x\n- \"y y\"\n"
    );
}
