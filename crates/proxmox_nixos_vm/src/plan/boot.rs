//! The boot order of a VM whose devices change.

use std::collections::BTreeSet;

use crate::config::drive::{self, Drive, Source};
use crate::config::{Config, normalise};
use crate::desired::Desired;
use crate::plan::steps::Plan;

/// Plan the boot order: the described one, or the one that there is, less the devices that are removed.
pub fn plan_order(plan: &mut Plan, desired: &Desired, have: &Config) {
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
pub fn missing_devices(boot: &str, devices: &BTreeSet<&str>) -> Vec<String> {
    normalise::boot(boot)
        .unwrap_or_default()
        .into_iter()
        .filter(|device| !devices.contains(device))
        .map(|device| format!("boot names {device}, which the VM will not have"))
        .collect()
}

/// The boot order of a new VM when none is described: first disk, first ISO, first NIC.
/// PVE's own choice would take a cloud-init drive for the CD-ROM to boot from.
pub fn default_boot(desired: &Desired) -> Vec<&str> {
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
        .filter(|n| pve_schema::syntax::is_index(n))
        .and_then(|n| n.parse().ok());
    (bus.unwrap_or(usize::MAX), number.unwrap_or(u32::MAX))
}
