//! What PVE notices too late or says badly, looked at before anything is changed: storages, ISOs, bridges and CPU models.

use std::collections::{BTreeMap, BTreeSet};

use ansible_module::{Failure, FailureKind};
use serde_json::Value;

use crate::config::cpu::{self, Cpu, Models};
use crate::config::drive::{self, Drive, Source};
use crate::config::nic::{self, Nic};
use crate::context::{Context, failed};
use crate::error::Error;
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
    /// The CPU, with the architecture if it is not left to the node. Not one that every node has.
    pub cpu: Option<(Cpu, Option<String>)>,
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
            } else if key == "cpu" {
                let arch = plan.set.get("arch").or(plan.arch.as_ref());
                let cpu = Cpu::parse(text);
                let cpu = cpu.filter(|cpu| !cpu.is_everywhere(arch.map(String::as_str)));
                needs.cpu = cpu.map(|cpu| (cpu, arch.cloned()));
            }
        }
        needs
    }

    /// A file of this content type will be put on this storage.
    pub fn file_storage(&mut self, storage: &str, content: &'static str) {
        let contents = self.storages.entry(storage.to_owned()).or_default();
        contents.insert(content);
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
    if let Some((needed, arch)) = &needs.cpu {
        let mut wrong = missing_model(context, node, needed, arch.as_deref()).await?;
        if wrong.is_none() && needed.unknown_flags().next().is_some() {
            wrong = refused_flag(context, node, needed).await?;
        }
        if let Some(problem) = wrong {
            return Err(Error::Cpu(problem).into());
        }
    }
    Ok(())
}

/// What PVE lists below `capabilities/qemu` of the node, or why it does not.
async fn capability(
    context: &Context<'_>,
    node: &str,
    what: &str,
    query: &[(&str, String)],
) -> Result<Value, Failure> {
    let path = format!("/nodes/{node}/capabilities/qemu/{what}");
    let wrong = failed("list the CPU models of node", node);
    context.get_shared(&path, query, wrong).await
}

/// Why the node does not have the CPU's model. A list that cannot be read says nothing; PVE refuses such a model itself.
async fn missing_model(
    context: &Context<'_>,
    node: &str,
    needed: &Cpu,
    arch: Option<&str>,
) -> Result<Option<String>, Failure> {
    let own = match capability(context, node, "cpu", &[]).await {
        Ok(answer) => Models::parse(&answer),
        Err(failure) if is_refusal(&failure) => None,
        Err(failure) => return Err(failure),
    };
    let Some(own) = own else {
        return Ok(None);
    };
    let models = match arch.filter(|arch| *arch != own.architecture()) {
        None => own,
        Some(other) => {
            // Before PVE 9.1.8 there is no parameter arch, and no other architecture is listed.
            let query = [("arch", other.to_owned())];
            let answer = capability(context, node, "cpu", &query).await;
            let listed = answer.ok().and_then(|answer| Models::parse(&answer));
            listed.unwrap_or_else(|| Models::known(other))
        }
    };
    Ok(models.refusal(node, &needed.model))
}

/// Why PVE does not take one of the CPU's flags, which may be a later PVE's.
async fn refused_flag(
    context: &Context<'_>,
    node: &str,
    needed: &Cpu,
) -> Result<Option<String>, Failure> {
    let listed = match capability(context, node, "cpu-flags", &[]).await {
        Ok(Value::Array(list)) => {
            let name = |flag: &Value| Some(flag.get("name")?.as_str()?.to_owned());
            list.iter().filter_map(name).collect()
        }
        Ok(_) => return Ok(None),
        // A PVE before 9.1 does not list them, and knows none that 9.2 does not.
        Err(failure) if failure.status == Some(501) => Vec::new(),
        Err(failure) if is_refusal(&failure) => return Ok(None),
        Err(failure) => return Err(failure),
    };
    Ok(cpu::flag_refusal(needed, &listed))
}

/// Whether PVE answered, and the answer is no.
fn is_refusal(failure: &Failure) -> bool {
    failure.status.is_some() && failure.kind != FailureKind::Authentication
}

async fn storages(context: &Context<'_>, node: &str, needs: &Needs) -> Result<(), Failure> {
    let wrong = failed("list the storages of node", node);
    let path = format!("/nodes/{node}/storage");
    let there = context.get_shared(&path, &[], wrong).await?;
    let there: Vec<pve_client::Storage> = decoded("storages", there)?;
    for (name, contents) in &needs.storages {
        let Some(storage) = there.iter().find(|storage| storage.storage == *name) else {
            let no_storage = Error::NoStorage {
                storage: name.clone(),
                node: node.to_owned(),
                available: there.into_iter().map(|one| one.storage).collect(),
            };
            return Err(no_storage.into());
        };
        if !storage.enabled || !storage.active {
            let status = if storage.enabled {
                "not active"
            } else {
                "disabled"
            };
            let down = Error::StorageDown {
                storage: name.clone(),
                node: node.to_owned(),
                status,
            };
            return Err(down.into());
        }
        if let Some(content) = contents.iter().find(|content| !storage.holds(content)) {
            let may_not_hold = Error::StorageContent {
                storage: name.clone(),
                node: node.to_owned(),
                content: (*content).to_owned(),
                allowed: storage.content.clone(),
            };
            return Err(may_not_hold.into());
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
            let no_iso = Error::NoIso {
                iso: iso.clone(),
                node: node.to_owned(),
            };
            // A checked play did not upload what an earlier task of it would have.
            if context.task.check_mode {
                let hint = no_iso.hint().unwrap_or_default();
                context.task.warn(format!("{no_iso}: {hint}"));
                continue;
            }
            return Err(no_iso.into());
        }
    }
    Ok(())
}

fn decoded<T: serde::de::DeserializeOwned>(what: &'static str, answer: Value) -> Result<T, Error> {
    serde_json::from_value(answer).map_err(|error| Error::UnexpectedList { what, error })
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
    let no_bridge = Error::NoBridge {
        missing,
        node: node.to_owned(),
        available: names.into_iter().collect(),
    };
    Err(no_bridge.into())
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
                cpu: None,
            }
        );
    }
}
