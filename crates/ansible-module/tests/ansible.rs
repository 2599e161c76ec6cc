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

/// Whatever Ansible left in its temporary directories that has the secret in it.
fn with_the_secret(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![
        folder.join("remote"),
        folder.join("local"),
        folder.join("async"),
    ];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if fs::read(&path).is_ok_and(|bytes| bytes.windows(7).any(|b| b == b"hunter2")) {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn the_argument_file_is_gone_once_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let play = r#"
- hosts: localhost
  gather_facts: false
  vars: {secret: SECRET}
  tasks:
    - probe: {token: "{{ secret }}", behaviour: keep}
      loop: [1, 2]
    - probe: {token: "{{ secret }}", behaviour: keep}
      check_mode: true
    - probe: {token: "{{ secret }}", behaviour: fail}
      register: failed
      until: false
      retries: 1
      delay: 0
      ignore_errors: true
    - probe: {token: "{{ secret }}", behaviour: keep}
      async: 30
      poll: 1
    - probe: {token: "{{ secret }}", behaviour: keep}
      async: 30
      poll: 0
      register: job
    - async_status: {jid: "{{ job.ansible_job_id }}"}
      register: result
      until: result is finished
      retries: 100
      delay: 0.2
    - probe: {token: "{{ secret }}", behaviour: wait, marker: MARKER}
"#;
    let marker = folder.path().join("marker");
    let play = play
        .replace("SECRET", &serde_json::json!(SECRET).to_string())
        .replace("MARKER", &marker.display().to_string());
    fs::write(folder.path().join("play.yml"), play).unwrap();
    let Some(mut command) = ansible("ansible-playbook", folder.path()) else {
        return;
    };
    let python = command
        .get_program()
        .to_str()
        .unwrap()
        .replace("ansible-playbook", "python");
    command
        .env("ANSIBLE_ASYNC_DIR", folder.path().join("async"))
        .args([
            "-vvvv",
            "-e",
            &format!("ansible_python_interpreter={python}"),
            "play.yml",
        ]);
    let mut ansible = start(&mut command);
    let module = marked(&marker);
    assert_eq!(with_the_secret(folder.path()), Vec::<PathBuf>::new());
    // Nobody cleans up after this one.
    ansible.kill().unwrap();
    let output = ansible.wait_with_output().unwrap();
    gone(module);
    assert_eq!(with_the_secret(folder.path()), Vec::<PathBuf>::new());
    let text = printed(&output);
    assert_no_secret(&text);
    // Ansible's own cleanup does not miss it.
    for trouble in ["Error deleting", "No such file", "Traceback"] {
        assert!(!text.contains(trouble), "{text}");
    }
}

#[test]
fn the_argument_file_is_kept_when_ansible_keeps_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut command) = ansible("ansible", folder.path()) else {
        return;
    };
    command
        .env("ANSIBLE_KEEP_REMOTE_FILES", "1")
        .args(["-M", "library", "localhost", "-m", "probe"])
        .args(["-a", "behaviour=keep token=hunter2-and-more"]);
    let output = start(&mut command).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", printed(&output));
    assert_eq!(with_the_secret(folder.path()).len(), 1);
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
