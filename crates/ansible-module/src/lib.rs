//! Ansible's protocol for modules that are native binaries.
//!
//! A module implements [`Module`] and has a `main.rs` of three lines:
//!
//! ```ignore
//! fn main() -> std::process::ExitCode {
//!     ansible_module::main::<proxmox_iso::ProxmoxIso>()
//! }
//! ```
//!
//! Its options are a serde struct that also derives [`schemars::JsonSchema`]; that one type gives
//! validation, coercion  and documentation . What a field's Rust type and
//! attributes mean:
//!
//! | Rust | Ansible |
//! | --- | --- |
//! | `String` | `str` |
//! | `PathBuf` with `#[schemars(extend("x-ansible" = {"type": "path"}))]` | `path`: `~` and `$VARS` expanded (schemars alone cannot tell a `PathBuf` from a `String`) |
//! | integers, `f64`, `bool` | `int`, `float`, `bool` |
//! | `Vec<T>` | `list` with `elements`; `a,b` is split |
//! | `BTreeMap<String, T>` | `dict`, its values checked as `T` |
//! | a struct | `dict` with suboptions |
//! | an enum of unit variants | `str` with choices, documented by the variants' doc comments |
//! | an untagged enum, `serde_json::Value` | `raw`; the variant whose JSON type fits is checked |
//! | [`Secret`] | `str` with `no_log` |
//! | `Option<T>` | optional |
//! | `#[serde(default)]`, `#[serde(default = "..")]` | optional with that default (the type must implement `Serialize` for the default to be documented) |
//! | `#[serde(flatten)]` | the inner struct's options, at this level |
//!
//! More is said with `#[schemars(extend("x-ansible" = {...}))]`: `type`, `elements` (both an Ansible
//! type's name), `no_log` (bool), `document` (bool: a [`Secret`] that is a text with secrets in it, such
//! as a file's content, rather than a credential), `aliases` (list), `env` (list of environment variables that
//! supply the value when the option is absent).
//!
//! An option given as null is an absent one, as in Ansible.

mod arguments;
mod coerce;
mod docs;
mod documentation;
mod failure_kind;
mod literal;
mod mask;
mod outcome;
mod panics;
mod progress;
mod reply;
mod rules;
mod run;
mod secret;
mod spec;
mod task;
mod text;
mod validate;
mod watch;
pub mod yaml;

pub use coerce::to_dict;
pub use docs::{DocsError, docs, plugin_options};
pub use documentation::Documentation;
pub use failure_kind::FailureKind;
pub use outcome::{Diff, Failure, Outcome};
pub use progress::Progress;
pub use reply::SCHEMA_VERSION;
pub use rules::Rule;
#[cfg(fuzzing)]
pub use run::arguments;
pub use run::{main, main_detached};
pub use secret::Secret;
pub use task::Task;
pub use text::printable;

use std::future::Future;

/// An Ansible module.
pub trait Module: 'static {
    /// The name that playbooks use, which is the binary's name too.
    const NAME: &'static str;

    /// The options: the source of both validation and documentation.
    type Options: serde::de::DeserializeOwned + schemars::JsonSchema;

    /// What the options do not say: descriptions, notes, examples, return values.
    fn documentation() -> Documentation;

    /// The option whose suboptions are the variables of a role, and their prefix there. All mistakes in them are reported at once, by
    /// the names of the variables.
    const VARIABLES: Option<(&'static str, &'static str)> = None;

    /// What else is wrong with the arguments as they were given, beside what their types say. For modules with [`Self::VARIABLES`], so that
    /// a user learns of everything at once.
    fn mistakes(_arguments: &serde_json::Map<String, serde_json::Value>) -> Vec<String> {
        Vec::new()
    }

    /// Rules between options, checked as Ansible checks them.
    fn rules() -> Vec<Rule> {
        Vec::new()
    }

    /// Secrets within options that are not secret as a whole, such as the password in an address. They are masked as those are. The
    /// options are as they were given: a text may stand for a dict ([`to_dict`]).
    fn secrets(_params: &serde_json::Map<String, serde_json::Value>) -> Vec<String> {
        Vec::new()
    }

    /// What to write instead of an option that the module does not have, if that is known.
    fn instead(_option: &str) -> Option<&'static str> {
        None
    }

    /// Do the task.
    ///
    /// The future is dropped when the task is interrupted (SIGTERM, SIGINT, SIGHUP, or Ansible
    /// gone), so whatever must be undone or ended is undone in `Drop`.
    fn run(options: Self::Options, task: Task) -> impl Future<Output = Result<Outcome, Failure>>;
}
