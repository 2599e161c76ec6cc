//! What can go wrong at a jump host.

use super::hosts::Hop;
use super::problem::JumpProblem;
use super::words::Lines;

/// A connection through jump hosts that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("jump host {hop}: {}", self.text())]
pub struct JumpError {
    /// The jump host, as it was given.
    pub hop: String,
    /// What it is.
    pub problem: JumpProblem,
    /// `HOST port PORT` of what was to be reached from there.
    pub beyond: String,
    /// What `ssh` said, in one bounded line without control characters. It may be empty.
    pub said: String,
}

impl JumpError {
    pub(super) fn new(hop: &Hop, problem: JumpProblem, beyond: String, lines: &Lines) -> Self {
        Self {
            hop: hop.to_string(),
            problem,
            beyond,
            said: lines.said(),
        }
    }

    /// Whether waiting does not help.
    pub fn is_final(&self) -> bool {
        self.problem.is_final()
    }

    fn text(&self) -> String {
        let beyond = &self.beyond;
        let text = match self.problem {
            JumpProblem::Program => "cannot run ssh for it".into(),
            JumpProblem::Unreachable => "cannot be reached".into(),
            JumpProblem::Silent => "did not let us in within the time limit".into(),
            JumpProblem::HostKey => "its host key is not known, and nothing was sent to it".into(),
            JumpProblem::AnotherHostKey => {
                "offers another host key than the known one; nothing was sent to it".into()
            }
            JumpProblem::Login => "refused the login".into(),
            JumpProblem::Forwarding => format!("refuses to connect to {beyond}"),
            JumpProblem::Beyond => format!("cannot connect to {beyond}"),
            JumpProblem::Failed => "the connection failed".into(),
        };
        match self.said.is_empty() {
            true => text,
            false => format!("{text} ({:?})", self.said),
        }
    }
}
