//! What our `ssh` needs to go through jump hosts: a configuration, a file with their keys, and a log for each.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use guest_ssh::{Jump, Place, jump_config, jump_known_hosts, proxy_command};

use crate::commands::tools;

/// The names in the environment that say where the user's own files and agent are. Ours are for the machine alone.
const OF_USER: [&str; 2] = ["HOME", "SSH_AUTH_SOCK"];

/// The files, in the private directory.
pub(crate) struct JumpFiles {
    ssh: PathBuf,
    directory: PathBuf,
}

impl JumpFiles {
    /// Write them.
    pub(crate) fn create(ssh: &Path, directory: &Path, jump: &Jump) -> io::Result<Self> {
        let files = Self {
            ssh: ssh.to_owned(),
            directory: directory.to_owned(),
        };
        fs::write(files.config(), jump_config())?;
        fs::write(files.known_hosts(), jump_known_hosts(jump))?;
        Ok(files)
    }

    /// The `ProxyCommand` of our `ssh`. Programs of the user's `~/.ssh/config` run as the user would run them: an `ssh` of theirs is not ours.
    pub(crate) fn proxy_command(&self, jump: &Jump, directories: &[PathBuf]) -> OsString {
        let assigned = |name: &str, value: &OsStr| {
            let mut word = OsString::from(format!("{name}="));
            word.push(value);
            word
        };
        let mut before: Vec<OsString> = vec!["env".into()];
        before.push(assigned("PATH", &tools::joined(directories)));
        for name in OF_USER {
            if let Some(value) = env::var_os(name) {
                before.push(assigned(name, &value));
            }
        }
        proxy_command(jump, self, before)
    }
}

impl Place for JumpFiles {
    fn program(&self) -> &OsStr {
        self.ssh.as_os_str()
    }

    fn config(&self) -> OsString {
        self.directory.join("jump_ssh_config").into()
    }

    fn known_hosts(&self) -> OsString {
        self.directory.join("jump_known_hosts").into()
    }

    fn log(&self, hop: usize) -> OsString {
        log(&self.directory, hop).into()
    }
}

/// The logs of the jump hosts, in their order.
pub(crate) fn logs(directory: &Path, jump: &Jump) -> Vec<PathBuf> {
    (0..jump.hops.len())
        .map(|hop| log(directory, hop))
        .collect()
}

fn log(directory: &Path, hop: usize) -> PathBuf {
    directory.join(format!("jump-{}.log", hop + 1))
}
