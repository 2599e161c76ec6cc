//! Tags that a VM must have, or must not have, for a task to touch it: a compare-and-set for whoever keeps state in tags.

pub mod ownership;

use std::collections::BTreeSet;

use ansible_module::Failure;
use serde_json::Value;

use crate::config::{normalise, validation};
use crate::error::Error;
use crate::guard::ownership::{Expect, check_unrecorded};
use crate::options::Options;
use crate::state::State;

/// What the tags of a VM must be, as they were read together with the digest that guards the change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guard {
    /// The tag of the VMs that the task may touch at all.
    own: Option<String>,
    /// Tags that it must have.
    required: BTreeSet<String>,
    /// Tags that it must not have.
    excluded: BTreeSet<String>,
    /// What its record must say.
    record: Option<Expect>,
    /// It must have no record.
    unrecorded: bool,
}

impl Guard {
    /// The guard that the options describe. The error names every mistake.
    pub fn from_options(options: &Options) -> Result<Self, String> {
        let mut mistakes = Vec::new();
        let mut one = |option: &str, tag: &str| {
            let tags: Vec<String> = normalise::tags(tag).into_iter().collect();
            match tags.as_slice() {
                [tag] if validation::tag(tag).is_ok() => Some(tag.clone()),
                _ => {
                    mistakes.push(format!("{option}: '{tag}' is not one tag"));
                    None
                }
            }
        };
        let guard = Self {
            own: options
                .guard_tag
                .as_deref()
                .and_then(|tag| one("guard_tag", tag)),
            required: options
                .only_if_tagged
                .iter()
                .filter_map(|tag| one("only_if_tagged", tag))
                .collect(),
            excluded: options
                .unless_tagged
                .iter()
                .filter_map(|tag| one("unless_tagged", tag))
                .collect(),
            record: None,
            unrecorded: false,
        };
        let both: Vec<&str> = guard
            .required
            .iter()
            .chain(&guard.own)
            .filter(|tag| guard.excluded.contains(*tag))
            .map(String::as_str)
            .collect();
        if !both.is_empty() {
            mistakes.push(format!(
                "unless_tagged: {} is demanded too, so no VM could be meant",
                both.join(", ")
            ));
        }
        if mistakes.is_empty() {
            Ok(guard)
        } else {
            Err(mistakes.join("; "))
        }
    }

    /// The same guard, for VMs with such a record only, or only for those without one.
    pub fn with_record(self, record: Option<Expect>, unrecorded: bool) -> Self {
        Self {
            record,
            unrecorded,
            ..self
        }
    }

    /// Refuse a VM that has other tags, or another record, than the guard wants.
    ///
    /// # Errors
    /// Kind `guarded`, and `taken_over` when another run is at work.
    pub fn check(&self, vm: &State) -> Result<(), Failure> {
        if let Some(record) = &self.record {
            record.check(vm)?;
        }
        if self.unrecorded {
            check_unrecorded(vm)?;
        }
        let mut tags = vm.tags();
        let notes = vm.config.get("description").map(String::as_str);
        if let (Some(own), Some(_)) = (&self.own, self.without_clone_note(notes)) {
            tags.insert(own.clone());
        }
        let Some(problem) = self.against(&tags) else {
            return Ok(());
        };
        let mut failure = Failure::from(Error::Tags {
            object: vm.object(),
            node: vm.node.clone(),
            problem,
            tags: tags.into_iter().collect(),
        });
        for (key, value) in vm.values() {
            if matches!(key.as_str(), "exists" | "vmid" | "node" | "name" | "tags") {
                failure = failure.with(key, value);
            }
        }
        Err(failure)
    }

    /// Refuse to make a VM where one with certain tags is wanted.
    ///
    /// # Errors
    /// Kind `guarded`.
    pub fn check_missing(&self, described: &str) -> Result<(), Failure> {
        if self.record.is_some() {
            let object = described.to_owned();
            return Err(Error::Gone { object }.into());
        }
        if self.required.is_empty() {
            return Ok(());
        }
        let tags: Vec<&str> = self.required.iter().map(String::as_str).collect();
        let failure = Failure::from(Error::MissingWithTag {
            object: described.to_owned(),
            tags: tags.join(", "),
        });
        Err(failure
            .with("exists", false)
            .with("tags", Value::Array(Vec::new())))
    }

    fn against(&self, tags: &BTreeSet<String>) -> Option<String> {
        if let Some(own) = self.own.as_ref().filter(|own| !tags.contains(*own)) {
            return Some(format!("it lacks the tag {own} (guard_tag)"));
        }
        if let Some(tag) = self.required.difference(tags).next() {
            return Some(format!("it lacks the tag {tag} (only_if_tagged)"));
        }
        self.excluded
            .intersection(tags)
            .next()
            .map(|tag| format!("it has the tag {tag} (unless_tagged)"))
    }

    /// The line in the notes of a clone that does not have its tags yet: PVE's call that clones takes a description and no
    /// tags, and whoever is killed between that call and the next shall know the clone again.
    fn clone_line(&self) -> Option<String> {
        let own = self.own.as_ref()?;
        Some(format!(
            "nixos-proxmox: a clone that gets the tag {own} next"
        ))
    }

    /// The notes of a new clone of a template with these notes; nothing without a guard tag.
    pub fn with_clone_note(&self, notes: Option<&str>) -> Option<String> {
        let line = self.clone_line()?;
        let notes = notes.unwrap_or_default().trim_end_matches('\n');
        Some(match notes {
            "" => line,
            notes => format!("{notes}\n{line}"),
        })
    }

    /// The notes as the template has them, if they are those of a clone that does not have its tags yet.
    pub fn without_clone_note(&self, notes: Option<&str>) -> Option<String> {
        let line = self.clone_line()?;
        let rest = notes?.trim_end_matches('\n').strip_suffix(&line)?;
        match rest.strip_suffix('\n') {
            Some(rest) => Some(rest.to_owned()),
            None => rest.is_empty().then(String::new),
        }
    }

    /// The tag that every VM of the task has.
    pub fn own(&self) -> Option<&str> {
        self.own.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_note_of_a_clone_comes_and_goes() {
        let ours = guard(json!({"guard_tag": "ours"})).unwrap();
        let theirs = guard(json!({"guard_tag": "theirs"})).unwrap();
        for notes in [None, Some("of the template"), Some("two\nlines\n")] {
            // As PVE gives it back.
            let with = ours.with_clone_note(notes).unwrap() + "\n";
            let rest = notes.unwrap_or_default().trim_end_matches('\n');
            assert_eq!(ours.without_clone_note(Some(&with)).as_deref(), Some(rest));
            assert_eq!(theirs.without_clone_note(Some(&with)), None);
            assert_eq!(ours.without_clone_note(notes), None);
        }
        assert_eq!(Guard::default().with_clone_note(None), None);
        let mentioned = format!("see {}", ours.with_clone_note(None).unwrap());
        assert_eq!(ours.without_clone_note(Some(&mentioned)), None);
    }

    fn guard(mut options: Value) -> Result<Guard, String> {
        options["api_host"] = json!(["pve"]);
        Guard::from_options(&serde_json::from_value(options).unwrap())
    }

    #[test]
    fn what_is_refused() {
        let guarded = guard(
            json!({"guard_tag": "Mine", "only_if_tagged": ["a", "b"], "unless_tagged": ["c"]}),
        )
        .unwrap();
        for (tags, part) in [
            ("mine;a;b", None),
            ("a;b;mine;z", None),
            ("a;b", Some("lacks the tag mine (guard_tag)")),
            ("mine;a", Some("lacks the tag b (only_if_tagged)")),
            ("mine;a;b;c", Some("has the tag c (unless_tagged)")),
        ] {
            let said = guarded.against(&normalise::tags(tags));
            assert_eq!(said.as_deref().map(|s| &s[3..]), part, "{tags}");
        }
        assert_eq!(Guard::default().against(&BTreeSet::new()), None);
        assert!(guarded.check_missing("VM x").is_err());
        assert!(
            guard(json!({"unless_tagged": ["c"]}))
                .unwrap()
                .check_missing("VM x")
                .is_ok()
        );
    }

    #[test]
    fn mistakes() {
        let error =
            guard(json!({"guard_tag": "a b", "only_if_tagged": [""], "unless_tagged": ["x;y"]}))
                .unwrap_err();
        assert_eq!(
            error,
            "guard_tag: 'a b' is not one tag; only_if_tagged: '' is not one tag; unless_tagged: 'x;y' is not one tag"
        );
        let error = guard(json!({"guard_tag": "a", "unless_tagged": ["A"]})).unwrap_err();
        assert_eq!(
            error,
            "unless_tagged: a is demanded too, so no VM could be meant"
        );
    }
}
