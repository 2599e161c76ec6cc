//! Lines of `known_hosts`: added and removed under a lock, so that many hosts can share one file.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ansible_module::Failure;
use deadline::Deadline;
use pve_module::Lock;

use crate::error::LocalError;
use crate::keys::without_comment;
use crate::module_args::drop_repetitions;
use crate::options::Options;

/// The names of the machine in `known_hosts`: its address, and the others under which ssh may look for it. An address that the network
/// gives may change; ssh finds the key by the inventory's name too, as `HostKeyAlias`.
pub fn names(options: &Options, address: Option<String>) -> Option<Vec<String>> {
    let settings = &options.settings;
    let mut hosts: Vec<String> = address.into_iter().collect();
    if hosts.first() == settings.given_address().as_ref() {
        // ssh looks for what it is called with, in small letters, whatever the normal form of an address.
        let written = settings.written_address().unwrap_or_default();
        let written = written.trim_matches(['[', ']']).to_lowercase();
        hosts.extend((written.contains(':')).then_some(written));
        hosts.extend(settings.known_addresses());
    }
    let mut names: Vec<String> = hosts
        .iter()
        .map(|host| name(host, settings.ssh_port))
        .collect();
    if settings.has_no_fixed_address() {
        names.push(options.host.clone());
    }
    drop_repetitions(&mut names);
    (!names.is_empty()).then_some(names)
}

/// How `ssh` looks a host up.
pub fn name(address: &str, port: u16) -> String {
    match port {
        22 => address.to_owned(),
        _ => format!("[{address}]:{port}"),
    }
}

/// The text with exactly these keys for each of the names. Lines of other hosts stay as they are.
pub fn with(text: &str, names: &[String], keys: &[String]) -> String {
    let wanted: Vec<String> = names
        .iter()
        .flat_map(|name| keys.iter().map(move |key| format!("{name} {key}")))
        .collect();
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let host = words.next().unwrap_or_default();
        let key = words.take(2).collect::<Vec<_>>().join(" ");
        let ours = names.iter().any(|name| name == host);
        if !ours || wanted.contains(&format!("{host} {key}")) {
            lines.push(line);
        }
    }
    let missing = wanted.iter().filter(|wanted| {
        !lines.iter().any(|line| {
            line.split_whitespace()
                .take(3)
                .collect::<Vec<_>>()
                .join(" ")
                == **wanted
        })
    });
    let missing: Vec<&String> = missing.collect();
    lines.extend(missing.iter().map(|line| line.as_str()));
    joined(&lines)
}

/// The text without lines that have one of these keys.
pub fn without(text: &str, keys: &[String]) -> String {
    let has = |line: &&str| {
        let key = line
            .split_whitespace()
            .skip(1)
            .take(2)
            .collect::<Vec<_>>()
            .join(" ");
        !keys.contains(&key)
    };
    joined(&text.lines().filter(has).collect::<Vec<_>>())
}

fn joined(lines: &[&str]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Whether the file lacks a line.
pub fn lacks(path: &Path, names: &[String], keys: &[String]) -> bool {
    let text = fs::read_to_string(path).unwrap_or_default();
    let keys: Vec<String> = keys.iter().map(|key| without_comment(key)).collect();
    with(&text, names, &keys) != text
}

/// Change the file; returns whether it was changed.
///
/// # Errors
/// Kind `file`, and that of the lock.
pub async fn edit(
    path: &Path,
    deadline: &Deadline,
    change: impl Fn(&str) -> String,
) -> Result<bool, Failure> {
    let fail = |error| LocalError::KnownHosts {
        path: path.to_owned(),
        error,
    };
    let _lock = Lock::acquire(&format!("known_hosts {}", path.display()), deadline).await?;
    // A link to the file that is meant stays one.
    let file = fs::canonicalize(path).unwrap_or_else(|_| PathBuf::from(path));
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(fail(error).into()),
    };
    let new = change(&text);
    if new == text {
        return Ok(false);
    }
    write(&file, &new).map_err(fail)?;
    Ok(true)
}

/// Replace the file as a whole, keeping its mode.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("."));
    if !dir.exists() {
        pve_module::paths::make_private_dir(dir)?;
    }
    let mode = fs::metadata(file).map_or(0o600, |meta| meta.permissions().mode() & 0o777);
    let mut new = tempfile::Builder::new()
        .prefix(".known_hosts.")
        .permissions(fs::Permissions::from_mode(mode))
        .tempfile_in(dir)?;
    io::Write::write_all(&mut new, text.as_bytes())?;
    new.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_once_and_others_stay() {
        let names = ["192.0.2.1".to_owned(), "[192.0.2.1]:2222".to_owned()];
        let keys = ["ssh-ed25519 NEW".to_owned()];
        let text = "# mine\nother ssh-ed25519 OLD\n192.0.2.1 ssh-ed25519 OLD was\n";
        let expected = "# mine\nother ssh-ed25519 OLD\n192.0.2.1 ssh-ed25519 NEW\n[192.0.2.1]:2222 ssh-ed25519 NEW\n";
        let new = with(text, &names, &keys);
        assert_eq!(new, expected);
        assert_eq!(with(&new, &names, &keys), expected);
        assert_eq!(without(&new, &keys), "# mine\nother ssh-ed25519 OLD\n");
        assert_eq!(
            (name("h", 22), name("h", 2222)),
            ("h".into(), "[h]:2222".into())
        );
    }

    #[tokio::test]
    async fn many_at_once_lose_no_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known_hosts");
        let deadline = Deadline::after(std::time::Duration::from_secs(60));
        let keys = ["ssh-ed25519 K".to_owned()];
        let mut all = Vec::new();
        for n in 0..20 {
            let (path, keys) = (path.clone(), keys.clone());
            all.push(tokio::spawn(async move {
                let names = [format!("host{n}")];
                edit(&path, &deadline, |text| with(text, &names, &keys))
                    .await
                    .unwrap()
            }));
        }
        for one in all {
            assert!(one.await.unwrap());
        }
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 20);
        assert!(!lacks(&path, &["host7".to_owned()], &keys));
    }
}
