//! `seed-init SEED [ROOT]`: apply the cloud-init drive mounted at `SEED` to the system at `ROOT`
//! (default `/`), before the network and sshd start.
//!
//! The demo's small guest has no Python, hence no cloud-init. This program reads what a NoCloud or
//! ConfigDrive medium can hold and does the parts of it that an installer needs: hostname, users
//! and their SSH keys, files, SSH host keys, and the network (left in `ROOT/etc/network.seed` for
//! the guest's boot script, one action a line). Where cloud-init has a trap, this has it too: the
//! host keys found at boot are deleted unless `ssh_deletekeys: false` is given.

mod apply;
mod eni;
mod netmask;
mod network;
mod seed;
mod userdata;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let (seed, root) = match arguments.as_slice() {
        [seed] => (seed.as_path(), Path::new("/")),
        [seed, root] => (seed.as_path(), root.as_path()),
        _ => {
            eprintln!("usage: seed-init SEED [ROOT]");
            return ExitCode::from(2);
        }
    };
    match run(seed, root) {
        Ok(warnings) => {
            for warning in warnings {
                eprintln!("seed-init: {warning}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("seed-init: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Reads the seed and applies it; what could not be understood is returned as warnings, since a
/// guest that is reachable with half a seed is easier to repair than one that is not.
fn run(seed: &Path, root: &Path) -> Result<Vec<String>, String> {
    let seed = seed::read(seed)?;
    let mut warnings = Vec::new();
    let system = userdata::parse(&seed, &mut warnings)?;
    let devices = network::devices(&root.join("sys/class/net"));
    let lines = network::plan(&seed.network, &devices, &mut warnings)?;
    apply::apply(root, &system, &lines, &mut warnings)?;
    Ok(warnings)
}
