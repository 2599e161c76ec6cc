//! Keeping secrets out of everything that is written.
//!
//! The rules are those of Ansible's own masker (ansible-core 2.22) where it has one, by the length of
//! a secret: see `rules.rs`. Beyond it, a secret is found in the spellings in which servers and
//! programs repeat it, and facts that a module computes are left whole: a tag or a store path that
//! happens to contain the word that is somebody's password must not be recorded as `********`.

mod forms;
mod hide;
mod invocation;
mod public;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};

use crate::coerce::{python_str, to_dict};
use crate::spec::{Kind, OptionSpec, Spec, Type};

use forms::{credential, credentials, document};
use hide::scrub;
pub use invocation::invocation;
pub use public::Public;
use rules::{LONG, Reach, SHORTEST};

/// The strings to mask, shared by everything that writes.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// Longer first.
    spellings: Vec<(String, Reach)>,
    /// Options whose values are too short to be masked everywhere, with their lengths.
    short: BTreeMap<String, usize>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Secrets {
    /// Mask the credential `value` from now on, in every spelling that it may come back in.
    pub fn add(&self, value: &str) {
        let mut found = Vec::new();
        credential(value, &mut found);
        self.add_all(found);
    }

    fn add_all(&self, found: Vec<(String, Reach)>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.spellings.extend(found);
        // Longer first, so that a text that is a secret as a whole is found at once; of equal ones
        // the one that reaches further.
        known
            .spellings
            .sort_by(|a, b| (b.0.len(), &a.0, b.1).cmp(&(a.0.len(), &b.0, a.1)));
        known.spellings.dedup_by(|b, a| a.0 == b.0);
    }

    /// Mask the values of all `no_log` options among `params`.
    pub fn add_options(&self, spec: &Spec, params: &Map<String, Value>, public: &Public) {
        self.add_level(spec, params, public, "");
    }

    fn add_level(&self, spec: &Spec, params: &Map<String, Value>, public: &Public, prefix: &str) {
        for (name, value) in params {
            let option = spec.option(name).or_else(|| spec.option_by_alias(name));
            let name = format!("{prefix}{name}");
            match option {
                Some(option) if option.no_log => self.add_option(option, &name, value, public),
                Some(option) => self.add_within(&option.ty, &name, value, public),
                // Perhaps a secret whose option is misspelt; its value is masked in
                // `invocation`, but too little is known to mask it everywhere.
                None => {}
            }
        }
    }

    fn add_option(&self, option: &OptionSpec, name: &str, value: &Value, public: &Public) {
        let mut found = Vec::new();
        if option.document {
            document(value, SHORTEST, public, &mut found);
        } else {
            credentials(value, &mut found);
            let length = python_str(value).trim().chars().count();
            if length > 0 && length < LONG && !value.is_array() && !value.is_object() {
                let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if !value.is_null() && !value.is_boolean() {
                    known.short.insert(name.to_owned(), length);
                }
            }
        }
        self.add_all(found);
    }

    fn add_within(&self, ty: &Type, name: &str, value: &Value, public: &Public) {
        match (&ty.kind, value) {
            (Kind::Struct(spec), value) => {
                if let Ok(params) = to_dict(value) {
                    self.add_level(spec, &params, public, &format!("{name}."));
                }
            }
            (Kind::List(element), Value::Array(items)) => {
                let each = items.iter();
                each.for_each(|item| self.add_within(element, name, item, public));
            }
            (Kind::Map(element), Value::Object(map)) => {
                let each = map.values();
                each.for_each(|item| self.add_within(element, name, item, public));
            }
            (Kind::Either(types), value) => {
                let each = types.iter();
                each.for_each(|ty| self.add_within(ty, name, value, public));
            }
            _ => {}
        }
    }

    /// Have [`Self::warnings`] name options as `rename` does.
    pub fn rename_options(&self, rename: impl Fn(String) -> String) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let short = std::mem::take(&mut known.short).into_iter();
        known.short = short.map(|(name, length)| (rename(name), length)).collect();
    }

    /// What to say about secrets that are too short to be kept out of every text.
    pub fn warnings(&self) -> Vec<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let warning = |(name, length): (&String, &usize)| match *length < SHORTEST {
            true => format!(
                "{name}: a value of fewer than {SHORTEST} characters is not masked in messages; use a longer one"
            ),
            false => format!(
                "{name}: a value of fewer than {LONG} characters is not masked inside other words; use a longer one"
            ),
        };
        known.short.iter().map(warning).collect()
    }

    /// Free text with every secret masked, in all strings of `value`, and printable.
    pub fn scrub(&self, value: Value) -> Value {
        self.scrub_to(value, Reach::Word)
    }

    /// What the module says itself, printable too, where only a secret is masked that can hardly be a part of it.
    pub fn scrub_own(&self, value: Value) -> Value {
        self.scrub_to(value, Reach::Values)
    }

    fn scrub_to(&self, value: Value, least: Reach) -> Value {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let spellings: Vec<(&str, Reach)> = known
            .spellings
            .iter()
            .filter(|(_, reach)| *reach >= least)
            .map(|(text, reach)| (text.as_str(), *reach))
            .collect();
        scrub(value, &spellings)
    }
}
