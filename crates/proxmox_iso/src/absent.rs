//! Making ISOs absent: one, or all whose names fit a pattern.

use ansible_module::{Diff, Failure, Outcome};
use pve_client::volid::normalise_upload_name;
use pve_client::{Storage, Volid};
use pve_module::{Context, doing};
use serde_json::json;

use crate::error::Error;
use crate::glob;
use crate::options::Options;
use crate::record::{self, RecordFile};
use crate::state::{self, User};

/// Delete what the options name and no VM uses.
///
/// # Errors
/// Kind `in_use` when a VM uses the one ISO that was named, unless forced.
pub async fn absent(
    context: &Context<'_>,
    options: &Options,
    storage: &Storage,
) -> Result<Outcome, Failure> {
    let Context {
        client,
        deadline,
        task,
        ..
    } = *context;
    let node = &options.node;
    let given = options
        .name
        .clone()
        .unwrap_or_else(|| options.local_source_name());
    let pattern = glob::is_pattern(&given);
    let named = match pattern {
        true => given.clone(),
        false => options.volume_name(&given)?,
    };
    let fits = |name: &str| match pattern {
        true => glob::matches(&named, name),
        false => named == name,
    };
    let content = options.content.into();
    let there: Vec<Volid> = state::files(context, node, &options.storage, content)
        .await?
        .iter()
        .filter_map(|volume| volume.volid.parse().ok())
        .filter(|volid: &Volid| fits(volid.file_name()))
        .collect();
    let (mut deleted, mut in_use) = (Vec::new(), Vec::new());
    if !there.is_empty() {
        let users = match options.force {
            true => Vec::new(),
            false => state::users(context, node, storage).await?,
        };
        for volid in there {
            let of_it: Vec<&User> = users.iter().filter(|user| user.uses(&volid)).collect();
            match of_it.is_empty() {
                true => deleted.push(volid),
                false if pattern => in_use.push(volid),
                false => {
                    let users = of_it.iter().map(ToString::to_string).collect();
                    return Err(Error::InUse { volid, users }.into());
                }
            }
        }
    }
    if !task.check_mode {
        for volid in &deleted {
            client
                .delete_volume(node, volid, deadline)
                .await
                .map_err(doing(format!("delete {volid}")))?;
            if let Ok(record) = RecordFile::new(&record::key(options, storage, volid)) {
                record.remove();
            }
        }
    }
    let subject = match pattern {
        true => options.volid(&named).to_string(),
        false => options.volid(&normalise_upload_name(&named)).to_string(),
    };
    Ok(outcome(
        subject,
        pattern,
        task.check_mode,
        &deleted,
        &in_use,
    ))
}

/// What is answered when `deleted` were deleted, or would be, and `in_use` stay because a VM uses them.
fn outcome(
    subject: String,
    pattern: bool,
    check: bool,
    deleted: &[Volid],
    in_use: &[Volid],
) -> Outcome {
    let names = |list: &[Volid]| -> Vec<String> { list.iter().map(Volid::to_string).collect() };
    let volid = (!pattern).then(|| subject.clone());
    let mut outcome = match deleted {
        [] if in_use.is_empty() => Outcome::unchanged(format!("{subject} is not there")),
        [] => Outcome::unchanged(format!("all of {subject} are used by VMs")),
        [first, ..] => {
            let shown = |volid: &Volid| json!({"volid": volid.to_string()});
            let (before, after) = match pattern {
                true => (deleted.iter().map(shown).collect(), json!([])),
                false => (shown(first), json!({})),
            };
            let verb = if check { "would delete" } else { "deleted" };
            Outcome::changed(format!("{verb} {}", names(deleted).join(", ")))
                .diff(Diff::new(before, after).header(subject))
        }
    };
    if let Some(volid) = volid {
        outcome = outcome.with("volid", volid);
    }
    outcome
        .with("deleted", names(deleted))
        .with("kept", names(in_use))
}
