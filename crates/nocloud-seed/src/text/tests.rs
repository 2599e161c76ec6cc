use super::*;

#[test]
fn what_cloud_init_knows() {
    for text in [
        "",
        "#cloud-config\n",
        "#cloud-config\npackages: [a]\n",
        "\n#Cloud-Config\na: 1",
        "#!/bin/sh\n: {",
        "#!/bin/sh\r\necho\r\n",
        "#include\nhttp://192.0.2.1/x\n",
        "#include-once https://192.0.2.1/x\n# comment\n\n/etc/more\n",
        "#cloud-boothook\r\n#!/bin/sh\r\necho\r\n",
        "#cloud-config # mine\na: 1\n",
        "#cloud-config-jsonp\n[{\"op\": \"add\", \"path\": \"/a\", \"value\": 1}]\n",
        "#cloud-config-archive\n- 'a: 1'\n- content: |\n    #!/bin/sh\n  filename: x\n- {type: text/x-mine, content: x}\n",
        "## template: jinja\n#!/bin/sh\n{% raw %}{{{% endraw %}\n",
        "## template: jinja \r\n#cloud-config\r\na: '{{ {'a': {}}['a'] }}'\r\n",
        "## template: jinja\n#cloud-config\na: {{ v1.region }}\n",
        "Content-Type: multipart/mixed; boundary=\"x\"\nMIME-Version: 1.0\n\n--x--\n",
    ] {
        assert!(
            user_data("user_data", text, &mut Vec::new()).is_ok(),
            "{text}"
        );
    }
}

#[test]
fn what_the_guest_would_ignore() {
    for (text, part) in [
        (
            "packages: [a]\n",
            "begins with nothing that cloud-init knows",
        ),
        ("# cloud-config\na: 1", "without a blank"),
        (
            "# Ansible managed\n#cloud-config\na: 1",
            "above the comment",
        ),
        ("packages: [a]\n#cloud-config\n", "move it to the top"),
        ("---\npackages: [a]\n", "begins with ---"),
        ("\u{feff}#cloud-config\n", "byte order mark"),
        ("$ANSIBLE_VAULT;1.1;AES256\n6162\n", "Ansible Vault"),
        (
            "#cloud-config-archive\na: secret\n",
            "is not a list of parts",
        ),
        ("#cloud-config-archive\n- {{ secret }}\n", "line 2: braces"),
        ("#cloud-config secret: 1\n", "line 1: goes on behind"),
        ("#cloud-config\\nsecret: 1\\n", "line 1: goes on behind"),
        ("#cloud-config users:\n  - name: secret\n", "not after >"),
        (
            "#cloud-config-x\na: secret\na: 1\n",
            "line 3: 'a' is given twice",
        ),
        (
            "\n#!/bin/sh\nsecret\n",
            "line 2: a script must begin with #!",
        ),
        (
            "#cloud-boothook\nsecret\n",
            "line 1: a boothook is a script",
        ),
        ("#include\nsecret\n", "line 2: is not an address"),
        ("#include\n", "no address"),
        ("#cloud-config-jsonp\na: secret\n", "not a list of changes"),
        (
            "#cloud-config-archive\n- type: text/cloud-config\n  content: |\n    a: secret\n    a: 1\n",
            "part 1: line 2: 'a' is given twice",
        ),
        (
            "#cloud-config-archive\n- type: cloud-config\n  content: secret\n",
            "line 2: type must be a content type",
        ),
        ("#cloud-config-archive\n- 1\n", "line 2: a part must be"),
        (
            "##template: jinja\n#cloud-config\na: secret\n",
            "## template: jinja",
        ),
        (
            "## template: jinja2\n#cloud-config\na: secret\n",
            "line 1: must be ## template: jinja",
        ),
        (
            "## template: jinja\n#cloud-config\na: secret\na: 1\n",
            "line 4: 'a' is given twice",
        ),
        (
            "## template: jinja\n#cloud-config\na: {{ secret }\n",
            "line 3: {{",
        ),
        ("I2Nsb3VkLWNvbmZpZwphOiBzZWNyZXQK", "b64decode"),
        ("H4sIAAAAAAAAA1NOzskv", "compressed"),
        ("#cloudconfig\na: secret\n", "misspelt header"),
        (
            "#cloud-config\n## template: jinja\na: '{{ secret }}'\n",
            "line 2: ## template: jinja has an effect in the first line only",
        ),
        ("#cloud-config\na: [secret\n", "line 3: not valid YAML"),
        ("#cloud-config\n- secret\n", "line 2: is not a YAML mapping"),
        (
            "#cloud-config\na: 1\na: 2\n",
            "line 3: 'a' is given twice (first in line 2)",
        ),
        (
            "## template: jinja\nsecret: 1\n",
            "Jinja template of nothing",
        ),
    ] {
        let error = user_data("user_data", text, &mut Vec::new())
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("user_data: "), "{error}");
        assert!(error.contains(part) && !error.contains("secret"), "{error}");
    }
    assert!(yaml("network_config", "").is_err());
    assert!(yaml("network_config", "version: 2\n").is_ok());
}

fn message(kind: &str, encoding: &str, content: &str) -> String {
    format!(
        "Content-Type: multipart/mixed; boundary=\"=b=\"\nMIME-Version: 1.0\n\n--=b=\nContent-Type: {kind}\n\
             Content-Transfer-Encoding: {encoding}\n\n{content}\n--=b=--\n"
    )
}

#[test]
fn parts_of_a_message_are_checked_like_texts() {
    let text = |text: &str| user_data("user_data", text, &mut Vec::new());
    let found = text(&message(
        "text/cloud-config",
        "7bit",
        "#cloud-config\na: 1\n",
    ))
    .unwrap();
    assert_eq!(found[0].root.line_of(&["a".to_owned()]), 9);
    for (kind, encoding, content, part) in [
        (
            "text/cloud-config",
            "7bit",
            "#cloud-config\nruncmd:\n- {{ x }}",
            "user_data: line 10: braces",
        ),
        (
            "text/cloud-config",
            "base64",
            "YTogMQphOiAyCg==",
            "user_data: part 1: line 2: 'a' is given twice",
        ),
        (
            "text/plain",
            "7bit",
            "#cloud-config\na: 1\na: 2",
            "line 10: 'a' is given twice",
        ),
        (
            "text/x-shellscript",
            "7bit",
            "#cloud-config\na: 1\na: 2",
            "line 10: 'a' is given twice",
        ),
        (
            "text/x-shellscript",
            "7bit",
            "echo",
            "line 8: a script must begin",
        ),
        ("text/plain", "7bit", "hello", "begins with nothing"),
    ] {
        let error = text(&message(kind, encoding, content))
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{error}");
    }
    for (wrong, part) in [
        (
            "Content-Type: multipart/mixed; boundary=\"b\"\n\n--b\n\n#!/bin/sh\n--b--\n",
            "no header MIME-Version",
        ),
        (
            "\nContent-Type: multipart/mixed; boundary=\"b\"\nMIME-Version: 1.0\n\n--b\n\n#!/bin/sh\n--b--\n",
            "before its MIME headers",
        ),
        (
            "Content-Type: multipart/mixed\nMIME-Version: 1.0\n\n--b\n\n#!/bin/sh\n--b--\n",
            "line 1: a multi-part message has no boundary",
        ),
        (
            "#cloud-config\nfinal_message: 'MIME-Version: 1.0'\nruncmd:\n- {{ x }}\n",
            "line 4: braces",
        ),
    ] {
        let error = text(wrong).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    // A handler of its own may take what cloud-init leaves aside.
    let own = "Content-Type: multipart/mixed; boundary=b\nMIME-Version: 1.0\n\n--b\nContent-Type: text/part-handler\n\n\
                   #part-handler\ndef list_types(): return ['text/plain']\n--b\nContent-Type: text/plain\n\nhello\n--b--\n";
    text(own).unwrap();
    // Padding that lacks is added in a message.
    let error = text(&message("text/cloud-config", "base64", "YTogMQphOiAyCg"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("'a' is given twice"), "{error}");
    let mut warnings = Vec::new();
    user_data(
        "user_data",
        &message("text/x-mine", "7bit", "x"),
        &mut warnings,
    )
    .unwrap();
    assert!(
        warnings[0].contains("part 1 has a content type"),
        "{warnings:?}"
    );
}
