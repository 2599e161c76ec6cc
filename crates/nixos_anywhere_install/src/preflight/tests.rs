//! Every mistake is found, with all others, and named by its option.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use ansible_module::FailureKind;
use serde_json::{Value, json};

use super::*;
use crate::values::ssh_options::SSH_OPTIONS;

/// Options without a mistake, of a controller in `dir`, with `more`.
fn options(dir: &Path, more: &Value) -> Options {
    let key = dir.join("key");
    if !key.exists() {
        let made = Command::new("ssh-keygen")
            .args(["-q", "-N", "", "-t", "ed25519", "-f"])
            .arg(&key)
            .status()
            .unwrap();
        assert!(made.success());
        for program in ["nix", "nixos-anywhere"] {
            let status = Command::new("sh")
                .args([
                    "-c",
                    "printf '#!/bin/sh\\n' >\"$1\" && chmod 755 \"$1\"",
                    "sh",
                ])
                .arg(dir.join(program))
                .status();
            assert!(status.unwrap().success());
        }
    }
    let public = fs::read_to_string(dir.join("key.pub")).unwrap();
    let mut options = json!({
        "host": "192.0.2.11", "private_key_file": key, "host_keys": [public],
        "flake": "/infra#web1", "tools_path": dir,
    });
    for (key, value) in more.as_object().unwrap() {
        options[key] = value.clone();
    }
    serde_json::from_value(options).unwrap()
}

fn found(dir: &Path, more: &Value) -> Vec<(String, String)> {
    preflight(&options(dir, more))
        .into_iter()
        .map(|mistake| (mistake.option, mistake.problem))
        .collect()
}

#[test]
fn what_nixos_anywhere_would_misread_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert_eq!(found(dir, &json!({})), []);
    for more in [
        json!({"extra_files": [{"path": "/etc/x", "content": "x", "owner": "1000:100"}]}),
        json!({"ssh_options": {"ciphers": "aes128-gcm@openssh.com,aes256-gcm@openssh.com"}}),
        json!({"override_inputs": {"a/b": "github:me/infra?dir=b", "_c": "."}}),
        json!({"nix_options": {"sandbox": false, "extra-substituters": ["https://a", "https://b"]}}),
        json!({"nix_options": {"access-tokens": "github.com=ghp_1", "bash-prompt": "# "}}),
        json!({
            "nix_options": {"cores": 2},
            "generate_hardware_config": {"backend": "nixos-facter", "path": "/f.json"},
        }),
        json!({"host": null, "state": "built"}),
        // As the role hands on what was built with it.
        json!({"flake": null, "store_paths": {"disko": "/", "system": "/"}, "disko_deps": false}),
    ] {
        assert_eq!(found(dir, &more), [], "{more}");
    }
    for (option, more) in [
        ("host", json!({"host": "root@192.0.2.11"})),
        ("user", json!({"user": "a@b"})),
        ("user", json!({"user": "-x"})),
        ("installed_user", json!({"installed_user": "a b"})),
        ("port", json!({"port": 0})),
        ("host_keys", json!({"host_keys": ["ssh-ed25519 AAAA"]})),
        ("phases", json!({"phases": []})),
        (
            "user",
            json!({"user": "nixos", "phases": ["disko", "install"]}),
        ),
        (
            "force_kexec",
            json!({"force_kexec": true, "phases": ["disko", "install"]}),
        ),
        ("flake", json!({"flake": "web1"})),
        (
            "nixos_anywhere_flake",
            json!({"nixos_anywhere_flake": "-x"}),
        ),
        (
            "ssh_options",
            json!({"ssh_options": {"StrictHostKeyChecking": "no"}}),
        ),
        (
            "ssh_options",
            json!({"ssh_options": {"ProxyCommand": "nc bastion 22"}}),
        ),
        (
            "ssh_options",
            json!({"ssh_options": {"ProxyJump": "-oProxyCommand=x"}}),
        ),
        (
            "ssh_options",
            json!({"ssh_options": {"BindAddress": "192.0.2.1"}, "jump_host": "bastion"}),
        ),
        ("jump_host", json!({"jump_host": "ssh://bastion"})),
        (
            "jump_host_keys",
            json!({"jump_host": "bastion", "jump_host_keys": ["ssh-ed25519"]}),
        ),
        (
            "jump_host_private_key_file",
            json!({"jump_host": "bastion", "jump_host_private_key_file": "/none"}),
        ),
        (
            "ssh_options",
            json!({"ssh_options": {"Ciphers": "a -oProxyCommand=x"}}),
        ),
        ("ssh_options", json!({"ssh_options": {"Ciphers": ""}})),
        (
            "ssh_options",
            json!({"ssh_options": {"IPQoS": ["lowdelay", "throughput"]}}),
        ),
        ("ssh_options", json!({"ssh_options": {"Ciphers": {"a": 1}}})),
        (
            "ssh_store_settings",
            json!({"ssh_store_settings": {"remote-store": "x"}}),
        ),
        (
            "ssh_store_settings",
            json!({"ssh_store_settings": {"compress": "true&ssh-key=/x"}}),
        ),
        (
            "ssh_store_settings",
            json!({"ssh_store_settings": {"compress": null}}),
        ),
        (
            "override_inputs",
            json!({"override_inputs": {"--impure": "/infra"}}),
        ),
        (
            "override_inputs",
            json!({"override_inputs": {"a": "--impure"}}),
        ),
        (
            "override_inputs",
            json!({"override_inputs": {"a": "/infra#web1"}}),
        ),
        (
            "override_inputs",
            json!({"override_inputs": {"a": "/infra"}, "build_on": "remote"}),
        ),
        ("nix_options", json!({"nix_options": {"cores": {"a": 1}}})),
        ("nix_options", json!({"nix_options": {"--eval": "x"}})),
        ("nix_options", json!({"nix_options": {"include": "/x"}})),
        (
            "nix_options",
            json!({"nix_options": {"substituters": "https://me:p#w@c"}}),
        ),
        (
            "nix_options",
            json!({
                "nix_options": {"access-tokens": "github.com=ghp_1"},
                "generate_hardware_config": {"backend": "nixos-facter", "path": "/f.json"},
            }),
        ),
        (
            "nix_options",
            json!({"nix_options": {"extra-substituters": "['a', 'b']"}}),
        ),
        (
            "extra_files",
            json!({"extra_files": [{"path": "etc/x", "content": "x"}]}),
        ),
        (
            "extra_files",
            json!({"extra_files": [{"path": "/etc/../x", "content": "x"}]}),
        ),
        ("extra_files", json!({"extra_files": [{"path": "/etc/x"}]})),
        (
            "extra_files",
            json!({"extra_files": [{"path": "/etc/x", "content": "x", "mode": "384"}]}),
        ),
        (
            "extra_files",
            json!({"extra_files": [{"path": "/etc/x", "content": "x", "mode": "u=rw"}]}),
        ),
        (
            "extra_files",
            json!({"extra_files": [{"path": "/etc/x", "content": "x", "owner": "a:b:c"}]}),
        ),
        (
            "extra_files",
            json!({"extra_files": [{"path": "/etc/x", "content": "x", "owner": ":"}]}),
        ),
        (
            "extra_files",
            json!({"extra_files": [{"path": "/etc/x", "content": "x", "owner": "-R"}]}),
        ),
        (
            "extra_files",
            json!({"extra_files": [{"path": "/a b", "content": "x", "owner": "1"}]}),
        ),
        (
            "extra_files",
            json!({"extra_files": [{"path": "/etc/a-very-long-path-that-would-be-cut", "content": "x", "owner": "1"}]}),
        ),
        (
            "extra_files",
            json!({"extra_files": [{"path": "/etc/x", "content": "x"}, {"path": "/etc/x/y", "content": "x"}]}),
        ),
        (
            "build_on",
            json!({"flake": null, "store_paths": {"disko": "/", "system": "/"}, "build_on": "remote"}),
        ),
        (
            "flake",
            json!({"flake": ".#nixosConfigurations.\"a.b\".config.virtualisation.vmVariant", "build_on": "remote"}),
        ),
    ] {
        let found = found(dir, &more);
        assert_eq!(found.len(), 1, "{more}: {found:?}");
        assert_eq!(found[0].0, option, "{more}: {found:?}");
        // No value in Python's spelling.
        assert!(!found[0].1.contains("{'"), "{found:?}");
    }
}

#[test]
fn what_is_not_there_or_cannot_be_read_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (file, empty) = (dir.join("file"), dir.join("tree"));
    fs::write(&file, "x").unwrap();
    fs::create_dir(&empty).unwrap();
    let gone = dir.join("gone");
    let src = |path: &Path| json!({"extra_files": [{"path": "/etc/x", "src": path}]});
    let key = |path: &Path| json!({"disk_encryption_keys": [{"remote": "/tmp/k", "local": path}]});
    let paths = |path: &Path| json!({"flake": null, "store_paths": {"disko": path, "system": "/"}});
    let hardware = json!({"backend": "nixos-facter", "path": dir});
    for (option, more, part) in [
        ("extra_files", src(&gone), "does not exist"),
        ("extra_files", src(dir), "is a directory"),
        (
            "extra_files",
            src(Path::new("/dev/null")),
            "not a regular file",
        ),
        ("disk_encryption_keys", key(&gone), "does not exist"),
        ("disk_encryption_keys", key(dir), "is a directory"),
        (
            "disk_encryption_keys",
            json!({"disk_encryption_keys": [{"remote": "tmp/k", "local": file}]}),
            "absolute path",
        ),
        (
            "disk_encryption_keys",
            json!({"disk_encryption_keys": [{"remote": "/tmp/k;reboot", "local": file}]}),
            "absolute path",
        ),
        (
            "extra_files_dir",
            json!({"extra_files_dir": gone}),
            "does not exist",
        ),
        (
            "extra_files_dir",
            json!({"extra_files_dir": file}),
            "is not a directory",
        ),
        (
            "private_key_file",
            json!({"private_key_file": gone}),
            "does not exist",
        ),
        (
            "private_key_file",
            json!({"private_key_file": dir}),
            "is a directory",
        ),
        (
            "private_key_file",
            json!({"private_key_file": file}),
            "not a private key",
        ),
        ("store_paths", paths(&gone), "does not exist"),
        ("kexec", json!({"kexec": gone}), "does not exist"),
        (
            "generate_hardware_config",
            json!({"generate_hardware_config": hardware}),
            "is a directory",
        ),
        ("log_path", json!({"log_path": dir}), "is a directory"),
        (
            "log_path",
            json!({"log_path": gone.join("log")}),
            "is not a directory",
        ),
        (
            "nixos_anywhere",
            json!({"nixos_anywhere": "nixos-anywhere-of-tomorrow"}),
            "was not found",
        ),
    ] {
        let found = found(dir, &more);
        assert_eq!(found.len(), 1, "{more}: {found:?}");
        assert!(
            found[0].0 == option && found[0].1.contains(part),
            "{found:?}"
        );
    }
    // A relative path is one of the directory that the module runs in, and is shown as that.
    let found = found(dir, &src(Path::new("secrets/x")));
    let here = std::env::current_dir().unwrap().join("secrets/x");
    let shown = format!("secrets/x ({}) does not exist", here.display());
    assert!(found[0].1.contains(&shown), "{found:?}");
}

#[test]
fn a_key_that_ssh_cannot_load_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    options(dir, &json!({}));
    let text = fs::read_to_string(dir.join("key")).unwrap();
    let cut: Vec<&str> = text.lines().take(3).collect();
    fs::write(dir.join("cut"), cut.join("\n")).unwrap();
    let found = found(dir, &json!({"private_key_file": dir.join("cut")}));
    assert!(
        found[0].0 == "private_key_file" && found[0].1.contains("cannot load"),
        "{found:?}"
    );
    // Others may read it: the copy for nixos-anywhere is private.
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir.join("key"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(self::found(dir, &json!({})), []);
}

#[test]
fn a_single_file_below_a_link_of_the_tree_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let tree = dir.join("tree");
    fs::create_dir_all(tree.join("etc/dir")).unwrap();
    fs::write(tree.join("etc/file"), "x").unwrap();
    symlink("/persist/etc/ssh", tree.join("etc/ssh")).unwrap();
    symlink("/nowhere", tree.join("etc/link")).unwrap();
    let at = |path: &str| json!({"extra_files_dir": tree, "extra_files": [{"path": path, "content": "x"}]});
    for (path, part) in [
        (
            "/etc/ssh/key",
            "/etc/ssh is a symbolic link to /persist/etc/ssh",
        ),
        (
            "/etc//ssh/./key",
            "/etc/ssh is a symbolic link to /persist/etc/ssh",
        ),
        (
            "/etc/ssh/deep/key",
            "/etc/ssh is a symbolic link to /persist/etc/ssh",
        ),
        ("/etc/file/key", "/etc/file is a file"),
        ("/etc/dir", "is a directory"),
    ] {
        let found = found(dir, &at(path));
        assert_eq!(found.len(), 1, "{path}: {found:?}");
        assert!(
            found[0].0 == "extra_files" && found[0].1.contains(part),
            "{found:?}"
        );
    }
    for path in ["/etc/link", "/etc/file", "/etc/dir/new", "/new/x"] {
        assert_eq!(found(dir, &at(path)), [], "{path}");
    }
}

#[test]
fn all_mistakes_are_reported_together() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(
        dir.path(),
        &json!({
            "host": "root@web1", "flake": ".", "nix_options": {"cores": null},
            "extra_files": [
                {"path": "/etc/x", "src": "/gone", "mode": "600"},
                {"path": "etc/y", "content": "x"},
            ],
            "disk_encryption_keys": [{"remote": "/tmp/k", "local": "/gone"}],
        }),
    );
    let failure = refuse(&preflight(&options)).unwrap_err();
    assert_eq!(failure.kind, FailureKind::InvalidOption);
    for part in [
        "7 mistakes:",
        "- host: ",
        "- flake: ",
        "- nix_options: cores: ",
        "- extra_files: /etc/x: mode",
        "- extra_files: /etc/x: src: /gone does not exist",
        "- extra_files: etc/y: ",
        "- disk_encryption_keys: local: /gone does not exist",
    ] {
        assert!(failure.msg.contains(part), "{part}: {}", failure.msg);
    }
    let listed = failure.values["mistakes"].as_array().unwrap();
    assert_eq!(listed.len(), 7);
    assert_eq!(listed[0]["option"], "host");
}

#[test]
fn the_documentation_names_the_options_for_ssh() {
    let schema = schemars::schema_for!(Options).to_value();
    let text = schema["properties"]["ssh_options"]["description"].as_str();
    let named: Vec<&str> = text
        .unwrap()
        .split("V(")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .collect();
    let mut known: Vec<&str> = SSH_OPTIONS.iter().map(|(name, _)| *name).collect();
    known.push("ProxyJump");
    assert_eq!(named, known);
}
