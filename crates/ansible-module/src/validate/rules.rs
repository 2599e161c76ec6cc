//! Rules between options.

use serde_json::{Map, Value};

use crate::Rule;
use crate::coerce::python_str;
use crate::validate::checked::{Checked, found_in};

pub(super) fn mutually_exclusive(
    rules: &[Rule],
    params: &Map<String, Value>,
    context: &[String],
    checked: &mut Checked,
) {
    let broken: Vec<String> = rules
        .iter()
        .filter_map(|rule| match rule {
            Rule::MutuallyExclusive(names) => Some(names),
            _ => None,
        })
        .filter(|names| count_given(params, names) > 1)
        .map(|names| names.join("|"))
        .collect();
    if !broken.is_empty() {
        checked.errors.push(format!(
            "parameters are mutually exclusive: {}{}",
            broken.join(", "),
            found_in(context)
        ));
    }
}

fn count_given(params: &Map<String, Value>, names: &[&str]) -> usize {
    names
        .iter()
        .filter(|name| params.contains_key(**name))
        .count()
}

/// The error of a rule that is broken, without its place.
pub(super) fn broken(rule: &Rule, params: &Map<String, Value>) -> Option<String> {
    match rule {
        // Checked earlier, before defaults are set.
        Rule::MutuallyExclusive(_) => None,
        Rule::RequiredTogether(names) => {
            let count = count_given(params, names);
            (count > 0 && count < names.len())
                .then(|| format!("parameters are required together: {}", names.join(", ")))
        }
        Rule::RequiredOneOf(names) => (count_given(params, names) == 0)
            .then(|| format!("one of the following is required: {}", names.join(", "))),
        Rule::RequiredIf {
            option,
            value,
            options,
            one_is_enough,
        } => {
            if params.get(*option).map(python_str).as_deref() != Some(value) {
                return None;
            }
            let missing: Vec<&str> = options
                .iter()
                .filter(|name| !params.contains_key(**name))
                .copied()
                .collect();
            let (enough, word) = match one_is_enough {
                true => (options.len(), "any"),
                false => (1, "all"),
            };
            (!missing.is_empty() && missing.len() >= enough).then(|| {
                format!(
                    "{option} is {value} but {word} of the following are missing: {}",
                    missing.join(", ")
                )
            })
        }
        Rule::RequiredBy { option, needs } => {
            params.get(*option).filter(|value| !value.is_null())?;
            let missing: Vec<&str> = needs
                .iter()
                .filter(|name| params.get(**name).is_none_or(Value::is_null))
                .copied()
                .collect();
            (!missing.is_empty()).then(|| {
                format!(
                    "missing parameter(s) required by '{option}': {}",
                    missing.join(", ")
                )
            })
        }
    }
}
