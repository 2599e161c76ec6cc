//! `pve-testhost`: serve, stop and prepare a PVE test host.

mod lab;

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use pve_testhost::guest::Accel;
use pve_testhost::{Options, Server};

/// A PVE API over a data directory, with real QEMU guests. For tests and demos; not a Proxmox VE.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT; writes DIR/endpoint.json once it listens.
    Serve(Serve),
    /// End the host that serves DIR, and its guests.
    Stop {
        /// Data directory.
        #[arg(long)]
        data: PathBuf,
    },
    /// Make DIR and its credentials without serving.
    Init {
        /// Data directory.
        #[arg(long)]
        data: PathBuf,
        /// The node's name.
        #[arg(long, default_value = "pve")]
        node: String,
    },
    /// A host in the background, with what a user of the demo's inventory has.
    Lab {
        #[command(subcommand)]
        action: lab::Action,
    },
}

#[derive(Args)]
struct Serve {
    /// Data directory: everything is kept here.
    #[arg(long)]
    data: PathBuf,
    /// Address and port; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// How guests run; `none` simulates their power states.
    #[arg(long, value_enum, default_value = "auto")]
    accel: Accel,
    /// JSON rules of misbehaviour, read again when they change.
    #[arg(long)]
    faults: Option<PathBuf>,
    /// Port of a guest's loopback address that leads to its port 22.
    #[arg(long, default_value_t = 2222)]
    ssh_port: u16,
    /// Seconds by which every 401 is delayed, as PVE does.
    #[arg(long, default_value_t = 3.0)]
    auth_delay: f64,
    /// The node's name.
    #[arg(long, default_value = "pve")]
    node: String,
    /// The names of several nodes, with commas between them; the first one is asked.
    #[arg(long, value_delimiter = ',', conflicts_with = "node")]
    nodes: Vec<String>,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Serve(serve) => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?
            .block_on(run(serve)),
        Command::Stop { data } => stop(&data),
        Command::Init { data, node } => pve_testhost::init(&data, &[node]).map(|_| ()),
        Command::Lab { action } => lab::run(action),
    }
}

async fn run(serve: Serve) -> Result<()> {
    let server = Server::open(Options {
        data: serve.data,
        listen: serve.listen,
        accel: serve.accel,
        faults: serve.faults,
        ssh_port: serve.ssh_port,
        auth_delay: Duration::from_secs_f64(serve.auth_delay.clamp(0.0, 60.0)),
        nodes: if serve.nodes.is_empty() {
            vec![serve.node]
        } else {
            serve.nodes
        },
    })
    .await?;
    println!(
        "pve-testhost: https://{} ({})",
        server.address,
        server.host_dir().display()
    );
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    server
        .run(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await
}

/// Whether a process is a test host. The number in `endpoint.json` may be another program's by now.
fn is_testhost(pid: impl Display) -> bool {
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&command).contains("pve-testhost")
}

/// Send SIGTERM to the host of a data directory and wait for its end.
fn stop(data: &Path) -> Result<()> {
    let file = data.join("endpoint.json");
    let Ok(text) = std::fs::read_to_string(&file) else {
        println!("pve-testhost: nothing serves {}", data.display());
        return Ok(());
    };
    let endpoint: serde_json::Value = serde_json::from_str(&text).context("read endpoint.json")?;
    let pid = endpoint["pid"]
        .as_i64()
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(rustix::process::Pid::from_raw);
    let Some(pid) = pid else {
        bail!("{} names no process", file.display())
    };
    if !is_testhost(pid.as_raw_nonzero()) {
        std::fs::remove_file(&file)?;
        println!(
            "pve-testhost: the host of {} is gone already",
            data.display()
        );
        return Ok(());
    }
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while file.exists() || rustix::process::test_kill_process(pid).is_ok() {
        if Instant::now() > deadline {
            bail!("process {pid:?} did not end within 30 s of SIGTERM");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
