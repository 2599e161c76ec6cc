//! A VM that does not exist yet.

use std::collections::BTreeSet;

use crate::config::normalise;
use crate::desired::Desired;
use crate::plan::boot;
use crate::plan::steps::Plan;

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
            let missing = boot::missing_devices(boot, &devices);
            plan.refusals.extend(missing);
            plan.sets("boot", None, boot.clone());
        }
        None => {
            let devices = boot::default_boot(desired);
            if !devices.is_empty() {
                plan.sets("boot", None, normalise::boot_text(&devices));
            }
        }
    }
    plan
}
