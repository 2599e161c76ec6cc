//! Noticing that nobody waits for this module any more.
//!
//! Ansible leaves its modules running when it is killed, and when a task's `timeout` passes. So a
//! module watches the process that started it and the Ansible processes above that, and the
//! signals that ask it to end.

use crate::FailureKind;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, getppid, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::Failure;
use crate::reply::Reply;

/// How long the module may take to clean up before it is ended for good.
const GRACE: Duration = Duration::from_secs(10);

/// Who waits for the module's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// The process that started it: when that is gone, the module ends.
    Parent,
    /// Nobody: only signals end it.
    Nobody,
}

/// Start watching, in a thread of its own so that a busy module is watched too. The receiver
/// gets the reason when the module must end; [`GRACE`] later the process exits in any case.
/// Returns when the signals are watched, so that none of them ends the process without its cleanup. If the process that started the
/// module is gone already, or the runtime cannot be built, it returns without that.
///
/// # Errors
/// The thread could not be started.
pub fn start(reply: Arc<Reply>, waiting: Waiting) -> io::Result<oneshot::Receiver<Failure>> {
    let (sender, receiver) = oneshot::channel();
    let (ready, watching) = std::sync::mpsc::channel();
    let ancestors = match waiting {
        Waiting::Parent => ancestors(),
        Waiting::Nobody => Some(Vec::new()),
    };
    thread::Builder::new().name("watch".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let Ok(runtime) = runtime else { return };
        let Some(reason) = runtime.block_on(ended(ancestors, ready)) else {
            return;
        };
        let mut failure = Failure::new(
            FailureKind::Interrupted,
            format!("{} was interrupted: {reason}", reply.module),
        )
        .hint("run the play again: it goes on from what is");
        failure.may_have_happened = true;
        let _ = sender.send(failure.clone());
        thread::sleep(GRACE);
        reply.answer(Err(failure));
        std::process::exit(1);
    })?;
    // Fails if the thread dropped `ready` unused: it has a reason to end already, or has no runtime.
    let _ = watching.recv();
    Ok(receiver)
}

/// A process above this one.
struct Ancestor {
    pid: Pid,
    handle: OwnedFd,
}

/// The parent, and every Ansible process above it; `None` when the parent is gone already.
fn ancestors() -> Option<Vec<Ancestor>> {
    let Some(parent) = getppid() else {
        // Started from outside the PID namespace: there is nothing to see there.
        return Some(Vec::new());
    };
    let mut found = Vec::new();
    let mut next = Some(parent);
    // Deeper than any real tree; a loop could only come from processes that end meanwhile.
    for _ in 0..64 {
        let Some(pid) = next else { break };
        let arguments = arguments(pid);
        // Under async the task outlives its playbook, on purpose.
        if arguments.iter().any(|a| a.contains("async_wrapper")) {
            if pid == parent {
                found.extend(watched(pid));
            }
            break;
        }
        if pid == parent || is_ansible(&arguments) {
            found.extend(watched(pid));
        }
        next = parent_of(pid);
    }
    // A parent that ended before it was watched has been replaced by another.
    (getppid() == Some(parent)).then_some(found)
}

fn watched(pid: Pid) -> Option<Ancestor> {
    let handle = pidfd_open(pid, PidfdFlags::NONBLOCK).ok()?;
    Some(Ancestor { pid, handle })
}

fn arguments(pid: Pid) -> Vec<String> {
    let path = format!("/proc/{}/cmdline", pid.as_raw_nonzero());
    std::fs::read(path)
        .unwrap_or_default()
        .split(|byte| *byte == 0)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect()
}

/// Whether a command line is that of `ansible`, `ansible-playbook` ..., as a script of Python or
/// by itself. Mere mention is not enough: a shell that started a playbook in the background may
/// end before it.
fn is_ansible(arguments: &[String]) -> bool {
    let name = |argument: &String| argument.rsplit('/').next().unwrap_or_default().to_owned();
    let mut words = arguments.iter();
    let Some(program) = words.next().map(name) else {
        return false;
    };
    if program.starts_with("python") {
        return words
            .find(|word| !word.starts_with('-'))
            .is_some_and(|script| name(script).starts_with("ansible"));
    }
    program.starts_with("ansible")
}

/// The fourth field of `/proc/PID/stat`, after a name that may hold anything.
fn parent_of(pid: Pid) -> Option<Pid> {
    let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
    let stat = std::fs::read_to_string(path).ok()?;
    let after_name = stat.rsplit(')').next()?;
    let parent = after_name.split_whitespace().nth(1)?.parse().ok()?;
    Pid::from_raw(parent)
}

/// Wait for a reason to end, in words. `None` when there is nothing that could be watched. Says on `ready` when everything is watched.
async fn ended(ancestors: Option<Vec<Ancestor>>, ready: Sender<()>) -> Option<String> {
    let Some(ancestors) = ancestors else {
        return Some("the process that started it is gone".into());
    };
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<String>(1);
    for Ancestor { pid, handle } in ancestors {
        let sender = sender.clone();
        tokio::spawn(async move {
            // SAFETY: an OwnedFd is valid and stays the same until it is dropped, which the
            // AsyncFd that owns it does last.
            let handle = unsafe { AsyncFd::register_with_interest(handle, Interest::READABLE) };
            let Ok(handle) = handle else { return };
            // A pidfd becomes readable when its process ends.
            if handle.readable().await.is_ok() {
                let reason = format!(
                    "the process that waits for it ({}) is gone",
                    pid.as_raw_nonzero()
                );
                let _ = sender.send(reason).await;
            }
        });
    }
    let ignored = ignored_signals();
    for (kind, name) in [
        (SignalKind::terminate(), "SIGTERM"),
        (SignalKind::interrupt(), "SIGINT"),
        (SignalKind::hangup(), "SIGHUP"),
    ] {
        // Under nohup, and in the background of a shell, signals are ignored on purpose.
        if ignored & (1 << (kind.as_raw_value() - 1)) != 0 {
            continue;
        }
        let Ok(mut stream) = signal(kind) else {
            continue;
        };
        let sender = sender.clone();
        tokio::spawn(async move {
            if stream.recv().await.is_some() {
                let _ = sender.send(name.into()).await;
            }
        });
    }
    drop(sender);
    let _ = ready.send(());
    receiver.recv().await
}

/// The mask of the signals that this process ignores.
fn ignored_signals() -> u64 {
    std::fs::read_to_string("/proc/self/status")
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::is_ansible;

    #[test]
    fn ansible_is_told_from_a_mention_of_it() {
        let is = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            is_ansible(&words)
        };
        assert!(is("/usr/bin/python3 /v/bin/ansible-playbook provision.yml"));
        assert!(is("/v/bin/python3.11 -u /v/bin/ansible localhost -m x"));
        assert!(is("ansible-playbook provision.yml"));
        assert!(!is("bash -c ansible-playbook provision.yml &"));
        assert!(!is("/usr/bin/python3 /v/bin/molecule test"));
        assert!(!is(
            "/bin/sh -c /root/.ansible/tmp/ansible-tmp-1/proxmox_iso"
        ));
        assert!(!is("vim /etc/ansible/hosts"));
        assert!(!is("python3"));
    }
}
