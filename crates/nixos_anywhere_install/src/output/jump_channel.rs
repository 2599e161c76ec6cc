//! What our own `ssh` reports of jump hosts: a file for each, to which only `ssh` writes.

use std::path::PathBuf;

use guest_ssh::{JumpError, JumpLog, JumpProblem};

use crate::output::channel::Channel;

/// The reader's side.
pub(crate) struct JumpChannel {
    log: JumpLog,
    channels: Vec<Channel>,
}

impl JumpChannel {
    /// Read `logs`, one for each jump host.
    pub(crate) fn new(log: JumpLog, logs: Vec<PathBuf>) -> Self {
        let channels = logs.into_iter().map(Channel::new).collect();
        Self { log, channels }
    }

    /// The problems that were reported since the last time.
    pub(crate) fn problems(&mut self) -> Vec<JumpError> {
        let mut problems = Vec::new();
        for (hop, channel) in self.channels.iter_mut().enumerate() {
            for line in channel.lines() {
                let Some(problem) = self.log.line(hop, &line) else {
                    continue;
                };
                // A jump host that is not reached says only that it is not, and the one before it why.
                if problems.is_empty() || problem.problem != JumpProblem::Failed {
                    problems.push(problem);
                }
            }
        }
        problems
    }
}
