//! What PVE notices too late or says badly, looked at before anything is changed: storages, ISOs and bridges.

use std::collections::{BTreeMap, BTreeSet};

use ansible_module::{Failure, FailureKind};
use serde_json::Value;

use crate::config::drive::{self, Drive, Source};
use crate::config::nic::{self, Nic};
use crate::context::{Context, failed};
use crate::plan::Plan;

/// What a plan needs from the node.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Storages, and whether they must hold `images` (else ISOs or whatever is there already).
    pub storages: BTreeMap<String, BTreeSet<&'static str>>,
    /// ISOs by storage.
    pub isos: BTreeMap<String, BTreeSet<String>>,
    /// Bridges.
    pub bridges: BTreeSet<String>,
}

impl Needs {
    /// What the options that a plan sets need.
    pub fn of(plan: &Plan) -> Self {
        let mut needs = Self::default();
        for storage in plan.moves.values() {
            let contents = needs.storages.entry(storage.clone()).or_default();
            contents.insert("images");
        }
        for (key, text) in &plan.set {
            if drive::is_key(key) {
                if let Ok(drive) = Drive::from_text(text) {
                    needs.drive(&drive);
                }
            } else if nic::is_key(key)
                && let Ok(nic) = Nic::parse(key, &Value::String(text.clone()))
            {
                needs.bridges.extend(nic.bridge().map(str::to_owned));
            }
        }
        needs
    }

    fn drive(&mut self, drive: &Drive) {
        let Some(storage) = drive.storage() else {
            return;
        };
        let contents = self.storages.entry(storage.to_owned()).or_default();
        match &drive.source {
            Source::New { .. } => {
                contents.insert("images");
            }
            Source::Iso(volid) => {
                contents.insert("iso");
                self.isos
                    .entry(storage.to_owned())
                    .or_default()
                    .insert(volid.clone());
            }
            _ => {}
        }
    }
}

/// Check what the plan needs on `node`. A token that may not look at something gets no check, and PVE's own answer later.
pub async fn check(context: &Context<'_>, node: &str, needs: &Needs) -> Result<(), Failure> {
    if !needs.storages.is_empty() {
        storages(context, node, needs).await?;
    }
    if !needs.bridges.is_empty() {
        bridges(context, node, &needs.bridges).await?;
    }
    Ok(())
}

async fn storages(context: &Context<'_>, node: &str, needs: &Needs) -> Result<(), Failure> {
    let wrong = failed("list the storages of node", node);
    let path = format!("/nodes/{node}/storage");
    let there = context.get_shared(&path, &[], wrong).await?;
    let there: Vec<pve_client::Storage> = decoded("storages", there)?;
    for (name, contents) in &needs.storages {
        let Some(storage) = there.iter().find(|storage| storage.storage == *name) else {
            let known: Vec<&str> = there.iter().map(|s| s.storage.as_str()).collect();
            let known = if known.is_empty() {
                "none".into()
            } else {
                known.join(", ")
            };
            return Err(Failure::new(FailureKind::NoStorage, format!("there is no storage {name} on node {node}; there are: {known}"))
                .object(name.clone())
                .hint("correct its name, or give the token the privilege Datastore.AllocateSpace on it: what a token may not use is not listed"));
        };
        if !storage.enabled || !storage.active {
            let why = if storage.enabled {
                "not active"
            } else {
                "disabled"
            };
            return Err(Failure::new(
                FailureKind::StorageUnusable,
                format!("the storage {name} is {why} on node {node}"),
            )
            .object(name.clone())
            .hint("enable or repair it (pvesm status shows it on the node)"));
        }
        if let Some(content) = contents.iter().find(|content| !storage.holds(content)) {
            let msg = format!(
                "the storage {name} on node {node} may not hold {content}, only {}",
                storage.content
            );
            return Err(Failure::new(FailureKind::StorageUnusable, msg).object(name.clone()).hint(format!(
                "choose another storage, or allow {content} on it (pvesm set {name} --content {},{content})",
                storage.content
            )));
        }
    }
    for (storage, isos) in &needs.isos {
        let wrong = failed("list the ISOs of storage", storage);
        let path = format!("/nodes/{node}/storage/{storage}/content");
        let query = [("content", "iso".to_owned())];
        let there = context.get_shared(&path, &query, wrong).await?;
        let there: Vec<pve_client::StorageContent> = decoded("ISOs", there)?;
        if let Some(iso) = isos
            .iter()
            .find(|iso| !there.iter().any(|volume| volume.volid == **iso))
        {
            let msg = format!("there is no ISO {iso} on node {node}");
            let hint = "upload it first with the module proxmox_iso, or correct its name";
            // A checked play did not upload what an earlier task of it would have.
            if context.task.check_mode {
                context.task.warn(format!("{msg}: {hint}"));
                continue;
            }
            return Err(Failure::new(FailureKind::NoIso, msg)
                .object(iso.clone())
                .hint(hint));
        }
    }
    Ok(())
}

fn decoded<T: serde::de::DeserializeOwned>(what: &str, answer: Value) -> Result<T, Failure> {
    serde_json::from_value(answer).map_err(|error| {
        let msg = format!("the list of {what} is not as PVE writes it: {error}");
        Failure::new(FailureKind::UnexpectedAnswer, msg)
    })
}

async fn bridges(
    context: &Context<'_>,
    node: &str,
    needed: &BTreeSet<String>,
) -> Result<(), Failure> {
    let query = [("type", "any_bridge".to_owned())];
    let wrong = failed("list the bridges of node", node);
    let path = format!("/nodes/{node}/network");
    let answer = context.get_shared(&path, &query, wrong).await;
    let names: BTreeSet<String> = match &answer {
        Ok(Value::Array(list)) => list
            .iter()
            .filter_map(|i| Some(i.get("iface")?.as_str()?.to_owned()))
            .collect(),
        // Older servers know other types; the network may be none of the token's business.
        _ => BTreeSet::new(),
    };
    let missing: Vec<&str> = needed
        .iter()
        .filter(|b| !names.contains(*b))
        .map(String::as_str)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(", ");
    if names.is_empty() {
        context.task.warn(format!(
            "the bridges of node {node} cannot be listed, so whether {missing} exists shows only when the VM starts"
        ));
        return Ok(());
    }
    let known = names.into_iter().collect::<Vec<_>>().join(", ");
    Err(Failure::new(FailureKind::NoBridge, format!("there is no bridge {missing} on node {node}; there are: {known}"))
        .object(missing)
        .hint("correct its name in net, or make the bridge first; a VM with a missing bridge cannot start"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_set_is_needed() {
        let mut plan = Plan::default();
        for (key, text) in [
            ("scsi0", "zfs:32"),
            ("scsi1", "zfs:vm-101-disk-1,size=1G"),
            ("ide2", "local:iso/a.iso,media=cdrom"),
            ("ide3", "none,media=cdrom"),
            ("net0", "virtio,bridge=vmbr0"),
            ("name", "a"),
        ] {
            plan.set.insert(key.into(), text.into());
        }
        let needs = Needs::of(&plan);
        assert_eq!(
            needs,
            Needs {
                storages: BTreeMap::from([
                    ("zfs".into(), BTreeSet::from(["images"])),
                    ("local".into(), BTreeSet::from(["iso"])),
                ]),
                isos: BTreeMap::from([(
                    "local".into(),
                    BTreeSet::from(["local:iso/a.iso".into()])
                )]),
                bridges: BTreeSet::from(["vmbr0".into()]),
            }
        );
    }
}
