//! The command line that goes through jump hosts.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::hosts::{Hop, Jump};

/// What OpenSSH does at each jump host, whatever `~/.ssh/config` says: the first value counts. It is in a file, since an `ssh` that a
/// `ProxyJump` of `~/.ssh/config` starts for a jump host is given the file, and no other option.
///
/// The host key is known beforehand or refused, also where another connection stands already (`ControlPath`) and on loopback. Nobody is asked
/// anything. Neither the agent nor a display is forwarded, and nothing else is started on either side.
const OPTIONS: [&str; 24] = [
    "StrictHostKeyChecking=yes",
    "NoHostAuthenticationForLocalhost=no",
    "CheckHostIP=no",
    "UpdateHostKeys=no",
    "VerifyHostKeyDNS=no",
    "ControlMaster=no",
    "ControlPath=none",
    "ControlPersist=no",
    "BatchMode=yes",
    "AddKeysToAgent=no",
    "ForwardAgent=no",
    "ForwardX11=no",
    "GSSAPIDelegateCredentials=no",
    "ClearAllForwardings=yes",
    "Tunnel=no",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "RequestTTY=no",
    "ConnectTimeout=15",
    "ConnectionAttempts=1",
    // A jump host that is gone is noticed within a minute and a half.
    "ServerAliveInterval=30",
    "ServerAliveCountMax=3",
    "TCPKeepAlive=yes",
    // Says who has let us in.
    "LogLevel=VERBOSE",
];

/// The destination of a `ProxyCommand`, which ssh puts in.
const TOKENS: &str = "[%h]:%p";

/// The user's own settings, and the computer's, in the order in which ssh reads them. It takes no notice of a file that is missing.
const INCLUDED: [&str; 2] = ["~/.ssh/config", "/etc/ssh/ssh_config"];

/// The configuration of every `ssh` to a jump host.
pub fn config() -> String {
    let included = INCLUDED.map(|file| format!("Include {file}"));
    let lines = OPTIONS
        .into_iter()
        .chain(included.iter().map(String::as_str));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Where the files of one connection are, as `ssh` is told.
pub trait Place {
    /// The `ssh` to run.
    fn program(&self) -> &OsStr;
    /// The file with [`config`].
    fn config(&self) -> OsString;
    /// The file with the known keys of the jump hosts. Each has the name `alias` there. It is asked for only where there are any.
    fn known_hosts(&self) -> OsString;
    /// The file that gets what `ssh` says of the jump host with this index.
    fn log(&self, hop: usize) -> OsString;
}

/// The content of the file of known keys; empty where the user's own counts.
pub fn known_hosts(jump: &Jump) -> String {
    let mut text = String::new();
    for (index, hop) in jump.hops.iter().enumerate() {
        for key in &hop.keys {
            let _ = writeln!(text, "{} {key}", alias(index));
        }
    }
    text
}

/// The name of a jump host in the file of known keys. Its own may be an alias of `~/.ssh/config`.
fn alias(hop: usize) -> String {
    format!("nixos-proxmox-jump-host-{}", hop + 1)
}

/// The words of an `ssh` that connects its standard input and output with `destination`, `HOST:PORT` as `-W` takes it.
///
/// The shell of its `ProxyCommand`, for a second jump host, must be a POSIX shell: `SHELL=/bin/sh`.
pub(super) fn command(jump: &Jump, place: &dyn Place, destination: &OsStr) -> Vec<OsString> {
    up_to(jump, jump.hops.len() - 1, place, destination)
}

/// The value of `ProxyCommand` for an `ssh` to a guest, with words that run the program, such as `env A=B`. The shell of that `ssh` must be a POSIX
/// shell: `SHELL=/bin/sh`.
pub fn proxy_command(jump: &Jump, place: &dyn Place, before: Vec<OsString>) -> OsString {
    let mut words = before;
    words.extend(command(jump, place, OsStr::new(TOKENS)));
    quoted(&words)
}

/// The words up to the jump host with the index `last`.
fn up_to(jump: &Jump, last: usize, place: &dyn Place, destination: &OsStr) -> Vec<OsString> {
    let hop = &jump.hops[last];
    let mut words = vec![place.program().to_owned(), "-F".into(), place.config()];
    for option in special(jump, last, hop, place) {
        words.extend(["-o".into(), option]);
    }
    if last > 0 {
        let mut value = OsString::from("ProxyCommand=");
        // ssh puts in the address that it has found for this jump host.
        value.push(quoted(&up_to(jump, last - 1, place, OsStr::new(TOKENS))));
        words.extend(["-o".into(), value]);
    }
    words.extend(["-E".into(), place.log(last)]);
    if let Some(user) = &hop.user {
        words.extend(["-l".into(), user.into()]);
    }
    if let Some(port) = hop.port {
        words.extend(["-p".into(), port.to_string().into()]);
    }
    words.extend(["-W".into(), destination.to_owned(), "--".into()]);
    words.push((&hop.host).into());
    words
}

/// The options that differ between jump hosts.
fn special(jump: &Jump, index: usize, hop: &Hop, place: &dyn Place) -> Vec<OsString> {
    let mut options = Vec::new();
    if !hop.keys.is_empty() {
        options.push(format!("HostKeyAlias={}", alias(index)).into());
        options.push(path_option("UserKnownHostsFile", &place.known_hosts()));
        options.push("GlobalKnownHostsFile=/dev/null".into());
    }
    if let Some(identity) = &jump.identity {
        options.push(path_option("IdentityFile", identity.as_os_str()));
        options.push("IdentitiesOnly=yes".into());
    }
    options
}

/// An option whose value is a path. ssh expands what begins with a percent sign.
fn path_option(name: &str, path: &OsStr) -> OsString {
    let mut option = OsString::from(format!("{name}=\""));
    option.push(without_tokens(path));
    option.push("\"");
    option
}

/// A text in which ssh finds no token.
fn without_tokens(text: &OsStr) -> OsString {
    let mut plain = Vec::new();
    for byte in text.as_bytes() {
        plain.extend(std::iter::repeat_n(*byte, 1 + usize::from(*byte == b'%')));
    }
    OsString::from_vec(plain)
}

/// Words as the value of `ProxyCommand`: ssh expands tokens in it, and gives it to a shell. The destination, before the last two words, keeps
/// its tokens.
pub(super) fn quoted(words: &[OsString]) -> OsString {
    let destination = words.len().saturating_sub(3);
    let mut text = OsString::new();
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            text.push(" ");
        }
        text.push(match index == destination {
            true => shell_word(word),
            false => shell_word(&without_tokens(word)),
        });
    }
    text
}

/// A word that a POSIX shell reads as exactly this.
pub fn shell_word(word: &OsStr) -> OsString {
    let mut quoted = b"'".to_vec();
    for byte in word.as_bytes() {
        match byte {
            b'\'' => quoted.extend_from_slice(b"'\\''"),
            byte => quoted.push(*byte),
        }
    }
    quoted.push(b'\'');
    OsString::from_vec(quoted)
}
