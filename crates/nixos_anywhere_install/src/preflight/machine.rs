//! The machine, and who logs in to it.

use crate::commands::tools;
use crate::options::{Options, State};
use crate::values::host;
use crate::values::jump::jump;
use ansible_module::FailureKind;
use guest_ssh::{Identity, PublicKey};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Found;
use super::files::{file, named};

/// What every login needs.
pub(super) fn machine(options: &Options, found: &mut Found) {
    if let Some(problem) = options.host.as_deref().and_then(host::problem) {
        found.push("host", problem);
    }
    for (option, port) in [
        ("port", options.port),
        ("post_kexec_port", options.post_kexec_port),
    ] {
        if port == 0 {
            found.push(option, "must be between 1 and 65535 (got 0)");
        }
    }
    let users = [
        ("user", Some(options.user.as_str())),
        ("installed_user", options.installed_user.as_deref()),
    ];
    for (option, user) in users {
        let odd = |c: char| c.is_whitespace() || c.is_control() || "@:/\"'\\".contains(c);
        if let Some(user) = user
            && (user.is_empty() || user.starts_with('-') || user.contains(odd))
        {
            found.push(option, format!("must be a user's name only (got {user:?})"));
        }
    }
    for (option, keys) in [
        ("host_keys", &options.host_keys),
        ("installed_host_keys", &options.installed_host_keys),
    ] {
        for key in keys {
            if let Err(error) = key.parse::<PublicKey>() {
                found.push(option, error.to_string());
            }
        }
    }
    if let Err(mistakes) = jump(options) {
        for (option, problem) in mistakes {
            found.push(option, problem);
        }
    }
    login_keys(options, found);
}

pub(super) fn login_keys(options: &Options, found: &mut Found) {
    if matches!(options.state, State::Built | State::Installed)
        && options.host.is_some()
        && options.private_key_file.is_none()
        && std::env::var_os("SSH_AUTH_SOCK").is_none()
    {
        found.add(
            "private_key_file",
            "is required, because no SSH agent is running (SSH_AUTH_SOCK is not set)",
            FailureKind::PrivateKey,
            false,
        );
    }
    for (option, path) in [
        ("private_key_file", &options.private_key_file),
        (
            "installed_private_key_file",
            &options.installed_private_key_file,
        ),
    ] {
        let Some(path) = path else { continue };
        let problem = match file(path) {
            Some(problem) => Some(problem),
            None => match Identity::File(path.clone()).check() {
                Err(guest_ssh::Error::Identity { reason, .. }) => {
                    Some(format!("{}: {reason}", named(path)))
                }
                _ => loads(path, options).err(),
            },
        };
        if let Some(problem) = problem {
            found.add(option, problem, FailureKind::PrivateKey, false);
        }
    }
}

/// Whether ssh-keygen can load the key, as nixos-anywhere has it do. It reads a pipe, since it
/// refuses a file that others may read, which the copy for nixos-anywhere is not.
fn loads(path: &Path, options: &Options) -> Result<(), String> {
    if !matches!(options.state, State::Built | State::Installed) {
        return Ok(());
    }
    let directories = tools::directories(options.tools_path.as_deref());
    // A missing program is a mistake of its own.
    let Ok(keygen) = tools::find(Path::new("ssh-keygen"), &directories) else {
        return Ok(());
    };
    let fail = |reason: String| Err(format!("{}: {reason}", named(path)));
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) => return fail(error.to_string()),
    };
    let child = Command::new(keygen)
        .args(["-y", "-P", "", "-f", "/dev/stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else { return Ok(()) };
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read its input has ended, with a status that says so.
        let _ = stdin.write_all(&text);
    }
    match child.wait_with_output() {
        Ok(output) if !output.status.success() => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let reason = stderr.lines().next().unwrap_or_default().trim();
            let reason = reason.trim_start_matches("Load key \"/dev/stdin\": ");
            fail(format!("ssh-keygen cannot load it ({reason:?})"))
        }
        _ => Ok(()),
    }
}
