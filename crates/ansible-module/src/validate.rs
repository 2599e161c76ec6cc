//! Checking and converting a task's arguments in the order, and with the texts, of Ansible's
//! `ArgumentSpecValidator` (ansible-core 2.19). Like a Python module, we report the first error.

mod checked;
mod rules;
mod values;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::coerce::{python_str, type_name};
use crate::spec::{Kind, Spec, Type};
use crate::{Failure, FailureKind, Rule};

pub use checked::Checked;
use checked::found_in;
use rules::{broken, mutually_exclusive};
use values::{convert, fitting, values};

/// Check `params` against `spec` and `rules`, and convert them in place.
pub fn validate(spec: &Spec, rules: &[Rule], params: &mut Map<String, Value>) -> Checked {
    let mut checked = Checked::default();
    let mut context = Vec::new();
    level(spec, rules, params, &mut context, &mut checked);
    checked
}

fn level(
    spec: &Spec,
    rules: &[Rule],
    params: &mut Map<String, Value>,
    context: &mut Vec<String>,
    checked: &mut Checked,
) {
    let from_environment = fallbacks(spec, params, checked);
    aliases(spec, params, context, &from_environment, checked);
    unsupported(spec, params, context, checked);
    mutually_exclusive(rules, params, context, checked);
    defaults(spec, params, checked);
    required(spec, params, context, checked);
    for option in &spec.options {
        if let Some(value) = params.get(&option.name) {
            if value.is_null() && !option.required && option.default.is_none() {
                continue;
            }
            let value = value.clone();
            match convert(&option.ty.kind, &option.name, &value, context, checked) {
                Ok(converted) => {
                    params.insert(option.name.clone(), converted);
                }
                Err(reason) => {
                    let found_in = match context.is_empty() {
                        true => String::new(),
                        false => format!(" found in '{}'.", context.join(" -> ")),
                    };
                    checked.errors.push(format!(
                        "argument '{}' is of type {}{found_in} and we were unable to convert to {}: {reason}",
                        option.name,
                        type_name(&value),
                        option.ty.kind.name(),
                    ));
                }
            }
        }
    }
    for option in &spec.options {
        if let Some(value) = params.get_mut(&option.name) {
            values(option, value, context, checked);
        }
    }
    for rule in rules {
        if let Some(broken) = broken(rule, params) {
            checked.errors.push(broken + &found_in(context));
        }
    }
    for option in &spec.options {
        match params.get_mut(&option.name) {
            None => {
                params.insert(option.name.clone(), Value::Null);
            }
            Some(value) => {
                context.push(option.name.clone());
                inner(&option.ty, value, context, checked);
                context.pop();
            }
        }
    }
}

/// Take absent options from the environment; returns their names.
fn fallbacks(spec: &Spec, params: &mut Map<String, Value>, checked: &mut Checked) -> Vec<String> {
    let mut taken = Vec::new();
    for option in &spec.options {
        if params.contains_key(&option.name) {
            continue;
        }
        if let Some(value) = option.env.iter().find_map(|name| std::env::var(name).ok()) {
            if option.no_log {
                checked.secrets.push(value.clone());
            }
            params.insert(option.name.clone(), Value::String(value));
            taken.push(option.name.clone());
        }
    }
    taken
}

fn aliases(
    spec: &Spec,
    params: &mut Map<String, Value>,
    context: &[String],
    from_environment: &[String],
    checked: &mut Checked,
) {
    for option in &spec.options {
        for alias in &option.aliases {
            let Some(value) = params.shift_remove(alias) else {
                continue;
            };
            let before = params.insert(option.name.clone(), value);
            if before.is_some() && !from_environment.contains(&option.name) {
                let prefix: String = context.iter().map(|c| format!("{c}.")).collect();
                checked.warnings.push(format!(
                    "Both option {prefix}{} and its alias {prefix}{alias} are set.",
                    option.name
                ));
            }
        }
    }
}

fn unsupported(
    spec: &Spec,
    params: &Map<String, Value>,
    context: &[String],
    checked: &mut Checked,
) {
    for key in params.keys().filter(|key| spec.option(key).is_none()) {
        let name = context.iter().chain([key]).cloned().collect::<Vec<_>>();
        checked.unsupported.insert(name.join("."), supported(spec));
    }
}

/// `a, b (y, z)`: the options, then all aliases.
fn supported(spec: &Spec) -> String {
    let sorted = |mut names: Vec<&str>| {
        names.sort_unstable();
        names.join(", ")
    };
    let names = sorted(spec.options.iter().map(|o| o.name.as_str()).collect());
    let aliases = spec.options.iter().flat_map(|o| &o.aliases);
    let aliases = sorted(aliases.map(String::as_str).collect());
    if aliases.is_empty() {
        names
    } else {
        format!("{names} ({aliases})")
    }
}

fn defaults(spec: &Spec, params: &mut Map<String, Value>, checked: &mut Checked) {
    for option in &spec.options {
        if let Some(default) = &option.default
            && !params.contains_key(&option.name)
        {
            if option.no_log {
                checked.secrets.push(python_str(default));
            }
            params.insert(option.name.clone(), default.clone());
        }
    }
}

fn required(spec: &Spec, params: &Map<String, Value>, context: &[String], checked: &mut Checked) {
    let mut missing: Vec<&str> = spec
        .options
        .iter()
        .filter(|option| option.required && !params.contains_key(&option.name))
        .map(|option| option.name.as_str())
        .collect();
    missing.sort_unstable();
    if !missing.is_empty() {
        checked.errors.push(format!(
            "missing required arguments: {}{}",
            missing.join(", "),
            found_in(context)
        ));
    }
}

/// Check what is inside structs, wherever they are.
fn inner(ty: &Type, value: &mut Value, context: &mut Vec<String>, checked: &mut Checked) {
    match (&ty.kind, value) {
        (Kind::Struct(spec), Value::Object(params)) => {
            level(spec, &[], params, context, checked);
            prune(params, spec);
        }
        (Kind::List(element), Value::Array(items)) => {
            for item in items {
                inner(element, item, context, checked);
            }
        }
        (Kind::Map(element), Value::Object(map)) => {
            for (key, value) in map {
                context.push(key.clone());
                inner(element, value, context, checked);
                context.pop();
            }
        }
        (Kind::Either(types), value) => {
            if let Some(ty) = fitting(types, value) {
                inner(ty, value, context, checked);
            }
        }
        _ => {}
    }
}

/// Drop the options that were not given, so that serde's own defaults apply. Where Ansible's
/// parameters are shown, null stands for them.
fn prune(params: &mut Map<String, Value>, spec: &Spec) {
    params.retain(|name, value| !(value.is_null() && spec.option(name).is_some()));
}

/// The checked parameters as a module's own type.
///
/// # Errors
/// Kind `invalid_option`, with the path of the value that the type does not take.
pub fn typed<T: DeserializeOwned>(
    mut params: Map<String, Value>,
    spec: &Spec,
) -> Result<T, Failure> {
    prune(&mut params, spec);
    serde_path_to_error::deserialize(Value::Object(params)).map_err(|error| {
        let path = error.path().to_string();
        let reason = error.into_inner();
        let msg = match path.as_str() {
            "." => format!("invalid options: {reason}"),
            _ => format!("invalid value of {path}: {reason}"),
        };
        Failure::new(FailureKind::InvalidOption, msg).object(path)
    })
}

#[cfg(test)]
mod tests;
