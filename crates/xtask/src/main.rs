//! The project's chores, as code: `cargo xtask --help`.

mod demo;
mod dist;
mod docs;
mod errors;
mod install;
mod modules;
mod plugin;
mod reference;
mod results;
mod role;
mod site;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Build the modules and put them into library/.
    Install {
        /// Quicker to build, slower and larger to run.
        #[arg(long)]
        debug: bool,
    },
    /// Write library/NAME.yml and docs/reference/, the documentation, from the modules' types.
    Docs {
        /// Write nothing; fail when a file differs.
        #[arg(long)]
        check: bool,
    },
    /// A Proxmox VE test host on this computer, and a machine provisioned on it.
    Demo {
        #[command(subcommand)]
        action: demo::Action,
    },
    /// Build the documentation as a web site in target/site/.
    Site,
    /// Make what is shipped: a tarball, and an Ansible collection.
    Dist {
        /// A directory with built modules, once for each architecture; without it they are built for this one.
        #[arg(long)]
        library: Vec<PathBuf>,
        /// The directory to put it into.
        #[arg(long, default_value = "dist")]
        out: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().chore {
        Chore::Install { debug } => install::install(debug),
        Chore::Demo { action } => demo::run(action),
        Chore::Dist { library, out } => dist::dist(&library, &out),
        Chore::Docs { check: false } => docs::write(),
        Chore::Site => site::build(),
        Chore::Docs { check: true } => docs::check(),
    }
}

/// The workspace's root.
fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own).to_owned()
}
