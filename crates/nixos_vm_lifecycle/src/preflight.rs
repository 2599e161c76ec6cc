//! What an installation would fail at later, found before anything is changed and reported together.

use std::time::Duration;

use ansible_module::{Failure, FailureKind, Outcome};
use deadline::Deadline;
use guest_ssh::{Identity, PublicKey};
use proxmox_nixos_vm::ownership::Ownership;
use pve_module::record::Phase;
use serde_json::Value;

use crate::address_mistakes;
use crate::cluster::is_taken;
use crate::context::{Context, ssh_failed};
use crate::error::StepError;
use crate::facts::Decision;
use crate::host_keys;
use crate::keys;
use crate::options::{DiskImageSource, InstallerSource, Needs, Settings, given, missing};
use crate::placement;
use crate::privileges;
use crate::probe::Probe;
use crate::state::State;
use crate::steps::{disk_image, image, install, reinstall};
use crate::system_facts;

/// How long the questions to Proxmox VE may take that no other module asks.
const QUESTIONS: Duration = Duration::from_secs(60);

/// Check the variables, and for an installation everything that would fail later; returns what `proxmox_nixos_vm` plans for a machine that does not exist.
///
/// # Errors
/// Kind `preflight` with every mistake, in the words of the role's variables; those of the API.
pub async fn check(
    context: &Context<'_>,
    state: &mut State,
    decision: &Decision,
) -> Result<Option<Outcome>, Failure> {
    if !decision.installs() {
        let unknown = context.task.unknown.clone();
        return match unknown.is_empty() {
            true => Ok(None),
            false => Err(StepError::preflight(&context.options.host, unknown).into()),
        };
    }
    check_installation(context, state, decision).await
}

/// Check all that can be known before an installation; returns what `proxmox_nixos_vm` plans for a machine that does not exist.
///
/// # Errors
/// Kind `preflight` with every mistake, in the words of the role's variables; those of the API.
async fn check_installation(
    context: &Context<'_>,
    state: &mut State,
    decision: &Decision,
) -> Result<Option<Outcome>, Failure> {
    let settings = context.settings();
    let mut planned = None;
    let mut mistakes = Mistakes::new(settings);
    mistakes.extend(context.task.unknown.clone());
    mistakes.extend(variables(settings));
    mistakes.extend(host_keys::check(settings, &context.options.host));
    mistakes.extend(system_facts::mistakes(settings));
    mistakes.extend(system_facts::untracked(settings));
    mistakes.extend(placement::mistakes(context));
    mistakes.collect(flake(context).await);
    match decision.record() {
        // Its disk has the image already.
        Some(record) if record.image.is_some() && record.phase != Phase::Creating => {}
        _ if settings.by_image() => {
            if settings.disk_image_source == DiskImageSource::Build
                || given(settings.disk_image.as_ref()).is_some()
            {
                mistakes.collect(disk_image::check(context, &state.node(context)).await);
            }
        }
        _ => mistakes.collect(installer_file(context, state).await),
    }
    if !settings.boot_disk_is_new() {
        mistakes.add(install::not_new(settings).into());
    }
    // What the finished machine shall be, too, before an hour is spent on it.
    let mut finished = settings.vm(Phase::Done, None);
    if let Some(state) = settings.finished(Phase::Done, |_| false).get("state") {
        finished.insert("state".into(), state.clone());
    }
    mistakes.collect(context.check_vm(finished));
    if let Decision::Reinstall(found) = decision {
        mistakes.collect(reinstall::check(context, state, found).await);
    }
    if decision == &Decision::Create {
        match new_vm(context).await {
            Ok(outcome) => planned = Some(outcome),
            Err(failure) => mistakes.add(failure),
        }
        mistakes.extend(free_vmid(context).await?);
        match free_addresses(context).await {
            Ok(taken) => mistakes.extend(taken),
            Err(failure) => mistakes.add(failure),
        }
    }
    let deadline = Deadline::after(QUESTIONS);
    let missing = privileges::missing(&context.client, settings, &deadline).await;
    mistakes.extend(missing.needed);
    if let Some(missing) = missing.useful {
        context.task.warn(missing);
    }
    // Last of all, since it is kept.
    if decision == &Decision::Create && mistakes.texts.is_empty() {
        match placement::choose(context).await {
            Ok(node) => state.placed = node,
            Err(failure) => mistakes.add(failure),
        }
    }
    match mistakes.texts.is_empty() {
        true => Ok(planned),
        false => Err(StepError::Preflight {
            host: context.options.host.clone(),
            mistakes: mistakes.texts,
            commands: missing.commands,
        }
        .into()),
    }
}

/// Mistakes in the order in which they were found, each once.
struct Mistakes<'a> {
    settings: &'a Settings,
    /// The names of the variables, without their prefix.
    names: Vec<String>,
    texts: Vec<String>,
}

impl<'a> Mistakes<'a> {
    fn new(settings: &'a Settings) -> Self {
        Self {
            settings,
            names: names(),
            texts: Vec::new(),
        }
    }

    fn extend(&mut self, texts: impl IntoIterator<Item = String>) {
        self.texts.extend(texts);
    }

    fn collect<T>(&mut self, checked: Result<T, Failure>) {
        if let Err(failure) = checked {
            self.add(failure);
        }
    }

    /// Add what another module refuses, in the words of the variables.
    fn add(&mut self, mut failure: Failure) {
        let object = failure.object.as_deref().unwrap_or_default();
        let variable = match failure.kind {
            FailureKind::NoBridge => "nixos_vm_net: ",
            FailureKind::NoStorage if object == self.settings.disks_storage => {
                "nixos_vm_disks_storage: "
            }
            FailureKind::NoStorage if object == self.settings.iso_storage => {
                "nixos_vm_iso_storage: "
            }
            FailureKind::Evaluation => "nixos_vm_flake: ",
            FailureKind::NotAnImage if self.settings.by_image() => "nixos_vm_disk_image: ",
            _ => "",
        };
        failure.msg.insert_str(0, variable);
        let many = failure.values.get("mistakes").and_then(Value::as_array);
        let texts: Vec<String> = match (many, failure.hint) {
            (Some(many), _) => many.iter().map(mistake_text).collect(),
            (None, Some(hint)) => vec![format!("{}; {hint}", failure.msg)],
            (None, None) => vec![failure.msg],
        };
        for text in texts {
            let text = by_variable(&self.names, &text);
            if !self.texts.contains(&text) {
                self.texts.push(text);
            }
        }
    }
}

/// A mistake of another module's: a sentence, or an option and what is wrong with it.
fn mistake_text(mistake: &Value) -> String {
    let part = |key: &str| mistake.get(key).and_then(Value::as_str);
    match (mistake.as_str(), part("option"), part("problem")) {
        (Some(text), ..) => text.to_owned(),
        (None, Some(option), Some(problem)) => format!("{option}: {problem}"),
        _ => mistake.to_string(),
    }
}

/// The names of the variables, without their prefix.
fn names() -> Vec<String> {
    let schema = schemars::schema_for!(Settings);
    let properties = schema.get("properties").and_then(Value::as_object);
    properties
        .into_iter()
        .flatten()
        .map(|(name, _)| name.clone())
        .collect()
}

/// A mistake of another module's, which begins with the name of its option: by the name of the variable.
fn by_variable(names: &[String], text: &str) -> String {
    let named = |segment: &str| {
        let word: String = segment
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect();
        let after = segment[word.len()..].chars().next();
        let stem = word.trim_end_matches(|c: char| c.is_ascii_digit());
        let known = names
            .iter()
            .any(|name| *name == word || (*name == stem && stem != word));
        let prefix = crate::options::PREFIX;
        match known && matches!(after, Some(':' | '.' | '[')) {
            // `net0` is a key of `nixos_vm_net`.
            true if stem != word && !names.contains(&word) => format!("{prefix}{stem}.{segment}"),
            true => format!("{prefix}{segment}"),
            false => segment.to_owned(),
        }
    };
    text.split("; ").map(named).collect::<Vec<_>>().join("; ")
}

/// Evaluate the flake, and check what it is installed with.
async fn flake(context: &Context<'_>) -> Result<(), Failure> {
    let settings = context.settings();
    if given(settings.flake.as_ref()).is_none() {
        return Ok(());
    }
    if system_facts::out_of_date(context) {
        return Ok(());
    }
    let facts = system_facts::temporary_dir()?;
    let args = install::built_args(settings, &facts.path().join(system_facts::DIR))?;
    context.install(args, true).await.map(drop)
}

/// Find the installer ISO, if it is a file of the controller.
async fn installer_file(context: &Context<'_>, state: &State) -> Result<(), Failure> {
    let settings = context.settings();
    if settings.installer_source != InstallerSource::Path
        || given(settings.installer_iso.as_ref()).is_none()
    {
        return Ok(());
    }
    image::args(context, &state.node(context)).await.map(drop)
}

/// Plan the VM: storages, bridges, the node, values; what Proxmox VE would refuse.
async fn new_vm(context: &Context<'_>) -> Result<Outcome, Failure> {
    let settings = context.settings();
    let mut args = settings.vm_without_installer();
    args.insert("state".into(), "present".into());
    args.extend(placement::nodes(settings));
    let ownership = Ownership {
        new: true,
        ..Ownership::default()
    };
    context.vm(args, ownership, true).await
}

async fn free_vmid(context: &Context<'_>) -> Result<Option<String>, Failure> {
    let Some(vmid) = context.settings().vmid else {
        return Ok(None);
    };
    let taken = is_taken(context, vmid, &Deadline::after(QUESTIONS)).await?;
    Ok(taken.then(|| {
        format!("nixos_vm_vmid: {vmid} is the VMID of another guest, or of one that the API user may not see")
    }))
}

/// Which addresses of the new machine another one answers at. Asked through the jump hosts, if there are any: so they are tried, too.
async fn free_addresses(context: &Context<'_>) -> Result<Vec<String>, Failure> {
    let settings = context.settings();
    // Mistakes in the variables of jump hosts are found by themselves.
    let Ok(jump) = settings.jump() else {
        return Ok(Vec::new());
    };
    let addresses = settings.known_addresses();
    if let (Some(jump), true) = (&jump, addresses.is_empty()) {
        let login = Probe::log_in_to_jump_hosts(jump).await;
        login.map_err(at_jump_host)?;
    }
    let port = settings.ssh_port;
    let mut taken = Vec::new();
    for address in addresses {
        let probe = Probe {
            host: address.clone(),
            port,
            jump: jump.clone(),
            ..Probe::default()
        };
        if probe.occupied().await.map_err(at_jump_host)? {
            taken.push(format!(
                "nixos_vm_ip: {address} port {port} answers already, so the address belongs to another machine"
            ));
        }
    }
    Ok(taken)
}

/// What keeps us from asking, by the variable.
fn at_jump_host(error: guest_ssh::Error) -> Failure {
    let mut failure = ssh_failed(error);
    failure.msg.insert_str(0, "nixos_vm_jump_host: ");
    failure
}

/// What is wrong with the variables beyond what their types say.
fn variables(settings: &Settings) -> Vec<String> {
    let has = |name: &str| match name {
        "ip" => !settings.first_nic().is_empty(),
        "flake" => given(settings.flake.as_ref()).is_some(),
        "disk_image" => given(settings.disk_image.as_ref()).is_some(),
        "disk_image_flake" => given(settings.disk_image_flake.as_ref()).is_some(),
        _ => given(settings.installer_iso.as_ref()).is_some(),
    };
    let needs = Needs {
        by_image: settings.by_image(),
        iso: matches!(
            settings.installer_source,
            InstallerSource::Path | InstallerSource::Url
        ),
        disk_image: settings.disk_image_source != DiskImageSource::Build,
    };
    let mut mistakes = missing(has, &needs);
    if settings.by_image() {
        mistakes.extend(settings.not_of_images());
        if settings.ssh_host_key_types.is_empty()
            && settings.ssh_host_key.is_none()
            && settings.host_keys_dir.is_none()
        {
            mistakes.push(
                "nixos_vm_ssh_host_key_types: is empty, and a machine from a disk image is known by a host key; leave it out".into(),
            );
        }
    }
    mistakes.extend(address_mistakes::mistakes(settings));
    mistakes.extend(installer_drives(settings));
    mistakes.extend(login_keys(settings));
    mistakes.extend(settings.jump().err().unwrap_or_default());
    mistakes
}

/// The drives of the installer and of its seed.
fn installer_drives(settings: &Settings) -> Vec<String> {
    let mut mistakes = Vec::new();
    let drives = [
        ("nixos_vm_installer_drive", &settings.installer_drive),
        ("nixos_vm_seed_drive", &settings.seed_drive),
    ];
    let described = settings.described();
    for (variable, drive) in drives {
        if !pve_schema::is_cdrom_drive(drive) {
            mistakes.push(format!("{variable}: must be one of ide0 to ide3, sata0 to sata5, scsi0 to scsi30 (got {drive})"));
        }
        if described.contains(drive) {
            mistakes.push(format!(
                "{variable}: {drive} is already used by a disk that is described; choose another drive"
            ));
        }
    }
    if settings.installer_drive == settings.seed_drive {
        mistakes.push(
            "nixos_vm_seed_drive: must be another drive than nixos_vm_installer_drive".into(),
        );
    }
    mistakes
}

/// The keys of logins, and the host key that the user brings.
fn login_keys(settings: &Settings) -> Vec<String> {
    let mut mistakes = Vec::new();
    let private = |key: &&String| key.contains("PRIVATE KEY");
    mistakes.extend(
        settings
            .authorized_keys
            .iter()
            .filter(private)
            .map(|_| "nixos_vm_authorized_keys: holds a private key; give public ones".to_owned()),
    );
    let host_key = settings.ssh_host_key.as_ref();
    let public = host_key.and_then(|key| key.public.as_deref());
    if let Some(key) = public.filter(|key| !key.trim().is_empty())
        && let Err(error) = key.parse::<PublicKey>()
    {
        mistakes.push(format!("nixos_vm_ssh_host_key.public: {error}"));
    }
    let file = settings.ssh_private_key_file.as_ref();
    if let Some(file) = file.filter(|file| !file.as_os_str().is_empty())
        && let Err(error) = Identity::File(file.clone()).check()
    {
        mistakes.push(format!("nixos_vm_ssh_private_key_file: {error}"));
    }
    let key = settings.ssh_private_key.as_ref();
    if let Some(key) = key.filter(|key| !key.is_empty()) {
        let usable = keys::key_file(key).map(|file| Identity::File(file.path()).check().is_ok());
        if !usable.unwrap_or(false) {
            mistakes
                .push("nixos_vm_ssh_private_key: is not a private key without a passphrase".into());
        }
    }
    mistakes
}
