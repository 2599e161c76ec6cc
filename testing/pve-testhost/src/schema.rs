//! Routing and parameter verification against a table of PVE's endpoints and their parameters.
//!
//! `schema.json` holds facts only: endpoint, whether pveproxy relays it, privileges, and for each parameter its type,
//! bounds, enumeration, pattern, format (`@name` = a property string described in the table) and dependencies.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use regex_lite::Regex;
use serde::Deserialize;
use serde_json::Value;

use crate::error::ApiError;
use crate::formats;

/// Verified parameters of a call, path parameters included. A list is joined with NUL bytes, booleans are 0 or 1.
pub type Params = BTreeMap<String, String>;

/// One parameter, or one key of a property string.
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Param {
    /// `string` when empty.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// 1 when it may be left out.
    #[serde(default, rename = "opt")]
    optional: u8,
    /// 1 for the key of a property string that may be written without its name.
    #[serde(default, rename = "dk")]
    default_key: u8,
    /// Another name of a key.
    #[serde(default)]
    alias: Option<String>,
    /// The key that the alias's own name is the value of (`virtio=MAC` is `model=virtio,macaddr=MAC`).
    #[serde(default)]
    key: Option<String>,
    #[serde(default, rename = "enum")]
    choices: Vec<String>,
    #[serde(default)]
    min: Option<f64>,
    #[serde(default)]
    max: Option<f64>,
    #[serde(default)]
    len: Option<usize>,
    #[serde(default)]
    pat: Option<String>,
    #[serde(default)]
    req: Option<String>,
    #[serde(default)]
    fmt: Option<String>,
    /// Type of an array's items; only strings occur.
    #[serde(default, rename = "items")]
    _items: Option<String>,
}

/// One endpoint.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// 1 when pveproxy relays it to pvedaemon.
    #[serde(default)]
    pub protected: u8,
    /// `"all"`, `"world"`, or a privilege expression.
    #[serde(default)]
    pub perm: Value,
    /// A shared set of parameters.
    #[serde(rename = "use", default)]
    shared: Option<String>,
    #[serde(default)]
    params: HashMap<String, Param>,
}

/// The CPU models and flags of PVE.
#[derive(Deserialize)]
pub struct Cpu {
    /// Names by architecture, without `host`.
    pub models: BTreeMap<String, Vec<String>>,
    /// Flags that a VM can have.
    pub flags: Vec<String>,
}

/// The CPU models and flags.
pub fn cpu() -> &'static Cpu {
    &TABLE.cpu
}

#[derive(Deserialize)]
struct Table {
    cpu: Cpu,
    formats: HashMap<String, HashMap<String, Param>>,
    sets: HashMap<String, HashMap<String, Param>>,
    endpoints: HashMap<String, Endpoint>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table: Table = serde_json::from_str(include_str!("schema.json"))
        .expect("schema.json is part of this crate");
    for map in table.formats.values_mut().chain(table.sets.values_mut()) {
        expand(map);
    }
    for endpoint in table.endpoints.values_mut() {
        expand(&mut endpoint.params);
    }
    table
});

fn expand(map: &mut HashMap<String, Param>) {
    let names: Vec<String> = map
        .keys()
        .filter(|name| name.ends_with("[n]"))
        .cloned()
        .collect();
    for name in names {
        let base = name.trim_end_matches("[n]").to_owned();
        let count = pve_schema::count(&base).unwrap_or_default();
        let param = map.remove(&name).unwrap_or_default();
        for n in 0..count {
            map.insert(format!("{base}{n}"), param.clone());
        }
    }
}

/// The endpoint a request goes to.
pub struct Route {
    /// Template, e.g. `/nodes/{node}/qemu/{vmid}/config`.
    pub template: &'static str,
    /// The endpoint.
    pub endpoint: &'static Endpoint,
    /// Values of the template's parameters.
    pub params: Params,
}

/// Find the endpoint of a method and a decoded path (without `/api2/json`).
pub fn route(method: &str, path: &str) -> Option<Route> {
    let segments: Vec<&str> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    let mut best: Option<Route> = None;
    for (name, endpoint) in &TABLE.endpoints {
        let Some((known, template)) = name.split_once(' ') else {
            continue;
        };
        if known != method {
            continue;
        }
        if let Some(params) = matches(template, &segments) {
            // A literal segment wins over a parameter.
            if best
                .as_ref()
                .is_none_or(|best| params.len() < best.params.len())
            {
                best = Some(Route {
                    template,
                    endpoint,
                    params,
                });
            }
        }
    }
    best
}

fn matches(template: &str, segments: &[&str]) -> Option<Params> {
    let parts: Vec<&str> = template
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    let mut params = Params::new();
    for (i, part) in parts.iter().enumerate() {
        match part
            .strip_prefix('{')
            .map(|part| part.trim_end_matches('}'))
        {
            // A volume's name has slashes; it is always last.
            Some("volume") => {
                if segments.len() <= i {
                    return None;
                }
                params.insert("volume".into(), segments[i..].join("/"));
                return Some(params);
            }
            Some(name) => {
                params.insert(name.into(), (*segments.get(i)?).into());
            }
            None if segments.get(i) == Some(part) => {}
            None => return None,
        }
    }
    (parts.len() == segments.len()).then_some(params)
}

/// Children of an index path, when some endpoint lies below it.
pub fn children(path: &str) -> Vec<String> {
    let depth = path.split('/').filter(|part| !part.is_empty()).count();
    let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let mut found: Vec<String> = TABLE
        .endpoints
        .keys()
        .filter_map(|name| name.split_once(' '))
        .filter_map(|(_, template)| {
            let parts: Vec<&str> = template
                .split('/')
                .filter(|part| !part.is_empty())
                .collect();
            let below = parts.len() > depth
                && parts
                    .iter()
                    .zip(&segments)
                    .all(|(part, segment)| part.starts_with('{') || part == segment);
            (below && !parts[depth].starts_with('{')).then(|| parts[depth].to_owned())
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

impl Endpoint {
    /// A parameter by its name.
    pub fn param(&self, name: &str) -> Option<&Param> {
        self.params.get(name).or_else(|| {
            self.shared
                .as_ref()
                .and_then(|set| TABLE.sets.get(set)?.get(name))
        })
    }

    fn all(&self) -> impl Iterator<Item = (&String, &Param)> {
        let shared = self.shared.as_ref().and_then(|set| TABLE.sets.get(set));
        self.params.iter().chain(shared.into_iter().flatten())
    }

    /// Verify the parameters of a call as PVE does.
    pub fn verify(&self, params: &Params) -> Result<(), ApiError> {
        let mut errors = BTreeMap::new();
        for (name, param) in self.all() {
            if param.optional == 0 && !params.contains_key(name) {
                errors.insert(
                    name.clone(),
                    "property is missing and it is not optional".to_owned(),
                );
            }
        }
        for (name, value) in params {
            let Some(param) = self.param(name) else {
                errors.insert(
                    name.clone(),
                    "property is not defined in schema and the schema does not allow additional properties".to_owned(),
                );
                continue;
            };
            if let Some(required) = &param.req
                && !params.contains_key(required)
            {
                errors.insert(
                    required.clone(),
                    format!("missing property required by '{name}'"),
                );
            }
            if let Err(text) = check(name, param, value) {
                errors.insert(name.clone(), text);
            }
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(ApiError::params(errors))
        }
    }
}

/// The schema of a VM config option.
pub fn vm_option(name: &str) -> Option<&'static Param> {
    TABLE.sets.get("vm")?.get(name)
}

/// Is this one of the options a VM's config may hold?
pub fn is_vm_option(name: &str) -> bool {
    vm_option(name).is_some() || matches!(name, "lock" | "template" | "meta" | "parent" | "vmstate")
}

/// A pattern of the table, anchored, compiled once.
fn pattern(text: &str) -> Option<Regex> {
    static CACHE: LazyLock<std::sync::Mutex<HashMap<String, Option<Regex>>>> =
        LazyLock::new(Default::default);
    let mut cache = CACHE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    cache
        .entry(text.to_owned())
        .or_insert_with(|| Regex::new(&format!("^(?:{text})$")).ok())
        .clone()
}

/// Check one value; the error is PVE's text.
fn check(path: &str, param: &Param, value: &str) -> Result<(), String> {
    let bad_type = |kind: &str| Err(format!("type check ('{kind}') failed - got '{value}'"));
    let number = match param.kind.as_str() {
        "boolean" => {
            return if matches!(value, "0" | "1") {
                Ok(())
            } else {
                bad_type("boolean")
            };
        }
        "integer" => {
            let digits = value.strip_prefix(['-', '+']).unwrap_or(value);
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return bad_type("integer");
            }
            value.trim_start_matches('+').parse::<f64>().ok()
        }
        "number" => match value.parse::<f64>() {
            Ok(number) if !value.contains(['n', 'N', 'i', 'I']) => Some(number),
            _ => return bad_type("number"),
        },
        "array" => return Ok(()),
        _ => None,
    };
    if let Some(format) = &param.fmt
        && (!value.is_empty() || !formats::empty_is_fine(format))
    {
        let result = match format.strip_prefix('@') {
            Some(name) => property_string(path, name, value).map(|_| ()),
            None => formats::check(path, format, value),
        };
        if let Err(text) = result {
            return Err(format!("invalid format - {text}\n"));
        }
    }
    if let Some(len) = param.len
        && value.chars().count() > len
    {
        return Err(format!("value may only be {len} characters long"));
    }
    if let Some(text) = &param.pat
        && !pattern(text).is_some_and(|pattern| pattern.is_match(value))
    {
        return Err("value does not match the regex pattern".into());
    }
    if let Some(number) = number {
        if let Some(min) = param.min.filter(|min| number < *min) {
            return Err(format!("value must have a minimum value of {min}"));
        }
        if let Some(max) = param.max.filter(|max| number > *max) {
            return Err(format!("value must have a maximum value of {max}"));
        }
    }
    if !param.choices.is_empty() && !param.choices.iter().any(|choice| choice == value) {
        return Err(format!(
            "value '{value}' does not have a value in the enumeration '{}'",
            param.choices.join(", ")
        ));
    }
    Ok(())
}

/// Parse and check a property string by a format of the table. Keys are resolved (aliases, default key).
pub fn property_string(
    path: &str,
    format: &str,
    value: &str,
) -> Result<BTreeMap<String, String>, String> {
    match TABLE.formats.get(format) {
        Some(keys) => property_string_of(path, keys, value),
        None => Err(format!("no such format '{format}'")),
    }
}

fn property_string_of(
    path: &str,
    keys: &HashMap<String, Param>,
    value: &str,
) -> Result<BTreeMap<String, String>, String> {
    let mut found = BTreeMap::new();
    // Blanks are parts of the keys and values beside them.
    for part in value.split(',').filter(|part| !part.trim().is_empty()) {
        let (key, value) = match part.split_once('=').filter(|(key, _)| !key.is_empty()) {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => match keys.iter().find(|(_, param)| param.default_key == 1) {
                Some((key, _)) if !found.contains_key(key) => (key.clone(), part.to_owned()),
                Some(_) => return Err("duplicate key in comma-separated list property".into()),
                None => {
                    return Err(
                        "value without key, but schema does not define a default key".into(),
                    );
                }
            },
        };
        let (key, value) = match keys.get(&key) {
            Some(Param {
                alias: Some(target),
                key: model,
                ..
            }) => {
                if let Some(model) = model {
                    found.insert(model.clone(), key.clone());
                }
                (target.clone(), value)
            }
            _ => (key, value),
        };
        let value = match keys.get(&key).map(|param| param.kind.as_str()) {
            Some("boolean") => formats::boolean(&value).unwrap_or(value),
            _ => value,
        };
        if found.insert(key.clone(), value).is_some() {
            return Err(format!(
                "duplicate key in comma-separated list property: {key}"
            ));
        }
    }
    let mut texts = BTreeMap::new();
    for (key, param) in keys {
        if param.optional == 0 && param.alias.is_none() && !found.contains_key(key) {
            texts.insert(
                key.clone(),
                "property is missing and it is not optional".to_owned(),
            );
        }
    }
    for (key, value) in &found {
        match keys.get(key) {
            Some(param) => {
                if let Err(text) = check(&format!("{path}.{key}"), param, value) {
                    texts.insert(key.clone(), text);
                }
            }
            None => {
                texts.insert(
                    key.clone(),
                    "property is not defined in schema and the schema does not allow additional properties".to_owned(),
                );
            }
        }
    }
    if texts.is_empty() {
        return Ok(found);
    }
    // The caller adds the last line end.
    let lines: Vec<String> = texts
        .iter()
        .map(|(key, text)| format!("{path}.{key}: {text}"))
        .collect();
    Err(format!("format error\n{}", lines.join("\n")))
}

#[cfg(test)]
mod tests;
