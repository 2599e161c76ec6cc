//! Watching a console beside something else: its last lines, and whether the kernel panicked.

use std::fs::File;
use std::io::Write;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadline::{Deadline, backoff};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{ConsoleError, Lines};
use crate::Client;

/// How often it is looked whether the VM runs by now. What it prints before it is watched is lost.
const LOOK: Duration = Duration::from_millis(250);
/// The longest pause between two attempts that failed.
const PAUSE: Duration = Duration::from_secs(5);
/// How often the console is opened in vain; each time is a task in Proxmox VE's list.
const ATTEMPTS: u32 = 10;
/// What Linux prints last of all (kernel/panic.c).
const PANIC: &str = "Kernel panic - not syncing";

/// [`Tail::unread`] of a console that was open.
pub const SILENT: &str = "it stayed silent";

/// What a watched console has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Its last lines, cleaned.
    pub lines: Vec<String>,
    /// Why there are none.
    pub unread: Option<String>,
}

/// A console that is watched until this is dropped, or somebody is asked for a passphrase there.
///
/// It never fails: what keeps it from being read is in the [`Tail`].
pub struct Watch {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    state: Mutex<State>,
    panicked: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    lines: Lines,
    log: Option<Log>,
    /// Whether it was open once.
    opened: bool,
    obstacle: Option<String>,
}

/// Where all lines go too, up to a size.
pub struct Log {
    file: File,
    left: usize,
}

impl Log {
    /// A log in this file, of at most `most` bytes.
    pub fn new(file: File, most: usize) -> Self {
        Self { file, left: most }
    }

    /// Nothing is given up for a log that cannot be written.
    fn write(&mut self, line: &str) {
        if self.left == 0 {
            return;
        }
        if line.len() >= self.left {
            self.left = 0;
            let _ = writeln!(self.file, "(what follows is left out)");
            return;
        }
        self.left -= line.len() + 1;
        let _ = writeln!(self.file, "{line}");
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Watch the console at the serial port `serial` of a VM, from when it runs.
    pub fn start(
        client: Client,
        node: &str,
        vmid: u32,
        serial: &str,
        log: Option<Log>,
        deadline: Deadline,
    ) -> Self {
        let state = State {
            log,
            ..State::default()
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            panicked: watch::Sender::new(false),
        });
        let (node, serial, watched) = (node.to_owned(), serial.to_owned(), shared.clone());
        let task = tokio::spawn(async move {
            follow(&client, &node, vmid, &serial, &watched, &deadline).await;
        });
        Self { shared, task }
    }

    /// The last `most` lines.
    pub fn tail(&self, most: usize) -> Tail {
        let state = self.shared.state();
        let lines = state.lines.last(most);
        let unread = match (&state.obstacle, state.opened) {
            _ if !lines.is_empty() => None,
            (Some(obstacle), _) => Some(obstacle.clone()),
            (None, true) => Some(SILENT.into()),
            (None, false) => Some("it was not open yet".into()),
        };
        Tail { lines, unread }
    }

    /// Wait until the kernel says that it panicked.
    pub async fn panicked(&self) {
        let mut panicked = self.shared.panicked.subscribe();
        // The sender is ours, so it does not go away.
        let _ = panicked.wait_for(|panicked| *panicked).await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Read the console again and again: it ends when the VM is stopped.
async fn follow(
    client: &Client,
    node: &str,
    vmid: u32,
    serial: &str,
    shared: &Shared,
    deadline: &Deadline,
) {
    let mut attempts = 0;
    loop {
        if !runs(client, node, vmid, shared, deadline).await {
            return;
        }
        match client.open_console(node, vmid, serial, deadline).await {
            Ok(mut console) => {
                {
                    let mut state = shared.state();
                    state.opened = true;
                    state.obstacle = None;
                }
                while let Some(bytes) = console.read().await {
                    if take(shared, &bytes).is_break() {
                        return;
                    }
                }
            }
            Err(error) => {
                shared.state().obstacle = Some(explained(&error, client, vmid));
                if error.is_final() {
                    return;
                }
            }
        }
        attempts += 1;
        if attempts == ATTEMPTS || !deadline.sleep(backoff(attempts, PAUSE)).await {
            return;
        }
    }
}

/// Wait until the VM runs; false if that cannot be known, or the time is over.
async fn runs(
    client: &Client,
    node: &str,
    vmid: u32,
    shared: &Shared,
    deadline: &Deadline,
) -> bool {
    loop {
        match client.vm_status(node, vmid, deadline).await {
            Ok(status) if status.status == "running" => return true,
            Ok(_) => {}
            Err(error) => {
                shared.state().obstacle = Some(error.to_string());
                return false;
            }
        }
        if !deadline.sleep(LOOK).await {
            return false;
        }
    }
}

/// Take what came. It ends at a prompt for a passphrase: whoever is to type it needs the console.
fn take(shared: &Shared, bytes: &[u8]) -> ControlFlow<()> {
    let mut state = shared.state();
    let ended = state.lines.push(bytes);
    let panicked = ended.iter().any(|line| line.contains(PANIC));
    let prompts = ended
        .iter()
        .chain(&state.lines.last(1))
        .any(|line| is_prompt(line));
    if let Some(log) = &mut state.log {
        for line in &ended {
            log.write(line);
        }
    }
    drop(state);
    if panicked {
        shared.panicked.send_replace(true);
    }
    match prompts {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

/// Whether somebody is asked to unlock a disk: by systemd, the scripted stage 1 of NixOS, ZFS or bcachefs.
fn is_prompt(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    let prompts = [
        "passphrase for",
        "password for disk",
        "recovery key for",
        "token pin",
    ];
    prompts.iter().any(|prompt| line.contains(prompt))
}

fn explained(error: &ConsoleError, client: &Client, vmid: u32) -> String {
    match error {
        ConsoleError::Api(error) => match error.missing_privilege() {
            Some((path, privilege)) => {
                format!("{} lacks {privilege} on {path}", client.caller())
            }
            None if error.status() == Some(403) => {
                format!("{} lacks VM.Console on /vms/{vmid}", client.caller())
            }
            None => error.to_string(),
        },
        other => other.to_string(),
    }
}
