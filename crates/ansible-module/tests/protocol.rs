//! The module as a process: arguments in, one line out, and an end in every case.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod common;

use std::process::Command;

use common::{
    SECRET, arguments, assert_no_secret, eventually, gone, marked, printed, probe, send, start,
};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Run the module; its result and exit code. Nothing it prints holds the secret.
fn run(given: Value) -> (Value, i32) {
    let folder = tempfile::tempdir().unwrap();
    let output = start(Command::new(probe()).arg(arguments(folder.path(), &given)))
        .wait_with_output()
        .unwrap();
    assert_no_secret(&printed(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    assert_eq!(printed_errors(&output.stderr), "");
    (
        serde_json::from_str(&text).unwrap(),
        output.status.code().unwrap(),
    )
}

fn printed_errors(stderr: &[u8]) -> String {
    String::from_utf8_lossy(stderr).into_owned()
}

#[test]
fn a_change() {
    let (result, code) = run(json!({
        "login": {"user": "me", "password": SECRET}, "count": "5", "_ansible_unknown": 1,
    }));
    assert_eq!(code, 0);
    assert_eq!(
        result,
        json!({
            "changed": true, "msg": "changed it", "echo": "<********>", "number": 5, "login": "me",
            "warnings": ["a warning with ********"], "schema_version": 1,
            "invocation": {"module_args": {
                "behaviour": "change", "marker": null, "number": 5, "token": null,
                "login": {"user": "me", "password": "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"},
            }},
        })
    );
}

#[test]
fn a_short_secret_leaves_facts_whole_and_is_warned_of() {
    let (result, _) = run(json!({"token": "1"}));
    assert_eq!(result["schema_version"], 1, "{result}");
    assert_eq!(result["echo"], "<1>");
    assert_eq!(
        result["warnings"],
        json!([
            "a warning with 1",
            "token: a value of fewer than 4 characters is not masked in messages; use a longer one",
        ])
    );
    let (result, _) = run(json!({"login": {"user": "me", "password": "nixos"}}));
    assert_eq!(result["echo"], "<nixos>");
    assert_eq!(
        result["warnings"],
        json!([
            "a warning with ********",
            "login.password: a value of fewer than 7 characters is not masked inside other words; \
             use a longer one",
        ])
    );
}

/// No string within `value` holds what controls a terminal.
fn assert_shown(value: &Value) {
    match value {
        Value::String(text) => {
            let controls = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!text.contains(controls), "{text:?}");
        }
        Value::Array(items) => items.iter().for_each(assert_shown),
        Value::Object(map) => map.values().for_each(assert_shown),
        _ => {}
    }
}

/// Whoever else had a hand in it: a guest, a server, a program.
#[test]
fn nothing_in_a_result_controls_the_terminal() {
    let hostile = "x\u{1b}]0;pwn\u{7}\u{9b}31m\r\u{202e}y";
    for given in [
        json!({"behaviour": "fail", "login": {"user": hostile, "password": "p"}, "number": hostile}),
        json!({"behaviour": "change", "login": {"user": hostile}, "_ansible_diff": true}),
        json!({"behaviour": "panic", "marker": format!("/nowhere/{hostile}")}),
        json!({"behaviour": hostile}),
        json!({hostile: hostile}),
    ] {
        let (result, _) = run(given);
        assert_shown(&result);
        assert!(result.to_string().contains("pwn"), "{result}");
    }
}

/// A secret that Ansible names itself.
#[test]
fn secrets_that_ansible_hands_over_are_masked() {
    let (result, _) = run(json!({
        "login": {"user": SECRET}, "_ansible_new_secrets": [SECRET], "_ansible_version": "2.22.0",
    }));
    assert_eq!(result["login"], "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER");
}

#[test]
fn a_difference_only_when_asked_for() {
    let (result, _) = run(json!({
        "token": SECRET, "_ansible_diff": true, "_ansible_check_mode": true,
    }));
    assert_eq!(result["msg"], "would change it");
    assert_eq!(
        result["diff"],
        json!({
            "before": {"size": 1},
            "after": {"size": 2, "by": "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"},
            "before_header": "the thing", "after_header": "the thing",
        })
    );
}

#[test]
fn a_failure_says_what_was_done() {
    let (result, code) = run(json!({"behaviour": "fail", "token": SECRET}));
    assert_eq!(code, 1);
    assert_eq!(result["failed"], true);
    assert_eq!(result["changed"], true);
    assert_eq!(result["made"], "the first half");
    assert_eq!(result["msg"], "no use of ******** here; use another");
    assert_eq!(result["error"]["kind"], "refused");
    assert_eq!(result["error"]["object"], "the thing");
    assert_eq!(result["error"]["status"], 403);
    assert_eq!(result["error"]["hint"], "use another");
}

#[test]
fn a_panic_is_a_failure() {
    let (result, code) = run(json!({"behaviour": "panic", "token": SECRET}));
    assert_eq!(code, 1);
    assert_eq!(result["error"]["kind"], "internal");
    let msg = result["msg"].as_str().unwrap();
    assert!(
        msg.starts_with("internal error in probe: cannot go on with ********"),
        "{msg}"
    );
}

#[test]
fn unknown_options_are_refused_and_their_values_not_shown() {
    let (result, code) = run(json!({"tokn": SECRET, "_ansible_module_name": "a.b.probe"}));
    assert_eq!(code, 1);
    assert_eq!(
        result["msg"],
        "Unsupported parameters for (a.b.probe) module: tokn. Supported parameters include: \
         behaviour, login, marker, number, token (count)."
    );
    let (result, _) = run(json!({"x": 1, "_ansible_ignore_unknown_opts": true}));
    assert_eq!(result["changed"], true);
}

#[test]
fn rules_and_ranges() {
    let (result, _) = run(json!({"token": SECRET, "login": {"user": "me"}}));
    assert_eq!(
        result["msg"],
        "parameters are mutually exclusive: token|login"
    );
    let (result, _) = run(json!({"login": {"password": SECRET}}));
    assert_eq!(
        result["msg"],
        "missing required arguments: user found in login"
    );
    let (result, _) = run(json!({"number": 70000}));
    assert_eq!(
        result["msg"],
        "value of number must be between 0 and 65535, got: 70000"
    );
    // A dict with a secret that cannot be read as one is not shown either.
    let (result, _) = run(json!({"login": format!("{SECRET} x")}));
    assert_eq!(result["failed"], true);
}

#[test]
fn the_invocation_is_returned_when_it_should_be() {
    let (result, _) = run(json!({"_ansible_inject_invocation": false}));
    assert!(result.get("invocation").is_none());
    let (result, _) = run(json!({"_ansible_inject_invocation": true}));
    assert_eq!(result["invocation"]["module_args"]["behaviour"], "change");
    let (result, _) = run(json!({"behaviour": "fail", "token": SECRET, "_ansible_no_log": true}));
    assert!(result.get("invocation").is_none());
    assert_eq!(
        result["msg"],
        "probe failed (refused); the task's no_log hides why"
    );
}

#[test]
fn a_secret_from_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(probe());
    command.arg(arguments(folder.path(), &json!({})));
    let output = start(command.env("PROBE_TOKEN", SECRET))
        .wait_with_output()
        .unwrap();
    assert_no_secret(&printed(&output));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["echo"], "<********>");
}

#[test]
fn arguments_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("none"), folder.path().to_owned()] {
        let output = start(Command::new(probe()).arg(path))
            .wait_with_output()
            .unwrap();
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(result["error"]["kind"], "invocation");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn signals_end_it_with_its_cleanup() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let folder = tempfile::tempdir().unwrap();
        let marker = folder.path().join("marker");
        let given = arguments(
            folder.path(),
            &json!({"behaviour": "wait", "marker": marker}),
        );
        // Ignored signals are inherited, and in the background of a shell the tests themselves have some.
        let child = start(
            Command::new("env")
                .arg("--default-signal=TERM,INT,HUP")
                .arg(probe())
                .arg(given),
        );
        marked(&marker);
        send(&child, signal);
        let output = child.wait_with_output().unwrap();
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(result["error"]["kind"], "interrupted", "{result}");
        assert_eq!(output.status.code(), Some(1));
        assert!(!marker.exists());
    }
}

#[test]
fn ignored_signals_stay_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("marker");
    let given = arguments(
        folder.path(),
        &json!({"behaviour": "wait", "marker": marker}),
    );
    let script = "trap '' HUP; exec \"$0\" \"$1\"";
    let child = start(
        Command::new("sh")
            .args(["-c", script])
            .arg(probe())
            .arg(given),
    );
    marked(&marker);
    send(&child, Signal::HUP);
    send(&child, Signal::TERM);
    let output = child.wait_with_output().unwrap();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        result["msg"],
        "probe was interrupted: SIGTERM; run the play again: it goes on from what is"
    );
}

#[test]
fn it_ends_with_its_parent() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("marker");
    let given = arguments(
        folder.path(),
        &json!({"behaviour": "wait", "marker": marker}),
    );
    let script = "\"$0\" \"$1\"; true";
    let mut shell = start(
        Command::new("sh")
            .args(["-c", script])
            .arg(probe())
            .arg(given),
    );
    let module = marked(&marker);
    shell.kill().unwrap();
    shell.wait().unwrap();
    eventually("the cleanup", || (!marker.exists()).then_some(()));
    gone(module);
}

#[test]
fn it_ends_even_when_it_is_stuck() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("marker");
    let given = arguments(
        folder.path(),
        &json!({"behaviour": "block", "marker": marker}),
    );
    let child = start(Command::new(probe()).arg(given));
    marked(&marker);
    send(&child, Signal::TERM);
    let output = child.wait_with_output().unwrap();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["error"]["kind"], "interrupted");
}
