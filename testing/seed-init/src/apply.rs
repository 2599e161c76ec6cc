//! Making the system at `root` what the drive asks for.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::userdata::{File, System, User};

/// Where the network's actions are left for the boot script.
const NETWORK: &str = "etc/network.seed";

/// Writes everything; whatever fails for one user or file is a warning, not an end.
pub fn apply(
    root: &Path,
    system: &System,
    network: &[String],
    warnings: &mut Vec<String>,
) -> Result<(), String> {
    let mut note = |result: Result<(), String>| {
        if let Err(problem) = result {
            warnings.push(problem);
        }
    };
    if !network.is_empty() {
        let content = (network.join("\n") + "\n").into_bytes();
        write(
            root,
            &File {
                path: format!("/{NETWORK}"),
                content,
                mode: 0o644,
                append: false,
            },
        )?;
    }
    if let Some(hostname) = &system.hostname {
        let content = format!("{hostname}\n").into_bytes();
        write(
            root,
            &File {
                path: "/etc/hostname".to_owned(),
                content,
                mode: 0o644,
                append: false,
            },
        )?;
    }
    for file in &system.files {
        note(write(root, file));
    }
    for user in &system.users {
        note(apply_user(root, user));
    }
    // In cloud-init's order: the module that deletes host keys runs after the one that writes files.
    if system.delete_host_keys {
        note(delete_host_keys(&root.join("etc/ssh")));
    }
    for key in &system.host_keys {
        note(write(root, key));
    }
    Ok(())
}

fn write(root: &Path, file: &File) -> Result<(), String> {
    let path = inside(root, &file.path);
    let context = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(context)?;
    }
    if !file.append {
        // Made anew with its final mode: a private key is never readable, not even for a moment.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(context(error));
            }
            _ => {}
        }
    }
    let mut output = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(file.mode)
        .open(&path)
        .map_err(context)?;
    output.write_all(&file.content).map_err(context)?;
    output
        .set_permissions(fs::Permissions::from_mode(file.mode))
        .map_err(context)
}

fn delete_host_keys(directory: &Path) -> Result<(), String> {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("ssh_host_") {
            fs::remove_file(entry.path())
                .map_err(|error| format!("cannot delete a host key: {error}"))?;
        }
    }
    Ok(())
}

fn apply_user(root: &Path, user: &User) -> Result<(), String> {
    let account = account(root, user)?;
    if user.keys.is_empty() {
        return Ok(());
    }
    let directory = inside(root, &account.home).join(".ssh");
    let context = |error: std::io::Error| format!("cannot write {}: {error}", directory.display());
    fs::create_dir_all(&directory).map_err(context)?;
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).map_err(context)?;
    let content = (user.keys.join("\n") + "\n").into_bytes();
    let path = format!("{}/.ssh/authorized_keys", account.home);
    write(
        root,
        &File {
            path: path.clone(),
            content,
            mode: 0o600,
            append: false,
        },
    )?;
    own(&directory, account.id)?;
    own(&inside(root, &path), account.id)
}

/// As root only: tests run as anybody.
fn own(path: &Path, id: u32) -> Result<(), String> {
    match chown(path, Some(id), Some(id)) {
        Err(error) if error.kind() != std::io::ErrorKind::PermissionDenied => Err(format!(
            "cannot give {} to user {id}: {error}",
            path.display()
        )),
        _ => Ok(()),
    }
}

struct Account {
    id: u32,
    home: String,
}

/// The account of that name, made when there is none.
fn account(root: &Path, user: &User) -> Result<Account, String> {
    let name = &user.name;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.starts_with('-') || !name.chars().all(plain) {
        return Err(format!("{name:?} cannot be a user's name"));
    }
    let passwd = fs::read_to_string(root.join("etc/passwd"))
        .map_err(|error| format!("cannot read passwd: {error}"))?;
    let mut highest = 1000;
    for line in passwd.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [entry, _, id, _, _, home, ..] = fields.as_slice() else {
            continue;
        };
        let Ok(id) = id.parse() else { continue };
        if entry == name {
            return Ok(Account {
                id,
                home: (*home).to_owned(),
            });
        }
        if (1000..60000).contains(&id) {
            highest = highest.max(id);
        }
    }
    let id = highest + 1;
    let home = format!("/home/{name}");
    let append = |path: &str, mode: u32, line: String| {
        write(
            root,
            &File {
                path: path.to_owned(),
                content: line.into_bytes(),
                mode,
                append: true,
            },
        )
    };
    append(
        "/etc/passwd",
        0o644,
        format!("{name}:x:{id}:{id}::{home}:/bin/sh\n"),
    )?;
    append("/etc/group", 0o644, format!("{name}:x:{id}:\n"))?;
    // `*`: no password will ever do, yet keys may be used (a `!` would lock the account).
    append(
        "/etc/shadow",
        0o640,
        format!("{name}:*:19000:0:99999:7:::\n"),
    )?;
    if user.sudo {
        append(
            &format!("/etc/sudoers.d/{name}"),
            0o440,
            format!("{name} ALL=(ALL:ALL) NOPASSWD: ALL\n"),
        )?;
    }
    let directory = inside(root, &home);
    fs::create_dir_all(&directory)
        .map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
    own(&directory, id)?;
    Ok(Account { id, home })
}

fn inside(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc/ssh")).unwrap();
        fs::write(
            root.path().join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nnixos:x:1000:1000::/home/nixos:/bin/sh\n",
        )
        .unwrap();
        root
    }

    fn text(root: &tempfile::TempDir, path: &str) -> String {
        fs::read_to_string(root.path().join(path)).unwrap()
    }

    #[test]
    fn keys_users_and_network_are_written() {
        let root = root();
        let key = File {
            path: "/etc/ssh/ssh_host_ed25519_key".into(),
            content: b"key\n".to_vec(),
            mode: 0o600,
            append: false,
        };
        let system = System {
            hostname: Some("web1".into()),
            files: vec![key],
            users: vec![
                User {
                    name: "root".into(),
                    keys: vec!["ssh-ed25519 A".into()],
                    sudo: true,
                },
                User {
                    name: "alice".into(),
                    keys: vec!["ssh-ed25519 B".into()],
                    sudo: true,
                },
            ],
            ..System::default()
        };
        let mut warnings = Vec::new();
        apply(root.path(), &system, &["up eth0".into()], &mut warnings).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(text(&root, "etc/hostname"), "web1\n");
        assert_eq!(text(&root, "etc/network.seed"), "up eth0\n");
        assert_eq!(text(&root, "root/.ssh/authorized_keys"), "ssh-ed25519 A\n");
        assert_eq!(
            text(&root, "home/alice/.ssh/authorized_keys"),
            "ssh-ed25519 B\n"
        );
        assert!(text(&root, "etc/passwd").contains("alice:x:1001:1001::/home/alice:/bin/sh"));
        assert!(text(&root, "etc/shadow").starts_with("alice:*:"));
        let mode = |path: &str| {
            fs::metadata(root.path().join(path))
                .unwrap()
                .permissions()
                .mode()
                & 0o7777
        };
        assert_eq!(mode("etc/ssh/ssh_host_ed25519_key"), 0o600);
        assert_eq!(mode("root/.ssh"), 0o700);
        assert_eq!(mode("etc/sudoers.d/alice"), 0o440);
    }

    #[test]
    fn host_keys_go_unless_they_are_to_stay() {
        let root = root();
        let key = File {
            path: "/etc/ssh/ssh_host_ed25519_key".into(),
            content: b"key\n".to_vec(),
            mode: 0o600,
            append: false,
        };
        let system = System {
            files: vec![key],
            delete_host_keys: true,
            ..System::default()
        };
        apply(root.path(), &system, &[], &mut Vec::new()).unwrap();
        assert!(!root.path().join("etc/ssh/ssh_host_ed25519_key").exists());
    }

    #[test]
    fn names_that_are_paths_are_refused() {
        let root = root();
        let system = System {
            users: vec![User {
                name: "../x".into(),
                keys: vec![],
                sudo: true,
            }],
            ..System::default()
        };
        let mut warnings = Vec::new();
        apply(root.path(), &system, &[], &mut warnings).unwrap();
        assert_eq!(warnings.len(), 1);
    }
}
