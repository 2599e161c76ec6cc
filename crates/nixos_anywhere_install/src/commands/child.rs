//! Run a program so that it never outlives this module.
//!
//! The program gets a process group of its own, which the guard of the private directory ends should
//! this module disappear. Cancelling the future, a deadline and a crash all go the same way.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use ansible_module::FailureKind;
use deadline::{Deadline, Expired};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::files::private::Private;

/// Why a program is ended before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    /// The kind of the failure that it makes.
    pub(crate) kind: FailureKind,
    /// What was seen.
    pub(crate) reason: String,
    /// What to do about it.
    pub(crate) hint: Option<&'static str>,
}

/// Hears a program's output.
pub(crate) trait Listener {
    /// A line, without its end, from standard output or standard error. An answer ends the
    /// program.
    fn line(&mut self, stdout: bool, line: &str) -> Option<Stop>;
    /// Asked several times a second what else is known. An answer ends the program.
    fn poll(&mut self) -> Option<Stop>;
    /// The program has ended, and all of its output was heard. An answer makes it a failure.
    fn ended(&mut self, success: bool) -> Option<Stop>;
    /// The program still runs, for so long already, and what it has done; told regularly.
    fn tick(&mut self, since: Duration, work: Work);
    /// When the program is to be ended unless something changes before, and why.
    fn limit(&self) -> Option<(Instant, Stop)>;
}

/// What the living processes of a program have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    /// Bytes that they read and wrote.
    pub(crate) bytes: u64,
    /// Hundredths of a second that they computed.
    pub(crate) time: u64,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// By itself.
    Exited(ExitStatus),
    /// The listener had it ended.
    Stopped(Stop),
    /// The deadline had it ended.
    Expired(Expired),
}

/// A program to run.
pub(crate) struct Program<'a> {
    /// Its path.
    pub(crate) path: &'a Path,
    /// Its arguments.
    pub(crate) arguments: &'a [OsString],
    /// Changes to the environment; none removes a variable.
    pub(crate) environment: &'a [(&'static str, Option<OsString>)],
    /// Its guard ends the program when this module is gone.
    pub(crate) private: &'a Private,
}

/// How often a listener is asked what else it knows.
const POLL: Duration = Duration::from_millis(250);
/// How often a listener hears that the program still runs.
const TICK: Duration = Duration::from_secs(2);
/// How long a group that got SIGTERM has before SIGKILL. nixos-anywhere's trap removes its files.
const GRACE: Duration = Duration::from_secs(5);
/// How long output is read after the program ended, in case a lost child holds the pipes.
const DRAIN: Duration = Duration::from_secs(2);

/// The most of a line that is kept at once, in bytes.
const LONGEST: u64 = 64 << 10;

/// Waits for "go" before it becomes the program: should this module die before the guard knows of
/// it, then nothing was started.
///
/// Our own ssh knows its caller's standard output from others by the variable.
const GATE: &str = r#"
NIXOS_ANYWHERE_INSTALL_STDOUT=$(readlink "/proc/$$/fd/1")
export NIXOS_ANYWHERE_INSTALL_STDOUT
read -r word && [ "$word" = go ] && exec "$@" </dev/null
"#;

/// Run `program` until it ends, `listener` ends it, or the deadline does.
///
/// # Errors
/// It cannot be started.
pub(crate) async fn run(
    program: &Program<'_>,
    what: &str,
    deadline: &Deadline,
    listener: &mut impl Listener,
) -> io::Result<Ending> {
    let since = Instant::now();
    let mut child = start(program).await?;
    let (sender, mut lines) = mpsc::channel(64);
    if let Some(stdout) = child.leader.stdout.take() {
        tokio::spawn(read(stdout, true, sender.clone()));
    }
    if let Some(stderr) = child.leader.stderr.take() {
        tokio::spawn(read(stderr, false, sender));
    }
    let mut reading = true;
    let (mut tick, mut poll) = (since + TICK, since + POLL);
    let ending = loop {
        let end = Instant::now() + deadline.remaining();
        let limit = listener.limit();
        let next = limit.as_ref().map_or(end, |(limit, _)| end.min(*limit));
        // Here too: output that never pauses leaves no turn to the timer below.
        if deadline.expired() {
            break Ending::Expired(deadline.expired_error(what, since.elapsed()));
        }
        if Instant::now() >= tick {
            listener.tick(since.elapsed(), child.id.map(work).unwrap_or_default());
            tick = Instant::now() + TICK;
        }
        if Instant::now() >= poll {
            if let Some(stop) = listener.poll() {
                break Ending::Stopped(stop);
            }
            poll = Instant::now() + POLL;
        }
        tokio::select! {
            biased;
            line = lines.recv(), if reading => match line {
                Some((stdout, line)) => {
                    if let Some(stop) = listener.line(stdout, &line) {
                        break Ending::Stopped(stop);
                    }
                }
                None => reading = false,
            },
            status = child.leader.wait() => break Ending::Exited(status?),
            () = sleep_until(next.min(tick).min(poll)) => match limit {
                Some((limit, stop)) if Instant::now() >= limit => break Ending::Stopped(stop),
                _ => {}
            },
        }
    };
    child.end().await;
    let mut stopped = None;
    let drain = async {
        while let Some((stdout, line)) = lines.recv().await {
            let stop = listener.line(stdout, &line);
            stopped = stopped.take().or(stop);
        }
    };
    let _ = timeout(DRAIN, drain).await;
    program.private.release();
    // The end may be known before the last lines: what they say counts all the same.
    if let Ending::Exited(status) = &ending {
        stopped = stopped.or_else(|| listener.ended(status.success()));
    }
    Ok(match (ending, stopped) {
        (Ending::Exited(_), Some(stop)) => Ending::Stopped(stop),
        (ending, _) => ending,
    })
}

/// What the processes of a group have done so far.
fn work(group: Pid) -> Work {
    let group = group.as_raw_nonzero().to_string();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|entry| {
            let name = entry.file_name();
            name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
        })
        .filter_map(|entry| {
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // After the name, which may have blanks: state, parent, group ... user and system time.
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            if *fields.get(2)? != group {
                return None;
            }
            let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
            let io = std::fs::read_to_string(entry.path().join("io")).unwrap_or_default();
            let bytes = io
                .lines()
                .filter_map(|line| line.split_once(": "))
                .filter(|(name, _)| matches!(*name, "rchar" | "wchar"))
                .filter_map(|(_, value)| value.parse::<u64>().ok())
                .sum();
            Some(Work {
                bytes,
                time: number(11)? + number(12)?,
            })
        })
        .fold(Work::default(), |sum, work| Work {
            bytes: sum.bytes + work.bytes,
            time: sum.time + work.time,
        })
}

/// Send each line of `stream`; broken UTF-8 is replaced, and of a line that a progress meter
/// rewrites with carriage returns the last version counts. One that does not end comes in pieces.
pub(crate) async fn read(
    stream: impl AsyncRead + Unpin,
    stdout: bool,
    lines: mpsc::Sender<(bool, String)>,
) {
    let mut reader = BufReader::new(stream);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let mut part = (&mut reader).take(LONGEST);
        match part.read_until(b'\n', &mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end_matches(['\n', '\r']);
        let line = text.rsplit('\r').next().unwrap_or_default().to_owned();
        if lines.send((stdout, line)).await.is_err() {
            return;
        }
    }
}

/// The program, as leader of its group.
struct Group {
    leader: Child,
    id: Option<Pid>,
}

impl Group {
    /// End what is left of the group, politely first, and wait for it.
    async fn end(&mut self) {
        let Some(id) = self.id else { return };
        let _ = kill_process_group(id, Signal::TERM);
        let gone = async {
            let _ = self.leader.wait().await;
            while test_kill_process_group(id).is_ok() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(GRACE, gone).await.is_err() {
            let _ = kill_process_group(id, Signal::KILL);
            let _ = self.leader.wait().await;
        }
    }
}

async fn start(program: &Program<'_>) -> io::Result<Group> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", GATE, "sh"]).arg(program.path);
    command.args(program.arguments);
    for (name, value) in program.environment {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut leader = command
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let id = leader.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    if let Some(id) = id {
        program.private.guard(id)?;
    }
    if let Some(mut gate) = leader.stdin.take() {
        gate.write_all(b"go\n").await?;
    }
    Ok(Group { leader, id })
}

#[cfg(test)]
#[path = "hostile_tests.rs"]
mod tests;
