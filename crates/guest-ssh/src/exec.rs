//! Run one command over an open connection.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use deadline::Deadline;
use rustix::event::PollFlags;
use ssh2::{BlockDirections, Channel, ErrorCode};

use crate::connection::{Connection, bound};
use crate::error::Error;
use crate::socket::poll_for;

/// What a command answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// The exit status; none when a signal ended the command or the connection was lost.
    pub status: Option<i32>,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Whether the command ended with status 0.
    pub fn ok(&self) -> bool {
        self.status == Some(0)
    }

    /// Standard output as text, broken bytes replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Status and the beginning of standard error in one line, for messages.
    pub fn failure(&self) -> String {
        let status = match self.status {
            Some(status) => format!("exit status {status}"),
            None => "no exit status".to_owned(),
        };
        let stderr = String::from_utf8_lossy(&self.stderr);
        let stderr: String = stderr.trim().chars().take(SHOWN).collect();
        match stderr.as_str() {
            "" => status,
            text => format!("{status}: {text}"),
        }
    }
}

/// The most bytes that a command may send on each of its outputs. The commands that are run here answer
/// with lines; a guest that sends more than this is broken or hostile, and would fill the
/// controller's memory at the speed of the network (785 MiB in 15 s, measured).
pub const MOST_OUTPUT: usize = 4 << 20;

/// The most characters of a guest's words in a message.
pub(crate) const SHOWN: usize = 2000;

/// libssh2's LIBSSH2_ERROR_EAGAIN.
const AGAIN: ErrorCode = ErrorCode::Session(-37);

/// Longest single wait for the socket: libssh2 may hold data in its own buffers that no poll sees.
const SLICE: Duration = Duration::from_millis(500);

impl Connection {
    /// Run `command` in the user's login shell, with `stdin` as its input. `what` names it in
    /// errors. A status other than 0 is not an error here; the caller judges [`Output`].
    ///
    /// # Errors
    /// [`Error::Exec`] when the connection breaks or the command sends more than [`MOST_OUTPUT`],
    /// [`Error::Expired`] at the deadline.
    pub async fn exec(
        &self,
        what: &str,
        command: &str,
        stdin: &[u8],
        deadline: &Deadline,
    ) -> Result<Output, Error> {
        self.exec_within(MOST_OUTPUT, what, command, stdin, deadline)
            .await
    }

    /// [`Connection::exec`] of a command that sends at most `most` bytes on each of its outputs.
    pub(crate) async fn exec_within(
        &self,
        most: usize,
        what: &str,
        command: &str,
        stdin: &[u8],
        deadline: &Deadline,
    ) -> Result<Output, Error> {
        let (connection, what, command) = (self.clone(), what.to_owned(), command.to_owned());
        let (stdin, deadline) = (stdin.to_vec(), *deadline);
        let described = format!("{what} on {}", self.address());
        crate::connection::on_a_thread(&described, &deadline, move || {
            connection.exec_blocking(most, &what, &command, &stdin, &deadline)
        })
        .await
    }

    /// [`Connection::exec_within`] on the calling thread.
    pub(crate) fn exec_blocking(
        &self,
        most: usize,
        what: &str,
        command: &str,
        stdin: &[u8],
        deadline: &Deadline,
    ) -> Result<Output, Error> {
        let since = Instant::now();
        let fail = |reason: String| Error::Exec {
            address: self.address().to_owned(),
            what: what.to_owned(),
            reason,
        };
        let session = self.session();
        session.set_blocking(true);
        bound(session, deadline.remaining());
        let mut channel = session
            .channel_session()
            .map_err(|error| fail(error.message().to_owned()))?;
        if deadline.expired() {
            // This process may have been stopped meanwhile; what it asked for may not be wanted any more.
            let what = format!("{what} on {} to begin", self.address());
            return Err(deadline.expired_error(what, since.elapsed()).into());
        }
        channel
            .exec(command)
            .map_err(|error| fail(error.message().to_owned()))?;

        session.set_blocking(false);
        let mut pump = Pump::new(channel, stdin, most);
        while !pump.turn().map_err(|error| fail(error.to_string()))? {
            if let Some(flooded) = pump.flooded() {
                return Err(fail(format!(
                    "it sent more than {} on {flooded}; look at what its login shell and this command print there",
                    size(most)
                )));
            }
            if deadline.expired() {
                let expired = deadline
                    .expired_error(format!("{what} on {}", self.address()), since.elapsed());
                return Err(expired.into());
            }
            if !pump.moved {
                self.wait_for_socket(deadline.remaining().min(SLICE))
                    .map_err(|error| fail(error.to_string()))?;
            }
        }

        session.set_blocking(true);
        bound(session, deadline.remaining());
        let Pump {
            mut channel,
            mut output,
            ..
        } = pump;
        // A server that closed already answers these with an error that says nothing new.
        let _ = channel.close();
        let _ = channel.wait_close();
        let signalled = channel
            .exit_signal()
            .is_ok_and(|signal| signal.exit_signal.is_some());
        output.status = channel.exit_status().ok().filter(|_| !signalled);
        Ok(output)
    }

    /// Wait until the socket is ready for what libssh2 wants to do next, or `limit` passed.
    fn wait_for_socket(&self, limit: Duration) -> io::Result<()> {
        let flags = match self.session().block_directions() {
            BlockDirections::Outbound => PollFlags::OUT,
            BlockDirections::Both => PollFlags::IN | PollFlags::OUT,
            BlockDirections::Inbound | BlockDirections::None => PollFlags::IN,
        };
        poll_for(self.stream(), flags, limit).map(|_| ())
    }
}

/// Moves bytes both ways until the command has ended. stdout and stderr share one flow-control
/// window, so both must be read all the time or the command stalls.
struct Pump<'a> {
    channel: Channel,
    stdin: &'a [u8],
    stdin_open: bool,
    output: Output,
    /// The most bytes that are kept of each output.
    most: usize,
    /// Whether the last turn moved anything.
    moved: bool,
}

impl<'a> Pump<'a> {
    fn new(channel: Channel, stdin: &'a [u8], most: usize) -> Self {
        Self {
            channel,
            stdin,
            stdin_open: true,
            output: Output::default(),
            most,
            moved: false,
        }
    }

    /// Move what can be moved without blocking; true at the command's end.
    fn turn(&mut self) -> io::Result<bool> {
        self.moved = false;
        self.write()?;
        self.moved |= read(&mut self.channel, &mut self.output.stdout, self.most)?;
        let mut stderr = self.channel.stderr();
        self.moved |= read(&mut stderr, &mut self.output.stderr, self.most)?;
        Ok(self.channel.eof() && self.flooded().is_none())
    }

    /// Which output has more than is kept of it.
    fn flooded(&self) -> Option<&'static str> {
        let outputs = [
            (&self.output.stdout, "standard output"),
            (&self.output.stderr, "standard error"),
        ];
        let flooded = |(bytes, name): (&Vec<u8>, _)| (bytes.len() > self.most).then_some(name);
        outputs.into_iter().find_map(flooded)
    }

    fn write(&mut self) -> io::Result<()> {
        if self.channel.eof() {
            return Ok(());
        }
        while !self.stdin.is_empty() {
            match self.channel.write(self.stdin) {
                Ok(written) => {
                    self.stdin = &self.stdin[written..];
                    self.moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if self.stdin_open {
            match self.channel.send_eof() {
                Ok(()) => {
                    self.stdin_open = false;
                    self.moved = true;
                }
                Err(error) if error.code() == AGAIN => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// `64 KiB`, `4 MiB`.
fn size(bytes: usize) -> String {
    match bytes >> 20 {
        0 => format!("{} KiB", bytes >> 10),
        mebibytes => format!("{mebibytes} MiB"),
    }
}

/// Read what there is, until there is more than `most`.
fn read(stream: &mut impl Read, into: &mut Vec<u8>, most: usize) -> io::Result<bool> {
    let mut buffer = [0; 32 * 1024];
    let mut moved = false;
    while into.len() <= most {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(moved),
            Ok(length) => {
                into.extend_from_slice(&buffer[..length]);
                moved = true;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(moved),
            Err(error) => return Err(error),
        }
    }
    Ok(moved)
}
