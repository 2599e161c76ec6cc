//! The files of one connection, which leave nothing behind: they live in this process, and `ssh` opens them by `/proc`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::fs::{MemfdFlags, memfd_create};

use super::command::{Place, config, known_hosts};
use super::hosts::Jump;
use super::words::Lines;
use crate::socket::poll_for;

/// What `ssh` reads and writes.
pub(super) struct Files {
    program: PathBuf,
    config: File,
    known_hosts: File,
    /// A pipe that ends with this process, however that ends, or before.
    life: (PipeReader, Option<PipeWriter>),
    /// One for each jump host, and one for what is written on standard error. They are pipes, so that a jump host that never stops
    /// talking fills no memory: `ssh` waits then, until its time is over.
    logs: Vec<Log>,
}

struct Log {
    reader: PipeReader,
    lines: Lines,
}

impl Files {
    /// Make them. The second is for the standard error of `ssh`.
    pub(super) fn new(jump: &Jump) -> io::Result<(Self, PipeWriter)> {
        let (reader, stderr) = io::pipe()?;
        let lines = Lines::default();
        let last = Log { reader, lines };
        let mut logs = Vec::new();
        for _ in &jump.hops {
            let (reader, _) = io::pipe()?;
            let lines = Lines::default();
            logs.push(Log { reader, lines });
        }
        logs.push(last);
        let (life, lives) = io::pipe()?;
        let files = Self {
            program: program()?,
            config: in_memory("ssh_config", &config())?,
            known_hosts: in_memory("known_hosts", &known_hosts(jump))?,
            life: (life, Some(lives)),
            logs,
        };
        Ok((files, stderr))
    }

    /// Read what was written meanwhile.
    pub(super) fn read(&mut self) {
        for log in &mut self.logs {
            let mut buffer = [0; 4096];
            while poll_for(&log.reader, PollFlags::IN, Duration::ZERO).unwrap_or(false) {
                match log.reader.read(&mut buffer) {
                    Ok(length) if length > 0 => log.lines.push(&buffer[..length]),
                    _ => break,
                }
            }
        }
    }

    /// Whether nobody writes any more to the log of the jump host with this index.
    pub(super) fn ended(&self, index: usize) -> bool {
        // The end of a pipe is reported without being asked for.
        poll_for(&self.logs[index].reader, PollFlags::empty(), Duration::ZERO).unwrap_or(true)
    }

    /// Have `ssh` end.
    pub(super) fn end_life(&mut self) {
        self.life.1 = None;
    }

    /// A file that ends with this process, or with [`Files::end_life`].
    pub(super) fn life(&self) -> OsString {
        path(self.life.0.as_raw_fd())
    }

    /// What was written of the jump host with this index; that of standard error comes after the last.
    pub(super) fn lines(&self, index: usize) -> &Lines {
        &self.logs[index].lines
    }
}

/// A file that is in no directory.
fn in_memory(name: &str, text: &str) -> io::Result<File> {
    let mut file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    Ok(file)
}

/// The `ssh` of the controller.
fn program() -> io::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .map(|directory| directory.join("ssh"))
        .find(|file| file.is_absolute() && file.is_file());
    found.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            "ssh is not installed on the controller",
        )
    })
}

/// A file as another process of ours opens it.
fn path(descriptor: RawFd) -> OsString {
    format!("/proc/{}/fd/{descriptor}", std::process::id()).into()
}

impl Place for Files {
    fn program(&self) -> &OsStr {
        self.program.as_os_str()
    }

    fn config(&self) -> OsString {
        path(self.config.as_raw_fd())
    }

    fn known_hosts(&self) -> OsString {
        path(self.known_hosts.as_raw_fd())
    }

    fn log(&self, hop: usize) -> OsString {
        path(self.logs[hop].reader.as_raw_fd())
    }
}
