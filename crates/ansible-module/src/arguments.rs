//! The argument file that Ansible hands to a binary module.

use crate::FailureKind;
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
    /// Strings that Ansible itself names as secret.
    pub secrets: Vec<String>,
    /// Whether the file that the arguments came in is Ansible's, and not to be kept.
    disposable: bool,
}

impl Arguments {
    /// Read the JSON file at `path`, and remove it if Ansible made it for this task alone.
    ///
    /// The file holds every credential of the task, and stays behind when Ansible is killed before it
    /// cleans up. Ansible removes its directory with `rm -rf`, or `rmtree` that ignores errors, so it
    /// does not miss the file. `ANSIBLE_KEEP_REMOTE_FILES` leaves it, and so does a file that
    /// somebody wrote by hand to run the module without Ansible.
    ///
    /// # Errors
    /// It cannot be read, or does not hold a JSON object.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let unreadable = |reason: String| {
            Failure::new(
                FailureKind::Invocation,
                format!("cannot read the arguments {}: {reason}", path.display()),
            )
            .object(path.display().to_string())
            .hint("this program is an Ansible module: use it as a task in a playbook")
        };
        let text = std::fs::read(path).map_err(|e| unreadable(e.to_string()))?;
        match serde_json::from_slice(&text) {
            Ok(Value::Object(arguments)) => {
                let found = Self::of(arguments);
                if found.disposable {
                    // Where the directory is another user's (become), Ansible's cleanup has to do.
                    let _ = std::fs::remove_file(path);
                }
                Ok(found)
            }
            Ok(_) => Err(unreadable("not a JSON object".into())),
            // Without the parser's own words, which may quote what stands there.
            Err(e) => Err(unreadable(format!("not JSON (at line {})", e.line()))),
        }
    }

    /// The arguments that the JSON object `arguments` holds.
    pub fn of(arguments: Map<String, Value>) -> Self {
        let flag = |name: &str| arguments.get(name).and_then(Value::as_bool);
        // ansible-core 2.22 masks secrets on the controller; modules may return those that they
        // learn as `_ansible_new_secrets`. We return none: the result passes through logs of
        // connections and files of async tasks in clear text. Should Ansible hand some over, they
        // are masked.
        let named = |(name, _): &(&String, &Value)| {
            name.starts_with("_ansible_") && name.ends_with("secrets")
        };
        let handed = arguments.iter().filter(named);
        let secrets = handed.flat_map(|(_, value)| match value {
            Value::Array(items) => items.iter().collect(),
            Value::Object(map) => map.values().collect(),
            one => vec![one],
        });
        let secrets = secrets
            .filter_map(|secret| secret.as_str().map(str::to_owned))
            .collect();
        let mut found = Self {
            secrets,
            disposable: match flag("_ansible_keep_remote_files") {
                Some(keep) => !keep,
                None => arguments.contains_key("_ansible_version"),
            },
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn left(arguments: &Value) -> bool {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), arguments.to_string()).unwrap();
        let _ = Arguments::read(file.path());
        file.path().exists()
    }

    #[test]
    fn ansibles_file_is_removed_and_a_persons_is_not() {
        assert!(!left(&json!({"_ansible_keep_remote_files": false})));
        assert!(!left(&json!({"_ansible_version": "2.19.14"})));
        assert!(left(
            &json!({"_ansible_keep_remote_files": true, "_ansible_version": "2.19.14"})
        ));
        assert!(left(&json!({"name": "web1"})));
        assert!(left(&json!({"name": "web1", "_ansible_check_mode": true})));
        assert!(left(&json!(["_ansible_version"])));
    }

    #[test]
    fn what_ansible_names_as_secret_is_kept_apart() {
        let given = json!({
            "_ansible_new_secrets": ["one", 2, null], "_ansible_known_secrets": {"a": "two"},
            "_ansible_of_the_future": {"x": ["y"]}, "name": "web1",
        });
        let found = Arguments::of(given.as_object().unwrap().clone());
        assert_eq!(found.secrets, ["one", "two"]);
        assert_eq!(Value::from(found.params), json!({"name": "web1"}));
    }
}
