//! A connection through jump hosts: an `ssh` of its own, which ends with it.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use deadline::Deadline;
use rustix::event::PollFlags;
use rustix::process::{Pid, Signal, kill_process_group};

use super::command::command;
use super::error::JumpError;
use super::files::Files;
use super::hosts::{Jump, beyond};
use super::problem::JumpProblem;
use super::words::Lines;
use crate::error::Error;
use crate::socket::{peek, poll_for};
use crate::target::bracketed;

/// For the way to the last jump host, with the logins on it.
const LOGINS: Duration = Duration::from_secs(60);
/// For the guest's first bytes, once the last jump host has let us in: it connects, and the guest greets.
const GREETING: Duration = Duration::from_secs(23);
/// The pause between two looks at what `ssh` says.
const SLICE: Duration = Duration::from_millis(200);
/// How long `ssh` may take to end.
const ENDING: Duration = Duration::from_secs(2);

/// Runs `ssh`, and ends it with this process: one that is killed leaves a connection to a guest that hangs otherwise, since `ssh` waits for the
/// other side to close it too. It is the leader of a process group, and waits for `ssh`, so that none is left to a process 1 that waits for nobody.
const GUARD: &str = r#"
exec 3<"$0" 4<&0 || exit
"$@" <&4 3<&- 4<&- &
trap '' TERM
exec </dev/null >/dev/null 2>&1 4<&-
read -r _ <&3
kill -TERM 0
wait
"#;

/// An open connection.
pub(crate) struct Tunnel {
    socket: UnixStream,
    child: Child,
    files: Files,
}

impl Tunnel {
    /// Connect with `host` and `port` through the jump hosts, and wait for the first byte from there.
    ///
    /// # Errors
    /// [`Error::Jump`], and [`Error::Banner`] when the guest accepts the connection and says nothing.
    pub(crate) fn open(
        jump: &Jump,
        host: &str,
        port: u16,
        deadline: &Deadline,
    ) -> Result<Self, Error> {
        let since = Instant::now();
        let mut tunnel = Self::start(jump, host, port)?;
        let address = format!("{host} port {port}");
        let mut limit = deadline.remaining().min(LOGINS);
        let mut through = false;
        loop {
            let left = limit.saturating_sub(since.elapsed());
            let ready = poll_for(&tunnel, PollFlags::IN, left.min(SLICE));
            tunnel.files.read();
            let fail = |reason: String| Error::Banner {
                address: address.clone(),
                reason,
            };
            if ready.map_err(|error| fail(error.to_string()))? {
                return match peek(&tunnel) {
                    Ok(true) => Ok(tunnel),
                    _ => Err(tunnel.failure(jump, &address)),
                };
            }
            if left.is_zero() {
                return Err(match through {
                    true => fail(format!("silent through jump host {jump}")),
                    false => tunnel.silent(jump, &address).into(),
                });
            }
            if !through && tunnel.files.lines(jump.hops.len() - 1).let_in() {
                through = true;
                limit = deadline
                    .remaining()
                    .min(GREETING)
                    .saturating_add(since.elapsed());
            }
        }
    }

    /// Whether these are the first bytes from there. They are taken.
    pub(crate) fn begins_with(&self, expected: &[u8], deadline: &Deadline) -> bool {
        let mut start = vec![0; expected.len()];
        let limit = deadline.remaining().max(SLICE);
        let read = self
            .socket
            .set_read_timeout(Some(limit))
            .and_then(|()| (&self.socket).read_exact(&mut start));
        read.is_ok() && start == expected
    }

    fn start(jump: &Jump, host: &str, port: u16) -> Result<Self, Error> {
        let fail = |error: io::Error| JumpError {
            hop: jump.hops[0].to_string(),
            problem: JumpProblem::Program,
            beyond: format!("{host} port {port}"),
            said: error.to_string(),
        };
        let (files, stderr) = Files::new(jump).map_err(fail)?;
        let (socket, theirs) = UnixStream::pair().map_err(fail)?;
        let theirs = OwnedFd::from(theirs);
        let destination = format!("{}:{port}", bracketed(host));
        let words = command(jump, &files, destination.as_ref());
        let child = Command::new("/bin/sh")
            .args(["-c", GUARD])
            .arg(files.life())
            .args(words)
            // ssh runs a ProxyCommand with it, which is written for a POSIX shell.
            .env("SHELL", "/bin/sh")
            .env("SSH_ASKPASS_REQUIRE", "never")
            // Every jump host has a process in it.
            .process_group(0)
            .stdin(Stdio::from(theirs.try_clone().map_err(fail)?))
            .stdout(Stdio::from(theirs))
            .stderr(Stdio::from(OwnedFd::from(stderr)))
            .spawn()
            .map_err(fail)?;
        Ok(Self {
            socket,
            child,
            files,
        })
    }

    /// Why the connection was closed before a byte came.
    fn failure(&mut self, jump: &Jump, address: &str) -> Error {
        let last = jump.hops.len() - 1;
        // What it says is complete once it has ended.
        let since = Instant::now();
        while !self.files.ended(last) && since.elapsed() < ENDING {
            self.files.read();
            std::thread::sleep(Duration::from_millis(10));
        }
        self.files.read();
        for index in 0..=last {
            let lines = self.files.lines(index);
            // The process of the jump host before says why, where there is one.
            let problem = match lines.problem() {
                Some(problem) => problem,
                None if lines.let_in() || index < last => continue,
                None => JumpProblem::Failed,
            };
            let error = |problem, lines: &Lines| {
                JumpError::new(
                    &jump.hops[index],
                    problem,
                    beyond(jump, index, address),
                    lines,
                )
            };
            let extra = self.files.lines(last + 1);
            return match problem {
                // A program of ~/.ssh/config says on standard error what it met.
                JumpProblem::Failed if !extra.said().is_empty() => {
                    error(extra.problem().unwrap_or(problem), extra)
                }
                problem => error(problem, lines),
            }
            .into();
        }
        Error::Banner {
            address: address.to_owned(),
            reason: format!("it was closed at once, through jump host {jump}"),
        }
    }

    /// That a jump host has not let us in: the first that has not.
    fn silent(&self, jump: &Jump, address: &str) -> JumpError {
        let last = jump.hops.len() - 1;
        let index = (0..=last).find(|index| !self.files.lines(*index).let_in());
        let index = index.unwrap_or(last);
        let (hop, lines) = (&jump.hops[index], self.files.lines(index));
        let beyond = beyond(jump, index, address);
        JumpError::new(hop, JumpProblem::Silent, beyond, lines)
    }
}

impl AsFd for Tunnel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.files.end_life();
        let since = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if since.elapsed() > ENDING {
                // It has not been waited for, so that its number is still its own.
                if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
                    let _ = kill_process_group(group, Signal::KILL);
                }
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
