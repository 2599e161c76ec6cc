//! What a module answered, as text for snapshots.

use std::sync::LazyLock;

use regex_lite::Regex;
use serde_json::{Map, Value};

/// What is another in each run, and what a snapshot has in its place. This is the only such list.
static DIFFERENT_IN_EACH_RUN: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let list = [
        (
            r"UPID:(\w+):[0-9A-F]{8}:[0-9A-F]{8}:[0-9A-F]{8}:",
            "UPID:$1:[task]:",
        ),
        (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "[uuid]"),
        (r"\b([0-9A-F]{2}:){31}[0-9A-F]{2}\b", "[fingerprint]"),
        (
            r"nixos-proxmox-seed-(\d+)-[0-9a-f]{12}\b",
            "nixos-proxmox-seed-$1-[hash]",
        ),
        (r"\bSHA256:[A-Za-z0-9+/]{43}", "SHA256:[key]"),
        (r"\bBC:24:11(:[0-9A-F]{2}){3}\b", "[mac]"),
        (r"\b127\.0\.0\.(\d+):\d+", "127.0.0.$1:[port]"),
        (r"\b127\.0\.0\.(\d+) port \d+", "127.0.0.$1 port [port]"),
        (r"\blooked in [^)]*", "looked in [path]"),
        (r"port \d+ of 127\.0\.0\.", "port [port] of 127.0.0."),
        (
            r"\(\d+ of (\d+) bytes were sent\)",
            "([some] of $1 bytes were sent)",
        ),
        // Which side notices first depends on how quick they are.
        (
            r"\bbroke: (connection closed before message completed|Broken pipe \(os error 32\)|Connection reset by peer \(os error 104\))",
            "broke: [how]",
        ),
        (r"\b(waited|within) [\d.]+ s\b", "$1 [seconds] s"),
        (r"has room for \d+ bytes", "has room for [free] bytes"),
        (r"/tmp/(\.tmp|sshd\.)\w{6}", "[dir]"),
        (r"\b1[5-9]\d{8}\b", "[time]"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[time]"),
    ];
    let compiled = list.map(|(pattern, instead)| (Regex::new(pattern).unwrap(), instead));
    compiled.into()
});

/// A text without what is another in each run.
pub fn redacted(text: &str) -> String {
    DIFFERENT_IN_EACH_RUN
        .iter()
        .fold(text.to_owned(), |text, (pattern, instead)| {
            pattern.replace_all(&text, *instead).into_owned()
        })
}

/// These keys of an answer, separated by blanks in `keys`, one a line: texts as they are, `diff` as lines with `-` and `+`, anything
/// else as JSON. A key that the answer has not has no line.
pub fn shown(answer: &Value, keys: &str) -> String {
    let lines = keys.split(' ').filter_map(|key| {
        let value = answer.get(key)?;
        Some(match value {
            Value::Object(both) if key == "diff" => format!("diff:{}", diff(both)),
            value => format!("{key}: {}", plain(value)),
        })
    });
    redacted(&lines.collect::<Vec<_>>().join("\n"))
}

/// A failure: its kind and message, on a line of its own the hint, and on another what was changed before, if anything.
pub fn failure(answer: &Value) -> String {
    assert_eq!(answer["failed"], true, "{answer:#}");
    let (error, msg) = (&answer["error"], answer["msg"].as_str().unwrap());
    let mut text = format!("{}: ", error["kind"].as_str().unwrap());
    match error["hint"].as_str() {
        // The message ends with it.
        Some(hint) if msg.contains(hint) => {
            text += &msg.replace(&format!("; {hint}"), &format!("\n  {hint}"))
        }
        Some(hint) => text += &format!("{msg}\n  hint: {hint}"),
        None => text += msg,
    }
    if answer["changed"] == true {
        let done = answer.get("done").or(answer.get("actions"));
        text += &format!("\n  changed: {}", done.unwrap_or(&answer["changed"]));
    }
    redacted(&text)
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) if !text.contains('\n') => text.clone(),
        value => value.to_string(),
    }
}

/// What is in both is indented, what differs is there twice.
fn diff(both: &Map<String, Value>) -> String {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    flat("", &both["before"], &mut before);
    flat("", &both["after"], &mut after);
    let mut lines = String::new();
    for (key, value) in &before {
        let sign = if after.contains(&(key.clone(), value.clone())) {
            ' '
        } else {
            '-'
        };
        lines += &format!("\n{sign} {key}: {value}");
    }
    for (key, value) in after.iter().filter(|entry| !before.contains(entry)) {
        lines += &format!("\n+ {key}: {value}");
    }
    lines
}

fn flat(path: &str, value: &Value, to: &mut Vec<(String, String)>) {
    match value {
        Value::Object(object) if !object.is_empty() => {
            for (key, value) in object {
                let dot = if path.is_empty() { "" } else { "." };
                flat(&format!("{path}{dot}{key}"), value, to);
            }
        }
        Value::Object(_) if path.is_empty() => {}
        value => to.push((path.to_owned(), plain(value))),
    }
}
