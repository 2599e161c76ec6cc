//! What the task answers.

use std::collections::BTreeMap;

use ansible_module::{Diff, Outcome};
use nocloud_seed::Seed;
use serde_json::{Map, Value, json};

use crate::plan::{Plan, Wanted};
use crate::state::{Current, Medium, Vm};

/// A task that did not fail.
pub(crate) struct Ended<'a> {
    pub(crate) vmid: u32,
    pub(crate) drive: &'a str,
    pub(crate) wanted: &'a Wanted,
    /// The VM before the task.
    pub(crate) before: Option<&'a Vm>,
    /// The VM after the task; in check mode as it was before.
    pub(crate) after: Option<&'a Vm>,
    /// The content of the seed that is wanted.
    pub(crate) seed: Option<&'a Seed>,
    /// What was done, a sentence each.
    pub(crate) done: &'a [String],
}

impl Ended<'_> {
    /// Everything was as described.
    pub(crate) fn unchanged(&self) -> Outcome {
        Outcome::unchanged(self.what())
    }

    /// In check mode: something is not as described.
    pub(crate) fn would_change(&self) -> Outcome {
        Outcome::changed(format!("would change: {}", self.what()))
    }

    /// Something was changed.
    pub(crate) fn changed(&self) -> Outcome {
        let what = self.what();
        Outcome::changed(match self.done {
            [] => format!("{what}: changed; the answer of Proxmox VE was lost"),
            done => format!("{what}: {}", done.join("; ")),
        })
    }

    /// What holds now, in words.
    fn what(&self) -> String {
        let Self { vmid, drive, .. } = self;
        match (self.wanted, self.before) {
            (Wanted::Absent, None) => format!("VM {vmid} does not exist"),
            (Wanted::Absent, Some(_)) => format!("VM {vmid} has no cloud-init drive"),
            (Wanted::Nocloud { volid, .. }, _) => {
                format!("VM {vmid} has the seed {volid} in {drive}")
            }
            (Wanted::Native { .. }, _) => {
                format!("VM {vmid} has a native cloud-init drive in {drive}")
            }
        }
    }

    /// The outcome with the values that are returned.
    pub(crate) fn values(&self, outcome: Outcome) -> Outcome {
        let line = self.after.and_then(|vm| vm.config.get(self.drive));
        let volid = match self.wanted {
            Wanted::Nocloud { volid, .. } => Some(volid.to_string()),
            _ => self
                .after
                .and_then(|vm| native_volid(vm, self.drive, self.vmid)),
        };
        let mut outcome = outcome
            .with("vmid", self.vmid)
            .with("drive", self.drive)
            .with(
                "restart_required",
                line.is_some_and(|line| line.now != line.next),
            );
        if let Some(volid) = volid {
            outcome = outcome.with("volid", volid);
        }
        if let Some(seed) = self.seed {
            outcome = outcome.with("instance_id", seed.instance_id());
        }
        outcome
    }
}

/// The volume of a native drive.
fn native_volid(vm: &Vm, drive: &str, vmid: u32) -> Option<String> {
    let value = vm.next(drive)?;
    let volume = value.split(',').next()?;
    (Vm::medium(value, vmid) == Medium::Native).then(|| volume.to_owned())
}

/// What differs. Secrets are not in it: user-data and passwords only as "changed".
pub(crate) fn diff(
    vmid: u32,
    drive: &str,
    plan: &Plan,
    current: &Current,
    seed: Option<&Seed>,
) -> Diff {
    let next = |key: &str| current.vm.as_ref().and_then(|vm| vm.next(key));
    let shown = |key: &str, value: &str| match key {
        "cipassword" | "cicustom" => json!("(set)"),
        _ => json!(value),
    };
    let (mut before, mut after) = (Map::new(), Map::new());
    for key in plan.detach.iter().chain(&plan.clear).chain(plan.set.keys()) {
        if let Some(value) = next(key) {
            before.insert(key.clone(), shown(key, value));
        }
    }
    if let Some(medium) = &plan.attach {
        if let Some(value) = next(drive) {
            before.insert(drive.to_owned(), json!(value));
        }
        after.insert(drive.to_owned(), json!(format!("{medium},media=cdrom")));
    }
    for (key, value) in &plan.set {
        after.insert(key.clone(), shown(key, value));
    }
    if plan.set_password {
        if next("cipassword").is_some() {
            before.insert("cipassword".into(), json!("(set)"));
        }
        after.insert("cipassword".into(), json!("(set anew)"));
    }
    if plan.regenerate {
        after.insert("cloud-init drive".into(), json!("written anew"));
    }
    if !plan.delete.is_empty() {
        let volids: Vec<String> = plan.delete.iter().map(ToString::to_string).collect();
        before.insert("seed ISOs".into(), json!(volids));
    }
    if plan.upload
        && let Some(seed) = seed
    {
        let files: BTreeMap<String, Value> = seed
            .fingerprints()
            .into_iter()
            .map(|(name, sha256)| (name, json!(format!("sha256:{}", &sha256[..12]))))
            .collect();
        after.insert("uploaded".into(), json!(files));
    }
    Diff::new(before, after).header(format!("cloud-init drive of VM {vmid}"))
}
