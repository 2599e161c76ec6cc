//! What must be done to a VM that exists.

use pve_client::property::{self, PropertyString};
use pve_module::record;
use serde_json::Value;

use crate::config::drive::{self, Difference, Drive, Source};
use crate::config::nic::Nic;
use crate::config::{Config, normalise};
use crate::desired::Desired;
use crate::plan::boot;
use crate::plan::steps::Plan;

/// What turns the existing configuration `have` into the described one.
pub fn update(desired: &Desired, have: &Config, running: bool, in_pool: bool) -> Plan {
    let mut plan = Plan::default();
    plain(&mut plan, desired, have);
    notes(&mut plan, desired, have);
    own_tag(&mut plan, desired, have);
    clone_note(&mut plan, desired, have);
    drives(&mut plan, desired, have);
    nics(&mut plan, desired, have);
    removals(&mut plan, desired, have, running);
    boot::plan_order(&mut plan, desired, have);
    if plan.set.contains_key("cpu") && !plan.delete.contains("arch") {
        plan.arch = plan.set.get("arch").or(have.get("arch")).cloned();
    }
    if let Some(pool) = desired.pool.as_ref().filter(|_| !in_pool) {
        plan.after
            .insert("pool".into(), Value::String(pool.clone()));
        plan.pool = Some(pool.clone());
    }
    plan
}

fn plain(plan: &mut Plan, desired: &Desired, have: &Config) {
    for (name, want) in &desired.plain {
        let current = have.get(name).map(String::as_str);
        match want {
            _ if name == "description" => {}
            Some(want) if name == "tags" && desired.add_tags => {
                let all = normalise::tags_with(current.unwrap_or_default(), want);
                match normalise::same(name, &all, current) {
                    true => plan.shows(name, current, current),
                    false => plan.sets(name, current, all),
                }
            }
            None if name == "tags" && desired.add_tags => {}
            None => {
                if let Some(current) = current {
                    plan.deletes(name, current);
                }
            }
            Some(want) if normalise::same(name, want, current) => {
                plan.shows(name, current, current)
            }
            Some(want) if name == "smbios1" => plan.sets(name, current, keep_uuid(want, current)),
            Some(want) => plan.sets(name, current, want.clone()),
        }
    }
}

/// The notes: the text that is described, or else the one that there is, and the record. A record that is not to be
/// replaced stays, whatever is described: without it the lifecycle would not know its own machine.
fn notes(plan: &mut Plan, desired: &Desired, have: &Config) {
    let current = have.get("description").map(String::as_str);
    let described = desired.plain.get("description");
    if described.is_none() && desired.record.is_none() {
        return;
    }
    let text = match described {
        Some(text) => text.clone().unwrap_or_default(),
        None => current.unwrap_or_default().to_owned(),
    };
    let line = match &desired.record {
        Some(record) => Some(record.to_string()),
        None => record::record_lines(current.unwrap_or_default()),
    };
    let notes = record::with_record(&text, line.as_deref());
    match current {
        None if notes.is_empty() => {}
        Some(current) if notes.is_empty() => plan.deletes("description", current),
        _ if normalise::same("description", &notes, current) => {
            plan.shows("description", current, current)
        }
        _ => plan.sets("description", current, notes),
    }
}

/// A clone has the tags of its template: it gets the one of the guard besides. Any other VM has it already.
fn own_tag(plan: &mut Plan, desired: &Desired, have: &Config) {
    let Some(own) = desired.guard.own() else {
        return;
    };
    if desired.plain.contains_key("tags") {
        return;
    }
    let current = have.get("tags").map(String::as_str);
    let tags = current.unwrap_or_default();
    if !normalise::tags(tags).contains(own) {
        plan.sets("tags", current, normalise::tags_with(tags, own));
    }
}

/// The notes of a clone become the template's again, together with its tags, unless they are described.
fn clone_note(plan: &mut Plan, desired: &Desired, have: &Config) {
    let Some(notes) = have.get("description") else {
        return;
    };
    match desired.guard.without_clone_note(Some(notes)) {
        Some(_) if desired.plain.contains_key("description") => {}
        Some(rest) if rest.is_empty() => plan.deletes("description", notes),
        Some(rest) => plan.sets("description", Some(notes), rest),
        None => {}
    }
}

fn drives(plan: &mut Plan, desired: &Desired, have: &Config) {
    for (key, want) in &desired.drives {
        let Some(current) = have.get(key) else {
            plan.allocates |= matches!(want.source, Source::New { .. } | Source::CloudInit(_));
            if let Source::Volume(volid) = &want.source {
                let held = have
                    .iter()
                    .filter_map(|(other, text)| conflict(desired, &want.source, other, text));
                let held = held.map(|why| format!("{key}: {volid} {why}"));
                plan.refusals.extend(held);
            }
            plan.sets(key, None, want.to_text());
            continue;
        };
        let existing = match Drive::from_text(current) {
            Ok(existing) => existing,
            Err(problem) => {
                plan.refusals.push(format!(
                    "{key}: PVE says '{current}', which is not understood: {problem}"
                ));
                continue;
            }
        };
        match want.against(key, &existing) {
            Difference::None => plan.shows(key, Some(current), Some(current)),
            Difference::Refused(why) => plan.refusals.push(why),
            Difference::Move(storage) if desired.move_disks => {
                plan.shows(key, Some(current), Some(&want.to_text()));
                plan.moves.insert(key.clone(), storage);
            }
            Difference::Move(storage) => plan.refusals.push(format!(
                "{key}: the disk is on the storage {} and not on {storage}; it is not moved without move_disks: true",
                existing.storage().unwrap_or("?"),
            )),
            Difference::Edit { text, grow } => {
                let after = text.as_ref().unwrap_or(current);
                let shown = match grow {
                    Some(bytes) => with_size(after, bytes),
                    None => after.clone(),
                };
                plan.shows(key, Some(current), Some(&shown));
                plan.set.extend(text.map(|text| (key.clone(), text)));
                plan.grow.extend(grow.map(|bytes| (key.clone(), bytes)));
            }
        }
    }
}

/// Why the volume cannot be attached again, when it is the drive `other`, which is `text`.
fn conflict(desired: &Desired, volume: &Source, other: &str, text: &str) -> Option<String> {
    let drive = Drive::from_text(text).ok()?;
    if drive.source != *volume {
        return None;
    }
    let goes = desired.remove.contains(other);
    if goes && desired.delete_volumes {
        return Some(format!("is {other}, whose volume delete_disks deletes"));
    }
    // As two disks of one VM its guest would ruin it.
    let stays = drive::is_key(other) && !goes;
    stays.then(|| format!("is the disk {other} of this VM already"))
}

fn nics(plan: &mut Plan, desired: &Desired, have: &Config) {
    for (key, want) in &desired.nics {
        let current = have.get(key);
        let existing = current.and_then(|text| Nic::parse(key, &Value::String(text.clone())).ok());
        match (want, current, existing) {
            (None, None, _) => {}
            (None, Some(current), _) => plan.deletes(key, current),
            (Some(want), Some(current), Some(existing))
                if want.keeping_mac(&existing).same(&existing) =>
            {
                plan.shows(key, Some(current), Some(current));
            }
            (Some(want), current, existing) => {
                let text = match existing {
                    Some(existing) => want.keeping_mac(&existing).to_text(),
                    None => want.to_text(),
                };
                plan.sets(key, current.map(String::as_str), text);
            }
        }
    }
}

fn removals(plan: &mut Plan, desired: &Desired, have: &Config, running: bool) {
    let there: Vec<&str> = desired
        .remove
        .iter()
        .map(String::as_str)
        .filter(|key| have.contains_key(*key))
        .collect();
    if !there.is_empty() && normalise::is_protected(have) {
        plan.refusals.push(format!(
            "{} cannot be removed from a protected VM; set protection: false first",
            there.join(", ")
        ));
    }
    for key in &desired.remove {
        let Some(current) = have.get(key) else {
            continue;
        };
        let Ok(drive) = Drive::from_text(current) else {
            plan.deletes(key, current);
            continue;
        };
        if drive.is_cdrom() && running && drive.source != Source::Empty {
            plan.eject.push(key.clone());
        }
        let destroys = desired.delete_volumes && matches!(drive.source, Source::Volume(_));
        if let Some(snapshot) = have.get("parent").filter(|_| destroys) {
            // PVE would take the disk from the guest, refuse to delete the volume, and try again with each start.
            plan.refusals.push(format!(
                "{key}: its volume cannot be deleted while the VM has snapshots (the last one is {snapshot}); remove them first, or \
                 detach the disk only, without delete_disks"
            ));
        }
        plan.destroys |= destroys;
        plan.deletes(key, current);
    }
}

/// An `smbios1` that keeps the UUID the VM has, unless it names one.
fn keep_uuid(want: &str, have: Option<&str>) -> String {
    let uuid = have.and_then(|text| {
        PropertyString::parse(text, None)
            .ok()?
            .get("uuid")
            .map(str::to_owned)
    });
    match (PropertyString::parse(want, None), uuid) {
        (Ok(mut parts), Some(uuid)) if parts.get("uuid").is_none() => {
            parts.set("uuid", uuid);
            parts.to_string()
        }
        _ => want.to_owned(),
    }
}

pub(super) fn with_size(text: &str, bytes: u64) -> String {
    match PropertyString::parse(text, Some("file")) {
        Ok(mut parts) => {
            parts.set("size", property::format_size(bytes));
            parts.to_string()
        }
        Err(_) => text.to_owned(),
    }
}
