//! Mistakes that can be found without the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use ansible_module::{Failure, FailureKind};
use guest_ssh::{Identity, PublicKey};
use serde_json::{Value, json};

use crate::commands::nixos_anywhere::passes_nix_options_to_machine;
use crate::commands::tools::{self, Tools};
use crate::files::stage;
use crate::options::{BuildOn, DiskoMode, ExtraFile, Options, Phase, State};
use crate::plan;
use crate::values::flake::{self, FlakeRef};
use crate::values::host;
use crate::values::nix_options;
use crate::values::path::absolute;
use crate::values::settings::{self, NIX};
use crate::values::ssh_options::{SSH_OPTIONS, ssh_option};

/// A mistake in the options, or on the controller where they point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The name of the option.
    pub option: String,
    /// What is wrong with its value, and what to do.
    pub problem: String,
    /// The kind of the failure that it makes alone.
    kind: FailureKind,
    /// Whether it matters to an installation only: a machine that is installed already is left
    /// alone all the same.
    deferrable: bool,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.option, self.problem)
    }
}

impl Mistake {
    /// A mistake that the options alone show.
    pub fn new(option: &str, problem: impl Into<String>) -> Self {
        Self {
            option: option.to_owned(),
            problem: problem.into(),
            kind: FailureKind::InvalidOption,
            deferrable: false,
        }
    }

    pub(crate) fn deferrable(&self) -> bool {
        self.deferrable
    }
}

/// Every mistake that can be found without the machine: in the options that the state uses, in the
/// files that they name, and in the programs of the controller. With `state: built` those of a
/// whole installation, of the options that are given.
pub fn preflight(options: &Options) -> Vec<Mistake> {
    let mut found = Found(Vec::new());
    machine(options, &mut found);
    if matches!(options.state, State::Built | State::Installed) {
        source(options, &mut found);
        ssh_options(options, &mut found);
        extra_files(options, &mut found);
        files(options, &mut found);
        programs(options, &mut found);
    }
    found.0
}

/// The mistakes in the options that logins, evaluations and builds use, where nothing is installed: of the module `nixos_deploy`.
pub fn preflight_of_system(options: &Options) -> Vec<Mistake> {
    let mut found = Found(Vec::new());
    machine(options, &mut found);
    nix(options, &mut found);
    found.0
}

/// The failure that reports all of `mistakes`.
///
/// # Errors
/// When there is any.
pub fn refuse(mistakes: &[Mistake]) -> Result<(), Failure> {
    let Some(first) = mistakes.first() else {
        return Ok(());
    };
    let same = mistakes.iter().all(|mistake| mistake.kind == first.kind);
    let kind = if same {
        first.kind
    } else {
        FailureKind::InvalidOption
    };
    let msg = match mistakes {
        [mistake] => mistake.to_string(),
        several => {
            let lines: Vec<String> = several
                .iter()
                .map(|mistake| format!("- {mistake}"))
                .collect();
            format!("{} mistakes:\n{}", lines.len(), lines.join("\n"))
        }
    };
    let list: Vec<Value> = mistakes
        .iter()
        .map(|mistake| json!({"option": mistake.option, "problem": mistake.problem}))
        .collect();
    Err(Failure::new(kind, msg)
        .object(first.option.clone())
        .with("mistakes", list))
}

struct Found(Vec<Mistake>);

impl Found {
    fn push(&mut self, option: &str, problem: impl Into<String>) {
        self.0.push(Mistake::new(option, problem));
    }

    /// A mistake that the options alone do not show.
    fn file(&mut self, option: &str, problem: impl Into<String>) {
        self.add(option, problem, FailureKind::InvalidOption, true);
    }

    fn add(
        &mut self,
        option: &str,
        problem: impl Into<String>,
        kind: FailureKind,
        deferrable: bool,
    ) {
        self.0.push(Mistake {
            option: option.to_owned(),
            problem: problem.into(),
            kind,
            deferrable,
        });
    }
}

/// What every login needs.
fn machine(options: &Options, found: &mut Found) {
    if let Some(problem) = options.host.as_deref().and_then(host::problem) {
        found.push("host", problem);
    }
    for (option, port) in [
        ("port", options.port),
        ("post_kexec_port", options.post_kexec_port),
    ] {
        if port == 0 {
            found.push(option, "must be between 1 and 65535 (got 0)");
        }
    }
    let users = [
        ("user", Some(options.user.as_str())),
        ("installed_user", options.installed_user.as_deref()),
    ];
    for (option, user) in users {
        let odd = |c: char| c.is_whitespace() || c.is_control() || "@:/\"'\\".contains(c);
        if let Some(user) = user
            && (user.is_empty() || user.starts_with('-') || user.contains(odd))
        {
            found.push(option, format!("must be a user's name only (got {user:?})"));
        }
    }
    for (option, keys) in [
        ("host_keys", &options.host_keys),
        ("installed_host_keys", &options.installed_host_keys),
    ] {
        for key in keys {
            if let Err(error) = key.parse::<PublicKey>() {
                found.push(option, error.to_string());
            }
        }
    }
    login_keys(options, found);
}

fn login_keys(options: &Options, found: &mut Found) {
    if matches!(options.state, State::Built | State::Installed)
        && options.host.is_some()
        && options.private_key_file.is_none()
        && std::env::var_os("SSH_AUTH_SOCK").is_none()
    {
        found.add(
            "private_key_file",
            "is required, because no SSH agent is running (SSH_AUTH_SOCK is not set)",
            FailureKind::PrivateKey,
            false,
        );
    }
    for (option, path) in [
        ("private_key_file", &options.private_key_file),
        (
            "installed_private_key_file",
            &options.installed_private_key_file,
        ),
    ] {
        let Some(path) = path else { continue };
        let problem = match file(path) {
            Some(problem) => Some(problem),
            None => match Identity::File(path.clone()).check() {
                Err(guest_ssh::Error::Identity { reason, .. }) => {
                    Some(format!("{}: {reason}", named(path)))
                }
                _ => loads(path, options).err(),
            },
        };
        if let Some(problem) = problem {
            found.add(option, problem, FailureKind::PrivateKey, false);
        }
    }
}

/// Whether ssh-keygen can load the key, as nixos-anywhere has it do. It reads a pipe, since it
/// refuses a file that others may read, which the copy for nixos-anywhere is not.
fn loads(path: &Path, options: &Options) -> Result<(), String> {
    if !matches!(options.state, State::Built | State::Installed) {
        return Ok(());
    }
    let directories = tools::directories(options.tools_path.as_deref());
    // A missing program is a mistake of its own.
    let Ok(keygen) = tools::find(Path::new("ssh-keygen"), &directories) else {
        return Ok(());
    };
    let fail = |reason: String| Err(format!("{}: {reason}", named(path)));
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) => return fail(error.to_string()),
    };
    let child = Command::new(keygen)
        .args(["-y", "-P", "", "-f", "/dev/stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else { return Ok(()) };
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read its input has ended, with a status that says so.
        let _ = stdin.write_all(&text);
    }
    match child.wait_with_output() {
        Ok(output) if !output.status.success() => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let reason = stderr.lines().next().unwrap_or_default().trim();
            let reason = reason.trim_start_matches("Load key \"/dev/stdin\": ");
            fail(format!("ssh-keygen cannot load it ({reason:?})"))
        }
        _ => Ok(()),
    }
}

/// What is installed, and how.
fn source(options: &Options, found: &mut Found) {
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
fn nix(options: &Options, found: &mut Found) {
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
fn inputs(options: &Options, found: &mut Found) {
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
fn nix_settings(options: &Options, found: &mut Found) {
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

/// Settings for SSH that lead around the machine whose host key is known, and values that
/// nixos-anywhere would hand on in pieces: it splits them at blanks (`NIX_SSHOPTS`), and writes
/// those of the store into a URI.
fn ssh_options(options: &Options, found: &mut Found) {
    let option = "ssh_options";
    for (name, value) in &options.ssh_options {
        if !SSH_OPTIONS
            .iter()
            .any(|(known, _)| known.eq_ignore_ascii_case(name))
        {
            let known: Vec<&str> = SSH_OPTIONS.iter().map(|(known, _)| *known).collect();
            let problem = format!("{name} is not supported (available: {})", known.join(", "));
            found.push(option, problem);
            continue;
        }
        let plain = |c: char| c.is_ascii_graphic() && !"\"'\\".contains(c);
        match ssh_option(name, value) {
            Err(problem) => found.push(option, format!("{name}: {problem}")),
            Ok(value) if value.is_empty() || !value.chars().all(plain) => {
                found.push(
                    option,
                    format!("{name}: must be one plain word (got {value:?})"),
                );
            }
            Ok(_) => {}
        }
    }
    let option = "ssh_store_settings";
    for (name, value) in &options.ssh_store_settings {
        let instead = match name.as_str() {
            "base64-ssh-public-host-key" => Some("the machine's keys are in host_keys"),
            "ssh-key" => Some("the key to log in with is private_key_file"),
            "remote-store" => Some("what is installed goes to the machine's own store"),
            _ => None,
        };
        if let Some(instead) = instead {
            found.push(option, format!("{name} is not supported; {instead}"));
            continue;
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._/:".contains(c);
        if name.is_empty() || !name.chars().all(plain) {
            found.push(option, format!("{name:?} is not the name of a setting"));
        }
        match settings::text(value, &NIX) {
            Err(problem) => found.push(option, format!("{name}: {problem}")),
            Ok(value) if value.is_empty() || !value.chars().all(|c| plain(c) || c == ' ') => {
                let problem =
                    format!("{name}: must have letters, digits and -._/: only (got {value:?})");
                found.push(option, problem);
            }
            Ok(_) => {}
        }
    }
}

/// nixos-anywhere passes paths and owners through `pr -2t`, which cuts each at 35 characters
/// without a word, and begins a new page after 66 lines.
const CHOWN_LIMITS: (usize, usize) = (35, 66);

fn extra_files(options: &Options, found: &mut Found) {
    let option = "extra_files";
    let mut paths: BTreeMap<PathBuf, &str> = BTreeMap::new();
    for file in &options.extra_files {
        for problem in extra_file(file) {
            found.push(option, format!("{}: {problem}", file.path));
        }
        if let Some(path) = stage::below(&file.path)
            && paths.insert(path, &file.path).is_some()
        {
            found.push(option, format!("{}: path is given twice", file.path));
        }
    }
    for (path, text) in &paths {
        for parent in path.ancestors().skip(1) {
            if paths.contains_key(parent) {
                let problem = format!(
                    "{text}: /{} is a file of extra_files, not a directory",
                    parent.display()
                );
                found.push(option, problem);
            }
        }
    }
    let owned: BTreeSet<&str> = options
        .extra_files
        .iter()
        .filter(|file| file.owner.is_some())
        .map(|file| file.path.as_str())
        .collect();
    if owned.len() > CHOWN_LIMITS.1 {
        let problem = format!(
            "must not set the owner of more than {} files (got {}), because nixos-anywhere mixes up more; \
             set owners in the NixOS configuration",
            CHOWN_LIMITS.1,
            owned.len()
        );
        found.push(option, problem);
    }
}

fn extra_file(file: &ExtraFile) -> Vec<String> {
    let mut problems = Vec::new();
    if stage::below(&file.path).is_none() {
        problems.push("path must be the absolute path of a file, without ..".to_owned());
    }
    match (&file.src, &file.content) {
        (Some(_), Some(_)) => problems.push("src and content are mutually exclusive".into()),
        (None, None) => problems.push("src or content is required".into()),
        _ => {}
    }
    if stage::mode(&file.mode).is_none() {
        problems.push(format!(
            "mode must be octal and in quotes, such as \"0600\" (got {:?}{})",
            file.mode,
            unquoted_mode(&file.mode).unwrap_or_default()
        ));
    }
    if let Some(owner) = &file.owner {
        if file.path.len() > CHOWN_LIMITS.0 || owner.len() > CHOWN_LIMITS.0 {
            problems.push(format!(
                "owner cannot be set, because nixos-anywhere cuts paths and owners at {} characters; \
                 set it in the NixOS configuration",
                CHOWN_LIMITS.0
            ));
        }
        if file.path.contains(char::is_whitespace) {
            problems.push(
                "owner cannot be set, because nixos-anywhere splits paths at blanks; \
                 set it in the NixOS configuration"
                    .into(),
            );
        }
        if !is_owner(owner) {
            problems.push(format!(
                "owner must be USER, USER:GROUP or UID:GID (got {owner:?})"
            ));
        }
    }
    problems
}

/// What to add of a mode that is the decimal number as which YAML reads an octal one.
fn unquoted_mode(text: &str) -> Option<String> {
    let value: u32 = text.parse().ok()?;
    // These are common modes themselves.
    let typed = ["400", "440", "444", "500"].contains(&text) || text.starts_with('0');
    (!typed && value & 0o400 != 0 && value <= 0o777)
        .then(|| format!(", as which YAML reads {value:04o} without quotes"))
}

/// Whether `chown` takes this.
fn is_owner(text: &str) -> bool {
    let name = |name: &str| {
        !name.starts_with('-')
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-$".contains(c))
    };
    match text.split_once(':') {
        Some((user, group)) => name(user) && name(group) && !(user.is_empty() && group.is_empty()),
        None => name(text) && !text.is_empty(),
    }
}

/// The files of the controller that an installation reads and writes.
fn files(options: &Options, found: &mut Found) {
    if let Some(directory) = &options.extra_files_dir {
        match fs::metadata(directory) {
            Err(error) => found.file(
                "extra_files_dir",
                format!("{} {}", named(directory), reason(&error)),
            ),
            Ok(meta) if !meta.is_dir() => {
                let problem = format!("{} is not a directory", named(directory));
                found.file("extra_files_dir", problem);
            }
            Ok(_) => tree(directory, found),
        }
    }
    for extra in &options.extra_files {
        if let Some(problem) = extra.src.as_deref().and_then(file) {
            found.file("extra_files", format!("{}: src: {problem}", extra.path));
        }
        if let Some(directory) = &options.extra_files_dir
            && let Some(problem) =
                stage::below(&extra.path).and_then(|path| obstacle(directory, &path))
        {
            found.file("extra_files", format!("{}: {problem}", extra.path));
        }
    }
    let mut remotes = BTreeSet::new();
    for key in &options.disk_encryption_keys {
        let option = "disk_encryption_keys";
        // nixos-anywhere writes it into a shell command as it is.
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._+-@:,".contains(c);
        if stage::below(&key.remote).is_none() || !key.remote.chars().all(plain) {
            let problem = format!(
                "remote must be an absolute path of letters, digits and /._+-@:, only (got {:?})",
                key.remote
            );
            found.push(option, problem);
        }
        if !remotes.insert(stage::below(&key.remote)) {
            found.push(option, format!("remote: {} is given twice", key.remote));
        }
        // A pipe has what it has only once.
        let pipe = fs::metadata(&key.local).is_ok_and(|meta| meta.file_type().is_fifo());
        if let Some(problem) = file(&key.local).filter(|_| !pipe) {
            found.file(option, format!("local: {problem}"));
        } else if fs::metadata(&key.local).is_ok_and(|meta| meta.is_file() && meta.len() == 0) {
            found.file(option, format!("local: {} is empty", named(&key.local)));
        }
    }
    if let Some(kexec) = &options.kexec
        && !kexec.contains("://")
        && let Some(problem) = file(Path::new(kexec))
    {
        found.file("kexec", problem);
    }
    if let Some(hardware) = &options.generate_hardware_config
        && hardware.path.is_dir()
    {
        let problem = format!("path: {} is a directory", named(&hardware.path));
        found.file("generate_hardware_config", problem);
    }
    if let Some(path) = &options.log_path {
        let path = absolute(path);
        let parent = path.parent().unwrap_or(Path::new("/"));
        if path.is_dir() {
            found.file("log_path", format!("{} is a directory", path.display()));
        } else if !parent.is_dir() {
            let problem = format!("{} is not a directory", parent.display());
            found.file("log_path", problem);
        }
    }
}

/// The programs that an installation runs on the controller.
fn programs(options: &Options, found: &mut Found) {
    let directories = tools::directories(options.tools_path.as_deref());
    for missing in Tools::missing(options, &directories) {
        let mut problem = missing.msg;
        if let Some(detail) = missing.detail {
            problem += &format!(" ({detail})");
        }
        if let Some(hint) = missing.hint {
            problem += &format!("; {hint}");
        }
        let option = missing.object.unwrap_or_default();
        found.add(&option, problem, FailureKind::ToolMissing, true);
    }
    // What is built already is copied and installed by older ones too.
    if options.store_paths.is_none()
        && let Ok(nix) = tools::find(Path::new("nix"), &directories)
        && let Some(version) = tools::nix_version(&nix)
        && version < tools::OLDEST_NIX
    {
        let ((major, minor), (oldest_major, oldest_minor)) = (version, tools::OLDEST_NIX);
        let problem = format!(
            "{} is nix {major}.{minor}, but {oldest_major}.{oldest_minor} or newer is needed",
            nix.display()
        );
        found.add("tools_path", problem, FailureKind::ToolMissing, true);
    }
}

/// What is wrong with a local file that is to be read.
fn file(path: &Path) -> Option<String> {
    let problem = match fs::metadata(path) {
        Err(error) => reason(&error),
        Ok(meta) if meta.is_dir() => "is a directory, not a file".into(),
        Ok(meta) if !meta.is_file() => "is not a regular file".into(),
        Ok(_) => reason(&File::open(path).err()?),
    };
    Some(format!("{} {problem}", named(path)))
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "does not exist".into(),
        _ => format!("cannot be read: {error}"),
    }
}

/// A path as it was given, and where that is if it was relative.
fn named(path: &Path) -> String {
    match path.is_absolute() {
        true => path.display().to_string(),
        false => format!("{} ({})", path.display(), absolute(path).display()),
    }
}

/// What in `directory` cannot be copied.
fn tree(directory: &Path, found: &mut Found) {
    let option = "extra_files_dir";
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            return found.file(option, format!("{} {}", named(directory), reason(&error)));
        }
    };
    for entry in entries {
        let (path, meta) = match entry.and_then(|entry| Ok((entry.path(), entry.metadata()?))) {
            Ok(entry) => entry,
            Err(error) => {
                found.file(option, format!("{} {}", named(directory), reason(&error)));
                continue;
            }
        };
        if meta.is_dir() {
            tree(&path, found);
        } else if !meta.is_symlink()
            && let Some(problem) = file(&path)
        {
            found.file(option, problem);
        }
    }
}

/// What in `directory` keeps a single file from being put at `path`.
fn obstacle(directory: &Path, path: &Path) -> Option<String> {
    let parts: Vec<Component> = path.components().collect();
    for count in 1..=parts.len() {
        let part: PathBuf = parts[..count].iter().collect();
        let meta = fs::symlink_metadata(directory.join(&part)).ok()?;
        if count == parts.len() {
            return meta
                .is_dir()
                .then(|| "is a directory in extra_files_dir".to_owned());
        }
        if meta.is_symlink() {
            let target = fs::read_link(directory.join(&part)).unwrap_or_default();
            return Some(format!(
                "/{} is a symbolic link to {} in extra_files_dir; write the path that it leads to",
                part.display(),
                target.display()
            ));
        }
        if !meta.is_dir() {
            return Some(format!(
                "/{} is a file in extra_files_dir, not a directory",
                part.display()
            ));
        }
    }
    None
}

#[cfg(test)]
#[path = "preflight_tests.rs"]
mod tests;
