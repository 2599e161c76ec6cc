//! Read what nixos-anywhere says: its phases, its last lines, and the texts of its endless loops.

use ansible_module::FailureKind;
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use ansible_module::Progress;
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use crate::commands::child::{Listener, Stop, Work};
use crate::output::channel::{self, Channel, Verdict};
use crate::output::log::Log;
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

/// No phase of nixos-anywhere's has a longer name, in bytes.
const LONGEST_NAME: usize = 200;

/// Lines kept for an error.
const TAIL: usize = 20;

/// The most paths that are kept of what a build prints. More than two are a mistake, whose message gives their number.
const MOST_PATHS: usize = 64;

/// nixos-anywhere tries its first login for ever; the machine answered us just before, so that a
/// login which does not work by then never will.
const KEYS: &str = "Uploading install SSH keys";

/// The phase, of this module itself, in which Nix builds on the controller.
pub(crate) const BUILD: &str = "Building the configuration";

/// The phase, of this module itself, in which Nix evaluates on the controller.
pub(crate) const EVALUATE: &str = "Evaluating the configuration";

/// From it on the disks are not what they were.
const FORMAT: &str = "Formatting hard drive with disko";

/// In it the bootloader is installed.
const INSTALL: &str = "Installing NixOS";

/// What is done when the bootloader was not installed.
const NO_BOOTLOADER: &str = "compare boot.loader with the disko configuration and with the machine's firmware (UEFI or BIOS); it was \
     not rebooted, and can be installed again";

/// What is done when the key cannot be added.
const NO_KEYS: &str = "give a private_key_file whose public key the machine knows already, or let its user write there";

/// In it nixos-anywhere also builds, evaluates and copies disko's script, without a phase of its own.
const FACTS: &str = "Gathering machine facts";

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

/// The phases of nixos-anywhere in their order. Output of the machine may look like one.
const ORDER: [&str; 14] = [
    KEYS,
    FACTS,
    "Switching system into kexec",
    "Generating hardware-configuration.nix using nixos-generate-config",
    "Generating facter.json using nixos-facter",
    "Generating facter.json using nixos-facter from nixpkgs",
    "Building disko script",
    FORMAT,
    "Uploading the system closure",
    "Building the system closure",
    "Copying extra files",
    INSTALL,
    "Rebooting",
    "Waiting for the machine to become unreachable due to reboot",
];

/// Where a key for disk encryption is uploaded: before disko's script is built.
const UPLOAD: usize = 5;

/// Where a kexec is.
const KEXEC: usize = 2;

/// Where the disks are formatted.
const FORMATTING: usize = 7;

/// What ssh's own words mean while nixos-anywhere adds its key, for ever if that does not work.
struct Words {
    verdict: Verdict,
    /// How often they may be seen before that is sure.
    times: u32,
    reason: &'static str,
    hint: &'static str,
}

const WENT_AWAY: &str = "it went away after it had answered: look at its console";

const WORDS: [Words; 7] = [
    Words {
        verdict: Verdict::Denied,
        times: 3,
        reason: "the machine refuses the login",
        hint: "check user and private_key_file; root must be allowed to log in with a key, unless \
               kexec is among the phases and the user has sudo without a password",
    },
    Words {
        verdict: Verdict::Refused,
        times: 5,
        reason: "the machine refuses connections",
        hint: "its SSH server went away after it had answered: look at its console",
    },
    Words {
        verdict: Verdict::NoAnswer,
        times: 3,
        reason: "the machine does not answer",
        hint: WENT_AWAY,
    },
    Words {
        verdict: Verdict::NoRoute,
        times: 5,
        reason: "there is no way to the machine",
        hint: WENT_AWAY,
    },
    Words {
        verdict: Verdict::NoName,
        times: 3,
        reason: "the machine's name has no address",
        hint: "check host",
    },
    Words {
        verdict: Verdict::Closed,
        times: 5,
        reason: "the machine closes connections before a login",
        hint: "its SSH server may be punishing failed logins (PerSourcePenalties); wait and try again",
    },
    Words {
        verdict: Verdict::TooManyKeys,
        times: 2,
        reason: "the machine refuses the login after too many keys",
        hint: "give private_key_file instead of an agent with many keys",
    },
];

/// What nixos-install says when the bootloader was not installed. nixos-anywhere does not look at
/// these, and would reboot into nothing.
const BOOTLOADER: [(&str, &str); 3] = [
    (
        "Failed to install bootloader",
        "the bootloader could not be installed",
    ),
    ("installation of GRUB", "GRUB could not be installed"),
    ("grub-install: error:", "GRUB could not be installed"),
];

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
    /// How often our own ssh was called, altogether and in this phase.
    calls: (u32, u32),
    /// How often each verdict was seen in this phase.
    seen: HashMap<&'static str, u32>,
    /// The last line of our own ssh in this phase that says that the machine is gone.
    lost: Option<String>,
    /// How far nixos-anywhere is, in [`ORDER`].
    place: Option<usize>,
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
            calls: (0, 0),
            seen: HashMap::new(),
            lost: None,
            place: None,
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

    /// Follow nixos-anywhere, whose ssh reports on `channel`.
    pub(crate) fn follow(&mut self, channel: Channel) {
        self.ssh = Some(channel);
        self.calls = (0, 0);
        self.place = None;
    }

    /// Whether nixos-anywhere has begun to change the machine.
    pub(crate) fn touched(&self) -> bool {
        self.place.is_some_and(|place| place >= FORMATTING) || self.reached(ORDER[KEXEC])
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
        let place = place(name)?;
        let again = match self.place {
            None => true,
            // Facts are gathered again after a kexec, and there may be several keys.
            Some(reached) => {
                place > reached
                    || (name == FACTS && reached == KEXEC)
                    || (place == UPLOAD && reached == UPLOAD && name != ORDER[UPLOAD])
            }
        };
        if !again || self.phases.len() >= PHASES {
            return None;
        }
        self.place = self.place.max(Some(place));
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

/// The place of a phase in [`ORDER`].
fn place(name: &str) -> Option<usize> {
    let key = name
        .strip_prefix("Uploading ")
        .is_some_and(|rest| rest.contains(" to /"));
    match key {
        true => Some(UPLOAD),
        false => ORDER.iter().position(|phase| *phase == name),
    }
}

/// Seconds, to a tenth.
fn tenths(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}

/// The phase that a line of nixos-anywhere's standard output announces: `### NAME ###`. The
/// machine's own output comes on the same stream, so the whole line must be that.
fn phase(line: &str) -> Option<&str> {
    let name = line.strip_prefix("### ")?.strip_suffix(" ###")?;
    (!name.is_empty() && name.len() <= LONGEST_NAME).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> Watch {
        Watch::new(Log::open(None).unwrap(), Progress::default(), Some("h"))
    }

    #[tokio::test(start_paused = true)]
    async fn phases_are_timed() {
        let mut watch = watch();
        watch.line(true, "### Uploading install SSH keys ###");
        tokio::time::advance(Duration::from_millis(1500)).await;
        watch.line(true, "not a phase: ### x ###");
        watch.line(false, "### Installing NixOS ###");
        watch.line(true, "### Installing NixOS ###");
        assert_eq!(watch.current(), Some("Installing NixOS"));
        tokio::time::advance(Duration::from_secs(20)).await;
        watch.line(true, "### Done! ###");
        let ended: Vec<(&str, f64)> = watch
            .phases()
            .iter()
            .map(|phase| (phase.name.as_str(), phase.seconds))
            .collect();
        assert_eq!(
            ended,
            [
                ("Uploading install SSH keys", 1.5),
                ("Installing NixOS", 20.0)
            ]
        );
        assert!(watch.reached("Installing NixOS"));
        assert_eq!(watch.current(), None);
    }

    /// A watch of a nixos-anywhere whose ssh wrote `lines`, after it announced `phase`.
    fn follows(phase: &str, lines: &[&str]) -> (Watch, Option<Stop>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ssh.log");
        std::fs::write(&path, format!("{}\n", channel::CALL)).unwrap();
        let mut watch = watch();
        watch.follow(Channel::new(path.clone()));
        assert_eq!(watch.poll(), None);
        assert_eq!(watch.line(true, &format!("### {phase} ###")), None);
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        let stop = watch.poll();
        (watch, stop)
    }

    #[test]
    fn a_wrong_host_key_is_final_in_every_phase() {
        for phase in ORDER {
            let (_, stop) = follows(phase, &["Host key verification failed."]);
            let reason = stop.unwrap().reason;
            assert!(reason.contains("host key"), "{reason}");
        }
    }

    #[test]
    fn a_refused_connection_counts_while_keys_are_uploaded() {
        let refused = ["ssh: connect to host h port 22: Connection refused"; 5];
        let (_, stop) = follows(KEYS, &refused[..4]);
        assert_eq!(stop, None);
        let (_, stop) = follows(KEYS, &refused);
        assert!(stop.unwrap().reason.contains("refuses connections"));
        let (watch, stop) = follows(ORDER[KEXEC], &refused);
        assert_eq!(stop, None);
        assert_eq!(watch.lost(), Some(refused[0]));
    }

    #[test]
    fn a_key_that_is_added_again_and_again_is_not_added() {
        let calls = [channel::CALL; 6];
        assert_eq!(follows(KEYS, &calls[..5]).1, None);
        assert!(
            follows(KEYS, &calls)
                .1
                .unwrap()
                .reason
                .contains("authorized_keys")
        );
        assert_eq!(follows(INSTALL, &calls).1, None);
    }

    #[test]
    fn words_in_somebodys_output_decide_nothing() {
        for phase in ORDER {
            let (mut watch, _) = follows(phase, &[]);
            for line in [
                "Host key verification failed.",
                "Warning: Permanently added 'git.example.org' (ED25519) to the list of known hosts.",
                "root@h: Permission denied (publickey).",
                "ssh: connect to host h port 22: Connection refused",
                "Connection closed by 127.0.0.1 port 22",
                "sh: .ssh/authorized_keys: Read-only file system",
                channel::CALL,
            ] {
                for stdout in [true, false] {
                    assert!(
                        (0..20).all(|_| watch.line(stdout, line).is_none()),
                        "{line}"
                    );
                }
            }
            assert_eq!(watch.lost(), None);
        }
    }

    #[test]
    fn phases_count_in_their_order_only() {
        let (mut watch, _) = follows(KEYS, &[]);
        for (line, current) in [
            ("### fake 1 ###", KEYS),
            ("### Gathering machine facts ###", FACTS),
            ("### Uploading install SSH keys ###", FACTS),
            ("### Gathering machine facts ###", FACTS),
            ("### Switching system into kexec ###", ORDER[KEXEC]),
            ("### Gathering machine facts ###", FACTS),
            ("### Uploading /k to /tmp/k ###", "Uploading /k to /tmp/k"),
            ("### Uploading /l to /tmp/l ###", "Uploading /l to /tmp/l"),
            (
                "### Switching system into kexec ###",
                "Uploading /l to /tmp/l",
            ),
            ("### Formatting hard drive with disko ###", FORMAT),
            ("### Installing NixOS ###", INSTALL),
            ("### Formatting hard drive with disko ###", INSTALL),
        ] {
            assert_eq!(watch.line(true, line), None);
            assert_eq!(watch.current(), Some(current), "{line}");
        }
        assert!(watch.touched());
        // Nobody's word makes a success of it.
        watch.line(true, "### Done! ###");
        assert!(watch.touched());
    }

    #[test]
    fn an_ssh_of_its_own_is_noticed() {
        let mut watch = watch();
        watch.follow(Channel::new("/nonexistent".into()));
        assert_eq!(watch.line(true, &format!("### {KEYS} ###")), None);
        let stop = watch.line(true, &format!("### {FACTS} ###")).unwrap();
        assert!(stop.reason.contains("does not verify"), "{}", stop.reason);
        let mut watch = self::watch();
        watch.follow(Channel::new("/nonexistent".into()));
        assert!(watch.ended(true).is_some());
        assert!(watch.ended(false).is_none());
    }

    #[test]
    fn what_the_machine_writes_is_made_safe_to_print() {
        let mut watch = watch();
        watch.line(
            false,
            "\u{1b}]0;pwn\u{7}error: \u{1b}[31mred\u{1b}[0m \u{0}",
        );
        assert_eq!(watch.tail(), "error: red \\u{0}");
        assert_eq!(watch.last(), Some("error: red \\u{0}"));
    }

    /// A slow line, a slow build and a firewall that drops: measured at 80 s and more.
    #[tokio::test(start_paused = true)]
    async fn a_phase_ends_by_silence_not_by_its_length() {
        let (mut watch, _) = follows(KEYS, &[]);
        watch.line(true, &format!("### {FACTS} ###"));
        let left = |watch: &Watch| watch.limit().map(|(end, _)| end - Instant::now());
        assert_eq!(left(&watch), Some(SILENCE));
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(left(&watch), Some(SILENCE - Duration::from_secs(100)));
        watch.line(false, "anything");
        assert_eq!(left(&watch), Some(SILENCE));
        tokio::time::advance(Duration::from_secs(100)).await;
        // Keeping a connection alive is not progress; data is.
        let mut work = Work {
            bytes: 200,
            time: 1,
        };
        watch.tick(Duration::ZERO, work);
        assert_eq!(left(&watch), Some(SILENCE - Duration::from_secs(100)));
        work.bytes += 1 << 20;
        watch.tick(Duration::ZERO, work);
        assert_eq!(left(&watch), Some(SILENCE));
        // Nix is at work: what it does may take as long as the whole task may.
        watch.line(false, "copying 12 paths...");
        assert_eq!(
            (left(&watch), watch.step()),
            (None, Some("copying 12 paths"))
        );
        watch.line(true, &format!("### {FORMAT} ###"));
        assert_eq!((left(&watch), watch.step()), (None, None));
    }

    #[test]
    fn a_bootloader_that_fails_is_heard_of_in_the_next_phase_too() {
        let (mut watch, _) = follows(INSTALL, &[]);
        assert!(watch.line(true, "### Rebooting ###").is_none());
        let stop = watch.line(false, "Failed to install bootloader");
        assert_eq!(stop.map(|stop| stop.kind), Some(FailureKind::Bootloader));
    }

    #[test]
    fn what_is_normal_ends_nothing() {
        let mut watch = watch();
        for phase in [KEYS, INSTALL] {
            watch.begin(phase);
            for line in [
                "Warning: Identity file /tmp/x/nixos-anywhere not accessible: No such file or directory.",
                "/usr/bin/ssh-copy-id: INFO: attempting to log in with the new key(s)",
                "/usr/bin/ssh-copy-id: WARNING: All keys were skipped because they already exist on the remote system.",
                "installing the GRUB 2 boot loader on /dev/vda...",
                "Installation finished. No error reported.",
                "cp: cannot open 'x' for reading: Permission denied",
            ] {
                assert!((0..10).all(|_| watch.line(false, line).is_none()), "{line}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_runs_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("progress");
        let progress = ansible_module::Task::default().progress(Some(&path));
        let mut watch = Watch::new(Log::open(None).unwrap(), progress, Some("h"));
        watch.tick(Duration::from_secs(3), Work::default());
        watch.begin(INSTALL);
        tokio::time::advance(Duration::from_secs(40)).await;
        watch.line(false, "copying 2 paths...");
        watch.tick(Duration::from_secs(50), Work::default());
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let running: Vec<_> = lines
            .iter()
            .filter(|line| line["event"] == "running")
            .map(|line| json!([line["host"], line["phase"], line["seconds"], line["step"]]))
            .collect();
        assert_eq!(
            running,
            [
                json!(["h", null, 3.0, null]),
                json!(["h", INSTALL, 40.0, "copying 2 paths"])
            ]
        );
        let step = lines.iter().find(|line| line["event"] == "step").unwrap();
        assert_eq!(step["step"], "copying 2 paths");
    }

    #[tokio::test(start_paused = true)]
    async fn a_phase_that_never_ends_has_a_limit() {
        let mut watch = watch();
        watch.begin("Installing NixOS");
        assert!(watch.limit().is_none());
        watch.begin(KEYS);
        let (end, stop) = watch.limit().unwrap();
        assert_eq!(end, Instant::now() + Duration::from_secs(180));
        assert!(stop.reason.contains(KEYS), "{}", stop.reason);
        watch.begin("Waiting for the machine to become unreachable due to reboot");
        assert!(watch.limit().is_some());
    }

    #[test]
    fn the_last_telling_line_is_found() {
        let mut watch = watch();
        assert_eq!(watch.last(), None);
        for n in 0..30 {
            watch.line(false, &format!("line {n}"));
        }
        assert_eq!(watch.last(), Some("line 29"));
        assert_eq!(watch.tail().lines().count(), TAIL);
        watch.line(false, "  error: no disk");
        watch.line(false, "bye");
        watch.line(false, "");
        assert_eq!(watch.last(), Some("error: no disk"));
    }
}
