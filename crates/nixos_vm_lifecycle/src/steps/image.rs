//! Step 1: the installer ISO is at hand, and its name on the storage is known. Disk images are in `disk_image`.

use std::path::PathBuf;

use ansible_module::{Failure, Outcome};

use super::{disk_image, nix_build};
use crate::context::{Context, absolute, text};
use crate::error::LocalError;
use crate::module_args::Args;
use crate::options::InstallerSource;

/// Have the ISO at hand, or the disk image.
///
/// # Errors
/// What is missing, in the names of the role's variables.
pub async fn run(context: &Context<'_>, node: &str) -> Result<Outcome, Failure> {
    if context.settings().by_image() {
        return disk_image::run(context, node).await;
    }
    let iso = args(context, node).await?;
    let source = context.settings().installer_source;
    let msg = match source {
        InstallerSource::Path => format!("the installer ISO is {}", shown(&iso, "src")),
        InstallerSource::Url => format!("the installer ISO is {}", shown(&iso, "url")),
        InstallerSource::Build => format!("Nix built the installer ISO {}", shown(&iso, "src")),
        InstallerSource::Release => {
            let found = context.iso(iso, true).await?;
            return Ok(Outcome::unchanged(format!(
                "the installer ISO is {}",
                text(&found, "volid")
            )));
        }
    };
    Ok(Outcome::unchanged(msg))
}

fn shown(args: &Args, key: &str) -> String {
    args.get(key)
        .and_then(|value| value.as_str())
        .unwrap_or_default()
        .to_owned()
}

/// The volume that the ISO is, or will be, on the storage.
///
/// # Errors
/// As [`run`], and those of `proxmox_iso`.
pub async fn volid(context: &Context<'_>, node: &str) -> Result<String, Failure> {
    let found = context.iso(args(context, node).await?, true).await?;
    Ok(text(&found, "volid"))
}

/// The options of `proxmox_iso`; builds the ISO if Nix makes it, which is quick when it is built.
///
/// # Errors
/// As [`run`].
pub async fn args(context: &Context<'_>, node: &str) -> Result<Args, Failure> {
    let settings = context.settings();
    let built = match settings.installer_source {
        InstallerSource::Build => Some(build(context).await?),
        InstallerSource::Path => {
            check_path(context)?;
            None
        }
        InstallerSource::Url | InstallerSource::Release => None,
    };
    Ok(settings.iso(node, built.as_deref()))
}

fn check_path(context: &Context<'_>) -> Result<(), LocalError> {
    let given = context.settings().installer_iso.clone().unwrap_or_default();
    let path = absolute(PathBuf::from(&given));
    if path.is_file() {
        return Ok(());
    }
    Err(LocalError::NoInstallerIso { given, path })
}

async fn build(context: &Context<'_>) -> Result<PathBuf, Failure> {
    let settings = context.settings();
    let fail = |why| LocalError::InstallerNotBuilt {
        flake: settings.installer_flake.clone(),
        why,
    };
    let builders = ["--builders", &settings.installer_builders];
    let build = nix_build::Build {
        what: "the installer ISO",
        installable: &settings.installer_flake,
        options: match settings.installer_builders.is_empty() {
            true => &[],
            false => &builders,
        },
    };
    let out = build.run(context, fail).await?;
    let images = nix_build::files(&out.join("iso"), &["iso"]);
    match images.as_slice() {
        [image] => Ok(image.clone()),
        _ => Err(fail(format!(
            "{} holds {} ISO images in iso/ instead of one",
            out.display(),
            images.len()
        ))
        .into()),
    }
}
