//! The files that the new system gets.

use crate::files::stage;
use crate::options::{ExtraFile, Options};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::Found;

/// nixos-anywhere passes paths and owners through `pr -2t`, which cuts each at 35 characters
/// without a word, and begins a new page after 66 lines.
const CHOWN_LIMITS: (usize, usize) = (35, 66);

pub(super) fn extra_files(options: &Options, found: &mut Found) {
    let option = "extra_files";
    let mut paths: BTreeMap<PathBuf, &str> = BTreeMap::new();
    for file in &options.extra_files {
        for problem in extra_file(file) {
            found.push(option, format!("{}: {problem}", file.path));
        }
        if let Some(path) = stage::below(&file.path)
            && paths.insert(path, &file.path).is_some()
        {
            found.push(option, format!("{}: path is given twice", file.path));
        }
    }
    for (path, text) in &paths {
        for parent in path.ancestors().skip(1) {
            if paths.contains_key(parent) {
                let problem = format!(
                    "{text}: /{} is a file of extra_files, not a directory",
                    parent.display()
                );
                found.push(option, problem);
            }
        }
    }
    let owned: BTreeSet<&str> = options
        .extra_files
        .iter()
        .filter(|file| file.owner.is_some())
        .map(|file| file.path.as_str())
        .collect();
    if owned.len() > CHOWN_LIMITS.1 {
        let problem = format!(
            "must not set the owner of more than {} files (got {}), because nixos-anywhere mixes up more; \
             set owners in the NixOS configuration",
            CHOWN_LIMITS.1,
            owned.len()
        );
        found.push(option, problem);
    }
}

fn extra_file(file: &ExtraFile) -> Vec<String> {
    let mut problems = Vec::new();
    if stage::below(&file.path).is_none() {
        problems.push("path must be the absolute path of a file, without ..".to_owned());
    }
    match (&file.src, &file.content) {
        (Some(_), Some(_)) => problems.push("src and content are mutually exclusive".into()),
        (None, None) => problems.push("src or content is required".into()),
        _ => {}
    }
    if stage::mode(&file.mode).is_none() {
        problems.push(format!(
            "mode must be octal and in quotes, such as \"0600\" (got {:?}{})",
            file.mode,
            unquoted_mode(&file.mode).unwrap_or_default()
        ));
    }
    if let Some(owner) = &file.owner {
        if file.path.len() > CHOWN_LIMITS.0 || owner.len() > CHOWN_LIMITS.0 {
            problems.push(format!(
                "owner cannot be set, because nixos-anywhere cuts paths and owners at {} characters; \
                 set it in the NixOS configuration",
                CHOWN_LIMITS.0
            ));
        }
        if file.path.contains(char::is_whitespace) {
            problems.push(
                "owner cannot be set, because nixos-anywhere splits paths at blanks; \
                 set it in the NixOS configuration"
                    .into(),
            );
        }
        if !is_owner(owner) {
            problems.push(format!(
                "owner must be USER, USER:GROUP or UID:GID (got {owner:?})"
            ));
        }
    }
    problems
}

/// What to add of a mode that is the decimal number as which YAML reads an octal one.
fn unquoted_mode(text: &str) -> Option<String> {
    let value: u32 = text.parse().ok()?;
    // These are common modes themselves.
    let typed = ["400", "440", "444", "500"].contains(&text) || text.starts_with('0');
    (!typed && value & 0o400 != 0 && value <= 0o777)
        .then(|| format!(", as which YAML reads {value:04o} without quotes"))
}

/// Whether `chown` takes this.
fn is_owner(text: &str) -> bool {
    let name = |name: &str| {
        !name.starts_with('-')
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-$".contains(c))
    };
    match text.split_once(':') {
        Some((user, group)) => name(user) && name(group) && !(user.is_empty() && group.is_empty()),
        None => name(text) && !text.is_empty(),
    }
}
