//! The template of a disk image, of which machines are linked clones. A controller uses only templates that it made itself: it keeps the
//! UUID that it gave each, before Proxmox VE knows the VM.

use std::time::Duration;

use ansible_module::Failure;
use deadline::Deadline;
use proxmox_nixos_vm::ownership::Ownership;
use pve_client::sha256_bytes;
use pve_module::record::{Identity, Phase};
use pve_module::{Lock, random};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::context::{Context, absolute, text};
use crate::error::StepError;
use crate::module_args::Args;
use crate::state::{State, number};
use crate::steps::disk_image::Stored;
use crate::store::Store;

/// How long the template may take, or another host of this play that makes it.
const MAKING: Duration = Duration::from_secs(3600);
/// The directory with a file for each template.
const DIR: &str = ".templates";
/// What a template has of the hardware of its machines. Everything else is the clone's own.
const HARDWARE: [&str; 5] = ["bios", "efidisk0", "ostype", "pool", "scsihw"];

/// A template that this controller made, or is about to make.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Template {
    name: String,
    /// In its `smbios1`.
    uuid: String,
}

/// The VMID of the template of this image on this node, which is made if it does not exist.
///
/// # Errors
/// Kind `not_ours` for a VM of its name that this controller did not make; those of `proxmox_nixos_vm`.
pub async fn ensure(
    context: &Context<'_>,
    state: &State,
    node: &str,
    image: &Stored,
) -> Result<u32, Failure> {
    let Stored { volid, content } = image;
    let hardware = hardware(context, volid);
    let key = format!(
        "{} {node} {volid} {content} {}",
        state.cluster,
        Value::Object(hardware.clone())
    );
    let key = sha256_bytes(key.as_bytes())[..12].to_owned();
    let deadline = Deadline::after(MAKING);
    let _lock = Lock::acquire(&format!("template {key}"), &deadline).await?;
    let store = Store::new(absolute(context.settings().state_root.join(DIR)));
    let known: Option<Template> = store
        .read(&key)
        .and_then(|text| serde_json::from_str(&text).ok());
    if let Some(template) = known
        && let Some(vmid) = existing(context, &template, node).await?
    {
        return Ok(vmid);
    }
    let template = Template {
        name: format!("nixos-image-{}-{}", &key[..8], random::hex_digits::<2>()?),
        uuid: random::uuid()?,
    };
    store.write(&key, &json!(template).to_string())?;
    make(context, &template, node, volid, hardware).await
}

/// What the VMs have that are made of the image, and that belongs to the template.
fn hardware(context: &Context<'_>, image: &str) -> Args {
    let settings = context.settings();
    let mut args = settings.vm(Phase::Provisioning, Some(image));
    let disk = settings.boot_disk();
    let bus = crate::module_args::bus_of(&disk).to_owned();
    let boot_disk = args
        .get(&bus)
        .and_then(|disks| disks.get(&disk))
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    // It has the size of the image. The clones grow theirs.
    let boot_disk: Map<String, Value> = boot_disk
        .into_iter()
        .filter(|(key, _)| ["storage", "format", "import_from"].contains(&key.as_str()))
        .collect();
    args.retain(|key, _| HARDWARE.contains(&key.as_str()));
    args.insert(bus, json!({disk.clone(): boot_disk}));
    args.insert("boot".into(), format!("order={disk}").into());
    args
}

/// The template's VMID, if it is there. One whose making was cut off is finished.
async fn existing(
    context: &Context<'_>,
    template: &Template,
    node: &str,
) -> Result<Option<u32>, Failure> {
    let mut look = Args::new();
    look.insert("name".into(), template.name.clone().into());
    look.insert("state".into(), "current".into());
    let found = context.vm(look, Ownership::default(), true).await?.values;
    if found.get("exists") != Some(&Value::Bool(true)) {
        return Ok(None);
    }
    let vmid = number(&found, "vmid");
    let config = |key: &str| found.get("config")?.get(key)?.as_str();
    let identity = Identity::of(config("smbios1"), config("vmgenid"));
    let is_ours = identity.uuid.as_deref() == Some(template.uuid.as_str());
    if is_ours && found.get("node").and_then(Value::as_str) != Some(node) {
        // It was migrated: this node gets another one.
        return Ok(None);
    }
    if !is_ours {
        return Err(StepError::NotOurTemplate {
            vmid,
            name: template.name.clone(),
        }
        .into());
    }
    if found.get("template") != Some(&Value::Bool(true)) {
        let mut convert = Args::new();
        convert.insert("vmid".into(), vmid.into());
        convert.insert("state".into(), "template".into());
        context.vm(convert, Ownership::default(), false).await?;
    }
    Ok(Some(vmid))
}

async fn make(
    context: &Context<'_>,
    template: &Template,
    node: &str,
    image: &str,
    hardware: Args,
) -> Result<u32, Failure> {
    let mut args = hardware;
    args.insert("name".into(), template.name.clone().into());
    args.insert("node".into(), node.into());
    args.insert("state".into(), "template".into());
    let range = &context.settings().disk_image_template_vmid_range;
    args.insert("vmid_range".into(), range.clone().into());
    args.insert("memory".into(), 512.into());
    args.insert("timeout".into(), MAKING.as_secs().into());
    args.insert(
        "description".into(),
        format!("The disk image {image}. Machines are linked clones of it.").into(),
    );
    args.insert(
        "config".into(),
        json!({"smbios1": format!("uuid={}", template.uuid)}),
    );
    let ownership = Ownership {
        new: true,
        ..Ownership::default()
    };
    let made = context.vm(args, ownership, false).await?;
    let vmid = number(&made.values, "vmid");
    if let Err(failure) = can_be_cloned(context, vmid, &text(&made, "node")).await {
        let mut remove = Args::new();
        remove.insert("vmid".into(), vmid.into());
        remove.insert("name".into(), template.name.clone().into());
        remove.insert("state".into(), "absent".into());
        remove.insert("force".into(), true.into());
        context.vm(remove, Ownership::default(), false).await?;
        return Err(failure);
    }
    Ok(vmid)
}

/// Refuse a storage that cannot make linked clones (PVE::Storage::volume_has_feature).
async fn can_be_cloned(context: &Context<'_>, vmid: u32, node: &str) -> Result<(), Failure> {
    let path = format!("/nodes/{node}/qemu/{vmid}/feature");
    let what = "ask whether the template can be cloned";
    let query = [("feature", "clone".to_owned())];
    let deadline = Deadline::after(Duration::from_secs(60));
    let answer = context.get(what, &path, &query, &deadline).await?;
    let has = answer.get("hasFeature");
    match has.and_then(Value::as_u64) == Some(1) || has == Some(&Value::Bool(true)) {
        true => Ok(()),
        false => Err(StepError::NoLinkedClones { vmid }.into()),
    }
}
