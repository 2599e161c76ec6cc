//! The steps of a machine whose boot disk is a copy of a disk image: the image is at hand and on the storage, and the machine boots from
//! its copy with the host keys of its seed.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use ansible_module::{Failure, Outcome};

use crate::context::{Context, absolute, text};
use crate::error::{LocalError, StepError};
use crate::keys;
use crate::module_args::Args;
use crate::options::DiskImageSource;
use crate::state::{State, address, whole_seconds};
use crate::steps::nix_build;
use crate::steps::verify::verify;
use crate::store::Installation;

/// The endings of images among what Nix built.
const ENDINGS: [&str; 4] = ["qcow2", "raw", "img", "vmdk"];

/// Step 1: have the image at hand.
///
/// # Errors
/// What is missing, in the names of the role's variables.
pub async fn run(context: &Context<'_>, node: &str) -> Result<Outcome, Failure> {
    let settings = context.settings();
    if context.task.check_mode && settings.disk_image_source == DiskImageSource::Build {
        let attribute = attribute(context)?;
        return Ok(Outcome::changed(format!("would build {attribute}")));
    }
    let args = args(context, node).await?;
    let from = args.get("src").or(args.get("url"));
    let from = from.and_then(|value| value.as_str()).unwrap_or_default();
    let verb = match settings.disk_image_source {
        DiskImageSource::Build => "Nix built the disk image",
        DiskImageSource::Path | DiskImageSource::Url => "the disk image is",
    };
    Ok(Outcome::unchanged(format!("{verb} {from}")))
}

/// Step 2: put it on the storage.
///
/// # Errors
/// Those of [`run`] and of `proxmox_iso`.
pub async fn upload(context: &Context<'_>, node: &str) -> Result<Outcome, Failure> {
    let settings = context.settings();
    if context.task.check_mode && settings.disk_image_source == DiskImageSource::Build {
        let storage = settings.disk_image_storage();
        return Ok(Outcome::changed(format!(
            "would upload the disk image to {storage}"
        )));
    }
    let args = args(context, node).await?;
    let mut outcome = context.iso(args, context.task.check_mode).await?;
    let volid = outcome.values.swap_remove("volid");
    outcome.values.clear();
    Ok(outcome.with("volid", volid))
}

/// The image on the storage.
pub struct Stored {
    /// Its volume.
    pub volid: String,
    /// What distinguishes its content from that of another image of its name, as far as it is known: its size and its checksum.
    pub content: String,
}

/// The image as it is, or will be, on the storage.
///
/// # Errors
/// As [`run`], and those of `proxmox_iso`.
pub async fn stored(context: &Context<'_>, node: &str) -> Result<Stored, Failure> {
    let found = context.iso(args(context, node).await?, true).await?;
    let known = ["size", "checksum"].map(|key| found.values.get(key).map(ToString::to_string));
    Ok(Stored {
        volid: text(&found, "volid"),
        content: known.into_iter().flatten().collect::<Vec<_>>().join(" "),
    })
}

/// The options of `proxmox_iso`; builds the image if Nix makes it, which is quick when it is built.
async fn args(context: &Context<'_>, node: &str) -> Result<Args, Failure> {
    let settings = context.settings();
    let built = match settings.disk_image_source {
        DiskImageSource::Build => Some(build(context).await?),
        DiskImageSource::Path => {
            file(context)?;
            None
        }
        DiskImageSource::Url => None,
    };
    Ok(settings.disk_image(node, built.as_deref()))
}

/// What can be known of the image before anything is changed: that it is there, of the right kind, and not larger than the disk.
///
/// # Errors
/// As [`run`], and those of `proxmox_iso`.
pub async fn check(context: &Context<'_>, node: &str) -> Result<(), Failure> {
    let settings = context.settings();
    match settings.disk_image_source {
        DiskImageSource::Build => {
            attribute(context)?;
            return Ok(());
        }
        DiskImageSource::Path => {
            let path = file(context)?;
            if let (Some(image), Some(disk)) = (virtual_size(&path), settings.boot_disk_bytes())
                && image > disk
            {
                let disk_key = settings.boot_disk();
                return Err(LocalError::DiskImageTooLarge {
                    path,
                    image,
                    disk_key,
                    disk,
                }
                .into());
            }
        }
        DiskImageSource::Url => {}
    }
    match node {
        "" => Ok(()),
        node => stored(context, node).await.map(drop),
    }
}

/// The file on the controller.
fn file(context: &Context<'_>) -> Result<PathBuf, LocalError> {
    let given = context.settings().disk_image.clone().unwrap_or_default();
    let path = absolute(PathBuf::from(&given));
    match path.is_file() {
        true => Ok(path),
        false => Err(LocalError::NoDiskImage { given, path }),
    }
}

/// The size in bytes of the disk that an image is of: that of a raw one, or a big-endian number in the bytes 24 to 31 of a qcow2 one
/// (docs/interop/qcow2.rst of QEMU).
fn virtual_size(path: &Path) -> Option<u64> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    if matches!(extension, Some("raw" | "img")) {
        return Some(path.metadata().ok()?.len());
    }
    let mut header = [0; 32];
    File::open(path).ok()?.read_exact(&mut header).ok()?;
    let size = header[24..].try_into().ok().map(u64::from_be_bytes);
    size.filter(|_| header.starts_with(b"QFI\xfb"))
}

fn attribute(context: &Context<'_>) -> Result<String, LocalError> {
    let attribute = context.settings().disk_image_attribute();
    attribute.ok_or(LocalError::NoDiskImageFlake)
}

async fn build(context: &Context<'_>) -> Result<PathBuf, Failure> {
    let attribute = attribute(context)?;
    let fail = |why| LocalError::DiskImageNotBuilt {
        attribute: attribute.clone(),
        why,
    };
    let build = nix_build::Build {
        what: "the disk image",
        installable: &attribute,
        options: &[],
    };
    let out = build.run(context, fail).await?;
    match nix_build::files(&out, &ENDINGS).as_slice() {
        [image] => Ok(image.clone()),
        images => Err(fail(format!(
            "{} holds {} files that end in .{} instead of one",
            out.display(),
            images.len(),
            ENDINGS.join(", .")
        ))
        .into()),
    }
}

/// Step 4, once the machine is started: wait until its system answers with the host key of its seed.
///
/// # Errors
/// Those of `nixos_anywhere_install`.
pub async fn await_system(
    context: &Context<'_>,
    state: &State,
    installation: &Installation,
) -> Result<(String, Outcome), Failure> {
    let deadline = context.boot_deadline();
    let address = address(context, state.vmid(), &deadline).await?;
    let host_keys = keys::installed(installation);
    if host_keys.is_empty() {
        let object = state.object().to_owned();
        return Err(StepError::HostKeyUnknown { object }.into());
    }
    let left = whole_seconds(&deadline).max(5);
    let verified = verify(context, None, &address, &host_keys, left).await?;
    Ok((address, verified))
}
