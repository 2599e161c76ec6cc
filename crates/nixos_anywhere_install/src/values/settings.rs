//! Values of settings for Nix, ssh and the SSH store, as YAML gives them.

use serde_json::Value;

/// How the reader of a setting writes booleans, and what stands between the words of a list.
pub(crate) struct Style {
    yes: &'static str,
    no: &'static str,
    /// None where a list is not a value.
    separator: Option<&'static str>,
}

/// `nix.conf`, and the settings of a store.
pub(crate) const NIX: Style = Style {
    yes: "true",
    no: "false",
    separator: Some(" "),
};

/// An option of `ssh` that takes one word.
pub(crate) const SSH: Style = Style {
    yes: "yes",
    no: "no",
    separator: None,
};

/// An option of `ssh` that takes a list of algorithms.
pub(crate) const SSH_LIST: Style = Style {
    yes: "yes",
    no: "no",
    separator: Some(","),
};

/// The text of `value` in `style`.
///
/// # Errors
/// What is wrong with it, for behind the option's name.
pub(crate) fn text(value: &Value, style: &Style) -> Result<String, String> {
    let Value::Array(items) = value else {
        return scalar(value, style);
    };
    let Some(separator) = style.separator else {
        return Err("must be one word (got a list)".into());
    };
    let words: Vec<String> = items
        .iter()
        .map(|item| {
            let word = scalar(item, style)?;
            match word.is_empty() || word.contains(separator) || word.contains(char::is_whitespace)
            {
                true => Err(format!(
                    "each element of the list must be one word (got {word:?})"
                )),
                false => Ok(word),
            }
        })
        .collect::<Result<_, _>>()?;
    Ok(words.join(separator))
}

fn scalar(value: &Value, style: &Style) -> Result<String, String> {
    let refused = |what: &str| Err(format!("must be text, a number or a boolean (got {what})"));
    match value {
        Value::Bool(true) => Ok(style.yes.into()),
        Value::Bool(false) => Ok(style.no.into()),
        Value::Number(number) if !number.is_f64() => Ok(number.to_string()),
        // YAML reads 26.10 as 26.1.
        Value::Number(number) => Err(format!(
            "{number} is a fraction, whose digits YAML may have changed; put it in quotes"
        )),
        // Ansible hands on a template's boolean as Python writes it.
        Value::String(text) if text == "True" => Ok(style.yes.into()),
        Value::String(text) if text == "False" => Ok(style.no.into()),
        Value::String(text) if text.trim_start().starts_with(['[', '{']) => Err(format!(
            "is a list or dict written as text (got {text:?}); write a YAML list"
        )),
        Value::String(text) if text.contains(char::is_control) => {
            Err("must be one line without control characters".into())
        }
        Value::String(text) => Ok(text.clone()),
        Value::Null => refused("null"),
        Value::Array(_) => refused("a list within a list"),
        Value::Object(_) => refused("a dict"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_written_as_their_reader_expects() {
        let cases = [
            (json!("2"), &NIX, Ok("2")),
            (json!(2), &NIX, Ok("2")),
            (json!(true), &NIX, Ok("true")),
            (json!("False"), &NIX, Ok("false")),
            (json!(false), &SSH, Ok("no")),
            (
                json!(["https://a", "https://b"]),
                &NIX,
                Ok("https://a https://b"),
            ),
            (json!([true, 1, "x"]), &NIX, Ok("true 1 x")),
            (json!([]), &NIX, Ok("")),
            (json!(["a", "b"]), &SSH_LIST, Ok("a,b")),
            (json!(["a"]), &SSH, Err("got a list")),
            (json!(["a b"]), &NIX, Err("one word")),
            (json!([["a"]]), &NIX, Err("a list within a list")),
            (json!({"a": 1}), &NIX, Err("a dict")),
            (json!([{}]), &NIX, Err("a dict")),
            (json!(null), &NIX, Err("null")),
            (json!(26.1), &NIX, Err("quotes")),
            (json!("['a', 'b']"), &NIX, Err("YAML list")),
            (json!("a\nb"), &NIX, Err("one line")),
        ];
        for (value, style, expected) in cases {
            match (text(&value, style), expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{value}"),
                (Err(got), Err(part)) => assert!(got.contains(part), "{value}: {got}"),
                (got, _) => panic!("{value}: {got:?}"),
            }
        }
    }

    proptest! {
        /// Whatever is accepted has as many words as elements, and no trace of Python or JSON.
        #[test]
        fn a_list_keeps_its_words(words in prop::collection::vec("[a-z0-9:/=+.-]{1,12}", 0..6)) {
            let text = text(&json!(words), &NIX).unwrap();
            prop_assert_eq!(text.split_whitespace().collect::<Vec<_>>(), words);
        }
    }
}
