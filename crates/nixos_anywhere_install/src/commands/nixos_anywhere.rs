//! The command line of nixos-anywhere.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::options::{HardwareBackend, Options};
use crate::plan::Source;
use crate::values::host::destination;
use crate::values::jump::is_proxy_jump;
use crate::values::nix_options;
use crate::values::path::absolute;
use crate::values::settings::{NIX, text};
use crate::values::ssh_options::ssh_option;

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
    let words = machine(options)
        .into_iter()
        .chain(settings(options))
        .chain(switches(options).map(str::to_owned))
        .chain(owners(options));
    let mut arguments: Vec<OsString> = words.map(OsString::from).collect();
    arguments.extend(what(options, source));
    arguments.extend(paths(options, files));
    arguments
}

/// Where to install, which phases, and how the installer is booted.
fn machine(options: &Options) -> Vec<String> {
    let phases: Vec<&str> = options.phases.iter().map(|phase| phase.name()).collect();
    let mut words = vec![
        format!("{}@{}", options.user, destination(options.host())),
        "--phases".into(),
        phases.join(","),
    ];
    let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
    if options.port != 22 {
        add("--ssh-port", options.port.to_string());
    }
    if options.post_kexec_port != 22 {
        add("--post-kexec-ssh-port", options.post_kexec_port.to_string());
    }
    if let Some(kexec) = &options.kexec {
        let local = || absolute(Path::new(kexec)).to_string_lossy().into_owned();
        let is_url = kexec.contains("://");
        add("--kexec", if is_url { kexec.clone() } else { local() });
    }
    if options.force_kexec {
        // Its parser drops the argument that follows.
        add("--force-kexec", "--force-kexec".into());
    }
    if let Some(flags) = &options.kexec_extra_flags {
        add("--kexec-extra-flags", flags.clone());
    }
    words
}

/// Settings of ssh, of Nix and of the SSH store.
fn settings(options: &Options) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let of_machine = |name: &String| !is_proxy_jump(name);
    for (name, value) in options
        .ssh_options
        .iter()
        .filter(|(name, _)| of_machine(name))
    {
        let value = ssh_option(name, value).unwrap_or_default();
        words.extend(["--ssh-option".into(), format!("{name}={value}")]);
    }
    for (name, value) in nix_options::all(options) {
        if !nix_options::fits_nix_conf(&value) || passes_nix_options_to_machine(options) {
            words.extend(["--option".into(), name.to_owned(), value]);
        }
    }
    for (name, value) in &options.ssh_store_settings {
        // It becomes part of a URI. nixos-anywhere 1.13.0 drops the argument that follows, and later
        // ones ignore this one.
        let value = text(value, &NIX).unwrap_or_default().replace(' ', "%20");
        let setting = ["--ssh-store-setting", name, &value, "-t"];
        words.extend(setting.map(str::to_owned));
    }
    words
}

/// Whether nixos-anywhere passes `nix_options` on to the machine, which `NIX_CONFIG` does not reach: with nixos-facter it may run
/// `nix shell` there.
pub(crate) fn passes_nix_options_to_machine(options: &Options) -> bool {
    let hardware = options.generate_hardware_config.as_ref();
    hardware.is_some_and(|hardware| hardware.backend == HardwareBackend::Facter)
}

fn switches(options: &Options) -> impl Iterator<Item = &'static str> {
    [
        (options.copy_host_keys, "--copy-host-keys"),
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
    ]
    .into_iter()
    .filter_map(|(wanted, word)| wanted.then_some(word))
}

/// Owners of copied files, which are root's otherwise.
fn owners(options: &Options) -> Vec<String> {
    let mut words = Vec::new();
    for file in &options.extra_files {
        if let Some(owner) = &file.owner {
            words.extend(["--chown".to_owned(), file.path.clone(), owner.clone()]);
        }
    }
    words
}

/// What is installed.
fn what(options: &Options, source: &Source) -> Vec<OsString> {
    let words: Vec<&OsStr> = match source {
        Source::Paths { disko, system } => vec![
            "--store-paths".as_ref(),
            disko.as_ref(),
            system.as_ref(),
            "--build-on".as_ref(),
            "local".as_ref(),
        ],
        Source::Flake(flake) => {
            let words = [
                "--flake",
                flake,
                "--build-on",
                options.build_on.name(),
                "--disko-mode",
                options.disko_mode.name(),
            ];
            let no_deps = (!options.disko_deps).then_some("--no-disko-deps");
            words.into_iter().chain(no_deps).map(OsStr::new).collect()
        }
    };
    words.into_iter().map(OsString::from).collect()
}

/// Files of the controller.
fn paths(options: &Options, files: &Files) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    let mut add = |all: &[&OsStr]| words.extend(all.iter().map(OsString::from));
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
    words
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::options::from_json as options;
    use crate::plan::built_here;

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
        let literal = words(&options(json!({"host": "[2001:db8::11]"})), &source);
        assert_eq!(literal[0], "root@ipv6-2001-db8--11.invalid");
        let full = options(json!({
            "user": "nixos", "port": 2222, "copy_host_keys": true, "phases": ["disko", "reboot"],
            "nix_options": {"cores": 2, "bash-prompt": "# "}, "post_kexec_port": 2222, "kexec": "/k.tar.gz", "force_kexec": true, "show_trace": true,
            "ssh_options": {"Compression": true, "Ciphers": ["a", "b"]},
            "ssh_store_settings": {"compress": true, "system-features": ["kvm", "big"]},
            "extra_files": [{"path": "/a", "content": "x", "owner": "1000:100"}],
            "disk_encryption_keys": [{"remote": "/tmp/k", "local": "/secret/k"}],
        }));
        assert_eq!(
            words(&full, &source).join(" "),
            "nixos@192.0.2.11 --phases disko,reboot --ssh-port 2222 --post-kexec-ssh-port 2222 \
             --kexec /k.tar.gz --force-kexec --force-kexec --ssh-option Ciphers=a,b --ssh-option Compression=yes --option bash-prompt #  \
             --ssh-store-setting compress true -t \
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
        let more = json!({"generate_hardware_config": hardware, "nix_options": {"cores": 2}});
        let facter = options(more);
        assert!(!built_here(&facter));
        let words = self::words(&facter, &Source::Flake("/infra#web1".into())).join(" ");
        assert!(words.contains(" --option cores 2 "), "{words}");
        assert!(built_here(&options(json!({}))));
    }
}
