//! A small module that does what the tests of the protocol need, and nothing useful.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ansible_module::{
    Diff, Documentation, Failure, FailureKind, Module, Outcome, Rule, Secret, Task,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// How the task should end.
#[derive(Debug, Clone, Copy, PartialEq, Default, JsonSchema, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Behaviour {
    /// Changed.
    #[default]
    Change,
    /// Unchanged.
    Keep,
    /// It fails.
    Fail,
    /// It panics.
    Panic,
    /// It waits for five minutes.
    Wait,
    /// It blocks its only thread for five minutes.
    Block,
}

/// A part of the account.
#[derive(Debug, JsonSchema, Deserialize)]
pub struct Login {
    /// The user.
    pub user: String,
    /// Its password.
    pub password: Option<Secret>,
}

/// The options.
#[derive(Debug, JsonSchema, Deserialize)]
pub struct Options {
    /// What to do.
    #[serde(default)]
    pub behaviour: Behaviour,
    /// A token.
    #[schemars(extend("x-ansible" = {"env": ["PROBE_TOKEN"]}))]
    pub token: Option<Secret>,
    /// The account.
    pub login: Option<Login>,
    /// A file that exists while the task runs.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub marker: Option<PathBuf>,
    /// A number.
    #[schemars(extend("x-ansible" = {"aliases": ["count"]}))]
    pub number: Option<u16>,
}

/// The module.
pub struct Probe;

/// As a server might repeat it.
fn in_a_url(text: &str) -> String {
    let encoded = text.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    encoded.collect()
}

struct Marker(Option<PathBuf>);

impl Drop for Marker {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Module for Probe {
    const NAME: &'static str = "probe";
    type Options = Options;

    fn documentation() -> Documentation {
        Documentation {
            short_description: "Try the protocol",
            description: &["Does what it is told, for tests."],
            examples: "- name: Try it\n  probe:\n    behaviour: keep\n",
            returns: "login:\n  description: The user.\n  returned: success\n  type: str\n",
            ..Documentation::default()
        }
    }

    fn rules() -> Vec<Rule> {
        vec![Rule::MutuallyExclusive(&["token", "login"])]
    }

    async fn run(options: Options, task: Task) -> Result<Outcome, Failure> {
        if let Some(path) = &options.marker {
            std::fs::write(path, std::process::id().to_string()).map_err(|e| {
                Failure::new(FailureKind::File, format!("cannot write the marker: {e}"))
            })?;
        }
        let _marker = Marker(options.marker.clone());
        let password = options.login.as_ref().and_then(|l| l.password.clone());
        let secret = password.or(options.token).unwrap_or_default();
        let secret = secret.expose();
        match options.behaviour {
            Behaviour::Change => {
                task.warn(format!("a warning with {secret}"));
                let verb = if task.check_mode {
                    "would change"
                } else {
                    "changed"
                };
                Ok(Outcome::changed(format!("{verb} it"))
                    .with("echo", format!("<{secret}>"))
                    .with("number", options.number)
                    .with("login", options.login.map(|login| login.user))
                    .diff(
                        Diff::new(json!({"size": 1}), json!({"size": 2, "by": secret}))
                            .header("the thing"),
                    ))
            }
            Behaviour::Keep => Ok(Outcome::unchanged("nothing to do")),
            Behaviour::Fail => Err(Failure::new(
                FailureKind::Refused,
                format!("no use of {secret} here"),
            )
            .object("the thing")
            .status(403)
            .detail(format!("said: {}", in_a_url(secret)))
            .hint("use another")
            .with("made", "the first half")
            .with("changed", true)),
            Behaviour::Panic => panic!("cannot go on with {secret}"),
            Behaviour::Wait => {
                tokio::time::sleep(Duration::from_secs(300)).await;
                Ok(Outcome::default())
            }
            Behaviour::Block => {
                std::thread::sleep(Duration::from_secs(300));
                Ok(Outcome::default())
            }
        }
    }
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("--docs") {
        match ansible_module::docs::<Probe>() {
            Ok(text) => print!("{text}"),
            Err(e) => {
                eprintln!("{e}");
                return ExitCode::FAILURE;
            }
        }
        return ExitCode::SUCCESS;
    }
    ansible_module::main::<Probe>()
}
