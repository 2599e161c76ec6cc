//! Read what nixos-anywhere says: its phases, its last lines, and the texts of its endless loops.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use ansible_module::Progress;
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use crate::child::{Listener, Stop};
use crate::log::Log;

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

/// nixos-anywhere tries its first login for ever; the machine answered us just before, so that a
/// login which does not work by then never will.
const KEYS: &str = "Uploading install SSH keys";

/// The phase, of this module itself, in which Nix builds on the controller.
pub(crate) const BUILD: &str = "Building the configuration";

/// In it the bootloader is installed.
const INSTALL: &str = "Installing NixOS";

/// What is done when the bootloader was not installed.
const NO_BOOTLOADER: &str = "compare boot.loader with the disko configuration and with the machine's firmware (UEFI or BIOS); it was \
     not rebooted, and can be installed again";

/// What is done when the key cannot be added.
const NO_KEYS: &str = "give a private_key_file whose public key the machine knows already, or let its user write there";

/// Phases that are short when they work, and endless or very long when they do not.
const SHORT: [(&str, Duration); 3] = [
    (KEYS, Duration::from_secs(180)),
    ("Gathering machine facts", Duration::from_secs(180)),
    (
        "Waiting for the machine to become unreachable due to reboot",
        Duration::from_secs(300),
    ),
];

/// A text that means the program will not get any further.
struct Text {
    part: &'static str,
    /// How often it may be seen before that is sure.
    times: u32,
    /// The only phase in which (for the installation: since which) it counts, if it is one: a rebooting machine refuses
    /// connections too.
    phase: Option<&'static str>,
    /// A word for programs.
    kind: &'static str,
    reason: &'static str,
    hint: &'static str,
}

const TEXTS: [Text; 14] = [
    Text {
        part: "Host key verification failed",
        times: 1,
        phase: None,
        kind: "endless",
        reason: "the machine's host key is not the known one",
        hint: "another machine answers at this address, or its keys were made anew",
    },
    Text {
        part: "Warning: Permanently added",
        times: 1,
        phase: None,
        kind: "endless",
        reason: "nixos-anywhere used an ssh that does not verify host keys",
        hint: "nixos-anywhere must take ssh from PATH; check how it is wrapped on this controller",
    },
    Text {
        part: "Permission denied (",
        times: 3,
        phase: Some(KEYS),
        kind: "endless",
        reason: "the machine refuses the login",
        hint: "check user and private_key_file; root must be allowed to log in with a key, unless \
               kexec is among the phases and the user has sudo without a password",
    },
    Text {
        part: "Connection refused",
        times: 5,
        phase: Some(KEYS),
        kind: "endless",
        reason: "the machine refuses connections",
        hint: "its SSH server went away after it had answered: look at its console",
    },
    Text {
        part: "Connection timed out",
        times: 3,
        phase: Some(KEYS),
        kind: "endless",
        reason: "the machine does not answer",
        hint: "it went away after it had answered: look at its console",
    },
    Text {
        part: "No route to host",
        times: 5,
        phase: Some(KEYS),
        kind: "endless",
        reason: "there is no way to the machine",
        hint: "it went away after it had answered: look at its console",
    },
    Text {
        part: "Could not resolve hostname",
        times: 3,
        phase: Some(KEYS),
        kind: "endless",
        reason: "the machine's name has no address",
        hint: "check host",
    },
    Text {
        part: "Connection closed by",
        times: 5,
        phase: Some(KEYS),
        kind: "endless",
        reason: "the machine closes connections before a login",
        hint: "its SSH server may be punishing failed logins (PerSourcePenalties); wait and try again",
    },
    Text {
        part: "Too many authentication failures",
        times: 2,
        phase: Some(KEYS),
        kind: "endless",
        reason: "the machine refuses the login after too many keys",
        hint: "give private_key_file instead of an agent with many keys",
    },
    Text {
        part: "authorized_keys: Permission denied",
        times: 2,
        phase: Some(KEYS),
        kind: "endless",
        reason: "the machine's user may not write its authorized_keys",
        hint: NO_KEYS,
    },
    Text {
        part: "authorized_keys: Read-only file system",
        times: 2,
        phase: Some(KEYS),
        kind: "endless",
        reason: "authorized_keys is read-only on the machine",
        hint: NO_KEYS,
    },
    // nixos-anywhere does not look at these, and would reboot into nothing.
    Text {
        part: "Failed to install bootloader",
        times: 1,
        phase: Some(INSTALL),
        kind: "bootloader",
        reason: "the bootloader could not be installed",
        hint: NO_BOOTLOADER,
    },
    Text {
        part: "installation of GRUB",
        times: 1,
        phase: Some(INSTALL),
        kind: "bootloader",
        reason: "GRUB could not be installed",
        hint: NO_BOOTLOADER,
    },
    Text {
        part: "grub-install: error:",
        times: 1,
        phase: Some(INSTALL),
        kind: "bootloader",
        reason: "GRUB could not be installed",
        hint: NO_BOOTLOADER,
    },
];

/// Listens to the programs of one installation.
pub(crate) struct Watch {
    log: Log,
    progress: Progress,
    host: Option<String>,
    phases: Vec<Phase>,
    current: Option<(String, Instant)>,
    tail: VecDeque<String>,
    seen: HashMap<&'static str, u32>,
    /// The last path that a line of standard output was.
    printed_path: Option<PathBuf>,
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
            seen: HashMap::new(),
            printed_path: None,
        }
    }

    /// A phase begins, and the one before it ends.
    pub(crate) fn begin(&mut self, name: &str) {
        self.end();
        self.seen.clear();
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
        self.log.line(line);
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

    /// The last path that a line of standard output was since this was last asked: what `nix build` built.
    pub(crate) fn printed_path(&mut self) -> Option<PathBuf> {
        self.printed_path.take()
    }

    fn trouble(&mut self, line: &str) -> Option<Stop> {
        let phase = self.current();
        // Nix talks to builders there, not to the machine, and goes on without those that it cannot reach.
        if phase == Some(BUILD) {
            return None;
        }
        let counts = |text: &Text| match text.phase {
            None => true,
            // Phases begin on standard output: what standard error says may be heard in the next one.
            Some(INSTALL) => self.reached(INSTALL),
            only => phase == only,
        };
        let text = TEXTS
            .iter()
            .find(|text| line.contains(text.part) && counts(text))?;
        let seen = self.seen.entry(text.part).or_default();
        *seen += 1;
        (*seen >= text.times).then(|| Stop {
            kind: text.kind,
            reason: text.reason.to_owned(),
            hint: Some(text.hint),
        })
    }
}

impl Listener for Watch {
    fn line(&mut self, stdout: bool, line: &str) -> Option<Stop> {
        self.log.line(line);
        if !line.trim().is_empty() {
            if self.tail.len() == TAIL {
                self.tail.pop_front();
            }
            self.tail.push_back(line.to_owned());
        }
        if stdout {
            match phase(line) {
                Some("Done!") => self.end(),
                Some(name) if self.phases.len() < PHASES => self.begin(name),
                // The machine's output comes here too, and must not fill the result.
                Some(_) => {}
                None if line.starts_with('/') => self.printed_path = Some(line.into()),
                None => {}
            }
        }
        self.trouble(line)
    }

    fn tick(&mut self, since: Duration) {
        let (phase, since) = match &self.current {
            Some((name, began)) => (Some(name), began.elapsed()),
            None => (None, since),
        };
        let seconds = tenths(since);
        self.progress.emit(&json!({
            "event": "running", "host": self.host, "phase": phase, "seconds": seconds
        }));
    }

    fn limit(&self) -> Option<(Instant, Stop)> {
        let (name, since) = self.current.as_ref()?;
        let (_, limit) = SHORT.iter().find(|(short, _)| short == name)?;
        let stop = Stop {
            kind: "endless",
            reason: format!(
                "it did not get past \"{name}\" within {} s",
                limit.as_secs()
            ),
            hint: Some("look at the machine's console and at the log"),
        };
        Some((*since + *limit, stop))
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

    #[test]
    fn a_wrong_host_key_is_final_in_every_phase() {
        let mut watch = watch();
        watch.begin("Installing NixOS");
        let stop = watch.line(false, "Host key verification failed.").unwrap();
        assert!(stop.reason.contains("host key"), "{}", stop.reason);
    }

    #[test]
    fn a_refused_connection_counts_while_keys_are_uploaded() {
        let mut watch = watch();
        let refused = "ssh: connect to host h port 22: Connection refused";
        watch.begin("Switching system into kexec");
        assert!((0..20).all(|_| watch.line(false, refused).is_none()));
        watch.begin(KEYS);
        let stops: Vec<bool> = (0..5)
            .map(|_| watch.line(false, refused).is_some())
            .collect();
        assert_eq!(stops, [false, false, false, false, true]);
    }

    #[test]
    fn every_text_counts_in_its_phase() {
        for text in &TEXTS {
            let mut watch = watch();
            let line = format!("before {}x) behind", text.part);
            watch.begin(text.phase.unwrap_or("Copying extra files"));
            for n in 1..=text.times {
                let stop = watch.line(false, &line);
                assert_eq!(stop.is_some(), n == text.times, "{line}");
            }
            // A phase that begins anew counts anew.
            watch.begin(text.phase.unwrap_or("Copying extra files"));
            assert_eq!(watch.line(true, &line).is_some(), text.times == 1);
            if text.phase.is_some() {
                let mut watch = self::watch();
                watch.begin("Uploading the system closure");
                assert!((0..20).all(|_| watch.line(false, &line).is_none()));
            }
            let mut watch = self::watch();
            watch.begin(BUILD);
            assert!((0..20).all(|_| watch.line(false, &line).is_none()));
        }
    }

    #[test]
    fn a_bootloader_that_fails_is_heard_of_in_the_next_phase_too() {
        let mut watch = watch();
        watch.begin(INSTALL);
        assert!(watch.line(true, "### Rebooting ###").is_none());
        let stop = watch.line(false, "Failed to install bootloader");
        assert_eq!(stop.map(|stop| stop.kind), Some("bootloader"));
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
        watch.tick(Duration::from_secs(3));
        watch.begin(INSTALL);
        tokio::time::advance(Duration::from_secs(40)).await;
        watch.tick(Duration::from_secs(50));
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let running: Vec<_> = lines
            .iter()
            .filter(|line| line["event"] == "running")
            .map(|line| json!([line["host"], line["phase"], line["seconds"]]))
            .collect();
        assert_eq!(
            running,
            [json!(["h", null, 3.0]), json!(["h", INSTALL, 40.0])]
        );
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
