//! `pve-testhost lab`: a host in the background over one directory, with the files of a user, for the demo and the tests.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use pve_testhost::guest::Accel;

use crate::{is_testhost, stop};

/// How long a host may take until it listens.
const START: Duration = Duration::from_secs(30);

#[derive(Subcommand)]
pub enum Action {
    /// Start a host in the background: its data in DIR/pve, an installer's image as DIR/installer.iso, a user's keys in DIR/ssh.
    /// DIR/faults.json, which need not exist, makes it misbehave.
    Up(Up),
    /// End it and remove DIR.
    Down {
        /// What was given to `up`.
        directory: PathBuf,
    },
}

#[derive(Args)]
pub struct Up {
    /// An absolute path; what is there already must be a lab.
    directory: PathBuf,
    /// `tiny` or `debian` (made by testing/images), `none` (guests are simulated), or the absolute path of an image.
    #[arg(default_value = "tiny")]
    image: String,
    /// The port of 127.0.0.1; 0 picks a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// How guests run.
    #[arg(long, value_enum, default_value = "auto")]
    accel: Accel,
}

pub fn run(action: Action) -> Result<()> {
    match action {
        Action::Up(up) => start(&up),
        Action::Down { directory } => remove(&directory),
    }
}

fn start(up: &Up) -> Result<()> {
    let lab = &up.directory;
    ensure!(
        lab.is_absolute(),
        "the directory must be an absolute path (got '{}')",
        lab.display()
    );
    ensure!(
        is_lab(lab) || is_empty(lab),
        "{} holds other files, which `lab down` would remove; name a directory that does not exist yet",
        lab.display()
    );
    let data = lab.join("pve");
    fs::create_dir_all(&data).with_context(|| format!("making {}", data.display()))?;
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log_of(lab))?;
    fs::set_permissions(lab, fs::Permissions::from_mode(0o700))?;
    user_files(lab)?;
    let simulated = up.image == "none";
    image(&up.image, &lab.join("installer.iso"))?;
    if let Some(pid) = running(&data) {
        println!("already running (process {pid})");
        return Ok(());
    }
    let _ = fs::remove_file(data.join("endpoint.json"));
    ensure!(
        up.port == 0 || TcpStream::connect((Ipv4Addr::LOCALHOST, up.port)).is_err(),
        "port {0} of 127.0.0.1 is in use by another program; name a free one, for example --port {1} (make demo: DEMO_PORT={1})",
        up.port,
        up.port.saturating_add(10_000).max(18_006)
    );
    log.set_len(0)?;
    let accel = if simulated { Accel::None } else { up.accel };
    let accel = clap::ValueEnum::to_possible_value(&accel).context("a value without a name")?;
    // In a session of its own: it stays when the terminal is closed.
    let child = Command::new("setsid")
        .arg(std::env::current_exe()?)
        .arg("serve")
        .arg("--data")
        .arg(&data)
        .args(["--listen", &format!("127.0.0.1:{}", up.port)])
        .args(["--accel", accel.get_name()])
        .arg("--faults")
        .arg(lab.join("faults.json"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("starting the host")?;
    let address = wait_for(child, &data)?;
    println!("the API is at {address}, its data in {}", data.display());
    Ok(())
}

/// Wait until it listens; returns its URL.
fn wait_for(mut child: Child, data: &Path) -> Result<String> {
    let begin = Instant::now();
    loop {
        if let Some(endpoint) = endpoint(data) {
            return Ok(format!("https://127.0.0.1:{}", endpoint["api_port"]));
        }
        if child.try_wait()?.is_some() || begin.elapsed() > START {
            let _ = child.kill();
            let log = data.join("server.log");
            let said = fs::read_to_string(&log).unwrap_or_default();
            bail!("the host did not start ({}):\n{said}", log.display());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn remove(lab: &Path) -> Result<()> {
    if !lab.exists() {
        return Ok(());
    }
    ensure!(
        lab.is_absolute() && is_lab(lab),
        "{} is not a directory that `lab up` made: nothing was removed",
        lab.display()
    );
    let data = lab.join("pve");
    if running(&data).is_some() {
        stop(&data)?;
    }
    fs::remove_dir_all(lab).with_context(|| format!("removing {}", lab.display()))
}

/// The first file that `up` makes: who finds it may remove the directory.
fn log_of(lab: &Path) -> PathBuf {
    lab.join("pve/server.log")
}

fn is_lab(directory: &Path) -> bool {
    log_of(directory).exists()
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none())
}

fn endpoint(data: &Path) -> Option<serde_json::Value> {
    serde_json::from_slice(&fs::read(data.join("endpoint.json")).ok()?).ok()
}

/// The process that serves a data directory.
fn running(data: &Path) -> Option<i64> {
    let pid = endpoint(data)?["pid"].as_i64()?;
    is_testhost(pid).then_some(pid)
}

/// What the installed machine gets from its user: a key to log in with, and a file to find there.
fn user_files(lab: &Path) -> Result<()> {
    let (ssh, extra) = (lab.join("ssh"), lab.join("extra-files"));
    let (key, home) = (ssh.join("id_ed25519"), extra.join("root"));
    for directory in [&ssh, &home.join(".ssh"), &extra.join("etc")] {
        fs::create_dir_all(directory)?;
    }
    for directory in [&home, &home.join(".ssh")] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    }
    if !key.exists() {
        let done = Command::new("ssh-keygen")
            .args([
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-C",
                "nixos-proxmox demo",
                "-f",
            ])
            .arg(&key)
            .stdin(Stdio::null())
            .status()
            .context("starting ssh-keygen")?;
        ensure!(done.success(), "ssh-keygen failed ({done})");
    }
    fs::copy(key.with_extension("pub"), home.join(".ssh/authorized_keys"))?;
    fs::write(
        extra.join("etc/nixos-proxmox-demo"),
        "Put here by nixos-anywhere's --extra-files.\n",
    )?;
    Ok(())
}

/// Put the image there, as a link where it is a file of its own.
fn image(name: &str, link: &Path) -> Result<()> {
    let _ = fs::remove_file(link);
    let file = match name {
        "none" => return Ok(fs::write(link, smallest_iso())?),
        "tiny" | "debian" => built_image(name)?,
        path if path.starts_with('/') => path.into(),
        _ => bail!("the image must be tiny, debian, none or an absolute path (got '{name}')"),
    };
    symlink(&file, link).with_context(|| format!("linking {} to {file}", link.display()))
}

/// The path of an image that `testing/images` makes, once.
fn built_image(name: &str) -> Result<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/build.sh");
    let done = Command::new(&script)
        .arg(name)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting {}", script.display()))?;
    ensure!(done.status.success(), "{} failed", script.display());
    Ok(String::from_utf8(done.stdout)?.trim().to_owned())
}

/// What is an ISO 9660 image by its volume descriptors, and has nothing in it.
fn smallest_iso() -> Vec<u8> {
    const SECTOR: usize = 2048;
    let mut image = vec![0; 32 * SECTOR];
    image[16 * SECTOR..][..7].copy_from_slice(b"\x01CD001\x01");
    image[17 * SECTOR..][..7].copy_from_slice(b"\xffCD001\x01");
    image
}
