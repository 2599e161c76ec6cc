//! The demo's small installer image on a real QEMU guest, with the cloud-init drive that PVE would
//! build: log in, talk to the agent, take out a CD-ROM in use, power off. Skipped until the image
//! is built (`testing/images/build.sh tiny`) and where QEMU is missing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pve_testhost::guest::{Accel, AgentError, Forward, Guests, Power, Settings, VmSpec, cloudinit};
use serde_json::{Value, json};

/// A boot takes 10 to 25 s without KVM on two busy processors.
const BOOT_LIMIT: Duration = Duration::from_secs(240);

/// The image built last.
fn image() -> Option<PathBuf> {
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/images");
    let images = fs::read_dir(cache).ok()?.filter_map(|entry| {
        let path = entry.ok()?.path();
        let name = path.file_name()?.to_str()?;
        let wanted = name.starts_with("tiny-") && name.ends_with(".iso");
        let built = path.metadata().ok()?.modified().ok()?;
        wanted.then_some((built, path))
    });
    Some(images.max()?.1)
}

struct Login {
    directory: PathBuf,
    port: u16,
}

impl Login {
    /// Run a command in the guest.
    fn run(&self, command: &str) -> Result<String, String> {
        let output = Command::new("ssh")
            .args(["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"])
            .args(["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"])
            .args(["-o", "ConnectTimeout=20", "-F", "/dev/null", "-i"])
            .arg(self.directory.join("key"))
            .args(["-p", &self.port.to_string(), "root@127.77.9.21", command])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        }
    }
}

async fn until<T, E: std::fmt::Debug>(
    what: &str,
    serial: &Path,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + BOOT_LIMIT;
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => {
                let console = fs::read(serial).unwrap_or_default();
                let console = String::from_utf8_lossy(&console);
                assert!(
                    Instant::now() < deadline && !console.contains("Kernel panic"),
                    "{what}: still {error:?}\nserial console:\n{console}"
                );
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_small_image_boots_and_obeys() {
    let Some(image) = image() else {
        eprintln!("skipped: build the image with testing/images/build.sh tiny");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let guests = match Guests::new(Settings {
        state_dir: path.to_owned(),
        accel: Accel::Auto,
        forwards: vec![Forward {
            host_port: port,
            guest_port: 22,
        }],
    }) {
        Ok(guests) => guests,
        Err(error) => {
            eprintln!("skipped: {error}");
            return;
        }
    };

    let key = path.join("key");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
        .arg(&key)
        .status();
    assert!(made.unwrap().success());
    let public = fs::read_to_string(path.join("key.pub")).unwrap();
    let sshkeys =
        percent_encoding::utf8_percent_encode(public.trim(), percent_encoding::NON_ALPHANUMERIC);
    let config: BTreeMap<String, String> = [
        ("agent", "enabled=1"),
        ("boot", "order=scsi0;ide2"),
        ("ciupgrade", "0"),
        ("ciuser", "root"),
        ("ide0", "local:201/vm-201-cloudinit.qcow2,media=cdrom"),
        ("ide2", "local:iso/tiny.iso,media=cdrom"),
        ("ipconfig0", "ip=10.77.9.21/24,gw=10.77.9.1"),
        ("memory", "384"),
        ("name", "boots"),
        ("net0", "virtio=BC:24:11:00:09:15,bridge=vmbr0"),
        ("scsi0", "local-zfs:201/vm-201-disk-0.raw,size=64M"),
        ("scsihw", "virtio-scsi-single"),
        ("serial0", "socket"),
        ("sshkeys", &sshkeys.to_string()),
        ("vga", "serial0"),
    ]
    .iter()
    .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
    .collect();
    let seed = path.join("vm-201-cloudinit.qcow2");
    let drive = cloudinit::drive(201, &config, &cloudinit::Custom::default()).unwrap();
    fs::write(&seed, drive.image()).unwrap();
    let disk = path.join("vm-201-disk-0.raw");
    fs::File::create(&disk).unwrap().set_len(64 << 20).unwrap();
    let vm = VmSpec {
        vmid: 201,
        name: "boots".into(),
        config,
        volumes: BTreeMap::from([
            ("ide0".into(), seed),
            ("ide2".into(), image),
            ("scsi0".into(), disk),
        ]),
        run_dir: path.join("201"),
    };
    let serial = vm.run_dir.join("serial.log");
    guests.start(vm, &|line| eprintln!("{line}")).await.unwrap();

    let login = Login {
        directory: path.to_owned(),
        port,
    };
    let name = until("SSH", &serial, async || login.run("hostname")).await;
    assert_eq!(name, "boots");

    until("the agent", &serial, async || {
        guests.agent(201, "guest-ping", json!({})).await
    })
    .await;
    let interfaces = guests
        .agent(201, "guest-network-get-interfaces", json!({}))
        .await;
    let interfaces = interfaces.unwrap().to_string();
    assert!(interfaces.contains("10.77.9.21"), "{interfaces}");
    assert!(interfaces.contains("bc:24:11:00:09:15"), "{interfaces}");
    assert!(matches!(
        guests
            .agent(201, "guest-file-open", json!({"path": "/nonexistent"}))
            .await,
        Err(AgentError::Failed(_))
    ));
    let opened = guests
        .agent(201, "guest-file-open", json!({"path": "/etc/os-release"}))
        .await;
    let read = guests
        .agent(201, "guest-file-read", json!({"handle": opened.unwrap()}))
        .await;
    assert!(
        read.unwrap()["count"]
            .as_u64()
            .is_some_and(|count| count > 0)
    );

    // A mounted CD-ROM has its tray locked; PVE takes the medium out all the same, at once.
    let mount = "mkdir -p /tmp/cd && mount -o ro /dev/sr0 /tmp/cd && ls /tmp/cd";
    assert!(
        login
            .run(mount)
            .is_ok_and(|files| files.contains("user-data"))
    );
    guests.change_medium(201, "ide0", None).await.unwrap();
    let gone = login.run("umount /tmp/cd; dd if=/dev/sr0 of=/dev/null bs=2048 count=1");
    assert!(gone.is_err(), "{gone:?}");

    guests.powerdown(201, true).await.unwrap();
    until("the end", &serial, async || match guests.power(201) {
        Power::Stopped => Ok(()),
        Power::Running { qmpstatus, .. } => Err(qmpstatus),
    })
    .await;
    let stopped: Result<Value, AgentError> = guests.agent(201, "guest-ping", json!({})).await;
    assert_eq!(stopped, Err(AgentError::VmNotRunning(201)));
}
