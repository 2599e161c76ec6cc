//! What the lifecycle of an installation asks of a VM's record. It is not an option of the module: `nixos_vm_lifecycle`, which keeps
//! the records, passes it.

use ansible_module::Failure;
use pve_module::record::{Binding, Identity, Phase, Record, record_lines};

use crate::error::{Error, RecordProblem};
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
/// [`Error::Recorded`].
pub(crate) fn check_unrecorded(vm: &State) -> Result<(), Error> {
    match vm.config.get("description") {
        Some(notes) if record_lines(notes).is_some() => {
            let object = vm.object();
            Err(Error::Recorded { object })
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
        let problem = self.problem(vmid, notes, identity);
        problem.map_or(Ok(()), |problem| {
            let object = object.to_owned();
            Err(Error::Record { object, problem }.into())
        })
    }

    fn problem(
        &self,
        vmid: u32,
        notes: Option<&str>,
        identity: &Identity,
    ) -> Option<RecordProblem> {
        let Some(record) = Record::find(notes.unwrap_or_default()) else {
            return Some(RecordProblem::Gone);
        };
        match record.binding(vmid, identity) {
            Binding::Ours => {}
            // What is finished may be rolled back; what is not was when the identity changed under the run.
            Binding::RolledBack if !record.phase.unfinished() => {}
            Binding::RolledBack => return Some(RecordProblem::RolledBack),
            Binding::Copied => return Some(RecordProblem::OtherVm),
        }
        if record.installation != self.installation {
            return Some(RecordProblem::OtherInstallation);
        }
        if !self.runs.contains(&record.run) {
            return Some(RecordProblem::TakenOver);
        }
        (!self.phases.contains(&record.phase)).then_some(RecordProblem::Phase(record.phase))
    }
}
