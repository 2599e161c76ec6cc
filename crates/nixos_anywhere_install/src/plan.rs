//! What to do: pure decisions and command lines.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use ansible_module::Failure;
use guest_ssh::{Guest, Kind};
use serde_json::Value;

use crate::flake::FlakeRef;
use crate::host::bracketless;
use crate::options::{BuildOn, DiskoMode, Options, Phase};
use crate::preflight::{absolute, ssh_option};
use crate::settings::{self, NIX};

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
pub(crate) fn decide(guest: &Guest, options: &Options) -> Result<Decision, Failure> {
    let kexec = options.phases.contains(&Phase::Kexec);
    let refuse = |msg: String, hint: &str| {
        Err(Failure::new("refused", msg)
            .object(options.host())
            .hint(hint)
            .with("guest", guest))
    };
    match guest.kind {
        Kind::Installer if !options.force_kexec => Ok(Decision::Install),
        Kind::Installed if !options.force => Ok(Decision::Nothing),
        Kind::Other if !options.allow_kexec => refuse(
            format!(
                "{} runs {} ({}), not a NixOS installer; nothing was done to it",
                options.host(),
                guest.id,
                guest.name
            ),
            "boot the installer, or set allow_kexec to destroy what is there",
        ),
        Kind::Installed | Kind::Other if !kexec => refuse(
            format!(
                "{} does not run an installer, and without the phase kexec its disks would be \
                 formatted under the running system; nothing was done to it",
                options.host()
            ),
            "add kexec to phases",
        ),
        Kind::Installer | Kind::Installed | Kind::Other
            if options.phases.contains(&Phase::Install)
                && !options.phases.contains(&Phase::Disko) =>
        {
            refuse(
                format!(
                    "after a kexec nothing is mounted at /mnt on {}, to which the phase install would install; \
                     nothing was done to it",
                    options.host()
                ),
                "add disko to phases",
            )
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

/// The arguments of `nix` that run the nixos-anywhere of a flake, up to that one's own.
pub(crate) fn run_arguments(options: &Options) -> Vec<OsString> {
    let mut arguments = nix_arguments(&["run"], &LOCKED, options);
    arguments.extend([options.nixos_anywhere_flake.as_str(), "--"].map(OsString::from));
    arguments
}

/// Whether the flake is built here and before anything touches the machine.
pub(crate) fn built_here(options: &Options) -> bool {
    options.build_on == BuildOn::Local && options.generate_hardware_config.is_none()
}

/// The arguments of `nix` to build one installable, the same that nixos-anywhere uses.
pub(crate) fn build_arguments(installables: &[String], options: &Options) -> Vec<OsString> {
    let command = [
        "build",
        "--print-out-paths",
        "--no-link",
        "--print-build-logs",
    ];
    evaluating(&command, installables, options)
}

/// The arguments of `nix` to evaluate installables, all in one process, and to ask no substituter.
pub(crate) fn evaluation_arguments(installables: &[String], options: &Options) -> Vec<OsString> {
    evaluating(&["path-info", "--derivation"], installables, options)
}

/// The arguments of `nix` that print its settings.
pub(crate) fn settings_arguments(options: &Options) -> Vec<OsString> {
    nix_arguments(&["config", "show"], &[], options)
}

/// The arguments of `nix` that print each path with the size of its closure.
pub(crate) fn size_arguments(paths: &[&Path], options: &Options) -> Vec<OsString> {
    let mut arguments = nix_arguments(&["path-info", "--closure-size"], &[], options);
    arguments.extend(paths.iter().map(OsString::from));
    arguments
}

fn evaluating(command: &[&str], installables: &[String], options: &Options) -> Vec<OsString> {
    let mut arguments = nix_arguments(command, &LOCKED, options);
    if options.show_trace {
        arguments.push("--show-trace".into());
    }
    arguments.extend(installables.iter().map(OsString::from));
    arguments
}

/// For commands that read a flake, which leave its lock file alone. Others do not know the flag.
const LOCKED: [&str; 1] = ["--no-write-lock-file"];

/// A command of `nix` with what every call takes: flakes, and the user's settings after `flags`.
fn nix_arguments(command: &[&str], flags: &[&str], options: &Options) -> Vec<OsString> {
    let features = ["--extra-experimental-features", "nix-command flakes"];
    let fixed = command.iter().chain(&features).chain(flags);
    let mut arguments: Vec<OsString> = fixed.map(OsString::from).collect();
    for (name, value) in nix_settings(&options.nix_options) {
        arguments.extend(["--option", name, &value].map(OsString::from));
    }
    arguments
}

/// Settings as `nix` takes them. One that has no text was refused before.
fn nix_settings(settings: &BTreeMap<String, Value>) -> impl Iterator<Item = (&str, String)> {
    let text = |value| settings::text(value, &NIX).unwrap_or_default();
    settings
        .iter()
        .map(move |(name, value)| (name.as_str(), text(value)))
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

/// The files made for one run of nixos-anywhere.
pub(crate) struct Files<'a> {
    /// A private copy of the login key; none with an agent.
    pub(crate) key: Option<&'a Path>,
    /// The tree for the installed system.
    pub(crate) extra: Option<&'a Path>,
}

/// The arguments of nixos-anywhere. The host comes first: only then does its parser refuse an
/// option that it does not know, instead of taking it for the host.
pub(crate) fn arguments(options: &Options, source: &Source, files: &Files) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    add(&[&format!("{}@{}", options.user, bracketless(options.host()))]);
    let phases: Vec<&str> = options.phases.iter().map(|phase| phase.name()).collect();
    add(&["--phases", &phases.join(",")]);
    if options.port != 22 {
        add(&["--ssh-port", &options.port.to_string()]);
    }
    if options.post_kexec_port != 22 {
        let port = options.post_kexec_port.to_string();
        add(&["--post-kexec-ssh-port", &port]);
    }
    if let Some(kexec) = &options.kexec {
        match kexec.contains("://") {
            true => add(&["--kexec", kexec]),
            false => add(&["--kexec", &absolute(Path::new(kexec)).to_string_lossy()]),
        }
    }
    if options.force_kexec {
        // Its parser drops the argument that follows.
        add(&["--force-kexec", "--force-kexec"]);
    }
    if let Some(flags) = &options.kexec_extra_flags {
        add(&["--kexec-extra-flags", flags]);
    }
    for (name, value) in &options.ssh_options {
        let value = ssh_option(name, value).unwrap_or_default();
        add(&["--ssh-option", &format!("{name}={value}")]);
    }
    for (name, value) in nix_settings(&options.nix_options) {
        add(&["--option", name, &value]);
    }
    for (name, value) in nix_settings(&options.ssh_store_settings) {
        // It becomes part of a URI. nixos-anywhere 1.13.0 drops the argument that follows, and later
        // ones ignore this one.
        add(&[
            "--ssh-store-setting",
            name,
            &value.replace(' ', "%20"),
            "-t",
        ]);
    }
    if options.copy_host_keys {
        add(&["--copy-host-keys"]);
    }
    for (wanted, word) in [
        (options.print_build_logs, "--print-build-logs"),
        (options.show_trace, "--show-trace"),
        (options.debug, "--debug"),
        (
            !options.substitute_on_destination,
            "--no-substitute-on-destination",
        ),
        (
            !options.use_machine_substituters,
            "--no-use-machine-substituters",
        ),
    ] {
        if wanted {
            add(&[word]);
        }
    }
    for file in &options.extra_files {
        if let Some(owner) = &file.owner {
            add(&["--chown", &file.path, owner]);
        }
    }
    let mut add = |words: &[&std::ffi::OsStr]| arguments.extend(words.iter().map(OsString::from));
    match source {
        Source::Paths { disko, system } => add(&[
            "--store-paths".as_ref(),
            disko.as_ref(),
            system.as_ref(),
            "--build-on".as_ref(),
            "local".as_ref(),
        ]),
        Source::Flake(flake) => {
            add(&[
                "--flake".as_ref(),
                flake.as_ref(),
                "--build-on".as_ref(),
                options.build_on.name().as_ref(),
                "--disko-mode".as_ref(),
                options.disko_mode.name().as_ref(),
            ]);
            if !options.disko_deps {
                add(&["--no-disko-deps".as_ref()]);
            }
        }
    }
    if let Some(hardware) = &options.generate_hardware_config {
        add(&[
            "--generate-hardware-config".as_ref(),
            hardware.backend.name().as_ref(),
            absolute(&hardware.path).as_ref(),
        ]);
    }
    for key in &options.disk_encryption_keys {
        add(&[
            "--disk-encryption-keys".as_ref(),
            key.remote.as_ref(),
            absolute(&key.local).as_ref(),
        ]);
    }
    if let Some(key) = files.key {
        add(&["-i".as_ref(), key.as_ref()]);
    }
    if let Some(extra) = files.extra {
        add(&["--extra-files".as_ref(), extra.as_ref()]);
    }
    arguments
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

/// An octal mode with its leading zero: YAML turns an unquoted 0600 into 384.
pub(crate) fn mode(text: &str) -> Option<u32> {
    let digits = text.strip_prefix('0').filter(|digits| digits.len() >= 3)?;
    u32::from_str_radix(digits, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
}

#[cfg(test)]
mod tests {
    use guest_ssh::Label;
    use serde_json::{Value, json};

    use super::*;

    fn options(more: Value) -> Options {
        let mut options = json!({"host": "192.0.2.11", "flake": "/infra#web1"});
        for (key, value) in more.as_object().unwrap() {
            options[key] = value.clone();
        }
        serde_json::from_value(options).unwrap()
    }

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
            (json!({}), [Ok(Install), Ok(Nothing), Err("refused")]),
            (no_kexec, [Ok(Install), Ok(Nothing), Err("refused")]),
            (forced, [Ok(Install), Ok(KexecThenInstall), Err("refused")]),
            (
                json!({"allow_kexec": true}),
                [Ok(Install), Ok(Nothing), Ok(KexecThenInstall)],
            ),
            (
                forced_no_kexec,
                [Ok(Install), Err("refused"), Err("refused")],
            ),
            (
                json!({"force_kexec": true}),
                [Ok(KexecThenInstall), Ok(Nothing), Err("refused")],
            ),
            (
                json!({"force_kexec": true, "phases": ["kexec", "install"]}),
                [Err("refused"), Ok(Nothing), Err("refused")],
            ),
            (
                json!({"force": true, "allow_kexec": true, "phases": ["kexec", "install"]}),
                [Ok(Install), Err("refused"), Err("refused")],
            ),
        ];
        for (more, expected) in cases {
            let got = [Kind::Installer, Kind::Installed, Kind::Other]
                .map(|kind| decide(&guest(kind), &options(more.clone())).map_err(|f| f.kind));
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

    fn words(options: &Options, source: &Source) -> Vec<String> {
        let files = Files {
            key: Some(Path::new("/p/key")),
            extra: Some(Path::new("/p/files")),
        };
        arguments(options, source, &files)
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect()
    }

    #[test]
    fn the_host_is_the_first_argument() {
        let source = Source::Paths {
            disko: "/nix/store/d".into(),
            system: "/nix/store/s".into(),
        };
        let plain = words(&options(json!({})), &source).join(" ");
        assert_eq!(
            plain,
            "root@192.0.2.11 --phases kexec,disko,install --store-paths /nix/store/d \
             /nix/store/s --build-on local -i /p/key --extra-files /p/files"
        );
        let full = options(json!({
            "user": "nixos", "port": 2222, "copy_host_keys": true, "phases": ["disko", "reboot"],
            "nix_options": {"cores": 2, "extra-substituters": ["https://a", "https://b"]}, "post_kexec_port": 2222, "kexec": "/k.tar.gz", "force_kexec": true, "show_trace": true,
            "ssh_options": {"Compression": true, "Ciphers": ["a", "b"]},
            "ssh_store_settings": {"compress": true, "system-features": ["kvm", "big"]},
            "extra_files": [{"path": "/a", "content": "x", "owner": "1000:100"}],
            "disk_encryption_keys": [{"remote": "/tmp/k", "local": "/secret/k"}],
        }));
        assert_eq!(
            words(&full, &source).join(" "),
            "nixos@192.0.2.11 --phases disko,reboot --ssh-port 2222 --post-kexec-ssh-port 2222 \
             --kexec /k.tar.gz --force-kexec --force-kexec --ssh-option Ciphers=a,b --ssh-option Compression=yes --option cores 2 \
             --option extra-substituters https://a https://b --ssh-store-setting compress true -t \
             --ssh-store-setting system-features kvm%20big -t \
             --copy-host-keys --show-trace --chown /a 1000:100 \
             --store-paths /nix/store/d /nix/store/s --build-on local \
             --disk-encryption-keys /tmp/k /secret/k -i /p/key --extra-files /p/files"
        );
    }

    #[test]
    fn what_is_built_elsewhere_is_left_to_nixos_anywhere() {
        let remote = options(json!({"build_on": "remote", "disko_mode": "mount"}));
        assert!(!built_here(&remote));
        let words = words(&remote, &Source::Flake("/infra#web1".into())).join(" ");
        assert!(
            words.contains("--flake /infra#web1 --build-on remote --disko-mode mount"),
            "{words}"
        );
        let hardware = json!({"backend": "nixos-facter", "path": "facter.json"});
        assert!(!built_here(&options(
            json!({"generate_hardware_config": hardware})
        )));
        assert!(built_here(&options(json!({}))));
    }

    #[test]
    fn a_mode_keeps_its_zero() {
        assert_eq!(mode("0600"), Some(0o600));
        assert_eq!(mode("04755"), Some(0o4755));
        for text in ["600", "384", "0", "0999", "077777", "u=rw"] {
            assert_eq!(mode(text), None, "{text}");
        }
    }
}
