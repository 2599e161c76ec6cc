//! What the hosts of one play claim: a VM, an address, a MAC. Two hosts that claim one thing are both refused, before anything is changed.
//!
//! The claims of a play are one file, named after the `ansible-playbook` process and when it started. Each host writes its own under
//! a lock and reads the others'. The file of a play that has ended is removed by the next play.

use std::fs;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nixos_vm_report::host_plan::Claim;
use pve_module::paths;

use crate::error::{Error, LocalError, StepError};

/// Write down the claims of `host` and compare them with those of the play's other hosts.
///
/// # Errors
/// Kind `claimed`, naming both hosts and the variable; kind `file` if the claims cannot be read or written.
pub fn claim(host: &str, claims: &[Claim]) -> Result<(), Error> {
    let Some(play) = play() else {
        // Called by something else than Ansible: there are no other hosts.
        return Ok(());
    };
    let others = paths::lock_dir()
        .and_then(|locks| exchange(&locks.with_file_name("plays"), &play, host, claims));
    let others = others.map_err(LocalError::Claims)?;
    Ok(conflict(host, claims, &others)?)
}

fn conflict(host: &str, claims: &[Claim], others: &[Claim]) -> Result<(), StepError> {
    let clashes: Vec<String> = claims
        .iter()
        .filter_map(|ours| {
            let other = others.iter().find(|other| other.key == ours.key)?;
            Some(format!(
                "{}: {} is also that of the host {} in this play",
                ours.variable, ours.what, other.host
            ))
        })
        .collect();
    if clashes.is_empty() {
        return Ok(());
    }
    Err(StepError::Claimed {
        host: host.to_owned(),
        clashes,
    })
}

/// Replace the host's claims in the play's file; returns those of the other hosts.
fn exchange(dir: &Path, play: &str, host: &str, claims: &[Claim]) -> io::Result<Vec<Claim>> {
    paths::make_private_dir(dir)?;
    remove_ended(dir);
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(dir.join(play))?;
    file.lock()?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let mut all: Vec<Claim> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    all.retain(|claim| claim.host != host);
    let others = all.clone();
    all.extend_from_slice(claims);
    let lines: String = all
        .iter()
        .filter_map(|claim| Some(serde_json::to_string(claim).ok()? + "\n"))
        .collect();
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(lines.as_bytes())?;
    Ok(others)
}

fn remove_ended(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((pid, started)) = name.split_once('-') else {
            continue;
        };
        let runs = process(pid).is_some_and(|process| process.started == started);
        if !runs {
            let _ = fs::remove_file(entry.path());
        }
    }
}

struct Process {
    parent: String,
    started: String,
    ansible: bool,
}

fn process(pid: &str) -> Option<Process> {
    let dir = PathBuf::from("/proc").join(pid);
    let stat = fs::read_to_string(dir.join("stat")).ok()?;
    // The fields after a name that may hold anything: state, parent, ... and the start as the 20th.
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let command = fs::read(dir.join("cmdline")).unwrap_or_default();
    let ansible = command.split(|byte| *byte == 0).take(4).any(|word| {
        let word = String::from_utf8_lossy(word);
        word.rsplit('/')
            .next()
            .unwrap_or_default()
            .starts_with("ansible-playbook")
    });
    Some(Process {
        parent: (*fields.get(1)?).to_owned(),
        started: (*fields.get(19)?).to_owned(),
        ansible,
    })
}

/// `PID-START` of the uppermost `ansible-playbook` above this process.
fn play() -> Option<String> {
    let mut pid = std::process::id().to_string();
    let mut found = None;
    for _ in 0..64 {
        let Some(process) = process(&pid) else { break };
        if process.ansible {
            found = Some(format!("{pid}-{}", process.started));
        }
        if process.parent == "0" {
            break;
        }
        pid = process.parent;
    }
    found
}

#[cfg(test)]
mod tests {
    use ansible_module::{Failure, FailureKind};

    use super::*;

    fn claim(host: &str, key: &str) -> Claim {
        Claim {
            host: host.into(),
            what: format!("the address {key}"),
            key: key.into(),
            variable: "nixos_vm_ip".into(),
        }
    }

    #[test]
    fn each_host_sees_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("plays");
        // Of a process that lives: this one.
        let me = process(&std::process::id().to_string()).unwrap();
        let play = format!("{}-{}", std::process::id(), me.started);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("1-1"), "").unwrap();
        assert_eq!(exchange(&dir, &play, "a", &[claim("a", "x")]).unwrap(), []);
        assert!(!dir.join("1-1").exists());
        assert_eq!(exchange(&dir, &play, "a", &[claim("a", "y")]).unwrap(), []);
        let seen = exchange(&dir, &play, "b", &[claim("b", "y")]).unwrap();
        assert_eq!(seen, [claim("a", "y")]);
        let refused = Failure::from(conflict("b", &[claim("b", "y")], &seen).unwrap_err());
        assert_eq!(refused.kind, FailureKind::Claimed);
        assert_eq!(
            refused.msg,
            "nixos_vm_ip: the address y is also that of the host a in this play"
        );
        assert!(conflict("b", &[claim("b", "z")], &seen).is_ok());
    }
}
