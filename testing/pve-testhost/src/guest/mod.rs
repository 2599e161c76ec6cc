//! The guests of the test host: real QEMU machines with user-mode networking, or (`--accel none`)
//! a simulation of their power states for tests of the API alone.
//!
//! [`Guests`] is all the API layer sees. It takes the effective configuration of a VM in PVE's own
//! words ([`VmSpec`]) and never touches the VM's stored configuration.
//!
//! Where these guests differ from those of a real node:
//! * Without KVM each has QEMU's `qemu64` processor, with KVM this machine's; none has more
//!   processors than this machine.
//! * Each NIC has a network of its own: guests reach neither each other nor the world, and are
//!   reached only where ports are forwarded. IPv6 addresses are configured but lead nowhere. QEMU
//!   accepts a forwarded connection before the guest is there to answer it.
//! * What a guest flushes to its disks survives the end of QEMU, not that of this machine.
//! * No TPM, no passed-through devices, no memory balloon, no devices that come and go while the
//!   guest runs (media of CD-ROM drives do). Secure Boot is not enforced.
//! * With nothing to boot, the firmware tries again every ten seconds, not every second.

mod address;
mod agent;
pub mod cloudinit;
mod config;
mod firmware;
mod machine;
mod net;
mod process;
mod qemu;
mod qmp;
mod seed;
mod simulation;

pub(crate) use address::GATEWAY;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use machine::Machines;
use simulation::Simulation;

/// How guests are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Accel {
    /// KVM where it is known to work, else TCG.
    Auto,
    /// QEMU's own code generator: slow, works everywhere.
    Tcg,
    /// Hardware virtualisation.
    Kvm,
    /// No guests at all: power states are simulated.
    None,
}

/// A TCP port of a guest reachable on the controller, at the guest's own address if that is one of
/// the controller's, else at its loopback address (`127.b.c.d` for a guest whose address is `a.b.c.d`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The port on the controller.
    pub host_port: u16,
    /// The port in the guest.
    pub guest_port: u16,
}

/// What all guests have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where addresses given to guests are remembered (`leases.json`).
    pub state_dir: PathBuf,
    /// How guests are run.
    pub accel: Accel,
    /// Ports forwarded to each NIC of each guest, usually 2222 to 22.
    pub forwards: Vec<Forward>,
}

/// One VM to start.
#[derive(Clone, Debug)]
pub struct VmSpec {
    /// The VM's number.
    pub vmid: u32,
    /// The VM's name.
    pub name: String,
    /// The effective configuration, pending changes applied, as PVE writes it.
    pub config: BTreeMap<String, String>,
    /// Drive key (`scsi0`, `ide2`, `efidisk0`) to file, for every drive that has a medium.
    pub volumes: BTreeMap<String, PathBuf>,
    /// A directory for this VM's sockets and logs; made when it is missing.
    pub run_dir: PathBuf,
}

/// Whether a guest runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Power {
    /// No process.
    Stopped,
    /// A process, which may still be paused.
    Running {
        /// The QEMU process.
        pid: u32,
        /// When it was started; a reset does not change it.
        since: SystemTime,
        /// QEMU's word for its state: `running`, `paused`, `shutdown`, ...
        qmpstatus: String,
    },
}

/// Why a call to the guest agent gave no answer. The texts are PVE's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// The VM has no agent device (`agent` is not set in its configuration).
    #[error("No QEMU guest agent configured")]
    NotConfigured,
    /// The VM is stopped.
    #[error("VM {0} is not running")]
    VmNotRunning(u32),
    /// Nothing in the guest listens.
    #[error("QEMU guest agent is not running")]
    NotRunning,
    /// The agent answered with an error.
    #[error("Agent error: {0}")]
    Failed(String),
    /// The agent took the command and did not answer in time.
    #[error("VM {vmid} qga command '{command}' failed - got timeout")]
    Timeout {
        /// The VM.
        vmid: u32,
        /// The agent command.
        command: String,
    },
}

/// A connection to a guest's serial port.
pub enum SerialPort {
    /// QEMU's socket.
    Real(tokio::net::UnixStream),
    /// What follows the file of a simulated guest.
    Simulated(tokio::io::DuplexStream),
}

/// All guests of this host. Clones share the same guests.
#[derive(Clone)]
pub struct Guests {
    backend: Arc<Backend>,
}

enum Backend {
    Simulated(Simulation),
    Real(Machines),
}

impl Guests {
    /// No guest runs yet.
    ///
    /// # Errors
    /// When guests of the wanted kind cannot be run on this machine.
    pub fn new(settings: Settings) -> Result<Self, String> {
        let backend = match settings.accel {
            Accel::None => Backend::Simulated(Simulation::default()),
            Accel::Auto => Backend::Real(Machines::new(settings, kvm_works())?),
            Accel::Tcg => Backend::Real(Machines::new(settings, false)?),
            Accel::Kvm => Backend::Real(Machines::new(settings, true)?),
        };
        Ok(Self {
            backend: Arc::new(backend),
        })
    }

    /// Start a guest; `log` gets lines for the task log.
    ///
    /// # Errors
    /// PVE's text for a VM that runs already, a medium that is missing, or what QEMU said.
    pub async fn start(
        &self,
        mut vm: VmSpec,
        log: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<(), String> {
        for key in vm.config.keys().filter(|key| ignored(key)) {
            log(&format!(
                "this host gives its guests no such device: {key} is ignored"
            ));
        }
        if let Some((drive, file)) = vm.volumes.iter().find(|(_, file)| !file.exists()) {
            return Err(format!(
                "volume of drive '{drive}' ('{}') does not exist",
                file.display()
            ));
        }
        // QEMU does not run in the server's working directory.
        for path in vm.volumes.values_mut().chain([&mut vm.run_dir]) {
            *path = std::path::absolute(&path)
                .map_err(|error| format!("cannot use {}: {error}", path.display()))?;
        }
        match &*self.backend {
            Backend::Simulated(guests) => guests.start(&vm),
            Backend::Real(guests) => guests.start(&vm, log).await,
        }
    }

    /// End a guest at once, as pulling the plug does. A stopped guest is not an error.
    pub async fn stop(&self, vmid: u32) {
        match &*self.backend {
            Backend::Simulated(guests) => guests.stop(vmid),
            Backend::Real(guests) => guests.stop(vmid).await,
        }
    }

    /// Ask a guest to power off: by its agent when `use_agent` and the agent answers, else by
    /// ACPI. Returns once it was asked; whether it obeys is seen with [`Guests::power`].
    ///
    /// # Errors
    /// When the VM does not run or QEMU refuses.
    pub async fn powerdown(&self, vmid: u32, use_agent: bool) -> Result<(), String> {
        match &*self.backend {
            Backend::Simulated(guests) => guests.powerdown(vmid),
            Backend::Real(guests) => guests.powerdown(vmid, use_agent).await,
        }
    }

    /// Press the reset button.
    ///
    /// # Errors
    /// When the VM does not run or QEMU refuses.
    pub async fn reset(&self, vmid: u32) -> Result<(), String> {
        match &*self.backend {
            Backend::Simulated(guests) => guests.set_status(vmid, "running"),
            Backend::Real(guests) => guests.execute(vmid, "system_reset", json!({})).await,
        }
    }

    /// Pause the guest's processors.
    ///
    /// # Errors
    /// When the VM does not run or QEMU refuses.
    pub async fn suspend(&self, vmid: u32) -> Result<(), String> {
        match &*self.backend {
            Backend::Simulated(guests) => guests.set_status(vmid, "paused"),
            Backend::Real(guests) => guests.execute(vmid, "stop", json!({})).await,
        }
    }

    /// Let a paused guest go on.
    ///
    /// # Errors
    /// When the VM does not run or QEMU refuses.
    pub async fn resume(&self, vmid: u32) -> Result<(), String> {
        match &*self.backend {
            Backend::Simulated(guests) => guests.set_status(vmid, "running"),
            Backend::Real(guests) => guests.execute(vmid, "cont", json!({})).await,
        }
    }

    /// Whether a guest runs. Notices a guest that powered itself off.
    pub fn power(&self, vmid: u32) -> Power {
        match &*self.backend {
            Backend::Simulated(guests) => guests.power(vmid),
            Backend::Real(guests) => guests.power(vmid),
        }
    }

    /// Put a medium into a CD-ROM drive of a running guest, or take it out (`None`). Immediate as
    /// in PVE: a tray that the guest has locked is forced open.
    ///
    /// # Errors
    /// When the VM does not run, has no such drive, or QEMU refuses the medium.
    pub async fn change_medium(
        &self,
        vmid: u32,
        drive: &str,
        medium: Option<&Path>,
    ) -> Result<(), String> {
        match &*self.backend {
            Backend::Simulated(guests) => guests.running(vmid),
            Backend::Real(guests) => guests.change_medium(vmid, drive, medium).await,
        }
    }

    /// Whether a running guest has its disks' images open, so that nobody else may write to them.
    pub fn holds_images(&self, vmid: u32) -> bool {
        match &*self.backend {
            Backend::Simulated(_) => false,
            Backend::Real(guests) => guests.power(vmid) != Power::Stopped,
        }
    }

    /// Have QEMU take a snapshot inside the image of a running guest's disk.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub async fn snapshot_disk(&self, vmid: u32, drive: &str, name: &str) -> Result<(), String> {
        let what = json!({"device": format!("drive-{drive}"), "name": name});
        self.execute(vmid, "blockdev-snapshot-internal-sync", what)
            .await
    }

    /// Have QEMU delete a snapshot inside the image of a running guest's disk.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub async fn delete_disk_snapshot(
        &self,
        vmid: u32,
        drive: &str,
        name: &str,
    ) -> Result<(), String> {
        let what = json!({"device": format!("drive-{drive}"), "name": name});
        self.execute(vmid, "blockdev-snapshot-delete-internal-sync", what)
            .await
    }

    /// QEMU's counts of each drive of a running guest: `{"scsi0": {"wr_bytes": 0, ...}}`; none where there is no QEMU.
    pub async fn blockstat(&self, vmid: u32) -> Option<Map<String, Value>> {
        match &*self.backend {
            Backend::Simulated(_) => None,
            Backend::Real(guests) => guests.blockstat(vmid).await,
        }
    }

    async fn execute(&self, vmid: u32, command: &str, arguments: Value) -> Result<(), String> {
        match &*self.backend {
            Backend::Simulated(guests) => guests.running(vmid),
            Backend::Real(guests) => guests.execute(vmid, command, arguments).await,
        }
    }

    /// Run one command of the guest agent (`guest-ping`, ...) and return what is in its `return`.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn agent(
        &self,
        vmid: u32,
        execute: &str,
        arguments: Value,
    ) -> Result<Value, AgentError> {
        match &*self.backend {
            Backend::Simulated(guests) => guests.agent(vmid),
            Backend::Real(guests) => guests.agent(vmid, execute, &arguments).await,
        }
    }

    /// Connect to a serial port of a running guest, as `socat` does it: whoever is not the only one waits in silence.
    ///
    /// # Errors
    /// When the VM does not run or has no such port.
    pub async fn serial(&self, vmid: u32, port: &str) -> Result<SerialPort, String> {
        match &*self.backend {
            Backend::Simulated(guests) => guests.serial(vmid, port).map(SerialPort::Simulated),
            Backend::Real(guests) => guests.serial(vmid, port).await.map(SerialPort::Real),
        }
    }

    /// Forget what is remembered of a VM that was destroyed.
    pub fn forget(&self, vmid: u32) {
        match &*self.backend {
            Backend::Simulated(guests) => guests.stop(vmid),
            Backend::Real(guests) => guests.forget(vmid),
        }
    }

    /// End all guests, at the end of the server.
    pub async fn shutdown(&self) {
        match &*self.backend {
            Backend::Simulated(guests) => guests.stop_all(),
            Backend::Real(guests) => guests.stop_all().await,
        }
    }
}

/// Devices of a configuration that guests here do not get.
fn ignored(key: &str) -> bool {
    matches!(key, "tpmstate0" | "args" | "ivshmem")
        || ["hostpci", "usb", "virtiofs", "parallel"]
            .iter()
            .any(|prefix| config::index(key, prefix).is_some())
}

/// PVE's text for an operation that needs a running VM.
fn not_running(vmid: u32) -> String {
    format!("VM {vmid} not running")
}

/// Whether KVM is worth trying. That /dev/kvm opens says nothing: nested hosts without hardware
/// virtualisation offer it too, and stock kernels hang there.
fn kvm_works() -> bool {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let capable = flags
        .split_ascii_whitespace()
        .any(|word| matches!(word, "svm" | "vmx"));
    let mut writable = std::fs::OpenOptions::new();
    capable && writable.read(true).write(true).open("/dev/kvm").is_ok()
}
