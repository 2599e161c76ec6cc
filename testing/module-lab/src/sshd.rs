//! A real OpenSSH server on loopback that plays a guest, for tests.
//!
//! It lets the current user in with one key. A forced command stands between: what is sent to a
//! plain `sh` has the paths that tell a guest (`/etc/os-release`, `/run/current-system`, `/mnt`)
//! replaced by files of the test, and every command is written down.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The os-release of an installer.
pub const INSTALLER: &str = "ID=nixos\nVARIANT_ID=installer\nVERSION_ID=\"26.05\"\n";
/// That of an installed NixOS.
pub const INSTALLED: &str = "ID=nixos\nVERSION_ID=\"26.05\"\nPRETTY_NAME=\"NixOS 26.05\"\n";
/// That of a Debian.
pub const OTHER: &str = "ID=debian\nVERSION_ID=\"12\"\n";

/// What root may be called too, where root runs the tests.
const OTHER_NAME: &str = "installer";

/// A `sudo` that asks for no password, and takes notes.
const SUDO: &str = "#!/bin/sh\n\
    printf 'sudo %s\\n' \"$*\" >>\"${0%/bin/sudo}/commands\"\n\
    [ \"$1\" = -n ] && shift\n\
    exec \"$@\"\n";

/// The server, which ends with this.
pub struct Sshd {
    /// Where it listens on loopback.
    pub port: u16,
    /// The user that may log in: whoever runs the tests.
    pub user: String,
    child: Child,
    dir: tempfile::TempDir,
}

impl Sshd {
    /// A server with one ed25519 host key whose guest has this os-release.
    pub fn start(os_release: &str) -> Self {
        Self::with_keys(os_release, &["ed25519"])
    }

    /// A server whose user is not root. (Where root runs the tests, it is root by another name.)
    pub fn for_another_user(os_release: &str) -> Self {
        let mut sshd = Self::start(os_release);
        if sshd.user == "root" {
            sshd.user = OTHER_NAME.into();
        }
        sshd
    }

    /// A server with host keys of these types.
    pub fn with_keys(os_release: &str, types: &[&str]) -> Self {
        Self::with_config(os_release, types, "")
    }

    /// A server that guests are reached through, with these lines in its configuration.
    pub fn jump_host(more: &str) -> Self {
        Self::with_config(OTHER, &["ed25519"], more)
    }

    fn with_config(os_release: &str, types: &[&str], more: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("sshd.").tempdir().unwrap();
        let path = dir.path();
        fs::write(path.join("os-release"), os_release).unwrap();
        for name in ["bin", "mnt"] {
            fs::create_dir(path.join(name)).unwrap();
        }
        keygen(&path.join("client"), "ed25519");
        fs::copy(path.join("client.pub"), path.join("authorized_keys")).unwrap();
        for type_ in types {
            keygen(&path.join(format!("host_{type_}")), type_);
        }
        executable(&path.join("command"), &forced_command(path));
        executable(&path.join("bin/sudo"), SUDO);
        let mut last = String::new();
        // Another process can take the port between our look and sshd's bind.
        for _ in 0..5 {
            let port = free_port();
            fs::write(path.join("config"), config(path, port, types) + more).unwrap();
            let mut child = spawn(path);
            if answers(port, &mut child) {
                let user = output(Command::new("id").arg("-un"));
                return Self {
                    port,
                    user,
                    child,
                    dir,
                };
            }
            let _ = child.kill();
            let _ = child.wait();
            last = fs::read_to_string(path.join("log")).unwrap_or_default();
        }
        panic!("sshd did not start:\n{last}");
    }

    /// The server as `ProxyJump` takes it.
    pub fn as_jump_host(&self) -> String {
        format!("{}@127.0.0.1:{}", self.user, self.port)
    }

    /// How often it has connected somebody on.
    pub fn forwarded(&self) -> usize {
        self.log().matches("server_request_direct_tcpip: ").count()
    }

    /// A path below the server's own directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The private key that is let in.
    pub fn client_key(&self) -> PathBuf {
        self.path("client")
    }

    /// A public host key, as text.
    pub fn host_key(&self, type_: &str) -> String {
        fs::read_to_string(self.path(&format!("host_{type_}.pub"))).unwrap()
    }

    /// What `/etc/os-release` says from now on.
    pub fn set_os_release(&self, text: &str) {
        fs::write(self.path("os-release"), text).unwrap();
    }

    /// What `/run/current-system` leads to.
    pub fn set_current_system(&self, target: &str) {
        let next = self.path("current-system.new");
        std::os::unix::fs::symlink(target, &next).unwrap();
        fs::rename(next, self.path("current-system")).unwrap();
    }

    /// A command on the guest's PATH.
    pub fn add_command(&self, name: &str, script: &str) {
        executable(&self.path("bin").join(name), script);
    }

    /// The commands that were run, one a line.
    pub fn commands(&self) -> String {
        fs::read_to_string(self.path("commands")).unwrap_or_default()
    }

    /// sshd's own log at level DEBUG1.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A key pair PATH, PATH.pub without a passphrase.
pub fn keygen(path: &Path, type_: &str) {
    locked_keygen(path, type_, "");
}

/// The same with a passphrase.
pub fn locked_keygen(path: &Path, type_: &str, passphrase: &str) {
    let status = Command::new("ssh-keygen")
        .args(["-q", "-N", passphrase, "-C", "test", "-t", type_, "-f"])
        .arg(path)
        .status()
        .expect("ssh-keygen is needed: run scripts/setup.sh test");
    assert!(status.success());
}

/// Write an executable shell script.
pub fn executable(path: &Path, text: &str) {
    // Written by another process: a file that this one has open for writing while another test
    // thread forks cannot be executed ("Text file busy").
    let mut child = Command::new("sh")
        .args(["-c", "cat > \"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// A port on loopback that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn config(path: &Path, port: u16, types: &[&str]) -> String {
    let path = path.display();
    let keys: String = types
        .iter()
        .map(|type_| format!("HostKey {path}/host_{type_}\n"))
        .collect();
    format!(
        "Port {port}\nListenAddress 127.0.0.1\n{keys}UsePAM no\nStrictModes no\nPidFile none\n\
         LogLevel DEBUG1\nAuthorizedKeysFile {path}/authorized_keys\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
         ForceCommand {path}/command\n"
    )
}

fn forced_command(path: &Path) -> String {
    let path = path.display();
    format!(
        "#!/bin/sh\n\
         PATH={path}/bin:/usr/bin:/bin\n\
         printf '%s\\n' \"$SSH_ORIGINAL_COMMAND\" >>{path}/commands\n\
         case $SSH_ORIGINAL_COMMAND in\n\
         'exec sh'|'exec sudo -n sh')\n\
           become=${{SSH_ORIGINAL_COMMAND#exec}}; become=${{become%sh}}\n\
           sed 's#/etc/os-release#{path}/os-release#g; s#/run/current-system#{path}/current-system#g;\n\
             s#/mnt#{path}/mnt#g' >{path}/script.$$\n\
           $become sh {path}/script.$$ ;;\n\
         *) eval \"$SSH_ORIGINAL_COMMAND\" ;;\n\
         esac\n"
    )
}

/// sshd wants to be started by its absolute path, and by root only with /run/sshd and a user
/// `sshd`: those are made in a mount namespace of its own, not on this machine.
fn spawn(path: &Path) -> Child {
    let sshd = program();
    let arguments = [
        "-D",
        "-f",
        &path.join("config").display().to_string(),
        "-E",
        &path.join("log").display().to_string(),
    ]
    .map(str::to_owned);
    let root = output(Command::new("id").arg("-u")) == "0";
    let mut command = if root {
        let script = format!(
            "set -e\n\
             [ -d /run/sshd ] || {{ mount -t tmpfs tmpfs /run; mkdir -m 755 /run/sshd; }}\n\
             cp /etc/passwd {0}/passwd\n\
             grep -q ^sshd: /etc/passwd ||\n\
               echo sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin >>{0}/passwd\n\
             echo {1}:x:0:0::/root:/bin/sh >>{0}/passwd\n\
             mount --bind {0}/passwd /etc/passwd\n\
             exec \"$@\"",
            path.display(),
            OTHER_NAME
        );
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", &script, "sh"])
            .arg(sshd);
        command
    } else {
        Command::new(sshd)
    };
    command
        .args(arguments)
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

fn program() -> PathBuf {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../.cache/packages/openssh-server/usr/sbin/sshd");
    [unpacked, PathBuf::from("/usr/sbin/sshd")]
        .into_iter()
        .find(|path| path.exists())
        .map(|path| path.canonicalize().unwrap())
        .expect("these tests need an OpenSSH server: run scripts/setup.sh test")
}

fn answers(port: u16, child: &mut Child) -> bool {
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(20) {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
