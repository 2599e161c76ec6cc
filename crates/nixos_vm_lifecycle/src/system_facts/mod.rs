//! What the inventory knows of a machine, as the options of the NixOS module `nixos-proxmox.guest`: JSON, and the flake that adds it to
//! the machine's configuration.
//!
//! The facts come from the variables alone, not from the VM: the build begins before there is one.

mod facts;
mod file;
mod wrapper;

pub use file::{untracked, write};
pub use wrapper::wrap;

use crate::context::Context;
use crate::error::LocalError;
use crate::options::{Settings, SystemFacts};

/// The directory of the wrapper in that of an installation.
pub const DIR: &str = "facts";

/// A directory for a wrapper that is needed for one evaluation or build only. It is removed when it is dropped.
///
/// # Errors
/// Kind `file`.
pub fn temporary_dir() -> Result<tempfile::TempDir, LocalError> {
    tempfile::tempdir().map_err(LocalError::TemporaryDirectory)
}

/// Whether this is a check that cannot evaluate the flake, because it does not write the file that the flake reads. It is warned of.
pub fn out_of_date(context: &Context<'_>) -> bool {
    let out_of_date = context.task.check_mode && !file::is_current(context.settings());
    if out_of_date {
        context.task.warn(
            "nixos_vm_system_facts_file: is out of date, and check mode does not write it; the flake was not evaluated",
        );
    }
    out_of_date
}

/// What is wrong with the variables that the facts come from.
pub fn mistakes(settings: &Settings) -> Vec<String> {
    if settings.system_facts == SystemFacts::None {
        return Vec::new();
    }
    let mut mistakes = facts::mistakes(settings);
    let further = settings.further().install;
    let hardware = further.get("generate_hardware_config");
    let elsewhere = settings.build_on != "local" || hardware.is_some_and(|value| !value.is_null());
    match settings.system_facts {
        SystemFacts::Wrapper if elsewhere => mistakes.push(
            "nixos_vm_system_facts: wrapper requires a build on the controller (nixos_vm_build_on: local, no generate_hardware_config), \
             because nixos-anywhere cannot replace the inputs of a flake; use nixos_vm_system_facts: file"
                .into(),
        ),
        SystemFacts::File if file::path(settings).is_none() => mistakes.push(
            "nixos_vm_system_facts_file: is required with nixos_vm_system_facts: file; give a file of the flake, for example \
             /path/to/flake/facts/web1.json"
                .into(),
        ),
        SystemFacts::None | SystemFacts::Wrapper | SystemFacts::File => {}
    }
    mistakes
}
