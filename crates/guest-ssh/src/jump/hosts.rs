//! Jump hosts, as people write them.

use std::fmt;
use std::path::PathBuf;

use crate::{PublicKey, is_ipv6};

/// The most jump hosts in a row.
const MOST: usize = 8;

/// The jump hosts before a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jump {
    /// The first is connected to first. There is at least one.
    pub hops: Vec<Hop>,
    /// The private key to log in to them with. Without it, what the user's `ssh` takes: an agent, `~/.ssh/config`, the default keys.
    pub identity: Option<PathBuf>,
}

/// One jump host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The user to log in as; none for what `ssh` takes.
    pub user: Option<String>,
    /// Host name, address, or an alias of `~/.ssh/config`; an IPv6 address without brackets.
    pub host: String,
    /// The port; none for what `ssh` takes.
    pub port: Option<u16>,
    /// Its public host keys. None: those that the user's known_hosts has.
    pub keys: Vec<PublicKey>,
}

impl Jump {
    /// Read jump hosts as `ProxyJump` takes them: `[USER@]HOST[:PORT]`, several with commas between. IPv6 addresses are in brackets.
    ///
    /// # Errors
    /// What is wrong with the text, for behind the option's name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let hops: Vec<Hop> = text
            .split(',')
            .map(|hop| Hop::parse(hop.trim()))
            .collect::<Result<_, _>>()?;
        if hops.len() > MOST {
            return Err(format!(
                "must be at most {MOST} jump hosts (got {})",
                hops.len()
            ));
        }
        Ok(Self {
            hops,
            identity: None,
        })
    }

    /// Take the host keys of the jump hosts from lines of a known_hosts file, or, for a single jump host, from public keys alone. Empty lines
    /// and comments are left out. With no line at all, the user's known_hosts counts.
    ///
    /// # Errors
    /// What is wrong with the lines, for behind the option's name.
    pub fn with_keys(mut self, lines: &[String]) -> Result<Self, String> {
        let lines: Vec<&str> = lines
            .iter()
            .flat_map(|text| text.lines())
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .collect();
        for line in &lines {
            let (names, key) = self.read_key(line)?;
            for hop in &mut self.hops {
                if names.is_none_or(|names| names.split(',').any(|name| hop.is_called(name))) {
                    hop.keys.push(key.clone());
                }
            }
        }
        match self.hops.iter().find(|hop| hop.keys.is_empty()) {
            Some(hop) if !lines.is_empty() => Err(format!(
                "has no key for {hop}; give its lines of known_hosts, such as {:?}, or leave the option out to use your own known_hosts",
                format!("{} ssh-ed25519 AAAA...", hop.name())
            )),
            _ => Ok(self),
        }
    }

    /// A line: the names before the key, if there are any, and the key.
    fn read_key<'a>(&self, line: &'a str) -> Result<(Option<&'a str>, PublicKey), String> {
        if line.starts_with(['@', '|']) {
            return Err(
                "marked and hashed lines of known_hosts are not supported; write HOST TYPE KEY, or leave the option out to use your own known_hosts"
                    .into(),
            );
        }
        let alone = line.parse::<PublicKey>();
        let named = line.split_once(char::is_whitespace);
        match (alone, named) {
            (Ok(key), _) if self.hops.len() == 1 => Ok((None, key)),
            (Ok(key), _) => Err(format!(
                "with several jump hosts each key needs the name of its host in front, such as {:?} (got the key {} alone)",
                format!("{} {}", self.hops[0].name(), key.algorithm()),
                key.fingerprint()
            )),
            (Err(_), Some((names, key)))
                if !key.trim().is_empty() && !names.starts_with("ssh-") =>
            {
                let key = key
                    .trim()
                    .parse()
                    .map_err(|error: crate::KeyError| error.to_string())?;
                let known = |name: &str| self.hops.iter().any(|hop| hop.is_called(name));
                match names.split(',').any(known) {
                    true => Ok((Some(names), key)),
                    false => Err(format!(
                        "the key of {names:?} belongs to none of the jump hosts {self}"
                    )),
                }
            }
            (Err(error), _) => Err(error.to_string()),
        }
    }
}

/// What is reached from a jump host.
pub(super) fn beyond(jump: &Jump, index: usize, address: &str) -> String {
    let next = jump.hops.get(index + 1);
    next.map_or_else(|| address.to_owned(), |hop| format!("jump host {hop}"))
}

impl fmt::Display for Jump {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, hop) in self.hops.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(out, "{comma}{hop}")?;
        }
        Ok(())
    }
}

impl Hop {
    fn parse(text: &str) -> Result<Self, String> {
        let shown = || match text.rsplit_once('@') {
            // What stands before the @ may have a password.
            Some((user, host)) if user.contains(':') => format!("***@{host}"),
            _ => text.to_owned(),
        };
        let fail = |what: &str| {
            Err(format!(
                "{what} (got {:?}); write [USER@]HOST[:PORT], several with commas between",
                shown()
            ))
        };
        if text.contains("://") {
            return fail("must be a host without a scheme");
        }
        let (user, rest) = match text.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, text),
        };
        let odd = |c: char| !(c.is_ascii_alphanumeric() || "._-+".contains(c));
        if user.is_some_and(|user| user.is_empty() || user.starts_with('-') || user.contains(odd)) {
            return fail("must have a user's name before the @");
        }
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or_default())),
            None => match rest.split_once(':') {
                Some((_, port)) if port.contains(':') => {
                    return fail("must have brackets around an IPv6 address");
                }
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        if !valid(host) {
            return fail("must be a host name or an address");
        }
        let port = match port.map(str::parse::<u16>) {
            None => None,
            Some(Ok(port)) if port > 0 => Some(port),
            Some(_) => return fail("must have a port between 1 and 65535"),
        };
        Ok(Self {
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port,
            keys: Vec::new(),
        })
    }

    /// How known_hosts names it.
    fn name(&self) -> String {
        match self.port {
            None | Some(22) => self.host.clone(),
            Some(port) => format!("[{}]:{port}", self.host),
        }
    }

    fn is_called(&self, name: &str) -> bool {
        let plain = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'));
        name.eq_ignore_ascii_case(&self.name())
            || plain.unwrap_or(name).eq_ignore_ascii_case(&self.host)
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(out, "{user}@")?;
        }
        match self.host.contains(':') {
            true => write!(out, "[{}]", self.host)?,
            false => out.write_str(&self.host)?,
        }
        match self.port {
            Some(port) => write!(out, ":{port}"),
            None => Ok(()),
        }
    }
}

/// Whether `ssh` takes this for a host: a name, an address, or an alias of `~/.ssh/config`. Nothing in it means anything to a shell.
fn valid(host: &str) -> bool {
    if host.contains(':') {
        return is_ipv6(host);
    }
    !host.is_empty()
        && host.len() <= 253
        && !host.starts_with(['-', '.'])
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}
