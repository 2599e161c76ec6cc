//! Start a guest's QEMU and explain why it did not start.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::net::UnixStream;

use super::{Current, LOG, Machine, Machines, QUIT_LIMIT, START_LIMIT, lock, status_after};
use crate::guest::process::{self, Process};
use crate::guest::qemu::{AGENT_SOCKET, QEMU, QMP_SOCKET};
use crate::guest::qmp::{Qmp, QmpError};

impl Machine {
    /// Start the process and connect to it.
    pub(super) async fn launch(&self, machines: &Machines) -> Result<Process, String> {
        for socket in [QMP_SOCKET, AGENT_SOCKET] {
            // Left by an earlier run, it would be taken for this one's.
            let _ = fs::remove_file(self.run_dir.join(socket));
        }
        let log_trouble = |error| self.trouble("write QEMU's log", &error);
        let mut log = self.log().map_err(log_trouble)?;
        writeln!(log, "== {QEMU} {}", self.arguments.join(" ")).map_err(log_trouble)?;
        let from = log.metadata().map_err(log_trouble)?.len();
        let mut command = Command::new(QEMU);
        command
            .args(&self.arguments)
            .current_dir(&self.run_dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(log_trouble)?)
            .stderr(log.try_clone().map_err(log_trouble)?);
        let mut process = process::spawn(command)
            .await
            .map_err(|error| self.trouble(&format!("run {QEMU}"), &error))?;
        let killer = process
            .killer()
            .map_err(|error| self.trouble("watch QEMU", &error))?;
        *lock(&self.current) = Some(Current {
            pid: process.pid,
            killer,
            qmp: None,
        });
        if self.stopping.load(Ordering::SeqCst) {
            // Stopped before there was a process that the stop could have ended.
            process
                .killer()
                .map_err(|error| self.trouble("stop QEMU", &error))?
                .kill();
        }

        let connected = tokio::select! {
            biased;
            status = &mut process.exit => Err(Some(status)),
            qmp = tokio::time::timeout(START_LIMIT, self.connect()) => match qmp {
                Ok(Ok(qmp)) => Ok(qmp),
                // Its end cut the conversation short: the process says more than the connection.
                Ok(Err(QmpError::Gone)) => {
                    Err(tokio::time::timeout(QUIT_LIMIT, &mut process.exit).await.ok())
                }
                Ok(Err(_)) | Err(_) => Err(None),
            },
        };
        let connected = connected.map_err(|exit| match exit {
            Some(status) => {
                let mut said = String::new();
                let read = log
                    .seek(SeekFrom::Start(from))
                    .and_then(|_| log.read_to_string(&mut said));
                if let Err(error) = read {
                    said = error.to_string();
                }
                let how = status.map_or_else(|_| "an unknown status".to_owned(), describe);
                self.explain(&said, &how, machines)
            }
            None => format!(
                "start failed: QEMU did not answer within {} s",
                START_LIMIT.as_secs()
            ),
        });
        match connected {
            Ok(qmp) => {
                if let Some(current) = &mut *lock(&self.current) {
                    current.qmp = Some(qmp);
                }
                Ok(process)
            }
            Err(error) => {
                if let Some(current) = lock(&self.current).take() {
                    current.killer.kill();
                }
                Err(error)
            }
        }
    }

    pub(super) fn trouble(&self, doing: &str, error: &std::io::Error) -> String {
        format!(
            "start failed: cannot {doing} in {}: {error}",
            self.run_dir.display()
        )
    }

    pub(super) async fn connect(&self) -> Result<Qmp, QmpError> {
        let stream = loop {
            match connect(&self.run_dir, QMP_SOCKET).await {
                Ok(stream) => break stream,
                // There is no event for "the socket is there now"; the process is watched beside.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let status = self.status.clone();
        let qmp = Qmp::new(stream, move |event, _| {
            if let Some(word) = status_after(event) {
                word.clone_into(&mut lock(&status));
            }
        })
        .await?;
        let now = qmp.execute("query-status", json!({})).await?;
        if let Some(word) = now["status"].as_str() {
            word.clone_into(&mut lock(&self.status));
        }
        for nic in self.nics.iter().filter(|nic| nic.link_down) {
            let down = json!({"name": format!("net{}", nic.index), "up": false});
            qmp.execute("set_link", down).await?;
        }
        Ok(qmp)
    }

    /// What QEMU prints, over all starts.
    pub(super) fn log(&self) -> std::io::Result<File> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(self.run_dir.join(LOG))
    }

    pub(super) fn report(&self, what: &str) {
        let place = self.run_dir.join(LOG);
        eprintln!("VM {}: {what} (see {})", self.vmid, place.display());
        // A log that cannot be written is not a reason to give up the guest.
        let _ = self.log().and_then(|mut log| writeln!(log, "== {what}"));
    }

    /// Why QEMU did not start, from what it printed.
    pub(super) fn explain(&self, said: &str, how: &str, machines: &Machines) -> String {
        let said = said.trim();
        if said.contains("Could not set up host forwarding rule") {
            let address = |machine: &Machine| {
                machine
                    .nics
                    .iter()
                    .map(|nic| nic.address.ip)
                    .collect::<Vec<_>>()
            };
            let ours = address(self);
            let other = lock(&machines.shared.running)
                .values()
                .find(|other| {
                    other.vmid != self.vmid && address(other).iter().any(|ip| ours.contains(ip))
                })
                .map_or_else(
                    || "another program".to_owned(),
                    |other| format!("VM {}, which has the same address", other.vmid),
                );
            let places: Vec<_> = self
                .nics
                .iter()
                .flat_map(|nic| {
                    machines.shared.forwards.iter().map(|forward| {
                        format!("{}:{}", nic.address.reached_at(), forward.host_port)
                    })
                })
                .collect();
            return format!(
                "start failed: cannot forward {} to VM {}: taken by {other}; end it, or give this VM another address",
                places.join(" or "),
                self.vmid
            );
        }
        format!("start failed: QEMU exited with {how}: {said}")
    }
}

pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// Connect to a socket in a directory whose path may be longer than a socket's may be.
pub(super) async fn connect(directory: &Path, socket: &str) -> std::io::Result<UnixStream> {
    let directory = File::open(directory)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{socket}", directory.as_raw_fd())).await
}
