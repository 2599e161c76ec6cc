//! The host keys that the role recorded on this controller.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::names;
use crate::options::Options;

/// The largest file that is read. The role writes a few lines.
const LARGEST: u64 = 1 << 20;

/// What `ansible_ssh_common_args` is for the host that the role calls `host`, if the role recorded its key here.
pub fn ssh_arguments(options: &Options, host: &str) -> Option<String> {
    // It becomes a part of a path and an argument of ssh, and whoever may edit the VM's notes or name chooses it.
    if !options.known_hosts || !is_component(host) {
        return None;
    }
    let path = options.state_root()?.join(host).join("known_hosts");
    let mut text = String::new();
    let file = File::open(&path)
        .ok()
        .filter(|file| file.metadata().is_ok_and(|meta| meta.is_file()))?;
    file.take(LARGEST).read_to_string(&mut text).ok()?;
    // The role adds the host's name where its address may change.
    let alias = text
        .lines()
        .any(|line| line.split_whitespace().next() == Some(host));
    arguments(&path, alias.then_some(host))
}

/// Whether the text is a name of the role's hosts that is safe here; Ansible itself allows more.
fn is_component(host: &str) -> bool {
    names::is_safe(&host.replace('_', "-"))
}

/// Whether the path can be passed to ssh and Ansible.
pub fn is_for_ssh(path: &Path) -> bool {
    let is_plain = |c: char| !c.is_control() && !matches!(c, '"' | '\'' | '\\' | '$');
    path.to_str().is_some_and(|path| path.chars().all(is_plain))
}

/// ssh splits the list of files at blanks and replaces `%`; Ansible splits the arguments as a shell does.
fn arguments(path: &Path, alias: Option<&str>) -> Option<String> {
    let path = path.to_str().filter(|_| is_for_ssh(path))?;
    let mut made = format!(
        "-o 'UserKnownHostsFile=\"{}\"' -o StrictHostKeyChecking=yes",
        path.replace('%', "%%")
    );
    if let Some(alias) = alias {
        made.push_str(&format!(" -o HostKeyAlias={alias}"));
    }
    Some(made)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_recorded_key_is_asked_for() {
        let root = tempfile::tempdir().unwrap();
        let state = root.path().to_str().unwrap().to_owned();
        let options = crate::options::given(json!({"state_root": state}));
        for (host, text) in [
            ("web1", "192.0.2.11 ssh-ed25519 AAAA\n"),
            (
                "dhcp_1",
                "192.0.2.12 ssh-ed25519 AAAA\ndhcp_1 ssh-ed25519 AAAA\n",
            ),
        ] {
            fs::create_dir(root.path().join(host)).unwrap();
            fs::write(root.path().join(host).join("known_hosts"), text).unwrap();
        }
        fs::write(root.path().join("known_hosts"), "x").unwrap();
        let strict = |host: &str| {
            format!(
                "-o 'UserKnownHostsFile=\"{state}/{host}/known_hosts\"' -o StrictHostKeyChecking=yes"
            )
        };
        assert_eq!(ssh_arguments(&options, "web1"), Some(strict("web1")));
        assert_eq!(
            ssh_arguments(&options, "dhcp_1"),
            Some(strict("dhcp_1") + " -o HostKeyAlias=dhcp_1")
        );
        for none in ["web2", "", ".", "..", "../web1", "web1/.", "-x"] {
            assert_eq!(ssh_arguments(&options, none), None, "{none}");
        }
        let off = crate::options::given(json!({"state_root": state, "known_hosts": false}));
        assert_eq!(ssh_arguments(&off, "web1"), None);
    }

    #[test]
    fn a_path_is_one_argument() {
        let quoted = arguments(Path::new("/a b/50%/web1/known_hosts"), None).unwrap();
        assert!(
            quoted.starts_with("-o 'UserKnownHostsFile=\"/a b/50%%/web1/known_hosts\"' "),
            "{quoted}"
        );
        assert_eq!(arguments(Path::new("/a'b/known_hosts"), None), None);
    }
}
