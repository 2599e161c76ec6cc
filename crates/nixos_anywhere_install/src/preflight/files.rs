//! Files and programs on the controller.

use crate::commands::tools::{self, Tools};
use crate::files::stage;
use crate::options::Options;
use crate::values::path::absolute;
use ansible_module::FailureKind;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

use super::Found;

/// The files of the controller that an installation reads and writes.
pub(super) fn files(options: &Options, found: &mut Found) {
    if let Some(directory) = &options.extra_files_dir {
        match fs::metadata(directory) {
            Err(error) => found.file(
                "extra_files_dir",
                format!("{} {}", named(directory), reason(&error)),
            ),
            Ok(meta) if !meta.is_dir() => {
                let problem = format!("{} is not a directory", named(directory));
                found.file("extra_files_dir", problem);
            }
            Ok(_) => tree(directory, found),
        }
    }
    for extra in &options.extra_files {
        if let Some(problem) = extra.src.as_deref().and_then(file) {
            found.file("extra_files", format!("{}: src: {problem}", extra.path));
        }
        if let Some(directory) = &options.extra_files_dir
            && let Some(problem) =
                stage::below(&extra.path).and_then(|path| obstacle(directory, &path))
        {
            found.file("extra_files", format!("{}: {problem}", extra.path));
        }
    }
    let mut remotes = BTreeSet::new();
    for key in &options.disk_encryption_keys {
        let option = "disk_encryption_keys";
        // nixos-anywhere writes it into a shell command as it is.
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._+-@:,".contains(c);
        if stage::below(&key.remote).is_none() || !key.remote.chars().all(plain) {
            let problem = format!(
                "remote must be an absolute path of letters, digits and /._+-@:, only (got {:?})",
                key.remote
            );
            found.push(option, problem);
        }
        if !remotes.insert(stage::below(&key.remote)) {
            found.push(option, format!("remote: {} is given twice", key.remote));
        }
        // A pipe has what it has only once.
        let pipe = fs::metadata(&key.local).is_ok_and(|meta| meta.file_type().is_fifo());
        if let Some(problem) = file(&key.local).filter(|_| !pipe) {
            found.file(option, format!("local: {problem}"));
        } else if fs::metadata(&key.local).is_ok_and(|meta| meta.is_file() && meta.len() == 0) {
            found.file(option, format!("local: {} is empty", named(&key.local)));
        }
    }
    if let Some(kexec) = &options.kexec
        && !kexec.contains("://")
        && let Some(problem) = file(Path::new(kexec))
    {
        found.file("kexec", problem);
    }
    if let Some(hardware) = &options.generate_hardware_config
        && hardware.path.is_dir()
    {
        let problem = format!("path: {} is a directory", named(&hardware.path));
        found.file("generate_hardware_config", problem);
    }
    if let Some(path) = &options.log_path {
        let path = absolute(path);
        let parent = path.parent().unwrap_or(Path::new("/"));
        if path.is_dir() {
            found.file("log_path", format!("{} is a directory", path.display()));
        } else if !parent.is_dir() {
            let problem = format!("{} is not a directory", parent.display());
            found.file("log_path", problem);
        }
    }
}

/// The programs that an installation runs on the controller.
pub(super) fn programs(options: &Options, found: &mut Found) {
    let directories = tools::directories(options.tools_path.as_deref());
    for missing in Tools::missing(options, &directories) {
        let mut problem = missing.msg;
        if let Some(detail) = missing.detail {
            problem += &format!(" ({detail})");
        }
        if let Some(hint) = missing.hint {
            problem += &format!("; {hint}");
        }
        let option = missing.object.unwrap_or_default();
        found.add(&option, problem, FailureKind::ToolMissing, true);
    }
    // What is built already is copied and installed by older ones too.
    if options.store_paths.is_none()
        && let Ok(nix) = tools::find(Path::new("nix"), &directories)
        && let Some(version) = tools::nix_version(&nix)
        && version < tools::OLDEST_NIX
    {
        let ((major, minor), (oldest_major, oldest_minor)) = (version, tools::OLDEST_NIX);
        let problem = format!(
            "{} is nix {major}.{minor}, but {oldest_major}.{oldest_minor} or newer is needed",
            nix.display()
        );
        found.add("tools_path", problem, FailureKind::ToolMissing, true);
    }
}

/// What is wrong with a local file that is to be read.
pub(super) fn file(path: &Path) -> Option<String> {
    let problem = match fs::metadata(path) {
        Err(error) => reason(&error),
        Ok(meta) if meta.is_dir() => "is a directory, not a file".into(),
        Ok(meta) if !meta.is_file() => "is not a regular file".into(),
        Ok(_) => reason(&File::open(path).err()?),
    };
    Some(format!("{} {problem}", named(path)))
}

pub(super) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "does not exist".into(),
        _ => format!("cannot be read: {error}"),
    }
}

/// A path as it was given, and where that is if it was relative.
pub(super) fn named(path: &Path) -> String {
    match path.is_absolute() {
        true => path.display().to_string(),
        false => format!("{} ({})", path.display(), absolute(path).display()),
    }
}

/// What in `directory` cannot be copied.
pub(super) fn tree(directory: &Path, found: &mut Found) {
    let option = "extra_files_dir";
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            return found.file(option, format!("{} {}", named(directory), reason(&error)));
        }
    };
    for entry in entries {
        let (path, meta) = match entry.and_then(|entry| Ok((entry.path(), entry.metadata()?))) {
            Ok(entry) => entry,
            Err(error) => {
                found.file(option, format!("{} {}", named(directory), reason(&error)));
                continue;
            }
        };
        if meta.is_dir() {
            tree(&path, found);
        } else if !meta.is_symlink()
            && let Some(problem) = file(&path)
        {
            found.file(option, problem);
        }
    }
}

/// What in `directory` keeps a single file from being put at `path`.
fn obstacle(directory: &Path, path: &Path) -> Option<String> {
    let parts: Vec<Component> = path.components().collect();
    for count in 1..=parts.len() {
        let part: PathBuf = parts[..count].iter().collect();
        let meta = fs::symlink_metadata(directory.join(&part)).ok()?;
        if count == parts.len() {
            return meta
                .is_dir()
                .then(|| "is a directory in extra_files_dir".to_owned());
        }
        if meta.is_symlink() {
            let target = fs::read_link(directory.join(&part)).unwrap_or_default();
            return Some(format!(
                "/{} is a symbolic link to {} in extra_files_dir; write the path that it leads to",
                part.display(),
                target.display()
            ));
        }
        if !meta.is_dir() {
            return Some(format!(
                "/{} is a file in extra_files_dir, not a directory",
                part.display()
            ));
        }
    }
    None
}
