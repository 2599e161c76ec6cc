//! A PVE test host on this computer, and a machine provisioned on it by the very play that users run.

use std::ffi::OsStr;
use std::io::{IsTerminal, stderr, stdout};
use std::net::TcpStream;
use std::path::{Path, PathBuf, absolute};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};

use crate::{install, root};

/// The guest's SSH port: the test host forwards it, once there is a guest.
const GUEST: (&str, u16) = ("127.77.0.11", 2222);
const PLAY: &str = "ansible-playbook provision.yml -i testing/demo/inventory";

#[derive(Subcommand)]
pub enum Action {
    /// Build everything, start the test host and provision the machine.
    Up(Up),
    /// Stop what `up` left running, and remove it.
    Down {
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Args)]
pub struct Place {
    /// Everything is in this directory.
    #[arg(long, env = "NIXOS_PROXMOX_DEMO_DIR", default_value_os_t = root().join(".demo"))]
    directory: PathBuf,
}

#[derive(Args)]
pub struct Up {
    #[command(flatten)]
    place: Place,
    /// debian: the real cloud-init; tiny: faster.
    #[arg(long, env = "DEMO_IMAGE", default_value = "debian")]
    image: String,
    /// The port of 127.0.0.1 at which the test host listens.
    #[arg(long, env = "DEMO_PORT", default_value_t = 8006)]
    port: u16,
    /// How the guest runs: auto, kvm or tcg.
    #[arg(long, env = "DEMO_ACCEL", default_value = "auto")]
    accel: String,
    /// 1: the real nixos-anywhere installs NixOS, for which this computer needs Nix and an installer's image.
    #[arg(long, env = "REAL_NIX", default_value = "0")]
    real_nix: String,
    /// With --real-nix 1: the installer's image.
    #[arg(long, env = "NIXOS_INSTALLER_ISO")]
    installer_iso: Option<PathBuf>,
    /// Further arguments of ansible-playbook.
    #[arg(last = true)]
    arguments: Vec<String>,
}

pub fn run(action: Action) -> Result<()> {
    match action {
        Action::Up(options) => up(&options),
        Action::Down { place } => down(&absolute(place.directory)?),
    }
}

fn up(options: &Up) -> Result<()> {
    let demo = absolute(&options.place.directory)?;
    let image = match (options.real_nix.as_str(), &options.installer_iso) {
        ("1", Some(path)) => path
            .canonicalize()
            .with_context(|| format!("NIXOS_INSTALLER_ISO={}", path.display()))?,
        ("1", None) => bail!(
            "with REAL_NIX=1, say where the NixOS installer's image is: NIXOS_INSTALLER_ISO=..."
        ),
        _ => {
            println!(
                "The machine will be a Debian system installed by a stand-in for nixos-anywhere (testing/stand-in);\n\
                 with Nix on this computer, make demo REAL_NIX=1 installs NixOS with the real one."
            );
            PathBuf::from(&options.image)
        }
    };
    let (address, port) = GUEST;
    ensure!(
        demo.join("pve/endpoint.json").exists() || TcpStream::connect(GUEST).is_err(),
        "port {port} of {address} is in use by another program, and the demo's machine needs it; stop that program first"
    );

    let mut steps = Steps::default();
    steps.take("Build the modules and the test host", || {
        install::install(false)?;
        call(&mut test_host(&["--version"]))
    })?;
    if !image.is_absolute() {
        steps.take("Make the installer's image", || {
            call(Command::new(root().join("testing/images/build.sh")).arg(&image))
        })?;
    }
    steps.take("Start the Proxmox VE test host", || {
        let mut start = test_host(&["lab", "up", "--accel", &options.accel]);
        start.args(["--port", &options.port.to_string()]);
        call(start.arg(&demo).arg(&image))
    })?;
    steps.take(&format!("Provision: {PLAY}"), || {
        let mut words = PLAY.split(' ');
        let mut play = Command::new(
            root()
                .join(".venv/bin")
                .join(words.next().unwrap_or_default()),
        );
        play.args(words).args(&options.arguments);
        play.env("ANSIBLE_CONFIG", root().join("ansible.cfg"));
        play.env("NIXOS_PROXMOX_DEMO_DIR", &demo);
        // What the play calls (ansible-galaxy, nix's stand-in) is there too.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let own = [root().join(".venv/bin")];
        let all = own.into_iter().chain(std::env::split_paths(&path));
        call(play.env("PATH", std::env::join_paths(all)?))
    })?;
    summary(&demo, &steps)
}

fn down(demo: &Path) -> Result<()> {
    if demo.exists() {
        call(test_host(&["lab", "down"]).arg(demo))?;
    }
    println!("The test host is stopped and {} is gone.", demo.display());
    Ok(())
}

/// Headings, and how long each step took.
#[derive(Default)]
struct Steps(Vec<(Duration, String)>);

impl Steps {
    fn take(&mut self, title: &str, step: impl FnOnce() -> Result<()>) -> Result<()> {
        let begin = Instant::now();
        heading(title);
        step()?;
        self.0.push((begin.elapsed(), title.to_owned()));
        Ok(())
    }
}

/// In bold on a terminal; a file gets no colours.
fn heading(title: &str) {
    if stdout().is_terminal() {
        println!("\n\x1b[1m== {title}\x1b[0m");
    } else {
        println!("\n== {title}");
    }
}

/// The test host's program, built when it is not; cargo shows its progress on a terminal.
fn test_host(arguments: &[&str]) -> Command {
    let mut command = install::cargo();
    command.args(["run", "--release", "--package", "pve-testhost"]);
    if !stderr().is_terminal() {
        command.arg("--quiet");
    }
    command.arg("--").args(arguments);
    command
}

fn call(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command
        .current_dir(root())
        .status()
        .with_context(|| format!("starting {name}"))?;
    ensure!(done.success(), "{name} failed ({done})");
    Ok(())
}

fn summary(demo: &Path, steps: &Steps) -> Result<()> {
    let config = config(demo)?;
    let vmid = config.file_stem().unwrap_or_default().to_string_lossy();
    let state = demo.join("state/demo1");
    let installation = state.join(installation(&std::fs::read_to_string(&config)?)?);
    let known_hosts = state.join("known_hosts");
    heading("Done");
    for (time, title) in &steps.0 {
        println!("{:4} s  {title}", time.as_secs());
    }
    let (address, port) = GUEST;
    println!(
        "
  machine      demo1, VMID {vmid} on node pve
  address      {address}, port {port} (the guest's own: 10.77.0.11, port 22)
  host key     {}
  log in       ssh -i {} -o IdentitiesOnly=yes -o {} -o StrictHostKeyChecking=yes -p {port} root@{address}
  look inside  {}: the VM's configuration, its serial log, tasks and requests; {}
  run again    .venv/bin/{PLAY}    (changes nothing)
  clean up     make demo-down",
        fingerprint(&installation.join("host_key_ed25519.pub"))?,
        quoted(&demo.join("ssh/id_ed25519").to_string_lossy()),
        known_hosts_option(&known_hosts.to_string_lossy()),
        demo.join("pve").display(),
        installation.join("install.log").display(),
    );
    Ok(())
}

/// The configuration of the demo's VM.
fn config(demo: &Path) -> Result<PathBuf> {
    for entry in std::fs::read_dir(demo.join("pve/qemu-server"))? {
        let path = entry?.path();
        let is_config = path.extension() == Some(OsStr::new("conf"));
        if is_config && std::fs::read_to_string(&path)?.contains("name: demo1\n") {
            return Ok(path);
        }
    }
    bail!(
        "the test host has no VM demo1: see {}",
        demo.join("pve").display()
    )
}

/// The ID in the VM's record, by which the directory of its installation is called.
fn installation(config: &str) -> Result<&str> {
    let (_, id) = config
        .rsplit_once("installation=")
        .context("the VM's notes have no record")?;
    id.get(..32).context("the VM's record was cut off")
}

fn fingerprint(key: &Path) -> Result<String> {
    let done = Command::new("ssh-keygen")
        .args(["-l", "-f"])
        .arg(key)
        .output()
        .context("starting ssh-keygen")?;
    let line = String::from_utf8(done.stdout)?;
    let fingerprint = line.split(' ').nth(1).context("ssh-keygen said nothing")?;
    Ok(fingerprint.to_owned())
}

/// An argument for a shell: in quotes only where it needs them.
fn quoted(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_./=@:,-".contains(letter);
    match text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// ssh splits the value of this option at blanks, unless it is in double quotes.
fn known_hosts_option(path: &str) -> String {
    match path.contains(' ') {
        true => quoted(&format!("UserKnownHostsFile=\"{path}\"")),
        false => quoted(&format!("UserKnownHostsFile={path}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_where_a_shell_or_ssh_needs_it() {
        assert_eq!(quoted("/home/me/.demo/ssh/id"), "/home/me/.demo/ssh/id");
        assert_eq!(quoted("/home/it's"), r"'/home/it'\''s'");
        assert_eq!(
            known_hosts_option("/my files/known_hosts"),
            "'UserKnownHostsFile=\"/my files/known_hosts\"'"
        );
    }

    #[test]
    fn the_last_record_of_the_notes_names_the_installation() {
        let id = "0123456789abcdef0123456789abcdef";
        let config = format!("#a\n#installation=x installation={id} phase=done\nname: demo1\n");
        assert_eq!(installation(&config).ok(), Some(id));
        assert!(installation("name: demo1\n").is_err());
    }
}
