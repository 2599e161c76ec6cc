use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Command;

use super::command::{Place, command, config, quoted, shell_word};
use super::hosts::*;
use super::problem::JumpProblem;
use super::words::Lines;

const KEY: &str = include_str!("../../tests/data/ed25519.pub");

fn key() -> String {
    let words: Vec<&str> = KEY.split_whitespace().take(2).collect();
    words.join(" ")
}

#[test]
fn jump_hosts_are_read_as_openssh_reads_them() {
    for text in [
        "bastion",
        "me@bastion.example.org",
        "bastion:2222",
        "me@192.0.2.1:2222",
        "[2001:db8::1]",
        "me@[fe80::1%eth0]:22",
        "a,me@b:2222,[::1]",
    ] {
        let jump = Jump::parse(text).unwrap();
        assert_eq!(jump.to_string(), text);
    }
    let jump = Jump::parse("me@[2001:db8::1]:2222, gw").unwrap();
    let [first, second] = &jump.hops[..] else {
        panic!("{jump:?}")
    };
    assert_eq!(
        (first.user.as_deref(), first.host.as_str(), first.port),
        (Some("me"), "2001:db8::1", Some(2222))
    );
    assert_eq!(
        (&second.user, second.host.as_str(), second.port),
        (&None, "gw", None)
    );
}

#[test]
fn what_is_not_a_jump_host_is_refused() {
    for (text, part) in [
        ("", "host name"),
        ("a,", "host name"),
        ("-oProxyCommand=x", "host name"),
        ("a;b", "host name"),
        ("a$(x)", "host name"),
        ("@a", "user's name"),
        ("-l@a", "user's name"),
        ("me@", "host name"),
        ("a:", "port between"),
        ("a:0", "port between"),
        ("a:70000", "port between"),
        ("[::1]x", "port between"),
        ("2001:db8::1", "brackets"),
        ("ssh://a", "scheme"),
        ("none a", "host name"),
        ("a,b,c,d,e,f,g,h,i", "at most 8"),
    ] {
        let problem = Jump::parse(text).unwrap_err();
        assert!(problem.contains(part), "{text}: {problem}");
    }
    let problem = Jump::parse("me:hunter2@a").unwrap_err();
    assert!(!problem.contains("hunter2"), "{problem}");
}

#[test]
fn keys_belong_to_their_jump_hosts() {
    let lines = |lines: &[&str]| {
        lines
            .iter()
            .map(|line| (*line).to_owned())
            .collect::<Vec<_>>()
    };
    let one = Jump::parse("bastion:2222").unwrap();
    for line in [
        key(),
        format!("bastion {}", key()),
        format!("[bastion]:2222,x {} me", key()),
    ] {
        let jump = one
            .clone()
            .with_keys(&lines(&["# mine", "", &line]))
            .unwrap();
        assert_eq!(jump.hops[0].keys.len(), 1, "{line}");
    }
    assert!(one.clone().with_keys(&[]).unwrap().hops[0].keys.is_empty());
    let two = Jump::parse("a,b").unwrap();
    let named = |name: &str| format!("{name} {}", key());
    let jump = two
        .clone()
        .with_keys(&[format!("{}\n{}\n", named("a"), named("b"))])
        .unwrap();
    assert!(jump.hops.iter().all(|hop| hop.keys.len() == 1));
    for (jump, text, part) in [
        (&one, named("other"), "none of the jump hosts bastion:2222"),
        (&one, format!("|1|x= {}", key()), "hashed"),
        (&one, format!("@cert-authority * {}", key()), "marked"),
        (&one, "bastion".to_owned(), "key"),
        (
            &one,
            "-----BEGIN OPENSSH PRIVATE KEY----- hunter2".to_owned(),
            "",
        ),
        (&two, key(), "needs the name"),
        (&two, named("a"), "has no key for b"),
    ] {
        let problem = jump.clone().with_keys(&[text]).unwrap_err();
        assert!(problem.contains(part), "{problem}");
        assert!(!problem.contains("hunter2"), "{problem}");
    }
}

/// Files at a place whose name has everything that a shell or ssh takes for something else.
struct Odd(PathBuf);

impl Place for Odd {
    fn program(&self) -> &OsStr {
        OsStr::new("ssh")
    }

    fn config(&self) -> OsString {
        self.0.join("config").into()
    }

    fn known_hosts(&self) -> OsString {
        self.0.join("known_hosts").into()
    }

    fn log(&self, hop: usize) -> OsString {
        format!("/dev/null/{hop}").into()
    }
}

/// The real ssh says what it makes of the words.
fn settings(words: &[OsString]) -> String {
    let output = Command::new(&words[0])
        .arg("-G")
        .args(
            words[1..]
                .iter()
                .filter(|word| *word != "-E" && !word.to_string_lossy().starts_with("/dev/null/")),
        )
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_jump_host_is_checked_whatever_else_is_configured() {
    let mut jump = Jump::parse("me@a:2201,b,c").unwrap();
    jump.identity = Some("/keys/a b".into());
    for hop in &mut jump.hops {
        hop.keys.push(KEY.parse().unwrap());
    }
    let directory = tempfile::tempdir().unwrap();
    let odd = Odd(directory.path().join("a 'b' %h"));
    std::fs::create_dir(&odd.0).unwrap();
    std::fs::write(odd.config(), config()).unwrap();
    let mut words = command(&jump, &odd, OsStr::new("192.0.2.1:22"));
    for name in [Some("c"), Some("b"), Some("a"), None] {
        let Some(name) = name else { break };
        let text = settings(&words);
        let index = usize::from(name.as_bytes()[0] - b'a');
        for line in [
            "stricthostkeychecking true".to_owned(),
            "batchmode yes".to_owned(),
            "forwardagent no".to_owned(),
            "controlmaster false".to_owned(),
            "permitlocalcommand no".to_owned(),
            "globalknownhostsfile /dev/null".to_owned(),
            format!("hostkeyalias nixos-proxmox-jump-host-{}", index + 1),
            "identityfile /keys/a b".to_owned(),
            "identitiesonly yes".to_owned(),
            format!("host {name}"),
            format!("port {}", if name == "a" { 2201 } else { 22 }),
        ] {
            assert!(text.lines().any(|l| l == line), "{name}: {line}\n{text}");
        }
        let known = text
            .lines()
            .find(|line| line.starts_with("userknownhostsfile "))
            .unwrap();
        assert_eq!(
            known,
            format!("userknownhostsfile {}", odd.known_hosts().display())
        );
        assert_eq!(text.lines().any(|line| line == "user me"), name == "a");
        let proxy = text
            .lines()
            .find_map(|line| line.strip_prefix("proxycommand "));
        if name == "a" {
            assert_eq!(proxy, None);
            break;
        }
        // As ssh expands it and a shell reads it.
        let expanded = proxy
            .unwrap()
            .replace("%%", "\0")
            .replace("%h", name)
            .replace("%p", "22")
            .replace('\0', "%");
        let output = Command::new("sh")
            .arg("-c")
            .arg(format!("printf '%s\\n' {expanded}"))
            .output()
            .unwrap();
        words = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(OsString::from)
            .collect();
        assert!(words.contains(&format!("[{name}]:22").into()), "{words:?}");
    }
}

#[test]
fn words_survive_ssh_and_a_shell() {
    let words: Vec<OsString> = ["a b", "it's", "%h", "$x", "[%h]:%p", "--", "host"]
        .map(OsString::from)
        .into();
    let text = quoted(&words);
    assert_eq!(
        text.to_str().unwrap(),
        r"'a b' 'it'\''s' '%%h' '$x' '[%h]:%p' '--' 'host'"
    );
    assert_eq!(shell_word(OsStr::new("")), "''");
}

#[test]
fn what_ssh_says_is_understood() {
    use JumpProblem::*;
    for (text, expected, said) in [
        (
            "No ED25519 host key is known for b and you have requested strict checking.\r\nHost key verification failed.\r\n",
            Some(HostKey),
            "No ED25519 host key is known for b and you have requested strict checking.; Host key verification failed.",
        ),
        (
            "@@@@@@@@\r\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\n@@@@@@@@\r\nHost key verification failed.\r\n",
            Some(AnotherHostKey),
            "Host key verification failed.",
        ),
        (
            "me@b: Permission denied (publickey).\r\n",
            Some(Login),
            "me@b: Permission denied (publickey).",
        ),
        (
            "Authenticated to b ([::1]:22) using \"publickey\".\r\nchannel 0: open failed: administratively prohibited: open failed\r\nstdio forwarding failed\r\n",
            Some(Forwarding),
            "channel 0: open failed: administratively prohibited: open failed",
        ),
        (
            "channel 0: open failed: connect failed: Connection refused\r\n",
            Some(Beyond),
            "channel 0: open failed: connect failed: Connection refused",
        ),
        (
            "ssh: connect to host b port 22: No route to host\r\n",
            Some(Unreachable),
            "ssh: connect to host b port 22: No route to host",
        ),
        (
            "ssh: Could not resolve hostname b: Name or service not known\r\n",
            Some(Unreachable),
            "ssh: Could not resolve hostname b: Name or service not known",
        ),
        (
            "kex_exchange_identification: Connection closed by remote host\r\n",
            Some(Failed),
            "kex_exchange_identification: Connection closed by remote host",
        ),
        // A server's words.
        (
            "Received disconnect from ::1 port 22:11: Host key verification failed.\r\n",
            Some(Failed),
            "Received disconnect from ::1 port 22:11: Host key verification failed.",
        ),
        ("x\u{1b}[31my\u{7}\n", None, "x[31my"),
        (
            "Authenticated to b ([::1]:22) using \"publickey\".\r\n",
            None,
            "",
        ),
    ] {
        let mut lines = Lines::default();
        lines.push(text.as_bytes());
        assert_eq!(lines.problem(), expected, "{text}");
        assert_eq!(lines.said(), said, "{text}");
    }
    let mut lines = Lines::default();
    for _ in 0..100_000 {
        lines.push(b"Connection closed by x\n");
    }
    lines.push(&[b'x'; 1_000_000]);
    assert!(lines.said().len() < 1000);
}
