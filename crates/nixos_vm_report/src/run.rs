//! One task from its options to its result.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ansible_module::{Diff, Outcome, Task};

use crate::error::Error;
use crate::options::Options;
use crate::report::Report;
use crate::{html, text};

/// Report.
///
/// # Errors
/// The file cannot be written.
pub fn run(options: &Options, task: &Task) -> Result<Outcome, Error> {
    let report = Report::of(&options.plans, options.fail_on);
    if let Some(path) = &options.path
        && !task.check_mode
    {
        let written = write(path, &content(path, &report));
        written.map_err(|error| Error {
            path: path.clone(),
            error,
        })?;
    }
    let msg = report.summary.clone();
    let outcome = match report.differs() {
        true => Outcome::changed(msg),
        false => Outcome::unchanged(msg),
    };
    Ok(outcome
        .diff(Diff::prepared(text::render(&report)))
        .with("counts", &report.counts)
        .with("conflicts", &report.conflicts)
        .with("capacity_warnings", &report.after.warnings)
        .with("failed_hosts", &report.failed_hosts))
}

/// What the file gets, by the end of its name.
fn content(path: &Path, report: &Report) -> String {
    let ends = |end: &str| {
        path.extension()
            .is_some_and(|found| found.eq_ignore_ascii_case(end))
    };
    if ends("json") {
        let json = serde_json::to_string_pretty(report);
        // Every key of its maps is a text.
        return json.unwrap_or_default() + "\n";
    }
    match ends("html") {
        true => html::render(report),
        false => text::render(report),
    }
}

/// Write the whole file, or leave what there was. What is not a plain file, such as a link or a device, is written to.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let before = std::fs::symlink_metadata(path).ok();
    if before.as_ref().is_some_and(|before| !before.is_file()) {
        return std::fs::write(path, text);
    }
    // That of the file which is replaced, or else as a shell's redirection makes it: the umask counts.
    let mode = before.as_ref().map(|before| before.permissions());
    let new = std::fs::Permissions::from_mode(0o666);
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .permissions(new)
        .tempfile_in(dir.unwrap_or(Path::new(".")))?;
    file.write_all(text.as_bytes())?;
    if let Some(mode) = mode {
        file.as_file().set_permissions(mode)?;
    }
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::text::tests::example;

    #[test]
    fn the_name_of_the_file_says_what_is_in_it() {
        let report = example();
        let json: Value = serde_json::from_str(&content(Path::new("a.JSON"), &report)).unwrap();
        assert_eq!(json["counts"]["create"], 1);
        assert_eq!(
            json["hosts"]["web2"]["changes"]["memory"],
            serde_json::json!([2048, 4096])
        );
        assert_eq!(json["nodes"][0]["given_after"], 66i64 << 30);
        assert!(content(Path::new("a.html"), &report).starts_with("<!doctype html>"));
        assert!(content(Path::new("plan"), &report).starts_with(&report.summary));
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plan.txt");
        write(&path, "old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        write(&path, "new").unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(write(&dir.path().join("no/plan.txt"), "x").is_err());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write(&link, "through").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "through");
        assert!(link.is_symlink());
        write(Path::new("/dev/null"), "nothing").unwrap();
    }
}
