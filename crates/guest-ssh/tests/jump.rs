//! Through real OpenSSH servers on loopback.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use deadline::Deadline;
use guest_ssh::{
    Connection, Error, Identity, Jump, JumpProblem, Kind, Label, Login, Patience, System, Target,
    greets, wait_for,
};
use module_lab::sshd::{INSTALLER, Sshd, free_port, keygen};

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

/// The jump hosts, known and let in. They share the first one's login.
fn jump(hops: &[&Sshd]) -> Jump {
    let text: Vec<String> = hops.iter().map(|hop| hop.as_jump_host()).collect();
    let keys: Vec<String> = hops
        .iter()
        .map(|hop| format!("[127.0.0.1]:{} {}", hop.port, hop.host_key("ed25519")))
        .collect();
    let mut jump = Jump::parse(&text.join(","))
        .unwrap()
        .with_keys(&keys)
        .unwrap();
    for hop in &hops[1..] {
        std::fs::copy(hops[0].path("client.pub"), hop.path("authorized_keys")).unwrap();
    }
    jump.identity = Some(hops[0].client_key());
    jump
}

fn target(guest: &Sshd, jump: Jump) -> Target {
    Target {
        host: "127.0.0.1".into(),
        port: guest.port,
        jump: Some(jump),
        systems: vec![System {
            label: Label::Installer,
            keys: vec![guest.host_key("ed25519").parse().unwrap()],
            login: Login {
                user: guest.user.clone(),
                identity: Identity::File(guest.client_key()),
            },
        }],
    }
}

/// What is wrong at a jump host, with the text of the error.
async fn problem(target: &Target) -> (JumpProblem, String) {
    match Connection::open(target, &soon()).await {
        Err(Error::Jump(error)) => {
            let text = error.to_string();
            assert!(text.len() < 1000, "{text}");
            (error.problem, text)
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was connected"),
    }
}

fn fingerprint(public: &std::path::Path) -> String {
    let text = std::fs::read_to_string(public).unwrap();
    text.parse::<guest_ssh::PublicKey>().unwrap().fingerprint()
}

/// How many processes have this text in their command lines.
fn processes(text: &str) -> usize {
    let output = Command::new("pgrep")
        .args(["-fc", "--", text])
        .output()
        .unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

#[tokio::test]
async fn a_guest_is_reached_through_a_jump_host() {
    let (hop, guest) = (Sshd::jump_host(""), Sshd::start(INSTALLER));
    let target = target(&guest, jump(&[&hop]));
    let connection = Connection::open(&target, &soon()).await.unwrap();
    let found = connection.identify(&soon()).await.unwrap();
    assert_eq!(
        (found.kind, found.host_key),
        (Kind::Installer, Label::Installer)
    );
    // More than any buffer on the way, in both directions.
    let input: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let output = connection
        .exec("a test", "cat", &input, &soon())
        .await
        .unwrap();
    assert!(output.stdout == input);
    assert_eq!(hop.forwarded(), 1);
    // The guest's login key is not offered to the jump host.
    let log = hop.log();
    assert!(log.contains(&fingerprint(&hop.path("client.pub"))), "{log}");
    assert!(
        !log.contains(&fingerprint(&guest.path("client.pub"))),
        "{log}"
    );
    assert_eq!(hop.commands(), "");
    // Its ssh ends with it, and what guards that.
    let own = format!("-p {} -W", hop.port);
    assert_eq!(processes(&own), 2);
    drop(connection);
    assert_eq!(processes(&own), 0);
}

#[tokio::test]
async fn several_jump_hosts_are_gone_through_in_their_order() {
    let (first, second) = (Sshd::jump_host(""), Sshd::jump_host(""));
    let guest = Sshd::start(INSTALLER);
    let target = target(&guest, jump(&[&first, &second]));
    let connection = Connection::open(&target, &soon()).await.unwrap();
    connection.identify(&soon()).await.unwrap();
    assert_eq!((first.forwarded(), second.forwarded()), (1, 1));
    drop(connection);
    // A problem of the second is not blamed on the first.
    let mut unknown = target.clone();
    unknown.jump.as_mut().unwrap().hops[1].keys = vec![guest.host_key("ed25519").parse().unwrap()];
    let (what, text) = problem(&unknown).await;
    assert_eq!(what, JumpProblem::AnotherHostKey, "{text}");
    assert!(
        text.contains(&format!("jump host {}:", second.as_jump_host())),
        "{text}"
    );
    let mut closed = target.clone();
    closed.jump.as_mut().unwrap().hops[1].port = Some(free_port());
    let (what, text) = problem(&closed).await;
    assert_eq!(what, JumpProblem::Beyond, "{text}");
    assert!(
        text.starts_with(&format!(
            "jump host {}: cannot connect to jump host ",
            first.as_jump_host()
        )),
        "{text}"
    );
}

#[tokio::test]
async fn nothing_is_sent_to_a_jump_host_with_another_key() {
    let (hop, guest) = (Sshd::jump_host(""), Sshd::start(INSTALLER));
    let mut target = target(&guest, jump(&[&hop]));
    let known = &mut target.jump.as_mut().unwrap().hops[0].keys;
    known[0] = guest.host_key("ed25519").parse().unwrap();
    let (what, text) = problem(&target).await;
    assert_eq!(what, JumpProblem::AnotherHostKey, "{text}");
    assert!(
        text.contains(&format!(
            "jump host {}: offers another host key",
            hop.as_jump_host()
        )),
        "{text}"
    );
    // Nor to one that nobody knows. The user's own known_hosts has no line of this port.
    known_by_nobody(&mut target);
    let (what, text) = problem(&target).await;
    assert_eq!(what, JumpProblem::HostKey, "{text}");
    assert!(
        text.contains("host key is known for [127.0.0.1]:"),
        "{text}"
    );
    // Waiting does not help.
    let error = wait_for(&target, &soon(), Patience::default(), |_| Ok(()), |_| ()).await;
    assert!(matches!(error.map(|_| ()), Err(Error::Jump(_))));
    assert!(!hop.log().contains("userauth"), "{}", hop.log());
}

fn known_by_nobody(target: &mut Target) {
    target.jump.as_mut().unwrap().hops[0].keys.clear();
}

#[tokio::test]
async fn a_jump_host_that_does_not_help_says_why() {
    let guest = Sshd::start(INSTALLER);
    let stranger = Sshd::jump_host("");
    let mut refused = target(&guest, jump(&[&stranger]));
    keygen(&stranger.path("stranger"), "ed25519");
    refused.jump.as_mut().unwrap().identity = Some(stranger.path("stranger"));
    let (what, text) = problem(&refused).await;
    assert_eq!(what, JumpProblem::Login, "{text}");
    assert!(text.contains("Permission denied (publickey)"), "{text}");

    let closed = Sshd::jump_host("AllowTcpForwarding no\n");
    let (what, text) = problem(&target(&guest, jump(&[&closed]))).await;
    assert_eq!(what, JumpProblem::Forwarding, "{text}");
    assert!(
        text.contains(&format!(
            "refuses to connect to 127.0.0.1 port {}",
            guest.port
        )),
        "{text}"
    );
    assert!(text.contains("administratively prohibited"), "{text}");
    let waited = wait_for(
        &target(&guest, jump(&[&closed])),
        &soon(),
        Patience::default(),
        |_| Ok(()),
        |_| (),
    )
    .await;
    assert!(matches!(waited.map(|_| ()), Err(Error::Jump(_))));

    let mut absent = target(&guest, jump(&[&stranger]));
    absent.jump.as_mut().unwrap().hops[0].port = Some(free_port());
    let (what, text) = problem(&absent).await;
    assert_eq!(what, JumpProblem::Unreachable, "{text}");
    assert!(text.contains("Connection refused"), "{text}");
    assert!(!guest.log().contains("kex:"), "{}", guest.log());
}

#[tokio::test]
async fn a_guest_behind_a_jump_host_is_waited_for() {
    let (hop, guest) = (Sshd::jump_host(""), Sshd::start(INSTALLER));
    let mut target = target(&guest, jump(&[&hop]));
    target.port = free_port();
    let (what, text) = problem(&target).await;
    assert_eq!(what, JumpProblem::Beyond, "{text}");
    assert!(
        text.contains("connect failed: Connection refused"),
        "{text}"
    );
    let deadline = Deadline::after(Duration::from_secs(3));
    let mut heard = Vec::new();
    let gave_up = wait_for(
        &target,
        &deadline,
        Patience::default(),
        |_| Ok(()),
        |reason| heard.push(reason.to_owned()),
    )
    .await;
    assert!(matches!(gave_up.map(|_| ()), Err(Error::GaveUp { .. })));
    assert!(!heard.is_empty());

    // A port that is open and silent.
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    target.port = listener.local_addr().unwrap().port();
    let deadline = Deadline::after(Duration::from_secs(4));
    let silent = Connection::open(&target, &deadline).await.map(|_| ());
    assert!(
        matches!(silent, Err(Error::Banner { .. } | Error::Expired(_))),
        "{silent:?}"
    );

    // A port that is closed at once: the jump host has done its part.
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    target.port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let closed = Connection::open(&target, &soon()).await.map(|_| ());
    assert!(matches!(closed, Err(Error::Banner { .. })), "{closed:?}");

    // Another server is not the guest.
    target.port = hop.port;
    let foreign = Connection::open(&target, &soon()).await.map(|_| ());
    assert!(
        matches!(foreign, Err(Error::WrongKey { .. })),
        "{foreign:?}"
    );
}

#[tokio::test]
async fn a_server_greets_through_a_jump_host() {
    let (hop, guest) = (Sshd::jump_host(""), Sshd::start(INSTALLER));
    let through = jump(&[&hop]);
    assert!(
        greets("127.0.0.1", guest.port, &through, &soon())
            .await
            .unwrap()
    );
    assert!(
        !greets("127.0.0.1", free_port(), &through, &soon())
            .await
            .unwrap()
    );
    let mut unknown = through.clone();
    unknown.hops[0].keys.clear();
    let error = greets("127.0.0.1", guest.port, &unknown, &soon())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Jump(_)), "{error}");
}

/// What `holds_a_connection` needs: jump host, its key, the login's key, the port of the guest.
const HELD: [&str; 4] = ["HELD_HOP", "HELD_KEY", "HELD_IDENTITY", "HELD_PORT"];

/// In a process of its own, which is killed.
#[tokio::test]
#[ignore = "started by another test"]
async fn holds_a_connection() {
    let [hop, key, identity, port] = HELD.map(|name| std::env::var(name).unwrap());
    let mut jump = Jump::parse(&hop).unwrap().with_keys(&[key]).unwrap();
    jump.identity = Some(identity.into());
    // It waits for a greeting that never comes.
    let _ = greets("127.0.0.1", port.parse().unwrap(), &jump, &soon()).await;
}

#[test]
fn a_killed_process_leaves_no_connection() {
    let hop = Sshd::jump_host("");
    // A guest that hangs: it accepts, says nothing, and closes nothing.
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let values = [
        hop.as_jump_host(),
        hop.host_key("ed25519"),
        hop.client_key().display().to_string(),
        port,
    ];
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "holds_a_connection"])
        .envs(HELD.into_iter().zip(values))
        .spawn()
        .unwrap();
    let guest = listener.accept().unwrap();
    let own = format!("-p {} -W", hop.port);
    assert_eq!(processes(&own), 2);
    holder.kill().unwrap();
    holder.wait().unwrap();
    let gone = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        processes(&own) == 0
    });
    assert!(gone);
    drop(guest);
}
