//! The options of a module as Ansible sees them, derived from the JSON schema of their Rust type.

use schemars::JsonSchema;
use serde_json::{Map, Value};

/// The options of one level.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spec {
    /// In the order of the Rust type's fields.
    pub options: Vec<OptionSpec>,
}

/// One option.
#[derive(Clone, Debug, PartialEq)]
pub struct OptionSpec {
    /// Its name.
    pub name: String,
    /// The doc comment, one string a paragraph.
    pub description: Vec<String>,
    /// Whether it must be given.
    pub required: bool,
    /// The value when it is not given. Empty collections count as none: for Ansible an option
    /// with a default refuses null, and null for "no tags" should be accepted.
    pub default: Option<Value>,
    /// Other names for it.
    pub aliases: Vec<String>,
    /// Environment variables that supply it when it is absent; the first that is set wins.
    pub env: Vec<String>,
    /// Whether its value must never be shown.
    pub no_log: bool,
    /// Whether a value that must not be shown is a document, of which most is not a secret, rather
    /// than a credential. See [`crate::mask`].
    pub document: bool,
    /// What it holds.
    pub ty: Type,
}

/// What an option, an element or a value holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Type {
    /// The kind of value.
    pub kind: Kind,
    /// Whether null is a value of it (inside a collection; at an option null means absent).
    pub nullable: bool,
    /// The values that are allowed, if not all are.
    pub choices: Vec<Choice>,
    /// The smallest integer that fits.
    pub min: Option<i128>,
    /// The largest integer that fits.
    pub max: Option<i128>,
    /// The description of the type itself.
    pub description: Vec<String>,
}

/// One allowed value and the doc comment of its variant.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The value.
    pub value: Value,
    /// What it means, one string a paragraph.
    pub description: Vec<String>,
}

/// The kinds of values; the names are Ansible's.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A string.
    Str,
    /// A string in which `~` and environment variables are expanded.
    Path,
    /// An integer.
    Int,
    /// A floating point number.
    Float,
    /// A boolean.
    Bool,
    /// Anything.
    Raw,
    /// A list of elements.
    List(Box<Type>),
    /// A dict with known keys.
    Struct(Spec),
    /// A dict with any keys, and values of one type.
    Map(Box<Type>),
    /// One of several types, told apart by the JSON type of the value.
    Either(Vec<Type>),
}

impl Kind {
    /// Ansible's name of the type.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Str => "str",
            Kind::Path => "path",
            Kind::Int => "int",
            Kind::Float => "float",
            Kind::Bool => "bool",
            Kind::Raw | Kind::Either(_) => "raw",
            Kind::List(_) => "list",
            Kind::Struct(_) | Kind::Map(_) => "dict",
        }
    }
}

impl Type {
    fn of(kind: Kind) -> Self {
        Self {
            kind,
            nullable: false,
            choices: Vec::new(),
            min: None,
            max: None,
            description: Vec::new(),
        }
    }
}

/// A type that contains itself is not described any deeper than this.
const DEEPEST: usize = 12;

impl Spec {
    /// The options that the Rust type `T` describes.
    pub fn of<T: JsonSchema>() -> Self {
        let schema = schemars::SchemaGenerator::default().into_root_schema_for::<T>();
        let root = schema.to_value();
        let reader = Reader {
            definitions: root.get("$defs").and_then(Value::as_object),
        };
        match root.as_object() {
            Some(object) => reader.spec(object, 0),
            None => Self::default(),
        }
    }

    /// The option called `name`, not counting aliases.
    pub fn option(&self, name: &str) -> Option<&OptionSpec> {
        self.options.iter().find(|option| option.name == name)
    }

    /// The option that has `alias` among its aliases.
    pub fn option_by_alias(&self, alias: &str) -> Option<&OptionSpec> {
        self.options
            .iter()
            .find(|option| option.aliases.iter().any(|a| a == alias))
    }
}

struct Reader<'a> {
    definitions: Option<&'a Map<String, Value>>,
}

impl Reader<'_> {
    fn spec(&self, schema: &Map<String, Value>, depth: usize) -> Spec {
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let options = schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, property)| {
                self.option(name, property, required.contains(&name.as_str()), depth)
            })
            .collect();
        Spec { options }
    }

    fn option(&self, name: &str, property: &Value, required: bool, depth: usize) -> OptionSpec {
        let empty = Map::new();
        let own = property.as_object().unwrap_or(&empty);
        let extra = own.get("x-ansible").and_then(Value::as_object);
        let extra = extra.unwrap_or(&empty);
        let mut ty = self.ty(property, depth + 1);
        if let Some(kind) = extra.get("type").and_then(Value::as_str).and_then(scalar) {
            ty.kind = kind;
        }
        if let Some(kind) = extra
            .get("elements")
            .and_then(Value::as_str)
            .and_then(scalar)
        {
            match &mut ty.kind {
                Kind::List(element) => element.kind = kind,
                other => *other = Kind::List(Box::new(Type::of(kind))),
            }
        }
        let description = match own.get("description").and_then(Value::as_str) {
            Some(text) => paragraphs(text),
            None => ty.description.clone(),
        };
        let default = own.get("default").filter(|value| match value {
            Value::Null => false,
            Value::Array(items) => !items.is_empty(),
            Value::Object(map) => !map.is_empty(),
            _ => true,
        });
        OptionSpec {
            name: name.to_owned(),
            description,
            required,
            default: default.cloned(),
            aliases: strings(extra.get("aliases")),
            env: strings(extra.get("env")),
            no_log: extra.get("no_log") == Some(&Value::Bool(true)) || self.secret(property),
            document: extra.get("document") == Some(&Value::Bool(true))
                || match ty.kind {
                    Kind::Raw | Kind::Struct(_) | Kind::Either(_) => true,
                    Kind::Map(_) => !self.secret(property),
                    _ => false,
                },
            ty,
        }
    }

    /// Whether a schema is that of a `Secret`, or of a collection of them.
    fn secret(&self, schema: &Value) -> bool {
        schema.get("format").and_then(Value::as_str) == Some("password")
            || ["items", "additionalProperties"]
                .iter()
                .any(|inner| schema.get(inner).is_some_and(|s| self.secret(s)))
    }

    /// The schema with its reference followed; what stands beside the reference wins.
    fn resolve(&self, schema: &Map<String, Value>) -> Map<String, Value> {
        let target = schema
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|path| path.strip_prefix("#/$defs/"))
            .and_then(|name| self.definitions?.get(name)?.as_object());
        let Some(target) = target else {
            return schema.clone();
        };
        let mut resolved = self.resolve(target);
        for (key, value) in schema {
            if key != "$ref" {
                resolved.insert(key.clone(), value.clone());
            }
        }
        resolved
    }

    fn ty(&self, schema: &Value, depth: usize) -> Type {
        let Some(schema) = schema.as_object() else {
            return Type::of(Kind::Raw);
        };
        if depth > DEEPEST {
            return Type::of(Kind::Raw);
        }
        let schema = self.resolve(schema);
        let mut ty = match schema.get("anyOf").or(schema.get("oneOf")) {
            Some(Value::Array(variants)) => self.variants(variants, depth),
            _ => self.plain(&schema, depth),
        };
        if let Some(text) = schema.get("description").and_then(Value::as_str) {
            ty.description = paragraphs(text);
        }
        ty
    }

    fn variants(&self, variants: &[Value], depth: usize) -> Type {
        let is_null = |v: &&Value| v.get("type").and_then(Value::as_str) == Some("null");
        let nullable = variants.iter().any(|v| is_null(&v));
        let mut types: Vec<Type> = variants
            .iter()
            .filter(|v| !is_null(v))
            .map(|v| self.ty(v, depth + 1))
            .collect();
        let mut ty = if types.len() == 1 {
            types.remove(0)
        } else if types.iter().all(|t| !t.choices.is_empty()) {
            // An enum of unit variants, some of them documented: each comes as its own schema.
            let mut ty = Type::of(Kind::Str);
            ty.choices = types.into_iter().flat_map(|t| t.choices).collect();
            ty
        } else {
            Type::of(Kind::Either(types))
        };
        ty.nullable |= nullable;
        ty
    }

    fn plain(&self, schema: &Map<String, Value>, depth: usize) -> Type {
        let (name, nullable) = match schema.get("type") {
            Some(Value::String(name)) => (Some(name.as_str()), false),
            Some(Value::Array(names)) => {
                let mut others = names.iter().filter_map(Value::as_str);
                let nullable = others.clone().any(|name| name == "null");
                let first = others.find(|name| *name != "null");
                // Several types at once say nothing that could be checked here.
                let more = others.any(|name| name != "null");
                (first.filter(|_| !more), nullable)
            }
            _ => (None, false),
        };
        let kind = match name {
            Some("string") => Kind::Str,
            Some("integer") => Kind::Int,
            Some("number") => Kind::Float,
            Some("boolean") => Kind::Bool,
            Some("array") => {
                let items = schema.get("items").unwrap_or(&Value::Bool(true));
                Kind::List(Box::new(self.ty(items, depth + 1)))
            }
            Some("object") if schema.contains_key("properties") => {
                Kind::Struct(self.spec(schema, depth))
            }
            Some("object") => {
                let values = schema.get("additionalProperties");
                Kind::Map(Box::new(
                    self.ty(values.unwrap_or(&Value::Bool(true)), depth + 1),
                ))
            }
            _ => Kind::Raw,
        };
        let mut ty = Type::of(kind);
        ty.nullable = nullable;
        if matches!(ty.kind, Kind::Int) {
            (ty.min, ty.max) = bounds(schema);
        }
        if let Some(value) = schema.get("const") {
            ty.choices = vec![Choice {
                value: value.clone(),
                description: schema
                    .get("description")
                    .and_then(Value::as_str)
                    .map(paragraphs)
                    .unwrap_or_default(),
            }];
        } else if let Some(Value::Array(values)) = schema.get("enum") {
            ty.choices = values
                .iter()
                .filter(|value| !value.is_null())
                .map(|value| Choice {
                    value: value.clone(),
                    description: Vec::new(),
                })
                .collect();
        }
        ty
    }
}

fn scalar(name: &str) -> Option<Kind> {
    Some(match name {
        "str" => Kind::Str,
        "path" => Kind::Path,
        "int" => Kind::Int,
        "float" => Kind::Float,
        "bool" => Kind::Bool,
        "raw" => Kind::Raw,
        _ => return None,
    })
}

/// The range of an integer: as said, and no wider than its Rust type.
fn bounds(schema: &Map<String, Value>) -> (Option<i128>, Option<i128>) {
    let said = |key| schema.get(key).and_then(Value::as_i64).map(i128::from);
    let (low, high) = match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => (0, u8::MAX.into()),
        Some("uint16") => (0, u16::MAX.into()),
        Some("uint32") => (0, u32::MAX.into()),
        Some("uint64" | "uint") => (0, u64::MAX.into()),
        Some("int8") => (i8::MIN.into(), i8::MAX.into()),
        Some("int16") => (i16::MIN.into(), i16::MAX.into()),
        Some("int32") => (i32::MIN.into(), i32::MAX.into()),
        _ => (i64::MIN.into(), i64::MAX.into()),
    };
    (
        Some(said("minimum").unwrap_or(low)),
        Some(said("maximum").unwrap_or(high)),
    )
}

fn strings(value: Option<&Value>) -> Vec<String> {
    value
        .and_then(Value::as_array)
        .map(|items| {
            items
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        })
        .unwrap_or_default()
}

/// A doc comment's paragraphs, each on one line.
fn paragraphs(text: &str) -> Vec<String> {
    text.split("\n\n")
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|paragraph| !paragraph.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;
    use serde::Deserialize;
    use serde_json::json;
    use std::collections::BTreeMap;

    /// Shared.
    #[derive(JsonSchema, Deserialize)]
    #[expect(dead_code, reason = "only the schema is used")]
    struct Shared {
        /// Where.
        ///
        /// A second
        /// paragraph.
        #[schemars(extend("x-ansible" = {"env": ["A_HOST"], "aliases": ["server"]}))]
        host: String,
        /// The key.
        #[schemars(extend("x-ansible" = {"env": ["A_KEY"]}))]
        key: Option<Secret>,
        /// Keys.
        keys: Option<Vec<Secret>>,
    }

    #[derive(JsonSchema, Deserialize)]
    #[expect(dead_code, reason = "only the schema is used")]
    struct All {
        #[serde(flatten)]
        shared: Shared,
        #[serde(default)]
        tags: Vec<String>,
        #[serde(default)]
        named: BTreeMap<String, Option<u8>>,
        free: Option<Value>,
    }

    #[test]
    fn shared_options_are_of_the_same_level() {
        let spec = Spec::of::<All>();
        let names: Vec<&str> = spec.options.iter().map(|o| o.name.as_str()).collect();
        assert_eq!(names, ["host", "key", "keys", "tags", "named", "free"]);
        let host = spec.option("host").unwrap();
        assert!(host.required);
        assert_eq!(host.description, ["Where.", "A second paragraph."]);
        assert_eq!(host.env, ["A_HOST"]);
        assert_eq!(spec.option_by_alias("server"), Some(host));
        let key = spec.option("key").unwrap();
        assert!(key.no_log && !key.required);
        assert_eq!(key.env, ["A_KEY"]);
        assert!(spec.option("keys").unwrap().no_log);
    }

    #[test]
    fn an_empty_collection_is_no_default() {
        let spec = Spec::of::<All>();
        let tags = spec.option("tags").unwrap();
        assert!(!tags.required);
        assert_eq!(tags.default, None);
        assert!(matches!(spec.option("free").unwrap().ty.kind, Kind::Raw));
    }

    #[test]
    fn values_of_a_dict_have_a_type() {
        let spec = Spec::of::<All>();
        let Kind::Map(value) = &spec.option("named").unwrap().ty.kind else {
            panic!("not a map");
        };
        assert!(value.nullable);
        assert_eq!((value.min, value.max), (Some(0), Some(255)));
        let mut params = json!({"host": "h", "named": {"a": "7", "b": null}});
        let params = params.as_object_mut().unwrap();
        let checked = crate::validate::validate(&spec, &[], params);
        assert_eq!(checked.error("m", false), None);
        assert_eq!(params["named"], json!({"a": 7, "b": null}));
    }
}
