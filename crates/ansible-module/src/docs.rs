//! A module's documentation as the file `NAME.yml` that `ansible-doc` reads beside the binary.

use serde_json::{Map, Value, json};

use crate::coerce::python_str;
use crate::spec::{Kind, OptionSpec, Spec, Type};
use crate::yaml;
use crate::{Module, SCHEMA_VERSION};

/// The documentation cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum DocsError {
    /// A hand-written part is not YAML, or not of the form it must have.
    #[error("{part} of {module}: {reason}")]
    Text {
        /// The module's name.
        module: &'static str,
        /// `examples` or `returns`.
        part: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// An option that is neither required, nor an `Option`, nor has a default that is known.
    #[error(
        "option {option} of {module} has a default that cannot be documented: \
         derive serde::Serialize for its type"
    )]
    UnknownDefault {
        /// The module's name.
        module: &'static str,
        /// The dotted name of the option.
        option: String,
    },
    /// An option without a doc comment.
    #[error("option {option} of {module} has no doc comment")]
    Undocumented {
        /// The module's name.
        module: &'static str,
        /// The dotted name of the option.
        option: String,
    },
}

/// The text of `NAME.yml` for the module `M`: the same for the same types.
///
/// # Errors
/// Something is not documented, or a hand-written part is not proper YAML.
pub fn docs<M: Module>() -> Result<String, DocsError> {
    let documentation = M::documentation();
    let spec = Spec::of::<M::Options>();
    check(M::NAME, &spec, "")?;

    let text = |part, reason: String| DocsError::Text {
        module: M::NAME,
        part,
        reason,
    };
    let examples = serde_yaml_ng::from_str::<Value>(documentation.examples)
        .map_err(|e| text("examples", e.to_string()))?;
    if !examples.is_array() {
        return Err(text("examples", "not a list of tasks".into()));
    }
    let mut returns = Map::new();
    for yaml in [documentation.returns]
        .iter()
        .chain(documentation.shared_returns)
    {
        let values =
            serde_yaml_ng::from_str::<Value>(yaml).map_err(|e| text("returns", e.to_string()))?;
        let Value::Object(values) = values else {
            return Err(text("returns", "not a mapping of names".into()));
        };
        returns.extend(values);
    }

    let mut head = Map::new();
    head.insert("module".into(), M::NAME.into());
    head.insert(
        "short_description".into(),
        documentation.short_description.into(),
    );
    head.insert("description".into(), prose(documentation.description));
    head.insert("author".into(), json!([AUTHOR]));
    head.insert("options".into(), options(&spec, ""));
    head.insert(
        "attributes".into(),
        json!({
            "check_mode": {
                "description": "Says what would change, and changes nothing.",
                "support": "full",
            },
            "diff_mode": {
                "description": "Shows what changes, in check mode too.",
                "support": "full",
            },
        }),
    );
    for (key, lines) in [
        ("requirements", documentation.requirements),
        ("notes", documentation.notes),
    ] {
        if !lines.is_empty() {
            head.insert(key.into(), prose(lines));
        }
    }
    if !documentation.seealso.is_empty() {
        let modules = documentation.seealso.iter();
        let modules: Value = modules.map(|name| json!({"module": name})).collect();
        head.insert("seealso".into(), modules);
    }

    for (name, value) in common_returns() {
        returns.entry(name).or_insert(value);
    }
    let document = json!({
        "DOCUMENTATION": head,
        "EXAMPLES": format!("{}\n", documentation.examples.trim()),
        "RETURN": returns,
    });
    Ok(format!(
        "---\n# Generated from the module's types by `cargo xtask docs`; do not edit.\n{}",
        yaml::render(&document)
    ))
}

/// The options of the module `M` as an inventory plugin documents them: Ansible itself reads the environment for it.
///
/// # Errors
/// An option is not documented.
pub fn plugin_options<M: Module>() -> Result<Value, DocsError> {
    let spec = Spec::of::<M::Options>();
    check(M::NAME, &spec, "")?;
    let mut documented = options(&spec, "");
    for option in spec.options.iter().filter(|option| !option.env.is_empty()) {
        let entry = &mut documented[&option.name];
        if let Some(Value::Array(lines)) = entry.get_mut("description") {
            // The sentence about the environment.
            lines.pop();
        }
        let names = option.env.iter().map(|name| json!({"name": name}));
        entry["env"] = names.collect();
    }
    Ok(documented)
}

/// In the form that ansible-test wants: a name, and an account on GitHub.
const AUTHOR: &str = "The nixos-proxmox authors (@nixos-proxmox)";

/// What every module returns.
fn common_returns() -> Vec<(String, Value)> {
    vec![
        (
            "msg".into(),
            json!({
                "description": "One sentence that says what was done, or what failed.",
                "returned": "always",
                "type": "str",
            }),
        ),
        (
            "schema_version".into(),
            json!({
                "description": "The version of these keys, see C(docs/reference/*.results.json).",
                "returned": "always",
                "type": "int",
                "sample": SCHEMA_VERSION,
            }),
        ),
        (
            "error".into(),
            json!({
                "description": "The failure, for programs.",
                "returned": "failure",
                "type": "dict",
                "contains": {
                    "kind": {"description": "Why it failed, in a word: one of the kinds in C(docs/reference/errors.md).", "type": "str", "returned": "always"},
                    "object": {"description": "The object that it happened to, or null.", "type": "str"},
                    "status": {"description": "The HTTP status or exit code, or null.", "type": "int"},
                    "detail": {"description": "The full answer or cause, or null.", "type": "str"},
                    "hint": {"description": "What to do next, or null.", "type": "str"},
                    "msg": {"description": "With C(no_log): what failed, which RV(msg) then does not say.", "type": "str"},
                },
            }),
        ),
    ]
}

/// Refuse what would be documented wrongly or not at all.
fn check(module: &'static str, spec: &Spec, prefix: &str) -> Result<(), DocsError> {
    for option in &spec.options {
        let name = format!("{prefix}{}", option.name);
        if option.description.is_empty() {
            return Err(DocsError::Undocumented {
                module,
                option: name,
            });
        }
        let needs_default = match option.ty.kind {
            // Empty collections are the only default that these have in practice.
            Kind::List(_) | Kind::Map(_) | Kind::Struct(_) | Kind::Raw => false,
            _ => !option.ty.nullable && !option.required,
        };
        if needs_default && option.default.is_none() && !option.no_log {
            return Err(DocsError::UnknownDefault {
                module,
                option: name,
            });
        }
        check_type(module, &option.ty, &format!("{name}."))?;
    }
    Ok(())
}

fn check_type(module: &'static str, ty: &Type, prefix: &str) -> Result<(), DocsError> {
    match &ty.kind {
        Kind::Struct(spec) => check(module, spec, prefix),
        Kind::List(inner) | Kind::Map(inner) => check_type(module, inner, prefix),
        Kind::Either(types) => types
            .iter()
            .try_for_each(|ty| check_type(module, ty, prefix)),
        _ => Ok(()),
    }
}

fn prose(paragraphs: &[&str]) -> Value {
    paragraphs
        .iter()
        .map(|text| Value::from(text.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect()
}

/// The options of a module, or those of one of its options, whose name and a dot are the `prefix`.
fn options(spec: &Spec, prefix: &str) -> Value {
    spec.options
        .iter()
        .map(|option| {
            let mut docs = option_docs(option, prefix);
            if let (false, Some(Value::Array(lines))) =
                (prefix.is_empty(), docs.get_mut("description"))
            {
                for line in lines {
                    *line = qualified(line.as_str().unwrap_or_default(), spec, prefix).into();
                }
            }
            (option.name.clone(), docs)
        })
        .collect()
}

/// The text with the options beside which it stands named in full, as ansible-doc and ansible-test want them.
fn qualified(text: &str, spec: &Spec, prefix: &str) -> String {
    spec.options.iter().fold(text.to_owned(), |text, option| {
        let name = &option.name;
        text.replace(&format!("O({name})"), &format!("O({prefix}{name})"))
            .replace(&format!("O({name}="), &format!("O({prefix}{name}="))
    })
}

fn option_docs(option: &OptionSpec, prefix: &str) -> Value {
    let mut entry = Map::new();
    let mut description = option.description.clone();
    explain(&option.ty, &mut description);
    if !option.env.is_empty() {
        let names: Vec<String> = option.env.iter().map(|name| format!("E({name})")).collect();
        description.push(format!(
            "If not set, the environment variable {} is used.",
            names.join(" or ")
        ));
    }
    entry.insert("description".into(), description.into());
    entry.insert("type".into(), option.ty.kind.name().into());
    let mut valued = &option.ty;
    if let Kind::List(element) = &option.ty.kind {
        entry.insert("elements".into(), element.kind.name().into());
        valued = element;
    }
    if option.required {
        entry.insert("required".into(), true.into());
    }
    if let Some(default) = &option.default {
        entry.insert("default".into(), default.clone());
    }
    if !valued.choices.is_empty() {
        let choices = valued.choices.iter().map(|choice| choice.value.clone());
        entry.insert("choices".into(), choices.collect());
    }
    if !option.aliases.is_empty() {
        entry.insert("aliases".into(), option.aliases.clone().into());
    }
    if let Kind::Struct(inner) = &valued.kind {
        let prefix = format!("{prefix}{}.", option.name);
        entry.insert("suboptions".into(), options(inner, &prefix));
    }
    Value::Object(entry)
}

/// Say in words what Ansible's documentation has no fields for: what choices mean, what the
/// values of a dict with free keys are, what alternatives there are.
fn explain(ty: &Type, description: &mut Vec<String>) {
    match &ty.kind {
        Kind::Map(values) if !matches!(values.kind, Kind::Raw | Kind::Str) => {
            contents(values, "Each value is", description);
        }
        Kind::List(element) if matches!(element.kind, Kind::Either(_)) => {
            contents(element, "Each element is", description);
        }
        Kind::List(element) => explain(element, description),
        Kind::Either(types) => alternatives(types, "Either", description),
        _ => {}
    }
    for choice in &ty.choices {
        if !choice.description.is_empty() {
            description.push(format!(
                "V({}): {}",
                python_str(&choice.value),
                choice.description.join(" ")
            ));
        }
    }
}

fn contents(ty: &Type, start: &str, description: &mut Vec<String>) {
    match &ty.kind {
        Kind::Either(types) => alternatives(types, start, description),
        Kind::Struct(spec) => {
            description.push(format!("{start} a dict with these keys:"));
            keys(spec, description);
        }
        other => description.push(format!("{start} of type C({}).", other.name())),
    }
}

fn alternatives(types: &[Type], start: &str, description: &mut Vec<String>) {
    let mut structs = Vec::new();
    let mut names = Vec::new();
    for ty in types {
        let name = match &ty.kind {
            Kind::Str if !ty.choices.is_empty() => {
                let texts = ty
                    .choices
                    .iter()
                    .map(|c| format!("V({})", python_str(&c.value)));
                texts.collect::<Vec<_>>().join(" or ")
            }
            Kind::Str | Kind::Path => "a string".into(),
            Kind::Int => "an integer".into(),
            Kind::Float => "a number".into(),
            Kind::Bool => "a boolean".into(),
            Kind::List(_) => "a list".into(),
            Kind::Struct(spec) => {
                structs.push(spec);
                "a dict".into()
            }
            Kind::Map(_) => "a dict".into(),
            Kind::Raw | Kind::Either(_) => "any value".to_owned(),
        };
        names.push(match ty.description.first() {
            Some(text) => format!("{name} ({})", text.trim_end_matches('.')),
            None => name,
        });
    }
    description.push(format!("{start} {}.", names.join(", or ")));
    for spec in structs {
        description.push("The dict has these keys:".into());
        keys(spec, description);
    }
}

fn keys(spec: &Spec, description: &mut Vec<String>) {
    for option in &spec.options {
        let mut facts = vec![option.ty.kind.name().to_owned()];
        if option.required {
            facts.push("required".into());
        }
        if let Some(default) = &option.default {
            facts.push(format!("default V({})", yaml::inline(default)));
        }
        if !option.ty.choices.is_empty() {
            let choices = option.ty.choices.iter();
            let choices: Vec<String> = choices
                .map(|choice| format!("V({})", python_str(&choice.value)))
                .collect();
            facts.push(format!("one of {}", choices.join(", ")));
        }
        description.push(format!(
            "C({}) ({}): {}",
            option.name,
            facts.join(", "),
            option.description.join(" ")
        ));
    }
}
