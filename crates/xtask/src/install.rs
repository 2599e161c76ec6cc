//! The built modules in `library/`, where Ansible finds them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::modules::all;
use crate::root;

/// How the modules are built.
#[derive(Clone, Copy)]
pub enum Profile {
    /// Quicker to build, slower and larger to run.
    Debug,
    /// As the tests use them.
    Release,
    /// As they are shipped.
    Dist,
}

/// Where the programs are that `library/` of the repository links to.
const PROGRAMS: &str = ".programs";

/// Build all modules and put those that changed into place.
///
/// `ansible-doc -l` reads every file in a library as text and warns about programs, even if a `.yml` file documents them
/// (<https://github.com/ansible/ansible/issues/85279>, fixed in part). It skips symbolic links.
pub fn install(debug: bool) -> anyhow::Result<()> {
    let library = root().join("library");
    let programs = root().join(PROGRAMS);
    fs::create_dir_all(&library)?;
    fs::create_dir_all(&programs)?;
    let profile = if debug {
        Profile::Debug
    } else {
        Profile::Release
    };
    build_into(&programs, profile)?;
    for module in all() {
        link(PROGRAMS, module.name, &library)?;
    }
    Ok(())
}

/// Replace the link `library/NAME`, which leads to `programs/NAME` beside the library, atomically, so that a running play finds the
/// old program or the new one.
pub fn link(programs: &str, name: &str, library: &Path) -> anyhow::Result<()> {
    let program = Path::new("..").join(programs).join(name);
    let target = library.join(name);
    if fs::read_link(&target).is_ok_and(|old| old == program) {
        return Ok(());
    }
    let fresh = library.join(format!("{name}.new"));
    let _ = fs::remove_file(&fresh);
    symlink(&program, &fresh).with_context(|| format!("writing {}", fresh.display()))?;
    fs::rename(&fresh, &target).with_context(|| format!("writing {}", target.display()))
}

/// Build all modules and copy those that changed into `directory`.
pub fn build_into(directory: &Path, profile: Profile) -> anyhow::Result<()> {
    let names: Vec<&str> = all().iter().map(|module| module.name).collect();
    let built = build(&names, profile)?;
    ensure!(
        built.len() == names.len(),
        "cargo built {built:?}, but the modules are {names:?}"
    );
    for binary in built {
        put(&binary, directory)?;
    }
    Ok(())
}

/// Cargo, without what `cargo run` says of this program in the environment: ring's build script asks for it, so that ring and all
/// that needs it would be compiled anew whenever this and a plain `cargo build` take turns.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Build the binaries called `names`; returns their paths.
fn build(names: &[&str], profile: Profile) -> anyhow::Result<Vec<PathBuf>> {
    let mut command = cargo();
    command
        .current_dir(root())
        .args(["build", "--message-format=json-render-diagnostics"])
        .stdout(Stdio::piped());
    match profile {
        Profile::Debug => {}
        Profile::Release => {
            command.arg("--release");
        }
        Profile::Dist => {
            command.args(["--profile", "dist"]);
        }
    }
    for name in names {
        command.args(["--package", name, "--bin", name]);
    }
    let mut child = command.spawn().context("starting cargo")?;
    let stdout = child.stdout.take().context("cargo has no output")?;
    let mut built = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let message: Value = serde_json::from_str(&line?)?;
        if let Some(path) = message["executable"].as_str() {
            built.push(PathBuf::from(path));
        }
    }
    if !child.wait()?.success() {
        bail!("cargo build failed");
    }
    Ok(built)
}

/// Copy `binary` into `library` in one step, so that a play that runs meanwhile finds the old
/// module or the new one.
fn put(binary: &Path, library: &Path) -> anyhow::Result<()> {
    let name = binary.file_name().context("a binary without a name")?;
    let target = library.join(name);
    let content = fs::read(binary).with_context(|| format!("reading {}", binary.display()))?;
    if fs::read(&target).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let mut fresh = name.to_owned();
    fresh.push(".new");
    let fresh = library.join(fresh);
    fs::write(&fresh, &content).with_context(|| format!("writing {}", fresh.display()))?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    fs::rename(&fresh, &target).with_context(|| format!("writing {}", target.display()))?;
    println!("{}", target.display());
    Ok(())
}
