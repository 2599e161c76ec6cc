//! One at a time on this controller.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use ansible_module::{Failure, FailureKind};
use deadline::Deadline;

use crate::paths;

/// A lock that holds among all module processes of this user on this controller, until it is
/// dropped or the process ends, however that happens. It spares work that parallel hosts would
/// do twice; what must be right across controllers rests on the API itself.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Wait for the lock called `name` (any text) within the deadline.
    ///
    /// # Errors
    /// A failure of kind `timeout` when somebody else holds it to the end, of kind `file` when
    /// the file cannot be made.
    pub async fn acquire(name: &str, deadline: &Deadline) -> Result<Self, Failure> {
        let dir = paths::lock_dir()
            .map_err(|e| unusable(Path::new("~/.cache/nixos-proxmox/locks"), &e))?;
        Self::acquire_in(&dir, name, deadline).await
    }

    async fn acquire_in(dir: &Path, name: &str, deadline: &Deadline) -> Result<Self, Failure> {
        paths::make_private_dir(dir).map_err(|e| unusable(dir, &e))?;
        let path = dir.join(format!("{}.lock", paths::file_name(name)));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|e| unusable(&path, &e))?;
        let since = Instant::now();
        let mut pause = Duration::from_millis(20);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { file }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(unusable(&path, &error)),
            }
            if !deadline.sleep(pause).await {
                let what = format!(
                    "another task of this controller that holds the lock {}",
                    path.display()
                );
                return Err(deadline.expired_error(what, since.elapsed()).into());
            }
            pause = pause.mul_f64(1.5).min(Duration::from_millis(250));
        }
    }

    /// The note that somebody left who held the lock before, if it can be read.
    pub fn note(&mut self) -> Option<String> {
        let mut text = String::new();
        self.file.rewind().ok()?;
        self.file.read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// Leave a note for who holds the lock next.
    ///
    /// # Errors
    /// The system's.
    pub fn leave_note(&mut self, text: &str) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        FailureKind::File,
        format!("cannot use the lock {}: {error}", path.display()),
    )
    .object(path.display().to_string())
    .hint("make XDG_RUNTIME_DIR or ~/.cache a directory that you may write to")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time_and_free_when_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let soon = || Deadline::after(Duration::from_millis(100));
        let held = Lock::acquire_in(dir.path(), "a/b", &soon()).await.unwrap();
        let refused = Lock::acquire_in(dir.path(), "a/b", &soon())
            .await
            .unwrap_err();
        assert_eq!(refused.kind, FailureKind::Timeout);
        assert!(refused.msg.contains("a_b.lock"), "{}", refused.msg);
        Lock::acquire_in(dir.path(), "other", &soon())
            .await
            .unwrap();
        drop(held);
        Lock::acquire_in(dir.path(), "a/b", &soon()).await.unwrap();
    }

    #[tokio::test]
    async fn notes_are_for_who_comes_next() {
        let dir = tempfile::tempdir().unwrap();
        let soon = Deadline::after(Duration::from_secs(60));
        let mut found = Vec::new();
        for text in ["a long note", "short"] {
            let mut lock = Lock::acquire_in(dir.path(), "x", &soon).await.unwrap();
            found.push(lock.note());
            lock.leave_note(text).unwrap();
            found.push(lock.note());
        }
        let expected = ["", "a long note", "a long note", "short"];
        assert_eq!(found, expected.map(|text| Some(text.to_owned())));
    }
}
