//! What to do: pure decisions.

use crate::options::{Action, Reboot};
use crate::state::{BootParts, Machine};

/// The system that is to be deployed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Its store path.
    pub system: String,
    /// The number of the generation that it is on the machine, if it is one of those.
    pub generation: Option<u32>,
    /// What it boots with. None if it is not built.
    pub parts: Option<BootParts>,
}

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Copy the system to the machine.
    Copy,
    /// Have the machine take the action.
    Activate,
    /// Restart it.
    Reboot,
}

/// What to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In order. Empty if the machine is as it should be.
    pub steps: Vec<Step>,
    /// Whether the machine runs with another kernel, initrd or modules than its next boot would. None if that is not known.
    pub reboot_required: Option<bool>,
}

impl Plan {
    /// Whether something on the machine changes that is more than its store.
    pub fn changes(&self) -> bool {
        self.steps.iter().any(|step| *step != Step::Copy)
    }
}

/// Compare what the machine runs with what is wanted.
pub fn plan(machine: &Machine, wanted: &Wanted, action: Action, reboot: Reboot) -> Plan {
    let runs = machine.current == wanted.system;
    let boots = machine.profile.as_ref() == Some(&wanted.system);
    let done = match action {
        Action::Switch => runs && boots,
        Action::Boot => boots,
        Action::Test | Action::DryActivate => runs,
    };
    let reboot_required = match action {
        // The next boot starts what it would start now.
        Action::Test | Action::DryActivate => None,
        Action::Switch | Action::Boot => needs_reboot(machine, wanted, action),
    };
    let mut steps = Vec::new();
    if !done {
        if wanted.generation.is_none() {
            steps.push(Step::Copy);
        }
        if action != Action::DryActivate {
            steps.push(Step::Activate);
        }
    }
    // Not known: it is looked at again when the system is there.
    if reboot == Reboot::IfNeeded && reboot_required == Some(true) {
        steps.push(Step::Reboot);
    }
    Plan {
        steps,
        reboot_required,
    }
}

fn needs_reboot(machine: &Machine, wanted: &Wanted, action: Action) -> Option<bool> {
    if action == Action::Boot && machine.current != wanted.system {
        return Some(true);
    }
    if machine.booted.as_ref() == Some(&wanted.system) {
        return Some(false);
    }
    machine.booted.as_ref()?;
    wanted
        .parts
        .as_ref()
        .map(|parts| *parts != machine.booted_parts)
}
