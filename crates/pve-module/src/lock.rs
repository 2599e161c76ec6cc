//! One at a time on this controller.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use ansible_module::{Failure, FailureKind};
use deadline::Deadline;

use crate::paths;

/// After what time a lock is removed that nobody holds.
const OLD: Duration = Duration::from_secs(30 * 24 * 3600);

/// How often old locks are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(24 * 3600);

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
        if !path.exists() {
            prune(dir);
        }
        let mut file = open(&path)?;
        let since = Instant::now();
        let mut pause = Duration::from_millis(20);
        loop {
            match file.try_lock() {
                Ok(()) if is_at(&file, &path) => return Ok(Self { file }),
                // It was pruned between being opened and being locked.
                Ok(()) => file = open(&path)?,
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

fn open(path: &Path) -> Result<File, Failure> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| unusable(path, &error))
}

/// Whether the open file is the one that has this path now.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(now)) = (file.metadata(), std::fs::metadata(path)) else {
        return false;
    };
    (open.dev(), open.ino()) == (now.dev(), now.ino())
}

/// Remove the locks that nobody holds and that are older than [`OLD`], once in [`PRUNE_EVERY`]. One with a note stays: it records what the
/// controller did.
fn prune(dir: &Path) {
    let marker = dir.join("pruned");
    let older = |path: &Path, age: Duration| {
        let modified = std::fs::metadata(path).and_then(|found| found.modified());
        modified.is_ok_and(|time| time.elapsed().is_ok_and(|passed| passed > age))
    };
    if marker.exists() && !older(&marker, PRUNE_EVERY) {
        return;
    }
    // Without the marker the next task prunes again.
    let _ = std::fs::write(&marker, "");
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_lock = path.extension().is_some_and(|end| end == "lock");
        let is_empty = entry.metadata().is_ok_and(|found| found.len() == 0);
        if !is_lock || !is_empty || !older(&path, OLD) {
            continue;
        }
        let Ok(file) = File::open(&path) else {
            continue;
        };
        // Whoever opened it before this and waits for it finds that it is gone.
        if file.try_lock().is_ok() && is_at(&file, &path) {
            let _ = std::fs::remove_file(&path);
        }
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
    async fn old_locks_are_removed_unless_they_are_held_or_say_something() {
        let dir = tempfile::tempdir().unwrap();
        let soon = Deadline::after(Duration::from_secs(60));
        for name in ["unused", "held", "noted"] {
            let mut lock = Lock::acquire_in(dir.path(), name, &soon).await.unwrap();
            if name == "noted" {
                lock.leave_note("made VM 101").unwrap();
            }
        }
        let held = Lock::acquire_in(dir.path(), "held", &soon).await.unwrap();
        for name in ["unused.lock", "held.lock", "noted.lock", "pruned"] {
            let file = File::options().write(true).open(dir.path().join(name));
            let long_ago = std::time::SystemTime::now() - OLD - PRUNE_EVERY;
            file.unwrap().set_modified(long_ago).unwrap();
        }
        Lock::acquire_in(dir.path(), "new", &soon).await.unwrap();
        let left = |name: &str| dir.path().join(name).exists();
        assert_eq!(
            ["unused.lock", "held.lock", "noted.lock", "new.lock"].map(left),
            [false, true, true, true]
        );
        drop(held);
    }

    #[tokio::test]
    async fn a_lock_that_is_removed_while_it_is_waited_for_holds_nobody_out() {
        let dir = tempfile::tempdir().unwrap();
        let soon = Deadline::after(Duration::from_secs(60));
        let held = Lock::acquire_in(dir.path(), "a", &soon).await.unwrap();
        let waits = async {
            let lock = Lock::acquire_in(dir.path(), "a", &soon).await.unwrap();
            is_at(&lock.file, &dir.path().join("a.lock"))
        };
        let removes = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            std::fs::remove_file(dir.path().join("a.lock")).unwrap();
            drop(held);
        };
        let (is_the_file, ()) = tokio::join!(waits, removes);
        assert!(is_the_file);
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
