//! The node of a new machine whose inventory names none. It is chosen once, before the installer is uploaded, and kept in the host's
//! state directory until the VM is made.

use std::time::Duration;

use ansible_module::Failure;
use proxmox_nixos_vm::Wish;
use serde_json::Value;

use crate::context::Context;
use crate::error::LocalError;
use crate::options::{Settings, Step};

/// The file in the host's state directory.
const FILE: &str = "node";

/// For how long the VM counts on its node before it is made: its installer may have to be built and uploaded first.
const HOLD: Duration = Duration::from_secs(4 * 3600);

/// The node on which the machine is to be made; nothing is chosen if the inventory names it.
///
/// # Errors
/// Kinds `no_node` and `node_offline` if none fits, and those of the API.
pub async fn choose(context: &Context<'_>) -> Result<Option<String>, Failure> {
    let settings = context.settings();
    if named(settings).is_some() {
        return Ok(None);
    }
    let check = context.task.check_mode;
    let before = context.store.read(FILE);
    if context.options.step != Step::Decide && before.is_some() {
        return Ok(before);
    }
    let mut args = settings.vm_without_installer();
    args.insert("state".into(), "present".into());
    args.extend(nodes(settings));
    args.insert("apart_from".into(), companions(context).into());
    let wish = Wish {
        before: before.as_deref(),
        iso_storage: Some(&settings.iso_storage),
        import_storage: settings.by_image().then(|| settings.disk_image_storage()),
        hold: HOLD,
    };
    let node = context.place(args, wish).await?;
    if !check {
        context.store.write(FILE, &node)?;
    }
    Ok(Some(node))
}

/// The nodes from which one is chosen, as an option of `proxmox_nixos_vm`.
pub fn nodes(settings: &Settings) -> Option<(String, Value)> {
    let nodes = Some(allowed(settings)).filter(|nodes| !nodes.is_empty());
    nodes.map(|nodes| ("nodes".to_owned(), nodes.into()))
}

/// The nodes from which one is chosen; empty for all.
pub fn allowed(settings: &Settings) -> Vec<String> {
    let mut nodes = settings.nodes.clone().unwrap_or_default();
    nodes.retain(|node| !node.trim().is_empty());
    nodes
}

/// The node that an interrupted run chose.
pub fn kept(context: &Context<'_>) -> Option<String> {
    let kept = context.store.read(FILE)?;
    Some(kept.trim().to_owned()).filter(|node| !node.is_empty())
}

/// The node that the inventory names.
pub fn named(settings: &Settings) -> Option<&str> {
    settings
        .node
        .as_deref()
        .filter(|node| !node.trim().is_empty())
}

/// Forget what was chosen: the VM is made, or will not be.
///
/// # Errors
/// Kind `file`.
pub fn forget(context: &Context<'_>) -> Result<(), LocalError> {
    context.store.remove(FILE)
}

/// What is wrong with the variables.
pub fn mistakes(context: &Context<'_>) -> Option<String> {
    let group = context.settings().spread.as_deref()?.trim();
    if group.is_empty() || named(context.settings()).is_some() {
        return None;
    }
    let companions = &context.options.companions;
    (!companions.contains_key(&context.options.host)).then(|| {
        format!(
            "nixos_vm_spread: {group} must be an inventory group that {} is in",
            context.options.host
        )
    })
}

/// The names of the VMs that the new one shall be apart from.
pub fn companions(context: &Context<'_>) -> Vec<String> {
    let options = context.options;
    let others = options
        .companions
        .iter()
        .filter(|(host, _)| **host != options.host);
    let name = |(host, name): (&String, &String)| match name.as_str() {
        // As the role's default says.
        "" => host.split('.').next().unwrap_or_default().to_owned(),
        name => name.to_owned(),
    };
    others.map(name).collect()
}
