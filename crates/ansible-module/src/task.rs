//! What a running module knows of its task, and what it may say on the way.

use crate::FailureKind;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};

use crate::arguments::Arguments;
use crate::mask::{Public, Secrets};
use crate::progress::Progress;
use crate::spec::Spec;
use crate::validate::{typed, validate};
use crate::{Failure, Module};

/// One run of the module. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Task {
    /// Only say what would change.
    pub check_mode: bool,
    /// A difference was asked for.
    pub diff_mode: bool,
    /// The number of `-v`.
    pub verbosity: u8,
    /// Variables of a role that it does not have, for modules with [`crate::Module::VARIABLES`]: the module reports them with what else
    /// it finds.
    pub unknown: Vec<String>,
    warnings: Arc<Mutex<Vec<String>>>,
    secrets: Secrets,
    naming: Option<Naming>,
}

/// Puts other names into a text.
#[derive(Clone)]
struct Naming(Arc<dyn Fn(String) -> String + Send + Sync>);

impl fmt::Debug for Naming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Naming")
    }
}

impl Task {
    pub(crate) fn new(arguments: &Arguments, secrets: Secrets) -> Self {
        Self {
            check_mode: arguments.check_mode,
            diff_mode: arguments.diff_mode,
            verbosity: arguments.verbosity,
            unknown: Vec::new(),
            warnings: Arc::default(),
            secrets,
            naming: None,
        }
    }

    /// Warn the user, once however often it is said.
    pub fn warn(&self, msg: impl Into<String>) {
        let mut msg = msg.into();
        if let Some(Naming(rename)) = &self.naming {
            msg = rename(msg);
        }
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if !warnings.contains(&msg) {
            warnings.push(msg);
        }
    }

    /// Mask `value` too wherever it appears in the result: a ticket, a generated password.
    pub fn secret(&self, value: &str) {
        self.secrets.add(value);
    }

    /// A writer of progress lines to `path`, masked as the result is.
    pub fn progress(&self, path: Option<&Path>) -> Progress {
        Progress::open(path, self.secrets.clone())
    }

    /// The options of the module `M`, which this module calls as a library.
    ///
    /// # Errors
    /// Kind `invalid_option`, as that module itself would refuse them.
    pub fn options_of<M: Module>(
        &self,
        mut params: Map<String, Value>,
    ) -> Result<M::Options, Failure> {
        let spec = Spec::of::<M::Options>();
        self.mask_options::<M>(&spec, &params);
        let checked = validate(&spec, &M::rules(), &mut params);
        if let Some(error) = checked.error(M::NAME, false) {
            return Err(Failure::new(FailureKind::InvalidOption, error));
        }
        for warning in checked.warnings {
            self.warn(warning);
        }
        typed(params, &spec)
    }

    /// Mask the secrets among options of the module `M` that this module passes on at another time, if at all.
    pub fn mask_options_of<M: Module>(&self, params: &Map<String, Value>) {
        self.mask_options::<M>(&Spec::of::<M::Options>(), params);
    }

    fn mask_options<M: Module>(&self, spec: &Spec, params: &Map<String, Value>) {
        let public = Public::of(spec, params);
        self.secrets.add_options(spec, params, &public);
        if let Some(Naming(rename)) = &self.naming {
            self.secrets.rename_options(|name| rename(name));
        }
        M::secrets(params)
            .iter()
            .for_each(|secret| self.secret(secret));
    }

    /// The same task, for a module that this one calls as a library: `rename` puts the names of this module's own options into
    /// its warnings.
    pub fn naming(&self, rename: impl Fn(String) -> String + Send + Sync + 'static) -> Self {
        Self {
            naming: Some(Naming(Arc::new(rename))),
            ..self.clone()
        }
    }

    /// The same task, only looking.
    pub fn checking(&self) -> Self {
        Self {
            check_mode: true,
            ..self.clone()
        }
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_of_a_called_module_have_the_names_of_the_caller() {
        let task = Task::default();
        let called = task.naming(|text| text.replace("url:", "installer_iso:"));
        called.warn("url: is not encrypted");
        called.checking().warn("url: is not encrypted");
        task.warn("url: stays");
        assert_eq!(
            task.warnings(),
            ["installer_iso: is not encrypted", "url: stays"]
        );
    }
}
