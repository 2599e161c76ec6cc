//! Step 2: the installer ISO, or the disk image, is on the storage.

use ansible_module::{Failure, Outcome};

use super::{disk_image, image};
use crate::context::Context;

/// Put it there.
///
/// # Errors
/// Those of the image step and of `proxmox_iso`.
pub async fn run(context: &Context<'_>, node: &str) -> Result<Outcome, Failure> {
    if context.settings().by_image() {
        return disk_image::upload(context, node).await;
    }
    let args = image::args(context, node).await?;
    let mut outcome = context.iso(args, context.task.check_mode).await?;
    let volid = outcome.values.swap_remove("volid");
    outcome.values.clear();
    Ok(outcome.with("volid", volid))
}
