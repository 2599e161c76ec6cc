//! What `ssh` says of a jump host.

use super::problem::JumpProblem;

/// The most lines that are kept.
const MOST_LINES: usize = 64;
/// The most lines of an error.
const SHOWN_LINES: usize = 5;
/// The most characters of a line.
const LONGEST: usize = 300;

/// What a line means, if it decides something. Texts of a server are among the lines too, behind words of ssh's own.
fn verdict(line: &str) -> Option<JumpProblem> {
    if line == "Host key verification failed." {
        return Some(JumpProblem::HostKey);
    }
    if let Some((login, _)) = line.split_once(": Permission denied (") {
        let plain = login.contains('@') && !login.contains(char::is_whitespace);
        return (plain && line.ends_with(").")).then_some(JumpProblem::Login);
    }
    if line.starts_with("Received disconnect from ") {
        let too_many = line.ends_with(":2: Too many authentication failures");
        return Some(match too_many {
            true => JumpProblem::Login,
            false => JumpProblem::Failed,
        });
    }
    let starts = |texts: &[&str]| texts.iter().any(|text| line.starts_with(text));
    if starts(&["ssh: Could not resolve hostname ", "ssh: connect to host "]) {
        return Some(JumpProblem::Unreachable);
    }
    if let Some(rest) = line.strip_prefix("channel ") {
        let reason = rest.split_once(": open failed: ")?.1;
        return Some(match reason {
            _ if reason.starts_with("connect failed") => JumpProblem::Beyond,
            _ if reason.starts_with("resource shortage") => JumpProblem::Failed,
            _ => JumpProblem::Forwarding,
        });
    }
    let failed = starts(&[
        "Connection timed out during banner exchange",
        "Connection closed by ",
        "Connection reset by ",
        "kex_exchange_identification: ",
        "banner exchange: ",
        "Unable to negotiate with ",
    ]) || (starts(&["Timeout, server "]) && line.ends_with(" not responding."));
    failed.then_some(JumpProblem::Failed)
}

/// Whether the jump host has let us in.
pub(super) fn let_in(line: &str) -> bool {
    line.starts_with("Authenticated to ")
}

/// The last lines that `ssh` wrote of one jump host, cleaned.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines {
    lines: Vec<String>,
    /// What has no end yet.
    rest: Vec<u8>,
}

impl Lines {
    /// Take the bytes that came next.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut self.rest);
                    self.line(&line);
                }
                byte if self.rest.len() < 4 * LONGEST => self.rest.push(*byte),
                _ => {}
            }
        }
    }

    fn line(&mut self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_matches(|c: char| c.is_whitespace() || c == '@');
        let clean: String = text
            .chars()
            .filter(|c| !c.is_control())
            .take(LONGEST)
            .collect();
        if clean.is_empty() {
            return;
        }
        if self.lines.len() == MOST_LINES {
            self.lines.remove(0);
        }
        self.lines.push(clean);
    }

    /// Whether the jump host has let us in.
    pub(super) fn let_in(&self) -> bool {
        self.lines.iter().any(|line| let_in(line))
    }

    /// The first line that decides something.
    pub(super) fn problem(&self) -> Option<JumpProblem> {
        let problem = self.lines.iter().find_map(|line| verdict(line))?;
        let changed =
            |line: &String| line.contains("IDENTIFICATION HAS CHANGED") || line.contains("REVOKED");
        Some(match problem {
            JumpProblem::HostKey if self.lines.iter().any(changed) => JumpProblem::AnotherHostKey,
            problem => problem,
        })
    }

    /// What says most, for an error: the lines up to and with the one that decides, without what went well.
    pub(super) fn said(&self) -> String {
        let end = self
            .lines
            .iter()
            .position(|line| verdict(line).is_some())
            .map_or(self.lines.len(), |at| at + 1);
        let telling = |line: &&String| !let_in(line) && !idle(line);
        let lines: Vec<&str> = self.lines[..end]
            .iter()
            .filter(telling)
            .map(String::as_str)
            .collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("; ")
    }
}

/// What says nothing of a problem.
fn idle(line: &str) -> bool {
    line.contains("IDENTIFICATION HAS CHANGED")
        || line.starts_with("IT IS POSSIBLE")
        || line.starts_with("Someone could be eavesdropping")
        || line.starts_with("It is also possible that a host key")
        || line.starts_with("Please contact your system administrator")
        || line.starts_with("Add correct host key in ")
        || line.starts_with("remove with:")
        || line.starts_with("ssh-keygen -f ")
        || line.starts_with("Transferred: ")
        || line.starts_with("Bytes per second: ")
}
