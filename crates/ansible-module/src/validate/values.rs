//! One value: its type, choices and range.

use serde_json::Value;

use crate::coerce::{
    python_str, to_bool, to_dict, to_float, to_int, to_list, to_path, to_str, type_name,
};
use crate::spec::{Kind, OptionSpec, Type};
use crate::validate::checked::{Checked, found_in};

/// The value of an option, converted; what is inside structs is left for [`inner`].
pub(super) fn convert(
    kind: &Kind,
    name: &str,
    value: &Value,
    context: &[String],
    checked: &mut Checked,
) -> Result<Value, String> {
    match kind {
        Kind::Str => to_str(value),
        Kind::Path => to_path(value),
        Kind::Int => to_int(value),
        Kind::Float => to_float(value),
        Kind::Bool => to_bool(value),
        Kind::Raw => Ok(value.clone()),
        Kind::Struct(_) => to_dict(value).map(Value::Object),
        Kind::Map(element) => {
            let mut map = to_dict(value)?;
            let place = [context, &[name.to_owned()]].concat();
            for (key, value) in &mut map {
                member(element, key, value, &place, checked);
            }
            Ok(Value::Object(map))
        }
        Kind::List(element) => {
            let items = to_list(value)?;
            let items = items
                .iter()
                .filter_map(|item| {
                    if item.is_null() && element.nullable {
                        return Some(Value::Null);
                    }
                    convert(&element.kind, name, item, context, checked)
                        .map_err(|reason| {
                            let place = match context.is_empty() {
                                true => String::new(),
                                false => format!(" found in '{}'", context.join(" -> ")),
                            };
                            checked.errors.push(format!(
                                "Elements value for option '{name}'{place} is of type {} and we \
                                 were unable to convert to {}: {reason}",
                                type_name(item),
                                element.kind.name(),
                            ));
                        })
                        .ok()
                })
                .collect();
            Ok(Value::Array(items))
        }
        Kind::Either(types) => match fitting(types, value) {
            Some(ty) => convert(&ty.kind, name, value, context, checked),
            None => Ok(value.clone()),
        },
    }
}

/// A value of a dict with free keys: checked as if the key were an option. (Ansible itself
/// does not look into such dicts.)
pub(super) fn member(
    ty: &Type,
    key: &str,
    value: &mut Value,
    context: &[String],
    checked: &mut Checked,
) {
    if value.is_null() && ty.nullable {
        return;
    }
    match convert(&ty.kind, key, value, context, checked) {
        Ok(converted) => *value = converted,
        Err(reason) => checked.errors.push(format!(
            "argument '{key}' is of type {} found in '{}'. and we were unable to convert to {}: {reason}",
            type_name(value),
            context.join(" -> "),
            ty.kind.name(),
        )),
    }
    choices(ty, key, value, context, checked);
}

/// The type among several that a value is meant as, if that is clear.
pub(super) fn fitting<'a>(types: &'a [Type], value: &Value) -> Option<&'a Type> {
    let only = |wanted: fn(&Kind) -> bool| {
        let mut fits = types.iter().filter(|ty| wanted(&ty.kind));
        fits.next().filter(|_| fits.next().is_none())
    };
    let text = || {
        let mut texts = types
            .iter()
            .filter(|ty| matches!(ty.kind, Kind::Str | Kind::Path));
        texts.next()
    };
    match value {
        Value::Null => None,
        Value::Object(_) => only(|kind| matches!(kind, Kind::Struct(_) | Kind::Map(_))),
        Value::Array(_) => only(|kind| matches!(kind, Kind::List(_))),
        Value::String(_) => text().or_else(|| {
            types.iter().find(|ty| match ty.kind {
                Kind::Int => to_int(value).is_ok(),
                Kind::Float => to_float(value).is_ok(),
                Kind::Bool => to_bool(value).is_ok(),
                Kind::Struct(_) | Kind::Map(_) => to_dict(value).is_ok(),
                Kind::List(_) => true,
                _ => false,
            })
        }),
        Value::Bool(_) => only(|kind| matches!(kind, Kind::Bool)).or_else(text),
        Value::Number(_) => types
            .iter()
            .find(|ty| match ty.kind {
                Kind::Int => to_int(value).is_ok(),
                Kind::Float => true,
                _ => false,
            })
            .or_else(text),
    }
}

/// Choices and ranges of an option's value.
pub(super) fn values(
    option: &OptionSpec,
    value: &mut Value,
    context: &[String],
    checked: &mut Checked,
) {
    if value.is_null() && option.default.is_none() {
        return;
    }
    match (&option.ty.kind, &mut *value) {
        (Kind::List(element), Value::Array(items)) if !element.choices.is_empty() => {
            let known = |item: &&Value| !element.choices.iter().any(|c| c.value == **item);
            let unknown: Vec<String> = items.iter().filter(known).map(python_str).collect();
            if !unknown.is_empty() {
                checked.errors.push(format!(
                    "value of {} must be one or more of: {}. Got no match for: {}{}",
                    option.name,
                    listed(element),
                    unknown.join(", "),
                    found_in(context)
                ));
            }
        }
        (Kind::List(element), Value::Array(items)) => {
            for item in items {
                range(element, &option.name, item, context, checked);
            }
        }
        (Kind::Either(types), _) => {
            if let Some(ty) = fitting(types, value).cloned() {
                range(&ty, &option.name, value, context, checked);
            }
        }
        _ => choices(&option.ty, &option.name, value, context, checked),
    }
}

pub(super) fn listed(ty: &Type) -> String {
    let texts: Vec<String> = ty.choices.iter().map(|c| python_str(&c.value)).collect();
    texts.join(", ")
}

pub(super) fn choices(
    ty: &Type,
    name: &str,
    value: &mut Value,
    context: &[String],
    checked: &mut Checked,
) {
    range(ty, name, value, context, checked);
    if ty.choices.is_empty() || ty.choices.iter().any(|c| c.value == *value) {
        return;
    }
    // YAML reads an unquoted on or no as a boolean: take it back where that is unambiguous.
    let meant: &[&str] = match value.as_str() {
        Some("True") => &["y", "yes", "on", "1", "true", "t"],
        Some("False") => &["n", "no", "off", "0", "false", "f"],
        _ => &[],
    };
    let mut fits = ty
        .choices
        .iter()
        .filter(|c| c.value.as_str().is_some_and(|text| meant.contains(&text)));
    if let (Some(choice), None) = (fits.next(), fits.next()) {
        *value = choice.value.clone();
        return;
    }
    checked.errors.push(format!(
        "value of {name} must be one of: {}, got: {}{}",
        listed(ty),
        python_str(value),
        found_in(context)
    ));
}

/// Ansible has no ranges; the wording is ours.
pub(super) fn range(
    ty: &Type,
    name: &str,
    value: &Value,
    context: &[String],
    checked: &mut Checked,
) {
    let number = match (&ty.kind, value) {
        (Kind::Int, Value::Number(n)) => n.as_i128(),
        _ => return,
    };
    let fits = number
        .is_some_and(|n| ty.min.is_none_or(|min| n >= min) && ty.max.is_none_or(|max| n <= max));
    if !fits {
        let (min, max) = (ty.min.unwrap_or(0), ty.max.unwrap_or(i64::MAX.into()));
        checked.errors.push(format!(
            "value of {name} must be between {min} and {max}, got: {value}{}",
            found_in(context)
        ));
    }
}
