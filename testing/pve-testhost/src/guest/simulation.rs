//! Power states without guests, for tests of the API alone.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

use super::{AgentError, Power, VmSpec, not_running};

/// How long a simulated guest takes to power off when asked: long enough for callers to see it
/// running meanwhile.
const POWER_OFF_TAKES: Duration = Duration::from_millis(200);

/// Guests that are nothing but a state. A guest ignores ACPI when its configuration says `acpi: 0`,
/// as a real one then would.
#[derive(Clone, Default)]
pub(super) struct Simulation {
    running: Arc<Mutex<HashMap<u32, Simulated>>>,
}

struct Simulated {
    since: SystemTime,
    status: &'static str,
    agent: bool,
    obeys_acpi: bool,
    run_dir: PathBuf,
    /// Each serial port serves one at a time.
    ports: Arc<tokio::sync::Mutex<()>>,
    /// Tells one run of a VM from the next, so that a late power-off ends its own run only.
    run: u64,
}

impl Simulation {
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Simulated>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn start(&self, vm: &VmSpec) -> Result<(), String> {
        let mut running = self.lock();
        if running.contains_key(&vm.vmid) {
            return Err(format!("VM {} already running", vm.vmid));
        }
        for port in 0..4 {
            // What it printed before is not of this run.
            let _ = std::fs::remove_file(vm.run_dir.join(output_of(&format!("serial{port}"))));
        }
        let set = |key: &str| vm.config.get(key).map(String::as_str);
        running.insert(
            vm.vmid,
            Simulated {
                since: SystemTime::now(),
                status: "running",
                agent: super::config::agent_enabled(&vm.config),
                obeys_acpi: set("acpi") != Some("0"),
                run_dir: vm.run_dir.clone(),
                ports: Arc::default(),
                run: next_run(),
            },
        );
        Ok(())
    }

    pub(super) fn stop(&self, vmid: u32) {
        self.lock().remove(&vmid);
    }

    pub(super) fn stop_all(&self) {
        self.lock().clear();
    }

    /// Must be called within a Tokio runtime: the guest ends a moment later.
    pub(super) fn powerdown(&self, vmid: u32) -> Result<(), String> {
        let running = self.lock();
        let guest = running.get(&vmid).ok_or_else(|| not_running(vmid))?;
        if guest.obeys_acpi && guest.status == "running" {
            let (guests, run) = (self.clone(), guest.run);
            tokio::spawn(async move {
                tokio::time::sleep(POWER_OFF_TAKES).await;
                let mut running = guests.lock();
                if running.get(&vmid).is_some_and(|guest| guest.run == run) {
                    running.remove(&vmid);
                }
            });
        }
        Ok(())
    }

    pub(super) fn set_status(&self, vmid: u32, status: &'static str) -> Result<(), String> {
        let mut running = self.lock();
        running
            .get_mut(&vmid)
            .ok_or_else(|| not_running(vmid))?
            .status = status;
        Ok(())
    }

    pub(super) fn running(&self, vmid: u32) -> Result<(), String> {
        match self.power(vmid) {
            Power::Running { .. } => Ok(()),
            Power::Stopped => Err(not_running(vmid)),
        }
    }

    pub(super) fn power(&self, vmid: u32) -> Power {
        match self.lock().get(&vmid) {
            None => Power::Stopped,
            Some(guest) => Power::Running {
                pid: std::process::id(),
                since: guest.since,
                qmpstatus: guest.status.to_owned(),
            },
        }
    }

    /// A connection to a serial port. What the guest prints is a file that tests write.
    pub(super) fn serial(&self, vmid: u32, port: &str) -> Result<DuplexStream, String> {
        let running = self.lock();
        let guest = running.get(&vmid).ok_or_else(|| not_running(vmid))?;
        let (file, ports, run) = (
            guest.run_dir.join(output_of(port)),
            guest.ports.clone(),
            guest.run,
        );
        let (here, there) = duplex(64 * 1024);
        let guests = self.clone();
        tokio::spawn(async move {
            let runs = || {
                guests
                    .lock()
                    .get(&vmid)
                    .is_some_and(|guest| guest.run == run)
            };
            // Whoever comes second waits in QEMU's backlog.
            let _one_at_a_time = ports.lock().await;
            follow(file, there, runs).await;
        });
        Ok(here)
    }

    pub(super) fn agent(&self, vmid: u32) -> Result<serde_json::Value, AgentError> {
        match self.lock().get(&vmid) {
            None => Err(AgentError::VmNotRunning(vmid)),
            Some(guest) if !guest.agent => Err(AgentError::NotConfigured),
            Some(_) => Err(AgentError::NotRunning),
        }
    }
}

/// How often the file of a simulated guest's port is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What has been written to `file`, and what is added to it, as long as `runs` says so.
async fn follow(file: PathBuf, reader: DuplexStream, runs: impl Fn() -> bool) {
    let (mut input, mut output) = tokio::io::split(reader);
    let left = async {
        let _ = tokio::io::copy(&mut input, &mut tokio::io::sink()).await;
    };
    let shown = async {
        let mut shown = 0;
        while runs() {
            let content = tokio::fs::read(&file).await.unwrap_or_default();
            if content.len() > shown {
                if output.write_all(&content[shown..]).await.is_err() {
                    return;
                }
                shown = content.len();
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = left => {}
        () = shown => {}
    }
}

/// The file with what a serial port of a simulated guest prints.
fn output_of(port: &str) -> String {
    format!("{port}.out")
}

fn next_run() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static RUNS: AtomicU64 = AtomicU64::new(0);
    RUNS.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn vm(config: &[(&str, &str)]) -> VmSpec {
        VmSpec {
            vmid: 101,
            name: "web1".into(),
            config: config
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            volumes: BTreeMap::new(),
            run_dir: "/nonexistent".into(),
        }
    }

    fn running(guests: &Simulation) -> bool {
        guests.power(101) != Power::Stopped
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_powers_off_a_moment_after_it_was_asked() {
        let guests = Simulation::default();
        guests.start(&vm(&[])).unwrap();
        assert_eq!(
            guests.start(&vm(&[])).unwrap_err(),
            "VM 101 already running"
        );
        guests.powerdown(101).unwrap();
        assert!(running(&guests));
        tokio::time::sleep(POWER_OFF_TAKES * 2).await;
        assert!(!running(&guests));
        assert_eq!(guests.powerdown(101).unwrap_err(), "VM 101 not running");
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_without_acpi_has_to_be_stopped() {
        let guests = Simulation::default();
        guests.start(&vm(&[("acpi", "0")])).unwrap();
        guests.powerdown(101).unwrap();
        tokio::time::sleep(POWER_OFF_TAKES * 2).await;
        assert!(running(&guests));
        guests.stop(101);
        assert!(!running(&guests));
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_power_off_spares_the_next_run() {
        let guests = Simulation::default();
        guests.start(&vm(&[])).unwrap();
        guests.powerdown(101).unwrap();
        tokio::time::sleep(POWER_OFF_TAKES / 2).await;
        guests.stop(101);
        guests.start(&vm(&[])).unwrap();
        tokio::time::sleep(POWER_OFF_TAKES * 2).await;
        assert!(running(&guests));
    }

    #[test]
    fn the_agent_says_why_it_does_not_answer() {
        let guests = Simulation::default();
        assert_eq!(guests.agent(101), Err(AgentError::VmNotRunning(101)));
        guests.start(&vm(&[])).unwrap();
        assert_eq!(guests.agent(101), Err(AgentError::NotConfigured));
        guests.stop(101);
        guests.start(&vm(&[("agent", "enabled=1")])).unwrap();
        assert_eq!(guests.agent(101), Err(AgentError::NotRunning));
    }
}
