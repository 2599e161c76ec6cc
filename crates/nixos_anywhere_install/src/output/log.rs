//! The file that gets the whole output of the programs.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use crate::error::Error;

/// A log file, or none. While it is open nobody else may write it, so that of two tasks which were
/// given the same one, by two plays at the same machine, only one is at work.
#[derive(Debug)]
pub(crate) struct Log {
    file: Option<File>,
    /// How much more of the programs' output it takes, in bytes.
    left: usize,
}

/// The most that it keeps of the programs' output, in bytes: the machine may write without end.
const LARGEST: usize = 64 << 20;

impl Log {
    /// Start the log at `path` anew: mode 0600 from the first byte on, never through a symbolic
    /// link that someone else may have put there, and never into another user's file.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path else {
            return Ok(Self::of(None));
        };
        let fail = |error: io::Error| Error::Log {
            path: path.to_owned(),
            error,
        };
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)
            .map_err(fail)?;
        // Only the owner may change the mode, so this refuses a file that another user made.
        file.set_permissions(Permissions::from_mode(0o600))
            .map_err(fail)?;
        // Ends with this process, however that happens.
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                let path = path.to_owned();
                return Err(Error::LogInUse { path });
            }
            locked => locked.map_err(|error| fail(error.into()))?,
        }
        file.set_len(0).map_err(fail)?;
        Ok(Self::of(Some(file)))
    }

    fn of(file: Option<File>) -> Self {
        let left = LARGEST;
        Self { file, left }
    }

    /// Write one line of a program at once, so that a person can follow. A full disk fails no
    /// installation.
    pub(crate) fn line(&mut self, line: &str) {
        let size = line.len() + 1;
        if self.left >= size {
            self.left -= size;
            self.note(line);
        } else if !self.full() {
            self.left = 0;
            self.note(&format!(
                "... more than {} MiB of output; only the last lines follow, at the end",
                LARGEST >> 20
            ));
        }
    }

    /// Whether lines of programs are left out.
    pub(crate) fn full(&self) -> bool {
        self.left == 0
    }

    /// Write one line in any case.
    pub(crate) fn note(&mut self, line: &str) {
        if let Some(file) = &mut self.file {
            let _ = file.write_all(format!("{line}\n").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_without_end_does_not_fill_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::open(Some(&path)).unwrap();
        let line = "x".repeat(1 << 20);
        (0..100).for_each(|_| log.line(&line));
        log.line("y");
        assert!(log.full());
        log.note("the end");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.len() < LARGEST + 1000);
        assert!(text.contains("more than 64 MiB") && text.ends_with("at the end\nthe end\n"));
    }

    #[test]
    fn the_log_is_private_and_never_follows_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "old and longer").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let mut log = Log::open(Some(&path)).unwrap();
        log.line("new");
        let refused = Log::open(Some(&path)).unwrap_err();
        assert!(matches!(refused, Error::LogInUse { .. }), "{refused}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new\n");
        drop(log);
        Log::open(Some(&path)).unwrap().line("newer");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "newer\n");
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let failure = Log::open(Some(&link)).unwrap_err();
        assert!(
            failure.to_string().contains("cannot write the log"),
            "{failure:?}"
        );
    }
}
