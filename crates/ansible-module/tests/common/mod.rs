//! What the tests of the running module share.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A secret with characters that are encoded in URLs, JSON and shells.
pub const SECRET: &str = "hunter2/\"& s€cret";

/// The example module, which cargo builds along with the tests.
pub fn probe() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.join("examples/probe")
}

/// Write the arguments as Ansible does.
pub fn arguments(folder: &Path, arguments: &Value) -> PathBuf {
    let path = folder.join("args");
    fs::write(&path, arguments.to_string()).unwrap();
    path
}

/// Start `command` with its output kept.
pub fn start(command: &mut Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Poll until `condition` gives something; the test fails when it does not within a minute.
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < end, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The process that wrote its number into the marker file.
pub fn marked(path: &Path) -> Pid {
    eventually("the module starts", || {
        let text = fs::read_to_string(path).ok()?;
        Pid::from_raw(text.parse().ok()?)
    })
}

/// Wait until a process has ended, whether or not somebody has collected it.
pub fn gone(pid: Pid) {
    eventually("the process ends", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        stat.map_or(true, |stat| stat.contains(") Z "))
            .then_some(())
    });
}

/// Send `signal` to a process that this test started.
pub fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Everything that a command printed.
pub fn printed(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// No spelling of the secret is in `text`.
pub fn assert_no_secret(text: &str) {
    for part in ["hunter2", "s€cret", "s\\u20accret", "%E2%82%AC"] {
        assert!(!text.contains(part), "{part} found in: {text}");
    }
}
