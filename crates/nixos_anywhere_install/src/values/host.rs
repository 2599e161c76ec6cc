//! The option `host`, as people write it.

use std::net::{Ipv4Addr, Ipv6Addr};

use guest_ssh::is_ipv6;

/// An IPv6 address as ssh's USER@HOST takes it: without brackets.
pub(crate) fn bracketless(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

/// The host as nixos-anywhere and Nix are given it. An IPv6 address goes by a name, of which our ssh knows the address: both make the
/// host a part of a URL. nixos-anywhere leaves out the brackets, without which Nix 2.31 refuses an address (NixOS/nix#13937), and
/// several versions of Nix refuse a zone (NixOS/nix#4490).
pub(crate) fn destination(host: &str) -> String {
    let host = bracketless(host);
    match host.contains(':') {
        // No DNS has it, in case that another ssh is used.
        true => format!(
            "ipv6-{}.invalid",
            host.to_lowercase().replace([':', '%'], "-")
        ),
        false => host.to_owned(),
    }
}

/// What is wrong with `host`, and what to write instead; none when it is a name or an address.
pub fn problem(host: &str) -> Option<String> {
    if let Some((address, zone)) = bracketless(host).split_once("%25")
        && address.parse::<Ipv6Addr>().is_ok()
        && !zone.is_empty()
    {
        return Some(format!(
            "must have its zone behind % only (got {host:?}); write host: {address}%{zone}"
        ));
    }
    let parts = Parts::of(host);
    let shown = match parts.password {
        true => host.replacen(parts.between(host), "***", 1),
        false => host.to_owned(),
    };
    if !parts.plain(host) && valid(parts.name) {
        let mut instead = Vec::new();
        if let Some(user) = parts.user {
            instead.push(format!("user: {user}"));
        }
        instead.push(format!("host: {}", parts.name));
        if let Some(port) = parts.port {
            instead.push(format!("port: {port}"));
        }
        let instead = match instead.split_last() {
            Some((last, [])) => last.clone(),
            Some((last, others)) => format!("{} and {last}", others.join(", ")),
            None => String::new(),
        };
        return Some(format!(
            "must be a host name or an address only (got {shown:?}); write {instead}"
        ));
    }
    (!valid(bracketless(host)))
        .then(|| format!("must be a host name or an address (got {shown:?})"))
}

/// The parts of what may be a URL, `USER@HOST:PORT` or an address with a prefix length.
struct Parts<'a> {
    user: Option<&'a str>,
    /// Whether a password stands between the user and the host.
    password: bool,
    name: &'a str,
    port: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(host: &'a str) -> Self {
        let rest = host.trim();
        let rest = rest.split_once("://").map_or(rest, |(_, rest)| rest);
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, rest),
        };
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, password) = match user.map(|user| user.split_once(':').ok_or(user)) {
            Some(Ok((user, _))) => (Some(user), true),
            Some(Err(user)) => (Some(user), false),
            None => (None, false),
        };
        let number = |port: &&str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let (name, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((name, port)) => (name, port.strip_prefix(':').filter(number)),
            None => match rest.split_once(':') {
                Some((name, port)) if number(&port) && !name.is_empty() => (name, Some(port)),
                _ => (rest, None),
            },
        };
        Self {
            user: user.filter(|user| !user.is_empty()),
            password,
            name,
            port,
        }
    }

    /// Whether `host` is the name or address and nothing else.
    fn plain(&self, host: &str) -> bool {
        bracketless(host) == self.name
    }

    /// The password, with what separates it from the user.
    fn between<'b>(&self, host: &'b str) -> &'b str {
        let Some((before, _)) = host.rsplit_once('@') else {
            return "";
        };
        let start = before.find("://").map_or(0, |at| at + 3);
        before[start..]
            .split_once(':')
            .map_or("", |(_, password)| password)
    }
}

/// Whether this is a name or an address that ssh takes.
fn valid(name: &str) -> bool {
    if name.contains(':') {
        return is_ipv6(name);
    }
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if name.split('.').all(number) {
        return name.parse::<Ipv4Addr>().is_ok();
    }
    !name.is_empty()
        && name.len() <= 253
        && !name.starts_with(['-', '.'])
        && !name.contains("..")
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || "._-".contains(c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_people_write_is_answered_with_what_to_write() {
        for host in [
            "web1",
            "web1.example.org",
            "web1.example.org.",
            "web_1",
            "192.0.2.11",
            "2001:db8::1",
            "[2001:db8::1]",
            "::1",
            "fe80::1%eth0",
        ] {
            assert_eq!(problem(host), None, "{host}");
        }
        for (host, instead) in [
            ("root@127.0.0.1", "write user: root and host: 127.0.0.1"),
            ("web1:2222", "write host: web1 and port: 2222"),
            ("[2001:db8::1]:22", "write host: 2001:db8::1 and port: 22"),
            (
                "root@[2001:db8::1]",
                "write user: root and host: 2001:db8::1",
            ),
            ("root@2001:db8::1", "write user: root and host: 2001:db8::1"),
            (
                "ssh://nixos@web1:2222/",
                "write user: nixos, host: web1 and port: 2222",
            ),
            ("ssh://web1", "write host: web1"),
            ("https://web1/", "write host: web1"),
            ("192.0.2.11/24", "write host: 192.0.2.11"),
            ("2001:db8::1/64", "write host: 2001:db8::1"),
            ("web1\n", "write host: web1"),
            (" web1", "write host: web1"),
            ("@web1", "write host: web1"),
            ("fe80::1%25eth0", "write host: fe80::1%eth0"),
            ("[fe80::1%25eth0]", "write host: fe80::1%eth0"),
        ] {
            let problem = problem(host).unwrap();
            assert!(problem.ends_with(instead), "{host}: {problem}");
        }
        for host in [
            "",
            "-oProxyCommand=x",
            "a b",
            "192.0.2.300",
            "192.0.2",
            "::g",
            "web1:",
            "['web1']",
            "root@",
            "a..b",
            "{{ host }}",
            "2001:db8::1%",
            "web1,web2",
        ] {
            let problem = problem(host).unwrap();
            assert!(!problem.contains("write"), "{host}: {problem}");
        }
    }

    #[test]
    fn an_ipv6_address_goes_by_a_name() {
        for (host, name) in [
            ("web1", "web1"),
            ("192.0.2.11", "192.0.2.11"),
            ("2001:DB8::1", "ipv6-2001-db8--1.invalid"),
            ("[::1]", "ipv6---1.invalid"),
            ("fe80::1%eth0", "ipv6-fe80--1-eth0.invalid"),
        ] {
            assert_eq!(destination(host), name);
        }
    }

    #[test]
    fn a_password_in_it_is_not_repeated() {
        for host in [
            "root:hunter2@web1",
            "ssh://root:hunter2@web1:22",
            "root:hunter2@a b",
        ] {
            let problem = problem(host).unwrap();
            assert!(!problem.contains("hunter2"), "{problem}");
        }
        let problem = problem("root:hunter2@web1").unwrap();
        assert!(
            problem.ends_with("write user: root and host: web1"),
            "{problem}"
        );
    }

    proptest! {
        #[test]
        fn any_user_and_port_are_split_off(user in "[a-z][a-z0-9]{0,8}", name in "[a-z][a-z0-9-]{0,10}(\\.[a-z]{1,5})?", port in 1u16..) {
            let problem = problem(&format!("{user}@{name}:{port}")).unwrap();
            let instead = format!("write user: {user}, host: {name} and port: {port}");
            prop_assert!(problem.ends_with(&instead), "{}", problem);
        }

        #[test]
        fn any_text_is_answered(text in any::<String>()) {
            let _ = problem(&text);
        }
    }
}
