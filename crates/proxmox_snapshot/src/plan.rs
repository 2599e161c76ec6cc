//! What is and what is wanted, to the steps in between or a refusal. Nothing here asks anybody.

use ansible_module::Diff;
use serde_json::{Map, Value, json};

use crate::desired::{Action, Desired, Retention};
use crate::error::Error;
use crate::state::{Snapshot, Vm, installation, scalar};

/// Options that a rollback does not restore, and those of the snapshot itself (PVE::AbstractConfig, `__snapshot_copy_config` and
/// `__snapshot_apply_config`). `vmgenid` is new after each rollback.
const NOT_RESTORED: [&str; 13] = [
    "description",
    "digest",
    "lock",
    "parent",
    "pending",
    "running-nets-host-mtu",
    "runningcpu",
    "runningmachine",
    "snapstate",
    "snaptime",
    "vmgenid",
    "vmstate",
    "snapshots",
];
/// Options that hold secrets: only that they are set is shown.
const SECRETS: [&str; 2] = ["cipassword", "sshkeys"];

/// One change of the VM or of a snapshot: one call of PVE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Create {
        /// Save the memory of the guest, too.
        vmstate: bool,
        /// Its description, if it has one.
        description: Option<String>,
    },
    Describe {
        description: String,
    },
    Delete {
        name: String,
        /// Pass over disks that fail.
        force: bool,
    },
    /// Roll the VM back to the snapshot.
    RollBack {
        /// It has the guest's memory, so the VM runs afterwards.
        resumes: bool,
    },
    Start,
}

impl Step {
    /// The privilege on the VM that PVE wants for it; `|` stands between those of which one is enough.
    pub fn privilege(&self) -> &'static str {
        match self {
            Self::Create { .. } | Self::Describe { .. } | Self::Delete { .. } => "VM.Snapshot",
            Self::RollBack { .. } => "VM.Snapshot.Rollback|VM.Snapshot",
            Self::Start => "VM.PowerMgmt",
        }
    }
}

/// The steps from what is to what is wanted.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// They are carried out in this order.
    pub steps: Vec<Step>,
    /// The difference that all steps make.
    pub diff: Diff,
    /// What the user might not expect.
    pub warnings: Vec<String>,
}

/// Plan the steps from the VM's current state to the desired one.
///
/// # Errors
/// What about the VM or its snapshots does not allow the action.
pub fn plan(desired: &Desired, vm: &Vm) -> Result<Plan, Error> {
    let name = &desired.snapname;
    let plan = match &desired.action {
        Action::Present {
            description,
            vmstate,
            retention,
        } => match vm.snapshot(name) {
            Some(there) => present(vm, there, description.as_deref())?,
            None => create(vm, name, description, *vmstate, retention.as_ref())?,
        },
        Action::Absent { force } => match vm.snapshot(name) {
            Some(there) => deletion(there, *force),
            None => Plan::default(),
        },
        Action::RollBack { start } => rollback(vm, name, *start)?,
    };
    if !plan.steps.is_empty() && !desired.allow_during_installation {
        refuse_installation(vm.vmid, &vm.object(), &vm.config)?;
    }
    Ok(Plan {
        diff: plan.diff.header(vm.object()),
        ..plan
    })
}

/// Refuse a VM whose installation by the role is not finished, by its configuration.
///
/// # Errors
/// [`Error::Installing`].
pub fn refuse_installation(
    vmid: u32,
    object: &str,
    config: &Map<String, Value>,
) -> Result<(), Error> {
    let Some((host, phase)) = installation(vmid, config) else {
        return Ok(());
    };
    Err(Error::Installing {
        object: object.to_owned(),
        host,
        phase,
    })
}

fn present(vm: &Vm, there: &Snapshot, description: Option<&str>) -> Result<Plan, Error> {
    refuse_incomplete(vm, there)?;
    // PVE drops white space at the end of a description when it reads the configuration.
    let differs = |text: &&str| text.trim_end() != there.description.trim_end();
    let Some(description) = description.filter(differs) else {
        return Ok(Plan::default());
    };
    let shown = |text: &str| json!({"snapshots": {&there.name: {"description": text}}});
    Ok(Plan {
        steps: vec![Step::Describe {
            description: description.to_owned(),
        }],
        diff: Diff::new(shown(&there.description), shown(description)),
        warnings: Vec::new(),
    })
}

fn create(
    vm: &Vm,
    name: &str,
    description: &Option<String>,
    vmstate: bool,
    retention: Option<&Retention>,
) -> Result<Plan, Error> {
    refuse_template(vm)?;
    if vm.can_snapshot == Some(false) {
        return Err(Error::DisksUnsupported {
            object: vm.object(),
            vmid: vm.vmid,
            disks: vm.disks(),
        });
    }
    let description = description.as_ref().filter(|text| !text.is_empty());
    let memory = vmstate && vm.running;
    let mut warnings = Vec::new();
    if vmstate && !vm.running {
        warnings.push(format!(
            "vmstate: {} is stopped, so the snapshot {name} has no memory of a guest",
            vm.object()
        ));
    }
    let mut steps = vec![Step::Create {
        vmstate: memory,
        description: description.cloned(),
    }];
    let surplus = retention.map(|retention| surplus(vm, retention));
    let mut before = Map::new();
    for old in surplus.into_iter().flatten() {
        before.insert(old.name.clone(), shown(old));
        steps.push(Step::Delete {
            name: old.name.clone(),
            force: false,
        });
    }
    let new = json!({"description": description.map_or("", String::as_str), "vmstate": memory});
    Ok(Plan {
        steps,
        diff: Diff::new(
            json!({"snapshots": before}),
            json!({"snapshots": {name: new}}),
        ),
        warnings,
    })
}

/// The snapshots that are too many once another one is made, the oldest first.
fn surplus<'a>(vm: &'a Vm, retention: &Retention) -> Vec<&'a Snapshot> {
    let counted = vm
        .snapshots
        .iter()
        .filter(|one| one.is_counted_by(retention));
    let mut old: Vec<&Snapshot> = counted.collect();
    old.sort_by_key(|snapshot| (snapshot.snaptime, &snapshot.name));
    let most = retention.keep.saturating_sub(1);
    old.truncate(old.len().saturating_sub(most));
    old
}

fn deletion(there: &Snapshot, force: bool) -> Plan {
    Plan {
        steps: vec![Step::Delete {
            name: there.name.clone(),
            force,
        }],
        diff: Diff::new(
            json!({"snapshots": {&there.name: shown(there)}}),
            json!({"snapshots": {}}),
        ),
        warnings: Vec::new(),
    }
}

fn rollback(vm: &Vm, name: &str, start: bool) -> Result<Plan, Error> {
    refuse_template(vm)?;
    let Some(there) = vm.snapshot(name) else {
        return Err(Error::SnapshotNotFound {
            object: vm.object(),
            name: name.to_owned(),
            snapshots: vm.snapshots.iter().map(|one| one.name.clone()).collect(),
        });
    };
    refuse_incomplete(vm, there)?;
    let resumes = there.vmstate == 1;
    let mut steps = vec![Step::RollBack { resumes }];
    if start && !resumes {
        steps.push(Step::Start);
    }
    let runs = start || resumes;
    let word = |runs: bool| if runs { "running" } else { "stopped" };
    let empty = Map::new();
    let then = vm.snapshot_config.as_ref().unwrap_or(&empty);
    let mut before = differing(&vm.config, then);
    let mut after = differing(then, &vm.config);
    for (side, parent, runs) in [
        (&mut before, vm.parent.as_deref(), vm.running),
        (&mut after, Some(name), runs),
    ] {
        side.insert("status".into(), word(runs).into());
        side.insert("parent".into(), parent.into());
    }
    let mut warnings = Vec::new();
    if vm.running && !runs {
        warnings.push(format!(
            "{} runs now and is stopped after the rollback; start: true starts it",
            vm.object()
        ));
    }
    Ok(Plan {
        steps,
        diff: Diff::new(before, after),
        warnings,
    })
}

/// The options of a configuration that another one does not have so.
fn differing(of: &Map<String, Value>, other: &Map<String, Value>) -> Map<String, Value> {
    let restored = |key: &str| !NOT_RESTORED.contains(&key) && !key.starts_with("unused");
    let mut found = Map::new();
    for (key, value) in of.iter().filter(|(key, _)| restored(key)) {
        let secret = SECRETS.contains(&key.as_str());
        if secret && !other.contains_key(key) {
            found.insert(key.clone(), "(set)".into());
        } else if !secret && scalar(Some(value)) != scalar(other.get(key)) {
            found.insert(key.clone(), value.clone());
        }
    }
    found
}

fn shown(snapshot: &Snapshot) -> Value {
    json!({"description": snapshot.description, "vmstate": snapshot.vmstate == 1})
}

fn refuse_template(vm: &Vm) -> Result<(), Error> {
    match vm.is_template() {
        true => Err(Error::Template {
            object: vm.object(),
        }),
        false => Ok(()),
    }
}

fn refuse_incomplete(vm: &Vm, there: &Snapshot) -> Result<(), Error> {
    match &there.snapstate {
        Some(snapstate) => Err(Error::Incomplete {
            object: vm.object(),
            vmid: vm.vmid,
            node: vm.node.clone(),
            name: there.name.clone(),
            snapstate: snapstate.clone(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
