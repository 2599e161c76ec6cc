//! The arguments of a task as they may be shown.

use serde_json::{Map, Value};

use crate::mask::rules::WHOLE;
use crate::spec::{Kind, Spec, Type};

/// `params` as they may be shown: secret options, and what is under an unknown name (perhaps
/// a secret whose option is misspelt), are masked.
pub fn invocation(spec: &Spec, params: &Map<String, Value>) -> Value {
    params
        .iter()
        .map(|(name, value)| {
            let option = spec.option(name).or_else(|| spec.option_by_alias(name));
            let shown = match option {
                Some(option) if !option.no_log => shown(&option.ty, value),
                _ => masked(value),
            };
            (name.clone(), shown)
        })
        .collect()
}

fn shown(ty: &Type, value: &Value) -> Value {
    match (&ty.kind, value) {
        (Kind::Struct(spec), Value::Object(params)) => invocation(spec, params),
        (Kind::List(element), Value::Array(items)) => {
            items.iter().map(|item| shown(element, item)).collect()
        }
        (Kind::Map(element), Value::Object(map)) => map
            .iter()
            .map(|(key, value)| (key.clone(), shown(element, value)))
            .collect(),
        (Kind::Either(types), Value::Object(_)) => {
            let mut structs = types
                .iter()
                .filter(|ty| matches!(ty.kind, Kind::Struct(_) | Kind::Map(_)));
            match (structs.next(), structs.next()) {
                (Some(ty), None) => shown(ty, value),
                _ => value.clone(),
            }
        }
        // What could not be read as this type: its secrets may be anywhere within.
        (Kind::Struct(_) | Kind::List(_) | Kind::Map(_), value) if has_secrets(ty) => masked(value),
        _ => value.clone(),
    }
}

pub(super) fn has_secrets(ty: &Type) -> bool {
    match &ty.kind {
        Kind::Struct(spec) => spec
            .options
            .iter()
            .any(|option| option.no_log || has_secrets(&option.ty)),
        Kind::List(element) | Kind::Map(element) => has_secrets(element),
        Kind::Either(types) => types.iter().any(has_secrets),
        _ => false,
    }
}

fn masked(value: &Value) -> Value {
    match value {
        Value::Null | Value::Bool(_) => value.clone(),
        Value::Array(items) => items.iter().map(masked).collect(),
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), masked(v))).collect(),
        Value::String(text) if text.is_empty() => value.clone(),
        _ => Value::from(WHOLE),
    }
}
