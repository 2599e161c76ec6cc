//! What must be done so that a VM is as described. Pure: nothing is read or changed here.

use std::collections::{BTreeMap, BTreeSet};

use pve_client::property::{self, PropertyString};
use pve_module::record;
use serde_json::{Map, Value};

use crate::config::Config;
use crate::config::drive;
use crate::config::drive::Difference;
use crate::config::drive::Drive;
use crate::config::drive::Source;
use crate::config::nic::Nic;
use crate::config::normalise;
use crate::config::text;
use crate::desired::Desired;

/// What must be done, in the order of the fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// CD-ROMs of a running VM to empty before their drive is removed.
    pub eject: Vec<String>,
    /// Options to set. For a new VM all that it is made of.
    pub set: BTreeMap<String, String>,
    /// Options to remove.
    pub delete: BTreeSet<String>,
    /// Whether volumes are allocated, which may take its time.
    pub allocates: bool,
    /// Disks to move to these storages. That comes first, and what else there is to do is planned anew afterwards.
    pub moves: BTreeMap<String, String>,
    /// Whether the volumes of the disks in `delete` go too, in the same call (PVE's `force`), so that nothing can come between.
    pub destroys: bool,
    /// Disks to grow, to this many bytes.
    pub grow: BTreeMap<String, u64>,
    /// The boot order to set after everything else, because PVE edits it with every CD-ROM.
    pub boot: Option<String>,
    /// The pool to move the VM to.
    pub pool: Option<String>,
    /// Why the VM cannot be made as described.
    pub refusals: Vec<String>,
    /// The managed options before.
    pub before: Map<String, Value>,
    /// The managed options after.
    pub after: Map<String, Value>,
}

impl Plan {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.eject.is_empty()
            && self.set.is_empty()
            && self.delete.is_empty()
            && self.grow.is_empty()
            && self.moves.is_empty()
            && self.boot.is_none()
            && self.pool.is_none()
    }

    /// The memory that a new VM is given, in bytes.
    pub fn memory(&self) -> u64 {
        let text = self.set.get("memory").map(String::as_str);
        let text = text.or(normalise::default("memory")).unwrap_or_default();
        let mib = PropertyString::parse(text, Some("current"))
            .ok()
            .and_then(|memory| memory.get("current")?.parse::<u64>().ok());
        mib.unwrap_or_default().saturating_mul(1 << 20)
    }

    /// The names of the options that change, for messages.
    pub fn changed_names(&self) -> Vec<&str> {
        let mut names: BTreeSet<&str> = self
            .set
            .keys()
            .chain(&self.delete)
            .map(String::as_str)
            .collect();
        names.extend(
            self.grow
                .keys()
                .chain(self.moves.keys())
                .map(String::as_str),
        );
        // It is also set to what it is, after drives.
        let boot = self.boot.is_some() && self.before.get("boot") != self.after.get("boot");
        names.extend(boot.then_some("boot"));
        names.extend(self.pool.as_ref().map(|_| "pool"));
        names.into_iter().collect()
    }

    fn shows(&mut self, name: &str, before: Option<&str>, after: Option<&str>) {
        for (side, value) in [(&mut self.before, before), (&mut self.after, after)] {
            if let Some(value) = value {
                side.insert(name.to_owned(), Value::String(value.to_owned()));
            }
        }
    }

    fn sets(&mut self, name: &str, before: Option<&str>, after: String) {
        self.shows(name, before, Some(&after));
        self.set.insert(name.to_owned(), after);
    }

    fn deletes(&mut self, name: &str, before: &str) {
        self.shows(name, Some(before), None);
        self.delete.insert(name.to_owned());
    }
}

/// What makes a new VM.
pub fn create(desired: &Desired) -> Plan {
    let mut plan = Plan::default();
    for (name, value) in &desired.plain {
        if let Some(value) = value {
            plan.sets(name, None, value.clone());
        }
    }
    if let Some(own) = desired
        .guard
        .own()
        .filter(|_| !plan.set.contains_key("tags"))
    {
        plan.sets("tags", None, own.to_owned());
    }
    for (key, drive) in &desired.drives {
        plan.sets(key, None, drive.to_text());
    }
    for (key, nic) in &desired.nics {
        if let Some(nic) = nic {
            plan.sets(key, None, nic.to_text());
        }
    }
    if let Some(pool) = &desired.pool {
        plan.sets("pool", None, pool.clone());
    }
    match &desired.boot {
        Some(boot) => {
            let devices: BTreeSet<&str> = plan.set.keys().map(String::as_str).collect();
            let missing = missing_devices(boot, &devices);
            plan.refusals.extend(missing);
            plan.sets("boot", None, boot.clone());
        }
        None => {
            let devices = default_boot(desired);
            if !devices.is_empty() {
                plan.sets("boot", None, normalise::boot_text(&devices));
            }
        }
    }
    plan
}

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
    boot(&mut plan, desired, have);
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
                let mut tags = normalise::tags(current.unwrap_or_default());
                tags.extend(normalise::tags(want));
                let all = tags.into_iter().collect::<Vec<_>>().join(";");
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
    let mut tags = normalise::tags(current.unwrap_or_default());
    if tags.insert(own.to_owned()) {
        let text = tags.into_iter().collect::<Vec<_>>().join(";");
        plan.sets("tags", current, text);
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

fn boot(plan: &mut Plan, desired: &Desired, have: &Config) {
    let devices: BTreeSet<&str> = have
        .keys()
        .chain(plan.set.keys())
        .filter(|key| !plan.delete.contains(*key))
        .map(String::as_str)
        .collect();
    let current = have.get("boot").map(String::as_str);
    let drives_change = plan
        .set
        .keys()
        .chain(&plan.delete)
        .any(|key| drive::is_key(key));
    let (text, refusals) = match &desired.boot {
        Some(want) => (Some(want.clone()), missing_devices(want, &devices)),
        // PVE appends each CD-ROM that is set: put the order back, less what is gone.
        None if drives_change => {
            let kept = current.and_then(normalise::boot).map(|order| {
                order
                    .into_iter()
                    .filter(|device| devices.contains(device))
                    .collect::<Vec<_>>()
            });
            (
                kept.filter(|order| !order.is_empty())
                    .map(|order| normalise::boot_text(&order)),
                Vec::new(),
            )
        }
        None => return,
    };
    let Some(text) = text else { return };
    plan.refusals.extend(refusals);
    if normalise::same("boot", &text, current) {
        plan.shows("boot", current, current);
    } else {
        plan.shows("boot", current, Some(&text));
    }
    // Together with the rest where that does not change it: a record in the notes and the order that belongs to it are one write.
    if drives_change {
        plan.boot = Some(text);
    } else if !normalise::same("boot", &text, current) {
        plan.set.insert("boot".into(), text);
    }
}

/// What is wrong with a boot order: the devices that there will not be. PVE refuses them too, but only
/// when an existing VM is changed.
fn missing_devices(boot: &str, devices: &BTreeSet<&str>) -> Vec<String> {
    normalise::boot(boot)
        .unwrap_or_default()
        .into_iter()
        .filter(|device| !devices.contains(device))
        .map(|device| format!("boot names {device}, which the VM will not have"))
        .collect()
}

/// The boot order of a new VM when none is described: first disk, first ISO, first network card.
/// PVE's own choice would take a cloud-init drive for the CD-ROM to boot from.
fn default_boot(desired: &Desired) -> Vec<&str> {
    let first = |is: fn(&Drive) -> bool| {
        let mut keys: Vec<&str> = desired
            .drives
            .iter()
            .filter(|(key, drive)| !drive::is_state_disk(key) && is(drive))
            .map(|(key, _)| key.as_str())
            .collect();
        keys.sort_by_key(|key| position(key));
        keys.into_iter().next()
    };
    let disk = first(|drive| !drive.is_cdrom());
    let iso = first(|drive| matches!(drive.source, Source::Iso(_)));
    let mut nics: Vec<&str> = desired
        .nics
        .iter()
        .filter(|(_, nic)| nic.is_some())
        .map(|(key, _)| key.as_str())
        .collect();
    nics.sort_by_key(|key| position(key));
    disk.into_iter()
        .chain(iso)
        .chain(nics.into_iter().next())
        .collect()
}

/// Where a device stands among others: by bus, then by number (scsi2 before scsi10).
fn position(key: &str) -> (usize, u32) {
    let stem = key.trim_end_matches(|c: char| c.is_ascii_digit());
    let bus = ["scsi", "virtio", "sata", "ide", "net"]
        .iter()
        .position(|bus| *bus == stem);
    let number = key
        .strip_prefix(stem)
        .filter(|n| text::is_index(n))
        .and_then(|n| n.parse().ok());
    (bus.unwrap_or(usize::MAX), number.unwrap_or(u32::MAX))
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

fn with_size(text: &str, bytes: u64) -> String {
    match PropertyString::parse(text, Some("file")) {
        Ok(mut parts) => {
            parts.set("size", property::format_size(bytes));
            parts.to_string()
        }
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
