use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::*;

fn settings(dir: &Path, more: Value) -> Settings {
    let mut settings = json!({"api_host": ["pve1"], "host_keys_dir": dir});
    settings
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    serde_json::from_value(settings).unwrap()
}

fn made(settings: &Settings, host: &str) -> Vec<String> {
    let keys = HostKeys::new(settings, host).unwrap();
    let plan = keys.plan(settings).unwrap();
    keys.apply(&plan, settings).unwrap()
}

#[test]
fn keys_are_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(
        dir.path(),
        json!({"ssh_host_key_types": ["ed25519", "ecdsa"]}),
    );
    let keys = HostKeys::new(&settings, "web1").unwrap();
    let plan = keys.plan(&settings).unwrap();
    assert_eq!(plan.make, [KeyType::Ed25519, KeyType::Ecdsa]);
    let first = keys.apply(&plan, &settings).unwrap();
    assert_eq!(first.len(), 2);
    let private = dir.path().join("web1/ssh_host_ed25519_key");
    assert_eq!(
        fs::metadata(&private).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(!keys.plan(&settings).unwrap().changes());
    assert_eq!(made(&settings, "web1"), first);
    // What a kill between the two halves leaves.
    fs::remove_file(dir.path().join("web1/ssh_host_ed25519_key.pub")).unwrap();
    assert_eq!(keys.plan(&settings).unwrap().write.len(), 1);
    assert_eq!(made(&settings, "web1"), first);
    assert_eq!(keys.private(&settings.ssh_host_key_types).unwrap().len(), 2);
}

#[test]
fn halves_that_do_not_belong_together_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), json!({}));
    made(&settings, "web1");
    made(&settings, "web2");
    let file = |host: &str, end: &str| dir.path().join(format!("{host}/ssh_host_ed25519_key{end}"));
    let refusal = |host: &str| {
        HostKeys::new(&settings, host)
            .unwrap()
            .plan(&settings)
            .unwrap_err()
            .remove(0)
    };
    fs::copy(file("web2", ".pub"), file("web1", ".pub")).unwrap();
    assert!(refusal("web1").contains("belongs to another key than"));
    fs::remove_file(file("web1", "")).unwrap();
    assert!(refusal("web1").contains("is missing; put it back"));
    fs::write(file("web2", ""), "no key").unwrap();
    assert!(refusal("web2").contains("is not a private key that OpenSSH can use"));
    fs::write(file("web2", ""), "$ANSIBLE_VAULT;1.1;AES256\n00\n").unwrap();
    let keys = HostKeys::new(&settings, "web2").unwrap();
    assert!(!keys.plan(&settings).unwrap().changes());
    let mistakes = keys.private(&settings.ssh_host_key_types).unwrap_err();
    assert!(
        mistakes[0].contains("lookup('ansible.builtin.file', '"),
        "{mistakes:?}"
    );
    fs::remove_file(file("web2", ".pub")).unwrap();
    assert!(refusal("web2").contains("ansible-vault view "));
    let none = HostKeys::new(&settings, "web3").unwrap();
    let mistakes = none.private(&settings.ssh_host_key_types).unwrap_err();
    assert!(
        mistakes[0].ends_with("does not exist; make it with playbooks/keys.yml"),
        "{mistakes:?}"
    );
}

#[test]
fn a_key_that_the_user_brings_is_not_copied() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let public = made(&settings(other.path(), json!({})), "x");
    let private = fs::read_to_string(other.path().join("x/ssh_host_ed25519_key")).unwrap();
    let settings = settings(dir.path(), json!({"ssh_host_key": {"private": private}}));
    assert_eq!(made(&settings, "web1"), public);
    assert!(dir.path().join("web1/ssh_host_ed25519_key.pub").exists());
    assert!(!dir.path().join("web1/ssh_host_ed25519_key").exists());
    let keys = HostKeys::new(&settings, "web1").unwrap();
    assert!(!keys.plan(&settings).unwrap().changes());
    fs::write(
        dir.path().join("web1/ssh_host_ed25519_key.pub"),
        "ssh-ed25519 AAAA",
    )
    .unwrap();
    assert!(keys.plan(&settings).unwrap_err()[0].contains("is another key than"));
}

#[test]
fn the_rules_of_all_hosts_stand_in_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), json!({"sops_recipients": ["age1me"]}));
    for (host, recipient, changed) in [
        ("web.2", vec!["age1b".to_owned()], true),
        ("web1", vec!["age1a".to_owned()], true),
        ("web1", vec!["age1a".to_owned()], false),
        ("db's", Vec::new(), false),
    ] {
        made(&settings, host);
        let keys = HostKeys::new(&settings, host).unwrap();
        assert_eq!(
            keys.write_rules(&recipient, &settings).unwrap(),
            changed,
            "{host}"
        );
    }
    let text = fs::read_to_string(dir.path().join("sops.yaml")).unwrap();
    let yaml: Value = serde_yaml_ng::from_str(&text).unwrap();
    let expected = json!({"creation_rules": [
        {
            "path_regex": r"(^|/)secrets/web\.2(/[^/]+)?\.(ya?ml|json|env|ini)$",
            "key_groups": [{"age": ["age1me", "age1b"]}],
        },
        {
            "path_regex": r"(^|/)secrets/web1(/[^/]+)?\.(ya?ml|json|env|ini)$",
            "key_groups": [{"age": ["age1me", "age1a"]}],
        },
    ]});
    assert_eq!(yaml, expected);
    let none: Value = serde_yaml_ng::from_str(&sops::file([])).unwrap();
    assert_eq!(none, json!({"creation_rules": []}));
}

#[test]
fn recipients_are_public_and_stand_on_one_line() {
    for (recipient, wrong) in [
        ("age1me", false),
        (" age1me ", false),
        ("ssh-ed25519 AAAA+/= me@x", false),
        ("AGE-SECRET-KEY-1ABC", true),
        ("age1a\nb: c", true),
        ("me", true),
        ("", true),
    ] {
        assert_eq!(sops::mistake(recipient).is_some(), wrong, "{recipient}");
    }
}
