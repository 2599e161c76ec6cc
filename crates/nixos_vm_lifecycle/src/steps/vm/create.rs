//! A new VM.

use ansible_module::{Failure, Outcome};
use proxmox_nixos_vm::ownership::Ownership;
use pve_module::random;
use pve_module::record::{Identity, Phase, Record};
use serde_json::{Value, json};

use crate::context::Context;
use crate::error::StepError;
use crate::host_keys;
use crate::keys;
use crate::module_args::Args;
use crate::placement;
use crate::state::{State, number};
use crate::steps::published::unfinished;
use crate::steps::vm::identity::identify;
use crate::steps::{change, image, keep, run as this_run, summed};
use crate::steps::{disk_image, seed, template};
use crate::vm_layout::volume;

/// A new VM: the controller knows of it before Proxmox VE does, so that nothing is lost whenever this ends. In one piece, since a run
/// that is cut off relies on the order of the writes.
pub async fn create(context: &Context<'_>, state: &State) -> Result<Outcome, Failure> {
    let run = this_run(context)?;
    let settings = context.settings();
    let node = state.node(context);
    if context.task.check_mode {
        let mut args = settings.vm_without_installer();
        args.insert("node".into(), node.into());
        return context.vm(args, Ownership::default(), true).await;
    }
    let by_image = settings.by_image();
    let (source, template) = match by_image {
        true => from_image(context, state, &node).await?,
        false => (image::volid(context, &node).await?, None),
    };
    for gone in &state.gone {
        // The VM is gone, and its keys are of no use to anybody.
        if !gone.installation.held() {
            gone.installation.forget()?;
        }
    }
    let installation = context.store.installation(&run.installation);
    let _held = installation.hold()?;
    host_keys::make(&installation, &context.options.host, settings)?;
    let mut record = Record {
        installation: run.installation.clone(),
        host: context.options.host.clone(),
        // Not the one that is asked for: it is somebody else's if Proxmox VE refuses it.
        vmid: 0,
        uuid: random::uuid()?,
        generation: None,
        phase: Phase::Creating,
        run: run.id.clone(),
        disk: None,
        drives: Some(settings.drives()),
        installer: (!by_image).then(|| source.clone()),
        image: by_image.then(|| source.clone()),
        template,
        installer_key: keys::public(&installation, keys::INSTALLER).filter(|_| !by_image),
        host_key: keys::installed(&installation).into_iter().next(),
        reinstall: None,
    };
    // The disk of a clone is there.
    let brought = template.is_none().then_some(source.as_str());
    let mut args = settings.vm(Phase::Provisioning, brought);
    args.extend(template.map(|vmid| ("clone".to_owned(), json!({"vmid": vmid}))));
    identify(&mut args, &mut record);
    keep(state, &installation, &record)?;
    let ownership = Ownership {
        write: Some(Record {
            vmid: 0,
            ..record.clone()
        }),
        new: true,
        ..Ownership::default()
    };
    args.insert("state".into(), "present".into());
    args.insert("node".into(), node.clone().into());
    let made = context.vm(args, ownership, false).await?;
    record.vmid = number(&made.values, "vmid");
    let node = made
        .values
        .get("node")
        .and_then(Value::as_str)
        .unwrap_or(&node)
        .to_owned();
    // Now the disk has a volume, and the VM an identity that PVE may have completed.
    let config = |key: &str| made.values.get("config")?.get(key)?.as_str();
    let identity = Identity::of(config("smbios1"), config("vmgenid"));
    record.generation = identity.generation.clone();
    if identity.uuid.as_deref() != Some(record.uuid.as_str()) {
        return Err(StepError::AnotherVm { vmid: record.vmid }.into());
    }
    let disk = config(&settings.boot_disk()).map(|text| volume(text).to_owned());
    record.disk = disk;
    record.phase = Phase::Provisioning;
    keep(state, &installation, &record)?;
    placement::forget(context)?;
    let recorded = change(
        context,
        record.vmid,
        Args::new(),
        &[Phase::Creating, Phase::Provisioning],
        Some(record.clone()),
    )
    .await?;
    let seed = seed::attach(context, &installation, record.vmid, &node, false).await?;
    let vmid = record.vmid;
    let msg = format!("{}; {}", made.msg, seed.msg);
    let facts = unfinished(context, vmid, &node, &installation);
    Ok(summed(msg, &[made, recorded, seed]).fact("facts", facts))
}

/// The volume of the disk image, and the template of it that the VM is to be a clone of.
async fn from_image(
    context: &Context<'_>,
    state: &State,
    node: &str,
) -> Result<(String, Option<u32>), Failure> {
    let image = disk_image::stored(context, node).await?;
    let template = match context.settings().disk_image_template {
        true => Some(template::ensure(context, state, node, &image).await?),
        false => None,
    };
    Ok((image.volid, template))
}
