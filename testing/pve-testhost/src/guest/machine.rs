//! Real guests: one QEMU process a VM, watched until it ends.

mod launch;

use std::collections::HashMap;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::net::{self, Leases, Nic};
use super::process::{Killer, Process};
use super::qemu::{self, AGENT_CHARDEV, AGENT_SOCKET, Host, QEMU};
use super::qmp::Qmp;
use launch::{connect, describe};

use super::{AgentError, Forward, Power, Settings, VmSpec, agent, config, not_running};

/// How long QEMU may take until it can be talked to.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long a hard stop waits for QEMU to end by itself, which leaves its images in order.
const QUIT_LIMIT: Duration = Duration::from_secs(5);

/// QEMU's code generator has been seen to abort, rarely, while a guest booted. Such a guest is
/// started again, once, when it was no older than this.
const BOOT_TAKES: Duration = Duration::from_secs(120);

/// What QEMU printed, per VM.
const LOG: &str = "qemu.log";

/// All real guests.
#[derive(Clone)]
pub(super) struct Machines {
    shared: Arc<Shared>,
}

struct Shared {
    host: Host,
    forwards: Vec<Forward>,
    leases: Mutex<Leases>,
    running: Mutex<HashMap<u32, Arc<Machine>>>,
}

/// One guest, from its start until its process has ended for good.
struct Machine {
    vmid: u32,
    since: SystemTime,
    run_dir: PathBuf,
    arguments: Vec<String>,
    nics: Vec<Nic>,
    agent: bool,
    /// Set by [`Machines::stop`]: its end is not an accident.
    stopping: AtomicBool,
    ended: watch::Sender<bool>,
    current: Mutex<Option<Current>>,
    /// QEMU's word for the guest's state.
    status: Arc<Mutex<String>>,
    /// The agent's port serves one at a time.
    agent_port: tokio::sync::Mutex<()>,
}

/// The process of a machine, which changes when it is started again.
struct Current {
    pid: u32,
    killer: Killer,
    qmp: Option<Qmp>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machines {
    /// # Errors
    /// When QEMU is not installed or the remembered addresses cannot be read.
    pub(super) fn new(settings: Settings, kvm: bool) -> Result<Self, String> {
        let version = Command::new(QEMU).arg("--version").output();
        version.map_err(|error| {
            format!("cannot run {QEMU} ({error}): install it (scripts/setup.sh guest), or use --accel none")
        })?;
        let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get());
        Ok(Self {
            shared: Arc::new(Shared {
                host: Host {
                    kvm,
                    cpus: u32::try_from(cpus).unwrap_or(1),
                },
                leases: Mutex::new(Leases::load(&settings.state_dir)?),
                forwards: settings.forwards,
                running: Mutex::default(),
            }),
        })
    }

    fn get(&self, vmid: u32) -> Option<Arc<Machine>> {
        lock(&self.shared.running).get(&vmid).cloned()
    }

    fn qmp(&self, vmid: u32) -> Result<Qmp, String> {
        let machine = self.get(vmid);
        machine
            .and_then(|machine| lock(&machine.current).as_ref()?.qmp.clone())
            .ok_or_else(|| not_running(vmid))
    }

    pub(super) async fn start(
        &self,
        vm: &VmSpec,
        log: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<(), String> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&vm.run_dir)
            .map_err(|error| format!("cannot make {}: {error}", vm.run_dir.display()))?;
        let nics = net::cards(vm, &mut lock(&self.shared.leases))?;
        let machine = Arc::new(Machine {
            vmid: vm.vmid,
            since: SystemTime::now(),
            run_dir: vm.run_dir.clone(),
            arguments: qemu::arguments(vm, &nics, &self.shared.forwards, self.shared.host)?,
            nics,
            agent: config::agent_enabled(&vm.config),
            stopping: AtomicBool::new(false),
            ended: watch::Sender::new(false),
            current: Mutex::new(None),
            status: Arc::new(Mutex::new("prelaunch".into())),
            agent_port: tokio::sync::Mutex::default(),
        });
        {
            let mut running = lock(&self.shared.running);
            if running.contains_key(&vm.vmid) {
                return Err(format!("VM {} already running", vm.vmid));
            }
            running.insert(vm.vmid, machine.clone());
        }
        // Whatever ends this future early (a caller that went away) must not leave a VM behind
        // that is neither running nor stopped: the rest is its own task.
        let machines = self.clone();
        let launched = machine.clone();
        let launch = tokio::spawn(async move {
            let result = launched.launch(&machines).await;
            match result {
                Ok(process) => {
                    tokio::spawn(machines.watch(launched, process));
                    Ok(())
                }
                Err(error) => {
                    machines.remove(&launched);
                    Err(error)
                }
            }
        });
        launch.await.map_err(|error| error.to_string())??;
        for nic in &machine.nics {
            if let Some(tap) = &nic.tap {
                log(&format!("net{}: {} on {}", nic.index, tap.name, tap.bridge));
                continue;
            }
            let reached: Vec<_> = self
                .shared
                .forwards
                .iter()
                .map(|forward| {
                    format!(
                        "{}:{} -> port {}",
                        nic.address.reached_at(),
                        forward.host_port,
                        forward.guest_port
                    )
                })
                .collect();
            log(&format!(
                "net{}: {} ({})",
                nic.index,
                nic.address.ip,
                reached.join(", ")
            ));
        }
        Ok(())
    }

    /// Wait for the end of a machine's process; start it again if it aborted while booting.
    async fn watch(self, machine: Arc<Machine>, process: Process) {
        let begun = Instant::now();
        let status = process.exit.await;
        let aborted = matches!(&status, Ok(status) if status.signal() == Some(6));
        if aborted && begun.elapsed() < BOOT_TAKES && !machine.stopping.load(Ordering::SeqCst) {
            machine.report("QEMU aborted while the guest booted; starting it again, once");
            match machine.launch(&self).await {
                Ok(process) => drop(process.exit.await),
                Err(error) => machine.report(&format!("the second start failed too: {error}")),
            }
        } else if let Ok(status) = status
            && !status.success()
            && !machine.stopping.load(Ordering::SeqCst)
        {
            machine.report(&format!("QEMU ended with {}", describe(status)));
        }
        self.remove(&machine);
    }

    fn remove(&self, machine: &Machine) {
        lock(&self.shared.running).remove(&machine.vmid);
        machine.ended.send_replace(true);
    }

    pub(super) async fn stop(&self, vmid: u32) {
        let Some(machine) = self.get(vmid) else {
            return;
        };
        machine.stopping.store(true, Ordering::SeqCst);
        let mut ended = machine.ended.subscribe();
        if let Ok(qmp) = self.qmp(vmid) {
            // A QEMU that does not answer is killed below.
            let quit = async {
                let _ = qmp.execute("quit", json!({})).await;
                let _ = ended.wait_for(|ended| *ended).await;
            };
            if tokio::time::timeout(QUIT_LIMIT, quit).await.is_ok() {
                return;
            }
        }
        if let Some(current) = &*lock(&machine.current) {
            current.killer.kill();
        }
        let _ = ended.wait_for(|ended| *ended).await;
    }

    pub(super) async fn stop_all(&self) {
        let all: Vec<u32> = lock(&self.shared.running).keys().copied().collect();
        let stops: Vec<_> = all
            .into_iter()
            .map(|vmid| {
                let machines = self.clone();
                tokio::spawn(async move { machines.stop(vmid).await })
            })
            .collect();
        for stop in stops {
            // A stop that panicked leaves a process to the kernel, which ends it with ours.
            let _ = stop.await;
        }
    }

    pub(super) async fn powerdown(&self, vmid: u32, use_agent: bool) -> Result<(), String> {
        if use_agent {
            let mode = json!({"mode": "powerdown"});
            match self.agent(vmid, "guest-shutdown", &mode).await {
                Ok(_) => return Ok(()),
                Err(AgentError::VmNotRunning(_)) => return Err(not_running(vmid)),
                // As PVE: without an agent, ACPI.
                Err(_) => {}
            }
        }
        self.execute(vmid, "system_powerdown", json!({})).await
    }

    /// Run a QMP command whose answer says nothing.
    pub(super) async fn execute(
        &self,
        vmid: u32,
        command: &str,
        arguments: Value,
    ) -> Result<(), String> {
        let answer = self.qmp(vmid)?.execute(command, arguments).await;
        answer
            .map(drop)
            .map_err(|error| format!("VM {vmid} {error}"))
    }

    pub(super) async fn blockstat(&self, vmid: u32) -> Option<Map<String, Value>> {
        let qmp = self.qmp(vmid).ok()?;
        let answer = qmp.execute("query-blockstats", json!({})).await.ok()?;
        let count = |entry: &Value| {
            let node = entry.get("node-name")?.as_str()?;
            let drive = node.strip_prefix("drive-")?.to_owned();
            Some((drive, entry.get("stats")?.clone()))
        };
        Some(answer.as_array()?.iter().filter_map(count).collect())
    }

    pub(super) fn power(&self, vmid: u32) -> Power {
        let machine = self.get(vmid);
        let running = machine.as_ref().and_then(|machine| {
            Some(Power::Running {
                pid: lock(&machine.current).as_ref()?.pid,
                since: machine.since,
                qmpstatus: lock(&machine.status).clone(),
            })
        });
        running.unwrap_or(Power::Stopped)
    }

    pub(super) async fn change_medium(
        &self,
        vmid: u32,
        drive: &str,
        medium: Option<&Path>,
    ) -> Result<(), String> {
        // PVE forces the tray open at once, whether the guest has locked it or not.
        let eject = json!({"id": drive, "force": true});
        self.execute(vmid, "eject", eject).await?;
        let Some(file) = medium else {
            return Ok(());
        };
        let path = std::path::absolute(file)
            .map_err(|error| format!("cannot use {}: {error}", file.display()))?;
        let insert = json!({
            "id": drive,
            "filename": path,
            "format": qemu::Format::of(file)?.name(),
            "read-only-mode": "read-only",
        });
        self.execute(vmid, "blockdev-change-medium", insert).await
    }

    pub(super) async fn agent(
        &self,
        vmid: u32,
        command: &str,
        arguments: &Value,
    ) -> Result<Value, AgentError> {
        let machine = self.get(vmid).ok_or(AgentError::VmNotRunning(vmid))?;
        if !machine.agent {
            return Err(AgentError::NotConfigured);
        }
        let _one_at_a_time = machine.agent_port.lock().await;
        let qmp = self.qmp(vmid).map_err(|_| AgentError::VmNotRunning(vmid))?;
        // Free of charge, where asking an agent that is not there costs a timeout.
        if !port_is_open(&qmp).await {
            return Err(AgentError::NotRunning);
        }
        let stream = connect(&machine.run_dir, AGENT_SOCKET)
            .await
            .map_err(|_| AgentError::NotRunning)?;
        agent::call(stream, command, arguments)
            .await
            .map_err(|error| match error {
                agent::Error::Silent => AgentError::NotRunning,
                agent::Error::Refused(text) => AgentError::Failed(text),
                agent::Error::Timeout => AgentError::Timeout {
                    vmid,
                    command: command.to_owned(),
                },
            })
    }

    pub(super) async fn serial(
        &self,
        vmid: u32,
        port: &str,
    ) -> Result<tokio::net::UnixStream, String> {
        let machine = self.get(vmid).ok_or_else(|| not_running(vmid))?;
        let connected = connect(&machine.run_dir, &qemu::serial_socket(port)).await;
        connected.map_err(|error| format!("cannot connect to {port}: {error}"))
    }

    pub(super) fn forget(&self, vmid: u32) {
        if let Err(error) = lock(&self.shared.leases).forget(vmid) {
            eprintln!("VM {vmid}: {error}");
        }
    }
}

/// QEMU's state after an event that changes it.
fn status_after(event: &str) -> Option<&'static str> {
    Some(match event {
        "STOP" => "paused",
        "RESUME" | "WAKEUP" => "running",
        "SUSPEND" => "suspended",
        "SHUTDOWN" => "shutdown",
        "GUEST_PANICKED" => "guest-panicked",
        _ => return None,
    })
}

/// Whether something in the guest has opened the agent's port.
async fn port_is_open(qmp: &Qmp) -> bool {
    let devices = qmp.execute("query-chardev", json!({})).await;
    let devices = devices.ok().and_then(|devices| devices.as_array().cloned());
    devices
        .into_iter()
        .flatten()
        .any(|device| device["label"] == AGENT_CHARDEV && device["frontend-open"] == true)
}
