//! What a machine does while it boots: the last lines of its serial console for the error, and an end of the wait for
//! one that will not answer.
//!
//! Neither decides anything about a disk. A guest prints what it likes, so all that its words can do is to end a wait
//! with an error.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use ansible_module::Failure;
use deadline::Deadline;
use pve_client::console::{Log, Tail, Watch};
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::error::{Standstill, StepError};
use crate::state::State;
use crate::store::Installation;

/// How many of the console's last lines an error has.
const SHOWN: usize = 30;
/// The most bytes of a console that are kept on the controller.
const LARGEST_LOG: usize = 1 << 20;
/// How long a machine may still answer after its kernel panicked: it may restart by itself, and prints where it was.
const AFTER_PANIC: Duration = Duration::from_secs(10);
/// How often Proxmox VE is asked for the VM's state.
const LOOK: Duration = Duration::from_secs(3);
/// How many times in a row the VM is found halted before that counts: a restart by Proxmox VE stops it for a moment.
const HALTED: u32 = 4;

/// A boot that is watched until this is dropped.
pub struct BootWatch<'a> {
    context: &'a Context<'a>,
    object: String,
    node: String,
    vmid: u32,
    system: System,
    console: Console,
}

/// What boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    Installer,
    Installed,
}

enum Console {
    /// The variables say so.
    Off,
    /// The VM has none.
    Missing,
    Watched {
        port: String,
        watch: Watch,
        log: Option<PathBuf>,
    },
}

impl System {
    fn name(self) -> &'static str {
        match self {
            Self::Installer => "installer",
            Self::Installed => "installed system",
        }
    }

    /// The file with what it printed when it booted last.
    pub fn log(self) -> &'static str {
        match self {
            Self::Installer => "console-installer.log",
            Self::Installed => "console-system.log",
        }
    }
}

impl<'a> BootWatch<'a> {
    /// Watch a VM from now on, which need not run yet: what it prints before it is watched is lost.
    pub fn begin(
        context: &'a Context<'a>,
        state: &State,
        installation: &Installation,
        system: System,
    ) -> Self {
        let (node, vmid) = (state.node(context), state.vmid());
        let empty = Map::new();
        let config = state
            .vm
            .as_ref()
            .and_then(|vm| vm.get("config")?.as_object());
        let console = match serial_port(config.unwrap_or(&empty)) {
            _ if !context.settings().console => Console::Off,
            None => Console::Missing,
            Some(port) => {
                let log = installation.create(system.log()).ok();
                let path = log.as_ref().map(|_| installation.path(system.log()));
                let log = log.map(|file: File| Log::new(file, LARGEST_LOG));
                // The wait begins when the VM runs, which may take as long as its start.
                let limit = context.boot_deadline().limit() * 2;
                let deadline = Deadline::after(limit);
                let client = context.client.clone();
                Console::Watched {
                    watch: Watch::start(client, &node, vmid, &port, log, deadline),
                    port,
                    log: path,
                }
            }
        };
        Self {
            context,
            object: state.object().to_owned(),
            node,
            vmid,
            system,
            console,
        }
    }

    /// Wait for a machine that was started. A failure has the last lines of its console.
    ///
    /// # Errors
    /// Those of `wait`, and kind `boot_failed` as soon as the machine will not answer any more.
    pub async fn during<T>(
        &self,
        wait: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let failure = tokio::select! {
            biased;
            waited = wait => match waited {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            },
            why = self.given_up() => StepError::BootFailed {
                object: self.object.clone(),
                vmid: self.vmid,
                system: self.system.name(),
                why,
            }
            .into(),
        };
        Err(self.explained(failure))
    }

    /// Why there is nothing to wait for.
    async fn given_up(&self) -> Standstill {
        tokio::select! {
            () = self.panicked() => Standstill::Panicked,
            why = self.halted() => why,
        }
    }

    async fn panicked(&self) {
        match &self.console {
            Console::Watched { watch, .. } => {
                watch.panicked().await;
                tokio::time::sleep(AFTER_PANIC).await;
            }
            Console::Off | Console::Missing => std::future::pending().await,
        }
    }

    /// Wait until the VM stands still. Where that cannot be told, it does not.
    async fn halted(&self) -> Standstill {
        let mut seen: Option<Standstill> = None;
        let mut times = 0;
        loop {
            tokio::time::sleep(LOOK).await;
            let deadline = Deadline::after(LOOK * 10);
            let client = &self.context.client;
            let Ok(status) = client.vm_status(&self.node, self.vmid, &deadline).await else {
                continue;
            };
            let now = halt(&status.status, status.qmpstatus.as_deref());
            times = if now == seen { times + 1 } else { 1 };
            match now {
                Some(now) if times == HALTED => return now,
                now => seen = now,
            }
        }
    }

    /// The failure with what the console says, for people and for programs.
    fn explained(&self, mut failure: Failure) -> Failure {
        let (port, log, tail) = match &self.console {
            Console::Off => return failure,
            Console::Missing => {
                let unread = "the VM has no serial port that is a socket (nixos_vm_serial)".into();
                let tail = Tail {
                    lines: Vec::new(),
                    unread: Some(unread),
                };
                ("", None, tail)
            }
            Console::Watched { port, watch, log } => {
                (port.as_str(), log.as_ref(), watch.tail(SHOWN))
            }
        };
        failure.msg.push_str(&shown(port, &tail, log));
        failure.values.insert("console".into(), json!(tail.lines));
        if let Some(log) = log.filter(|_| !tail.lines.is_empty()) {
            failure.values.insert("console_log".into(), json!(log));
        }
        failure
    }
}

/// What is added to a message.
fn shown(port: &str, tail: &Tail, log: Option<&PathBuf>) -> String {
    if let Some(why) = &tail.unread {
        return match why.as_str() {
            pve_client::console::SILENT => format!(
                "; its serial console ({port}) printed nothing: the system prints nothing there, or the console is open elsewhere"
            ),
            why => format!("; its serial console was not read: {why}"),
        };
    }
    let all = log.map(|log| format!("; all of them are in {}", log.display()));
    let lines: String = tail
        .lines
        .iter()
        .map(|line| format!("\n  {line}"))
        .collect();
    format!(
        "\nthe last lines of its serial console ({port}{}):{lines}",
        all.unwrap_or_default()
    )
}

/// The first serial port that leads to a socket; others lead to a device of the node.
fn serial_port(config: &Map<String, Value>) -> Option<String> {
    (0..4)
        .map(|number| format!("serial{number}"))
        .find(|port| config.get(port).and_then(Value::as_str) == Some("socket"))
}

/// Why a VM in this state does nothing more by itself. `qmp` is QEMU's word (RunState in its qapi/run-state.json).
fn halt(status: &str, qmp: Option<&str>) -> Option<Standstill> {
    match (status, qmp) {
        ("stopped", _) => Some(Standstill::Stopped),
        (_, Some("guest-panicked")) => Some(Standstill::Panicked),
        (_, Some(qmp @ ("internal-error" | "io-error"))) => {
            Some(Standstill::Paused(qmp.to_owned()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_are_read() {
        let port = |config: Value| serial_port(config.as_object().unwrap());
        assert_eq!(
            port(json!({"serial0": "/dev/ttyS0", "serial2": "socket"})).unwrap(),
            "serial2"
        );
        assert_eq!(port(json!({"serial0": "/dev/ttyS0"})), None);
    }

    #[test]
    fn a_vm_that_is_paused_by_somebody_is_waited_for() {
        for (status, qmp, halted) in [
            ("running", Some("running"), None),
            ("running", Some("paused"), None),
            ("running", Some("prelaunch"), None),
            ("running", None, None),
            (
                "running",
                Some("io-error"),
                Some("QEMU has paused the VM (io-error)"),
            ),
            (
                "running",
                Some("guest-panicked"),
                Some("its kernel panicked"),
            ),
            ("stopped", Some("stopped"), Some("the VM is stopped")),
        ] {
            let found = halt(status, qmp).map(|found| found.to_string());
            assert_eq!(found.as_deref(), halted, "{status} {qmp:?}");
        }
    }

    #[test]
    fn what_is_added_to_a_message_says_where_it_is_from() {
        let tail = |lines: &[&str], unread: Option<&str>| Tail {
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            unread: unread.map(str::to_owned),
        };
        let log = PathBuf::from("/state/console-installer.log");
        assert_eq!(
            shown("serial0", &tail(&["one", "two"], None), Some(&log)),
            "\nthe last lines of its serial console (serial0; all of them are in /state/console-installer.log):\n  one\n  two"
        );
        assert_eq!(
            shown(
                "serial0",
                &tail(&[], Some("a@pve!t lacks VM.Console on /vms/101")),
                Some(&log)
            ),
            "; its serial console was not read: a@pve!t lacks VM.Console on /vms/101"
        );
        assert_eq!(
            shown(
                "serial0",
                &tail(&[], Some(pve_client::console::SILENT)),
                None
            ),
            "; its serial console (serial0) printed nothing: the system prints nothing there, or the console is open elsewhere"
        );
    }
}
