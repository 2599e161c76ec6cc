//! The options as one action with what belongs to it.

use crate::options::{Options, State};

/// The names that PVE keeps for itself (PVE::API2::Qemu, `snapshot`): the first as it is, the second in any case.
const RESERVED: [&str; 2] = ["current", "pending"];
/// The bounds of a snapshot's name (`pve-snapshot-name`: format `pve-configid`, maxLength 40).
const NAME_LENGTH: std::ops::RangeInclusive<usize> = 2..=40;

/// What to do with the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make sure that it exists.
    Present {
        /// Its description, if that matters.
        description: Option<String>,
        /// Whether the memory of a running guest is saved, too.
        vmstate: bool,
        /// Which snapshots are deleted when it is created.
        retention: Option<Retention>,
    },
    /// Make sure that it does not exist.
    Absent {
        /// Pass over disks that fail.
        force: bool,
    },
    /// Roll the VM back to it.
    RollBack { start: bool },
}

/// Which snapshots are deleted when another one is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// How many are kept, the new one among them: at least 1.
    pub keep: usize,
    /// The prefix of the names of those that count.
    pub prefix: String,
}

/// What the options ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    pub snapname: String,
    /// What to do with it.
    pub action: Action,
    /// Work on a VM that is being installed, too.
    pub allow_during_installation: bool,
}

impl Desired {
    /// What the options ask for.
    ///
    /// # Errors
    /// Every mistake, each a text that begins with the name of its option.
    pub fn from_options(options: &Options) -> Result<Self, Vec<String>> {
        let mut mistakes = Vec::new();
        mistakes.extend(name_mistake(&options.snapname));
        let action = match options.state {
            State::Present => Action::Present {
                description: options.description.clone(),
                vmstate: options.vmstate,
                retention: retention(options, &mut mistakes),
            },
            State::Absent => Action::Absent {
                force: options.force,
            },
            State::RolledBack | State::Rollback => Action::RollBack {
                start: options.start,
            },
        };
        match mistakes.is_empty() {
            true => Ok(Self {
                snapname: options.snapname.clone(),
                action,
                allow_during_installation: options.allow_during_installation,
            }),
            false => Err(mistakes),
        }
    }
}

fn retention(options: &Options, mistakes: &mut Vec<String>) -> Option<Retention> {
    let keep = usize::try_from(options.retention).unwrap_or(usize::MAX);
    match &options.retention_prefix {
        _ if keep == 0 => None,
        None => {
            mistakes.push(
                "retention_prefix: is required with retention, so that only snapshots of such names are deleted; '' stands for \
                 every snapshot of the VM"
                    .into(),
            );
            None
        }
        Some(prefix) if !options.snapname.starts_with(prefix) => {
            mistakes.push(format!(
                "snapname: must begin with retention_prefix '{prefix}' (got '{}')",
                options.snapname
            ));
            None
        }
        Some(prefix) => Some(Retention {
            keep,
            prefix: prefix.clone(),
        }),
    }
}

/// Why PVE would not take the name of a snapshot.
fn name_mistake(name: &str) -> Option<String> {
    if name == RESERVED[0] || name.eq_ignore_ascii_case(RESERVED[1]) {
        return Some(format!("snapname: '{name}' is reserved by Proxmox VE"));
    }
    let mut bytes = name.bytes();
    let is_id = bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    (!is_id || !NAME_LENGTH.contains(&name.len())).then(|| {
        format!(
            "snapname: must be a letter followed by letters, digits, _ and -, 2 to 40 characters in all (got '{name}')"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn desired(mut options: Value) -> Result<Desired, Vec<String>> {
        options["api_host"] = json!(["pve"]);
        Desired::from_options(&serde_json::from_value(options).unwrap())
    }

    #[test]
    fn names_that_pve_takes() {
        for name in ["s1", "before-upgrade", "A_b-9", "Current", &"s".repeat(40)] {
            assert!(desired(json!({"snapname": name})).is_ok(), "{name}");
        }
        for name in [
            "",
            "s",
            "1x",
            "-x",
            "a b",
            "a.b",
            "ä1",
            "current",
            "pending",
            "Pending",
            &"s".repeat(41),
        ] {
            let mistakes = desired(json!({"snapname": name})).unwrap_err();
            assert!(mistakes[0].starts_with("snapname: "), "{mistakes:?}");
        }
        assert_eq!(desired(json!({})).unwrap().snapname, "ansible_snap");
    }

    #[test]
    fn rollback_is_another_word_for_rolled_back() {
        for state in ["rolled_back", "rollback"] {
            let desired = desired(json!({"state": state, "start": true})).unwrap();
            assert_eq!(desired.action, Action::RollBack { start: true });
        }
    }

    #[test]
    fn retention_needs_to_know_which_snapshots_it_may_delete() {
        let retention = |more: Value| {
            desired(more).map(|desired| match desired.action {
                Action::Present { retention, .. } => retention,
                other => panic!("{other:?}"),
            })
        };
        let base = json!({"snapname": "auto-2", "retention": 2});
        let with = |prefix: &str| {
            let mut options = base.clone();
            options["retention_prefix"] = json!(prefix);
            retention(options)
        };
        assert!(
            retention(base.clone()).unwrap_err()[0].starts_with("retention_prefix: is required")
        );
        assert!(
            with("daily-").unwrap_err()[0].contains("must begin with retention_prefix 'daily-'")
        );
        for prefix in ["auto-", ""] {
            let expected = Retention {
                keep: 2,
                prefix: prefix.into(),
            };
            assert_eq!(with(prefix).unwrap(), Some(expected));
        }
        assert_eq!(
            retention(json!({"retention_prefix": "x-"})).unwrap(),
            None,
            "without retention it has no effect"
        );
        let absent = desired(json!({"state": "absent", "retention": 2})).unwrap();
        assert_eq!(absent.action, Action::Absent { force: false });
    }
}
