//! What is installed, and what Nix is told.

use crate::commands::nixos_anywhere::passes_nix_options_to_machine;
use crate::options::{BuildOn, DiskoMode, Options, Phase};
use crate::plan;
use crate::values::flake::{self, FlakeRef};
use crate::values::nix_options;
use crate::values::settings::{self, NIX};

use super::Found;
use super::files::reason;

/// What is installed, and how.
pub(super) fn source(options: &Options, found: &mut Found) {
    if options.phases.is_empty() {
        found.push("phases", "must have at least one phase");
    }
    if options.host.is_some() && options.user != "root" && !options.phases.contains(&Phase::Kexec) {
        let problem = format!(
            "must be root without the phase kexec, because nixos-anywhere then logs in as root at once (got {})",
            options.user
        );
        found.push("user", problem);
    }
    if options.force_kexec && !options.phases.contains(&Phase::Kexec) {
        found.push("force_kexec", "requires kexec among the phases");
    }
    if options.nixos_anywhere_flake.starts_with('-') {
        let problem = format!(
            "is not a flake reference (got {:?})",
            options.nixos_anywhere_flake
        );
        found.push("nixos_anywhere_flake", problem);
    }
    if let Some(paths) = &options.store_paths {
        if options.build_on != BuildOn::Local {
            found.push(
                "build_on",
                "cannot be used with store_paths, which are built already",
            );
        }
        if options.disko_mode != DiskoMode::Disko {
            let problem = "cannot be used with store_paths, whose disko is the very script to run";
            found.push("disko_mode", problem);
        }
        if options.generate_hardware_config.is_some() {
            let problem = "cannot be used with store_paths, which are built already";
            found.push("generate_hardware_config", problem);
        }
        for (name, path) in [("disko", &paths.disko), ("system", &paths.system)] {
            if let Err(error) = path.canonicalize() {
                let problem = format!("{name}: {} {}", path.display(), reason(&error));
                found.file("store_paths", problem);
            }
        }
    }
    nix(options, found);
}

/// The flake, and how Nix is run.
pub(super) fn nix(options: &Options, found: &mut Found) {
    if let Some(flake) = &options.flake {
        match FlakeRef::parse(flake) {
            Err(problem) => found.push("flake", problem),
            Ok(flake) if !plan::built_here(options) => {
                if let Err(problem) = flake.for_nixos_anywhere() {
                    found.push("flake", problem);
                }
            }
            Ok(_) => {}
        }
    }
    inputs(options, found);
    nix_settings(options, found);
}

/// Inputs that are replaced, which only Nix on the controller is told.
pub(super) fn inputs(options: &Options, found: &mut Found) {
    if options.override_inputs.is_empty() {
        return;
    }
    if options.flake.is_some() && !plan::built_here(options) {
        found.push(
            "override_inputs",
            "requires a build on the controller (build_on: local, no generate_hardware_config), because nixos-anywhere cannot replace inputs",
        );
    }
    for (name, uri) in &options.override_inputs {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_/".contains(c);
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            || !name.chars().all(plain)
        {
            found.push(
                "override_inputs",
                format!("{name:?} is not a valid name of an input"),
            );
        }
        if let Err(problem) = flake::input_uri(uri) {
            found.push("override_inputs", format!("{name}: {problem}"));
        }
    }
}

/// Settings that Nix would not read, and secrets that would have to stand on a command line.
pub(super) fn nix_settings(options: &Options, found: &mut Found) {
    for (name, value) in &options.nix_options {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        // A line of nix.conf with it includes a file.
        let directive = name == "include";
        if name.is_empty() || name.starts_with('-') || directive || !name.chars().all(plain) {
            found.push(
                "nix_options",
                format!("{name:?} is not the name of a setting"),
            );
        } else if name.contains('_') {
            let meant = name.replace('_', "-");
            found.push(
                "nix_options",
                format!("{name} is not the name of a setting; write {meant}"),
            );
        }
        let problem = match settings::text(value, &NIX) {
            Err(problem) => Some(problem),
            Ok(value) if nix_options::secrets_in(name, &value).is_empty() => None,
            Ok(value) if !nix_options::fits_nix_conf(&value) => Some(
                "must be one line of nix.conf, because process lists would show its secret on a command line; \
                 write # as %23 in a URL, and one blank between words"
                    .into(),
            ),
            Ok(_) if passes_nix_options_to_machine(options) => Some(
                "cannot have a secret with the backend nixos-facter, because nixos-anywhere repeats nix_options on a command line on \
                 the machine; set it in the controller's nix.conf or environment variable NIX_CONFIG"
                    .into(),
            ),
            Ok(_) => None,
        };
        if let Some(problem) = problem {
            found.push("nix_options", format!("{name}: {problem}"));
        }
    }
}
