//! What the controller keeps of its installations: one private directory for each, below the host's state directory.
//!
//! ```text
//! STATE_DIR/known_hosts
//! STATE_DIR/node                                the node that was chosen for a VM that is not made yet
//! STATE_DIR/INSTALLATION/record.json            a copy of the VM's record
//! STATE_DIR/INSTALLATION/installer_client_key   and .pub: the login to the installer, until the machine is finished
//! STATE_DIR/INSTALLATION/installer_host_key     and .pub: the installer's identity, likewise
//! STATE_DIR/INSTALLATION/host_key_TYPE          and .pub: the installed system's identity; the public half stays
//! STATE_DIR/INSTALLATION/host_keys_kept         all host keys of a machine that is installed anew are here
//! STATE_DIR/INSTALLATION/closure                the store path that was installed or deployed last
//! STATE_DIR/INSTALLATION/install.log            the output of Nix and nixos-anywhere
//! STATE_DIR/INSTALLATION/deploy.log             the same of the last deployment
//! STATE_DIR/INSTALLATION/console-installer.log  what the installer printed to the serial console when it booted last
//! STATE_DIR/INSTALLATION/console-system.log     the same of the first boot of the installed system
//! STATE_DIR/INSTALLATION/deploy_snapshot        the names of snapshots that deployments took, one a line
//! STATE_DIR/INSTALLATION/facts/                 a flake with the facts of the inventory, with nixos_vm_system_facts: wrapper
//! STATE_DIR/INSTALLATION/builds/                the results of builds beside a play, until the machine is finished
//! ```
//!
//! The keys belong to an installation, not to a name: two inventories with a host of one name share nothing but `known_hosts`.

use std::fs;
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pve_module::paths::make_private_dir;
use pve_module::record::Record;
use serde::{Deserialize, Serialize};

use crate::error::LocalError;

/// The state directory of an inventory host.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

/// The copy of a record, and on which cluster its VM is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// What identifies the cluster.
    pub cluster: String,
    /// The record.
    pub record: Record,
}

/// The directory of one installation.
#[derive(Clone, Debug)]
pub struct Installation {
    dir: PathBuf,
}

impl Store {
    /// The store in this directory, which need not exist.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A text file of the host's, trimmed.
    pub fn read(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.dir.join(name)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// Write a text file of the host's.
    ///
    /// # Errors
    /// Kind `file`.
    pub fn write(&self, name: &str, text: &str) -> Result<(), LocalError> {
        let path = self.dir.join(name);
        let written = make_private_dir(&self.dir).and_then(|()| write_private(&path, text));
        written.map_err(|error| failed("write", &path, error))
    }

    /// Remove a file of the host's, if it is there.
    ///
    /// # Errors
    /// Kind `file`.
    pub fn remove(&self, name: &str) -> Result<(), LocalError> {
        let path = self.dir.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &path, error))
            }
            _ => Ok(()),
        }
    }

    /// The directory of the installation with this ID.
    pub fn installation(&self, id: &str) -> Installation {
        Installation {
            dir: self.dir.join(id),
        }
    }

    /// All installations whose records can be read.
    pub fn all(&self) -> Vec<(Installation, Known)> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let mut found: Vec<_> = entries
            .filter(|entry| is_id(&entry.file_name().to_string_lossy()))
            .filter_map(|entry| {
                let installation = Installation { dir: entry.path() };
                let known = installation.known()?;
                Some((installation, known))
            })
            .collect();
        found.sort_by(|a, b| a.1.record.installation.cmp(&b.1.record.installation));
        found
    }

    /// Remove the directories of installations that never began and are older than `age`: a build that ran beside a play which ended
    /// before its VM was asked for.
    pub fn remove_strays(&self, age: Duration) {
        for stray in self.strays() {
            let made = fs::metadata(&stray).and_then(|meta| meta.modified()).ok();
            let old = made.and_then(|made| made.elapsed().ok());
            if old.is_some_and(|old| old >= age) {
                let _ = fs::remove_dir_all(stray);
            }
        }
    }

    /// The directories of installations that never began.
    pub fn strays(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        entries
            .filter(|entry| is_id(&entry.file_name().to_string_lossy()))
            .map(|entry| entry.path())
            .filter(|path| !path.join("record.json").exists())
            .collect()
    }

    /// Remove the directory, unless something else is in it.
    ///
    /// # Errors
    /// The system's.
    pub fn remove_if_empty(&self) -> Result<bool, LocalError> {
        match fs::remove_dir(&self.dir) {
            Ok(()) => Ok(true),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(failed("remove", &self.dir, error)),
        }
    }
}

/// Whether a name is an installation's ID.
pub fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

impl Installation {
    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Make the directory, for its owner only.
    ///
    /// # Errors
    /// Kind `file`.
    pub fn make(&self) -> Result<(), LocalError> {
        let private = || {
            make_private_dir(&self.dir)?;
            fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o700))
        };
        private().map_err(|error| failed("make", &self.dir, error))
    }

    /// The copy of the record.
    pub fn known(&self) -> Option<Known> {
        serde_json::from_slice(&fs::read(self.path("record.json")).ok()?).ok()
    }

    /// When the copy of the record was written.
    pub fn kept_at(&self) -> Option<SystemTime> {
        fs::metadata(self.path("record.json")).ok()?.modified().ok()
    }

    /// Keep a copy of the record.
    ///
    /// # Errors
    /// Kind `file`.
    pub fn keep(&self, known: &Known) -> Result<(), LocalError> {
        self.make()?;
        let text = serde_json::to_string_pretty(known).unwrap_or_default();
        self.write("record.json", &text)
    }

    /// Keep other runs of this controller from taking it for one whose run has ended, for as long as what is returned lives.
    ///
    /// # Errors
    /// Kind `file`.
    pub fn hold(&self) -> Result<fs::File, LocalError> {
        self.make()?;
        let lock = || {
            let dir = fs::File::open(&self.dir)?;
            dir.try_lock()?;
            Ok(dir)
        };
        lock().map_err(|error| failed("lock", &self.dir, error))
    }

    /// Whether a run holds it.
    pub fn held(&self) -> bool {
        let Ok(dir) = fs::File::open(&self.dir) else {
            return false;
        };
        is_locked(&dir)
    }

    /// Whether nixos-anywhere is at work for it on this controller: `nixos_anywhere_install` locks its log meanwhile.
    pub fn busy(&self) -> bool {
        let Ok(log) = fs::File::open(self.path("install.log")) else {
            return false;
        };
        is_locked(&log)
    }

    /// A text file in it, trimmed; none if it is missing or empty.
    pub fn read(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.path(name)).ok()?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// Write a text file for its owner only, whole or not at all.
    ///
    /// # Errors
    /// Kind `file`.
    pub fn write(&self, name: &str, text: &str) -> Result<(), LocalError> {
        let path = self.path(name);
        write_private(&path, text).map_err(|error| failed("write", &path, error))
    }

    /// Begin a file for its owner only, which is written bit by bit.
    ///
    /// # Errors
    /// Kind `file`.
    pub fn create(&self, name: &str) -> Result<fs::File, LocalError> {
        self.make()?;
        let path = self.path(name);
        private(&path).map_err(|error| failed("write", &path, error))
    }

    /// Remove files, whether they exist or not. Returns whether any did.
    ///
    /// # Errors
    /// Kind `file`.
    pub fn remove(&self, names: &[String]) -> Result<bool, LocalError> {
        let mut any = false;
        for name in names {
            let path = self.path(name);
            let gone = match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path),
                Ok(_) => fs::remove_file(&path),
                Err(error) => Err(error),
            };
            match gone {
                Ok(()) => any = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("remove", &path, error)),
            }
        }
        Ok(any)
    }

    /// Forget the whole installation.
    ///
    /// # Errors
    /// Kind `file`.
    pub fn forget(&self) -> Result<(), LocalError> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &self.dir, error))
            }
            _ => Ok(()),
        }
    }
}

/// Whether another process has the lock of this file.
fn is_locked(file: &fs::File) -> bool {
    matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock))
}

/// Write a file of mode 0600, whole or not at all.
///
/// # Errors
/// The system's.
pub fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = private(&new)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

/// An empty file of mode 0600.
fn private(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

/// A failure at a file of the state directory.
pub fn failed(doing: &'static str, path: &Path, error: io::Error) -> LocalError {
    LocalError::State {
        doing,
        path: path.to_owned(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn what_never_began_is_removed_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let installation = dir.path().join(ID);
        fs::create_dir_all(&installation).unwrap();
        fs::write(installation.join("installer_host_key"), "a key").unwrap();
        let store = Store::new(dir.path().to_owned());
        store.remove_strays(Duration::from_secs(3600));
        assert!(installation.exists());
        store.remove_strays(Duration::ZERO);
        assert!(!installation.exists());
    }
}
