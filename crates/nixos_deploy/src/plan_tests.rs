//! Every combination that matters of what runs, what is wanted and what is asked for.

use crate::options::{Action, Reboot};
use crate::plan::{Plan, Step, Wanted, plan};
use crate::state::{BootParts, Machine};

fn parts(kernel: &str) -> BootParts {
    [Some(kernel.into()), Some("initrd".into()), None]
}

/// Runs `current`, boots `profile`, was booted as `old` with the kernel `k1`.
fn machine(current: &str, profile: &str) -> Machine {
    Machine {
        current: current.into(),
        profile: Some(profile.into()),
        booted: Some("old".into()),
        booted_parts: parts("k1"),
        ..Machine::default()
    }
}

fn wanted(system: &str, kernel: &str) -> Wanted {
    Wanted {
        system: system.into(),
        generation: None,
        parts: Some(parts(kernel)),
    }
}

/// What runs, what the next boot starts, what is wanted and its kernel, what is asked for; the steps, and whether a restart is required.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Action,
    Reboot,
    &'static [Step],
    Option<bool>,
);

#[test]
fn what_is_done_is_not_done_again() {
    use Action::{Boot, DryActivate, Switch, Test};
    use Step::{Activate, Copy, Reboot as Restart};
    let (never, if_needed) = (Reboot::Never, Reboot::IfNeeded);
    let rows: [Row; 15] = [
        (
            "old",
            "old",
            "new",
            "k1",
            Switch,
            never,
            &[Copy, Activate],
            Some(false),
        ),
        ("new", "new", "new", "k1", Switch, never, &[], Some(false)),
        ("new", "new", "new", "k2", Switch, never, &[], Some(true)),
        (
            "new",
            "new",
            "new",
            "k2",
            Switch,
            if_needed,
            &[Restart],
            Some(true),
        ),
        (
            "old",
            "old",
            "new",
            "k2",
            Switch,
            if_needed,
            &[Copy, Activate, Restart],
            Some(true),
        ),
        // Tested and not yet for good; set for the next boot and not yet active.
        (
            "new",
            "old",
            "new",
            "k1",
            Switch,
            never,
            &[Copy, Activate],
            Some(false),
        ),
        (
            "old",
            "new",
            "new",
            "k1",
            Switch,
            never,
            &[Copy, Activate],
            Some(false),
        ),
        ("old", "new", "new", "k1", Boot, never, &[], Some(true)),
        (
            "old",
            "new",
            "new",
            "k1",
            Boot,
            if_needed,
            &[Restart],
            Some(true),
        ),
        (
            "old",
            "old",
            "new",
            "k1",
            Boot,
            never,
            &[Copy, Activate],
            Some(true),
        ),
        (
            "new",
            "old",
            "new",
            "k1",
            Boot,
            never,
            &[Copy, Activate],
            Some(false),
        ),
        (
            "old",
            "old",
            "new",
            "k2",
            Test,
            if_needed,
            &[Copy, Activate],
            None,
        ),
        ("new", "old", "new", "k2", Test, never, &[], None),
        ("old", "old", "new", "k2", DryActivate, never, &[Copy], None),
        // Back to what was booted.
        (
            "new",
            "new",
            "old",
            "k1",
            Switch,
            if_needed,
            &[Copy, Activate],
            Some(false),
        ),
    ];
    for (current, profile, system, kernel, action, reboot, steps, required) in rows {
        let expected = Plan {
            steps: steps.to_vec(),
            reboot_required: required,
        };
        let found = plan(
            &machine(current, profile),
            &wanted(system, kernel),
            action,
            reboot,
        );
        assert_eq!(
            found, expected,
            "{current} {profile} {system} {kernel} {action:?} {reboot:?}"
        );
    }
}

#[test]
fn what_the_machine_has_is_not_copied() {
    let wanted = Wanted {
        generation: Some(1),
        ..wanted("older", "k1")
    };
    let plan = plan(
        &machine("old", "old"),
        &wanted,
        Action::Switch,
        Reboot::Never,
    );
    assert_eq!(plan.steps, [Step::Activate]);
    assert!(plan.changes());
}

#[test]
fn what_is_not_known_is_not_claimed() {
    let not_built = Wanted {
        parts: None,
        ..wanted("new", "k1")
    };
    let found = plan(
        &machine("old", "old"),
        &not_built,
        Action::Switch,
        Reboot::IfNeeded,
    );
    assert_eq!(
        (found.steps, found.reboot_required),
        (vec![Step::Copy, Step::Activate], None)
    );
    let unknown = Machine {
        booted: None,
        ..machine("old", "old")
    };
    let found = plan(
        &unknown,
        &wanted("new", "k1"),
        Action::Switch,
        Reboot::Never,
    );
    assert_eq!(found.reboot_required, None);
    let dry = plan(
        &machine("old", "old"),
        &wanted("new", "k1"),
        Action::DryActivate,
        Reboot::Never,
    );
    assert!(!dry.changes());
}
