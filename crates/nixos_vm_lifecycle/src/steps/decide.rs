//! The step before all others: read the machine, say which steps are due, and name every mistake that can be known beforehand.

use std::net::IpAddr;

use ansible_module::{Failure, Outcome, Secret};
use deadline::Deadline;
use guest_ssh::{Identity, PublicKey};
use proxmox_nixos_vm::ownership::Ownership;
use pve_module::random;
use pve_module::record::Phase;
use serde_json::{Value, json};

use super::{image, install, provision};
use crate::build::Build;
use crate::claims::{self, Claim};
use crate::context::Context;
use crate::decide::Decision;
use crate::keys;
use crate::module_args::{Args, bus_of};
use crate::options::{InstallerSource, Run, Settings, Step, missing};
use crate::privileges;
use crate::probe::Probe;
use crate::state::{State, is_taken};
use crate::store::Installation;

/// After this time a run that never asked for its VM has ended.
const ABANDONED: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// Decide.
///
/// # Errors
/// Every mistake in the variables, a refusal of [`crate::decide::decide`], or what the installation would fail at later.
pub async fn run(context: &Context<'_>, mut state: State) -> Result<Outcome, Failure> {
    claim(context, &state)?;
    let decision = state.decide(context).await?;
    if matches!(decision, Decision::Create | Decision::Install(_)) {
        preflight(context, &state, &decision).await?;
    } else if !context.task.unknown.is_empty() {
        return Err(refused(context, context.task.unknown.clone()));
    }
    let run = new_run(&decision)?;
    let mut due: Vec<&str> = decision.due().into_iter().map(Step::name).collect();
    let mut outcome = match &decision {
        Decision::Converge(record) => {
            let converged = provision::finished(context, &state, record, true).await?;
            if converged.changed {
                due.push(Step::Provision.name());
            }
            let mut outcome = Outcome::unchanged(converged.msg);
            outcome.values = converged.values;
            outcome
        }
        Decision::Adopt => Outcome::unchanged(format!("{}: is adopted as it is", state.facts.name)),
        Decision::Create => Outcome::unchanged(format!("{}: does not exist yet", state.facts.name)),
        Decision::Install(record) | Decision::Finalize(record) => {
            let object = state
                .facts
                .vm
                .as_ref()
                .map_or(&state.facts.name, |vm| &vm.object);
            Outcome::unchanged(format!("{object}: its phase is '{}'", record.phase))
        }
        Decision::Ask => Outcome::unchanged("undecided"),
    };
    if matches!(decision, Decision::Create | Decision::Install(_)) && !context.task.check_mode {
        context.store.remove_strays(ABANDONED);
        if context.options.build {
            start_build(context, &run);
        }
    }
    let phase = decision
        .record()
        .map_or("absent", |record| record.phase.name());
    let installation = context.store.installation(&run.installation);
    let facts = facts(context, &state, &decision, &installation).await?;
    // The tasks that follow work with them: a path or a store path may have the word in it that is somebody's password.
    outcome = outcome
        .fact("phase", phase)
        .fact("due", due)
        .fact("run", run)
        .fact("facts", facts);
    Ok(outcome)
}

/// Start to build what is to be installed. If that is not possible, it is built when it is installed.
fn start_build(context: &Context<'_>, run: &Run) {
    let installation = context.store.installation(&run.installation);
    let args = install::built_args(context.settings());
    if let Err(error) = Build::of(&installation, &run.id).start(&installation, args) {
        context.task.warn(format!(
            "the build could not be started before the installation: {error}"
        ));
    }
}

/// Compare what this host claims with what the play's other hosts do.
///
/// # Errors
/// Kind `claimed`.
pub fn claim(context: &Context<'_>, state: &State) -> Result<(), Failure> {
    claims::claim(&context.options.host, &claimed(context, &state.cluster))
}

/// A run of this play at the machine.
fn new_run(decision: &Decision) -> Result<Run, Failure> {
    let record = decision.record();
    Ok(Run {
        installation: match record {
            Some(record) => record.installation.clone(),
            None => random::hex_digits::<16>()?,
        },
        id: random::hex_digits::<4>()?,
        found: record.map(|record| record.run.clone()),
    })
}

/// The facts of the machine for later plays.
async fn facts(
    context: &Context<'_>,
    state: &State,
    decision: &Decision,
    installation: &Installation,
) -> Result<Value, Failure> {
    let Some(record) = decision.record() else {
        return Ok(json!({}));
    };
    let address = match decision {
        Decision::Converge(_) => provision::address_of(context, state).await?,
        _ => context.settings().given_address(),
    };
    let host_keys = keys::of(installation, record);
    Ok(published(
        context,
        state.vmid(),
        &state.node(context),
        address,
        &host_keys,
        installation.read("closure"),
    ))
}

/// The facts that the role sets, by the names of its variables.
pub fn published(
    context: &Context<'_>,
    vmid: u32,
    node: &str,
    address: Option<String>,
    host_keys: &[String],
    closure: Option<String>,
) -> Value {
    let dhcp = context.settings().asks_for_address();
    json!({
        "vmid": vmid, "node": node, "address": address, "host_keys": host_keys, "closure": closure.unwrap_or_default(),
        "guest_address": if dhcp { address.clone() } else { None },
    })
}

/// What no other host of the play may claim.
fn claimed(context: &Context<'_>, cluster: &str) -> Vec<Claim> {
    let settings = context.settings();
    let mut claims = Vec::new();
    let mut claim = |what: String, key: String, variable: &str| {
        claims.push(Claim {
            host: context.options.host.clone(),
            what,
            key: key.to_lowercase(),
            variable: format!("nixos_vm_{variable}"),
        });
    };
    if let Some(vmid) = settings.vmid {
        claim(
            format!("the VMID {vmid}"),
            format!("vmid {cluster} {vmid}"),
            "vmid",
        );
    }
    if let Some(name) = settings.name.as_deref().filter(|name| !name.is_empty()) {
        claim(
            format!("the VM name {name}"),
            format!("name {cluster} {name}"),
            "name",
        );
    }
    let ip = settings.ip.as_deref().unwrap_or_default();
    let ip = ip.split('/').next().unwrap_or_default();
    if ip.parse::<IpAddr>().is_ok() {
        claim(
            format!("the address {ip}"),
            format!("ip {cluster} {ip}"),
            "ip",
        );
    }
    if let Some(address) = settings.given_address() {
        let port = settings.ssh_port;
        claim(
            format!("the address {address} port {port}"),
            format!("ssh {address} {port}"),
            "address",
        );
    }
    for (nic, value) in settings.net.iter().flatten() {
        if let Some(mac) = mac(value) {
            claim(
                format!("the MAC {mac} ({nic})"),
                format!("mac {cluster} {mac}"),
                "net",
            );
        }
    }
    claims
}

/// The MAC address that a NIC is given.
fn mac(value: &Value) -> Option<String> {
    let is_mac = |text: &str| {
        let parts: Vec<&str> = text.split(':').collect();
        parts.len() == 6
            && parts
                .iter()
                .all(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    match value {
        Value::String(text) => text
            .split([',', '='])
            .map(str::trim)
            .find(|part| is_mac(part))
            .map(str::to_uppercase),
        Value::Object(nic) => nic
            .values()
            .filter_map(Value::as_str)
            .find(|text| is_mac(text))
            .map(str::to_uppercase),
        _ => None,
    }
}

/// Everything that an installation would fail at later, named at once.
async fn preflight(
    context: &Context<'_>,
    state: &State,
    decision: &Decision,
) -> Result<(), Failure> {
    let settings = context.settings();
    let mut mistakes = context.task.unknown.clone();
    mistakes.extend(variables(settings));
    mistakes.extend(keys::check(settings));
    let settings_names = &names();
    let mut add = |mut failure: Failure| {
        let object = failure.object.as_deref().unwrap_or_default();
        let variable = match failure.kind {
            "no_bridge" => "nixos_vm_net: ",
            "no_storage" if object == settings.disks_storage => "nixos_vm_disks_storage: ",
            "no_storage" if object == settings.iso_storage => "nixos_vm_iso_storage: ",
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
            let text = by_variable(settings_names, &text);
            if !mistakes.contains(&text) {
                mistakes.push(text);
            }
        }
    };
    if settings
        .flake
        .as_deref()
        .is_some_and(|flake| !flake.is_empty())
        && let Err(failure) = context.install(install::built_args(settings), true).await
    {
        add(match failure.kind {
            "evaluation" => Failure {
                msg: format!("nixos_vm_flake: {}", failure.msg),
                ..failure
            },
            _ => failure,
        });
    }
    if settings.installer_source == InstallerSource::Path
        && settings
            .installer_iso
            .as_deref()
            .is_some_and(|path| !path.is_empty())
        && let Err(failure) = image::args(context, &state.node(context)).await
    {
        add(failure);
    }
    if !settings.boot_disk_is_new() {
        add(install::not_new(settings));
    }
    // What the finished machine shall be, too, before an hour is spent on it.
    let finished = settings.vm(Phase::Done, None);
    if let Err(failure) = context.check_vm(finished) {
        add(failure);
    }
    if decision == &Decision::Create {
        // Storages, bridges, the node, values: what Proxmox VE would refuse.
        let args = settings.vm(Phase::Provisioning, None);
        let mut args = without_installer(args, settings);
        args.insert("state".into(), "present".into());
        if let Err(failure) = context
            .vm(
                args,
                Ownership {
                    new: true,
                    ..Ownership::default()
                },
                true,
            )
            .await
        {
            add(failure);
        }
        let deadline = Deadline::after(std::time::Duration::from_secs(60));
        if let Some(vmid) = settings.vmid
            && is_taken(context, vmid, &deadline).await?
        {
            mistakes.push(format!(
                "nixos_vm_vmid: {vmid} is the VMID of another guest, or of one that the API user may not see"
            ));
        }
        if let Some(address) = settings.given_address() {
            let probe = Probe {
                host: address.clone(),
                port: settings.ssh_port,
                ..Probe::default()
            };
            if probe.occupied().await {
                mistakes.push(format!(
                    "nixos_vm_ip: {address} port {} answers already, so the address belongs to another machine",
                    settings.ssh_port
                ));
            }
        }
    }
    let deadline = Deadline::after(std::time::Duration::from_secs(60));
    mistakes.extend(privileges::missing(&context.client, settings, &deadline).await);
    if mistakes.is_empty() {
        return Ok(());
    }
    Err(refused(context, mistakes))
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

/// The refusal of a host with these mistakes.
fn refused(context: &Context<'_>, mistakes: Vec<String>) -> Failure {
    let msg = format!(
        "{}: nothing was done; correct these first:\n- {}",
        context.options.host,
        mistakes.join("\n- ")
    );
    Failure::new("preflight", msg)
        .object(&context.options.host)
        .with("mistakes", mistakes)
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

/// A new VM as a check sees it, before its installer is on the storage: a boot order that names the installer's drive wants the drive.
pub fn without_installer(mut args: Args, settings: &Settings) -> Args {
    args.insert("boot".into(), settings.boot_order(Phase::Done).into());
    args
}

/// What is wrong with the variables beyond what their types say.
fn variables(settings: &Settings) -> Vec<String> {
    let given = |name: &str| {
        let text = match name {
            "node" => &settings.node,
            "ip" => &settings.ip,
            "flake" => &settings.flake,
            _ => &settings.installer_iso,
        };
        text.as_deref().is_some_and(|text| !text.trim().is_empty())
    };
    let needs_iso = matches!(
        settings.installer_source,
        InstallerSource::Path | InstallerSource::Url
    );
    let mut mistakes = missing(given, needs_iso);
    match settings.ip.as_deref().unwrap_or_default() {
        "" | "dhcp" => {}
        ip => {
            let valid = ip.split_once('/').is_some_and(|(address, prefix)| {
                address.parse::<std::net::Ipv4Addr>().is_ok()
                    && prefix
                        .parse::<u8>()
                        .is_ok_and(|prefix| (1..=32).contains(&prefix))
            });
            if !valid {
                mistakes.push(format!(
                    "nixos_vm_ip: must be dhcp, or an IPv4 address with the length of its prefix, such as 192.0.2.11/24 (got {ip})"
                ));
            }
        }
    }
    if let Some(gateway) = settings
        .gateway
        .as_deref()
        .filter(|gateway| !gateway.is_empty())
        && gateway.parse::<std::net::Ipv4Addr>().is_err()
    {
        mistakes.push(format!(
            "nixos_vm_gateway: must be an IPv4 address (got {gateway})"
        ));
    }
    for (variable, drive) in [
        ("nixos_vm_installer_drive", &settings.installer_drive),
        ("nixos_vm_seed_drive", &settings.seed_drive),
    ] {
        let bus = bus_of(drive);
        let number = drive
            .strip_prefix(bus)
            .and_then(|number| number.parse::<u8>().ok());
        let limit = match bus {
            "ide" => Some(3),
            "sata" => Some(5),
            "scsi" => Some(30),
            _ => None,
        };
        if !matches!((number, limit), (Some(number), Some(limit)) if number <= limit) {
            mistakes.push(format!("{variable}: must be one of ide0 to ide3, sata0 to sata5, scsi0 to scsi30 (got {drive})"));
        }
    }
    let described = settings.described();
    for (variable, drive) in [
        ("nixos_vm_installer_drive", &settings.installer_drive),
        ("nixos_vm_seed_drive", &settings.seed_drive),
    ] {
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
    for key in &settings.authorized_keys {
        if key.contains("PRIVATE KEY") {
            mistakes.push("nixos_vm_authorized_keys: holds a private key; give public ones".into());
        }
    }
    if let Some(key) = settings
        .ssh_host_key
        .as_ref()
        .and_then(|key| key.public.as_deref())
        .filter(|key| !key.trim().is_empty())
        && let Err(error) = key.parse::<PublicKey>()
    {
        mistakes.push(format!("nixos_vm_ssh_host_key.public: {error}"));
    }
    if let Some(file) = settings
        .ssh_private_key_file
        .as_ref()
        .filter(|file| !file.as_os_str().is_empty())
        && let Err(error) = Identity::File(file.clone()).check()
    {
        mistakes.push(format!("nixos_vm_ssh_private_key_file: {error}"));
    }
    if let Some(key) = settings
        .ssh_private_key
        .as_ref()
        .filter(|key| !key.is_empty())
    {
        let usable = key_file(key).map(|file| Identity::File(file.path()).check().is_ok());
        if !usable.unwrap_or(false) {
            mistakes
                .push("nixos_vm_ssh_private_key: is not a private key without a passphrase".into());
        }
    }
    mistakes
}

/// A login key that is given as a text, as a file for as long as it is needed.
///
/// # Errors
/// The system's.
pub fn key_file(key: &Secret) -> Result<keys::InMemory, Failure> {
    keys::InMemory::new(&format!("{}\n", key.expose().trim()))
}
