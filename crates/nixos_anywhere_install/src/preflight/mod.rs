//! Mistakes that can be found without the machine.

mod extra_files;
mod files;
mod machine;
mod source;
mod ssh;

use crate::options::{Options, State};
use ansible_module::{Failure, FailureKind};
use serde_json::{Value, json};
use std::fmt;

use extra_files::extra_files;
use files::{files, programs};
use machine::machine;
use source::{nix, source};
use ssh::ssh_options;

/// A mistake in the options, or on the controller where they point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The name of the option.
    pub option: String,
    /// What is wrong with its value, and what to do.
    pub problem: String,
    /// The kind of the failure that it makes alone.
    kind: FailureKind,
    /// Whether it matters to an installation only: a machine that is installed already is left
    /// alone all the same.
    deferrable: bool,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.option, self.problem)
    }
}

impl Mistake {
    /// A mistake that the options alone show.
    pub fn new(option: &str, problem: impl Into<String>) -> Self {
        Self {
            option: option.to_owned(),
            problem: problem.into(),
            kind: FailureKind::InvalidOption,
            deferrable: false,
        }
    }

    pub(crate) fn deferrable(&self) -> bool {
        self.deferrable
    }
}

/// Every mistake that can be found without the machine: in the options that the state uses, in the
/// files that they name, and in the programs of the controller. With `state: built` those of a
/// whole installation, of the options that are given.
pub fn preflight(options: &Options) -> Vec<Mistake> {
    let mut found = Found(Vec::new());
    machine(options, &mut found);
    if matches!(options.state, State::Built | State::Installed) {
        source(options, &mut found);
        ssh_options(options, &mut found);
        extra_files(options, &mut found);
        files(options, &mut found);
        programs(options, &mut found);
    }
    found.0
}

/// The mistakes in the options that logins, evaluations and builds use, where nothing is installed: of the module `nixos_deploy`.
pub fn preflight_of_system(options: &Options) -> Vec<Mistake> {
    let mut found = Found(Vec::new());
    machine(options, &mut found);
    nix(options, &mut found);
    found.0
}

/// The failure that reports all of `mistakes`.
///
/// # Errors
/// When there is any.
pub fn refuse(mistakes: &[Mistake]) -> Result<(), Failure> {
    let Some(first) = mistakes.first() else {
        return Ok(());
    };
    let same = mistakes.iter().all(|mistake| mistake.kind == first.kind);
    let kind = if same {
        first.kind
    } else {
        FailureKind::InvalidOption
    };
    let msg = match mistakes {
        [mistake] => mistake.to_string(),
        several => {
            let lines: Vec<String> = several
                .iter()
                .map(|mistake| format!("- {mistake}"))
                .collect();
            format!("{} mistakes:\n{}", lines.len(), lines.join("\n"))
        }
    };
    let list: Vec<Value> = mistakes
        .iter()
        .map(|mistake| json!({"option": mistake.option, "problem": mistake.problem}))
        .collect();
    Err(Failure::new(kind, msg)
        .object(first.option.clone())
        .with("mistakes", list))
}

struct Found(Vec<Mistake>);

impl Found {
    fn push(&mut self, option: &str, problem: impl Into<String>) {
        self.0.push(Mistake::new(option, problem));
    }

    /// A mistake that the options alone do not show.
    fn file(&mut self, option: &str, problem: impl Into<String>) {
        self.add(option, problem, FailureKind::InvalidOption, true);
    }

    fn add(
        &mut self,
        option: &str,
        problem: impl Into<String>,
        kind: FailureKind,
        deferrable: bool,
    ) {
        self.0.push(Mistake {
            option: option.to_owned(),
            problem: problem.into(),
            kind,
            deferrable,
        });
    }
}

#[cfg(test)]
mod tests;
