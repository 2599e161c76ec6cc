//! The private directory of one installation: our `ssh`, the key's copy, the extra files.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::{env, os::unix::ffi::OsStrExt};

use ansible_module::Failure;
use guest_ssh::{Jump, JumpLog, Target, shell_word};

use crate::commands::tools;
use crate::error::Error;
use crate::files::jump_host;
use crate::files::private::Private;
use crate::files::stage;
use crate::options::Options;
use crate::output::channel::Channel;
use crate::output::jump_channel::JumpChannel;
use crate::plan;
use crate::values::host::{bracketless, destination};

/// The name under which the known keys stand in our known_hosts file, whatever the machine's
/// address and port are (a kexec changes the port).
const ALIAS: &str = "nixos-anywhere-target";

/// The file to which our `ssh` reports.
const CHANNEL: &str = "ssh.log";

/// What nixos-anywhere is given. It is removed when this is dropped.
pub(crate) struct Workspace {
    private: Private,
    /// The copy of the login key.
    pub(crate) key: Option<PathBuf>,
    /// The tree for the installed system.
    pub(crate) extra: Option<PathBuf>,
    ssh: PathBuf,
    /// The jump hosts, with the machine's address for messages.
    jump: Option<(Jump, String)>,
}

impl Workspace {
    /// Make everything that the run needs.
    ///
    /// # Errors
    /// A key or file that cannot be read, or a full disk.
    pub(crate) fn create(
        options: &Options,
        target: &Target,
        directories: &[PathBuf],
    ) -> Result<Self, Failure> {
        let ssh = tools::find(Path::new("ssh"), directories)?;
        let fail = |what: &str, error: io::Error| Error::Workspace {
            what: what.to_owned(),
            error,
        };
        // nixos-anywhere has its temporary directory there, in which Nix builds.
        let builds = options.store_paths.is_none() && !plan::built_here(options);
        let private = Private::create((!builds).then(|| stage::size(options)))
            .map_err(|error| fail("a private temporary directory", error))?;
        let mut workspace = Self {
            private,
            key: None,
            extra: None,
            ssh,
            jump: target.jump.clone().map(|jump| (jump, target.address())),
        };
        workspace
            .directories()
            .map_err(|error| fail("a private temporary directory", error))?;
        workspace
            .ssh_wrapper(target, directories)
            .map_err(|error| fail("the ssh that verifies host keys", error))?;
        if let Some(path) = &options.private_key_file {
            let copy = workspace.path("key");
            copy_private(path, &copy, 0o600)
                .map_err(|error| fail(&format!("the key {}", path.display()), error))?;
            workspace.key = Some(copy);
        }
        if options.extra_files_dir.is_some() || !options.extra_files.is_empty() {
            let tree = workspace.path("files");
            stage::stage(options, &tree).map_err(|(path, error)| fail(&path, error))?;
            workspace.extra = Some(tree);
        }
        Ok(workspace)
    }

    /// The directory that holds it.
    pub(crate) fn private(&self) -> &Private {
        &self.private
    }

    fn path(&self, name: &str) -> PathBuf {
        self.private.path().join(name)
    }

    fn directories(&self) -> io::Result<()> {
        for name in ["bin", "home", "home/.ssh", "tmp"] {
            fs::DirBuilder::new().mode(0o700).create(self.path(name))?;
        }
        // git and curl look for these in HOME, when nixos-anywhere itself fetches a flake.
        if let Some(home) = env::var_os("HOME").map(PathBuf::from) {
            for name in [".gitconfig", ".git-credentials", ".netrc"] {
                if home.join(name).exists() {
                    symlink(home.join(name), self.path("home").join(name))?;
                }
            }
        }
        Ok(())
    }

    /// An `ssh` that verifies the machine's host key, whatever its caller says: nixos-anywhere
    /// turns verification off with `-o`, and ssh takes the first value it is given.
    fn ssh_wrapper(&self, target: &Target, directories: &[PathBuf]) -> io::Result<()> {
        let mut known = String::new();
        for key in target.systems.iter().flat_map(|system| &system.keys) {
            let _ = writeln!(known, "{ALIAS} {key}");
        }
        fs::write(self.path("known_hosts"), known)?;
        let proxy = match &target.jump {
            Some(jump) => {
                let files = jump_host::JumpFiles::create(&self.ssh, self.private.path(), jump)?;
                Some(files.proxy_command(jump, directories))
            }
            None => None,
        };
        let mut script = wrapper(
            &self.ssh,
            &self.path("known_hosts"),
            &self.path(CHANNEL),
            &self.path("tmp"),
            proxy,
        );
        script.extend(host_name(&target.host));
        script.extend_from_slice(CALL.as_bytes());
        fs::write(self.path("bin/ssh"), script)?;
        fs::set_permissions(self.path("bin/ssh"), Permissions::from_mode(0o700))
    }

    /// What our `ssh` reports.
    pub(crate) fn channel(&self) -> Channel {
        Channel::new(self.path(CHANNEL))
    }

    /// What `ssh` reports of the jump hosts, if there are any.
    pub(crate) fn jump_channel(&self) -> Option<JumpChannel> {
        let (jump, address) = self.jump.clone()?;
        let logs = jump_host::logs(self.private.path(), &jump);
        Some(JumpChannel::new(JumpLog::new(jump, address), logs))
    }

    /// The environment for nixos-anywhere: names and their values; none removes a variable.
    ///
    /// HOME and TMPDIR are ours, because ssh-copy-id and nixos-anywhere leave files with keys in
    /// them when they are killed.
    pub(crate) fn environment(
        &self,
        directories: &[PathBuf],
    ) -> Vec<(&'static str, Option<OsString>)> {
        let mut path = vec![self.path("bin")];
        path.extend_from_slice(directories);
        let mut variables = vec![
            ("PATH", Some(tools::joined(&path))),
            ("HOME", Some(self.path("home").into())),
            ("TMPDIR", Some(self.path("tmp").into())),
            // For flakes fetched over SSH from elsewhere: our wrapper knows one machine only.
            ("GIT_SSH_COMMAND", Some(shell_word(self.ssh.as_os_str()))),
            ("SSH_ASKPASS_REQUIRE", Some("never".into())),
            // nixos-anywhere reads these; what it does is to be decided by the options alone.
            ("SSH_PRIVATE_KEY", None),
            ("SSHPASS", None),
            ("copyHostKeys", None),
        ];
        // Keys of an agent would be offered before ours, and too many end the login.
        if self.key.is_some() {
            variables.push(("SSH_AUTH_SOCK", None));
        }
        let home = env::var_os("HOME").map(PathBuf::from);
        for (name, below) in [
            ("XDG_CONFIG_HOME", ".config"),
            ("XDG_CACHE_HOME", ".cache"),
            ("XDG_DATA_HOME", ".local/share"),
            ("XDG_STATE_HOME", ".local/state"),
        ] {
            if env::var_os(name).is_none()
                && let Some(home) = &home
            {
                variables.push((name, Some(home.join(below).into())));
            }
        }
        variables
    }
}

/// The text of our `ssh`. What ssh itself says goes to `channel`. What the machine writes on standard
/// output never reaches that of nixos-anywhere, where phases are read.
fn wrapper(
    ssh: &Path,
    known_hosts: &Path,
    channel: &Path,
    scratch: &Path,
    proxy: Option<OsString>,
) -> Vec<u8> {
    let mut file = OsString::from("UserKnownHostsFile=\"");
    file.push(known_hosts);
    file.push("\"");
    let mut options: Vec<OsString> = vec![
        "StrictHostKeyChecking=yes".into(),
        file,
        "GlobalKnownHostsFile=/dev/null".into(),
        format!("HostKeyAlias={ALIAS}").into(),
        "CheckHostIP=no".into(),
        "UpdateHostKeys=no".into(),
        "VerifyHostKeyDNS=no".into(),
        "BatchMode=yes".into(),
        // What is to run there is on the command line, and nothing runs here.
        "RemoteCommand=none".into(),
        "PermitLocalCommand=no".into(),
        // A machine that dies in the middle of a copy must not hold us until the deadline.
        "ServerAliveInterval=30".into(),
        "ServerAliveCountMax=6".into(),
    ];
    let mut script = b"#!/bin/sh\n".to_vec();
    if let Some(proxy) = proxy {
        let mut option = OsString::from("ProxyCommand=");
        option.push(proxy);
        options.push(option);
        // ssh has it run the command, which is written for this one.
        script.extend_from_slice(b"export SHELL=/bin/sh\n");
    }
    for (name, value) in [("ssh", ssh), ("channel", channel), ("scratch", scratch)] {
        script.extend_from_slice(name.as_bytes());
        script.push(b'=');
        script.extend_from_slice(shell_word(value.as_os_str()).as_bytes());
        script.push(b'\n');
    }
    script.extend_from_slice(PROBE.as_bytes());
    for option in options {
        script.extend_from_slice(b" \\\n  -o ");
        script.extend_from_slice(shell_word(&option).as_bytes());
    }
    script.extend_from_slice(b" \\\n  $alone \"$@\"\n");
    script
}

/// The part of our `ssh` that gives the machine's IPv6 address for its name; nothing for other machines.
fn host_name(host: &str) -> Vec<u8> {
    let name = destination(host);
    let address = bracketless(host);
    if name == address {
        return Vec::new();
    }
    // A zone is behind %, which begins a token in ssh's settings.
    let setting = format!("HostName={}", address.replace('%', "%%"));
    let mut script =
        format!("for word do\n  case $word in\n    {name} | *@{name}) set -- -o ").into_bytes();
    script.extend_from_slice(shell_word(OsStr::new(&setting)).as_bytes());
    script.extend_from_slice(b" \"$@\"; break ;;\n  esac\ndone\n");
    script
}

/// A connection that `~/.ssh/config` shares was perhaps made without our checks, and lasts longer than we do. Who shares one on the command
/// line, as Nix does, shares ours.
const PROBE: &str = r#"probe= alone='-o ControlMaster=no -o ControlPath=none'
for word do
  case $word in
    ControlPath=none) probe=1 ;;
    ControlPath=* | ControlMaster=* | -M* | -S*) alone= ;;
  esac
done
set --"#;

/// ssh-copy-id probes the login and reads what ssh says on standard error; that the login is refused
/// is not a verdict then.
const CALL: &str = r#"if [ -n "$probe" ]; then
  said=$(mktemp "$scratch/ssh.XXXXXX") || exit 255
  "$ssh" -E "$said" "$@"
  status=$?
  grep -v -e 'Permission denied' -e '^debug' "$said" >>"$channel"
  cat "$said" >&2
  rm -f "$said"
  exit "$status"
fi
echo '+ ssh' >>"$channel"
# Only the debug lines tell a connection that was lost from a command that failed.
set -- -o LogLevel=DEBUG1 "$@"
own=$NIXOS_ANYWHERE_INSTALL_STDOUT
if [ -n "$own" ] && [ "$(readlink "/proc/$$/fd/1")" = "$own" ]; then
  exec "$ssh" -E "$channel" "$@" >&2
fi
exec "$ssh" -E "$channel" "$@"
"#;

/// Copy a file; the copy has its mode before it has any content.
fn copy_private(from: &Path, to: &Path, mode: u32) -> io::Result<()> {
    let mut source = fs::File::open(from)?;
    let mut copy = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)?;
    io::copy(&mut source, &mut copy)?;
    copy.set_permissions(Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use serde_json::json;

    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUfO5M4RfBxJuKdQDZ6vHxR0mXwq2l0vCUqk0Xn7W3k";

    fn made(more: serde_json::Value) -> (Workspace, Vec<PathBuf>) {
        let mut options = json!({"host": "h", "host_keys": [KEY]});
        for (key, value) in more.as_object().unwrap() {
            options[key] = value.clone();
        }
        let options: Options = serde_json::from_value(options).unwrap();
        let target = crate::state::target(&options).unwrap();
        let directories = tools::directories(None);
        let workspace = Workspace::create(&options, &target, &directories).unwrap();
        (workspace, directories)
    }

    fn mode_of(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn everything_in_it_is_private_and_goes_with_it() {
        let keys = tempfile::tempdir().unwrap();
        let key = keys.path().join("key");
        fs::write(&key, "secret").unwrap();
        fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
        let (workspace, _) = made(json!({"private_key_file": key}));
        let root = workspace.private().path().to_owned();
        assert_eq!(mode_of(&root), 0o700);
        let copy = workspace.key.clone().unwrap();
        assert_eq!(mode_of(&copy), 0o600);
        assert_eq!(fs::read_to_string(copy).unwrap(), "secret");
        drop(workspace);
        assert!(!root.exists());
    }

    /// Our `ssh`, looked up in the PATH as nixos-anywhere does it.
    fn our_ssh(workspace: &Workspace, directories: &[PathBuf]) -> Command {
        let mut command = Command::new("ssh");
        for (name, value) in workspace.environment(directories) {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// Asks the real ssh what it makes of nixos-anywhere's options through our wrapper.
    #[test]
    fn our_ssh_has_the_last_word_on_host_keys() {
        let (workspace, directories) = made(json!({}));
        let output = our_ssh(&workspace, &directories)
            .args(["-G", "-o", "UserKnownHostsFile=/dev/null"])
            .args(["-o", "StrictHostKeyChecking=no", "root@192.0.2.1"])
            .output()
            .unwrap();
        let settings = String::from_utf8(output.stdout).unwrap();
        let known = workspace.path("known_hosts");
        for line in [
            "stricthostkeychecking true".to_owned(),
            format!("userknownhostsfile {}", known.display()),
            format!("hostkeyalias {ALIAS}"),
        ] {
            assert!(settings.lines().any(|l| l == line), "{line}\n{settings}");
        }
        let known = fs::read_to_string(known).unwrap();
        assert_eq!(known, format!("{ALIAS} {KEY}\n"));
    }

    #[test]
    fn no_connection_of_others_is_shared() {
        let (workspace, directories) = made(json!({}));
        let own = tempfile::tempdir().unwrap();
        let config = own.path().join("config");
        let text = "Host *\nControlMaster auto\nControlPath /tmp/%C\nRemoteCommand id\n";
        fs::write(&config, text).unwrap();
        let asked = |more: &[&str]| {
            let mut command = our_ssh(&workspace, &directories);
            command.args(["-G", "-F"]).arg(&config).args(more);
            let output = command.args(["root@192.0.2.1", "true"]).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let settings = asked(&[]);
        assert!(settings.contains("controlmaster false\n"), "{settings}");
        assert!(!settings.contains("controlpath /tmp/"), "{settings}");
        assert!(!settings.contains("remotecommand"), "{settings}");
        assert!(asked(&["-S", "/tmp/nix"]).contains("controlpath /tmp/nix\n"));
    }

    /// Ours is the only way to the machine, and the user's agent and files are for the jump host.
    #[test]
    fn our_ssh_goes_through_the_jump_host() {
        let (workspace, directories) = made(json!({
            "jump_host": "me@bastion:2222", "jump_host_keys": [KEY], "ssh_options": {"ProxyJump": "me@bastion:2222"},
        }));
        let output = our_ssh(&workspace, &directories)
            .args(["-G", "-o", "ProxyJump=other", "-o", "ProxyCommand=other"])
            .args(["-o", "UserKnownHostsFile=/dev/null", "root@192.0.2.1"])
            .output()
            .unwrap();
        let settings = String::from_utf8(output.stdout).unwrap();
        let line = |name: &str| settings.lines().find_map(|line| line.strip_prefix(name));
        let known = workspace.path("known_hosts").display().to_string();
        assert_eq!(
            line("userknownhostsfile "),
            Some(known.as_str()),
            "{settings}"
        );
        assert_eq!(line("proxyjump "), None, "{settings}");
        let proxy = line("proxycommand ").unwrap();
        let home = std::env::var("HOME").unwrap();
        for part in [
            &format!("'HOME={home}'"),
            &format!("'-F' '{}'", workspace.path("jump_ssh_config").display()),
            "'-l' 'me' '-p' '2222' '-W' '[%h]:%p' '--' 'bastion'",
        ] {
            assert!(proxy.contains(part), "{part}: {proxy}");
        }
        assert!(!proxy.contains(&format!("PATH={}", workspace.path("bin").display())));
        let known = fs::read_to_string(workspace.path("jump_known_hosts")).unwrap();
        assert_eq!(known, format!("nixos-proxmox-jump-host-1 {KEY}\n"));
    }

    #[test]
    fn our_ssh_knows_the_address_of_an_ipv6_machine() {
        for (host, expected) in [
            ("[2001:db8::11]", "2001:db8::11"),
            ("fe80::1%lo", "fe80::1%lo"),
        ] {
            let (workspace, directories) = made(json!({"host": host}));
            let asked = |target: String| {
                let mut command = our_ssh(&workspace, &directories);
                let output = command.args(["-G", &target]).output();
                String::from_utf8(output.unwrap().stdout).unwrap()
            };
            let settings = asked(format!("root@{}", destination(host)));
            assert!(
                settings.contains(&format!("hostname {expected}\n")),
                "{settings}"
            );
            // Another machine, such as one that builds, is no other's address.
            let settings = asked("me@build1.example".into());
            assert!(settings.contains("hostname build1.example\n"), "{settings}");
        }
    }

    #[test]
    fn words_survive_a_shell() {
        let word = "a b'c\"$d\\";
        let output = Command::new("sh")
            .arg("-c")
            .arg(format!(
                "printf %s {}",
                shell_word(word.as_ref()).to_str().unwrap()
            ))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
    }
}
