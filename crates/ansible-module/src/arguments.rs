//! The argument file that Ansible hands to a binary module.

use std::path::Path;

use serde_json::{Map, Value};

use crate::Failure;

/// The arguments of a task, its own and Ansible's.
#[derive(Debug, Default)]
pub struct Arguments {
    /// The task's options, as they were given.
    pub params: Map<String, Value>,
    /// The name that the task used, if Ansible told.
    pub module_name: Option<String>,
    /// Only say what would change.
    pub check_mode: bool,
    /// A difference was asked for.
    pub diff_mode: bool,
    /// The number of `-v`.
    pub verbosity: u8,
    /// The task hides its output.
    pub no_log: bool,
    /// Unknown options are no error.
    pub ignore_unknown: bool,
    /// Whether to return the (masked) arguments. ansible-core 2.21 says; before it, always.
    pub inject_invocation: bool,
}

impl Arguments {
    /// Read the JSON file at `path`.
    ///
    /// # Errors
    /// It cannot be read, or does not hold a JSON object.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let unreadable = |reason: String| {
            Failure::new(
                "invocation",
                format!("cannot read the arguments {}: {reason}", path.display()),
            )
            .object(path.display().to_string())
            .hint("this program is an Ansible module: use it as a task in a playbook")
        };
        let text = std::fs::read(path).map_err(|e| unreadable(e.to_string()))?;
        match serde_json::from_slice(&text) {
            Ok(Value::Object(arguments)) => Ok(Self::of(arguments)),
            Ok(_) => Err(unreadable("not a JSON object".into())),
            // Without the parser's own words, which may quote what stands there.
            Err(e) => Err(unreadable(format!("not JSON (at line {})", e.line()))),
        }
    }

    /// The arguments that the JSON object `arguments` holds.
    pub fn of(arguments: Map<String, Value>) -> Self {
        let flag = |name: &str| arguments.get(name).and_then(Value::as_bool);
        let mut found = Self {
            module_name: arguments
                .get("_ansible_module_name")
                .and_then(Value::as_str)
                .map(str::to_owned),
            check_mode: flag("_ansible_check_mode").unwrap_or(false),
            diff_mode: flag("_ansible_diff").unwrap_or(false),
            verbosity: arguments
                .get("_ansible_verbosity")
                .and_then(Value::as_u64)
                .map_or(0, |n| u8::try_from(n).unwrap_or(u8::MAX)),
            no_log: flag("_ansible_no_log").unwrap_or(false),
            ignore_unknown: flag("_ansible_ignore_unknown_opts").unwrap_or(false),
            inject_invocation: flag("_ansible_inject_invocation").unwrap_or(true),
            params: arguments,
        };
        found
            .params
            .retain(|name, _| !name.starts_with("_ansible_"));
        found
    }
}
