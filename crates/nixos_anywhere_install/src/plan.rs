//! What to do: pure decisions.

use std::path::PathBuf;

use guest_ssh::{Guest, Kind};

use crate::error::Error;
use crate::options::{BuildOn, DiskoMode, Options, Phase};
use crate::values::flake::FlakeRef;

/// What an installation means for the guest that was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is installed already.
    Nothing,
    /// Install on the installer that runs.
    Install,
    /// Boot an installer over the running system first. The login is root's afterwards.
    KexecThenInstall,
}

/// Decide by what the guest is. nixos-anywhere itself would partition the disks of a running
/// system without asking when the kexec phase is left out.
pub(crate) fn decide(guest: &Guest, options: &Options) -> Result<Decision, Error> {
    let kexec = options.phases.contains(&Phase::Kexec);
    let host = || options.host().to_owned();
    match guest.kind {
        Kind::Installer if !options.force_kexec => Ok(Decision::Install),
        Kind::Installed if !options.force => Ok(Decision::Nothing),
        Kind::Other if !options.allow_kexec => Err(Error::NotAnInstaller {
            host: host(),
            id: guest.id.clone(),
            name: guest.name.clone(),
        }),
        Kind::Installed | Kind::Other if !kexec => {
            Err(Error::FormatsRunningSystem { host: host() })
        }
        Kind::Installer | Kind::Installed | Kind::Other
            if options.phases.contains(&Phase::Install)
                && !options.phases.contains(&Phase::Disko) =>
        {
            Err(Error::NothingMountedAfterKexec { host: host() })
        }
        Kind::Installer | Kind::Installed | Kind::Other => Ok(Decision::KexecThenInstall),
    }
}

/// The attribute of disko's script.
pub(crate) fn disko_attribute(options: &Options) -> String {
    let without = if options.disko_deps { "" } else { "NoDeps" };
    format!("{}Script{without}", options.disko_mode.name())
}

/// What `nix build` is asked for: the system, then disko's script.
pub(crate) fn installables(flake: &FlakeRef, options: &Options) -> [String; 2] {
    ["toplevel", &disko_attribute(options)].map(|attribute| flake.installable(attribute))
}

/// Whether the flake is built here and before anything touches the machine.
pub(crate) fn built_here(options: &Options) -> bool {
    options.build_on == BuildOn::Local && options.generate_hardware_config.is_none()
}

/// What is to be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Built: the disko script and the system.
    Paths {
        /// `system.build.diskoScript` or its like.
        disko: PathBuf,
        /// `system.build.toplevel`.
        system: PathBuf,
    },
    /// To be built by nixos-anywhere.
    Flake(String),
}

/// What the phases do to a machine, for messages: `installed on`, `formatted the disks of` ...
pub(crate) fn done(options: &Options) -> &'static str {
    let has = |phase| options.phases.contains(&phase);
    match options.disko_mode {
        _ if has(Phase::Install) => "installed on",
        DiskoMode::Mount if has(Phase::Disko) => "mounted the disks of",
        _ if has(Phase::Disko) => "formatted the disks of",
        _ if has(Phase::Reboot) => "rebooted",
        _ => "booted the installer on",
    }
}

#[cfg(test)]
mod tests {
    use guest_ssh::Label;
    use serde_json::json;

    use super::*;
    use crate::options::from_json as options;
    use ansible_module::{Failure, FailureKind};

    fn guest(kind: Kind) -> Guest {
        Guest {
            kind,
            id: "nixos".into(),
            variant_id: String::new(),
            version: String::new(),
            name: String::new(),
            system: None,
            kernel: String::new(),
            hostname: String::new(),
            host_key: Label::Installer,
        }
    }

    #[test]
    fn an_installed_system_is_never_installed_over_by_accident() {
        use Decision::{Install, KexecThenInstall, Nothing};
        let no_kexec = json!({"phases": ["disko", "install"]});
        let forced = json!({"force": true});
        let forced_no_kexec = json!({"force": true, "allow_kexec": true, "phases": ["disko"]});
        let cases = [
            (
                json!({}),
                [Ok(Install), Ok(Nothing), Err(FailureKind::Refused)],
            ),
            (
                no_kexec,
                [Ok(Install), Ok(Nothing), Err(FailureKind::Refused)],
            ),
            (
                forced,
                [Ok(Install), Ok(KexecThenInstall), Err(FailureKind::Refused)],
            ),
            (
                json!({"allow_kexec": true}),
                [Ok(Install), Ok(Nothing), Ok(KexecThenInstall)],
            ),
            (
                forced_no_kexec,
                [
                    Ok(Install),
                    Err(FailureKind::Refused),
                    Err(FailureKind::Refused),
                ],
            ),
            (
                json!({"force_kexec": true}),
                [Ok(KexecThenInstall), Ok(Nothing), Err(FailureKind::Refused)],
            ),
            (
                json!({"force_kexec": true, "phases": ["kexec", "install"]}),
                [
                    Err(FailureKind::Refused),
                    Ok(Nothing),
                    Err(FailureKind::Refused),
                ],
            ),
            (
                json!({"force": true, "allow_kexec": true, "phases": ["kexec", "install"]}),
                [
                    Ok(Install),
                    Err(FailureKind::Refused),
                    Err(FailureKind::Refused),
                ],
            ),
        ];
        for (more, expected) in cases {
            let got = [Kind::Installer, Kind::Installed, Kind::Other].map(|kind| {
                decide(&guest(kind), &options(more.clone()))
                    .map_err(|error| Failure::from(error).kind)
            });
            assert_eq!(got, expected, "{more}");
        }
    }

    #[test]
    fn what_was_done_is_what_the_phases_do() {
        for (more, expected) in [
            (json!({}), "installed on"),
            (json!({"phases": ["install"]}), "installed on"),
            (json!({"phases": ["disko"]}), "formatted the disks of"),
            (
                json!({"phases": ["kexec", "disko"], "disko_mode": "mount"}),
                "mounted the disks of",
            ),
            (json!({"phases": ["reboot"]}), "rebooted"),
            (json!({"phases": ["kexec"]}), "booted the installer on"),
        ] {
            assert_eq!(done(&options(more)), expected);
        }
    }
}
