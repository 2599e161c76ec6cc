//! The SSH keys of one installation. They are made and checked by `ssh-keygen`, as the guests' own OpenSSH reads them.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ansible_module::Secret;
use pve_module::record::Record;

use crate::error::LocalError;
use crate::options::{KeyType, Settings};
use crate::store::Installation;

/// The key that logs in to the installer as root.
pub const CLIENT: &str = "installer_client_key";
/// The installer's host key.
pub const INSTALLER: &str = "installer_host_key";

/// The name of a host key of the installed system.
pub fn host_key(key: KeyType) -> String {
    format!("host_key_{}", key.name())
}

/// The files of private keys, and of public ones that are not needed once the machine is finished.
pub fn temporary() -> Vec<String> {
    let installer = [CLIENT, INSTALLER]
        .into_iter()
        .flat_map(|name| [name.to_owned(), format!("{name}.pub")]);
    installer
        .chain(KeyType::ALL.into_iter().map(host_key))
        .collect()
}

/// The files of the installed system's private host keys, by their kinds.
pub fn files(installation: &Installation) -> Vec<(&'static str, PathBuf)> {
    let files = KeyType::ALL
        .into_iter()
        .map(|key| (key.name(), host_key(key)));
    files
        .filter(|(_, name)| installation.read(name).is_some())
        .map(|(kind, name)| (kind, installation.path(&name)))
        .collect()
}

/// A host key that the user brings.
#[derive(Debug)]
pub struct Given {
    /// Where the user wrote it: a variable, with the path of the file.
    pub origin: String,
    /// The private key.
    pub private: String,
    /// The kind that its place says it is.
    pub key: Option<KeyType>,
}

/// The host keys that the user brings: `nixos_vm_ssh_host_key`, and those among the extra files.
///
/// # Errors
/// Every file that cannot be read.
pub fn brought(settings: &Settings) -> Result<Vec<Given>, Vec<String>> {
    let mut found: Vec<Given> = Vec::new();
    let mut mistakes = Vec::new();
    let private = settings
        .ssh_host_key
        .as_ref()
        .and_then(|key| key.private.as_ref());
    if let Some(private) = private.filter(|private| !private.expose().trim().is_empty()) {
        found.push(Given {
            origin: "nixos_vm_ssh_host_key.private".into(),
            private: private.expose().to_owned(),
            key: None,
        });
    }
    for key in KeyType::ALL {
        let path = path_in_system(settings, key);
        let mut read = |origin: String, file: &Path| match fs::read_to_string(file) {
            Ok(private) => found.push(Given {
                origin,
                private,
                key: Some(key),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                mistakes.push(format!("{origin}: cannot read {}: {error}", file.display()))
            }
        };
        let single = settings
            .extra_files
            .iter()
            .find(|file| clean(&file.path) == clean(&path));
        if let Some(file) = single {
            let origin = format!("nixos_vm_extra_files: {path}");
            match (&file.src, &file.content) {
                (Some(source), _) => read(origin, source),
                (None, Some(content)) => found.push(Given {
                    origin,
                    private: content.as_str().unwrap_or_default().to_owned(),
                    key: Some(key),
                }),
                (None, None) => {}
            }
        } else if let Some(tree) = settings.tree() {
            let file = tree.join(path.trim_start_matches('/'));
            let origin = format!("nixos_vm_extra_files_dir: {path}");
            // The link is one of the installed system. Here it may lead to the controller's own key.
            match link_on_the_way(tree, &file) {
                None => read(origin, &file),
                Some(link) if link != file || settings.ssh_host_key_types.contains(&key) => {
                    mistakes.push(format!(
                        "{origin}: {} is a symbolic link, and the host key is not written through it; set nixos_vm_persist to where the \
                         system keeps its keys, or replace the link",
                        link.display()
                    ));
                }
                Some(_) => {}
            }
        }
    }
    if mistakes.is_empty() {
        Ok(found)
    } else {
        Err(mistakes)
    }
}

/// The first symbolic link on the way from `tree` to `file`, which is below it.
fn link_on_the_way(tree: &Path, file: &Path) -> Option<PathBuf> {
    let mut way: Vec<&Path> = file.ancestors().take_while(|path| *path != tree).collect();
    way.reverse();
    way.into_iter()
        .find(|path| path.is_symlink())
        .map(Path::to_owned)
}

/// Where the installed system has its host key of this kind.
pub fn path_in_system(settings: &Settings, key: KeyType) -> String {
    format!(
        "{}/etc/ssh/ssh_host_{}_key",
        settings.persist.trim_end_matches('/'),
        key.name()
    )
}

/// A path without what means nothing in it: further slashes and `.`.
pub fn clean(path: &str) -> String {
    path.split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect::<Vec<_>>()
        .join("/")
}

/// Make the keys that are missing, and take over those that the user brings. Keys that exist stay, so that an interrupted
/// installation goes on with its own. Returns the names of what was made.
///
/// # Errors
/// Kind `private_key`: a key of the user's that OpenSSH cannot use, or no `ssh-keygen`.
pub fn make(
    installation: &Installation,
    host: &str,
    settings: &Settings,
    given: &[Given],
) -> Result<Vec<String>, LocalError> {
    installation.make()?;
    let mut made = Vec::new();
    for (name, comment) in [
        (CLIENT, format!("nixos-proxmox installer client of {host}")),
        (INSTALLER, format!("nixos-proxmox installer of {host}")),
    ] {
        make_one(installation, name, KeyType::Ed25519, &comment, &mut made)?;
    }
    let mut brought = Vec::new();
    for key in given {
        brought.push(adopt(installation, key, &mut made)?);
    }
    if given.is_empty() {
        for key in &settings.ssh_host_key_types {
            make_one(installation, &host_key(*key), *key, host, &mut made)?;
        }
    } else {
        // Of another kind than the user's, from a run before they were given.
        let others: Vec<String> = KeyType::ALL
            .into_iter()
            .filter(|key| !brought.contains(key))
            .flat_map(|key| [host_key(key), format!("{}.pub", host_key(key))])
            .collect();
        installation.remove(&others)?;
    }
    Ok(made)
}

fn make_one(
    installation: &Installation,
    name: &str,
    key: KeyType,
    comment: &str,
    made: &mut Vec<String>,
) -> Result<(), LocalError> {
    let public = format!("{name}.pub");
    // The public half is the last to appear: where it is, the private one belongs to it.
    if installation.read(name).is_some() && installation.read(&public).is_some() {
        return Ok(());
    }
    make_pair(installation, name, key, comment, |_| Ok(()))?;
    made.push(name.to_owned());
    Ok(())
}

/// Make a key pair. `finish` is called with the path of the private half before it gets its name.
///
/// # Errors
/// Kinds `tool_missing`, `tool_failed` and `file`, and those of `finish`.
pub fn make_pair(
    installation: &Installation,
    name: &str,
    key: KeyType,
    comment: &str,
    finish: impl FnOnce(&Path) -> Result<(), LocalError>,
) -> Result<(), LocalError> {
    let scratch = scratch(installation)?;
    let file = scratch.path().join("key");
    let bits: &[&str] = match key {
        KeyType::Rsa => &["-b", "4096"],
        _ => &[],
    };
    let mut command = Command::new("ssh-keygen");
    command
        .args(["-q", "-t", key.name(), "-N", "", "-C", comment])
        .args(bits)
        .arg("-f")
        .arg(&file);
    run(command, &format!("make {name}"))?;
    finish(&file)?;
    put(installation, &file, name)
}

/// Take over a host key that was there before; returns its kind.
///
/// # Errors
/// Kind `private_key` if OpenSSH cannot use it, and those of files.
pub fn adopt(
    installation: &Installation,
    given: &Given,
    made: &mut Vec<String>,
) -> Result<KeyType, LocalError> {
    let (text, public, key) = checked(given)?;
    let name = host_key(key);
    if installation.read(&format!("{name}.pub")).as_deref() == Some(public.trim())
        && installation.read(&name).is_some()
    {
        return Ok(key);
    }
    // What was installed has another host key.
    installation.remove(&["closure".to_owned()])?;
    let scratch = scratch(installation)?;
    let file = scratch.path().join("key");
    private_file(&file, &text)?;
    private_file(&scratch.path().join("key.pub"), &public)?;
    put(installation, &file, &name)?;
    made.push(name);
    Ok(key)
}

/// The key as OpenSSH reads it, its public half, and its kind.
///
/// # Errors
/// Kind `private_key` if it is none, or of another kind than its name says.
pub fn checked(given: &Given) -> Result<(String, String, KeyType), LocalError> {
    let origin = || given.origin.clone();
    // Text from a vault may have other line ends, and may have lost the last one.
    let text = given.private.replace("\r\n", "\n");
    let text = format!("{}\n", text.trim());
    let file = InMemory::new(&text)?;
    let mut command = Command::new("ssh-keygen");
    command.args(["-y", "-P", "", "-f"]).arg(file.path());
    let public =
        run(command, "read the key").map_err(|_| LocalError::UnusableKey { origin: origin() })?;
    let key = match public.split_whitespace().next().unwrap_or_default() {
        "ssh-ed25519" => KeyType::Ed25519,
        "ssh-rsa" => KeyType::Rsa,
        kind if kind.starts_with("ecdsa-sha2-") => KeyType::Ecdsa,
        kind => {
            return Err(LocalError::UnsupportedKey {
                origin: origin(),
                kind: kind.to_owned(),
            });
        }
    };
    match given.key {
        Some(expected) if expected != key => Err(LocalError::OtherKeyType {
            origin: origin(),
            found: key,
            expected,
        }),
        _ => Ok((text, public, key)),
    }
}

/// What is wrong with host keys that are there before the installation.
pub fn check(given: &[Given]) -> Vec<String> {
    let mut kinds: Vec<(KeyType, &str)> = Vec::new();
    let mut mistakes = Vec::new();
    for key in given {
        match checked(key) {
            Ok((.., kind)) => match kinds.iter().find(|(other, _)| *other == kind) {
                Some((_, first)) => mistakes.push(format!(
                    "{}: the {} host key is given by {first} too; give it once",
                    key.origin,
                    kind.name()
                )),
                None => kinds.push((kind, &key.origin)),
            },
            Err(error) => mistakes.push(error.mistake()),
        }
    }
    mistakes
}

/// The public host keys of the installed system, `TYPE BASE64`.
pub fn installed(installation: &Installation) -> Vec<String> {
    KeyType::ALL
        .into_iter()
        .filter_map(|key| public(installation, &host_key(key)))
        .collect()
}

/// The public host keys of the machine with this record. The record says which controller's key was installed: those of one whose run
/// was taken over are not.
pub fn of(installation: &Installation, record: &Record) -> Vec<String> {
    let keys = installed(installation);
    match &record.host_key {
        Some(recorded) if !keys.contains(recorded) => vec![recorded.clone()],
        _ => keys,
    }
}

/// The public half of a key, `TYPE BASE64` without its comment.
pub fn public(installation: &Installation, name: &str) -> Option<String> {
    let text = installation.read(&format!("{name}.pub"))?;
    Some(without_comment(&text))
}

/// The public host key that the user gives, without its comment.
pub fn given_public(settings: &Settings) -> Option<String> {
    let key = settings.ssh_host_key.as_ref()?.public.as_deref()?;
    (!key.trim().is_empty()).then(|| without_comment(key))
}

/// `TYPE BASE64` of a public key.
pub fn without_comment(key: &str) -> String {
    key.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// A private key as a file that is in no directory, so that nothing is left of it however the process ends. Other processes of the same
/// user can read it by its path as long as this one lives.
pub struct InMemory {
    file: fs::File,
}

impl InMemory {
    /// A file with this text, of mode 0600.
    ///
    /// # Errors
    /// The system's.
    pub fn new(text: &str) -> Result<Self, LocalError> {
        let write = || {
            let file = rustix::fs::memfd_create("key", rustix::fs::MemfdFlags::CLOEXEC)?;
            let mut file = fs::File::from(file);
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
            io::Write::write_all(&mut file, text.as_bytes())?;
            Ok(Self { file })
        };
        write().map_err(LocalError::KeyInMemory)
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }
}

fn scratch(installation: &Installation) -> Result<tempfile::TempDir, LocalError> {
    remove_stale(installation);
    tempfile::Builder::new()
        .prefix("making.")
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(installation.dir())
        .map_err(|error| crate::store::failed("make a directory in", installation.dir(), error))
}

/// What a killed run left.
fn remove_stale(installation: &Installation) {
    let entries = fs::read_dir(installation.dir())
        .into_iter()
        .flatten()
        .flatten();
    for entry in entries {
        if entry.file_name().to_string_lossy().starts_with("making.") {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn private_file(path: &Path, text: &str) -> Result<(), LocalError> {
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        io::Write::write_all(&mut file, text.as_bytes())
    };
    write().map_err(|error: io::Error| crate::store::failed("write", path, error))
}

/// Move a key pair into place, the public half last.
fn put(installation: &Installation, file: &Path, name: &str) -> Result<(), LocalError> {
    let public = format!("{name}.pub");
    installation.remove(std::slice::from_ref(&public))?;
    for (from, to) in [
        (file.to_owned(), name),
        (file.with_extension("pub"), public.as_str()),
    ] {
        let to = installation.path(to);
        fs::rename(&from, &to).map_err(|error| crate::store::failed("write", &to, error))?;
    }
    Ok(())
}

fn run(mut command: Command, what: &str) -> Result<String, LocalError> {
    let output = command
        .stdin(Stdio::null())
        .env("SSH_ASKPASS_REQUIRE", "never")
        .output()
        .map_err(|error| LocalError::NoKeygen {
            what: what.to_owned(),
            error,
        })?;
    if !output.status.success() {
        return Err(LocalError::Keygen {
            what: what.to_owned(),
            said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A login key that is given as a text, as a file for as long as it is needed.
///
/// # Errors
/// The system's.
pub fn key_file(key: &Secret) -> Result<InMemory, LocalError> {
    InMemory::new(&format!("{}\n", key.expose().trim()))
}
