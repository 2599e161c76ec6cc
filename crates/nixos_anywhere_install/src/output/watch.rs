//! Read what nixos-anywhere says: its phases, its last lines, and the texts of its endless loops.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use ansible_module::{FailureKind, Progress};
use guest_ssh::JumpError;
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use crate::commands::child::{Listener, Stop, Work};
use crate::error::{jump_hint, jump_kind};
use crate::output::channel::{self, Channel, Verdict};
use crate::output::endless::{BOOTLOADER, JUMP_TIMES, WORDS};
use crate::output::jump_channel::JumpChannel;
use crate::output::log::Log;
use crate::output::phases::{
    BUILD, EVALUATE, FACTS, FORMATTING, INSTALL, KEXEC, KEYS, ORDER, UPLOAD, phase, position,
};
use crate::output::step;
use crate::output::text::{printable, shortened};

/// A phase that ended, with its duration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Phase {
    /// What the program called it.
    pub(crate) name: String,
    /// How long it took, in seconds, to a tenth.
    pub(crate) seconds: f64,
}

/// Phases that are heard of; nixos-anywhere has not a quarter of them.
const PHASES: usize = 64;

/// Lines kept for an error.
const TAIL: usize = 20;

/// The most paths that are kept of what a build prints. More than two are a mistake, whose message gives their number.
const MOST_PATHS: usize = 64;

/// What is done when the bootloader was not installed.
const NO_BOOTLOADER: &str = "compare boot.loader with the disko configuration and with the machine's firmware (UEFI or BIOS); it was \
     not rebooted, and can be installed again";

/// What is done when the key cannot be added.
const NO_KEYS: &str = "give a private_key_file whose public key the machine knows already, or let its user write there";

/// Phases that are short when they work, and endless when they do not.
const SHORT: [(&str, Duration); 2] = [
    (KEYS, Duration::from_secs(180)),
    (
        "Waiting for the machine to become unreachable due to reboot",
        Duration::from_secs(300),
    ),
];

/// How long nothing may be heard of in [`FACTS`], before there is a sign that Nix is at work.
const SILENCE: Duration = Duration::from_secs(180);

/// How often nixos-anywhere may try to add its key.
const ATTEMPTS: u32 = 5;

/// How many bytes the programs must have read or written, and how many hundredths of a second they
/// must have computed, to be at work. A connection that is only kept alive does less.
const WORK: (u64, u64) = (16 << 10, 50);

/// Listens to the programs of one installation.
pub(crate) struct Watch {
    log: Log,
    progress: Progress,
    host: Option<String>,
    phases: Vec<Phase>,
    current: Option<(String, Instant)>,
    tail: VecDeque<String>,
    /// What our own ssh reports, while nixos-anywhere runs.
    ssh: Option<Channel>,
    /// What ssh reports of the jump hosts meanwhile.
    jump: Option<JumpChannel>,
    /// How often our own ssh was called, altogether and in this phase.
    calls: (u32, u32),
    /// How often each verdict was seen in this phase.
    seen: HashMap<&'static str, u32>,
    /// The last line of our own ssh in this phase that says that the machine is gone.
    lost: Option<String>,
    /// Whether a jump host has said last why a connection came to nothing.
    at_jump_host: bool,
    /// How far nixos-anywhere is, in [`ORDER`].
    position: Option<usize>,
    /// When something was last heard of the programs, and the work that they had done by then.
    heard: (Instant, Work),
    /// What Nix does within the phase.
    step: Option<String>,
    /// When a step was last reported.
    reported_at: Option<Instant>,
    /// The paths that lines of standard output were.
    printed_paths: Vec<PathBuf>,
}

impl Watch {
    /// A listener that writes to `log` and `progress`.
    pub(crate) fn new(log: Log, progress: Progress, host: Option<&str>) -> Self {
        Self {
            log,
            progress,
            host: host.map(str::to_owned),
            phases: Vec::new(),
            current: None,
            tail: VecDeque::new(),
            ssh: None,
            jump: None,
            calls: (0, 0),
            seen: HashMap::new(),
            lost: None,
            at_jump_host: false,
            position: None,
            heard: (Instant::now(), Work::default()),
            step: None,
            reported_at: None,
            printed_paths: Vec::new(),
        }
    }

    /// A phase begins, and the one before it ends.
    pub(crate) fn begin(&mut self, name: &str) {
        self.end();
        self.seen.clear();
        self.calls.1 = 0;
        self.lost = None;
        self.step = None;
        self.heard.0 = Instant::now();
        self.progress
            .emit(&json!({"event": "phase", "host": self.host, "phase": name}));
        self.current = Some((name.to_owned(), Instant::now()));
    }

    /// The current phase ends.
    pub(crate) fn end(&mut self) {
        if let Some((name, since)) = self.current.take() {
            let seconds = tenths(since.elapsed());
            self.progress.emit(&json!({
                "event": "phase_ended", "host": self.host, "phase": name, "seconds": seconds
            }));
            self.phases.push(Phase { name, seconds });
        }
    }

    /// A line of our own for the log.
    pub(crate) fn note(&mut self, line: &str) {
        self.log.note(line);
    }

    /// The phases that ended.
    pub(crate) fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// The name of the phase that goes on.
    pub(crate) fn current(&self) -> Option<&str> {
        self.current.as_ref().map(|(name, _)| name.as_str())
    }

    /// Whether a phase of this name began.
    pub(crate) fn reached(&self, name: &str) -> bool {
        self.current() == Some(name) || self.phases.iter().any(|phase| phase.name == name)
    }

    /// The last lines, oldest first.
    pub(crate) fn tail(&self) -> String {
        let lines: Vec<&str> = self.tail.iter().map(String::as_str).collect();
        lines.join("\n")
    }

    /// The last line that says why: an error's, else simply the last.
    pub(crate) fn last(&self) -> Option<&str> {
        let telling = |line: &&String| {
            ["error:", "aborted:", "fatal:"]
                .iter()
                .any(|word| line.contains(word))
        };
        let mut lines = self.tail.iter().rev();
        let error = lines.clone().find(telling);
        error.or_else(|| lines.next()).map(|line| line.trim())
    }

    /// The paths that lines of standard output were since this was last asked: what `nix build` built.
    pub(crate) fn printed_paths(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.printed_paths)
    }

    /// Follow nixos-anywhere, whose ssh reports on `channel`, and of jump hosts on `jump`.
    pub(crate) fn follow(&mut self, channel: Channel, jump: Option<JumpChannel>) {
        self.ssh = Some(channel);
        self.jump = jump;
        self.calls = (0, 0);
        self.position = None;
    }

    /// Whether nixos-anywhere has begun to change the machine.
    pub(crate) fn touched(&self) -> bool {
        self.position.is_some_and(|position| position >= FORMATTING) || self.reached(ORDER[KEXEC])
    }

    /// What our own ssh said of a machine that is gone, in the current phase.
    pub(crate) fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// What Nix does within the phase.
    pub(crate) fn step(&self) -> Option<&str> {
        self.step.as_deref()
    }

    /// The output of the programs is not complete in the log: at least its end is.
    pub(crate) fn complete_log(&mut self) {
        if self.log.full() {
            self.tail.iter().for_each(|line| self.log.note(line));
        }
    }

    /// Keep a line for errors and the log.
    fn keep(&mut self, line: &str) {
        self.log.line(line);
        self.heard.0 = Instant::now();
        if !line.trim().is_empty() {
            if self.tail.len() == TAIL {
                self.tail.pop_front();
            }
            self.tail.push_back(shortened(line));
        }
    }

    /// A line of nixos-anywhere's own that announces a phase. It counts in its order only.
    fn announced(&mut self, name: &str) -> Option<Stop> {
        let position = position(name)?;
        let again = match self.position {
            None => true,
            // Facts are gathered again after a kexec, and there may be several keys.
            Some(reached) => {
                position > reached
                    || (name == FACTS && reached == KEXEC)
                    || (position == UPLOAD && reached == UPLOAD && name != ORDER[UPLOAD])
            }
        };
        if !again || self.phases.len() >= PHASES {
            return None;
        }
        self.position = self.position.max(Some(position));
        self.begin(name);
        if name == KEYS {
            return None;
        }
        self.unverified()
    }

    /// That nixos-anywhere has logged in without our ssh, which alone verifies the host key.
    fn unverified(&mut self) -> Option<Stop> {
        let stop = self.poll();
        (self.ssh.is_some() && self.calls.0 == 0)
            .then(|| Stop {
                kind: FailureKind::HostKey,
                reason: "nixos-anywhere used an ssh that does not verify host keys".into(),
                hint: Some(
                    "nixos-anywhere must take ssh from PATH; check how it is wrapped on this controller",
                ),
            })
            .or(stop)
    }

    /// A call of our own ssh.
    fn called(&mut self) -> Option<Stop> {
        self.calls.0 += 1;
        self.calls.1 += 1;
        let endless = self.current() == Some(KEYS) && self.calls.1 > ATTEMPTS;
        endless.then(|| {
            let about = |line: &&String| line.contains("authorized_keys");
            let said = match self.tail.iter().rev().find(about) {
                Some(line) => format!(" (it said {line:?})"),
                None => String::new(),
            };
            Stop {
                kind: FailureKind::Endless,
                reason: format!("the key cannot be added to the machine's authorized_keys{said}"),
                hint: Some(NO_KEYS),
            }
        })
    }

    /// A line of our own ssh.
    fn reported(&mut self, line: &str) -> Option<Stop> {
        if line == channel::CALL {
            return self.called();
        }
        let verdict = channel::verdict(line);
        let line = printable(line);
        self.keep(&line);
        // The jump host closed it, which has said why.
        if verdict == Some(Verdict::Closed) && self.at_jump_host {
            return None;
        }
        self.at_jump_host = false;
        match verdict? {
            Verdict::HostKey => {
                return Some(Stop {
                    kind: FailureKind::HostKey,
                    reason: "the machine's host key is not the known one".into(),
                    hint: Some(
                        "another machine answers at this address, or its keys were made anew",
                    ),
                });
            }
            Verdict::Lost
            | Verdict::NoAnswer
            | Verdict::Refused
            | Verdict::NoRoute
            | Verdict::Closed => {
                self.lost = Some(line);
            }
            _ => {}
        }
        // A rebooting machine refuses connections too.
        if self.current() != Some(KEYS) {
            return None;
        }
        let words = WORDS.iter().find(|words| Some(words.verdict) == verdict)?;
        let seen = self.seen.entry(words.reason).or_default();
        *seen += 1;
        (*seen >= words.times).then(|| Stop {
            kind: FailureKind::Endless,
            reason: words.reason.to_owned(),
            hint: Some(words.hint),
        })
    }

    /// A problem at a jump host.
    fn not_through(&mut self, error: &JumpError) -> Option<Stop> {
        let text = error.to_string();
        self.at_jump_host = true;
        self.keep(&text);
        let stop = |kind| Stop {
            kind,
            reason: text.clone(),
            hint: jump_hint(error.problem),
        };
        if error.is_final() {
            return Some(stop(jump_kind(error.problem)));
        }
        self.lost = Some(text.clone());
        // A rebooting machine cannot be connected to either.
        if self.current() != Some(KEYS) {
            return None;
        }
        let seen = self.seen.entry("jump host").or_default();
        *seen += 1;
        (*seen >= JUMP_TIMES).then(|| stop(FailureKind::Endless))
    }

    /// What nixos-install says of the bootloader.
    fn bootloader(&self, line: &str) -> Option<Stop> {
        // Phases begin on standard output: what standard error says may be heard in the next one.
        if !self.reached(INSTALL) {
            return None;
        }
        let (_, reason) = BOOTLOADER.iter().find(|(part, _)| line.contains(part))?;
        Some(Stop {
            kind: FailureKind::Bootloader,
            reason: (*reason).to_owned(),
            hint: Some(NO_BOOTLOADER),
        })
    }

    /// Note what Nix does, and report it, but not each of a thousand paths.
    fn stepped(&mut self, line: &str) {
        let Some(step) = step::of(line) else { return };
        let now = Instant::now();
        let due = self
            .reported_at
            .is_none_or(|last| now - last >= Duration::from_secs(1));
        if due && self.step.as_ref() != Some(&step) {
            self.reported_at = Some(now);
            let phase = self.current.as_ref().map(|(name, _)| name);
            self.progress.emit(&json!({
                "event": "step", "host": self.host, "phase": phase, "step": step
            }));
        }
        self.step = Some(step);
    }
}

impl Listener for Watch {
    fn line(&mut self, stdout: bool, line: &str) -> Option<Stop> {
        let line = printable(line);
        self.keep(&line);
        if !stdout {
            self.stepped(&line);
        } else if matches!(self.current(), Some(BUILD | EVALUATE)) {
            if line.starts_with('/') && self.printed_paths.len() < MOST_PATHS {
                self.printed_paths.push(PathBuf::from(&line));
            }
        } else if let Some(name) = phase(&line) {
            match name {
                "Done!" => self.end(),
                name => {
                    if let Some(stop) = self.announced(name) {
                        return Some(stop);
                    }
                }
            }
        }
        self.bootloader(&line)
    }

    fn poll(&mut self) -> Option<Stop> {
        let lines = self.ssh.as_mut().map(Channel::lines).unwrap_or_default();
        let mut stop = None;
        // They know more than the ssh that goes through them.
        let problems = self.jump.as_mut().map(JumpChannel::problems);
        for problem in problems.unwrap_or_default() {
            let next = self.not_through(&problem);
            stop = stop.or(next);
        }
        for line in lines {
            let next = self.reported(&line);
            stop = stop.or(next);
        }
        stop
    }

    fn ended(&mut self, success: bool) -> Option<Stop> {
        let stop = self.poll();
        match success {
            true => stop.or_else(|| self.unverified()),
            false => stop,
        }
    }

    fn tick(&mut self, since: Duration, work: Work) {
        let before = self.heard.1;
        let bytes = work.bytes.saturating_sub(before.bytes);
        let time = work.time.saturating_sub(before.time);
        // Processes that ended take their numbers with them.
        let less = work.bytes < before.bytes || work.time < before.time;
        if bytes >= WORK.0 || time >= WORK.1 {
            self.heard = (Instant::now(), work);
        } else if less {
            self.heard.1 = work;
        }
        let (phase, since) = match &self.current {
            Some((name, began)) => (Some(name), began.elapsed()),
            None => (None, since),
        };
        let mut event = json!({
            "event": "running", "host": self.host, "phase": phase, "seconds": tenths(since)
        });
        if let Some(step) = &self.step {
            event["step"] = json!(step);
        }
        self.progress.emit(&event);
    }

    fn limit(&self) -> Option<(Instant, Stop)> {
        let (name, since) = self.current.as_ref()?;
        let stop = |reason: String| Stop {
            kind: FailureKind::Endless,
            reason,
            hint: Some("look at the machine's console and at the log"),
        };
        if name == FACTS && self.step.is_none() {
            let reason = format!("nothing happened in \"{name}\" for {} s", SILENCE.as_secs());
            return Some((self.heard.0 + SILENCE, stop(reason)));
        }
        let (_, limit) = SHORT.iter().find(|(short, _)| short == name)?;
        let reason = format!(
            "it did not get past \"{name}\" within {} s",
            limit.as_secs()
        );
        Some((*since + *limit, stop(reason)))
    }
}

/// Seconds, to a tenth.
fn tenths(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests;
