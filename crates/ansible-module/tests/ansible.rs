//! The module under the real Ansible, if the project's `.venv` has it.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{SECRET, assert_no_secret, eventually, gone, marked, printed, probe, start};

/// A command of Ansible, away from the user's own configuration; `None` without a `.venv`.
fn ansible(program: &str, folder: &Path) -> Option<Command> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let program = root.join(".venv/bin").join(program);
    if !program.exists() {
        eprintln!("skipped: there is no {}", program.display());
        return None;
    }
    let library = folder.join("library");
    fs::create_dir_all(&library).unwrap();
    fs::copy(probe(), library.join("probe")).unwrap();
    let config = folder.join("ansible.cfg");
    fs::write(&config, "").unwrap();
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .env("ANSIBLE_CONFIG", &config)
        .env("ANSIBLE_LOCAL_TEMP", folder.join("local"))
        .env("ANSIBLE_REMOTE_TEMP", folder.join("remote"))
        .env("ANSIBLE_NOCOLOR", "1")
        .env("LC_ALL", "C.UTF-8")
        .env_remove("PROBE_TOKEN")
        .args(["-i", "localhost,", "-c", "local"]);
    Some(command)
}

#[test]
fn under_a_playbook() {
    let folder = tempfile::tempdir().unwrap();
    let play = include_str!("play.yml").replace("SECRET", &serde_json::json!(SECRET).to_string());
    fs::write(folder.path().join("play.yml"), play).unwrap();
    for extra in [
        &["-e", "checking=false"][..],
        &["--check", "--diff", "-e", "checking=true"],
    ] {
        let Some(mut command) = ansible("ansible-playbook", folder.path()) else {
            return;
        };
        command.args(["-vvvv", "play.yml"]).args(extra);
        let output = start(&mut command).wait_with_output().unwrap();
        let text = printed(&output);
        assert!(output.status.success(), "{text}");
        assert_no_secret(&text);
        assert!(
            text.contains("VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"),
            "{text}"
        );
        assert!(!text.contains("No start of json"), "{text}");
        // The difference is drawn when it was asked for.
        assert_eq!(
            text.contains("+++ after: the thing"),
            extra.contains(&"--diff"),
            "{text}"
        );
    }
}

#[test]
fn its_documentation_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let Some(command) = ansible("ansible-doc", folder.path()) else {
        return;
    };
    let program = command.get_program().to_owned();
    let docs = Command::new(probe()).arg("--docs").output().unwrap();
    fs::write(folder.path().join("library/probe.yml"), docs.stdout).unwrap();
    let output = Command::new(program)
        .args(["-t", "module", "-M", "library", "-j", "probe"])
        .env("LC_ALL", "C.UTF-8")
        .env("ANSIBLE_LOCAL_TEMP", folder.path().join("local"))
        .current_dir(folder.path())
        .output()
        .unwrap();
    let shown: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", printed(&output)));
    let options = &shown["probe"]["doc"]["options"];
    assert_eq!(options["behaviour"]["default"], "change");
    assert_eq!(options["login"]["suboptions"]["user"]["required"], true);
    assert_eq!(options["number"]["aliases"][0], "count");
    assert!(
        shown["probe"]["examples"]
            .as_str()
            .unwrap()
            .contains("behaviour: keep")
    );
    assert_eq!(shown["probe"]["return"]["login"]["type"], "str");
}

#[test]
fn it_does_not_outlive_a_killed_ansible() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("marker");
    let play = format!(
        "- hosts: localhost\n  gather_facts: false\n  tasks:\n    - probe:\n        behaviour: wait\n        marker: {}\n",
        marker.display()
    );
    fs::write(folder.path().join("wait.yml"), play).unwrap();
    let Some(mut command) = ansible("ansible-playbook", folder.path()) else {
        return;
    };
    let mut ansible = start(command.arg("wait.yml"));
    let module = marked(&marker);
    ansible.kill().unwrap();
    ansible.wait().unwrap();
    eventually("the cleanup", || (!marker.exists()).then_some(()));
    gone(module);
}
