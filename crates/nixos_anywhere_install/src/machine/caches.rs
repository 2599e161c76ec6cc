//! The binary caches that the installer asks itself.

use std::fmt::Write as _;
use std::time::Duration;

use deadline::Deadline;
use guest_ssh::Connection;

use crate::commands::caches::{Caches, without_secrets};
use crate::options::{BuildOn, Options};

/// Prints Nix's settings; older versions have another command for them. Behind a proxy nothing is printed: it decides there.
const SETTINGS: &str = r#"
[ -z "$http_proxy$https_proxy$all_proxy$HTTP_PROXY$HTTPS_PROXY$ALL_PROXY" ] || exit 0
case $(systemctl show --property=Environment nix-daemon.service 2>/dev/null) in *_proxy=*) exit 0 ;; esac
nix --extra-experimental-features nix-command config show 2>/dev/null ||
  nix --extra-experimental-features nix-command show-config 2>/dev/null
"#;

/// The function `ask INDEX HOST PORT` prints INDEX where the port accepts no connection. A shell that cannot try says nothing.
const ASK: &str = r#"
command -v bash >/dev/null 2>&1 && command -v timeout >/dev/null 2>&1 || exit 0
ask() {
  timeout 3 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$2" "$3" 2>/dev/null || echo "$1"
}
"#;

/// How long the installer may take for both questions. Each connection is waited for as long as the controller waits for its own.
const LIMIT: Duration = Duration::from_secs(15);

/// Most caches that are asked.
const MOST: usize = 20;

/// The caches in the installer's settings that accept no connection from it, without the secrets that their URIs may hold.
/// None where it fetches nothing itself, or does not say.
pub(crate) async fn unreachable(
    connection: &Connection,
    options: &Options,
    deadline: &Deadline,
) -> Vec<String> {
    if !fetches(options) {
        return Vec::new();
    }
    let deadline = deadline.shorter(LIMIT);
    let ask = async |what, script: &str| {
        let answer = connection.exec(what, "exec sh", script.as_bytes(), &deadline);
        answer.await.map(|output| output.text()).unwrap_or_default()
    };
    let settings = ask("the question for its binary caches", SETTINGS).await;
    let caches = Caches::parse(&settings);
    let Some((script, uris)) = script(&caches) else {
        return Vec::new();
    };
    silent(
        &ask("its connections to binary caches", &script).await,
        &uris,
    )
}

/// Whether the installer downloads anything by itself.
fn fetches(options: &Options) -> bool {
    options.substitute_on_destination || options.build_on != BuildOn::Local
}

/// The script that asks all caches at once, and their URIs by index. None if there is no cache to ask.
/// Names with characters that no host has are left out, so that nothing needs to be quoted.
fn script(caches: &Caches) -> Option<(String, Vec<String>)> {
    let plain = |host: &str| {
        let mut bytes = host.bytes();
        !host.starts_with('-')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte))
    };
    let mut script = ASK.to_owned();
    let mut uris = Vec::new();
    for (uri, host, port) in caches.places() {
        if plain(&host) && uris.len() < MOST {
            let _ = writeln!(script, "ask {} {host} {port} &", uris.len());
            uris.push(without_secrets(uri));
        }
    }
    script.push_str("wait\n");
    (!uris.is_empty()).then_some((script, uris))
}

/// The URIs whose indices the script printed.
fn silent(output: &str, uris: &[String]) -> Vec<String> {
    let indices = output.lines().filter_map(|line| line.parse::<usize>().ok());
    let mut silent: Vec<String> = indices
        .filter_map(|index| uris.get(index).cloned())
        .collect();
    silent.sort();
    silent.dedup();
    silent
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;
    use std::process::{Command, Stdio};

    use serde_json::json;

    use super::*;

    fn run(script: &str) -> String {
        let mut child = Command::new("sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(script.as_bytes())
            .unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    }

    fn caches(uris: &str) -> Caches {
        Caches::parse(&format!("substitute = true\nsubstituters = {uris}\n"))
    }

    #[test]
    fn a_cache_that_accepts_no_connection_is_printed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let there = format!("http://127.0.0.1:{}", port(&listener));
        let gone = format!("http://127.0.0.1:{}", port(&closed));
        drop(closed);
        let (script, uris) = script(&caches(&format!("{there} {gone}?token=x"))).unwrap();
        assert_eq!(silent(&run(&script), &uris), [gone]);
    }

    #[test]
    fn only_hosts_stand_in_the_script() {
        assert_eq!(script(&caches("file:///x daemon")), None);
        assert_eq!(
            script(&caches("http://$(reboot) http://a;reboot http://-x")),
            None
        );
        let (text, uris) = script(&caches("https://me:secret@cache.example/x")).unwrap();
        assert!(
            text.ends_with("ask 0 cache.example 443 &\nwait\n"),
            "{text}"
        );
        assert_eq!(uris, ["https://cache.example/x"]);
        let many: Vec<String> = (0..99).map(|number| format!("http://c{number}")).collect();
        assert_eq!(script(&caches(&many.join(" "))).unwrap().1.len(), MOST);
    }

    #[test]
    fn an_answer_of_other_text_names_no_cache() {
        let uris = ["http://a".to_owned()];
        assert_eq!(silent("x\n-1\n7\n", &uris), [] as [String; 0]);
        assert_eq!(silent("0\n0\n", &uris), ["http://a"]);
    }

    #[test]
    fn an_installer_that_gets_everything_from_the_controller_asks_none() {
        for (more, expected) in [
            (json!({}), true),
            (json!({"substitute_on_destination": false}), false),
            (
                json!({"substitute_on_destination": false, "build_on": "remote"}),
                true,
            ),
        ] {
            let options: Options = serde_json::from_value(more).unwrap();
            assert_eq!(fetches(&options), expected);
        }
    }
}
