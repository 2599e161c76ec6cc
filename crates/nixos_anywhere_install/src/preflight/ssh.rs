//! The options for ssh.

use crate::options::Options;
use crate::values::jump::{OF_FIRST_CONNECTION, PROXY_JUMP, is_proxy_jump, jump};
use crate::values::settings::{self, NIX};
use crate::values::ssh_options::{SSH_OPTIONS, ssh_option};

use super::Found;

/// Settings for SSH that lead around the machine whose host key is known, and values that
/// nixos-anywhere would hand on in pieces: it splits them at blanks (`NIX_SSHOPTS`), and writes
/// those of the store into a URI.
pub(super) fn ssh_options(options: &Options, found: &mut Found) {
    let option = "ssh_options";
    let jumps = matches!(jump(options), Ok(Some(_)));
    for (name, value) in &options.ssh_options {
        if is_proxy_jump(name) {
            // Checked with the other options of jump hosts.
            continue;
        }
        if name.eq_ignore_ascii_case("ProxyCommand") {
            let problem = "ProxyCommand is not supported, because a command cannot be checked and may reach anything; use jump_host, whose \
                           ~/.ssh/config may have a ProxyCommand";
            found.push(option, problem);
            continue;
        }
        if jumps
            && OF_FIRST_CONNECTION
                .iter()
                .any(|of| of.eq_ignore_ascii_case(name))
        {
            let problem = format!(
                "{name} is not supported with jump_host; set it for the jump host in ~/.ssh/config"
            );
            found.push(option, problem);
            continue;
        }
        if !SSH_OPTIONS
            .iter()
            .any(|(known, _)| known.eq_ignore_ascii_case(name))
        {
            let mut known: Vec<&str> = SSH_OPTIONS.iter().map(|(known, _)| *known).collect();
            known.push(PROXY_JUMP);
            let problem = format!("{name} is not supported (available: {})", known.join(", "));
            found.push(option, problem);
            continue;
        }
        let plain = |c: char| c.is_ascii_graphic() && !"\"'\\".contains(c);
        match ssh_option(name, value) {
            Err(problem) => found.push(option, format!("{name}: {problem}")),
            Ok(value) if value.is_empty() || !value.chars().all(plain) => {
                found.push(
                    option,
                    format!("{name}: must be one plain word (got {value:?})"),
                );
            }
            Ok(_) => {}
        }
    }
    let option = "ssh_store_settings";
    for (name, value) in &options.ssh_store_settings {
        let instead = match name.as_str() {
            "base64-ssh-public-host-key" => Some("the machine's keys are in host_keys"),
            "ssh-key" => Some("the key to log in with is private_key_file"),
            "remote-store" => Some("what is installed goes to the machine's own store"),
            _ => None,
        };
        if let Some(instead) = instead {
            found.push(option, format!("{name} is not supported; {instead}"));
            continue;
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._/:".contains(c);
        if name.is_empty() || !name.chars().all(plain) {
            found.push(option, format!("{name:?} is not the name of a setting"));
        }
        match settings::text(value, &NIX) {
            Err(problem) => found.push(option, format!("{name}: {problem}")),
            Ok(value) if value.is_empty() || !value.chars().all(|c| plain(c) || c == ' ') => {
                let problem =
                    format!("{name}: must have letters, digits and -._/: only (got {value:?})");
                found.push(option, problem);
            }
            Ok(_) => {}
        }
    }
}
