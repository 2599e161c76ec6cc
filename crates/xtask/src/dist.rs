//! What is shipped: a tarball of everything, and an Ansible collection.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::modules::all;
use crate::{install, root};

const COLLECTION: &str = "nixos_proxmox.pve";

/// What only the collection has, from the repository's root.
const COLLECTION_FILES: &str = "crates/xtask/collection";

/// Where the programs of the tarball are. Its `library/` has links to them, like that of a clone (see [`install::install`]). The
/// name has no dot: `cp -r NIXOS_PROXMOX/* .` takes it along.
const PROGRAMS: &str = "programs";

/// Make both in `out`. `libraries` are directories with built modules, one for each architecture;
/// without any they are built for this computer's.
pub fn dist(libraries: &[PathBuf], out: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(out)?;
    let out = out.canonicalize()?;
    let stage = out.join(".stage");
    let _ = fs::remove_dir_all(&stage);
    let built = match libraries {
        [] => {
            let library = out.join(".modules");
            fs::create_dir_all(&library)?;
            install::build_into(&library, install::Profile::Dist)?;
            by_architecture(&[library])?
        }
        some => by_architecture(some)?,
    };
    for (machine, library) in &built {
        report(machine, library)?;
        tarball(machine, library, &stage, &out)?;
    }
    collection(&built, &stage, &out)?;
    fs::remove_dir_all(&stage)?;
    Ok(())
}

fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// The libraries by the architecture of their modules, which must be whole.
fn by_architecture(libraries: &[PathBuf]) -> anyhow::Result<BTreeMap<&'static str, PathBuf>> {
    let mut found = BTreeMap::new();
    for library in libraries {
        let mut machines = Vec::new();
        for module in all() {
            machines.push(machine(&library.join(module.name))?);
        }
        machines.dedup();
        let [machine] = machines[..] else {
            bail!(
                "{} holds modules of several architectures: {machines:?}",
                library.display()
            );
        };
        ensure!(
            found.insert(machine, library.canonicalize()?).is_none(),
            "two libraries hold modules for {machine}"
        );
    }
    Ok(found)
}

/// The architecture that an ELF program is for, as `uname -m` names it.
fn machine(program: &Path) -> anyhow::Result<&'static str> {
    let mut head = [0; 20];
    fs::File::open(program)
        .and_then(|mut file| file.read_exact(&mut head))
        .with_context(|| format!("reading the module {}", program.display()))?;
    match (&head[..4], u16::from_le_bytes([head[18], head[19]])) {
        (b"\x7fELF", 62) => Ok("x86_64"),
        (b"\x7fELF", 183) => Ok("aarch64"),
        _ => bail!(
            "{} is not a Linux program for x86_64 or aarch64",
            program.display()
        ),
    }
}

fn report(machine: &str, library: &Path) -> anyhow::Result<()> {
    for module in all() {
        let size = fs::metadata(library.join(module.name))?.len();
        println!(
            "{machine} {} {:.1} MiB",
            module.name,
            size as f64 / 1048576.0
        );
    }
    Ok(())
}

/// The project as a user runs it: unpack and go.
fn tarball(machine: &str, library: &Path, stage: &Path, out: &Path) -> anyhow::Result<()> {
    let name = format!("nixos-proxmox-{}-{machine}-linux", version());
    let top = stage.join(&name);
    for path in [
        "README.md",
        "LICENSES",
        "CHANGELOG.md",
        "ansible.cfg",
        "provision.yml",
        "playbooks",
        "examples",
        "inventory",
        "docs",
    ] {
        copy(path, &top.join(path))?;
    }
    copy_role(&top.join("roles/nixos_vm"))?;
    link_to_repository(&top)?;
    let links = top.join("library");
    fs::create_dir_all(&links)?;
    for module in all() {
        put_module(&module, library, module.name, &top.join(PROGRAMS))?;
        install::link(PROGRAMS, module.name, &links)?;
        let docs = links.join(format!("{}.yml", module.name));
        fs::write(docs, (module.docs)()?)?;
    }
    // The role finds the modules wherever it is copied to with `cp -rL`.
    std::os::unix::fs::symlink("../../library", top.join("roles/nixos_vm/library"))?;
    run(Command::new("tar")
        .args([
            "--create",
            "--gzip",
            "--sort=name",
            "--owner=0",
            "--group=0",
        ])
        .arg("--file")
        .arg(out.join(format!("{name}.tar.gz")))
        .arg("-C")
        .arg(stage)
        .arg(&name))?;
    println!("{name}.tar.gz");
    Ok(())
}

fn collection(
    built: &BTreeMap<&'static str, PathBuf>,
    stage: &Path,
    out: &Path,
) -> anyhow::Result<()> {
    let top = stage.join("collection");
    for path in [
        "galaxy.yml",
        "meta/runtime.yml",
        "meta/execution-environment.yml",
        "meta/bindep.txt",
        "README.md",
    ] {
        copy(&format!("{COLLECTION_FILES}/{path}"), &top.join(path))?;
    }
    for path in ["LICENSES", "CHANGELOG.md"] {
        copy(path, &top.join(path))?;
    }
    let galaxy = fs::read_to_string(top.join("galaxy.yml"))?;
    ensure!(
        galaxy.contains(&format!("\nversion: {}\n", version())),
        "{COLLECTION_FILES}/galaxy.yml must say version {}",
        version()
    );
    let machines: Vec<&str> = built.keys().copied().collect();
    edit(
        &top.join("README.md"),
        "ARCHITECTURES",
        &machines.join(", "),
    )?;

    put_modules(built, &top)?;
    ignore_licences(&top.join("tests/sanity"))?;
    let chooser = "plugins/plugin_utils/architecture.py";
    copy(&format!("{COLLECTION_FILES}/{chooser}"), &top.join(chooser))?;
    let table: Vec<String> = machines
        .iter()
        .map(|machine| format!("\"{machine}\""))
        .collect();
    edit(
        &top.join(chooser),
        "[\"x86_64\"]",
        &format!("[{}]", table.join(", ")),
    )?;

    put_role(&top)?;
    run(Command::new(ansible_galaxy())
        .args(["collection", "build", "--force", "--output-path"])
        .arg(out)
        .arg(&top))
}

/// The modules' programs, documentation and action plugins.
fn put_modules(built: &BTreeMap<&'static str, PathBuf>, top: &Path) -> anyhow::Result<()> {
    // ansible-doc and ansible-test read whatever is in plugins/modules as text, so the programs are elsewhere: what is there is
    // their documentation, and the action plugin of the same name runs the program for the computer.
    let modules = top.join("plugins/modules");
    fs::create_dir_all(&modules)?;
    for module in all() {
        for (machine, library) in built {
            let target = top.join("libexec").join(machine);
            put_module(&module, library, &program_name(module.name), &target)?;
        }
        let docs = qualified(&(module.docs)()?);
        fs::write(modules.join(format!("{}.py", module.name)), stub(&docs)?)?;
        copy(
            &format!("{COLLECTION_FILES}/plugins/action/module.py"),
            &top.join(format!("plugins/action/{}.py", module.name)),
        )?;
    }
    Ok(())
}

/// The role, its callback plugin, the inventory plugin and the playbooks.
fn put_role(top: &Path) -> anyhow::Result<()> {
    copy_role(&top.join("roles/nixos_vm"))?;
    for entry in fs::read_dir(top.join("roles/nixos_vm/tasks"))? {
        let path = entry?.path();
        fs::write(&path, qualified(&fs::read_to_string(&path)?))?;
    }
    fs::create_dir_all(top.join("plugins/callback"))?;
    fs::rename(
        top.join("roles/nixos_vm/callback_plugins/nixos_vm_progress.py"),
        top.join("plugins/callback/nixos_vm_progress.py"),
    )?;
    fs::remove_dir_all(top.join("roles/nixos_vm/callback_plugins"))?;
    put_inventory_plugin(top)?;
    for (from, to) in [
        ("provision.yml", "provision.yml"),
        ("playbooks/keys.yml", "keys.yml"),
        ("playbooks/plan.yml", "plan.yml"),
        ("playbooks/deploy.yml", "deploy.yml"),
        ("playbooks/destroy.yml", "destroy.yml"),
    ] {
        let to = top.join("playbooks").join(to);
        copy(from, &to)?;
        edit(
            &to,
            "name: nixos_vm\n",
            &format!("name: {COLLECTION}.nixos_vm\n"),
        )?;
    }
    Ok(())
}

/// The inventory plugin, under the collection's name for it.
fn put_inventory_plugin(top: &Path) -> anyhow::Result<()> {
    let plugin = top.join("plugins/inventory/inventory.py");
    copy_file(&root().join(crate::plugin::PATH), &plugin)?;
    fs::remove_dir_all(top.join("roles/nixos_vm/inventory_plugins"))?;
    let name = format!("{COLLECTION}.inventory");
    edit(&plugin, "\nname: nixos_proxmox\n", "\nname: inventory\n")?;
    edit(
        &plugin,
        "NAME = \"nixos_proxmox\"",
        &format!("NAME = \"{name}\""),
    )?;
    edit(
        &plugin,
        "plugin: nixos_proxmox\n",
        &format!("plugin: {name}\n"),
    )
}

/// ansible-test wants plugins to be under the GPL, as ansible-core's own are. What else it finds is to be mended.
fn ignore_licences(to: &Path) -> anyhow::Result<()> {
    let modules = all()
        .into_iter()
        .map(|module| format!("modules/{}", module.name));
    let lines: Vec<String> = modules
        .chain([
            "callback/nixos_vm_progress".to_owned(),
            "inventory/inventory".to_owned(),
        ])
        .map(|plugin| format!("plugins/{plugin}.py validate-modules:missing-gplv3-license\n"))
        .collect();
    fs::create_dir_all(to)?;
    for minor in 15..=22 {
        fs::write(to.join(format!("ignore-2.{minor}.txt")), lines.concat())?;
    }
    Ok(())
}

/// The name of a module's program in the collection, which no module of another origin has.
fn program_name(module: &str) -> String {
    format!("{}_{module}", COLLECTION.replace('.', "_"))
}

/// A module in Python that is nothing but its documentation.
fn stub(docs: &str) -> anyhow::Result<String> {
    ensure!(
        !docs.contains("\"\"\""),
        "the documentation contains three quotes"
    );
    let mut text = String::from(
        "#!/usr/bin/python\n# Copyright the nixos-proxmox authors\n# SPDX-License-Identifier: MIT OR Apache-2.0\n\
         # Generated by `cargo xtask dist`. The action plugin of this name runs the program.\n\n\
         from __future__ import annotations\n",
    );
    let mut open = false;
    for line in docs.lines() {
        match line.split_once(':') {
            Some((key @ ("DOCUMENTATION" | "EXAMPLES" | "RETURN"), _)) => {
                text.push_str(if open { "\"\"\"\n" } else { "" });
                text.push_str(&format!("\n{key} = r\"\"\"\n---\n"));
                open = true;
            }
            _ if open => {
                text.push_str(line.strip_prefix("  ").unwrap_or(line));
                text.push('\n');
            }
            _ => {}
        }
    }
    ensure!(open, "the documentation has no parts");
    Ok(text + "\"\"\"\n")
}

/// Documentation or tasks with the modules' full names, which is what they are known by outside.
fn qualified(text: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for line in &mut lines {
        for module in all() {
            let (name, full) = (module.name, format!("{COLLECTION}.{}", module.name));
            let at = line.len() - line.trim_start_matches([' ', '-']).len();
            if line[at..].starts_with(&format!("{name}:")) {
                line.insert_str(at, &format!("{COLLECTION}."));
            }
            *line = line.replace(&format!("M({name})"), &format!("M({full})"));
            if line.trim_end() == format!("    - module: {name}") {
                *line = format!("    - module: {full}");
            }
        }
    }
    lines.join("\n") + "\n"
}

fn put_module(
    module: &crate::modules::Entry,
    library: &Path,
    name: &str,
    to: &Path,
) -> anyhow::Result<()> {
    let target = to.join(name);
    copy_file(&library.join(module.name), &target)?;
    fs::set_permissions(&target, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// The role without its link to the modules.
fn copy_role(to: &Path) -> anyhow::Result<()> {
    for (file, rest) in tracked("roles/nixos_vm")? {
        if rest != Path::new("library") {
            copy_file(&root().join(file), &to.join(rest))?;
        }
    }
    Ok(())
}

/// Copy a file or a tree of the repository: what Git tracks of it, since `inventory/` is also where people keep their own machines
/// and secrets.
fn copy(from: &str, to: &Path) -> anyhow::Result<()> {
    let files = tracked(from)?;
    ensure!(!files.is_empty(), "{from} has no file that Git tracks");
    for (file, rest) in files {
        copy_file(&root().join(file), &to.join(rest))?;
    }
    Ok(())
}

/// The files that Git tracks at or below `path`: from the repository's root, and from `path`.
fn tracked(path: &str) -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
    let done = Command::new("git")
        .current_dir(root())
        .args(["ls-files", "-z", "--", path])
        .output()
        .context("starting git")?;
    ensure!(
        done.status.success(),
        "git ls-files failed; run this in a clone: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    let files = String::from_utf8(done.stdout)?;
    let files = files.split_terminator('\0').map(PathBuf::from);
    let with_rest = |file: PathBuf| {
        let rest = file.strip_prefix(path).unwrap_or(&file).to_owned();
        (file, rest)
    };
    Ok(files.map(with_rest).collect())
}

fn copy_file(from: &Path, to: &Path) -> anyhow::Result<()> {
    let context = || format!("copying {} to {}", from.display(), to.display());
    // A path joined with nothing ends with a slash.
    let to: PathBuf = to.components().collect();
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).with_context(context)?;
    }
    fs::copy(from, &to).with_context(context)?;
    Ok(())
}

/// Have links of the documentation to what is not shipped lead to the repository.
fn link_to_repository(top: &Path) -> anyhow::Result<()> {
    for (file, _) in tracked("*.md")? {
        let path = top.join(&file);
        let Ok(text) = fs::read_to_string(&path) else {
            continue; // Not shipped.
        };
        let here = file.parent().unwrap_or(Path::new(""));
        let mut parts = text.split("](");
        let mut fresh = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            fresh.push_str("](");
            let end = part.find([')', '#', ' ']).unwrap_or(part.len());
            let target = normal(&here.join(&part[..end]));
            let missing = !part[..end].contains(':') && !top.join(&target).exists();
            if missing && root().join(&target).exists() {
                let url = format!(
                    "{}/blob/HEAD/{}",
                    env!("CARGO_PKG_REPOSITORY"),
                    target.display()
                );
                fresh.push_str(&url);
                fresh.push_str(&part[end..]);
            } else {
                fresh.push_str(part);
            }
        }
        fs::write(&path, fresh)?;
    }
    Ok(())
}

/// `path` without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

fn edit(path: &Path, old: &str, new: &str) -> anyhow::Result<()> {
    let text = fs::read_to_string(path)?;
    ensure!(
        text.contains(old),
        "{} does not contain {old:?}",
        path.display()
    );
    fs::write(path, text.replace(old, new))?;
    Ok(())
}

fn ansible_galaxy() -> PathBuf {
    let own = root().join(".venv/bin/ansible-galaxy");
    if own.exists() {
        own
    } else {
        "ansible-galaxy".into()
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let done = command
        .status()
        .with_context(|| format!("starting {command:?}"))?;
    ensure!(done.success(), "{command:?} failed: {done}");
    Ok(())
}
