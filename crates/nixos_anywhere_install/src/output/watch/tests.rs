use super::*;
use crate::output::phases::FORMAT;

fn watch() -> Watch {
    Watch::new(Log::open(None).unwrap(), Progress::default(), Some("h"))
}

#[tokio::test(start_paused = true)]
async fn phases_are_timed() {
    let mut watch = watch();
    watch.line(true, "### Uploading install SSH keys ###");
    tokio::time::advance(Duration::from_millis(1500)).await;
    watch.line(true, "not a phase: ### x ###");
    watch.line(false, "### Installing NixOS ###");
    watch.line(true, "### Installing NixOS ###");
    assert_eq!(watch.current(), Some("Installing NixOS"));
    tokio::time::advance(Duration::from_secs(20)).await;
    watch.line(true, "### Done! ###");
    let ended: Vec<(&str, f64)> = watch
        .phases()
        .iter()
        .map(|phase| (phase.name.as_str(), phase.seconds))
        .collect();
    assert_eq!(
        ended,
        [
            ("Uploading install SSH keys", 1.5),
            ("Installing NixOS", 20.0)
        ]
    );
    assert!(watch.reached("Installing NixOS"));
    assert_eq!(watch.current(), None);
}

/// A watch of a nixos-anywhere whose ssh wrote `lines`, after it announced `phase`.
fn follows(phase: &str, lines: &[&str]) -> (Watch, Option<Stop>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ssh.log");
    std::fs::write(&path, format!("{}\n", channel::CALL)).unwrap();
    let mut watch = watch();
    watch.follow(Channel::new(path.clone()), None);
    assert_eq!(watch.poll(), None);
    assert_eq!(watch.line(true, &format!("### {phase} ###")), None);
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    let stop = watch.poll();
    (watch, stop)
}

#[test]
fn a_wrong_host_key_is_final_in_every_phase() {
    for phase in ORDER {
        let (_, stop) = follows(phase, &["Host key verification failed."]);
        let reason = stop.unwrap().reason;
        assert!(reason.contains("host key"), "{reason}");
    }
}

#[test]
fn a_refused_connection_counts_while_keys_are_uploaded() {
    let refused = ["ssh: connect to host h port 22: Connection refused"; 5];
    let (_, stop) = follows(KEYS, &refused[..4]);
    assert_eq!(stop, None);
    let (_, stop) = follows(KEYS, &refused);
    assert!(stop.unwrap().reason.contains("refuses connections"));
    let (watch, stop) = follows(ORDER[KEXEC], &refused);
    assert_eq!(stop, None);
    assert_eq!(watch.lost(), Some(refused[0]));
}

#[test]
fn a_key_that_is_added_again_and_again_is_not_added() {
    let calls = [channel::CALL; 6];
    assert_eq!(follows(KEYS, &calls[..5]).1, None);
    assert!(
        follows(KEYS, &calls)
            .1
            .unwrap()
            .reason
            .contains("authorized_keys")
    );
    assert_eq!(follows(INSTALL, &calls).1, None);
}

#[test]
fn words_in_somebodys_output_decide_nothing() {
    for phase in ORDER {
        let (mut watch, _) = follows(phase, &[]);
        for line in [
            "Host key verification failed.",
            "Warning: Permanently added 'git.example.org' (ED25519) to the list of known hosts.",
            "root@h: Permission denied (publickey).",
            "ssh: connect to host h port 22: Connection refused",
            "Connection closed by 127.0.0.1 port 22",
            "sh: .ssh/authorized_keys: Read-only file system",
            channel::CALL,
        ] {
            for stdout in [true, false] {
                assert!(
                    (0..20).all(|_| watch.line(stdout, line).is_none()),
                    "{line}"
                );
            }
        }
        assert_eq!(watch.lost(), None);
    }
}

#[test]
fn phases_count_in_their_order_only() {
    let (mut watch, _) = follows(KEYS, &[]);
    for (line, current) in [
        ("### fake 1 ###", KEYS),
        ("### Gathering machine facts ###", FACTS),
        ("### Uploading install SSH keys ###", FACTS),
        ("### Gathering machine facts ###", FACTS),
        ("### Switching system into kexec ###", ORDER[KEXEC]),
        ("### Gathering machine facts ###", FACTS),
        ("### Uploading /k to /tmp/k ###", "Uploading /k to /tmp/k"),
        ("### Uploading /l to /tmp/l ###", "Uploading /l to /tmp/l"),
        (
            "### Switching system into kexec ###",
            "Uploading /l to /tmp/l",
        ),
        ("### Formatting hard drive with disko ###", FORMAT),
        ("### Installing NixOS ###", INSTALL),
        ("### Formatting hard drive with disko ###", INSTALL),
    ] {
        assert_eq!(watch.line(true, line), None);
        assert_eq!(watch.current(), Some(current), "{line}");
    }
    assert!(watch.touched());
    // Nobody's word makes a success of it.
    watch.line(true, "### Done! ###");
    assert!(watch.touched());
}

#[test]
fn an_ssh_of_its_own_is_noticed() {
    let mut watch = watch();
    watch.follow(Channel::new("/nonexistent".into()), None);
    assert_eq!(watch.line(true, &format!("### {KEYS} ###")), None);
    let stop = watch.line(true, &format!("### {FACTS} ###")).unwrap();
    assert!(stop.reason.contains("does not verify"), "{}", stop.reason);
    let mut watch = self::watch();
    watch.follow(Channel::new("/nonexistent".into()), None);
    assert!(watch.ended(true).is_some());
    assert!(watch.ended(false).is_none());
}

#[test]
fn what_the_machine_writes_is_made_safe_to_print() {
    let mut watch = watch();
    watch.line(
        false,
        "\u{1b}]0;pwn\u{7}error: \u{1b}[31mred\u{1b}[0m \u{0}",
    );
    assert_eq!(watch.tail(), "error: red \\u{0}");
    assert_eq!(watch.last(), Some("error: red \\u{0}"));
}

/// A slow line, a slow build and a firewall that drops: measured at 80 s and more.
#[tokio::test(start_paused = true)]
async fn a_phase_ends_by_silence_not_by_its_length() {
    let (mut watch, _) = follows(KEYS, &[]);
    watch.line(true, &format!("### {FACTS} ###"));
    let left = |watch: &Watch| watch.limit().map(|(end, _)| end - Instant::now());
    assert_eq!(left(&watch), Some(SILENCE));
    tokio::time::advance(Duration::from_secs(100)).await;
    assert_eq!(left(&watch), Some(SILENCE - Duration::from_secs(100)));
    watch.line(false, "anything");
    assert_eq!(left(&watch), Some(SILENCE));
    tokio::time::advance(Duration::from_secs(100)).await;
    // Keeping a connection alive is not progress; data is.
    let mut work = Work {
        bytes: 200,
        time: 1,
    };
    watch.tick(Duration::ZERO, work);
    assert_eq!(left(&watch), Some(SILENCE - Duration::from_secs(100)));
    work.bytes += 1 << 20;
    watch.tick(Duration::ZERO, work);
    assert_eq!(left(&watch), Some(SILENCE));
    // Nix is at work: what it does may take as long as the whole task may.
    watch.line(false, "copying 12 paths...");
    assert_eq!(
        (left(&watch), watch.step()),
        (None, Some("copying 12 paths"))
    );
    watch.line(true, &format!("### {FORMAT} ###"));
    assert_eq!((left(&watch), watch.step()), (None, None));
}

#[test]
fn a_bootloader_that_fails_is_heard_of_in_the_next_phase_too() {
    let (mut watch, _) = follows(INSTALL, &[]);
    assert!(watch.line(true, "### Rebooting ###").is_none());
    let stop = watch.line(false, "Failed to install bootloader");
    assert_eq!(stop.map(|stop| stop.kind), Some(FailureKind::Bootloader));
}

#[test]
fn what_is_normal_ends_nothing() {
    let mut watch = watch();
    for phase in [KEYS, INSTALL] {
        watch.begin(phase);
        for line in [
            "Warning: Identity file /tmp/x/nixos-anywhere not accessible: No such file or directory.",
            "/usr/bin/ssh-copy-id: INFO: attempting to log in with the new key(s)",
            "/usr/bin/ssh-copy-id: WARNING: All keys were skipped because they already exist on the remote system.",
            "installing the GRUB 2 boot loader on /dev/vda...",
            "Installation finished. No error reported.",
            "cp: cannot open 'x' for reading: Permission denied",
        ] {
            assert!((0..10).all(|_| watch.line(false, line).is_none()), "{line}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_runs_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("progress");
    let progress = ansible_module::Task::default().progress(Some(&path));
    let mut watch = Watch::new(Log::open(None).unwrap(), progress, Some("h"));
    watch.tick(Duration::from_secs(3), Work::default());
    watch.begin(INSTALL);
    tokio::time::advance(Duration::from_secs(40)).await;
    watch.line(false, "copying 2 paths...");
    watch.tick(Duration::from_secs(50), Work::default());
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let running: Vec<_> = lines
        .iter()
        .filter(|line| line["event"] == "running")
        .map(|line| json!([line["host"], line["phase"], line["seconds"], line["step"]]))
        .collect();
    assert_eq!(
        running,
        [
            json!(["h", null, 3.0, null]),
            json!(["h", INSTALL, 40.0, "copying 2 paths"])
        ]
    );
    let step = lines.iter().find(|line| line["event"] == "step").unwrap();
    assert_eq!(step["step"], "copying 2 paths");
}

#[tokio::test(start_paused = true)]
async fn a_phase_that_never_ends_has_a_limit() {
    let mut watch = watch();
    watch.begin("Installing NixOS");
    assert!(watch.limit().is_none());
    watch.begin(KEYS);
    let (end, stop) = watch.limit().unwrap();
    assert_eq!(end, Instant::now() + Duration::from_secs(180));
    assert!(stop.reason.contains(KEYS), "{}", stop.reason);
    watch.begin("Waiting for the machine to become unreachable due to reboot");
    assert!(watch.limit().is_some());
}

#[test]
fn the_last_telling_line_is_found() {
    let mut watch = watch();
    assert_eq!(watch.last(), None);
    for n in 0..30 {
        watch.line(false, &format!("line {n}"));
    }
    assert_eq!(watch.last(), Some("line 29"));
    assert_eq!(watch.tail().lines().count(), TAIL);
    watch.line(false, "  error: no disk");
    watch.line(false, "bye");
    watch.line(false, "");
    assert_eq!(watch.last(), Some("error: no disk"));
}
