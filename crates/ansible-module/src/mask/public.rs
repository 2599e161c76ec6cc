//! What is known to be no secret.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::mask::invocation::has_secrets;
use crate::spec::{Kind, Spec, Type};

/// What nobody wants to hide: the fragments of a secret document that also stand here are masked
/// nowhere, so that a message can say `#cloud-config` although user-data begins with it.
#[derive(Debug, Default)]
pub struct Public {
    /// Values of options that are not secret.
    values: HashSet<String>,
    /// What the module's documentation says.
    documentation: String,
}

/// First lines and words that tell cloud-init what a document is, and words of advice; messages about documents name them.
const FORMATS: [&str; 19] = [
    "#cloud-config",
    "#cloud-config-archive",
    "#cloud-config-jsonp",
    "#cloud-boothook",
    "#part-handler",
    "#include",
    "#include-once",
    "#upstart-job",
    "## template: jinja",
    "Content-Type: multipart/mixed",
    "MIME-Version: 1.0",
    "preserve_hostname",
    "root:wheel",
    "text/plain",
    "base64",
    "gz+b64",
    "gz+base64",
    "gzip+b64",
    "gzip+base64",
];

impl Public {
    /// Everything that `params` give in the open, and that the options' documentation says.
    pub fn of(spec: &Spec, params: &Map<String, Value>) -> Self {
        let mut public = Self::default();
        public.documented(spec);
        public.open(spec, params);
        public
    }

    fn documented(&mut self, spec: &Spec) {
        for option in &spec.options {
            for line in &option.description {
                self.documentation.push_str(line);
                self.documentation.push('\n');
            }
            self.documented_type(&option.ty);
        }
    }

    fn documented_type(&mut self, ty: &Type) {
        match &ty.kind {
            Kind::Struct(spec) => self.documented(spec),
            Kind::List(inner) | Kind::Map(inner) => self.documented_type(inner),
            Kind::Either(types) => types.iter().for_each(|ty| self.documented_type(ty)),
            _ => {}
        }
    }

    fn open(&mut self, spec: &Spec, params: &Map<String, Value>) {
        for (name, value) in params {
            match spec.option(name).or_else(|| spec.option_by_alias(name)) {
                Some(option) if !option.no_log => self.open_within(&option.ty, value),
                // A secret, or perhaps one whose option is misspelt.
                _ => {}
            }
        }
    }

    fn open_within(&mut self, ty: &Type, value: &Value) {
        if !has_secrets(ty) {
            return self.open_value(value);
        }
        match (&ty.kind, value) {
            (Kind::Struct(spec), Value::Object(params)) => self.open(spec, params),
            (Kind::List(element), Value::Array(items)) => {
                items.iter().for_each(|v| self.open_within(element, v));
            }
            (Kind::Map(element), Value::Object(map)) => {
                map.values().for_each(|v| self.open_within(element, v));
            }
            _ => {}
        }
    }

    pub(super) fn open_value(&mut self, value: &Value) {
        match value {
            Value::String(text) => {
                self.values.insert(text.trim().to_owned());
            }
            Value::Array(items) => items.iter().for_each(|item| self.open_value(item)),
            Value::Object(map) => map.values().for_each(|item| self.open_value(item)),
            _ => {}
        }
    }

    pub(super) fn has(&self, fragment: &str) -> bool {
        let fragment = fragment.trim();
        FORMATS.contains(&fragment)
            || fragment.starts_with("#!")
            || self.values.contains(fragment)
            || self.documentation.contains(fragment)
    }
}
