//! A private directory that does not outlive this module, whatever ends it.
//!
//! A guard, a small shell in a process group of its own, holds a pipe from this module. When the
//! pipe closes without a word, this module is gone (finished, killed, even by SIGKILL): the guard
//! ends the program that it was told of and removes the directory. Module and guard hold a lock on
//! the directory; one that nobody holds any more, after a crash of the computer or when both were
//! killed, is removed by the next run.

use std::cell::Cell;
use std::env;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::fs::{OFlags, StatVfsMountFlags};
use rustix::process::Pid;

/// What the names of all these directories begin with.
const PREFIX: &str = "nixos-anywhere-install.";

/// What must be free beside the files that are put there.
const SPARE: u64 = 256 << 20;

/// `$1` is the directory. The lines are `group NUMBER`, `group` when that has ended, and `done`.
const GUARD: &str = r#"
trap '' HUP INT TERM
group=
while read -r word rest; do
  case $word in
  group) group=$rest ;;
  done) exit ;;
  esac
done
if [ -n "$group" ]; then
  kill -s TERM -- "-$group" 2>/dev/null
  turns=0
  while [ $turns -lt 50 ] && kill -s 0 -- "-$group" 2>/dev/null; do
    sleep 0.1 2>/dev/null || { sleep 1; turns=$((turns + 9)); }
    turns=$((turns + 1))
  done
  kill -s KILL -- "-$group" 2>/dev/null
fi
rm -rf -- "$1" 2>/dev/null || { chmod -R u+rwx -- "$1"; rm -rf -- "$1"; }
"#;

/// A directory of mode 0700 that is removed when this is dropped.
pub(crate) struct Private {
    path: PathBuf,
    _lock: File,
    guard: Child,
    pipe: ChildStdin,
    /// Whether a program runs that the guard has to end.
    running: Cell<bool>,
}

impl Private {
    /// Make one, after removing those of runs that are gone. `need` is the size of the files that
    /// will be put into it; with none, programs build in it, which needs a file system on a disk.
    ///
    /// # Errors
    /// It cannot be made, or no shell can be started.
    pub(crate) fn create(need: Option<u64>) -> io::Result<Self> {
        sweep(&env::temp_dir());
        if let Some(directory) = runtime() {
            sweep(&directory);
        }
        let base = base(need);
        let (path, lock) = locked(&base)?;
        let started = guard(&path, &lock);
        let (guard, pipe) = started.inspect_err(|_| remove(&path))?;
        Ok(Self {
            path,
            _lock: lock,
            guard,
            pipe,
            running: Cell::new(false),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Have the guard end this process group, should this module disappear.
    ///
    /// # Errors
    /// The guard is gone.
    pub(crate) fn guard(&self, group: Pid) -> io::Result<()> {
        self.tell(&format!("group {}\n", group.as_raw_nonzero()))?;
        self.running.set(true);
        Ok(())
    }

    /// That process group has ended.
    pub(crate) fn release(&self) {
        self.running.set(false);
        // A guard that is gone has nothing to end either.
        let _ = self.tell("group\n");
    }

    /// Remove everything in it.
    pub(crate) fn clear(&self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            remove(&entry.path());
        }
    }

    fn tell(&self, line: &str) -> io::Result<()> {
        (&self.pipe).write_all(line.as_bytes())
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        if self.running.get() {
            // The guard ends the program before it removes what that may still write to. It goes on
            // when this module has ended.
            return;
        }
        remove(&self.path);
        if self.tell("done\n").is_ok() {
            let _ = self.guard.wait();
        }
    }
}

/// Remove a directory or file, also what is in directories that may not be written.
fn remove(path: &Path) {
    if fs::remove_dir_all(path).is_err() {
        unlock(path);
        if fs::remove_dir_all(path).is_err() {
            let _ = fs::remove_file(path);
        }
    }
}

fn unlock(path: &Path) {
    if !fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir()) {
        return;
    }
    let _ = fs::set_permissions(path, Permissions::from_mode(0o700));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        unlock(&entry.path());
    }
}

/// The user's runtime directory: private, and in memory.
fn runtime() -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os("XDG_RUNTIME_DIR")?);
    let meta = fs::metadata(&path).ok()?;
    let own = meta.uid() == rustix::process::geteuid().as_raw();
    (path.is_absolute() && meta.is_dir() && own && meta.mode() & 0o077 == 0).then_some(path)
}

/// Where to make it: where TMPDIR says, else in memory if it fits there.
fn base(need: Option<u64>) -> PathBuf {
    let fits = |path: &PathBuf| {
        let Ok(stat) = rustix::fs::statvfs(path) else {
            return false;
        };
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        // Our ssh is run from there.
        !stat.f_flag.contains(StatVfsMountFlags::NOEXEC)
            && need.is_some_and(|need| need.saturating_add(SPARE) <= free)
    };
    match env::var_os("TMPDIR") {
        Some(directory) if !directory.is_empty() => directory.into(),
        _ => runtime().filter(fits).unwrap_or_else(env::temp_dir),
    }
}

/// A new directory in `base`, locked.
fn locked(base: &Path) -> io::Result<(PathBuf, File)> {
    // Another run may take a directory for one that nobody holds before it is locked.
    for _ in 0..100 {
        let made = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(base)?;
        let Ok(lock) = open(made.path()) else {
            continue;
        };
        if lock.try_lock().is_ok() && same(made.path(), &lock) {
            return Ok((made.keep(), lock));
        }
    }
    Err(io::Error::other("other runs remove it again and again"))
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

/// Whether `path` still is what was opened.
fn same(path: &Path, file: &File) -> bool {
    match (fs::symlink_metadata(path), file.metadata()) {
        (Ok(path), Ok(file)) => (path.dev(), path.ino()) == (file.dev(), file.ino()),
        _ => false,
    }
}

/// Remove the directories of runs that are gone.
fn sweep(base: &Path) {
    let user = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let path = entry.path();
        let Ok(directory) = open(&path) else { continue };
        let own = directory.metadata().is_ok_and(|meta| meta.uid() == user);
        if own && directory.try_lock().is_ok() && same(&path, &directory) {
            remove(&path);
        }
    }
}

/// Start the guard of `path`; its standard output is the lock, which it holds like that.
fn guard(path: &Path, lock: &File) -> io::Result<(Child, ChildStdin)> {
    let mut guard = Command::new("/bin/sh")
        .args(["-c", GUARD, "sh"])
        .arg(path)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(lock.try_clone()?)
        .stderr(Stdio::null())
        .spawn()?;
    let pipe = guard.stdin.take();
    let pipe = pipe.ok_or_else(|| io::Error::other("the guard has no pipe"))?;
    Ok((guard, pipe))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_private_and_goes_with_its_owner() {
        let private = Private::create(None).unwrap();
        let path = private.path().to_owned();
        let meta = path.metadata().unwrap();
        assert_eq!(meta.mode() & 0o7777, 0o700);
        assert!(
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(PREFIX)
        );
        // Also what was made read-only.
        fs::create_dir(path.join("a")).unwrap();
        fs::write(path.join("a/b"), "x").unwrap();
        fs::set_permissions(path.join("a"), Permissions::from_mode(0o555)).unwrap();
        private.clear();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        let pid = private.guard.id();
        drop(private);
        assert!(!path.exists());
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn what_nobody_holds_is_swept_and_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path();
        let stale = base.join(format!("{PREFIX}stale"));
        let (other, link) = (base.join("other"), base.join(format!("{PREFIX}link")));
        fs::create_dir_all(stale.join("files")).unwrap();
        fs::write(stale.join("files/host_key"), "secret").unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("kept"), "x").unwrap();
        std::os::unix::fs::symlink(&other, &link).unwrap();
        let (held, lock) = locked(base).unwrap();
        sweep(base);
        assert!(!stale.exists());
        assert!(held.exists() && other.join("kept").exists() && link.exists());
        drop(lock);
        sweep(base);
        assert!(!held.exists());
    }
}
