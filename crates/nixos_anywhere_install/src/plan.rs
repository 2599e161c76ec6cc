//! What to do: pure decisions and command lines.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use ansible_module::Failure;
use guest_ssh::{Guest, Kind};

use crate::options::{BuildOn, DiskoMode, ExtraFile, Options, Phase};

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
        Kind::Installer => Ok(Decision::Install),
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
        Kind::Installed | Kind::Other => Ok(Decision::KexecThenInstall),
    }
}

/// A flake reference to a NixOS configuration, as nixos-anywhere reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FlakeRef {
    uri: String,
    /// Path of the configuration's `config`.
    config: String,
}

impl FlakeRef {
    /// Read `URI#NAME`, where NAME is a configuration's name or `nixosConfigurations.` and more.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let fail = || {
            Failure::new(
                "invalid_option",
                format!("flake: {text:?} does not name a configuration"),
            )
            .hint("write URI#NAME, for instance github:me/infra#web1")
        };
        let (uri, name) = text.rsplit_once('#').ok_or_else(fail)?;
        if uri.is_empty() || name.is_empty() || uri.starts_with('-') {
            return Err(fail());
        }
        let config = if name.starts_with("nixosConfigurations.") {
            name.to_owned()
        } else {
            format!("nixosConfigurations.{}.config", attribute(name))
        };
        Ok(Self {
            uri: uri.to_owned(),
            config,
        })
    }

    /// What to ask `nix build` for to get `system.build.ATTRIBUTE`.
    pub(crate) fn installable(&self, attribute: &str) -> String {
        format!("{}#{}.system.build.{attribute}", self.uri, self.config)
    }
}

/// A name in an attribute path, quoted unless it is a plain identifier.
fn attribute(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-'".contains(c));
    match plain {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")),
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
    let mut arguments = nix_arguments(&["run"], options);
    arguments.extend([options.nixos_anywhere_flake.as_str(), "--"].map(OsString::from));
    arguments
}

/// Whether the flake is built here and before anything touches the machine.
pub(crate) fn built_here(options: &Options) -> bool {
    options.build_on == BuildOn::Local && options.generate_hardware_config.is_none()
}

/// The arguments of `nix` to build one installable, the same that nixos-anywhere uses.
pub(crate) fn build_arguments(installable: &str, options: &Options) -> Vec<OsString> {
    let command = [
        "build",
        "--print-out-paths",
        "--no-link",
        "--print-build-logs",
    ];
    let mut arguments = nix_arguments(&command, options);
    if options.show_trace {
        arguments.push("--show-trace".into());
    }
    arguments.push(installable.into());
    arguments
}

/// A command of `nix` with what every call takes: flakes, lock files left alone, the user's settings.
fn nix_arguments(command: &[&str], options: &Options) -> Vec<OsString> {
    let fixed = [
        "--extra-experimental-features",
        "nix-command flakes",
        "--no-write-lock-file",
    ];
    let mut arguments: Vec<OsString> = command.iter().chain(&fixed).map(OsString::from).collect();
    arguments.extend(nix_options(options).flatten().map(OsString::from));
    arguments
}

/// The user's settings for Nix, as `nix` and nixos-anywhere both take them.
fn nix_options(options: &Options) -> impl Iterator<Item = [&str; 3]> {
    let settings = options.nix_options.iter();
    settings.map(|(name, value)| ["--option", name.as_str(), boolean(value, "true", "false")])
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
        add(&["--kexec", kexec]);
    }
    if let Some(flags) = &options.kexec_extra_flags {
        add(&["--kexec-extra-flags", flags]);
    }
    for (name, value) in &options.ssh_options {
        let value = boolean(value, "yes", "no");
        add(&["--ssh-option", &format!("{name}={value}")]);
    }
    nix_options(options).for_each(|setting| add(&setting));
    for (name, value) in &options.ssh_store_settings {
        let value = boolean(value, "true", "false");
        add(&["--ssh-store-setting", name, value]);
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
            hardware.path.as_ref(),
        ]);
    }
    for key in &options.disk_encryption_keys {
        add(&[
            "--disk-encryption-keys".as_ref(),
            key.remote.as_ref(),
            key.local.as_ref(),
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

/// An IPv6 address as ssh's USER@HOST takes it: without brackets.
pub(crate) fn bracketless(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

/// Refuse what nixos-anywhere would take wrongly, before anything is built or touched.
pub(crate) fn check(options: &Options) -> Result<(), Failure> {
    let invalid = |msg: String| Err(Failure::new("invalid_option", msg));
    for (option, value) in [("host", options.host()), ("user", options.user.as_str())] {
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == '@';
        if value.is_empty() || value.starts_with('-') || value.contains(odd) {
            return invalid(format!("{option}: {value:?} is not a {option} name"));
        }
    }
    if options.phases.is_empty() {
        return invalid("phases: at least one is needed".into());
    }
    if options.user != "root" && !options.phases.contains(&Phase::Kexec) {
        return invalid(format!(
            "user: without the phase kexec nixos-anywhere logs in as root at once, not as {}",
            options.user
        ));
    }
    check_source(options)?;
    options.extra_files.iter().try_for_each(check_extra_file)
}

/// The options that `ssh` may be given: how it speaks, not to whom or as whom, which other options of this module say.
const SSH_OPTIONS: [&str; 12] = [
    "AddressFamily",
    "BindAddress",
    "BindInterface",
    "Ciphers",
    "Compression",
    "ConnectTimeout",
    "ConnectionAttempts",
    "HostKeyAlgorithms",
    "IPQoS",
    "KexAlgorithms",
    "MACs",
    "PubkeyAcceptedAlgorithms",
];

/// Refuse settings for SSH that lead around the machine whose host key is known, and values that nixos-anywhere would hand on in
/// pieces: it splits them at blanks (`NIX_SSHOPTS`), and writes those of the store into a URI.
fn check_ssh(options: &Options) -> Result<(), Failure> {
    let invalid = |msg: String| Err(Failure::new("invalid_option", msg));
    for (name, value) in &options.ssh_options {
        if !SSH_OPTIONS
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
        {
            let known = SSH_OPTIONS.join(", ");
            return invalid(format!("ssh_options: {name} cannot be given, but {known}"));
        }
        let plain = |c: char| c.is_ascii_graphic() && !"\"'\\".contains(c);
        if value.is_empty() || !value.chars().all(plain) {
            return invalid(format!(
                "ssh_options: {name}: {value:?} is not one plain word"
            ));
        }
    }
    for (name, value) in &options.ssh_store_settings {
        let instead = match name.as_str() {
            "base64-ssh-public-host-key" => Some("the machine's keys are in host_keys"),
            "ssh-key" => Some("the key to log in with is private_key_file"),
            "remote-store" => Some("what is installed goes to the machine's own store"),
            _ => None,
        };
        if let Some(instead) = instead {
            return invalid(format!(
                "ssh_store_settings: {name} cannot be given; {instead}"
            ));
        }
        let plain = |text: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-._/:".contains(c);
            !text.is_empty() && text.chars().all(plain)
        };
        if !plain(name) || !plain(value) {
            return invalid(format!(
                "ssh_store_settings: {name}={value} is not of letters, digits and -._/: only"
            ));
        }
    }
    Ok(())
}

/// YAML's booleans come as Python's; `yes` and `no` are how the reader of the setting writes them.
fn boolean<'a>(value: &'a str, yes: &'static str, no: &'static str) -> &'a str {
    match value {
        "True" => yes,
        "False" => no,
        other => other,
    }
}

/// Refuse what cannot be built.
pub(crate) fn check_source(options: &Options) -> Result<(), Failure> {
    let invalid = |msg: String| Err(Failure::new("invalid_option", msg));
    check_ssh(options)?;
    if options.nixos_anywhere_flake.starts_with('-') {
        return invalid("nixos_anywhere_flake: this is no flake reference".into());
    }
    if let Some(flake) = &options.flake {
        FlakeRef::parse(flake)?;
    }
    if options.store_paths.is_some() {
        if options.build_on != BuildOn::Local {
            return invalid("build_on: store_paths are built already".into());
        }
        if options.disko_mode != DiskoMode::Disko {
            return invalid("disko_mode: store_paths.disko is the very script to run".into());
        }
        if options.generate_hardware_config.is_some() {
            return invalid("generate_hardware_config: store_paths are built already".into());
        }
    }
    Ok(())
}

/// nixos-anywhere passes paths and owners through `pr -2t`, which cuts each at 35 characters
/// without a word.
const CHOWN_LIMIT: usize = 35;

fn check_extra_file(file: &ExtraFile) -> Result<(), Failure> {
    let invalid = |reason: &str| {
        let msg = format!("extra_files: {}: {reason}", file.path);
        Err(Failure::new("invalid_option", msg))
    };
    let climbs = Path::new(&file.path)
        .components()
        .any(|part| part == std::path::Component::ParentDir);
    if !file.path.starts_with('/') || file.path.ends_with('/') || climbs {
        return invalid("an absolute path of a file is needed");
    }
    if file.src.is_some() == file.content.is_some() {
        return invalid("one of src and content is needed");
    }
    if mode(&file.mode).is_none() {
        return invalid("mode must be octal and quoted, as \"0600\"");
    }
    if let Some(owner) = &file.owner {
        if file.path.len() > CHOWN_LIMIT || owner.len() > CHOWN_LIMIT {
            return invalid("nixos-anywhere sets no owner on paths of more than 35 characters");
        }
        if owner.is_empty() || owner.starts_with('-') || owner.contains(char::is_whitespace) {
            return invalid("owner is not of the form USER:GROUP");
        }
    }
    Ok(())
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
        ];
        for (more, expected) in cases {
            let got = [Kind::Installer, Kind::Installed, Kind::Other]
                .map(|kind| decide(&guest(kind), &options(more.clone())).map_err(|f| f.kind));
            assert_eq!(got, expected, "{more}");
        }
    }

    #[test]
    fn a_flake_reference_is_read_as_nixos_anywhere_reads_it() {
        let installable = |text: &str| FlakeRef::parse(text).unwrap().installable("toplevel");
        assert_eq!(
            installable("github:me/infra#web1"),
            "github:me/infra#nixosConfigurations.web1.config.system.build.toplevel"
        );
        assert_eq!(
            installable(".#web1.example.org"),
            ".#nixosConfigurations.\"web1.example.org\".config.system.build.toplevel"
        );
        assert_eq!(
            installable(".#nixosConfigurations.web1.config.virtualisation.vmVariant"),
            ".#nixosConfigurations.web1.config.virtualisation.vmVariant.system.build.toplevel"
        );
        for text in ["", "web1", ".#", "#web1", "--eval#web1"] {
            assert_eq!(FlakeRef::parse(text).unwrap_err().kind, "invalid_option");
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
            "nix_options": {"cores": "2"}, "post_kexec_port": 2222, "kexec": "/k.tar.gz", "show_trace": true,
            "ssh_options": {"Compression": "True"}, "ssh_store_settings": {"compress": "True"},
            "extra_files": [{"path": "/a", "content": "x", "owner": "1000:100"}],
            "disk_encryption_keys": [{"remote": "/tmp/k", "local": "/secret/k"}],
        }));
        assert_eq!(
            words(&full, &source).join(" "),
            "nixos@192.0.2.11 --phases disko,reboot --ssh-port 2222 --post-kexec-ssh-port 2222 \
             --kexec /k.tar.gz --ssh-option Compression=yes --option cores 2 --ssh-store-setting compress true \
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
    fn what_nixos_anywhere_would_misread_is_refused() {
        let refused = [
            json!({"host": "-oProxyCommand=x"}),
            json!({"host": "a b"}),
            json!({"user": "a@b"}),
            json!({"phases": []}),
            json!({"ssh_options": {"StrictHostKeyChecking": "no"}}),
            json!({"ssh_options": {"ProxyJump": "bastion"}}),
            json!({"ssh_options": {"Ciphers": "a -oProxyCommand=x"}}),
            json!({"ssh_options": {"Ciphers": ""}}),
            json!({"ssh_store_settings": {"remote-store": "x"}}),
            json!({"ssh_store_settings": {"compress": "true&ssh-key=/x"}}),
            json!({"user": "nixos", "phases": ["disko", "install"]}),
            json!({"flake": "web1"}),
            json!({"extra_files": [{"path": "etc/x", "content": "x"}]}),
            json!({"extra_files": [{"path": "/etc/../x", "content": "x"}]}),
            json!({"extra_files": [{"path": "/etc/x"}]}),
            json!({"extra_files": [{"path": "/etc/x", "content": "x", "src": "/x"}]}),
            json!({"extra_files": [{"path": "/etc/x", "content": "x", "mode": "384"}]}),
            json!({"extra_files": [{"path": "/etc/a-very-long-path-that-would-be-cut", "content": "x", "owner": "1"}]}),
            json!({"store_paths": {"disko": "/d", "system": "/s"}, "build_on": "remote"}),
        ];
        for more in refused {
            let failure = check(&options(more.clone())).unwrap_err();
            assert_eq!(failure.kind, "invalid_option", "{more}");
        }
        for more in [
            json!({"extra_files": [{"path": "/etc/x", "content": "x"}]}),
            json!({"ssh_options": {"ciphers": "aes128-gcm@openssh.com,aes256-gcm@openssh.com"}}),
            // As the role hands on what was built with it.
            json!({"flake": null, "store_paths": {"disko": "/d", "system": "/s"}, "disko_deps": false}),
        ] {
            check(&options(more)).unwrap();
        }
    }

    #[test]
    fn the_documentation_names_the_options_for_ssh() {
        let schema = schemars::schema_for!(Options).to_value();
        let text = schema["properties"]["ssh_options"]["description"].as_str();
        let named: Vec<&str> = text
            .unwrap()
            .split("V(")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
            .collect();
        assert_eq!(named, SSH_OPTIONS);
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
