use super::rules::{PART, WHOLE};
use super::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::json;

fn scrubbed(secret: &str, value: Value) -> Value {
    let secrets = Secrets::default();
    secrets.add(secret);
    secrets.scrub(value)
}

fn holding(document_: Value, public: &Public) -> Secrets {
    let secrets = Secrets::default();
    let mut found = Vec::new();
    document(&document_, SHORTEST, public, &mut found);
    secrets.add_all(found);
    secrets
}

#[test]
fn every_spelling_is_masked() {
    let secret = "pa ss/\"wörd\"";
    for text in [
        secret.to_owned(),
        Value::from(secret).to_string(),
        "GET /?p=pa%20ss%2F%22w%C3%B6rd%22".into(),
        "GET /?p=pa%20ss%2f%22w%c3%b6rd%22".into(),
        "p=pa+ss%2F%22w%C3%B6rd%22".into(),
        format!("Basic {}==", STANDARD_NO_PAD.encode(secret)),
    ] {
        let masked = scrubbed(secret, json!({"a": [format!("<{text}>")]})).to_string();
        assert!(masked.contains(PART), "{masked}");
        assert!(!masked.contains("rd"), "{masked}");
    }
}

#[test]
fn the_lines_of_a_key_are_masked_and_its_markers_are_not() {
    let key = "-----BEGIN X-----\nb3BlbnNzaC1rZXk\nAAAAB3NzaC1yc2E\n-----END X-----\n";
    assert_eq!(
        scrubbed(
            key,
            json!("line 2: AAAAB3NzaC1yc2E, after -----BEGIN X-----")
        ),
        json!("line 2: ********, after -----BEGIN X-----")
    );
    assert_eq!(scrubbed(key, json!(key.trim())), json!(WHOLE));
    assert_eq!(
        scrubbed(key, json!(format!("said {key:?}"))),
        json!("said \"********\"")
    );
}

#[test]
fn numbers_and_keys() {
    assert_eq!(scrubbed("1234", json!({"n": 12345})), json!({"n": 12345}));
    assert_eq!(scrubbed("1234", json!({"n": 1234})), json!({"n": WHOLE}));
    assert_eq!(scrubbed("1", json!({"n": 1})), json!({"n": 1}));
    assert_eq!(scrubbed("msg", json!({"msg": "a"})), json!({"msg": "a"}));
    assert_eq!(
        scrubbed("long-secret", json!({"x long-secret": 1})),
        json!({"x ********": 1})
    );
}

/// As ansible-core 2.22 has it.
#[test]
fn a_short_secret_is_masked_where_it_is_a_word() {
    for (secret, given, shown) in [
        ("abc", "<abc>", "<abc>"),
        (
            "nixos",
            "nixos-installed nixosx xnixos",
            "********-installed nixosx xnixos",
        ),
        (
            "local",
            "storage 'local', local-zfs, locally",
            "storage '********', ********-zfs, locally",
        ),
        ("install", "preinstalled", "pre********ed"),
        ("nixos", "nixos", WHOLE),
    ] {
        assert_eq!(scrubbed(secret, json!(given)), json!(shown));
    }
}

#[test]
fn secrets_within_each_other_leave_nothing_behind() {
    let secrets = Secrets::default();
    for secret in ["password", "passwords-all", "all-that-is"] {
        secrets.add(secret);
    }
    for text in ["passwords-all-that-is", "passwordpassword", "passwords-all"] {
        let shown = secrets.scrub(json!(format!("<{text}>")));
        assert!(
            ["<********>", "<****************>"]
                .iter()
                .any(|s| shown == *s),
            "{shown}"
        );
    }
    assert_eq!(
        scrubbed("aabaabaa", json!("<aabaabaabaa>")),
        json!("<********>")
    );
}

#[test]
fn what_a_module_computes_is_left_whole() {
    let facts = json!({
        "closure": "/nix/store/0c5b8vw40d1178xlpddw65q9gf1h2186-nixos-system-web-server",
        "tags": ["nixos-proxmox", "nixos-installed", "local", "install"],
        "volid": "local:iso/nixos-installer.iso",
        "vmid": 1234567,
    });
    let words = [
        "nixos",
        "install",
        "local",
        "proxmox",
        "nixos-installed",
        "web-server",
        "server",
        "iso",
        "1",
        "1234567",
        "installed",
        "nixos-system",
        "local:iso",
        "/nix/store",
        "linux",
        "system",
    ];
    for word in words {
        let secrets = Secrets::default();
        secrets.add(word);
        assert_eq!(
            secrets.scrub_own(facts.clone())["closure"],
            facts["closure"],
            "{word}"
        );
        assert_eq!(
            secrets.scrub_own(facts.clone())["tags"],
            facts["tags"],
            "{word}"
        );
        assert_eq!(
            secrets.scrub_own(facts.clone())["volid"],
            facts["volid"],
            "{word}"
        );
    }
    for text in [
        "web-server\n",
        "# hosts\nweb-server\nlocalhost\n",
        "nixos-2605",
        "local:iso/nixos-installer.iso",
    ] {
        let secrets = holding(json!(text), &Public::default());
        assert_eq!(secrets.scrub_own(facts.clone()), facts, "{text}");
    }
    for secret in [
        "hunter22",
        "hunter2-",
        "correct horse",
        "0b5a7c1e-93f1-4a3c-8f0e-2d3b4c5d6e7f",
    ] {
        let secrets = Secrets::default();
        secrets.add(secret);
        let shown = secrets.scrub_own(json!({"said": format!("<{secret}>")}));
        assert_eq!(shown["said"], "<********>");
    }
    let key = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW";
    let secrets = holding(
        json!({"write_files": [{"content": format!("a\n{key}\n")}]}),
        &Public::default(),
    );
    assert_eq!(secrets.scrub_own(json!(format!("<{key}>"))), "<********>");
}

#[test]
fn a_document_hides_what_is_not_public() {
    let mut public = Public::default();
    public.open_value(&json!({"name": "web1-prod"}));
    let text = "# made by Ansible\n#cloud-config\nhostname: web1\npassword: hunter22\nweb1-prod\n#!/bin/sh\n";
    let secrets = holding(json!(text), &public);
    assert_eq!(
        secrets.scrub(json!(
            "begin with #cloud-config or #!/bin/sh, not '# made by Ansible' (web1-prod, hunter22)"
        )),
        "begin with #cloud-config or #!/bin/sh, not '********' (web1-prod, ********)"
    );
    assert_eq!(secrets.scrub(json!(text)), json!(WHOLE));
    let secrets = holding(
        json!("#cloud-config\nwrite_files:\n  path: /secret/path\n"),
        &public,
    );
    assert_eq!(
        secrets.scrub(json!(
            "line 2: write_files: must be a list, not path: /secret/path"
        )),
        "line 2: write_files: must be a list, not ********"
    );
    let secrets = holding(
        json!({"owner": "root:wheel", "encoding": "gzip+base64"}),
        &public,
    );
    let advice = "must be a text such as 'root:wheel' (gz+base64, gzip+base64, text/plain)";
    assert_eq!(secrets.scrub(json!(advice)), json!(advice));
    // Advice may show what stands in the document, too.
    let advice = "for a block: content: |; lock_passwd: false is needed (disable_root: False)";
    let text = "#cloud-config\n- content: |\n  lock_passwd: false\n  disable_root: False\n  a: |2-\n  content: the-secret\n";
    let secrets = holding(json!(text), &public);
    assert_eq!(secrets.scrub(json!(advice)), json!(advice));
    assert_eq!(secrets.scrub(json!("<content: the-secret>")), "<********>");
    let document =
        json!({"hostname": "web1-prod", "users": [{"name": "nixos", "passwd": "default"}], "n": 1});
    let secrets = holding(document, &public);
    assert_eq!(
        secrets.scrub(json!("web1-prod nixos 101 default")),
        json!("web1-prod nixos 101 ********")
    );
    assert_eq!(
        holding(json!(["pin7"]), &public).scrub(json!("pin7")),
        json!(WHOLE)
    );
}

#[test]
fn a_secret_with_controls_or_colours_in_it_is_masked() {
    for (secret, given) in [
        ("hunter2-and-more", "<hun\u{1b}[1mter2-and\u{1b}[0m-more>"),
        ("hun\u{7}ter22", "<hun\u{7}ter22>"),
        ("line one\r\nline two", "<line one\r\nline two>"),
        ("line one\r\nline two", "<line one\nline two>"),
    ] {
        assert_eq!(scrubbed(secret, json!(given)), "<********>", "{given:?}");
    }
}

#[test]
fn an_empty_secret_masks_nothing() {
    assert_eq!(scrubbed("", json!("text")), json!("text"));
}
