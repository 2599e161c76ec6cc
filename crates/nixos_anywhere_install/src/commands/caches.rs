//! The binary caches that Nix asks, and how long it waits for one that does not answer.

use std::collections::BTreeSet;
use std::env;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::options::Options;

/// How long a cache may take to accept a connection before a warning names it.
const PATIENCE: Duration = Duration::from_secs(3);

/// Seconds that Nix waits for a connection, where nobody said how long. Its own default is 15, five
/// times for each cache and each command; older ones have 0, which leaves it to curl and is longer.
const CONNECT_TIMEOUT: u64 = 5;

/// Values of connect-timeout that are defaults of Nix.
const DEFAULTS: [u64; 2] = [0, 15];

/// What `nix config show` says of binary caches.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Caches {
    /// Their store URIs.
    pub(crate) uris: BTreeSet<String>,
    pub(crate) connect_timeout: Option<u64>,
    /// Whether any is asked.
    pub(crate) substitute: bool,
}

impl Caches {
    /// Read the output of `nix config show`.
    pub(crate) fn parse(text: &str) -> Self {
        let value = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(" ="));
            lines
                .find(|(found, _)| *found == name)
                .map(|(_, value)| value.trim())
        };
        Self {
            uris: value("substituters")
                .unwrap_or_default()
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
            connect_timeout: value("connect-timeout").and_then(|value| value.parse().ok()),
            substitute: value("substitute") != Some("false"),
        }
    }

    /// The host and port of each cache that Nix reaches over HTTP.
    pub(crate) fn places(&self) -> Vec<(&str, String, u16)> {
        self.uris
            .iter()
            .filter(|_| self.substitute)
            .filter_map(|uri| host_and_port(uri).map(|(host, port)| (uri.as_str(), host, port)))
            .collect()
    }

    /// The caches that accept no connection, without the secrets that their URIs may hold. None where a proxy reaches them.
    pub(crate) async fn unreachable(&self) -> Vec<String> {
        let proxied = ["http_proxy", "https_proxy", "all_proxy"]
            .iter()
            .any(|name| {
                env::var_os(name)
                    .or_else(|| env::var_os(name.to_uppercase()))
                    .is_some()
            });
        if proxied {
            return Vec::new();
        }
        let mut asked = JoinSet::new();
        for (uri, host, port) in self.places() {
            let uri = without_secrets(uri);
            asked.spawn(async move {
                let connection = TcpStream::connect((host.as_str(), port));
                match timeout(PATIENCE, connection).await {
                    Ok(Ok(_)) => None,
                    _ => Some(uri),
                }
            });
        }
        let mut silent: Vec<String> = asked.join_all().await.into_iter().flatten().collect();
        silent.sort();
        silent
    }
}

/// A URI without user, password and parameters.
pub(crate) fn without_secrets(uri: &str) -> String {
    let uri = uri.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = uri.split_once("://") else {
        return uri.to_owned();
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

/// The host and port of the URI of an HTTP cache.
fn host_and_port(uri: &str) -> Option<(String, u16)> {
    let (rest, port) = match uri.split_once("://")? {
        ("http", rest) => (rest, 80),
        ("https", rest) => (rest, 443),
        _ => return None,
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']')? {
            (host, "") => (host, port),
            (host, rest) => (host, rest.strip_prefix(':')?.parse().ok()?),
        },
        None => match authority.split_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (authority, port),
        },
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

/// The `connect-timeout` for Nix: a shorter one than its own, unless one was chosen. A daemon lets every user choose it.
pub(crate) fn connect_timeout(caches: &Caches, options: &Options) -> Option<u64> {
    let chosen = options.nix_options.contains_key("connect-timeout");
    let default = caches
        .connect_timeout
        .is_some_and(|found| DEFAULTS.contains(&found));
    (default && !chosen).then_some(CONNECT_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn caches(timeout: u64, uris: &str) -> Caches {
        Caches::parse(&format!(
            "allow-dirty = true\nconnect-timeout = {timeout}\nsubstitute = true\nsubstituters = {uris}\nx =\n"
        ))
    }

    #[test]
    fn caches_are_read_from_the_settings_of_nix() {
        let found = caches(15, "https://cache.nixos.org/ https://a");
        assert_eq!(found.uris.len(), 2);
        assert_eq!(found.connect_timeout, Some(15));
        assert!(found.substitute);
        let none = Caches::parse("substitute = false\nsubstituters = http://a\n");
        assert_eq!((none.places().len(), none.connect_timeout), (0, None));
        assert_eq!(Caches::parse("").places(), []);
    }

    #[test]
    fn the_place_of_a_cache_is_in_its_uri() {
        for (uri, expected) in [
            ("https://cache.nixos.org/", Some(("cache.nixos.org", 443))),
            ("http://c:8080?priority=1", Some(("c", 8080))),
            ("https://me:pw@c/x@y", Some(("c", 443))),
            ("http://[2001:db8::1]:81/", Some(("2001:db8::1", 81))),
            ("http://[2001:db8::1]", Some(("2001:db8::1", 80))),
            ("s3://bucket", None),
            ("file:///x", None),
            ("daemon", None),
            ("http://", None),
            ("http://c:x", None),
        ] {
            let expected = expected.map(|(host, port)| (host.to_owned(), port));
            assert_eq!(host_and_port(uri), expected, "{uri}");
        }
    }

    #[test]
    fn the_secrets_of_a_cache_are_not_shown() {
        for (uri, shown) in [
            ("https://me:pw@c/x@y?token=1", "https://c/x@y"),
            ("http://c:8080", "http://c:8080"),
            ("https://me@pw@c", "https://c"),
            ("daemon?x=1", "daemon"),
        ] {
            assert_eq!(without_secrets(uri), shown, "{uri}");
        }
    }

    #[test]
    fn only_a_wait_that_nobody_chose_is_shortened() {
        for (found, more, shortened) in [
            (15, json!({}), true),
            (0, json!({}), true),
            (60, json!({}), false),
            (15, json!({"nix_options": {"connect-timeout": 15}}), false),
        ] {
            let options: Options = serde_json::from_value(more).unwrap();
            let timeout = connect_timeout(&caches(found, "http://a"), &options);
            assert_eq!(timeout, shortened.then_some(5), "{found}");
        }
    }

    #[tokio::test]
    async fn a_cache_that_accepts_no_connection_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let there = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let gone = format!("http://127.0.0.1:{}", closed.local_addr().unwrap().port());
        drop(closed);
        let found = caches(15, &format!("{there} {gone}"));
        assert_eq!(found.unreachable().await, [gone]);
    }
}
