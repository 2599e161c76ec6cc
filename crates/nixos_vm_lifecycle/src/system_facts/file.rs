//! The facts as a file of the user's flake.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::facts;
use crate::context::absolute;
use crate::error::LocalError;
use crate::options::{Settings, SystemFacts};

/// Where they are to be written; none if they are not.
pub fn path(settings: &Settings) -> Option<PathBuf> {
    let path = settings.system_facts_file.as_ref()?;
    let wanted = settings.system_facts == SystemFacts::File && !path.as_os_str().is_empty();
    wanted.then(|| absolute(path.clone()))
}

/// The content, which is the same for the same facts: it may be under version control.
fn content(settings: &Settings) -> String {
    let text = serde_json::to_string_pretty(&facts::of(settings)).unwrap_or_default();
    text + "\n"
}

/// Whether there is nothing to write.
pub fn is_current(settings: &Settings) -> bool {
    path(settings)
        .is_none_or(|path| fs::read_to_string(path).is_ok_and(|text| text == content(settings)))
}

/// Write the file if it is wanted and differs.
///
/// # Errors
/// Kind `file`.
pub fn write(settings: &Settings) -> Result<(), LocalError> {
    let Some(path) = path(settings).filter(|_| !is_current(settings)) else {
        return Ok(());
    };
    let failed = |error| LocalError::FactsFile {
        path: path.clone(),
        error,
    };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    fs::write(&path, content(settings)).map_err(failed)
}

/// The mistake of a file in a Git repository that does not know it: Nix would build the flake without it.
pub fn untracked(settings: &Settings) -> Option<String> {
    let path = path(settings)?;
    let by_path = settings
        .flake
        .as_deref()
        .is_some_and(|flake| flake.trim().starts_with("path:"));
    if by_path || !path.exists() {
        return None;
    }
    let (dir, name) = (path.parent()?, path.file_name()?);
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.arg("-C").arg(dir).args(arguments).arg("--").arg(name);
        git.stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        git.status().ok()?.code()
    };
    // 128: no repository.
    (git(&["ls-files", "--error-unmatch"]) == Some(1)).then(|| {
        format!(
            "nixos_vm_system_facts_file: Git does not know {path}, so Nix would build the flake without it; \
             run git -C {dir} add --intent-to-add {name}",
            path = path.display(),
            dir = quoted(dir),
            name = quoted(Path::new(name)),
        )
    })
}

fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    match text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use ansible_module::Failure;
    use serde_json::json;

    use super::*;

    fn settings(file: &Path, flake: &str) -> Settings {
        serde_json::from_value(json!({
            "api_host": ["pve1"], "api_user": "a@pve", "ip": "192.0.2.11/24", "flake": flake,
            "system_facts": "file", "system_facts_file": file,
        }))
        .unwrap()
    }

    #[test]
    fn the_file_is_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("facts/web1.json");
        let settings = settings(&file, "/infra#web1");
        assert!(!is_current(&settings));
        write(&settings).unwrap();
        assert!(is_current(&settings));
        let text = fs::read_to_string(&file).unwrap();
        assert!(
            text.contains("\"address\": \"192.0.2.11\"") && text.ends_with("}\n"),
            "{text}"
        );
        // The same facts again: whoever may no longer write is not asked to.
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        let failure = Failure::from(write(&settings).unwrap_err());
        assert!(
            failure
                .msg
                .starts_with("nixos_vm_system_facts_file: cannot write "),
            "{}",
            failure.msg
        );
    }

    #[test]
    fn a_file_that_git_does_not_know_is_a_mistake() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("facts/web 1.json");
        let in_git = settings(&file, "/infra#web1");
        write(&in_git).unwrap();
        assert_eq!(untracked(&in_git), None, "no repository");
        let git = |arguments: &[&str]| {
            let mut git = Command::new("git");
            git.arg("-C")
                .arg(dir.path())
                .args(arguments)
                .stdout(Stdio::null());
            assert!(git.status().unwrap().success());
        };
        git(&["init", "--quiet"]);
        let mistake = untracked(&in_git).unwrap();
        assert!(
            mistake.ends_with("/facts add --intent-to-add 'web 1.json'"),
            "{mistake}"
        );
        assert_eq!(untracked(&settings(&file, "path:/infra#web1")), None);
        git(&["add", "--intent-to-add", "facts/web 1.json"]);
        assert_eq!(untracked(&in_git), None);
    }
}
