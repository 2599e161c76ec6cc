//! What the lifecycle of an installation asks of a VM's record. It is not an option of the module: `nixos_vm_lifecycle`, which keeps
//! the records, passes it.

use ansible_module::{Failure, FailureKind};
use pve_module::record::{Binding, Identity, Phase, Record, record_lines};

use crate::state::State;

/// The record that a VM must have, and the one that it gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ownership {
    /// What the record must say, as it is read together with the digest that guards each write. Without it any VM is meant.
    pub expect: Option<Expect>,
    /// The record to write. Its VMID is filled in if it is 0: that of a new VM is known only when it is made.
    pub write: Option<Record>,
    /// The VM must be a new one: one that exists already is refused, since it is somebody else's.
    pub new: bool,
    /// The VM must have no record: one that was written meanwhile counts.
    pub unrecorded: bool,
    /// Add the option `tags` to the tags that the VM has, instead of replacing them.
    pub add_tags: bool,
    /// The option `name` renames the VM with the option `vmid`.
    pub rename: bool,
}

/// Refuse a VM that has a record.
///
/// # Errors
/// Kind `guarded`.
pub fn check_unrecorded(vm: &State) -> Result<(), Failure> {
    match vm.config.get("description") {
        Some(notes) if record_lines(notes).is_some() => {
            let object = vm.object();
            let msg = format!("{object}: its notes have a record by now; nothing was done to it");
            Err(Failure::new(FailureKind::Guarded, msg)
                .object(object)
                .hint("run the play again: it decides by what it finds"))
        }
        _ => Ok(()),
    }
}

/// What a record must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    /// The installation.
    pub installation: String,
    /// The runs that may be at work: the one that was found, and this one.
    pub runs: Vec<String>,
    /// The phases that it may be in: the one that was found, and the one to come.
    pub phases: Vec<Phase>,
}

impl Expect {
    /// Refuse a VM whose record says something else.
    ///
    /// # Errors
    /// Kind `taken_over` when another run is at work, kind `guarded` otherwise.
    pub fn check(&self, vm: &State) -> Result<(), Failure> {
        let text = |key: &str| vm.config.get(key).map(String::as_str);
        self.check_notes(
            &vm.object(),
            vm.vmid,
            text("description"),
            &Identity::of(text("smbios1"), text("vmgenid")),
        )
    }

    /// The same for any reader of the VM's configuration.
    ///
    /// # Errors
    /// As those of [`Expect::check`].
    pub fn check_notes(
        &self,
        object: &str,
        vmid: u32,
        notes: Option<&str>,
        identity: &Identity,
    ) -> Result<(), Failure> {
        let refuse = |kind, why: &str, hint: &str| {
            let msg = format!("{object}: {why}; nothing more was done to it");
            Err(Failure::new(kind, msg).object(object).hint(hint))
        };
        let again = "look at the VM, then run the play again: it decides by what it finds";
        let Some(record) = Record::find(notes.unwrap_or_default()) else {
            let why = "its notes no longer have the record of this installation";
            return refuse(FailureKind::Guarded, why, again);
        };
        match record.binding(vmid, identity) {
            Binding::Ours => {}
            // What is finished may be rolled back; what is not was when the identity changed under the run.
            Binding::RolledBack if !record.phase.unfinished() => {}
            Binding::RolledBack => {
                let why =
                    "it was rolled back to a snapshot or restored from a backup during this run";
                return refuse(FailureKind::Guarded, why, again);
            }
            Binding::Copied => {
                return refuse(
                    FailureKind::Guarded,
                    "its record is that of another VM",
                    again,
                );
            }
        }
        if record.installation != self.installation {
            return refuse(
                FailureKind::Guarded,
                "its record is that of another installation",
                again,
            );
        }
        if !self.runs.contains(&record.run) {
            return refuse(
                FailureKind::TakenOver,
                "another run of the play has taken it over",
                "wait until that run has ended; if it failed, run the play again",
            );
        }
        if !self.phases.contains(&record.phase) {
            let why = format!("its phase is {} by now", record.phase);
            return refuse(FailureKind::Guarded, &why, again);
        }
        Ok(())
    }
}
