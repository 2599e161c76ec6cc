//! Seeds: what the guest gets to read.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nocloud_seed::{Error, HostKey, Input, IpConfig, KeyKind, Layout, Nic, Payload, Seed, iso};
use serde_json::{Map, Value, json};

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPz6nYYnhYSNxX9pOeX5vY5mBxrYQf0Cm6bcHkMcvmq8 me@here";
const OTHER: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEj7rJ7eGfZ0VQ1Mfq9jY0mJ1YkTzqkzXv1dS8Cw3p0A two";

/// A host key in OpenSSH's format made of this one byte: well-formed, and nobody's.
/// Returns the private key file and the public line.
fn key_pair(byte: u8, cipher: &str) -> (String, String) {
    let string = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes(), bytes].concat();
    let blob = [string(b"ssh-ed25519"), string(&[byte; 32])].concat();
    let pair = [
        string(b"ssh-ed25519"),
        string(&[byte; 32]),
        string(&[byte; 64]),
        string(b""),
    ]
    .concat();
    let secret = [[7; 8].as_slice(), pair.as_slice(), &[1, 2, 3, 4, 5]].concat();
    let file = [
        b"openssh-key-v1\0".to_vec(),
        string(cipher.as_bytes()),
        string(b"none"),
        string(b""),
        1u32.to_be_bytes().to_vec(),
        string(&blob),
        string(&secret),
    ]
    .concat();
    let packed = STANDARD.encode(file);
    let lines: Vec<&str> = packed
        .as_bytes()
        .chunks(70)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    let kind = "OPENSSH PRIVATE KEY";
    (
        format!(
            "-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n",
            lines.join("\n")
        ),
        format!("ssh-ed25519 {} test\n", STANDARD.encode(blob)),
    )
}

fn dict(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn host_key() -> HostKey {
    let (private, public) = key_pair(1, "none");
    HostKey::new(KeyKind::Ed25519, &private, Some(&public)).unwrap()
}

fn web1() -> Input {
    Input {
        hostname: Some("web1.example.org".into()),
        authorized_keys: vec![KEY.into(), format!(" {KEY}\n")],
        host_keys: vec![host_key()],
        nics: vec![Nic {
            name: "net0".into(),
            mac: "BC:24:11:00:00:0B".into(),
            ip: IpConfig::parse("ipconfig0", "ip=10.77.0.11/24,gw=10.77.0.1,ip6=auto").unwrap(),
        }],
        nameservers: vec!["10.77.0.1".into()],
        search_domains: vec!["example.org".into()],
        ..Input::default()
    }
}

fn text(input: &Input, file: &str) -> String {
    String::from_utf8(Seed::new(input).unwrap().files()[file].clone()).unwrap()
}

fn user_data(input: &Input) -> Value {
    serde_yaml_ng::from_str(&text(input, "user-data")).unwrap()
}

#[test]
fn the_files_of_a_seed() {
    let seed = Seed::new(&web1()).unwrap();
    let shown: Vec<String> = seed
        .files()
        .iter()
        .map(|(name, bytes)| format!("== {name}\n{}", String::from_utf8_lossy(bytes)))
        .collect();
    insta::assert_snapshot!(shown.join("\n"));
    let drive = seed.iso();
    assert_eq!(iso::label(&drive).unwrap(), "cidata");
    assert_eq!(&iso::read(&drive).unwrap(), seed.files());
}

#[test]
fn names_follow_the_content() {
    let seed = Seed::new(&web1()).unwrap();
    let same = Seed::new(&web1()).unwrap();
    assert_eq!(
        (seed.iso_name(101), seed.instance_id()),
        (same.iso_name(101), same.instance_id())
    );
    let mut inputs = vec![Input::default()];
    inputs.push(Input {
        hostname: Some("web2".into()),
        ..web1()
    });
    inputs.push(Input {
        nameservers: vec![],
        ..web1()
    });
    inputs.push(Input {
        vendor_data: Some(Payload::Dict(Map::new())),
        ..web1()
    });
    inputs.push(Input {
        meta_data: dict(json!({"a": 1})),
        ..web1()
    });
    let mut ids: Vec<String> = vec![seed.instance_id().into()];
    for input in &inputs {
        let other = Seed::new(input).unwrap();
        assert_ne!(other.iso_name(101), seed.iso_name(101));
        ids.push(other.instance_id().into());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), inputs.len() + 1);
    let name = seed.iso_name(101);
    assert!(
        name.starts_with(&nocloud_seed::iso_prefix(101)) && name.ends_with(".iso"),
        "{name}"
    );
    assert_eq!(name.len(), "nixos-proxmox-seed-101-0123456789ab.iso".len());
    assert!(
        !nocloud_seed::iso_name(1011, "0123456789ab").starts_with(&nocloud_seed::iso_prefix(101))
    );
}

#[test]
fn an_instance_id_of_ones_own_is_kept() {
    let input = Input {
        meta_data: dict(json!({"instance-id": "i-1", "region": "here"})),
        ..Input::default()
    };
    assert_eq!(Seed::new(&input).unwrap().instance_id(), "i-1");
    assert_eq!(
        text(&input, "meta-data"),
        "instance-id: i-1\nregion: here\n"
    );
}

#[test]
fn without_input_nothing_is_claimed() {
    let seed = Seed::new(&Input::default()).unwrap();
    assert_eq!(
        seed.files().keys().collect::<Vec<_>>(),
        ["meta-data", "user-data"]
    );
    assert_eq!(
        user_data(&Input::default()),
        json!({"preserve_hostname": true})
    );
}

#[test]
fn own_user_data_is_merged() {
    let own = json!({
        "hostname": "other",
        "disable_root": true,
        "users": ["default", {"name": "root", "shell": "/bin/sh", "ssh_authorized_keys": [OTHER]}],
        "write_files": [{"path": "/etc/motd", "content": "hello"}],
        "runcmd": ["true"],
    });
    let merged = user_data(&Input {
        user_data: Some(Payload::Dict(dict(own))),
        ..web1()
    });
    assert_eq!(merged["hostname"], "other");
    assert_eq!(merged["disable_root"], true);
    assert_eq!(merged["runcmd"], json!(["true"]));
    assert_eq!(
        merged["users"],
        json!(["default", {"name": "root", "shell": "/bin/sh",
               "ssh_authorized_keys": [OTHER, KEY]}])
    );
    let paths: Vec<&Value> = merged["write_files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| &f["path"])
        .collect();
    assert_eq!(
        paths,
        [
            "/etc/motd",
            "/etc/ssh/ssh_host_ed25519_key",
            "/etc/ssh/ssh_host_ed25519_key.pub"
        ]
    );
}

#[test]
fn a_text_is_passed_on_and_takes_no_additions() {
    let script = Some(Payload::Text("#!/bin/sh\necho hi\n".into()));
    let input = Input {
        user_data: script.clone(),
        hostname: Some("web1".into()),
        ..Input::default()
    };
    assert_eq!(text(&input, "user-data"), "#!/bin/sh\necho hi\n");
    assert!(text(&input, "meta-data").contains("local-hostname: web1\n"));
    let error = Seed::new(&Input {
        user_data: script,
        ..web1()
    })
    .unwrap_err();
    assert_eq!(error, Error::TextIsFixed("ssh_authorized_keys"));
}

#[test]
fn contradictions_are_refused() {
    let refuse = |own: Value| {
        Seed::new(&Input {
            user_data: Some(Payload::Dict(dict(own))),
            ..web1()
        })
        .unwrap_err()
    };
    assert!(
        refuse(json!({"ssh_deletekeys": true}))
            .to_string()
            .contains("ssh_deletekeys")
    );
    assert!(
        refuse(json!({"users": "root"}))
            .to_string()
            .contains("users")
    );
    assert!(
        refuse(json!({"write_files": {}}))
            .to_string()
            .contains("write_files")
    );
    let key = |line: &str| {
        Seed::new(&Input {
            authorized_keys: vec![line.into()],
            ..Input::default()
        })
    };
    for wrong in [
        key_pair(1, "none").0.as_str(),
        "ssh-ed25519",
        "ssh-ed25519 A\nssh-ed25519 B",
    ] {
        let error = key(wrong).unwrap_err().to_string();
        assert!(!error.contains("b3Blbn"), "a key in the message: {error}");
    }
    for wrong in ["", "-a", "a_b", "a..b", &"a".repeat(64)] {
        assert!(
            Seed::new(&Input {
                hostname: Some(wrong.into()),
                ..Input::default()
            })
            .is_err(),
            "{wrong}"
        );
    }
}

#[test]
fn host_keys_are_checked() {
    let (private, public) = key_pair(1, "none");
    let problem = |kind, private: &str, public: Option<&str>| {
        HostKey::new(kind, private, public).unwrap_err().to_string()
    };
    assert!(
        problem(KeyKind::Ed25519, &private, Some(&key_pair(2, "none").1))
            .contains("does not belong")
    );
    assert!(problem(KeyKind::Rsa, &private, Some(&public)).contains("another kind"));
    assert!(problem(KeyKind::Ed25519, &key_pair(1, "aes256-ctr").0, None).contains("passphrase"));
    assert!(problem(KeyKind::Ed25519, &public, None).contains("is a public key"));
    assert!(problem(KeyKind::Ed25519, &private[..120], None).contains("damaged"));
    // The public part is found in the private one; only the comment is not.
    let derived = HostKey::new(KeyKind::Ed25519, &private.replace('\n', "\r\n"), None).unwrap();
    assert_eq!(derived.private(), private);
    assert_eq!(format!("{} test", derived.public().trim()), public.trim());
    assert!(!format!("{derived:?}").contains("PRIVATE"));
}

/// What became of a key on its way here: an environment variable, a folded YAML scalar, an indented template.
fn mangled(private: &str) -> Vec<(&'static str, String)> {
    vec![
        ("folded", private.trim().replace('\n', " ")),
        ("joined", private.trim().replace('\n', "")),
        ("indented", private.replace('\n', "\n    ")),
        ("tabs", private.replace('\n', "\t\n\t")),
        ("CRLF", private.replace('\n', "\r\n")),
        ("CR", private.replace('\n', "\r")),
        ("escaped", private.replace('\n', "\\n")),
        ("quoted", format!("\"{}\"", private.replace('\n', "\\n"))),
        ("escaped twice", private.replace('\n', "\\\\n")),
        ("base64", STANDARD.encode(private)),
        (
            "curve before",
            format!(
                "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{private}"
            ),
        ),
        ("public key behind", format!("{private}ssh-ed25519 AAAA\n")),
        ("blank lines", private.replace('\n', "\n\n")),
        ("no end", private.trim_end().to_owned()),
        ("byte order mark", format!("\u{feff}{private}")),
        ("comment before", format!("# the key\n{private}")),
        ("no blanks", private.replace(char::is_whitespace, "")),
    ]
}

/// Host keys in the user's own `ssh_keys`: a dictionary is written by us, a text is not.
#[test]
fn own_host_keys_are_keys_that_sshd_loads() {
    let (private, public) = key_pair(1, "none");
    let given = |private: &str| Input {
        user_data: Some(Payload::Dict(dict(
            json!({"ssh_keys": {"ed25519_private": private, "ed25519_public": public}}),
        ))),
        ..Input::default()
    };
    for (_, text) in mangled(&private) {
        let seed = Seed::new(&given(&text)).unwrap();
        let written: Value = serde_yaml_ng::from_slice(&seed.files()["user-data"]).unwrap();
        assert_eq!(written["ssh_keys"]["ed25519_private"], private);
    }
    let (other, _) = key_pair(2, "none");
    let (locked, _) = key_pair(1, "aes256-ctr");
    for (wrong, part) in [(other, "does not belong"), (locked, "has a passphrase")] {
        let error = Seed::new(&given(&wrong)).unwrap_err().to_string();
        assert!(
            error.contains(part) && error.starts_with("user_data.ssh_keys.ed25519_private"),
            "{error}"
        );
    }
    let text = |block: &str, indent: &str| {
        let lines: Vec<String> = private
            .lines()
            .map(|line| format!("{indent}{line}"))
            .collect();
        let text = format!(
            "#cloud-config\nssh_keys:\n  ed25519_private: {block}\n{}\n",
            lines.join("\n")
        );
        Seed::new(&Input {
            user_data: Some(Payload::Text(text)),
            ..Input::default()
        })
    };
    assert!(text("|", "    ").is_ok());
    for folded in [text(">-", "    "), text("|2", "      ")] {
        let error = folded.unwrap_err().to_string();
        assert!(
            error.starts_with(
                "user_data: line 3: ssh_keys.ed25519_private: has lost its line breaks"
            ),
            "{error}"
        );
    }
}

/// Keys as ssh-keygen makes them, of every kind and in every format, come out as it wrote them.
#[test]
fn keys_of_ssh_keygen_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let kinds = [
        ("ed25519", "256", KeyKind::Ed25519),
        ("ecdsa", "256", KeyKind::Ecdsa),
        ("ecdsa", "384", KeyKind::Ecdsa),
        ("ecdsa", "521", KeyKind::Ecdsa),
        ("rsa", "1024", KeyKind::Rsa),
        ("rsa", "2048", KeyKind::Rsa),
    ];
    for (name, bits, kind) in kinds {
        for format in ["RFC4716", "PEM", "PKCS8"] {
            let path = dir.path().join(format!("{name}-{bits}-{format}"));
            let made = Command::new("ssh-keygen")
                .args([
                    "-q", "-t", name, "-b", bits, "-N", "", "-C", "a b", "-m", format, "-f",
                ])
                .arg(&path)
                .output()
                .expect("ssh-keygen");
            assert!(
                made.status.success(),
                "{}",
                String::from_utf8_lossy(&made.stderr)
            );
            let private = std::fs::read_to_string(&path).unwrap();
            let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
            for (how, text) in mangled(&private) {
                let key = HostKey::new(kind, &text, Some(&public))
                    .unwrap_or_else(|e| panic!("{name} {bits} {format} {how}: {e}"));
                assert_eq!(
                    (key.private(), key.public()),
                    (private.as_str(), public.as_str()),
                    "{how}"
                );
            }
            // The public part is in every format.
            let derived = HostKey::new(kind, &private, None).unwrap();
            assert_eq!(
                derived.public().trim(),
                public.trim().trim_end_matches(" a b")
            );
            for (other, _, wrong) in kinds {
                if other != name {
                    assert!(HostKey::new(wrong, &private, None).is_err());
                }
            }
            // Whatever is missing of it.
            let lines: Vec<&str> = private.lines().collect();
            for missing in 0..lines.len() {
                let mut rest = lines.clone();
                rest.remove(missing);
                assert!(
                    HostKey::new(kind, &rest.join("\n"), Some(&public)).is_err(),
                    "{name} {format} without line {missing}"
                );
            }
        }
    }
}

#[test]
fn host_keys_that_sshd_would_not_load_are_refused() {
    let (private, public) = key_pair(1, "none");
    for (text, reason) in [
        ("PuTTY-User-Key-File-3: ssh-ed25519\n".to_owned(), "puttygen"),
        (format!("{private}{private}"), "more than one"),
        (private.replace("OPENSSH", "DSA"), "DSA"),
        (private.replace("OPENSSH", "ENCRYPTED"), "passphrase"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n".to_owned(),
            "passphrase",
        ),
        (private.replace("OPENSSH PRIVATE", "PUBLIC"), "not a private key"),
        (public, "is a public key"),
        (private.replace("-----END", "-----"), "not whole"),
    ] {
        let error = HostKey::new(KeyKind::Ed25519, &text, None).unwrap_err().to_string();
        assert!(error.starts_with("ssh_host_keys.ed25519: "), "{error}");
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

#[test]
fn addresses_are_checked() {
    let parse = |text: &str| IpConfig::parse("ipconfig0", text);
    for right in [
        "ip=dhcp",
        "ip=192.0.2.11/24,gw=192.0.2.1",
        "ip6=auto",
        "ip=dhcp,ip6=2001:db8::1/64,gw6=2001:db8::2",
    ] {
        assert_eq!(parse(right).unwrap().to_string(), right);
    }
    for wrong in [
        "",
        "ip=192.0.2.11",
        "ip=192.0.2.11/33",
        "gw=192.0.2.1",
        "ip=dhcp,gw=192.0.2.1",
        "ip6=x",
        "mac=1",
        "192.0.2.1",
        "ip=dhcp,gw6=2001:db8::2",
        "ip=auto",
    ] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_config_drive_has_the_same_content_in_openstacks_files() {
    let input = Input {
        layout: Layout::ConfigDrive,
        vendor_data: Some(Payload::Text("#cloud-config\ntimezone: UTC\n".into())),
        meta_data: dict(json!({"instance-id": "i-1", "region": "north"})),
        ..web1()
    };
    let seed = Seed::new(&input).unwrap();
    let drive = seed.iso();
    assert_eq!(iso::label(&drive).unwrap(), "config-2");
    assert_eq!(&iso::read(&drive).unwrap(), seed.files());
    let json = |name: &str| -> Value {
        serde_json::from_slice(&seed.files()[&format!("openstack/latest/{name}")]).unwrap()
    };
    assert_eq!(
        json("meta_data.json"),
        json!({"uuid": "i-1", "hostname": "web1.example.org", "region": "north"})
    );
    assert_eq!(
        json("vendor_data.json"),
        json!({"cloud-init": "#cloud-config\ntimezone: UTC\n"})
    );
    assert_eq!(
        json("network_data.json"),
        json!({
            "links": [{"id": "net0", "type": "phy", "ethernet_mac_address": "bc:24:11:00:00:0b"}],
            "networks": [
                {
                    "type": "ipv4", "ip_address": "10.77.0.11", "netmask": "255.255.255.0",
                    "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.77.0.1"}],
                    "id": "network0", "link": "net0", "dns_search": ["example.org"],
                },
                {"type": "ipv6_slaac", "id": "network1", "link": "net0", "dns_search": ["example.org"]},
            ],
            "services": [{"type": "dns", "address": "10.77.0.1", "search": ["example.org"]}],
        })
    );
    assert_eq!(
        seed.files()["openstack/latest/user_data"],
        text(&web1(), "user-data").into_bytes()
    );
    // Another drive for the same guest, with another name.
    let nocloud = Seed::new(&Input {
        layout: Layout::Nocloud,
        ..input
    })
    .unwrap();
    assert_ne!(seed.iso_name(101), nocloud.iso_name(101));
}

#[test]
fn a_config_drive_refuses_what_it_would_not_hand_on() {
    let problem = |input: Input| {
        let input = Input {
            layout: Layout::ConfigDrive,
            ..input
        };
        Seed::new(&input).unwrap_err().to_string()
    };
    let network = |payload| Input {
        network_config: Some(payload),
        ..Input::default()
    };
    let version2 = json!({"version": 2, "ethernets": {}});
    for payload in [
        Payload::Dict(dict(version2)),
        Payload::Text(r#"{"links": {}}"#.into()),
    ] {
        assert!(problem(network(payload)).contains("network_data.json"));
    }
    let error = problem(network(Payload::Text("version: hidden".into())));
    assert_eq!(
        error,
        "network_config: is not a JSON dictionary: line 1, column 1"
    );
    let refers = Input {
        meta_data: dict(json!({"files": [{"path": "/etc/x", "content_path": "/content/0001"}]})),
        ..Input::default()
    };
    assert!(problem(refers).contains("the key files"));
    for (key, name) in [("local-hostname", "hostname"), ("instance-id", "uuid")] {
        let input = Input {
            meta_data: dict(json!({key: "one", name: "another"})),
            ..Input::default()
        };
        assert_eq!(
            problem(input),
            format!(
                "meta_data: has both {key} and {name}, which are one key on a config drive; give one of them"
            )
        );
    }
}
