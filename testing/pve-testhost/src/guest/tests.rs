//! Real QEMU, no guest operating system: only the firmware runs. Skipped where QEMU is missing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use super::*;

/// Far more than anything here takes, on a machine busy with other tests.
const LIMIT: Duration = Duration::from_secs(60);

struct Bench {
    directory: tempfile::TempDir,
    guests: Guests,
    forwards: Vec<Forward>,
}

impl Bench {
    /// `None` where there is no QEMU.
    fn new() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        // Any free port does: what is forwarded to is not there.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let forwards = vec![Forward {
            host_port: port.local_addr().unwrap().port(),
            guest_port: 22,
        }];
        let settings = Settings {
            state_dir: directory.path().to_owned(),
            accel: Accel::Tcg,
            forwards: forwards.clone(),
        };
        match Guests::new(settings) {
            Ok(guests) => Some(Self {
                directory,
                guests,
                forwards,
            }),
            Err(error) => {
                eprintln!("skipped: {error}");
                None
            }
        }
    }

    fn file(&self, name: &str, size: usize) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, vec![0; size]).unwrap();
        path
    }

    fn vm(&self, vmid: u32, extra: &[(&str, &str)]) -> VmSpec {
        let mut config: BTreeMap<String, String> = [
            ("agent", "1"),
            ("boot", "order=scsi0;ide2"),
            ("ide2", "local:iso/a.iso,media=cdrom"),
            ("ipconfig0", "ip=10.77.9.11/24,gw=10.77.9.1"),
            ("memory", "64"),
            ("net0", "virtio=BC:24:11:00:00:0B,bridge=vmbr0,link_down=1"),
            ("scsi0", "local:101/vm-101-disk-0.raw,size=1M"),
            ("scsihw", "virtio-scsi-single"),
            ("serial0", "socket"),
            ("vga", "serial0"),
        ]
        .iter()
        .chain(extra)
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
        config.retain(|_, value| !value.is_empty());
        let mut volumes = BTreeMap::from([(
            "scsi0".to_owned(),
            self.file(&format!("{vmid}.raw"), 1 << 20),
        )]);
        if config["ide2"].starts_with("local:") {
            volumes.insert("ide2".into(), self.file("a.iso", 1 << 20));
        }
        VmSpec {
            vmid,
            name: format!("vm{vmid}"),
            config,
            volumes,
            // Longer than the path of a socket may be.
            run_dir: self
                .directory
                .path()
                .join("r".repeat(120))
                .join(vmid.to_string()),
        }
    }

    async fn start(&self, vm: VmSpec) -> Result<Vec<String>, String> {
        let lines = std::sync::Mutex::new(Vec::new());
        let log = |line: &str| lines.lock().unwrap().push(line.to_owned());
        let started = self.guests.start(vm, &log).await;
        started.map(|()| lines.into_inner().unwrap())
    }

    fn status(&self, vmid: u32) -> Option<String> {
        match self.guests.power(vmid) {
            Power::Stopped => None,
            Power::Running { qmpstatus, .. } => Some(qmpstatus),
        }
    }

    async fn until_status(&self, vmid: u32, wanted: Option<&str>) {
        let deadline = Instant::now() + LIMIT;
        while self.status(vmid).as_deref() != wanted {
            assert!(Instant::now() < deadline, "still {:?}", self.status(vmid));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn a_machine_from_start_to_stop() {
    let Some(bench) = Bench::new() else { return };
    let (guests, port) = (&bench.guests, bench.forwards[0].host_port);
    let log = bench.start(bench.vm(101, &[])).await.unwrap();
    assert_eq!(
        log,
        [format!("net0: 10.77.9.11 (127.77.9.11:{port} -> port 22)")]
    );
    bench.until_status(101, Some("running")).await;
    assert_eq!(
        bench.start(bench.vm(101, &[])).await.unwrap_err(),
        "VM 101 already running"
    );

    // The firmware ignores the power button, and no agent is there to be asked.
    guests.powerdown(101, true).await.unwrap();
    assert_eq!(
        guests.agent(101, "guest-ping", json!({})).await,
        Err(AgentError::NotRunning)
    );
    guests.suspend(101).await.unwrap();
    bench.until_status(101, Some("paused")).await;
    guests.resume(101).await.unwrap();
    bench.until_status(101, Some("running")).await;
    guests.reset(101).await.unwrap();

    let other = bench.file("b.iso", 1 << 20);
    guests.change_medium(101, "ide2", None).await.unwrap();
    guests
        .change_medium(101, "ide2", Some(&other))
        .await
        .unwrap();
    guests
        .change_medium(101, "ide2", Some(&other))
        .await
        .unwrap();
    let error = guests
        .change_medium(101, "ide2", Some(Path::new("/nonexistent.iso")))
        .await
        .unwrap_err();
    assert!(error.contains("/nonexistent.iso"), "{error}");
    assert!(guests.change_medium(101, "ide3", None).await.is_err());

    guests.stop(101).await;
    assert_eq!(guests.power(101), Power::Stopped);
    guests.stop(101).await;
    assert_eq!(
        guests.powerdown(101, false).await.unwrap_err(),
        "VM 101 not running"
    );
    let leases = fs::read_to_string(bench.directory.path().join("leases.json")).unwrap();
    assert!(leases.contains("10.77.9.11"), "{leases}");
}

#[tokio::test]
async fn an_address_in_use_is_explained() {
    let Some(bench) = Bench::new() else { return };
    bench.start(bench.vm(101, &[])).await.unwrap();
    let place = format!("127.77.9.11:{}", bench.forwards[0].host_port);
    let second = bench.vm(102, &[("agent", ""), ("ide2", "none,media=cdrom")]);
    assert_eq!(
        bench.start(second.clone()).await.unwrap_err(),
        format!(
            "start failed: cannot forward {place} to VM 102: taken by VM 101, which has the same \
             address; end it, or give this VM another address"
        )
    );
    assert_eq!(bench.guests.power(102), Power::Stopped);
    bench.guests.shutdown().await;
    assert_eq!(bench.guests.power(101), Power::Stopped);

    let taken = std::net::TcpListener::bind(&place).unwrap();
    let error = bench.start(second.clone()).await.unwrap_err();
    assert!(error.contains("taken by another program"), "{error}");
    drop(taken);

    // Another machine, with an empty drive.
    bench.start(second).await.unwrap();
    let medium = bench.file("b.iso", 1 << 20);
    bench
        .guests
        .change_medium(102, "ide2", Some(&medium))
        .await
        .unwrap();
    bench.guests.stop(102).await;
}

#[tokio::test]
async fn every_kind_of_device_is_accepted() {
    let Some(bench) = Bench::new() else { return };
    let uuid = "uuid=0d7a3c0e-7b0a-4a51-8a2a-3c8f6f1a0b11";
    let mut vm = bench.vm(
        101,
        &[
            ("boot", "order=virtio0;scsi1"),
            ("cores", "2"),
            ("ide0", "none,media=cdrom"),
            ("machine", "q35"),
            ("net1", "e1000=BC:24:11:00:00:0C,bridge=vmbr0"),
            ("net6", "virtio=BC:24:11:00:00:0D,bridge=vmbr0"),
            ("rng0", "source=/dev/urandom"),
            ("sata5", "none,media=cdrom"),
            ("scsi1", "none,media=cdrom"),
            (
                "scsi0",
                "local:101/vm-101-disk-0.raw,cache=writeback,discard=on,ssd=1,serial=abc",
            ),
            ("scsihw", "virtio-scsi-pci"),
            ("smbios1", uuid),
            ("vga", ""),
            ("virtio0", "local:101/vm-101-disk-1.raw,cache=unsafe"),
            ("virtio9", "local:101/vm-101-disk-2.raw,ro=1"),
            ("vmgenid", "dc97c92d-8139-4fec-afbe-b342e056e7f5"),
        ],
    );
    vm.volumes
        .insert("virtio0".into(), bench.file("1.raw", 1 << 20));
    vm.volumes
        .insert("virtio9".into(), bench.file("2.raw", 1 << 20));
    if Path::new("/usr/share/OVMF").exists() {
        vm.config.insert("bios".into(), "ovmf".into());
    }
    bench.start(vm).await.unwrap();
    bench
        .guests
        .change_medium(101, "scsi1", Some(&bench.file("b.iso", 1 << 20)))
        .await
        .unwrap();
    bench.guests.stop(101).await;

    for scsihw in ["lsi", "megasas", "pvscsi"] {
        let vm = bench.vm(
            101,
            &[("scsihw", scsihw), ("scsi0", "local:101/x.raw,size=1M")],
        );
        bench.start(vm).await.unwrap();
        bench.guests.stop(101).await;
    }
}

#[tokio::test]
async fn a_process_that_is_killed_is_noticed() {
    let Some(bench) = Bench::new() else { return };
    bench.start(bench.vm(101, &[])).await.unwrap();
    let Power::Running { pid, .. } = bench.guests.power(101) else {
        panic!("not running");
    };
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();

    // An abort while booting: started again, with another process.
    rustix::process::kill_process(pid, rustix::process::Signal::ABORT).unwrap();
    let deadline = Instant::now() + LIMIT;
    let second = loop {
        if let Power::Running { pid: now, .. } = bench.guests.power(101)
            && i32::try_from(now).unwrap() != pid.as_raw_nonzero().get()
        {
            break now;
        }
        assert!(Instant::now() < deadline, "not started again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    bench.until_status(101, Some("running")).await;

    let pid = rustix::process::Pid::from_raw(i32::try_from(second).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    bench.until_status(101, None).await;
    let log = fs::read_to_string(bench.vm(101, &[]).run_dir.join("qemu.log")).unwrap();
    assert!(log.contains("starting it again, once"), "{log}");
}
