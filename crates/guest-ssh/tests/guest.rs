//! Against a real OpenSSH server on loopback.

use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use deadline::Deadline;
use guest_ssh::{
    Connection, Error, Identity, Kind, Label, Login, Patience, System, Target, wait_for,
};
use module_lab::sshd::{INSTALLED, INSTALLER, OTHER, Sshd, free_port, keygen, locked_keygen};

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

fn target(sshd: &Sshd, key: &str, identity: PathBuf) -> Target {
    Target {
        host: "127.0.0.1".into(),
        port: sshd.port,
        jump: None,
        systems: vec![System {
            label: Label::Installer,
            keys: vec![key.parse().unwrap()],
            login: Login {
                user: sshd.user.clone(),
                identity: Identity::File(identity),
            },
        }],
    }
}

fn right(sshd: &Sshd) -> Target {
    target(sshd, &sshd.host_key("ed25519"), sshd.client_key())
}

fn another_key(sshd: &Sshd) -> String {
    keygen(&sshd.path("another"), "ed25519");
    std::fs::read_to_string(sshd.path("another.pub")).unwrap()
}

#[tokio::test]
async fn a_guest_says_what_it_is() {
    let sshd = Sshd::start(INSTALLER);
    let connection = Connection::open(&right(&sshd), &soon()).await.unwrap();
    let guest = connection.identify(&soon()).await.unwrap();
    assert_eq!(guest.kind, Kind::Installer);
    assert_eq!(
        (guest.id.as_str(), guest.version.as_str()),
        ("nixos", "26.05")
    );
    assert_eq!(guest.system, None);
    assert_eq!(guest.host_key, Label::Installer);
    assert!(guest.kernel.starts_with("Linux "));

    sshd.set_os_release(INSTALLED);
    sshd.set_current_system("/nix/store/abc-nixos-system-web1");
    let guest = connection.identify(&soon()).await.unwrap();
    assert_eq!(guest.kind, Kind::Installed);
    assert_eq!(
        guest.system.as_deref(),
        Some("/nix/store/abc-nixos-system-web1")
    );

    sshd.set_os_release(OTHER);
    assert_eq!(
        connection.identify(&soon()).await.unwrap().kind,
        Kind::Other
    );
}

#[tokio::test]
async fn nothing_is_sent_to_a_server_with_another_key() {
    let sshd = Sshd::start(INSTALLER);
    let known = another_key(&sshd);
    let error = Connection::open(&target(&sshd, &known, sshd.client_key()), &soon())
        .await
        .map(|_| ())
        .unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::WrongKey { .. }), "{text}");
    for key in [known, sshd.host_key("ed25519")] {
        let key: guest_ssh::PublicKey = key.parse().unwrap();
        assert!(text.contains(&key.fingerprint()), "{text}");
    }
    assert!(!sshd.log().contains("userauth"), "{}", sshd.log());
    assert_eq!(sshd.commands(), "");
}

#[tokio::test]
async fn no_known_key_is_no_connection() {
    let mut target = right(&Sshd::start(INSTALLER));
    target.systems[0].keys.clear();
    let error = Connection::open(&target, &soon())
        .await
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(error, Error::NoKnownKey { .. }), "{error}");
}

#[tokio::test]
async fn a_known_key_of_another_type_is_found() {
    let sshd = Sshd::with_keys(INSTALLER, &["ed25519", "ecdsa"]);
    let mut target = target(&sshd, &another_key(&sshd), sshd.client_key());
    let mut installed = target.systems[0].clone();
    installed.label = Label::Installed;
    installed.keys = vec![sshd.host_key("ecdsa").parse().unwrap()];
    target.systems.push(installed);
    let connection = Connection::open(&target, &soon()).await.unwrap();
    assert_eq!(connection.label(), Label::Installed);
}

#[tokio::test]
async fn each_system_has_its_own_login() {
    let sshd = Sshd::start(INSTALLED);
    keygen(&sshd.path("stranger"), "ed25519");
    let mut target = target(&sshd, &another_key(&sshd), sshd.path("stranger"));
    let mut installed = right(&sshd).systems.remove(0);
    installed.label = Label::Installed;
    target.systems.push(installed);
    let connection = Connection::open(&target, &soon()).await.unwrap();
    assert_eq!(connection.label(), Label::Installed);
}

#[tokio::test]
async fn a_refused_login_is_told_from_a_wrong_server() {
    let sshd = Sshd::start(INSTALLER);
    keygen(&sshd.path("stranger"), "ed25519");
    let target = target(&sshd, &sshd.host_key("ed25519"), sshd.path("stranger"));
    let patience = Patience {
        login: Duration::ZERO,
        ..Patience::default()
    };
    let error = wait_for(&target, &soon(), patience, |_| Ok(()), |_| ())
        .await
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(error, Error::Login { .. }), "{error}");
    assert!(error.to_string().contains("host key verified"), "{error}");
}

#[tokio::test]
async fn a_bad_key_file_is_noticed_before_connecting() {
    let sshd = Sshd::start(INSTALLER);
    let key = sshd.path("locked");
    locked_keygen(&key, "ed25519", "secret");
    for (path, reason) in [
        (key, "passphrase"),
        (sshd.path("absent"), "No such file"),
        (sshd.path("config"), "not a private key"),
    ] {
        let target = target(&sshd, &sshd.host_key("ed25519"), path);
        let error = Connection::open(&target, &soon())
            .await
            .map(|_| ())
            .unwrap_err();
        assert!(matches!(error, Error::Identity { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert!(!sshd.log().contains("kex:"), "{}", sshd.log());
}

#[tokio::test]
async fn rsa_keys_work_on_both_sides() {
    let sshd = Sshd::with_keys(INSTALLER, &["rsa"]);
    keygen(&sshd.path("rsa"), "rsa");
    std::fs::copy(sshd.path("rsa.pub"), sshd.path("authorized_keys")).unwrap();
    let target = target(&sshd, &sshd.host_key("rsa"), sshd.path("rsa"));
    Connection::open(&target, &soon()).await.unwrap();
}

#[tokio::test]
async fn a_command_gets_input_and_gives_output_and_status() {
    let sshd = Sshd::start(INSTALLER);
    let connection = Connection::open(&right(&sshd), &soon()).await.unwrap();
    // More than SSH's window (2 MiB) in each direction, and on both outputs.
    let input: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let copy = sshd.path("input");
    let copy = copy.display();
    let both = format!("cat >{copy}; cat {copy} & cat {copy} >&2; wait; exit 7");
    let output = connection
        .exec("a test", &both, &input, &soon())
        .await
        .unwrap();
    assert_eq!(output.status, Some(7));
    assert!(output.stdout == input && output.stderr == input);

    let output = connection
        .exec("a test", "kill -9 $$", b"", &soon())
        .await
        .unwrap();
    // The second by a login shell that waits for the command.
    assert!(matches!(output.status, None | Some(137)), "{output:?}");
}

/// The highest memory of this process, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak: u64 = peak.unwrap().trim_end_matches("kB").trim().parse().unwrap();
    peak / 1024
}

/// 300 MB took 286 MiB, and a command that never stops writing took all there was.
#[tokio::test]
async fn a_command_that_floods_is_given_up() {
    let sshd = Sshd::start(INSTALLER);
    let connection = Connection::open(&right(&sshd), &soon()).await.unwrap();
    let before = peak();
    for command in ["exec yes", "exec yes >&2", "head -c 300000000 /dev/zero"] {
        let error = connection.exec("the flood", command, b"", &soon()).await;
        println!("{command}: {} MiB more", peak() - before);
        let error = error.map(|output| output.stdout.len()).unwrap_err();
        let said = error.to_string();
        assert!(said.contains("the flood on 127.0.0.1 port"), "{said}");
        assert!(said.contains("more than 4 MiB"), "{said}");
    }
    // Of everything that runs in this process meanwhile.
    assert!(peak() < before + 100, "{} MiB", peak() - before);
    // The connection is still of use.
    let output = connection.exec("a test", "echo a", b"", &soon()).await;
    assert_eq!(output.unwrap().text(), "a\n");
}

#[tokio::test]
async fn an_answer_to_who_it_is_of_any_length_is_no_guest() {
    let sshd = Sshd::start(INSTALLER);
    let long = format!("{INSTALLER}PRETTY_NAME=\"{}\"\n", "x".repeat(10_000_000));
    sshd.set_os_release(&long);
    let connection = Connection::open(&right(&sshd), &soon()).await.unwrap();
    let said = connection.identify(&soon()).await.unwrap_err().to_string();
    assert!(said.contains("more than 64 KiB"), "{said}");
    assert!(said.len() < 500, "{said}");
    // What a person could have written is taken, and shown in part.
    let long = format!("{INSTALLER}PRETTY_NAME=\"{}\"\n", "é".repeat(10_000));
    sshd.set_os_release(&long);
    let guest = connection.identify(&soon()).await.unwrap();
    assert_eq!(guest.kind, Kind::Installer);
    assert!(guest.name.chars().count() < 300 && guest.name.starts_with("ééé"));
}

#[tokio::test]
async fn a_lost_connection_is_no_success() {
    let sshd = Sshd::start(INSTALLER);
    let connection = Connection::open(&right(&sshd), &soon()).await.unwrap();
    // Up the ancestors to the server's process for this session.
    let command = "pid=$$; while [ \"$(cat /proc/$pid/comm)\" != sshd ]; do \
                   pid=$(awk '/^PPid:/ { print $2 }' /proc/$pid/status); done; kill -9 $pid; sleep 2";
    let result = connection.exec("a test", command, b"", &soon()).await;
    assert!(
        !result.as_ref().is_ok_and(guest_ssh::Output::ok),
        "{result:?}"
    );
    assert!(!matches!(result, Err(Error::Expired(_))), "{result:?}");
}

#[tokio::test]
async fn a_command_ends_with_the_deadline() {
    let sshd = Sshd::start(INSTALLER);
    let connection = Connection::open(&right(&sshd), &soon()).await.unwrap();
    let deadline = Deadline::after(Duration::from_secs(2));
    let error = connection
        .exec("the sleep", "sleep 600", b"", &deadline)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Expired(_)), "{error}");
    assert!(error.to_string().contains("the sleep"), "{error}");
}

#[tokio::test]
async fn waiting_ends_when_the_guest_is_what_is_wanted() {
    let sshd = Sshd::start(INSTALLER);
    let wanted = |guest: &guest_ssh::Guest| match guest.kind {
        Kind::Installed => Ok(()),
        kind => Err(format!("it is {kind}")),
    };
    let mut heard = Vec::new();
    let found = wait_for(
        &right(&sshd),
        &soon(),
        Patience::default(),
        wanted,
        |reason| {
            heard.push(reason.to_owned());
            sshd.set_os_release(INSTALLED);
        },
    )
    .await
    .unwrap();
    assert_eq!(found.guest.kind, Kind::Installed);
    assert_eq!(heard, ["it is an installer"]);
}

#[tokio::test]
async fn waiting_says_what_the_last_attempt_met() {
    let sshd = Sshd::start(INSTALLER);
    let mut target = right(&sshd);
    target.port = free_port();
    let deadline = Deadline::after(Duration::from_secs(3));
    let error = wait_for(&target, &deadline, Patience::default(), |_| Ok(()), |_| ())
        .await
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(error, Error::GaveUp { .. }), "{error}");
    assert!(error.to_string().contains("connection refused"), "{error}");

    // A forwarded port whose guest is not there: accepted, then closed.
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    target.port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            drop(stream);
        }
    });
    let error = Connection::open(&target, &soon())
        .await
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(error, Error::Banner { .. }), "{error}");

    // Something that is not SSH.
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    target.port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream
                .unwrap()
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let error = Connection::open(&target, &soon())
        .await
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(error, Error::Handshake { .. }), "{error}");
}

#[tokio::test]
async fn a_wrong_key_ends_the_wait_unless_it_may_change() {
    let sshd = Sshd::start(INSTALLER);
    let target = target(&sshd, &another_key(&sshd), sshd.client_key());
    let error = wait_for(&target, &soon(), Patience::default(), |_| Ok(()), |_| ())
        .await
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(error, Error::WrongKey { .. }), "{error}");

    let patience = Patience {
        key_may_change: true,
        ..Patience::default()
    };
    let deadline = Deadline::after(Duration::from_secs(2));
    let error = wait_for(&target, &deadline, patience, |_| Ok(()), |_| ())
        .await
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(error, Error::GaveUp { .. }), "{error}");
}

/// Nothing listens, which only the address itself can tell.
#[tokio::test]
async fn an_ipv6_address_is_dialled_however_it_is_written() {
    let sshd = Sshd::start(INSTALLER);
    let port = TcpListener::bind("[::1]:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    for host in ["::1", "[::1]", "0:0::0:1"] {
        let target = Target {
            host: host.into(),
            port,
            ..right(&sshd)
        };
        let error = Connection::open(&target, &soon()).await.err().unwrap();
        assert!(matches!(error, Error::Refused { .. }), "{host}: {error}");
    }
}
