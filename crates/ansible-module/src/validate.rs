//! Checking and converting a task's arguments in the order, and with the texts, of Ansible's
//! `ArgumentSpecValidator` (ansible-core 2.19). Like a Python module, we report the first error.

use crate::FailureKind;
use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::coerce::{
    python_str, to_bool, to_dict, to_float, to_int, to_list, to_path, to_str, type_name,
};
use crate::spec::{Kind, OptionSpec, Spec, Type};
use crate::{Failure, Rule};

/// What validation found.
#[derive(Debug, Default)]
pub struct Checked {
    /// In the order in which Ansible would find them.
    errors: Vec<String>,
    /// The dotted names of unknown options, each with the options known at its level.
    unsupported: BTreeMap<String, String>,
    /// For the user.
    pub warnings: Vec<String>,
    /// Values that came from elsewhere than the arguments (environment, defaults) and are secret.
    pub secrets: Vec<String>,
}

impl Checked {
    /// The options that are unknown, if that is the error.
    pub fn unsupported(&self) -> impl Iterator<Item = &str> {
        let names = self.unsupported.keys().map(String::as_str);
        names.filter(|_| self.errors.is_empty())
    }

    /// The first error, as a Python module called `module` would report it.
    pub fn error(&self, module: &str, ignore_unknown: bool) -> Option<String> {
        if let Some(first) = self.errors.first() {
            return Some(first.clone());
        }
        let (_, supported) = self.unsupported.last_key_value()?;
        let names: Vec<&str> = self.unsupported.keys().map(String::as_str).collect();
        (!ignore_unknown).then(|| {
            format!(
                "Unsupported parameters for ({module}) module: {}. Supported parameters include: {supported}.",
                names.join(", ")
            )
        })
    }
}

impl Checked {
    /// Every error but unknown names, where the suboptions of `option` are the variables of a role: by their names there, which have a
    /// prefix.
    pub fn variables(&self, option: &str, prefix: &str) -> Vec<String> {
        let renamed = |error: &String| {
            error
                .replace(&format!(" found in '{option}'."), "")
                .replace(&format!(" found in {option}"), "")
                .replace("argument '", &format!("argument '{prefix}"))
                .replace("value of ", &format!("value of {prefix}"))
                .replace(
                    "missing required arguments: ",
                    &format!("missing required variables: {prefix}"),
                )
        };
        self.errors.iter().map(renamed).collect()
    }

    /// Every unknown name, likewise, with the known one that it resembles.
    pub fn unknown_variables(&self, option: &str, prefix: &str) -> Vec<String> {
        let unknown = self.unsupported.iter().map(|(name, supported)| {
            let Some(name) = name.strip_prefix(&format!("{option}.")) else {
                return format!("{name}: is not an option of this module");
            };
            let names = supported.split([',', ' ', '(', ')']).filter(|name| !name.is_empty());
            let near = names
                .map(|known| (distance(name, known), known))
                .filter(|(distance, _)| *distance <= 2 + name.len() / 8)
                .min();
            match near {
                Some((_, known)) => format!("{prefix}{name}: is not a variable of the role; did you mean {prefix}{known}?"),
                None => format!(
                    "{prefix}{name}: is not a variable of the role (`ansible-doc -t role -r roles nixos_vm` lists them); give a \
                     variable of your own another prefix"
                ),
            }
        });
        unknown.collect()
    }
}

/// How many letters must be changed, added or removed to make one word the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut above = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = above + usize::from(x != *y);
            above = row[j + 1];
            row[j + 1] = cost.min(above + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Check `params` against `spec` and `rules`, and convert them in place.
pub fn validate(spec: &Spec, rules: &[Rule], params: &mut Map<String, Value>) -> Checked {
    let mut checked = Checked::default();
    let mut context = Vec::new();
    level(spec, rules, params, &mut context, &mut checked);
    checked
}

/// ` found in net -> net0`, where the options are not those of the top level.
fn found_in(context: &[String]) -> String {
    if context.is_empty() {
        String::new()
    } else {
        format!(" found in {}", context.join(" -> "))
    }
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
                    let place = match context.is_empty() {
                        true => String::new(),
                        false => format!(" found in '{}'.", context.join(" -> ")),
                    };
                    checked.errors.push(format!(
                        "argument '{}' is of type {}{place} and we were unable to convert to {}: {reason}",
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

fn mutually_exclusive(
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
        .filter(|names| given(params, names) > 1)
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

fn given(params: &Map<String, Value>, names: &[&str]) -> usize {
    names
        .iter()
        .filter(|name| params.contains_key(**name))
        .count()
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

/// The value of an option, converted; what is inside structs is left for [`inner`].
fn convert(
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
fn member(ty: &Type, key: &str, value: &mut Value, context: &[String], checked: &mut Checked) {
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
fn fitting<'a>(types: &'a [Type], value: &Value) -> Option<&'a Type> {
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
fn values(option: &OptionSpec, value: &mut Value, context: &[String], checked: &mut Checked) {
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

fn listed(ty: &Type) -> String {
    let texts: Vec<String> = ty.choices.iter().map(|c| python_str(&c.value)).collect();
    texts.join(", ")
}

fn choices(ty: &Type, name: &str, value: &mut Value, context: &[String], checked: &mut Checked) {
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
fn range(ty: &Type, name: &str, value: &Value, context: &[String], checked: &mut Checked) {
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

/// The error of a rule that is broken, without its place.
fn broken(rule: &Rule, params: &Map<String, Value>) -> Option<String> {
    match rule {
        // Checked earlier, before defaults are set.
        Rule::MutuallyExclusive(_) => None,
        Rule::RequiredTogether(names) => {
            let count = given(params, names);
            (count > 0 && count < names.len())
                .then(|| format!("parameters are required together: {}", names.join(", ")))
        }
        Rule::RequiredOneOf(names) => (given(params, names) == 0)
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
