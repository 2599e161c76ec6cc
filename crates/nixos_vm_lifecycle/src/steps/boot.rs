//! Step 4: the VM runs the installer, or the system of its disk image, which answers with the host key that this installation gave it.

use ansible_module::{Failure, Outcome};
use pve_module::record::Phase;
use serde_json::json;

use super::{change, disk_image, out_of_turn, summed};
use crate::boot_watch::{BootWatch, System};
use crate::build::Build;
use crate::context::{Context, ssh_failed};
use crate::error::StepError;
use crate::facts::Decision;
use crate::keys;
use crate::module_args::Args;
use crate::state::{State, address, whole_seconds};

/// Start it and wait.
///
/// # Errors
/// Kind `occupied` when the address answers before the VM runs, and those of the modules that are called.
pub async fn run(context: &Context<'_>, mut state: State) -> Result<Outcome, Failure> {
    let settings = context.settings();
    if context.task.check_mode && state.vm.is_none() {
        let what = match settings.by_image() {
            true => "the machine",
            false => "the installer",
        };
        return Ok(Outcome::changed(format!("would start {what}")));
    }
    let this_run = super::run(context)?;
    let installation = context.store.installation(&this_run.installation);
    Build::of(&installation, &this_run.id).check(&state.facts.name)?;
    let (vmid, running) = (
        state.vmid(),
        state.facts.vm.as_ref().is_some_and(|vm| vm.running),
    );
    let decision = state.decide(context).await?;
    if context.task.check_mode && matches!(decision, Decision::Reinstall(_)) {
        return Ok(Outcome::changed("would start the installer"));
    }
    let Some(record) = decision
        .record()
        .filter(|record| record.phase.unfinished() && record.phase != Phase::Installed)
        .cloned()
    else {
        return Err(out_of_turn(
            &state,
            &decision,
            "the installer was to be started",
        ));
    };
    let phases = [Phase::Creating, Phase::Provisioning, Phase::Installing];
    if !running && !context.task.check_mode {
        unoccupied(context, &state).await?;
    }
    let mut start = Args::new();
    start.insert("state".into(), "started".into());
    start.insert("timeout".into(), settings.boot_timeout.into());
    if context.task.check_mode {
        return change(context, vmid, start, &phases, None).await;
    }
    let installation = context.store.installation(&record.installation);
    // From before its start on, so that its first lines are seen.
    let system = match record.image {
        Some(_) => System::Installed,
        None => System::Installer,
    };
    let watch = BootWatch::begin(context, &state, &installation, system);
    let started = change(context, vmid, start, &phases, None).await?;
    if record.image.is_some() {
        let answered = disk_image::await_system(context, &state, &installation);
        let (address, verified) = watch.during(answered).await?;
        let msg = format!("{}; {}", started.msg, verified.msg);
        return Ok(summed(msg, &[started]).with("address", address));
    }
    let deadline = context.boot_deadline();
    let answered = async {
        let address = address(context, vmid, &deadline).await?;
        let mut args = installer_login(context, &installation, &address);
        args.insert("state".into(), "probed".into());
        args.insert("expect".into(), "installer".into());
        let left = whole_seconds(&deadline).max(5);
        args.insert("timeout".into(), left.into());
        Ok((address, context.install(args, false).await?))
    };
    let (address, probed) = watch.during(answered).await?;
    let msg = format!("{}; {}", started.msg, probed.msg);
    Ok(summed(msg, &[started]).with("address", address))
}

/// How the installer is logged in to.
pub fn installer_login(
    context: &Context<'_>,
    installation: &crate::store::Installation,
    address: &str,
) -> Args {
    let settings = context.settings();
    let mut args = Args::new();
    args.insert("host".into(), address.into());
    args.insert("port".into(), settings.ssh_port.into());
    args.insert("user".into(), "root".into());
    args.insert(
        "private_key_file".into(),
        json!(installation.path(keys::CLIENT)),
    );
    let key = keys::public(installation, keys::INSTALLER).unwrap_or_default();
    args.insert("host_keys".into(), json!([key]));
    args.extend(settings.jump_args());
    args
}

/// Refuse an address that answers although the VM does not run: it is another machine's.
async fn unoccupied(context: &Context<'_>, state: &State) -> Result<(), Failure> {
    let Some(address) = context.settings().given_address() else {
        return Ok(());
    };
    let probe = state.probe(context, address.clone())?;
    if !probe.occupied().await.map_err(ssh_failed)? {
        return Ok(());
    }
    Err(StepError::Occupied {
        address,
        port: probe.port,
        object: state.facts.name.clone(),
    }
    .into())
}
