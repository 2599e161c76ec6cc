//! What `ssh` says of jump hosts while another program uses them.

use super::error::JumpError;
use super::hosts::{Jump, beyond};
use super::problem::JumpProblem;
use super::words::Lines;

/// The problems in the lines that were written since the last one.
#[derive(Debug)]
pub struct JumpLog {
    jump: Jump,
    /// `HOST port PORT` of the guest.
    address: String,
    lines: Vec<Lines>,
}

impl JumpLog {
    /// A log of these jump hosts, before the guest with this address (`HOST port PORT`).
    pub fn new(jump: Jump, address: String) -> Self {
        let lines = vec![Lines::default(); jump.hops.len()];
        Self {
            jump,
            address,
            lines,
        }
    }

    /// Take a line of the log of the jump host with this index. The answer is the problem that it completes.
    pub fn line(&mut self, hop: usize, line: &str) -> Option<JumpError> {
        let lines = self.lines.get_mut(hop)?;
        lines.push(line.as_bytes());
        lines.push(b"\n");
        let problem = lines.problem()?;
        let lines = std::mem::take(lines);
        // What closed it is in the log of the one before, or of the machine.
        let closed = problem == JumpProblem::Failed && line.contains("UNKNOWN port");
        (!closed).then(|| {
            let beyond = beyond(&self.jump, hop, &self.address);
            JumpError::new(&self.jump.hops[hop], problem, beyond, &lines)
        })
    }
}
